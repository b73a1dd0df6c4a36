"""Tiny models and images for the tests."""

from typing import Any

import numpy as np
from PIL import Image

import vit_keras

TINY: dict[str, Any] = {"patch_size": 4, "width": 48, "depth": 2, "heads": 3, "mlp_width": 96}


def randomise(model, seed=0):
    """Gives every weight a random value: the zeros and ones of fresh ones hide errors."""
    random = np.random.default_rng(seed)
    model.set_weights(
        [
            np.asarray(weight) + 0.1 * random.standard_normal(weight.shape).astype("float32")
            for weight in model.get_weights()
        ]
    )
    return model


def tiny_model(**overrides):
    """A ViT of width 48 and depth 2 with random weights, for 16x24 RGB images and 5 classes."""
    options = {"image_size": (16, 24), "num_classes": 5, **TINY, **overrides}
    seed = options.pop("seed", 0)
    return randomise(vit_keras.build_vit("vit_b16", **options), seed)


def photograph(seed, colour, size=(40, 30)):
    """A noisy image of one colour, width x height pixels -> PIL image"""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 80, (size[1], size[0], 3))
    return Image.fromarray((noise + np.array(colour) * 0.6).clip(0, 255).astype("uint8"))


def write_tflite(model, path, preprocess="in-graph"):
    """Writes a float32 .tflite as `export` does, without verification."""
    # Imported here: tests of the library must not need TensorFlow.
    from export.options import Options
    from export.tflite import convert
    from export.tflite.finish import finish

    options = Options(preprocess=preprocess)
    convert.write_tflite(model, path, options)
    finish(model, path, options)
