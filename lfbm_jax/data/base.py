"""The contract of a data source; every other module in this folder is one source."""

from typing import Protocol

import ml_collections

from lfbm_jax.images.cache import Cache


class Source(Protocol):
    """A module that reads images of one kind and hands them to `images.cache.fill`."""

    def prepare(self, data: ml_collections.ConfigDict) -> Cache:
        """Returns the memory-mapped images, preparing them if necessary.

        Args:
            data: the config's section `data`, locked.

        Returns:
            Images, uint8 [N, H, W, C], of the size that the section sets, and labels [N] if
            they are known. The cache is outside `data.dir`.

        Raises:
            UserError: files or settings cannot be used; one line names all of them.
        """
