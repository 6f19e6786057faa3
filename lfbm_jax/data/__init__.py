"""The data sources. Each module in this folder except `base` is one; no list names them."""

import importlib
import pkgutil
from typing import Any

from lfbm_jax.data import base
from lfbm_jax.errors import UserError, did_you_mean
from lfbm_jax.images import masks, selection
from lfbm_jax.images.cache import Cache, Split
from lfbm_jax.images.resize import Fit

__all__ = ["Cache", "Split", "prepare", "sources"]


def prepare(data: Any) -> Cache:
    """Returns the memory-mapped images of a config's `data` section, preparing them if necessary.

    The section chooses the splits (see `selection.select`).

    Raises:
        UserError: a value is invalid, the source cannot be read, or the cache cannot be
            written.
    """
    Fit.of(data)  # Raises.
    if data.mask:
        masks.parse(data.mask, data.image_size, "data.mask")  # Raises.
    selection.check(data)
    if not 0 <= data.test_fraction < 1:
        raise UserError(f"data.test_fraction={data.test_fraction}: use a share from 0 to below 1")
    if data.source not in sources():
        raise UserError(f"data.source={data.source!r}: {did_you_mean(data.source, sources())}")
    source: base.Source = importlib.import_module(f"{__name__}.{data.source}")
    return selection.select(source.prepare(data), data)


def sources() -> list[str]:
    """The names of the data sources: all modules of this folder except `base`."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - {"base"})
