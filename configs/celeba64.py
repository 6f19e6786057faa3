"""CelebA, 64 x 64 (Tables 2, 7 and 9 of the paper).

Command:   python -m lfbm_jax.main --config=configs/celeba64.py; `:table11` for batch 256
Hardware:  a GPU; the paper's needed 20.7 minutes an epoch at batch 256 (Table 11). Ours: not
           measured yet.
Paper:     MSE 0.011, FID 33.64 (LFBM-MCMC). Ours: not run yet.
"""

from lfbm_jax import config as configuration
from lfbm_jax import paper


def get_config(variants=""):
    config = configuration.base()
    # The crop is of the authors' code: rows 45..172 and columns 25..152 of the aligned image.
    config.data.update(
        {"source": "tfds", "name": "celeb_a", "image_size": 64, "crop": "45,25,128,128"}
    )
    # sigma: Table 9 prints 1.0; the authors' code trains with 0.3, as here.
    config.model.update({"latent_dim": 100, "sigma": 0.3})
    # Table 7, n_g = 128.
    config.generator.layers = (
        (1024, 4, 1, 0),
        (512, 4, 2, 1),
        (256, 4, 2, 1),
        (128, 4, 2, 1),
        (3, 4, 2, 1),
    )
    # Coupling width 64: of the authors' code, the paper gives none.
    config.prior.update({"num_steps": 5, "hidden_width": 64})
    config.inference.update({"num_steps": 20, "step_size": 0.1})
    config.eval_inference.update({"num_steps": 400, "step_size": 0.1})
    for section in ("generator", "prior"):
        config.optimizer[section].update({"learning_rate": 3e-4, "decay_per_epoch": 0.998})
    config.train.update({"batch_size": 100, "num_epochs": 200})
    config.paper = paper.table_2("CelebA")
    return configuration.finish(config, variants, {"table11": _table11})


def _table11(config, _):
    """The setting of the paper's Table 11: batch 256."""
    config.train.batch_size = 256
