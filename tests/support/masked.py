"""Tiny masked models and their inputs."""

import numpy as np
from support.tiny import TINY, randomise

from vit_keras import DecoderConfig, build_mae

DECODER = DecoderConfig(width=24, depth=1, heads=2, mlp_width=48)
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(2, 16, 24, 3)).astype("float32")
NOISE = RANDOM.random((2, 24)).astype("float32")
HIDDEN = (NOISE.argsort(axis=1).argsort(axis=1) >= 6).astype("float32")  # all but a quarter


def masked_model(build, options=()):
    """A masked model for images of 4x6 patches, and its inputs"""
    more = {"decoder": DECODER} if build is build_mae else {}
    model = randomise(build("vit_b16", image_size=(16, 24), **TINY, **dict(options), **more))
    last = {"noise": NOISE} if build is build_mae else {"masked": HIDDEN}
    return model, {"images": IMAGES, **last}
