"""Masks of visible pixels, each a function of (seed, index of the image) alone.

A mask is 1 where a pixel is visible. In a config, a short text says which pixels are hidden:

    center_box            the centred square of Table 3, 5/8 of the side
    center_box:20         a centred square of side 20
    box:4,4,10,12         the box with this top, left, height and width
    random_box:12         a square of side 12, at a different place in every image
    salt_and_pepper:0.5   half of the pixels, other ones in every image
    png:FILE              the black pixels of a picture of the same size as the images
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import ml_collections
import numpy as np
from PIL import Image

from lfbm_jax.errors import UserError
from lfbm_jax.files import atomic, terminal

# Keeps these random numbers apart from those of an epoch's order, whose key is (seed, epoch).
STREAM = 1


@dataclasses.dataclass(frozen=True)
class Mask:
    """One kind of mask for images of one size.

    Attributes:
        draw: a function of a random generator that returns bool [H, W], True where hidden.
    """

    draw: Callable[[np.random.Generator], np.ndarray]

    def __call__(self, seed: int, index: np.ndarray) -> np.ndarray:
        """Returns the masks, uint8 [N, H, W, 1], of the images with these indices [N]."""
        index = terminal.bar(index, desc="masks", unit="image", delay=3, leave=False)
        hidden = [self.draw(np.random.default_rng((seed, i, STREAM))) for i in index]
        return (~np.stack(hidden)[..., None]).astype(np.uint8)


def parse(text: str, side: int, field: str) -> Mask:
    """Parses the text that describes a mask for images of `side` x `side` pixels.

    Raises:
        UserError: naming `field`, if the text is not a mask or hides no pixel or all pixels.
    """
    kind, _, value = text.partition(":")
    if kind not in _KINDS:
        raise UserError(f"{field}={text!r}: use one of {', '.join(_USAGE)}")
    try:
        mask = _KINDS[kind](value, side)
        hidden = mask.draw(np.random.default_rng(0)).mean()
    except ValueError as error:
        raise UserError(f"{field}={text!r}: {error}") from error
    if hidden in (0, 1):
        amount = "all pixels" if hidden else "no pixel"
        raise UserError(f"{field}={text!r}: hides {amount} of {side} x {side}; use another mask")
    return mask


def of_training_images(config: ml_collections.ConfigDict, index: np.ndarray) -> np.ndarray | None:
    """Masks, uint8 [N, H, W, 1], of the training images with these indices; None without a mask."""
    if not config.data.mask:
        return None
    return parse(config.data.mask, config.data.image_size, "data.mask")(config.seed, index)


def keep(masks: np.ndarray, path: Path) -> None:
    """Saves masks as an .npy file. If the file exists, checks that it holds the same masks.

    Raises:
        UserError: the file holds different masks, as a different version of NumPy might draw them.
    """
    if not path.exists():
        with atomic.replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, masks)
        return
    try:
        found = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise UserError(
            f"data.mask: {path} is damaged ({error}); move it away, then it is made again"
        ) from error
    if not np.array_equal(found, masks):
        raise UserError(f"data.mask: {path} holds other masks; choose another --workdir")


def _center_box(value: str, side: int) -> Mask:
    size = _whole_numbers(value, 1)[0] if value else round(side * 5 / 8)
    begin = (side - size) // 2
    return _fixed(_boxed(side, begin, begin, size, size))


def _box(value: str, side: int) -> Mask:
    return _fixed(_boxed(side, *_whole_numbers(value, 4)))


def _random_box(value: str, side: int) -> Mask:
    (size,) = _whole_numbers(value, 1)
    _boxed(side, 0, 0, size, size)  # Raises.

    def draw(random):
        top, left = random.integers(0, side - size, 2, endpoint=True)
        return _boxed(side, top, left, size, size)

    return Mask(draw)


def _salt_and_pepper(value: str, side: int) -> Mask:
    share = float(value)
    if not 0 < share < 1:
        raise ValueError("the share of hidden pixels must be between 0 and 1")
    count = round(share * side**2)

    def draw(random):
        return (random.permutation(side**2) < count).reshape(side, side)

    return Mask(draw)


def _png(value: str, side: int) -> Mask:
    try:
        with Image.open(value) as picture:
            if picture.size != (side, side):
                width, height = picture.size
                raise ValueError(f"is {width} x {height}, but the images are {side} x {side}")
            return _fixed(np.asarray(picture.convert("L")) < 128)
    except OSError as error:
        raise ValueError(f"cannot be read ({error})") from error


_KINDS: dict[str, Callable[[str, int], Mask]] = {
    "center_box": _center_box,
    "box": _box,
    "random_box": _random_box,
    "salt_and_pepper": _salt_and_pepper,
    "png": _png,
}
_USAGE = (
    "center_box:SIDE",
    "box:TOP,LEFT,HEIGHT,WIDTH",
    "random_box:SIDE",
    "salt_and_pepper:SHARE",
    "png:FILE",
)


def _fixed(hidden: np.ndarray) -> Mask:
    return Mask(lambda random: hidden)


def _boxed(side: int, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Returns bool [side, side], True inside the box."""
    if min(top, left) < 0 or min(height, width) < 1 or max(top + height, left + width) > side:
        raise ValueError(f"the box must be within {side} x {side} pixels")
    hidden = np.zeros((side, side), bool)
    hidden[top : top + height, left : left + width] = True
    return hidden


def _whole_numbers(value: str, count: int) -> list[int]:
    numbers = value.split(",")
    if len(numbers) != count or not all(number.strip().isdecimal() for number in numbers):
        wanted = "a whole number" if count == 1 else f"{count} whole numbers, as in 4,4,10,12,"
        raise ValueError(f"{wanted} must follow the colon")
    return [int(number) for number in numbers]
