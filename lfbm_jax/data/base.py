"""The contract of a data source; every other module of this folder is one source."""

from typing import Protocol

import ml_collections

from lfbm_jax.images.cache import Cache


class Source(Protocol):
    """A module that reads images wherever they are and hands them to `images.cache.fill`."""

    def prepare(self, data: ml_collections.ConfigDict) -> Cache:
        """The memory-mapped images, prepared now if they were not yet.

        Args:
            data: the config's section `data`, locked.

        Returns:
            Images [N, H, W, C] uint8 of the size that the section asks for and, where they are
            known, labels [N]; the cache lies outside `data.dir`.

        Raises:
            UserError: a file or a setting is not as needed; one line that names all of them.
        """
