"""CIFAR-10 as JPEG files with a fully connected generator, which two cores train in minutes.

Command:   python -m lfbm_jax.main --config=configs/cifar10_dense.py --config.data.dir=FOLDER
           FOLDER holds <split>/<class>/*.jpg.
For comparisons of methods at equal budget. Not an experiment of the paper: the networks, chains
and rates are ours, the data are compressed, and the figures are marked CIFAR-10 (JPEG).
"""

from lfbm_jax.runs import configuration
from lfbm_jax.runs.variants import Grid

GRID = Grid()


def get_config(variants=""):
    config = configuration.base()
    config.data.update({"source": "image_folder", "name": "cifar10_jpeg", "image_size": 32})
    config.model.update({"latent_dim": 128, "sigma": 0.3})
    config.prior.hidden_width = 64
    config.generator.layers = ((512, 1, 1, 0), (512, 1, 1, 0), (3, 32, 1, 0))
    config.inference.update({"num_steps": 20, "step_size": 0.1})
    config.eval_inference.update({"num_steps": 200, "step_size": 0.1})
    config.optimizer.generator.update({"learning_rate": 1e-3, "decay_per_epoch": 0.95})
    config.optimizer.prior.update({"learning_rate": 2e-3, "decay_per_epoch": 0.95})
    config.train.update(
        {
            "num_epochs": 10,
            "steps_per_call": 20,
            "log_every": 100,
            "sample_every": 1000,
            "checkpoint_every": 1000,
        }
    )
    config.task.reconstruct.num_images = 1000
    config.tasks = ("generate", "reconstruct", "prior_fit", "classify")
    return configuration.finish(config, variants, GRID.variants())
