"""Checkpoints in the authors' format with random weights, of several sizes."""

import numpy as np

# Their networks at other sizes, by config: d, flow steps, coupling width, layers (kernel, features)
SIZES = {
    "svhn": (6, 3, 5, ((4, 8), (4, 6), (4, 5), (4, 3))),
    "cifar10": (8, 1, 3, ((8, 7), (4, 6), (4, 5), (3, 3))),
    "celeba64": (4, 2, 7, ((4, 6), (4, 5), (4, 4), (4, 3), (4, 3))),
}


def made_up(d, num_steps, width, layers, seed=0):
    """A checkpoint in the authors' format with random weights."""
    random = np.random.default_rng(seed)

    def noise(*shape, scale=0.2):
        return (scale * random.normal(size=shape)).astype(np.float32)

    def actnorm(prefix, size):
        return {f"{prefix}actnorm.{name}": noise(1, size) for name in ("b", "bias", "logs")}

    flow = {}
    for i in range(num_steps):
        step = f"revnet2d_s.0.revnet2d_step_s.{i}."
        rotation = np.linalg.qr(random.normal(size=(d, d)))[0].astype(np.float32)
        flow |= actnorm(step, d) | {f"{step}invertible_1x1_conv.w": rotation + noise(d, d)}
        for name, inputs in (("fc_1", d // 2), ("fc_2", width)):
            flow |= {f"{step}f.{name}.w": noise(inputs, width, scale=1)}
            flow |= {f"{step}f.{name}.b": noise(1, width)} | actnorm(f"{step}f.{name}.", width)
        last = f"{step}f.fc_zeros."
        flow |= {f"{last}w": noise(width, d), f"{last}b": noise(1, d), f"{last}logs": noise(1, d)}
    generator, channels = {}, d
    for i, (kernel, features) in enumerate(layers):
        weight = noise(channels, features, kernel, kernel, scale=0.5)
        generator |= {f"gen.{3 * i}.weight": weight, f"gen.{3 * i}.bias": noise(features)}
        channels = features
    moments = {"state": {"0": {"step": np.array(5), "exp_avg": noise(1, d)}}}
    return {"epoch": 9, "netF": flow, "optF": moments, "netG": generator, "optG": {}}
