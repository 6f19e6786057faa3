"""Fashion-MNIST, 28 x 28, with the networks and settings of `configs/mnist.py`.

Command:   python -m lfbm_jax.main --config=configs/fashion_mnist.py --config.data.dir=FOLDER
           FOLDER holds the four IDX files; without it TFDS is asked for the data set.
Variants:  those of `configs/mnist.py`.
Not in the paper; every value is ours. Measured: configs/measured.md, "Priors on Fashion-MNIST".
"""

from lfbm_jax.runs import config_files


def get_config(variants=""):
    config = config_files.get_config(f"mnist:{variants}")
    config.data.name = "fashion_mnist"
    return config
