"""Encoded image bytes -> upright uint8 pixels, as TensorFlow operations.

The rest of vit_keras runs on any Keras backend and does not import this module. tf.data pipelines
and exported SavedModels share it.
"""

from collections.abc import Callable

import tensorflow as tf

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")

# The entry of tag 0x0112, type SHORT, one value, in the first TIFF directory; little, then big
# endian (Exif 2.32, section 4.6.4). \C is RE2's "any byte".
_ORIENTATION = (
    r"\C*?Exif\x00\x00\C*?"
    r"(?:\x12\x01\x03\x00\x01\x00\x00\x00|\x01\x12\x00\x03\x00\x00\x00\x01\x00)"
    r"([\x01-\x08])\C*"
)
_EXIF_BYTES = 4096  # the directory is in one of the first segments of a JPEG

# How to turn an image upright that was stored with orientation 1, 2, ... 8: whether to transpose
# it, and then whether to reverse the rows, and the columns.
_UPRIGHT = ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0))


def decode_image(encoded: tf.Tensor, channels: int = 3, max_pixels: int | None = None) -> tf.Tensor:
    """Decodes JPEG, PNG, BMP, WebP, or the first frame of an animated GIF or WebP.

    Args:
        encoded: scalar string tensor, the bytes of an image file.
        channels: 3 for RGB, 1 for grey. Grey and CMYK images are converted, transparency is
            dropped, 16-bit images are scaled to 8, and the Exif orientation of a JPEG is applied.
        max_pixels: the largest height * width that is accepted, by the image's header; None for
            no limit.

    Returns:
        uint8 tensor (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: for anything that is not a complete image, and for larger
            images.
    """
    if max_pixels is not None:
        pixels = count_pixels(encoded)
        small = tf.debugging.Assert((pixels > 0) & (pixels <= max_pixels), [pixels, "pixels"])
        with tf.control_dependencies([small]):
            encoded = tf.identity(encoded)
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        # The exact inverse transform, as in Pillow; tf.io.decode_image uses a faster one.
        lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
        lambda: _decode_other(encoded),
    )
    orientation = exif_orientation(encoded)
    image = tf.cond(orientation > 1, lambda: _upright(image, orientation), lambda: image)
    if channels == 1:
        luma = tf.linalg.matvec(tf.cast(image, tf.float32), [0.299, 0.587, 0.114])  # BT.601
        image = tf.cast(tf.round(luma), tf.uint8)[..., tf.newaxis]
    return tf.ensure_shape(image, (None, None, channels))


def why_undecodable(error: tf.errors.OpError) -> str:
    """Extracts the reason why an image could not be decoded.

    Args:
        error: raised by `decode_image`.

    Returns:
        One line.
    """
    return error.message.split("}} ")[-1].split(" [Op:")[0].strip().split("\n")[0]


def count_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the number of pixels from an image's header, without decoding it.

    Args:
        encoded: scalar string tensor, the bytes of an image file.

    Returns:
        int64 scalar, height times width; 0 for a format that is not in `SUFFIXES`.
    """
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, 30), tf.uint8, fixed_length=30)
    head = tf.cast(head, tf.int64)

    formats = _formats(encoded, head)
    matches = [
        tf.reduce_all(head[start : start + len(signature)] == list(signature))
        for start, signature, _ in formats
    ]
    branches = [*(pixels for _, _, pixels in formats), lambda: tf.zeros((), tf.int64)]
    return tf.switch_case(tf.argmax(tf.stack([*matches, True]), output_type=tf.int32), branches)


def _formats(encoded: tf.Tensor, head: tf.Tensor) -> list[tuple[int, bytes, Callable]]:
    """Lists the formats: position of the signature, signature, and height times width.

    PNG: 3rd edition, 11.2.1; GIF89a, section 18; BMP: BITMAPINFOHEADER; WebP: RFC 9649, sections
    2.5 to 2.7, and RFC 6386, section 9.1.
    """

    def number(*places: int) -> tf.Tensor:
        """The integer in the bytes at these places, least significant byte first."""
        return sum(head[place] * 256**power for power, place in enumerate(places))

    def of_jpeg() -> tf.Tensor:
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded, tf.int64))
        return height * width

    def of_lossless_webp() -> tf.Tensor:
        sides = number(21, 22, 23, 24)  # minus one, 14 bits each
        return (1 + sides % 2**14) * (1 + sides // 2**14 % 2**14)

    def absolute(value: tf.Tensor) -> tf.Tensor:  # a BMP stored top down has a negative height
        return tf.where(value >= 2**31, 2**32 - value, value)

    return [
        (0, b"\xff\xd8\xff", of_jpeg),
        (0, b"\x89PNG", lambda: number(19, 18, 17, 16) * number(23, 22, 21, 20)),
        (0, b"GIF8", lambda: number(6, 7) * number(8, 9)),
        (0, b"BM", lambda: absolute(number(18, 19, 20, 21)) * absolute(number(22, 23, 24, 25))),
        (8, b"WEBPVP8X", lambda: (1 + number(24, 25, 26)) * (1 + number(27, 28, 29))),
        (8, b"WEBPVP8 ", lambda: (number(26, 27) % 2**14) * (number(28, 29) % 2**14)),
        (8, b"WEBPVP8L", of_lossless_webp),
    ]


def exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Reads the Exif orientation.

    Args:
        encoded: scalar string tensor, the bytes of an image file.

    Returns:
        int32 scalar 1..8; 1 (upright) if there is none.
    """
    head = tf.strings.substr(encoded, 0, _EXIF_BYTES)
    value = tf.strings.regex_replace(head, _ORIENTATION, r"\1")
    has_orientation = tf.strings.regex_full_match(head, _ORIENTATION)
    value = tf.where(has_orientation, value, "\x01")
    return tf.cast(tf.io.decode_raw(value, tf.uint8)[0], tf.int32)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    transposed, rows, columns = tf.unstack(tf.gather(_UPRIGHT, orientation - 1))
    image = tf.transpose(image, tf.where(transposed > 0, [1, 0, 2], [0, 1, 2]))
    image = tf.reverse(image, tf.range(rows))  # along no axis, or the first
    return tf.reverse(image, tf.range(1, 1 + columns))


def _decode_other(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes every format but JPEG -> uint8 (height, width, 3)."""

    def webp() -> tf.Tensor:
        # TensorFlow cannot convert WebP: it gives 3 channels or 4.
        return tf.io.decode_image(encoded, expand_animations=False)[..., :3]

    def other() -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return _with_palette(image, encoded)

    head = tf.strings.substr(encoded, 0, 12)
    return tf.cond(tf.strings.regex_full_match(head, r"RIFF\C{4}WEBP"), webp, other)


def _with_palette(image: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
    """Looks up the colours of an 8-bit BMP, which TensorFlow decodes as palette indices."""
    header = tf.io.decode_raw(tf.strings.substr(encoded, 0, 30), tf.uint8, fixed_length=30)
    header = tf.cast(header, tf.int32)

    def look_up() -> tf.Tensor:
        start = 14 + header[14] + 256 * header[15]  # after the file's and the image's header
        colours = tf.io.decode_raw(
            tf.strings.substr(encoded, start, 1024), tf.uint8, fixed_length=1024
        )
        bgra = tf.reshape(colours, (256, 4))
        return tf.gather(bgra[:, 2::-1], tf.cast(image[..., 0], tf.int32))

    is_bmp = tf.strings.substr(encoded, 0, 2) == "BM"
    return tf.cond(is_bmp & (header[28] == 8), look_up, lambda: image)
