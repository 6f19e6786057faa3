"""Defines the paper's grid of priors and inference methods as variants of configs: `:lebm,smoke`.

| variant | prior | inference |
|---|---|---|
| none | flow | short-run chains (LFBM-MCMC) |
| `lfbm_vae` | flow | Gaussian encoder and inverse autoregressive flow |
| `lebm` | energy | short-run chains |
| `abp` | Gaussian | short-run chains |
| `vae` | Gaussian | Gaussian encoder |
| `realnvp`, `nice`, `spline` | another flow with the same steps and width | unchanged |
| `long_run` | unchanged | chains with five times as many steps |
| `persistent` | unchanged | chains that continue from where they stopped in the last epoch |
| `mala`, `hmc`, `nuts`, `mclmc` | unchanged | BlackJAX's chains: they adapt, then as many steps |
| `rae` | a mixture, fitted after training | encoder without noise; the objective is RAE's |
| `ae` | a mixture, fitted after training | the same, without regularisation |
| `two_stage_vae` | a second VAE, fitted after training | Gaussian encoder; sigma is learned |
| `abp_then_flow` | Gaussian; after training a flow, fitted to inferred z | short-run chains |
| `vae_then_flow` | Gaussian; after training a flow, fitted to inferred z | Gaussian encoder |
| `ebm_vae` | Gaussian | Gaussian encoder; the objective adds an energy of images and z |
| `meg` | Gaussian | none in training: an energy of images against the generator |
| `bigan` | Gaussian | encoder without noise, against a discriminator |
| `sri`, `sri_l5` | Gaussian; five layers | short-run chains with an optimised step size |
| `fce` | a flow tilted by a classifier of inferred z and its draws | unchanged |
| `learned_start` | unchanged | few steps from the draw of an encoder, which their ends teach |
| `damc` | unchanged | few steps from the draw of a diffusion model, which their ends teach |
| `authors_test_steps` | unchanged | unchanged; 20 times as many steps in evaluation |

Each variant changes only some settings of a config, so variants combine, in any order:
`lebm,long_run`, `lebm,inference=encoder`. `<section>=<module>`, such as `prior=gaussian`, installs
the default settings of that module.

`authors_test_steps` exists for the experiments with published test commands (SVHN, CIFAR-10,
CelebA). These commands pass 400, 800 and 400 steps, as the paper says, but the published testing
code runs 20 times as many: 8,000, 16,000 and 8,000. Which of the two gave Table 2's MSE is unknown.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import ml_collections

from lfbm_jax.errors import UserError
from lfbm_jax.inference import sampler
from lfbm_jax.layers import convolutions
from lfbm_jax.runs import build
from lfbm_jax.runs.configuration import Variant

LONG_RUN = 5  # ours
AUTHORS_TEST_FACTOR = 20  # factor by which the authors' testing code multiplies the steps
# Ratio of the energy's learning rate to the generator's if no rate is given (ours): as in LEBM.
ENERGY_RATE = 2e-5 / 1e-4
# From the LEBM authors' code, at 32 x 32. Its other settings are the energy prior's defaults.
LEBM = {
    "optimizer.generator.learning_rate": 1e-4,
    "optimizer.prior.learning_rate": 2e-5,
    "inference.num_steps": 20,
}
# Of a network that draws starts: Cui and Han's, and six times that of Yu et al. on MNIST, who take
# six steps in each iteration.
START_RATES = {"learned_start": 1e-4, "damc": 6e-4}
FLOWS = ("glow", "realnvp", "nice", "spline")
CHAIN = ("num_steps", "step_size", "noise")  # settings of every chain


@dataclasses.dataclass(frozen=True)
class Grid:
    """The facts about an experiment that the variants of the grid depend on.

    Attributes:
        encoder: layers of the inference network before its heads (Table 8); (): the generator's,
            mirrored.
        flow: steps and hidden width of the inverse autoregressive flow.
        amortised: dotted settings of `lfbm_vae`.
        lebm: dotted settings of `lebm`.
        authors_tested: whether the authors published a test command for the experiment.
    """

    encoder: tuple[tuple[int, int, int, int], ...] = ()
    flow: tuple[int, int] = (5, 200)
    amortised: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lebm: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    authors_tested: bool = False

    def variants(self) -> dict[str, Variant]:
        """Name -> function of (config, value), in the order that `configuration.finish` applies.

        Whole methods come first, then single parts, then changes to the chains of these.
        """
        methods = {
            "abp": lambda config, _: _set_prior(config, "gaussian"),
            "lebm": self._lebm,
            "lfbm_vae": self._lfbm_vae,
            "fce": _flow("fce"),
            "vae": self._vae,
            "rae": self._rae,
            "ae": self._autoencoder,
            "two_stage_vae": self._two_stage_vae,
            "abp_then_flow": _flow("fitted_glow"),
            "vae_then_flow": self._vae_then_flow,
            "ebm_vae": self._ebm_vae,
            "meg": _meg,
            "bigan": self._bigan,
        }
        parts = {
            "inference": self._infer_by,  # sets the encoder's layers for this experiment too
            **{section: _switch(section) for section in ("prior", "generator", "objective")},
            **{flow: _flow(flow) for flow in FLOWS if flow != "glow"},
        }
        chains = {
            "persistent": _persistent,
            "sri": _sri,
            "sri_l5": _sri_l5,
            "learned_start": lambda config, _: self._learn_start(config, "learned_start"),
            "damc": lambda config, _: self._learn_start(config, "damc"),
            **{kernel: _sampler(kernel) for kernel in sampler.ADAPTATIONS},
            **{section: _switch(section) for section in ("eval_inference", "masked_inference")},
            "long_run": _long_run,
        }
        if self.authors_tested:
            chains["authors_test_steps"] = _authors_test_steps
        return methods | parts | chains

    def encoder_layers(self, config: ml_collections.ConfigDict) -> tuple:
        """The layers of the inference network for the config's images."""
        return self.encoder or convolutions.symmetric(config.generator.layers)

    def _infer_by(self, config: ml_collections.ConfigDict, name: str) -> None:
        """Switches inference in training. A network is also used in evaluation, without noise."""
        settings = build.defaults("inference", name)
        if "layers" in settings:
            settings["layers"] = self.encoder_layers(config)
            if name == "iaf":
                settings["flow_steps"], settings["hidden_width"] = self.flow
            if "num_steps" in config.eval_inference:  # Networks cannot infer from partial images.
                config.masked_inference = config.eval_inference.to_dict()
            config.eval_inference = settings | {"noise": False}
        config.inference = settings

    def _lebm(self, config: ml_collections.ConfigDict, _: str) -> None:
        _set_prior(config, "energy")
        rate = ENERGY_RATE * config.optimizer.generator.learning_rate
        config.optimizer.prior.learning_rate = rate
        config.update_from_flattened_dict(self.lebm)

    def _lfbm_vae(self, config: ml_collections.ConfigDict, _: str) -> None:
        """Sets the flow encoder, and Table 10 if it has a column for the experiment."""
        self._amortise(config, "iaf")
        config.update_from_flattened_dict(self.amortised)

    def _amortise(self, config: ml_collections.ConfigDict, name: str) -> None:
        """Infers by a network that learns at the generator's rate.

        The rate is ours. Table 10 is for a flow prior and, on two data sets, for six updates of the
        encoder per update of the generator. The paper gives no rate for its other autoencoders.
        """
        self._infer_by(config, name)
        _learn_as_the_generator(config)

    def _learn_start(self, config: ml_collections.ConfigDict, name: str) -> None:
        """Lets a network draw the start of the chains.

        Training takes as many steps as the part's default says, evaluation as many as before. The
        network learns at the published rate, for any generator: it is taught by the ends of chains
        that start at its own draws, and if it learns fast, the two drive one another away. At 1e-3,
        on MNIST with a fully connected generator, an encoder does so within ten iterations.
        """
        _chain(config, name)
        settings = build.defaults("inference", name)
        settings["layers"] = self.encoder_layers(config)
        own = {"num_steps": settings["num_steps"]}
        for section, kept in (("inference", own), ("eval_inference", {})):
            chain = {key: config[section][key] for key in CHAIN if key in config[section]}
            config[section] = settings | chain | kept
        _learn_as_the_generator(config)
        config.optimizer.inference.learning_rate = START_RATES[name]

    def _vae(self, config: ml_collections.ConfigDict, _: str) -> None:
        _set_prior(config, "gaussian")
        self._amortise(config, "encoder")

    def _two_stage_vae(self, config: ml_collections.ConfigDict, _: str) -> None:
        self._vae(config, "")
        _set_prior(config, "second_stage")
        config.model.learned_sigma = True

    def _vae_then_flow(self, config: ml_collections.ConfigDict, _: str) -> None:
        _flow("fitted_glow")(config, "")
        self._amortise(config, "encoder")

    def _rae(self, config: ml_collections.ConfigDict, _: str) -> None:
        self._vae(config, "")
        _set_prior(config, "mixture")
        config.inference.noise = config.eval_inference.noise = False
        config.objective = build.defaults("objective", "rae")

    def _autoencoder(self, config: ml_collections.ConfigDict, _: str) -> None:
        self._rae(config, "")
        weights = {"regularizer_weight": 0.0, "latent_weight": 0.0}
        config.objective.update({"regularizer": "none"} | weights)

    def _ebm_vae(self, config: ml_collections.ConfigDict, _: str) -> None:
        """The published rates, decay and betas; the squared error counts once (sigma^2 = 1/2)."""
        self._vae(config, "")
        config.objective = build.defaults("objective", "ebm_vae")
        config.model.sigma = math.sqrt(0.5)
        rates = {"generator": 3e-4, "inference": 3e-4, "objective": 1e-4}
        _adam(config, rates, b1=0.0, b2=0.9, schedule="per_epoch", decay_per_epoch=0.998)

    def _bigan(self, config: ml_collections.ConfigDict, _: str) -> None:
        """The published rates and averaging."""
        self._vae(config, "")
        config.inference.noise = config.eval_inference.noise = False
        config.objective = build.defaults("objective", "bigan")
        config.train.ema_decay = 0.999
        rates = dict.fromkeys(("generator", "inference", "objective"), 1e-5)
        _adam(config, rates, b1=0.5, b2=0.999)


def table_10(
    sigma: float, generator: float, prior: float, inference: float, updates: int, batch_size: int
) -> dict[str, Any]:
    """The settings in a column of Table 10, by dotted name.

    Args:
        sigma: the observation noise.
        generator, prior, inference: learning rates.
        updates: updates of prior and inference model per update of the generator.
        batch_size: images per batch.
    """
    rates = {"generator": generator, "prior": prior, "inference": inference}
    return {
        "model.sigma": sigma,
        "train.batch_size": batch_size,
        "train.prior_inference_updates": updates,
        **{f"optimizer.{name}.learning_rate": rate for name, rate in rates.items()},
        **{f"optimizer.{name}.decay_per_epoch": 0.99 for name in rates},
    }


def _learn_as_the_generator(config: ml_collections.ConfigDict) -> None:
    """Gives the inference network the generator's learning rate."""
    for key in ("learning_rate", "decay_per_epoch"):
        config.optimizer.inference[key] = config.optimizer.generator[key]


def _meg(config: ml_collections.ConfigDict, _: str) -> None:
    """The published rates and betas. Evaluation infers z by the config's chain."""
    _set_prior(config, "gaussian")
    config.objective = build.defaults("objective", "meg")
    _adam(config, {"generator": 1e-4, "objective": 1e-4}, b1=0.5, b2=0.9)


def _adam(
    config: ml_collections.ConfigDict, rates: Mapping[str, float], **settings: float | str
) -> None:
    """Adam with a learning rate per group, constant unless the settings name a schedule."""
    for name, rate in rates.items():
        config.optimizer[name].update({"learning_rate": rate, "schedule": "constant"} | settings)


def _switch(section: str) -> Variant:
    def switch(config: ml_collections.ConfigDict, name: str) -> None:
        config[section] = build.defaults(section, name)

    return switch


def _set_prior(config: ml_collections.ConfigDict, name: str) -> None:
    config.prior = build.defaults("prior", name)


def _flow(name: str) -> Variant:
    """Switches to another flow, of the same size where the config's prior is a flow too."""

    def switch(config: ml_collections.ConfigDict, _: str) -> None:
        size = {}
        if config.prior.name in FLOWS:
            size = {key: config.prior[key] for key in ("num_steps", "hidden_width")}
        config.prior = build.defaults("prior", name) | size

    return switch


def _chain(config: ml_collections.ConfigDict, variant: str) -> ml_collections.ConfigDict:
    """The settings of the chain that a variant changes; raises UserError if there is no chain."""
    if "num_steps" not in config.inference:
        raise UserError(
            f"config variant {variant!r}: inference={config.inference.name} has no chain;"
            " leave one of the two out"
        )
    return config.inference


def _long_run(config: ml_collections.ConfigDict, _: str) -> None:
    _chain(config, "long_run").num_steps *= LONG_RUN


def _authors_test_steps(config: ml_collections.ConfigDict, _: str) -> None:
    chain = config.eval_inference
    if "num_steps" not in chain:
        raise UserError(
            f"config variant 'authors_test_steps': eval_inference={chain.name} has no chain;"
            " leave one of the two out"
        )
    chain.num_steps *= AUTHORS_TEST_FACTOR


def _persistent(config: ml_collections.ConfigDict, _: str) -> None:
    """Keeps chains between epochs, without flips, because a chain does not fit the mirror image."""
    chain = _chain(config, "persistent").to_dict()
    config.inference = build.defaults("inference", "persistent") | chain | {"name": "persistent"}
    config.data.horizontal_flip = False


def _check_langevin(config: ml_collections.ConfigDict, variant: str) -> None:
    """Raises UserError if another variant has replaced the chains that this one replaces."""
    if config.inference.name != "langevin":
        raise UserError(
            f"config variant {variant!r}: it replaces inference={config.inference.name};"
            " leave one of the two out"
        )


def _sampler(kernel: str) -> Variant:
    """Switches to chains that adapt, of as many steps and with the same first step size."""

    def switch(config: ml_collections.ConfigDict, _: str) -> None:
        _check_langevin(config, kernel)
        chain = {key: config.inference[key] for key in ("num_steps", "step_size")}
        config.inference = build.defaults("inference", "sampler") | {"kernel": kernel} | chain

    return switch


def _sri(config: ml_collections.ConfigDict, _: str) -> None:
    """Switches to noise-free chains, whose search for a step size starts at the config's."""
    _check_langevin(config, "sri")
    _set_prior(config, "layered")
    for section in ("inference", "eval_inference"):
        chain = {key: config[section][key] for key in ("num_steps", "step_size")}
        config[section] = build.defaults("inference", "sri") | chain


def _sri_l5(config: ml_collections.ConfigDict, _: str) -> None:
    """Switches to SRI with five layers, each with as many entries as z has otherwise."""
    _sri(config, "")
    config.prior.num_layers = 5
    config.model.latent_dim *= 5
