"""MNIST, 28 x 28.

Command:   python -m lfbm_jax.main --config=configs/mnist.py --config.data.dir=FOLDER
           FOLDER holds the four IDX files; without it TFDS is asked for the data set.
Variants:  dense, a fully connected generator, which two cores train quickly.
The paper uses MNIST for anomaly detection only and gives no networks: every value is ours.
"""

from lfbm_jax.runs import configuration
from lfbm_jax.runs.variants import Grid

GRID = Grid()


def get_config(variants=""):
    config = configuration.base()
    config.data.update({"source": "idx", "name": "mnist", "image_size": 28, "channels": 1})
    config.model.update({"latent_dim": 16, "sigma": 0.2})
    config.prior.hidden_width = 128
    config.generator.layers = ((128, 7, 1, 0), (64, 4, 2, 1), (1, 4, 2, 1))
    config.inference.update({"num_steps": 20, "step_size": 0.15})
    config.eval_inference.update({"num_steps": 200, "step_size": 0.15})
    config.optimizer.generator.update({"learning_rate": 1e-3, "decay_per_epoch": 0.95})
    config.optimizer.prior.update({"learning_rate": 2e-3, "decay_per_epoch": 0.95})
    config.train.update(
        {
            "num_epochs": 20,
            "steps_per_call": 5,
            "log_every": 50,
            "sample_every": 300,
            "checkpoint_every": 300,
        }
    )
    config.task.reconstruct.num_images = 1000
    config.tasks = ("generate", "reconstruct", "prior_fit", "classify")
    return configuration.finish(config, variants, {"dense": _dense} | GRID.variants())


def _dense(config, _):
    """Fully connected, as in `configs/mnist_anomaly.py`."""
    config.generator.layers = ((512, 1, 1, 0), (512, 1, 1, 0), (1, 28, 1, 0))
