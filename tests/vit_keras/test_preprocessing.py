"""Images of any size become the same model input in eager mode, tf.data and a graph."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from support.tiny import photograph

from vit_keras import InputError, Preprocessing, load_model
from vit_keras.images.decoding import count_pixels, decode_image, exif_orientation


def encoded(image, suffix="png", **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def test_pixels_are_normalised_by_channel():
    spec = Preprocessing(2, mean=(0.5, 0.0, 0.25), std=(0.5, 1.0, 0.25))
    image = np.full((2, 2, 3), (255, 51, 0), "uint8")

    normalised = np.asarray(spec(image))

    assert normalised.dtype == "float32"
    np.testing.assert_allclose(normalised[1, 1], [1.0, 0.2, -1.0], atol=1e-6)


def test_crop_keeps_the_aspect_ratio_and_squash_does_not():
    image = np.zeros((4, 8, 1), "uint8")
    image[:, 2:6] = 200  # the middle square

    crop = Preprocessing(4, "crop", mean=(0.0,), std=(1.0,)).to_size(image)
    squash = Preprocessing(4, "squash", mean=(0.0,), std=(1.0,)).to_size(image)

    np.testing.assert_allclose(crop, np.full((4, 4, 1), 200.0), atol=1e-3)
    assert np.asarray(squash)[0, 0, 0] < 100 < np.asarray(squash)[0, 1, 0]


def test_crop_fraction_keeps_the_centre():
    image = np.zeros((8, 8, 1), "uint8")
    image[2:6, 2:6] = 100

    fitted = Preprocessing(4, crop=0.5, mean=(0.0,), std=(1.0,)).to_size(image)

    np.testing.assert_allclose(fitted, np.full((4, 4, 1), 100.0), atol=1e-4)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_equals_pillow(interpolation):
    image = photograph(0, (200, 100, 50), size=(90, 60))
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    expected = np.asarray(image.resize((40, 24), filters[interpolation]), "float32")

    fitted = Preprocessing((24, 40), "squash", interpolation=interpolation).to_size(
        np.asarray(image)
    )

    # Pillow rounds to whole numbers after each of its two passes.
    np.testing.assert_allclose(fitted, expected, atol=1.5)


def test_eager_graph_and_pipeline_agree():
    spec = Preprocessing((24, 16), crop=0.8)
    image = np.asarray(photograph(1, (10, 200, 30), size=(57, 43)))

    eager = np.asarray(spec(image))
    traced = tf.function(spec, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
    batch = tf.function(spec, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    dataset = tf.data.Dataset.from_tensors(image).map(spec)

    assert eager.shape == (24, 16, 3)
    np.testing.assert_allclose(traced(image), eager, atol=1e-5)
    np.testing.assert_allclose(batch(image[np.newaxis])[0], eager, atol=1e-5)
    np.testing.assert_allclose(next(dataset.as_numpy_iterator()), eager, atol=1e-5)


def test_one_row_images_are_enlarged():
    assert Preprocessing(8)(np.zeros((1, 500, 3), "uint8")).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resize": "fill"}, "resize must be one of squash, crop, pad. Got 'fill'"),
        ({"interpolation": "nearest"}, "one of bilinear, bicubic"),
        ({"crop": 0.0}, "crop=0.0"),
        ({"std": (1.0, 0.0, 1.0)}, "std above 0"),
        ({"mean": (0.5,)}, "one number per channel"),
        ({"image_size": -1}, "at least 1"),
    ],
)
def test_wrong_preprocessing_is_refused(wrong, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Preprocessing(**{"image_size": 8, **wrong})


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *(("png", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")),
        *(("bmp", mode) for mode in ("RGB", "RGBA", "L", "P")),
        *(("gif", mode) for mode in ("RGB", "L", "P")),
        *(("webp", mode) for mode in ("RGB", "RGBA")),
        *(("jpeg", mode) for mode in ("RGB", "L")),
    ],
)
def test_every_format_decodes_as_in_pillow(suffix, mode):
    options = {"lossless": True} if suffix == "webp" else {}
    content = encoded(photograph(2, (0, 0, 255)).convert(mode), suffix, **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), int)

    decoded = decode_image(content).numpy()

    assert decoded.dtype == "uint8"
    # JPEG decoders may round differently, and upsample colours differently.
    assert np.abs(decoded - expected).max() <= (8 if suffix == "jpeg" else 0)


def test_sixteen_bits_are_scaled_to_eight():
    deep = np.arange(0, 65536, 256, dtype="uint16").reshape(16, 16)

    decoded = decode_image(encoded(Image.fromarray(deep))).numpy()

    assert (decoded[..., 0] == np.arange(256).reshape(16, 16)).all()


def test_grey_images_keep_their_values():
    grey = np.arange(256, dtype="uint8").reshape(16, 16)

    decoded = decode_image(encoded(Image.fromarray(grey)), channels=1)

    assert (decoded.numpy()[..., 0] == grey).all()


def test_cmyk_photographs_become_rgb():
    content = encoded(photograph(4, (255, 0, 0)).convert("CMYK"), "jpeg")
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), float)

    decoded = decode_image(content).numpy()

    assert np.abs(decoded - expected).mean() < 3


def test_animations_decode_to_their_first_frame():
    frames = [photograph(seed, (255, 0, 0)).convert("P") for seed in range(3)]
    for suffix, options in (("gif", {}), ("webp", {"lossless": True})):
        content = encoded(frames[0], suffix, save_all=True, append_images=frames[1:], **options)

        decoded = decode_image(content).numpy()

        assert (decoded == np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("endian", ["<", ">"])
def test_camera_orientation_is_applied_as_in_pillow(orientation, endian):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x0112] = orientation
    exif[0x010F] = "a camera"
    content = encoded(photograph(5, (90, 90, 90)), "jpeg", exif=exif, quality=100, subsampling=0)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))

    decoded = decode_image(content).numpy()

    assert int(exif_orientation(content)) == orientation
    assert decoded.shape == (*upright.size[::-1], 3)
    assert np.abs(decoded - np.asarray(upright, int)).max() <= 8


def test_files_without_orientation_are_upright():
    assert int(exif_orientation(encoded(photograph(6, (1, 2, 3)), "jpeg"))) == 1
    assert int(exif_orientation(b"")) == 1


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "jpeg"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files_are_refused(suffix, share):
    content = encoded(photograph(7, (0, 0, 255)), suffix)

    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_image(content[: int(share * len(content))])


@pytest.mark.slow
def test_preprocessing_and_models_work_on_another_backend(tmp_path):
    pytest.importorskip("jax")
    code = """
import keras, numpy, tensorflow, vit_keras
assert keras.backend.backend() == "jax"
model = vit_keras.build_vit("vit_nano7", num_classes=3, stem="shifted_patches")
images = numpy.full((2, 40, 50, 3), 200, "uint8")
pad = vit_keras.Preprocessing(28, "pad")
(piped,) = tensorflow.data.Dataset.from_tensors(images[0]).map(pad).as_numpy_iterator()
assert numpy.allclose(pad(images[0]), piped, atol=1e-5)
assert (piped[:3] == -1).all() and (piped[3:25] > 0).all() and (piped[25:] == -1).all()
dataset = tensorflow.data.Dataset.from_tensor_slices(images).map(model.preprocessing).batch(2)
labels = tensorflow.data.Dataset.from_tensors([0, 1])
model.compile("adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(tensorflow.data.Dataset.zip((dataset, labels)), verbose=0)
model.save("model.keras")
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)

    assert load_model(tmp_path / "model.keras").output_shape == (None, 3)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("jpeg", {}),
        ("png", {}),
        ("gif", {}),
        ("bmp", {}),
        ("webp", {}),
        ("webp", {"lossless": True}),
        ("webp", {"exif": b"Exif\x00\x00"}),  # in a container, VP8X
    ],
    ids=str,
)
def test_pixels_are_counted_without_decoding(suffix, options):
    # Sides that need two bytes each.
    file = encoded(Image.new("RGB", (523, 301)), suffix, **options)

    assert count_pixels(file).numpy() == 523 * 301
    assert decode_image(file, max_pixels=523 * 301).shape == (301, 523, 3)
    for content in (file, file[: len(file) // 2]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode_image(content, max_pixels=523 * 301 - 1)


def test_pixels_of_a_top_down_bmp_are_counted():
    file = bytearray(encoded(Image.new("RGB", (523, 301)), "bmp"))
    file[22:26] = (-301).to_bytes(4, "little", signed=True)

    assert count_pixels(bytes(file)).numpy() == 523 * 301


def test_other_bytes_have_no_pixels_and_are_refused():
    for content in (b"", b"text", b"RIFF1234WEBPVP8?"):
        assert count_pixels(content).numpy() == 0
        with pytest.raises(tf.errors.InvalidArgumentError, match="pixels"):
            decode_image(content, max_pixels=100)
