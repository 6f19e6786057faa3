"""The 1,797 handwritten digits, 8 x 8, that scikit-learn ships: the demo, no download.

Command:  launch/demo, or python -m lfbm_jax.main --config=configs/digits.py
Not in the paper; every value is ours. After 2,000 steps (under 3 minutes on two busy cores) the MSE
on the 300 held-out images was 0.042; the default 1,500 leave a margin on slow machines.
"""

from lfbm_jax.runs import configuration
from lfbm_jax.runs.variants import Grid

GRID = Grid()


def get_config(variants=""):
    config = configuration.base()
    config.data.update(
        {
            "source": "embedded",
            "name": "digits",
            "image_size": 8,
            "channels": 1,
            "test_fraction": 1 / 6,
        }
    )
    config.model.update({"latent_dim": 8, "sigma": 0.2})
    config.prior.hidden_width = 128
    config.generator.layers = ((64, 2, 1, 0), (32, 4, 2, 1), (1, 4, 2, 1))
    config.optimizer.generator.learning_rate = 1e-3
    config.optimizer.prior.learning_rate = 2e-3
    config.inference.step_size = 0.15
    config.eval_inference.update({"num_steps": 200, "step_size": 0.15})
    config.train.update(
        {
            "num_steps": 1500,
            "num_epochs": 0,
            "steps_per_call": 20,
            "log_every": 100,
            "sample_every": 500,
            "checkpoint_every": 500,
        }
    )
    config.task.prior_fit.num_images = 0
    config.task.classify.num_epochs = 30
    config.tasks = ("generate", "reconstruct", "prior_fit", "classify", "interpolate")
    return configuration.finish(config, variants, GRID.variants())
