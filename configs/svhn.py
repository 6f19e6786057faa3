"""SVHN, 32 x 32 (Tables 2, 7 and 9 of the paper).

Command:   python -m lfbm_jax.main --config=configs/svhn.py
           --config=configs/svhn.py:torchvision --config.data.dir=FOLDER reads train_32x32.mat
           and test_32x32.mat instead of asking TFDS for the same images; :huggingface fetches a
           copy of them from the hub.
Hardware:  a GPU; time not measured yet.
Paper:     MSE 0.005, FID 23.64 (LFBM-MCMC). Ours: not run yet.
Evaluation infers by 400 steps, as the paper says; `:authors_test_steps` by the 8,000 that the
authors' published testing code would run. Which of the two gave Table 2's MSE is unknown.
"""

from lfbm_jax.runs import configuration
from lfbm_jax.runs.variants import LEBM, Grid, table_10

# Table 8, n_i = 10 (its paddings are ours), Table 10, and the LEBM authors' code.
GRID = Grid(
    encoder=((10, 3, 1, 1), (20, 4, 2, 1), (40, 4, 2, 1), (80, 4, 2, 1)),
    flow=(20, 200),
    amortised=table_10(0.5, 8e-3, 6e-4, 4e-4, updates=1, batch_size=100),
    lebm=LEBM,
    authors_tested=True,
)


def get_config(variants=""):
    config = configuration.base()
    # As in the authors' runs: PyTorch's default on GPUs. A CPU computes the same as for "float32".
    config.precision = "tensorfloat32"
    config.data.update({"source": "tfds", "name": "svhn_cropped", "image_size": 32})
    # sigma: Table 9 prints 1.0; the authors' code trains with 0.3, as here.
    config.model.update({"latent_dim": 100, "sigma": 0.3})
    # Table 7, n_g = 64.
    config.generator.layers = ((512, 4, 1, 0), (256, 4, 2, 1), (128, 4, 2, 1), (3, 4, 2, 1))
    # Coupling width 64 is from the authors' code; the paper gives none.
    config.prior.update({"num_steps": 5, "hidden_width": 64})
    config.inference.update({"num_steps": 20, "step_size": 0.1})
    config.eval_inference.update({"num_steps": 400, "step_size": 0.1})
    for section in ("generator", "prior"):
        config.optimizer[section].update({"learning_rate": 4e-4, "decay_per_epoch": 0.998})
    config.train.update({"batch_size": 100, "num_epochs": 200})
    own = {"torchvision": _torchvision, "huggingface": _huggingface}
    return configuration.finish(config, variants, own | GRID.variants())


def _torchvision(config, _):
    """The original files, as torchvision downloads them."""
    config.data.source = "svhn_mat"


def _huggingface(config, _):
    """A copy on the hub by others, so its figures are not shown beside the paper's."""
    config.data.update({"source": "huggingface", "name": "ufldl-stanford/svhn/cropped_digits"})
