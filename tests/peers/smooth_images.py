"""Pictures for the peers to look at."""

import numpy as np
from PIL import Image


def smooth_images(seed, count, side, channels):
    """Smooth random images [N, side, side, C] uint8, so that some are more alike than others."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)
    return np.stack([
        np.asarray(
            Image.fromarray(image.squeeze()).resize((side, side), Image.Resampling.BICUBIC)
        ).reshape(side, side, channels)
        for image in coarse
    ])


def write(folder, images):
    """Writes images as 000.png, 001.png and so on, and returns the folder."""
    for i, image in enumerate(images):
        Image.fromarray(image.squeeze()).save(folder / f"{i:03d}.png")
    return folder
