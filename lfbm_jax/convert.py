"""Exports the model of a work directory, or makes one from one of the authors' checkpoints.

    python -m lfbm_jax.convert RUN --export=FOLDER
    python -m lfbm_jax.convert CKPT.pth --config=FILE --workdir=RUN

See `lfbm_jax.runs.export` and `lfbm_jax.runs.conversion`.
"""

import pathlib

import ml_collections
from absl import flags

from lfbm_jax.errors import UserError
from lfbm_jax.runs import cli, conversion, export, given

_EXPORT = flags.DEFINE_string(
    "export", None, "new folder for the model of a work directory, as files to share"
)
flags.adopt_module_key_flags(given)


def main(config: ml_collections.ConfigDict | None, path: str) -> None:
    if _EXPORT.value:
        _export(pathlib.Path(path), pathlib.Path(_EXPORT.value))
    else:
        _convert(config, path)


def _export(run: pathlib.Path, folder: pathlib.Path) -> None:
    model = export.export(run, folder)
    print(f"done: step {model.step}; load it with lfbm_jax.load({str(folder)!r}); the model card is"
          f" {folder / 'README.md'}")


def _convert(config: ml_collections.ConfigDict, path: str) -> None:
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


def _config() -> ml_collections.ConfigDict | None:
    """The config of --config; None if a work directory, which has its own, is exported."""
    return None if _EXPORT.value else given.config()


if __name__ == "__main__":
    cli.run(main, _config, arguments=("CKPT.pth (or RUN, with --export)",))
