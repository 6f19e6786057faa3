"""Decodes images from bytes of JPEG, PNG, WebP and so on, and turns them upright."""

import collections
import io
import struct
import zlib

from PIL import ExifTags, Image, UnidentifiedImageError

from lfbm_jax.errors import Misfit

# What Pillow raises if bytes are not an image, or are a broken or truncated one.
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
# How to turn an image upright, by its EXIF orientation. Pillow's own `exif_transpose` also rewrites
# the other tags, and raises if one of them is damaged.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(content: bytes, where: str, done: collections.Counter[str]) -> Image.Image:
    """Decodes an image, upright; of an animation, its first frame.

    Args:
        content: the bytes of a whole image file.
        where: what to call the image in an error, such as its path.
        done: counts the images that have several frames.

    Raises:
        Misfit: the bytes are truncated or are not an image.
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
    except UNREADABLE as error:
        detail = "" if isinstance(error, UnidentifiedImageError) else str(error)
        raise Misfit(
            where, "truncated or not an image", detail, "replace or remove them"
        ) from error
    if getattr(image, "n_frames", 1) > 1:  # Some formats lack the attribute.
        done["of several frames, the first taken"] += 1
    return _upright(image)


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except UNREADABLE:  # The EXIF data is damaged, but the pixels were read.
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image
