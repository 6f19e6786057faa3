"""Imports torchvision also where its compiled operators do not fit the PyTorch that is installed.

That is so where PyPI's torchvision, made for CUDA, stands beside a PyTorch for CPUs. Importing it
then fails for two operators that it describes without having them; no peer here calls either.
"""

import torch

try:
    import torchvision
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
