"""Imports timm, also where the installed torchvision was built for another torch."""

import functools
import importlib
import types

import torch


@functools.cache
def import_timm() -> types.ModuleType:
    """Imports timm.

    timm imports torchvision, which fails without its operators if it was built for another torch.
    timm needs none of them, so declarations are enough.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        _declare_operators()
    return importlib.import_module("timm")


@functools.cache  # keeps the library, and with it the declarations
def _declare_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
