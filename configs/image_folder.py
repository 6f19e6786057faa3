"""Your own images: a folder or an archive of them, 64 x 64 unless another size is chosen.

Command:   python -m lfbm_jax.main --config=configs/image_folder.py --config.data.dir=FOLDER
           --config=configs/image_folder.py:size=128 for 128 x 128 (32, 64, 128, 256)
FOLDER holds <split>/<class>/*, <class>/* or the images themselves (JPEG, PNG, WebP); it may be a
.tar, .tar.xz or .zip. With --config.data.source=npz, --config.data.dir names an .npz file of
arrays; with --config.data.source=huggingface, a folder of Parquet or Arrow files, or without it
--config.data.name=OWNER/NAME a data set of the hub. The largest centred square of every image is
resized to the size. Images of other modes than RGB are converted with --config.data.convert=true,
transparent ones over data.background. Where there is no test (or val) split, a tenth is held out.
The networks follow CelebA's (Table 7); every value is ours.
"""

from lfbm_jax.errors import UserError
from lfbm_jax.runs import configuration
from lfbm_jax.runs.variants import Grid

GRID = Grid()


def get_config(variants=""):
    config = configuration.base()
    config.data.update(
        {"source": "image_folder", "name": "images", "crop": "center", "test_fraction": 0.1}
    )
    config.model.update({"latent_dim": 100, "sigma": 0.3})
    for section in ("generator", "prior"):
        config.optimizer[section].learning_rate = 3e-4
    config.task.reconstruct.num_images = 1000
    _size(config, "64")
    return configuration.finish(config, variants, {"size": _size} | GRID.variants())


def _size(config, size):
    """A generator that doubles 4 x 4 up to the size, halving the channels from 1024 down to 64."""
    if size not in ("32", "64", "128", "256"):
        raise UserError(f"config variant size={size}: use 32, 64, 128 or 256")
    config.data.image_size = int(size)
    doublings = int(size).bit_length() - 3
    hidden = [(max(64, 1024 >> i), 4, 2, 1) for i in range(1, doublings)]
    config.generator.layers = ((1024, 4, 1, 0), *hidden, (3, 4, 2, 1))
