"""Images -> patches or features -> tokens: what stands before the first block."""

import keras
from keras import ops

from vit_keras.config import POSITIONS
from vit_keras.layers.positions import sincos2d
from vit_keras.utils.checks import check_choice, check_integer, check_sincos_width
from vit_keras.utils.errors import InputError

_register = keras.saving.register_keras_serializable(package="vit_keras")


@_register
class Patches(keras.layers.Layer):
    """Cuts each image into square patches, row by row, and flattens them.

    (batch, height, width, channels) -> (batch, patches, size * size * channels)

    Args:
        size: pixels, the side of a patch.
        shifted: whether a patch also holds what is half a patch away on its four diagonals
            (shifted patch tokenisation, arXiv:2112.13492, section 3.1), five times the numbers:
            neighbouring patches overlap, which helps where images are few. Behind the image's
            border is zero.

    Raises:
        InputError: when built for images whose sides are unknown or not multiples of size.
    """

    def __init__(self, size, shifted=False, **kwargs):
        super().__init__(**kwargs)
        check_integer("size", size, minimum=1)
        self.size = size
        self.shifted = shifted

    def build(self, images_shape):
        if len(images_shape) != 4 or None in images_shape[1:]:
            raise InputError(
                f"Patches needs images of a known size, (batch, height, width, channels). "
                f"Got shape {tuple(images_shape)}; give keras.Input a full shape."
            )
        if any(side % self.size for side in images_shape[1:3]):
            raise InputError(
                f"Patches cuts images whose sides are multiples of its size. "
                f"Got size={self.size} and images of shape {tuple(images_shape)}."
            )

    def call(self, images):
        if self.shifted:
            images = self._with_shifted(images)
        _, height, width, channels = images.shape
        rows, columns, size = height // self.size, width // self.size, self.size
        # Rows join the batch, and a patch's line of pixels its channels, so that the transpose
        # has four axes: phone runtimes are slow, or silent, about more.
        x = ops.reshape(images, (-1, size, columns, size * channels))
        x = ops.transpose(x, (0, 2, 1, 3))  # (batch * rows, columns, size, size * channels)
        return ops.reshape(x, (-1, rows * columns, size * size * channels))

    def _with_shifted(self, images):
        """(batch, height, width, channels) -> (batch, height, width, 5 * channels)"""
        _, height, width, _ = images.shape
        half = self.size // 2
        x = ops.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
        corners = [(top, left) for top in (0, 2 * half) for left in (0, 2 * half)]
        shifted = [x[:, top : top + height, left : left + width] for top, left in corners]
        return ops.concatenate([images, *shifted], axis=-1)


@_register
class PatchEncoder(keras.layers.Layer):
    """Projects flattened patches to tokens, puts learned tokens first, and adds positions.

    (batch, patches, pixels) -> (batch, prefix + patches, width). Equation 1 of arXiv:2010.11929.
    The prefix is, in this order, as far as it is wanted: the [CLS] token, DeiT's distillation
    token, registers.

    Args:
        width: D, the length of a token.
        grid: (rows, columns) of patches.
        cls_token: whether a learned token is put before the patches.
        dist_token: whether another one is.
        registers: how many more.
        positions: "learned", a table with a row for every token, or "sincos2d", which is fixed
            and leaves the prefix without positions.
        prefix_positions: whether a learned table has rows for the prefix; without, it is added
            before the prefix is put in front.
        projected: whether the patches are projected; a stem of convolutions has done it.
        use_bias: of the projection.
        mask_token: whether there is a learned token that takes the place of masked patches. The
            layer is then called on [patches, masked], where masked is (batch, patches), 1 for
            those to hide.
    """

    def __init__(
        self,
        width,
        grid,
        cls_token=False,
        dist_token=False,
        registers=0,
        positions="learned",
        prefix_positions=True,
        projected=True,
        use_bias=True,
        mask_token=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_integer("width", width, minimum=1)
        check_choice("positions", positions, POSITIONS)
        if positions == "sincos2d":
            check_sincos_width(width)
        self.width = width
        self.grid = tuple(grid)
        self.cls_token = cls_token
        self.dist_token = dist_token
        self.registers = registers
        self.positions = positions
        self.prefix_positions = prefix_positions
        self.projected = projected
        self.use_bias = use_bias
        self.mask_token = mask_token
        self.prefix = int(cls_token) + int(dist_token) + registers
        if projected:
            self.projection = keras.layers.Dense(
                width, use_bias=use_bias, name="projection", dtype=self.dtype_policy
            )

    def build(self, patches_shape):
        if self.mask_token:
            patches_shape, _ = patches_shape
        rows, columns = self.grid
        if patches_shape[1] != rows * columns:
            raise InputError(
                f"PatchEncoder was made for a grid of {rows}x{columns} = {rows * columns} "
                f"patches. Got {patches_shape[1]}, shape {tuple(patches_shape)}."
            )
        if self.projected:
            self.projection.build(patches_shape)
        elif patches_shape[-1] != self.width:
            raise InputError(
                f"patches that are not projected must have the width of a token, {self.width}. "
                f"Got shape {tuple(patches_shape)}."
            )
        counts = {"cls": self.cls_token, "dist": self.dist_token, "registers": self.registers}
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.prefix_table = [
            # Registers that started alike would stay alike.
            self.add_weight(
                name=name,
                shape=(1, int(count), self.width),
                initializer="zeros" if name == "cls" else normal,
            )
            for name, count in counts.items()
            if count
        ]
        if self.mask_token:
            self.mask = self.add_weight(name="mask", shape=(1, 1, self.width), initializer="zeros")
        if self.positions == "learned":
            prefix = self.prefix if self.prefix_positions else 0
            self.position_table = self.add_weight(
                name="positions",
                shape=(1, prefix + rows * columns, self.width),
                initializer=normal,
            )

    def call(self, inputs):
        patches, masked = inputs if self.mask_token else (inputs, None)
        tokens = self.projection(patches) if self.projected else patches
        if masked is not None:
            masked = ops.expand_dims(ops.cast(masked, tokens.dtype), -1)
            tokens = tokens * (1 - masked) + self.mask * masked
        if self.positions == "sincos2d":
            rows, columns = self.grid
            tokens = tokens + ops.cast(sincos2d(rows, columns, self.width), tokens.dtype)
        elif not self.prefix_positions:
            tokens = tokens + self.position_table
        if self.prefix:
            batch = ops.shape(tokens)[0]
            prefix = [ops.tile(token, (batch, 1, 1)) for token in self.prefix_table]
            tokens = ops.concatenate([*prefix, tokens], axis=1)
        if self.positions == "learned" and self.prefix_positions:
            tokens = tokens + self.position_table
        return tokens

    def compute_output_shape(self, inputs_shape):
        # Said, because Keras 3.12 does not find out that the number of tokens is static.
        batch = inputs_shape[0][0] if self.mask_token else inputs_shape[0]
        rows, columns = self.grid
        return batch, self.prefix + rows * columns, self.width


@_register
class PatchDropout(keras.layers.Layer):
    """In training, keeps a random subset of each image's patches; at inference all of them.

    (batch, prefix + patches, width) -> (batch, prefix + kept, width). arXiv:2208.07220: half of
    the patches take half of the time and, at high resolution, cost next to no accuracy.

    Args:
        rate: fraction of the patches to drop.
        prefix: how many tokens stand before the patches; they stay.
    """

    def __init__(self, rate, prefix=0, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.prefix = prefix
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, tokens, training=None):
        if not (training and self.rate):
            return tokens
        patches = tokens.shape[1] - self.prefix
        noise = keras.random.uniform(
            (ops.shape(tokens)[0], patches), dtype="float32", seed=self.seed_generator
        )
        _, kept = ops.top_k(noise, max(1, round(patches * (1 - self.rate))))
        kept = ops.take_along_axis(tokens[:, self.prefix :], ops.expand_dims(kept, -1), axis=1)
        return ops.concatenate([tokens[:, : self.prefix], kept], axis=1)
