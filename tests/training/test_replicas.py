"""Models that compute their own loss train on two devices as on one.

Run as a program, this file prints the losses: devices have to be made before TensorFlow starts.
"""

import contextlib
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from support.processes import environment
from support.two_devices import make_two_devices

import vit_keras

TINY: dict[str, Any] = {
    "patch_size": 4,
    "width": 48,
    "depth": 1,
    "heads": 3,
    "mlp_width": 96,
    "image_size": (16, 24),
}
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(8, 16, 24, 3)).astype("float32")
NOISE = RANDOM.random((8, 24)).astype("float32")
HIDDEN = (NOISE.argsort(axis=1).argsort(axis=1) >= 6).astype("float32")  # 18 in each image
LABELS = np.eye(5, dtype="float32")[[0, 1, 2, 3, 4, 0, 1, 2]]
IMPORTANCE = np.linspace(0.5, 2, 8).astype("float32")


def mae():
    decoder = vit_keras.DecoderConfig(24, 1, 2, 48)
    return vit_keras.build_mae("vit_b16", decoder=decoder, **TINY)


def mim():
    return vit_keras.build_mim("vit_b16", **TINY)


def distilled():
    student, teacher = (vit_keras.build_vit("vit_b16", num_classes=5, **TINY) for _ in range(2))
    return vit_keras.Distiller(student, teacher, "soft")


MODELS = {  # name: (model, batch)
    "mae": (mae, {"images": IMAGES, "noise": NOISE}),
    "mim": (mim, {"images": IMAGES, "masked": HIDDEN}),
    "distilled": (distilled, (IMAGES, LABELS, IMPORTANCE)),
}


@pytest.mark.slow
def test_losses_on_two_devices_equal_those_on_one():
    ran = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, check=True, env=environment()
    )

    losses = json.loads(ran.stdout)

    for name in MODELS:
        one, two = losses[name]
        assert len(one) == 3
        assert one[-1] < one[0]
        np.testing.assert_allclose(two, one, rtol=1e-5)


def three_losses(build, batch, scope):
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    with scope:
        model = build()
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        loss = loss if isinstance(batch, tuple) else None
        model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=False)
    batches = tf.data.Dataset.from_tensor_slices(batch).batch(8, drop_remainder=True).repeat(3)
    return model.fit(batches, epochs=3, steps_per_epoch=1, shuffle=False, verbose=0)


def main():
    import tensorflow as tf

    make_two_devices()
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    losses = {
        name: [
            three_losses(build, batch, scope).history["loss"]
            for scope in (contextlib.nullcontext(), strategy.scope())
        ]
        for name, (build, batch) in MODELS.items()
    }
    print(json.dumps(losses))


if __name__ == "__main__":
    main()
