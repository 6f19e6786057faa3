"""Short-run inference with an optimised step size (SRI): Nijkamp et al. (2020), "Learning
multi-layer latent variable model via variational optimization of short run MCMC".

z is inferred by K steps of gradient ascent on log p(x, z) from z0 ~ N(0, I), without noise. This is
an invertible map of z0 where the steps are small, so q_s(z|x) has the density

    log q_s(z_K|x) = log N(z0; 0, I) - sum_k log |det(I + s^2/2 H(z_k))|,    H the Hessian in z,

and the step size s is the one that maximises the variational bound E[log p(x, z_K) - log q_s].

The latent vector z [d] may have L layers (z_1, ..., z_L), of d / L entries each, of which the
generator sees z_1: z_L ~ N(0, I), z_l ~ N(m_l(z_{l+1}), diag(exp(2 r_l(z_{l+1})))), by a perceptron
for each layer.

The determinants cost d Hessian-vector products a step where the chain itself costs one gradient.
So s is not learned by a gradient, but by a local search on a few images every now and then: with
five layers of 100, the bound of one image costs as much as the chains of more than a thousand.
A search lets s shrink as far as the bound asks, because chains that overshoot ruin what learns from
them, and grow by one factor. Evaluation takes the s that was learned, whatever its settings say.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lfbm_jax.errors import UserError
from lfbm_jax.inference import LogJoint, Posterior, langevin
from lfbm_jax.keys import Purpose, key_for
from lfbm_jax.model import Example, Model, Parameters, occlude, to_unit_range
from lfbm_jax.priors.base import Base
from lfbm_jax.runs import parts

# Of a layer given the one above, in size: a chain diverges where s^2/2 exp(2 times it) exceeds 2.
MAX_LOG_DEVIATION = 1.0
FACTORS = (0.8, 1.0, 1.25)  # What the step size is multiplied with; the best is kept.
MAX_ROUNDS = 20  # Of one search: it may divide the step size by 87.


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Settings; those of the search and of the layers are ours.

    Attributes:
        latent_dim: d, of all layers together.
        num_layers: L.
        hidden_width: of the perceptrons between the layers.
        tune_every: training steps from one search to the next.
        tune_images: training images that a search looks at.
    """

    latent_dim: int
    num_layers: int = 1
    hidden_width: int = 128
    tune_every: int = 20
    tune_images: int = 8

    def __post_init__(self):
        counts = ("num_layers", "hidden_width", "tune_every", "tune_images")
        parts.check_at_least_one(self, "baseline", *counts)
        if self.latent_dim % self.num_layers:
            raise UserError(
                f"baseline.num_layers={self.num_layers}: must divide"
                f" model.latent_dim={self.latent_dim}"
            )

    def adapt(self, model: Model) -> Model:
        """The model with this inference and prior, and the generator seeing the first layer."""
        if not isinstance(model.inference, langevin.Inference) or model.inference.noise:
            raise UserError(
                "baseline.name='sri': needs inference=langevin with inference.noise=False;"
                " use the variant :sri"
            )
        layer_dim = self.latent_dim // self.num_layers
        generator = dataclasses.replace(model.generator, latent_dim=layer_dim)
        evaluation = model.eval_inference
        if isinstance(evaluation, langevin.Inference):
            evaluation = Inference(self, evaluation)
        return dataclasses.replace(
            model,
            prior=Layers(layer_dim, self.num_layers, self.hidden_width),
            generator=OfFirstLayer(generator),
            inference=Inference(self, model.inference),
            eval_inference=evaluation,
        )


@dataclasses.dataclass(frozen=True)
class Inference:
    """Noise-free short-run chains whose step size is a parameter, phi = {"log_step_size": []}.

    Attributes:
        settings: of the baseline.
        chain: how many steps, and the step size to begin with.
    """

    settings: Baseline
    chain: langevin.Inference

    takes_masks = True

    def init(self, key: jax.Array) -> dict:
        del key
        return {"log_step_size": jnp.log(jnp.asarray(self.chain.step_size, float))}

    def infer(
        self,
        phi: dict,
        key: jax.Array,
        example: Any,
        log_joint: LogJoint,
        start: jax.Array | None = None,
    ) -> Posterior:
        """The end of one example's chain, stopped, with log_q = 0: phi is not learned by gradients.

        Arguments as those of `langevin.Inference.infer`.
        """
        del example
        z0 = self._start(key) if start is None else start
        step_size = jnp.exp(phi["log_step_size"])

        def step(z, _):
            return _ascend(log_joint, step_size, z), None

        z, _ = jax.lax.scan(step, z0, None, length=self.chain.num_steps)
        info = {"norm_z": jnp.linalg.norm(z), "step_size": step_size}
        return jax.lax.stop_gradient(Posterior(z, jnp.zeros((), z.dtype), info))

    def bound(self, step_size: jax.Array, key: jax.Array, log_joint: LogJoint) -> jax.Array:
        """log p(x, z_K) - log q_s(z_K|x) of one chain, in nats, []."""
        z0 = self._start(key)

        def step(carry, _):
            z, log_det = carry
            # Reverse over reverse: the generator's convolutions have no forward derivative.
            hessian = jax.jacrev(jax.grad(lambda z: sum(log_joint(z))))(z)
            jacobian = jnp.eye(len(z), dtype=z.dtype) + 0.5 * step_size**2 * hessian
            log_det = log_det + jnp.linalg.slogdet(jacobian)[1]
            return (_ascend(log_joint, step_size, z), log_det), None

        first = (z0, jnp.zeros((), z0.dtype))
        (z, log_det), _ = jax.lax.scan(step, first, None, length=self.chain.num_steps)
        log_q = jnp.sum(jax.scipy.stats.norm.logpdf(z0)) - log_det
        return sum(log_joint(z)) - log_q

    def tuner(self, model: Model) -> Callable[[Parameters, Example], dict]:
        """A search: (parameters, some training examples) -> phi with a better step size.

        The bound of the present step size times each of FACTORS is averaged over the examples, each
        of which begins every chain at one start of its own. The search ends where the smallest of
        the step sizes is not the best.

        Raises (when called):
            FloatingPointError: no bound is finite, however small the step size.
        """

        @jax.jit
        def mean_bounds(parameters: Parameters, examples: Example) -> jax.Array:
            prepared = model.prepare(parameters)

            def one_example(example):
                x = occlude(to_unit_range(example.image), example.mask)
                log_joint = model.log_joint(prepared, x, example.mask)
                key = key_for(0, Purpose.EVALUATION, example.index)
                step_sizes = jnp.exp(parameters.phi["log_step_size"]) * jnp.array(FACTORS)
                return jax.lax.map(lambda step: self.bound(step, key, log_joint), step_sizes)

            # One after another: a Hessian is as much work at once as a batch of d images.
            return jnp.mean(jax.lax.map(one_example, examples), axis=0)

        def tune(parameters: Parameters, examples: Example) -> dict:
            for _ in range(MAX_ROUNDS):
                bounds = np.asarray(mean_bounds(parameters, examples))
                # A step size at which the chains diverge is one that has no bound.
                best = np.argmax(np.where(np.isfinite(bounds), bounds, -np.inf))
                log_step_size = parameters.phi["log_step_size"] + math.log(FACTORS[best])
                parameters = parameters._replace(phi={"log_step_size": log_step_size})
                if best:
                    return parameters.phi
            if not np.isfinite(bounds).any():
                raise FloatingPointError(f"the bounds of all step sizes tried are {bounds}")
            return parameters.phi

        return tune

    @property
    def tune_every(self) -> int:
        """Training steps from one search to the next."""
        return self.settings.tune_every

    @property
    def tune_images(self) -> int:
        """Training images that a search looks at."""
        return self.settings.tune_images

    def _start(self, key: jax.Array) -> jax.Array:
        return jax.random.normal(key, (self.settings.latent_dim,))


@dataclasses.dataclass(frozen=True)
class Layers(Base):
    """A prior of L layers; z [d] begins with the layer that the generator sees.

    Attributes:
        layer_dim: d / L.
        num_layers: L.
        hidden_width: of the perceptrons.
    """

    layer_dim: int
    num_layers: int
    hidden_width: int

    normalized = True

    def init(self, key: jax.Array) -> dict:
        """layer_l: parameters of the perceptron that gives z_l from z_{l+1}."""
        keys = jax.random.split(key, self.num_layers)
        above = jnp.zeros(self.layer_dim)
        return {f"layer_{i}": self._network().init(keys[i], above) for i in self._below_top()}

    def log_prob(self, prepared: dict, z: jax.Array) -> jax.Array:
        """log p(z_L) + sum_l log p(z_l|z_{l+1}) in nats; z [d]."""
        layers = z.reshape(self.num_layers, self.layer_dim)
        total = jnp.sum(jax.scipy.stats.norm.logpdf(layers[-1]))
        for i in self._below_top():
            mean, log_deviation = self._moments(prepared[f"layer_{i}"], layers[i])
            log_prob = jax.scipy.stats.norm.logpdf(layers[i - 1], mean, jnp.exp(log_deviation))
            total = total + jnp.sum(log_prob)
        return total

    def sample(self, prepared: dict, key: jax.Array) -> jax.Array:
        """One draw from the top layer down, [d]."""
        noise = jax.random.normal(key, (self.num_layers, self.layer_dim))
        layers = [noise[-1]]
        for i in reversed(self._below_top()):
            mean, log_deviation = self._moments(prepared[f"layer_{i}"], layers[0])
            layers.insert(0, mean + jnp.exp(log_deviation) * noise[i - 1])
        return jnp.concatenate(layers)

    def _below_top(self) -> range:
        """The numbers of the layers below the top one."""
        return range(1, self.num_layers)

    def _moments(self, parameters: dict, above: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, raw = jnp.split(self._network().apply(parameters, above), 2)
        # Bounded, so that a deviation cannot explode from layer to layer.
        return mean, MAX_LOG_DEVIATION * jnp.tanh(raw / MAX_LOG_DEVIATION)

    def _network(self) -> nn.Module:
        return nn.Sequential(
            [
                nn.Dense(self.hidden_width, param_dtype=float),
                nn.gelu,
                # From zero: at first all layers are independent standard normals.
                nn.Dense(
                    2 * self.layer_dim, param_dtype=float, kernel_init=nn.initializers.zeros
                ),
            ]
        )


@dataclasses.dataclass(frozen=True)
class OfFirstLayer:
    """A generator that looks at the first entries of z, as many as it was made for."""

    generator: Any

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.generator.image_shape

    def init(self, key: jax.Array) -> Any:
        return self.generator.init(key)

    def prepare(self, beta: Any) -> Any:
        return self.generator.prepare(beta)

    def apply(self, prepared: Any, z: jax.Array) -> jax.Array:
        return self.generator.apply(prepared, z[: self.generator.latent_dim])

    def flops(self) -> int:
        return self.generator.flops()


def _ascend(log_joint: LogJoint, step_size: jax.Array, z: jax.Array) -> jax.Array:
    return z + 0.5 * step_size**2 * jax.grad(lambda z: sum(log_joint(z)))(z)
