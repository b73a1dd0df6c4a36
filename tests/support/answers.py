"""A classifier with random weights, image files, and the Keras model's answers to them."""

import io
from typing import Any

import keras
import numpy as np
from PIL import Image
from support.tiny import photograph, tiny_model

CLASSES = ("ant", "bee", "cat", "dog", "èlk", "fox", "gnu")
NORMALISATION: dict[str, Any] = {
    "mean": (0.4, 0.5, 0.6),
    "std": (0.2, 0.3, 0.4),
}  # differs between channels
MAX_PIXELS = 20_000  # of images that the served model decodes


def classifier(preprocessing, **options):
    """A tiny ViT with random weights for CLASSES, the same in every process."""
    keras.utils.set_random_seed(0)
    return tiny_model(
        image_size=preprocessing.image_size,
        num_classes=len(CLASSES),
        class_names=CLASSES,
        preprocessing=preprocessing,
        channels=preprocessing.channels,
        **options,
    )


def probabilities(model, image):
    """Keras's answer to one uint8 image of any size, float32 (classes,)."""
    images = model.preprocessing(np.asarray(image)[np.newaxis])
    return np.asarray(keras.ops.softmax(model(images)))[0]


def by_label(scores):
    """Scores (classes,) -> {label: score}."""
    return dict(zip(CLASSES, np.asarray(scores).tolist(), strict=True))


def encoded(image, format, **options):
    """PIL image -> the bytes of an image file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def image_files(size=(40, 30)):
    """{description: bytes of an image file that the SavedModel decodes}, width x height pixels."""
    image = photograph(1, (250, 60, 0), size)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned
    deep = np.asarray(image.convert("L")).astype("uint16") * 257
    frames = {"save_all": True, "append_images": [photograph(2, (0, 0, 255))]}
    return {
        "JPEG": encoded(image, "jpeg"),
        "sideways": encoded(image, "jpeg", exif=exif),
        "grey": encoded(image.convert("L"), "jpeg"),
        "CMYK": encoded(image.convert("CMYK"), "jpeg"),
        "16 bits": encoded(Image.fromarray(deep), "png"),
        "transparent": encoded(image.convert("RGBA"), "png"),
        "animated": encoded(image, "gif", **frames),
        "BMP": encoded(image, "bmp"),
        "WebP": encoded(image, "webp"),
    }
