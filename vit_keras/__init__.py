"""Vision Transformers for Keras 3: normalised images -> logits."""

from vit_keras.config import VARIANTS, ViTConfig
from vit_keras.errors import InputError
from vit_keras.layers import (
    LayerNorm,
    MultiHeadSelfAttention,
    PatchEncoder,
    Patches,
    Pool,
    TransformerBlock,
)
from vit_keras.model import ViT, build_vit, get_config, load_model
from vit_keras.preprocessing import Preprocessing

__version__ = "0.1.0"

__all__ = [
    "VARIANTS",
    "InputError",
    "LayerNorm",
    "MultiHeadSelfAttention",
    "PatchEncoder",
    "Patches",
    "Pool",
    "Preprocessing",
    "TransformerBlock",
    "ViT",
    "ViTConfig",
    "build_vit",
    "get_config",
    "load_model",
]
