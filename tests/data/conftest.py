"""Fixtures that prepare the folders and archives of images that these tests write."""

import pytest

import lfbm_jax.data
from lfbm_jax.errors import UserError
from tests.builders import small_config
from tests.data.image_files import SIZE


@pytest.fixture
def prepare(tmp_path):
    """`prepare(place, channels=3, ...)`: the cache of a folder or an archive."""

    def prepare(place, **settings):
        data = small_config().data
        data.update({"source": "image_folder", "name": "x", "dir": str(place), "image_size": SIZE})
        data.update({"channels": 3, "cache_dir": str(tmp_path / "cache")} | settings)
        return lfbm_jax.data.prepare(data)

    return prepare


@pytest.fixture
def refusal(prepare):
    """`refusal(place, ...)`: the one line that ends the preparation."""

    def refusal(place, **settings):
        with pytest.raises(UserError) as caught:
            prepare(place, **settings)
        (line,) = str(caught.value).splitlines()
        return line

    return refusal
