"""CelebAMask-HQ, 256 x 256 (Tables 12 and 13 and appendix G of the paper).

Command:   python -m lfbm_jax.main --config=configs/celebahq256.py --config.data.dir=FOLDER
           FOLDER: CelebA-HQ-img of the CelebAMask-HQ archive (30,000 JPEGs of 1024 x 1024).
Hardware:  a GPU or TPU; time not measured yet.
Paper:     FID 75.20 (LFBM-MCMC). Ours: not run yet.
"""

from lfbm_jax.runs import configuration
from lfbm_jax.runs.variants import Grid

# Appendix G: an encoder that mirrors the generator, and 5 flow steps of width 256; an energy of
# 1,131,001 parameters with GELU, as in the LEBM authors' code at 128 x 128. Learning rates:
# ours, the paper gives none.
GRID = Grid(
    flow=(5, 256),
    lebm={"prior.hidden_width": 1000, "prior.activation": "gelu"},
)


def get_config(variants=""):
    config = configuration.base()
    # As in the authors' runs: PyTorch's default on GPUs. A CPU computes the same as for "float32".
    config.precision = "tensorfloat32"
    config.data.update(
        {
            "source": "image_folder",
            "name": "celebahq256",
            "image_size": 256,
            "horizontal_flip": True,
        }
    )
    # The paper trains on all 30,000 images; reconstruction then has only those to report on.
    config.model.update({"latent_dim": 128, "sigma": 1.0})
    # Table 12. Its last row prints LReLU; the generator ends in tanh.
    config.generator.layers = (
        (2048, 4, 1, 0),
        (1024, 4, 2, 1),
        (512, 4, 2, 1),
        (256, 4, 2, 1),
        (256, 4, 2, 1),
        (128, 4, 2, 1),
        (3, 4, 2, 1),
    )
    config.prior.update({"num_steps": 10, "hidden_width": 128})
    config.inference.update({"num_steps": 60, "step_size": 0.1})
    # Testing steps, learning rates and batch: ours, the paper gives none.
    config.eval_inference.update({"num_steps": 400, "step_size": 0.1})
    for section in ("generator", "prior"):
        config.optimizer[section].update({"learning_rate": 3e-4, "decay_per_epoch": 0.998})
    config.train.update({"batch_size": 100, "num_epochs": 200})
    config.task.reconstruct.num_images = 1000
    return configuration.finish(config, variants, GRID.variants())
