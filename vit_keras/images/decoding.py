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


def decode_image(encoded, channels=3, max_pixels=None):
    """Decodes JPEG, PNG, BMP, WebP, or the first frame of an animated GIF or WebP.

    Args:
        encoded: scalar string tensor, the bytes of an image file.
        channels: 3 for RGB, 1 for grey. Grey and CMYK images are converted, transparency is
            dropped, 16-bit images are scaled to 8, and the Exif orientation of a JPEG is applied.
        max_pixels: the most that the image may have, as its header tells, or None for any number.

    Returns:
        uint8 tensor (height, width, channels).

    Raises:
        tf.errors.InvalidArgumentError: for anything that is not a whole image.
    """
    if max_pixels is not None:
        pixels = count_pixels(encoded)
        small = tf.debugging.Assert((pixels > 0) & (pixels <= max_pixels), [pixels, "pixels"])
        with tf.control_dependencies([small]):
            encoded = tf.identity(encoded)
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


def count_pixels(encoded):
    """Image bytes -> int64 scalar, height times width as the header tells, without decoding.

    Zero for bytes of no format that `SUFFIXES` names.
    """
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, 30), tf.uint8, fixed_length=30)
    head = tf.cast(head, tf.int64)

    def number(*places):
        """Of the bytes at these places, the least first"""
        return sum(head[place] * 256**power for power, place in enumerate(places))

    def of_jpeg():
        height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(encoded, tf.int64))
        return height * width

    def of_lossless_webp():
        sides = number(21, 22, 23, 24)  # less one, 14 bits each
        return (1 + sides % 2**14) * (1 + sides // 2**14 % 2**14)

    def signed(value):  # a BMP with its rows upside down has a negative height
        return tf.where(value >= 2**31, 2**32 - value, value)

    # Where what marks a format stands, the mark, and the product of the sides. PNG: 3rd edition,
    # 11.2.1; GIF89a, section 18; BMP: BITMAPINFOHEADER; WebP: RFC 9649, sections 2.5 to 2.7, and
    # RFC 6386, section 9.1.
    formats = (
        (0, b"\xff\xd8\xff", of_jpeg),
        (0, b"\x89PNG", lambda: number(19, 18, 17, 16) * number(23, 22, 21, 20)),
        (0, b"GIF8", lambda: number(6, 7) * number(8, 9)),
        (0, b"BM", lambda: signed(number(18, 19, 20, 21)) * signed(number(22, 23, 24, 25))),
        (8, b"WEBPVP8X", lambda: (1 + number(24, 25, 26)) * (1 + number(27, 28, 29))),
        (8, b"WEBPVP8 ", lambda: (number(26, 27) % 2**14) * (number(28, 29) % 2**14)),
        (8, b"WEBPVP8L", of_lossless_webp),
    )
    marked = [tf.reduce_all(head[at : at + len(mark)] == [*mark]) for at, mark, _ in formats]
    branches = [*(pixels for _, _, pixels in formats), lambda: tf.zeros((), tf.int64)]
    return tf.switch_case(tf.argmax(tf.stack([*marked, True]), output_type=tf.int32), branches)


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
