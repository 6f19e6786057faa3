"""Imports torchvision even if its compiled operators do not fit the installed PyTorch.

This happens if PyPI's torchvision, made for CUDA, is installed with a PyTorch for CPUs. Importing
it then fails for two operators that it describes without having them; no peer here calls either.
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
