"""The task against the exact divergence of two Gaussians."""

import jax
import numpy as np
import pytest

from lfbm_jax.errors import UserError
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.inference.langevin import Inference
from lfbm_jax.model import Parameters
from lfbm_jax.reports.report import ReportWriter
from lfbm_jax.runs import configuration
from lfbm_jax.tasks import posterior_gap
from lfbm_jax.trained.api import TrainedModel
from tests.builders import small_config
from tests.linear_gaussian import chain_gaps, linear_model, log_evidence, posterior

SIGMA, D, STEP = 0.6, 2, 0.4
NUM_STEPS = (1, 40)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_figures_of_the_task_are_means_over_the_held_out_images(tmp_path):
    random = np.random.default_rng(0)
    beta = {"matrix": 0.6 * random.normal(size=(4, D)), "bias": random.normal(size=4)}
    train, test = random.integers(0, 256, (2, 5, 2, 2, 1), dtype=np.uint8)
    chain = Inference(D, num_steps=5, step_size=STEP)
    config = small_config()
    config.data.update({"image_size": 2, "channels": 1})
    config.model.latent_dim = D
    settings = {"num_images": 3, "num_steps": NUM_STEPS, "num_chains": 2000, "batch_size": 2}
    config.task.posterior_gap.update(settings | {"num_temperatures": 100, "num_annealed": 256})
    model = linear_model(D, (2, 2, 1), SIGMA, chain, Inference(D, num_steps=5, step_size=0.01))
    trained = TrainedModel(config, model, Parameters({}, beta, {}), 0)
    data = Cache(Split(train, None), Split(test, None), tmp_path)
    writer = ReportWriter(tmp_path, "posterior_gap", 0, config)
    figures = posterior_gap.run(trained, data, config, writer)

    x = test[[0, 1, 3]] / 127.5 - 1  # 3 of 5, spread.
    assert figures["num_images"] == 3
    log_p_x = np.mean([log_evidence(beta, SIGMA, one) for one in x])
    assert 0.5 < figures["annealing_acceptance"] <= 1
    share = figures["annealing_effective_share"]
    assert 0.7 < share <= 1
    # The weights' relative variance is 1 / share - 1: the error of 256 chains, of 3 images' mean.
    assert abs(figures["log_p_x"] - log_p_x) < 4 * np.sqrt((1 / share - 1) / 256 / 3)
    gaps = [chain_gaps(*posterior(beta, SIGMA, one), STEP, NUM_STEPS) for one in x]
    exact = np.mean(gaps, axis=0)
    assert exact[0] > 0.5 > 0.05 > exact[-1], "else there is nothing to tell apart"
    noise = 0.1  # Three standard deviations over seeds, largest at K = 1: chains and annealing.
    for k, gap in zip(NUM_STEPS, exact, strict=True):
        lower, upper = figures[f"gap_at_least_{k}"], figures[f"gap_at_most_{k}"]
        assert gap - 0.3 < lower <= gap + noise and gap - noise <= upper < gap + 0.3
        assert lower <= upper

    assert posterior_gap.monitor(trained, data, config) == {}
    config.task.posterior_gap.num_monitored = 3
    monitored = posterior_gap.monitor(trained, data, config)
    assert monitored == {name: figures[name] for name in figures if name.startswith("gap_at_")}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("inference.noise", False, "tasks: posterior_gap measures Langevin chains with noise"),
        ("task.posterior_gap.num_steps", (5, 5), r"num_steps=\(5, 5\): must ascend"),
        ("task.posterior_gap.num_steps", (0, 5), "must ascend from at least 1"),
        ("task.posterior_gap.num_steps", (), "must ascend from at least 1"),
        ("task.posterior_gap.num_monitored", -1, "num_monitored=-1: must be at least 0"),
        ("task.posterior_gap.num_chains", 1, "num_chains=1: must be at least 2"),
        ("task.posterior_gap.num_annealed", 0, "num_annealed=0: must be at least 1"),
        ("prior.name", "diffusion", "prior.name='diffusion' has another"),
    ],
)
def test_what_it_cannot_measure_is_said_before_training(key, value, said):
    config = small_config()
    config.tasks = ("posterior_gap",)
    configuration.check(config)
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=said):
        configuration.check(config)
