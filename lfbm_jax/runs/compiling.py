"""Says on the progress bar that the update is being compiled, and how long that took last time."""

import contextlib
import hashlib
import json
import pathlib
import time
from collections.abc import Iterator

import jax
import ml_collections
from tqdm import tqdm

from lfbm_jax.files import atomic
from lfbm_jax.images.cache import default_root

FILE = "compile_seconds.json"  # in the user's cache folder
KEPT = 200  # entries of the file


@contextlib.contextmanager
def announced(bar: tqdm, config: ml_collections.ConfigDict) -> Iterator[None]:
    """Shows the block on the bar, and remembers its time for this config and kind of device."""
    usual, path, key = bar.desc, default_root() / FILE, _key(config)
    last = _read(path).get(key)
    bar.set_description("compiling" if last is None else f"compiling ({last:.0f} s last time)")
    begin = time.monotonic()
    yield
    seconds = {**_read(path), key: round(time.monotonic() - begin, 1)}
    with contextlib.suppress(OSError):  # Training needs no cache folder that can be written to.
        atomic.write_text(path, json.dumps(dict(list(seconds.items())[-KEPT:])))
    bar.set_description(usual.removesuffix(": "))


def _key(config: ml_collections.ConfigDict) -> str:
    settings = json.dumps([config.to_dict(), jax.devices()[0].device_kind], default=str)
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def _read(path: pathlib.Path) -> dict[str, float]:
    """The times by key; {} where the file is missing or cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
