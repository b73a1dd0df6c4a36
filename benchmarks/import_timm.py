"""timm, also where torchvision was built for another torch."""

import functools
import importlib

import torch


@functools.cache
def import_timm():
    """Imports timm -> its module.

    timm imports torchvision, which fails where it was built for another torch: its operators are
    missing then. timm needs none of them, so declarations are enough.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        _declare_operators()
    return importlib.import_module("timm")


@functools.cache  # which keeps the library, and with it the declarations
def _declare_operators():
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
