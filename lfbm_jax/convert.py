"""Converts a checkpoint of the authors into a work directory.

    python -m lfbm_jax.convert CKPT.pth --config=FILE --workdir=RUN

See `lfbm_jax.runs.conversion`.
"""

import pathlib

import ml_collections
from absl import flags

from lfbm_jax.errors import UserError
from lfbm_jax.runs import cli, conversion, given

flags.adopt_module_key_flags(given)


def main(config: ml_collections.ConfigDict, path: str) -> None:
    if not given.WORKDIR.value:
        raise UserError("--workdir is missing: give a new folder, such as runs/authors_svhn")
    folder = pathlib.Path(given.WORKDIR.value)
    config = conversion.convert(path, config, folder)
    side = config.data.image_size
    print(
        f"latent dimension {config.model.latent_dim}, {config.prior.num_steps} flow steps of width"
        f" {config.prior.hidden_width}, {side} x {side} images from layers"
        f" {config.generator.layers}"
    )
    print(f"done; continue with\n  python -m lfbm_jax.main --mode=sample --workdir={folder}")


if __name__ == "__main__":
    cli.run(main, given.config, arguments=("CKPT.pth",))
