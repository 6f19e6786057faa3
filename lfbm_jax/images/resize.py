"""Crops and resizes: any image of a source becomes one uint8 array of the configured size.

Resizing averages areas (Pillow's BOX filter) and only ever makes images smaller.
"""

import dataclasses
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from lfbm_jax.errors import UserError

# Pillow's names of the modes that hold 1 or 3 channels of 8 bits (or of one bit) as they are.
MODES = {1: ("L", "1"), 3: ("RGB",)}


class Window(NamedTuple):
    """A square of an image, in pixels, from the image's upper left corner."""

    top: int
    left: int
    size: int


@dataclasses.dataclass(frozen=True)
class Fit:
    """Makes images what a config's `data` section wants.

    size: height and width of the result, in pixels.
    channels: 1 (grey) or 3 (colour).
    crop: a fixed window; "center" for the largest centred square; "" where images are square.
    """

    size: int
    channels: int
    crop: Window | str

    @classmethod
    def of(cls, data: Any) -> Self:
        """Reads `image_size`, `channels` and `crop`; UserError where they make no sense."""
        if data.image_size < 1:
            raise UserError(f"data.image_size={data.image_size}: an image has at least one pixel")
        if data.channels not in MODES:
            raise UserError(f"data.channels={data.channels}: use 1 (grey) or 3 (colour)")
        crop = data.crop if data.crop in ("", "center") else _parse(data.crop)
        return cls(data.image_size, data.channels, crop)

    def __call__(self, image: Image.Image, where: str) -> np.ndarray:
        """Crops and resizes one image.

        Args:
            image: an image of any size.
            where: what to call it in an error, such as its path.

        Returns:
            uint8 [size, size, channels].

        Raises:
            UserError: the image is of another mode, is not square though nothing is cropped, or is
                smaller than what is cut out of it or made from it.
        """
        wanted = MODES[self.channels][0]
        if image.mode not in MODES[self.channels]:
            raise UserError(
                f"{where} has mode {image.mode}, but data.channels={self.channels} takes {wanted}:"
                f" convert it (in Pillow, image.convert({wanted!r})), change data.channels or leave"
                " it out"
            )
        top, left, side = self._window(*image.size, where)
        if side < self.size:
            raise UserError(
                f"{where} gives {side} x {side} pixels, fewer than data.image_size={self.size}, and"
                " images are only made smaller: lower data.image_size or leave it out"
            )
        if image.mode != wanted:
            image = image.convert(wanted)
        if image.size != (self.size, self.size):
            box = (left, top, left + side, top + side)
            image = image.resize((self.size, self.size), Image.Resampling.BOX, box)
        return np.asarray(image).reshape(self.size, self.size, self.channels)

    def _window(self, width: int, height: int, where: str) -> Window:
        if self.crop == "center":
            side = min(width, height)
            return Window((height - side) // 2, (width - side) // 2, side)
        if self.crop:
            top, left, side = self.crop
            if top + side > height or left + side > width:
                raise UserError(
                    f"{where} is {height} pixels high and {width} wide, so data.crop="
                    f"'{top},{left},{side},{side}' reaches beyond it: change the crop"
                )
            return self.crop
        if width != height:
            raise UserError(
                f"{where} is {height} pixels high and {width} wide, not square: crop it, for"
                " example with --config.data.crop=center"
            )
        return Window(0, 0, width)


def _parse(crop: str) -> Window:
    mend = UserError(
        f"data.crop={crop!r}: use '', 'center' or 'top,left,height,width' in pixels, height and"
        " width equal, such as '45,25,128,128'"
    )
    try:
        top, left, height, width = map(int, crop.split(","))
    except ValueError:
        raise mend from None
    if top < 0 or left < 0 or height < 1 or height != width:
        raise mend
    return Window(top, left, height)
