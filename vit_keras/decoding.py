"""Encoded image bytes -> upright uint8 pixels, as TensorFlow operations.

Not imported by the rest of vit_keras, which runs on any Keras backend: it is what tf.data
pipelines and exported SavedModels have in common.
"""

import tensorflow as tf

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")

# The entry of tag 0x0112, type SHORT, one value, in the first TIFF directory; little, then big
# endian (Exif 2.32, section 4.6.4). \C is RE2's "any byte".
_ORIENTATION = (
    r"\C*?Exif\x00\x00\C*?"
    r"(?:\x12\x01\x03\x00\x01\x00\x00\x00|\x01\x12\x00\x03\x00\x00\x00\x01\x00)"
    r"([\x01-\x08])\C*"
)
_EXIF_BYTES = 4096  # the directory stands in one of the first segments of a JPEG

# What makes an image upright that was stored with orientation 1, 2, ... 8: whether rows and
# columns change places, and whether the rows, and the columns, are then in reverse.
_UPRIGHT = ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0))


def decode_image(encoded, channels=3):
    """Decodes JPEG, PNG, BMP, WebP, or the first frame of an animated GIF or WebP.

    Args:
        encoded: scalar string tensor, the bytes of an image file.
        channels: 3 for RGB, 1 for grey. Grey and CMYK images are converted, transparency is
            dropped, 16-bit images are scaled to 8, and the Exif orientation of a JPEG is applied.

    Returns:
        uint8 tensor (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: for anything that is not a whole image.
    """
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        # The exact inverse transform, which Pillow uses too; tf.io.decode_image takes a fast one.
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: _other_than_jpeg(encoded),
    )
    orientation = exif_orientation(encoded)
    image = tf.cond(orientation > 1, lambda: _upright(image, orientation), lambda: image)
    if channels == 1:
        luma = tf.linalg.matvec(tf.cast(image, tf.float32), [0.299, 0.587, 0.114])  # BT.601
        image = tf.cast(tf.round(luma), tf.uint8)[..., tf.newaxis]
    return tf.ensure_shape(image, (None, None, channels))


def why_undecodable(error):
    """The one line of a tf.errors.OpError that says what was wrong with an image."""
    return error.message.split("}} ")[-1].split(" [Op:")[0].strip().split("\n")[0]


def exif_orientation(encoded):
    """Image bytes -> int32 scalar 1..8, as a camera noted it; 1 (upright) where it did not."""
    head = tf.strings.substr(encoded, 0, _EXIF_BYTES)
    value = tf.strings.regex_replace(head, _ORIENTATION, r"\1")
    found = tf.strings.regex_full_match(head, _ORIENTATION)
    return tf.cast(tf.io.decode_raw(tf.where(found, value, "\x01"), tf.uint8)[0], tf.int32)


def _upright(image, orientation):
    transposed, rows, columns = tf.unstack(tf.gather(_UPRIGHT, orientation - 1))
    image = tf.transpose(image, tf.where(transposed > 0, [1, 0, 2], [0, 1, 2]))
    image = tf.reverse(image, tf.range(rows))  # of no axis, or the first
    return tf.reverse(image, tf.range(1, 1 + columns))


def _other_than_jpeg(encoded):
    def webp():  # which TensorFlow decodes as it is or not at all, with 3 channels or 4
        return tf.io.decode_image(encoded, expand_animations=False)[..., :3]

    def other():
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return _with_palette(image, encoded)

    head = tf.strings.substr(encoded, 0, 12)
    return tf.cond(tf.strings.regex_full_match(head, r"RIFF\C{4}WEBP"), webp, other)


def _with_palette(image, encoded):
    """The colours of a BMP of 8 bits a pixel, which TensorFlow decodes as their numbers."""
    header = tf.io.decode_raw(tf.strings.substr(encoded, 0, 30), tf.uint8, fixed_length=30)
    header = tf.cast(header, tf.int32)

    def look_up():
        start = 14 + header[14] + 256 * header[15]  # behind the file's and the image's header
        colours = tf.io.decode_raw(
            tf.strings.substr(encoded, start, 1024), tf.uint8, fixed_length=1024
        )
        bgra = tf.reshape(colours, (256, 4))
        return tf.gather(bgra[:, 2::-1], tf.cast(image[..., 0], tf.int32))

    is_bmp = tf.strings.substr(encoded, 0, 2) == "BM"
    return tf.cond(is_bmp & (header[28] == 8), look_up, lambda: image)
