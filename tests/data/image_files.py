"""Image files, and folders and archives of them."""

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image

SIZE = 8
ARCHIVES = ("zip", "tar", "tar.gz")


def pixels(seed, shape=(SIZE, SIZE, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def plain(count):
    return {f"plain{i}.png": encoded(pixels(i)) for i in range(count)}


def write(place, files):
    """Writes name -> content as the folder or archive that the suffix of `place` names."""
    kind = next((k for k in sorted(ARCHIVES, key=len)[::-1] if place.name.endswith(f".{k}")), "")
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif kind:
        with tarfile.open(place, f"w:{kind[4:]}") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    else:
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
    return place
