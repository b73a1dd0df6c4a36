"""Vision Transformers for Keras 3: normalised images -> logits."""

from vit_keras.config import BlockConfig, ViTConfig
from vit_keras.explain import (
    attention_maps,
    attention_rollout,
    patch_filters,
    position_similarity,
)
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.layers.attention import MultiHeadSelfAttention
from vit_keras.layers.block import TransformerBlock
from vit_keras.layers.embedding import PatchDropout, PatchEncoder, Patches
from vit_keras.layers.mlp import MLP
from vit_keras.layers.norm import LayerNorm
from vit_keras.layers.pooling import AttentionPool, Pool, SequencePool
from vit_keras.layers.stems import ConvolutionStem, ResNetStem
from vit_keras.model import ViT, build_vit, get_config, load_model
from vit_keras.tasks.distillation import Distiller, Teacher
from vit_keras.tasks.masked import (
    DecoderConfig,
    MaskedAutoencoder,
    MaskedImageModel,
    build_mae,
    build_mim,
    mae_loss,
    mim_loss,
)
from vit_keras.utils.errors import InputError
from vit_keras.variants import VARIANTS
from vit_keras.weights import PUBLISHED, LoadReport, from_weights, load_weights, save_weights

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "PUBLISHED",
    "VARIANTS",
    "AttentionPool",
    "BlockConfig",
    "ConvolutionStem",
    "DecoderConfig",
    "Distiller",
    "InputError",
    "LayerNorm",
    "LoadReport",
    "MaskedAutoencoder",
    "MaskedImageModel",
    "MultiHeadSelfAttention",
    "PatchDropout",
    "PatchEncoder",
    "Patches",
    "Pool",
    "Preprocessing",
    "ResNetStem",
    "SequencePool",
    "Teacher",
    "TransformerBlock",
    "ViT",
    "ViTConfig",
    "attention_maps",
    "attention_rollout",
    "build_mae",
    "build_mim",
    "build_vit",
    "from_weights",
    "get_config",
    "load_model",
    "load_weights",
    "mae_loss",
    "mim_loss",
    "patch_filters",
    "position_similarity",
    "save_weights",
]
