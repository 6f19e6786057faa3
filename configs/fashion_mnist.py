"""Fashion-MNIST, 28 x 28, in the setting of MNIST.

Command:   python -m lfbm_jax.main --config=configs/fashion_mnist.py --config.data.dir=FOLDER
           FOLDER holds the four IDX files; without it TFDS is asked for the data set.
Not in the paper; every value is ours.
"""

from configs.mnist import grey28
from lfbm_jax import config as configuration


def get_config(variants=""):
    return configuration.finish(grey28("fashion_mnist"), variants)
