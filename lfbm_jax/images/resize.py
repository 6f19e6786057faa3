"""Crops, converts and resizes the images of a source to uint8 arrays of the config's size.

The cropped image is resized by Pillow's bilinear filter, to smaller and larger sizes alike. When it
makes an image smaller, the filter averages over the pixels it merges (antialiasing), like
torchvision's `Resize` of a Pillow image in the authors' preprocessing of CelebA.
"""

import collections
import dataclasses
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image, ImageColor

from lfbm_jax.errors import Misfit, UserError

# Pillow's modes that hold 1 or 3 channels of 8 bits (or of one bit).
MODES = {1: ("L", "1"), 3: ("RGB",)}
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
# Modes that Pillow converts to RGBA without losing the picture.
CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class Window(NamedTuple):
    """A square of an image, in pixels from the upper left corner of the image."""

    top: int
    left: int
    size: int


@dataclasses.dataclass(frozen=True)
class Fit:
    """Converts images to the size and channels that a config's `data` section sets.

    Attributes:
        size: height and width of the result, in pixels.
        channels: 1 (grey) or 3 (colour).
        crop: a fixed window; "center" for the largest centred square; "" for square images.
        convert: whether images of other modes are converted; else they are refused.
        background: the colour put behind transparent pixels.
        done: counts the images that were enlarged or converted, by what was done.
    """

    size: int
    channels: int
    crop: Window | str
    convert: bool
    background: str
    done: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    @classmethod
    def of(cls, data: Any) -> Self:
        """Reads `image_size`, `channels`, `crop`, `convert` and `background`.

        Raises:
            UserError: one of them has an invalid value.
        """
        if data.image_size < 1:
            raise UserError(f"data.image_size={data.image_size}: an image has at least one pixel")
        if data.channels not in MODES:
            raise UserError(f"data.channels={data.channels}: use 1 (grey) or 3 (colour)")
        try:
            ImageColor.getrgb(data.background)
        except ValueError:
            raise UserError(f"data.background={data.background!r} is not a colour: use a name, such"
                            " as 'white', or '#rrggbb'") from None
        crop = data.crop if data.crop in ("", "center") else _parse(data.crop)
        return cls(data.image_size, data.channels, crop, data.convert, data.background)

    def __call__(self, image: Image.Image, where: str) -> np.ndarray:
        """Converts, crops and resizes one image.

        Args:
            image: an image of any size.
            where: the name of the image in an error, such as its path.

        Returns:
            uint8 [size, size, channels].

        Raises:
            Misfit: the image has another mode and `convert` is off or would lose the picture; it
                is not square and `crop` is ""; or it is smaller than the crop.
        """
        top, left, side = self._window(*image.size, where)
        image = self._converted(image, where)
        if image.size != (side, side):
            # Not `resize(box=...)`, which would mix in pixels from outside the window at its edges.
            image = image.crop((left, top, left + side, top + side))
        if side != self.size:
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        if side < self.size:
            self.done[f"enlarged from less than {self.size} x {self.size}"] += 1
        return np.asarray(image).reshape(self.size, self.size, self.channels)

    def notes(self) -> list[str]:
        """Says how many images were changed and how: "enlarged from less than 64 x 64: 2"."""
        return [f"{what}: {count}" for what, count in sorted(self.done.items())]

    def _converted(self, image: Image.Image, where: str) -> Image.Image:
        """The image in the mode of `channels`: "L" or "RGB"."""
        wanted = MODES[self.channels][0]
        transparent = image.has_transparency_data
        mode = image.mode
        if transparent and mode in ("1", "L", "RGB", *SIXTEEN_BITS):
            mode += " with a transparent colour"
        sixteen_bits = image.mode in SIXTEEN_BITS and not transparent
        if sixteen_bits and (self.channels == 1 or self.convert):
            levels = np.asarray(image).astype(np.uint32)
            image = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
            sixteen_bits = False
            self.done["scaled from 16 bits (65,535) to 8 (255)"] += 1
        if image.mode in MODES[self.channels] and not transparent:
            return image.convert(wanted)  # One bit to eight; else as it is.
        if image.mode not in CONVERTIBLE and not sixteen_bits:
            raise Misfit(where, f"of mode {mode}", "", f"scale from 65,535 to 255 or save as"
                         f" {wanted} with 8 bits per channel")
        if not self.convert:
            raise Misfit(
                where,
                f"of mode {mode}",
                "",
                f"data.channels={self.channels} takes {wanted}; --config.data.convert=true converts"
                f" (16 bits by scaling 65,535 to 255, transparency over data.background="
                f"{self.background!r}), or change data.channels or leave them out",
            )
        self.done[f"converted from mode {mode} to {wanted}"] += 1
        if transparent:
            over = Image.new("RGBA", image.size, self.background)
            image = Image.alpha_composite(over, image.convert("RGBA"))
        return image.convert(wanted)

    def _window(self, width: int, height: int, where: str) -> Window:
        if self.crop == "center":
            side = min(width, height)
            return Window((height - side) // 2, (width - side) // 2, side)
        shape = f"{height} pixels high and {width} wide"
        if isinstance(self.crop, Window):
            top, left, side = self.crop
            if top + side > height or left + side > width:
                raise Misfit(where, f"smaller than data.crop='{top},{left},{side},{side}' reaches",
                             shape, "change the crop or leave them out")
            return self.crop
        if width != height:
            raise Misfit(where, "not square", shape,
                         "crop them, for example with --config.data.crop=center")
        return Window(0, 0, width)


def _parse(crop: str) -> Window:
    wrong = UserError(
        f"data.crop={crop!r}: use '', 'center' or 'top,left,height,width' in pixels, height and"
        " width equal, such as '45,25,128,128'"
    )
    try:
        top, left, height, width = map(int, crop.split(","))
    except ValueError:
        raise wrong from None
    if top < 0 or left < 0 or height < 1 or height != width:
        raise wrong
    return Window(top, left, height)
