"""A state dict of the FID network with random numbers in it, as its weights file is laid out."""

import numpy as np

# (in, out, height, width) of every convolution, written down from the paper's architecture.
STEM = {
    "Conv2d_1a_3x3": (3, 32, 3, 3),
    "Conv2d_2a_3x3": (32, 32, 3, 3),
    "Conv2d_2b_3x3": (32, 64, 3, 3),
    "Conv2d_3b_1x1": (64, 80, 1, 1),
    "Conv2d_4a_3x3": (80, 192, 3, 3),
}


def _mixed_5(inputs, pooled):
    return {
        "branch1x1": (inputs, 64, 1, 1),
        "branch5x5_1": (inputs, 48, 1, 1),
        "branch5x5_2": (48, 64, 5, 5),
        "branch3x3dbl_1": (inputs, 64, 1, 1),
        "branch3x3dbl_2": (64, 96, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
        "branch_pool": (inputs, pooled, 1, 1),
    }


def _mixed_6(width):
    return {
        "branch1x1": (768, 192, 1, 1),
        "branch7x7_1": (768, width, 1, 1),
        "branch7x7_2": (width, width, 1, 7),
        "branch7x7_3": (width, 192, 7, 1),
        "branch7x7dbl_1": (768, width, 1, 1),
        "branch7x7dbl_2": (width, width, 7, 1),
        "branch7x7dbl_3": (width, width, 1, 7),
        "branch7x7dbl_4": (width, width, 7, 1),
        "branch7x7dbl_5": (width, 192, 1, 7),
        "branch_pool": (768, 192, 1, 1),
    }


def _mixed_7(inputs):
    return {
        "branch1x1": (inputs, 320, 1, 1),
        "branch3x3_1": (inputs, 384, 1, 1),
        "branch3x3_2a": (384, 384, 1, 3),
        "branch3x3_2b": (384, 384, 3, 1),
        "branch3x3dbl_1": (inputs, 448, 1, 1),
        "branch3x3dbl_2": (448, 384, 3, 3),
        "branch3x3dbl_3a": (384, 384, 1, 3),
        "branch3x3dbl_3b": (384, 384, 3, 1),
        "branch_pool": (inputs, 192, 1, 1),
    }


BLOCKS = {
    "Mixed_5b": _mixed_5(192, 32),
    "Mixed_5c": _mixed_5(256, 64),
    "Mixed_5d": _mixed_5(288, 64),
    "Mixed_6a": {
        "branch3x3": (288, 384, 3, 3),
        "branch3x3dbl_1": (288, 64, 1, 1),
        "branch3x3dbl_2": (64, 96, 3, 3),
        "branch3x3dbl_3": (96, 96, 3, 3),
    },
    "Mixed_6b": _mixed_6(128),
    "Mixed_6c": _mixed_6(160),
    "Mixed_6d": _mixed_6(160),
    "Mixed_6e": _mixed_6(192),
    "Mixed_7a": {
        "branch3x3_1": (768, 192, 1, 1),
        "branch3x3_2": (192, 320, 3, 3),
        "branch7x7x3_1": (768, 192, 1, 1),
        "branch7x7x3_2": (192, 192, 1, 7),
        "branch7x7x3_3": (192, 192, 7, 1),
        "branch7x7x3_4": (192, 192, 3, 3),
    },
    "Mixed_7b": _mixed_7(1280),
    "Mixed_7c": _mixed_7(2048),
}


def state_dict(seed=0):
    """float32 arrays by name; activations keep their scale from layer to layer."""
    random = np.random.default_rng(seed)
    shapes = STEM | {
        f"{block}.{name}": shape for block, convs in BLOCKS.items() for name, shape in convs.items()
    }
    state = {}
    for name, (inputs, outputs, height, width) in shapes.items():
        scale = np.sqrt(2 / (inputs * height * width))
        state |= {
            f"{name}.conv.weight": scale * random.normal(size=(outputs, inputs, height, width)),
            f"{name}.bn.weight": random.uniform(0.7, 1.3, outputs),
            f"{name}.bn.bias": 0.1 * random.normal(size=outputs),
            f"{name}.bn.running_mean": 0.1 * random.normal(size=outputs),
            f"{name}.bn.running_var": random.uniform(0.7, 1.3, outputs),
        }
    state |= {"fc.weight": random.normal(size=(1008, 2048)), "fc.bias": random.normal(size=1008)}
    return {name: array.astype(np.float32) for name, array in state.items()}
