"""The task against the posterior of a linear generator, and chains that cannot agree."""

import jax
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.inference.langevin import Inference
from lfbm_jax.model import Parameters
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.runs import configuration
from lfbm_jax.tasks import mixing
from lfbm_jax.trained.api import TrainedModel
from tests.builders import small_config
from tests.linear_gaussian import linear_model, log_evidence, posterior

SIGMA, D = 0.6, 2


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def measured(tmp_path, beta, test, **settings):
    """The figures of the task for the images `test`, and the paths of its pictures."""
    chain = Inference(D, num_steps=2, step_size=0.1)
    config = small_config()
    config.data.update({"image_size": 2, "channels": 1})
    config.model.latent_dim = D
    config.task.mixing.update({"num_images": 2, "batch_size": 2} | settings)
    model = linear_model(D, (2, 2, 1), SIGMA, chain, Inference(D, num_steps=200, step_size=0.3))
    trained = TrainedModel(config, model, Parameters({}, beta, {}), 0)
    data = Cache(Split(test, None), Split(test, None), tmp_path)
    writer = ReportWriter(tmp_path, "mixing", 0, config)
    return mixing.run(trained, data, config, writer), writer.pictures


def test_chains_of_every_kernel_agree_with_each_other_and_with_the_exact_posterior(tmp_path):
    random = np.random.default_rng(0)
    beta = {"matrix": 0.6 * random.normal(size=(4, D)), "bias": random.normal(size=4)}
    test = random.integers(0, 256, (2, 2, 2, 1), dtype=np.uint8)
    figures, pictures = measured(tmp_path, beta, test, num_warmup=100, num_draws=300)
    assert [path.name for path in pictures] == ["mixing_chains.png"]
    assert figures.pop("num_images") == 2

    def expected_log_joint(x):
        _, precision = posterior(beta, SIGMA, x)
        entropy = 0.5 * (D * np.log(2 * np.pi * np.e) - np.linalg.slogdet(precision)[1])
        return log_evidence(beta, SIGMA, x) - entropy

    exact = np.mean([expected_log_joint(one) for one in test / 127.5 - 1])
    for kernel in ("mala", "hmc", "nuts", "mclmc"):
        names = ("acceptance", "ess_share", "rhat", "log_joint")
        assert {f"{kernel}_{name}" for name in names} <= figures.keys()
        if kernel == "mclmc":
            assert 0 < figures["mclmc_energy_error"] < 1 and figures["mclmc_acceptance"] == 1
        else:
            assert 0 < figures[f"{kernel}_acceptance"] < 1
        share = figures[f"{kernel}_ess_share"]
        assert 0.02 < share < 3
        assert 0.99 < figures[f"{kernel}_rhat"] < 1.1
        # log p(x, z) is a constant minus half a chi-squared of D degrees: its variance is D / 2.
        noise = np.sqrt(D / 2 / (min(share, 1) * 4 * 300 * 2))
        assert abs(figures[f"{kernel}_log_joint"] - exact) < 4.5 * noise + 0.05
    assert figures["inference_log_joint"] < exact - 1, "two steps do not reach the posterior"


def test_two_distant_modes_are_found_out(tmp_path, monkeypatch):
    """Every chain stays in the mode where it starts, so R-hat must tell, by one entry alone."""
    test = np.zeros((1, 2, 2, 1), np.uint8)
    beta = {"matrix": np.zeros((4, D)), "bias": np.zeros(4)}

    def two_modes(self, prepared, z):
        modes = (np.array([sign * 6.0, 0.0]) for sign in (-1, 1))
        distances = [jax.numpy.sum((z - mode) ** 2) for mode in modes]
        return jax.nn.logsumexp(-50 * jax.numpy.stack(distances))

    monkeypatch.setattr("lfbm_jax.model.Model.log_p_z", two_modes)
    settings = {"num_images": 1, "num_chains": 8, "num_warmup": 100, "num_draws": 100}
    figures, _ = measured(tmp_path, beta, test, kernels=("hmc",), **settings)
    assert figures["hmc_rhat"] > 1.5
    assert figures["hmc_ess_share"] < 0.05


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("kernels", (), "kernels is empty"),
        ("kernels", ("mala", "nut"), "kernels has 'nut': did you mean 'nuts'"),
        ("num_images", 0, "num_images=0: must be at least 1"),
        ("num_chains", 1, "num_chains=1: must be at least 2"),
        ("num_draws", 3, "num_draws=3: must be at least 4"),
        ("num_warmup", 0, "task.mixing.num_warmup=0: must be at least 1"),
    ],
)
def test_what_it_cannot_measure_is_said_before_training(key, value, said):
    config = small_config()
    config.tasks = ("mixing",)
    configuration.check(config)
    config.task.mixing[key] = value
    with pytest.raises(UserError, match=said):
        configuration.check(config)


def test_a_prior_whose_gradient_is_not_its_slope_is_refused():
    config = small_config()
    config.tasks, config.prior.name = ("mixing",), "diffusion"
    with pytest.raises(UserError, match="tasks: mixing needs a prior whose gradient"):
        configuration.check(config)
