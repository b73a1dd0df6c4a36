"""Vision Transformers for Keras 3: normalised images -> logits."""

from vit_keras.config import ViTConfig
from vit_keras.embedding import PatchEncoder, Patches
from vit_keras.errors import InputError
from vit_keras.layers import MLP, LayerNorm, MultiHeadSelfAttention, TransformerBlock
from vit_keras.model import ViT, build_vit, get_config, load_model
from vit_keras.pooling import AttentionPool, Pool, SequencePool
from vit_keras.preprocessing import Preprocessing
from vit_keras.stems import ConvolutionStem, ResNetStem
from vit_keras.variants import VARIANTS

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "VARIANTS",
    "AttentionPool",
    "ConvolutionStem",
    "InputError",
    "LayerNorm",
    "MultiHeadSelfAttention",
    "PatchEncoder",
    "Patches",
    "Pool",
    "Preprocessing",
    "ResNetStem",
    "SequencePool",
    "TransformerBlock",
    "ViT",
    "ViTConfig",
    "build_vit",
    "get_config",
    "load_model",
]
