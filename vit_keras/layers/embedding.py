"""Images -> patches or features -> tokens: the layers before the first block."""

from typing import Any

import keras
from keras import ops

from vit_keras.config import POSITIONS
from vit_keras.layers.positions import sincos2d
from vit_keras.utils.checks import check_choice, check_integer, check_sincos_width
from vit_keras.utils.errors import InputError
from vit_keras.utils.types import Shape, Tensor

_register = keras.saving.register_keras_serializable(package="vit_keras")


@_register
class Patches(keras.layers.Layer):
    """Cuts each image into square patches, row by row, and flattens them.

    (batch, height, width, channels) -> (batch, patches, size * size * channels).

    Args:
        size: pixels, the side of a patch.
        shifted: whether a patch also contains the image shifted by half a patch along its four
            diagonals (shifted patch tokenisation, arXiv:2112.13492, section 3.1), five times the
            numbers. Patches then overlap, which helps with small data sets. The image is padded
            with zeros.
        **kwargs: arguments of every Keras layer.

    Raises:
        InputError: when built for images whose sides are unknown or not multiples of size.

    Example:
        >>> images = keras.Input((224, 224, 3))
        >>> Patches(size=16)(images).shape
        (None, 196, 768)
    """

    def __init__(self, size: int, shifted: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_integer("size", size, minimum=1)
        self.size = size
        self.shifted = shifted

    def build(self, images_shape: Shape) -> None:
        if len(images_shape) != 4 or None in images_shape[1:]:
            raise InputError(
                f"Patches needs images of a known size, (batch, height, width, channels). "
                f"Got shape {tuple(images_shape)}; give keras.Input a full shape."
            )
        if any(side % self.size for side in images_shape[1:3] if side):
            raise InputError(
                f"Patches cuts images whose sides are multiples of its size. "
                f"Got size={self.size} and images of shape {tuple(images_shape)}."
            )

    def call(self, images: Tensor) -> Tensor:
        if self.shifted:
            images = self._with_shifted(images)
        _, height, width, channels = images.shape
        rows, columns, size = height // self.size, width // self.size, self.size
        # Rows are part of the batch, and a patch's line of pixels part of its channels, so that the
        # transpose has four axes: phone runtimes are slow with more, or fail silently.
        x = ops.reshape(images, (-1, size, columns, size * channels))
        x = ops.transpose(x, (0, 2, 1, 3))  # (batch * rows, columns, size, size * channels)
        return ops.reshape(x, (-1, rows * columns, size * size * channels))

    def _with_shifted(self, images: Tensor) -> Tensor:
        """(batch, height, width, channels) -> (batch, height, width, 5 * channels)."""
        _, height, width, _ = images.shape
        half = self.size // 2
        x = ops.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
        corners = [(top, left) for top in (0, 2 * half) for left in (0, 2 * half)]
        shifted = [x[:, top : top + height, left : left + width] for top, left in corners]
        return ops.concatenate([images, *shifted], axis=-1)


@_register
class PatchEncoder(keras.layers.Layer):
    """Projects flattened patches to tokens, prepends learned tokens, and adds positions.

    (batch, patches, pixels) -> (batch, prefix + patches, width). Equation 1 of arXiv:2010.11929.
    The prefix is, in this order and each optional: the [CLS] token, DeiT's distillation token,
    registers.

    Args:
        width: D, the length of a token.
        grid: (rows, columns) of patches.
        cls_token: whether there is a [CLS] token.
        dist_token: whether there is a distillation token.
        registers: number of registers.
        positions: "learned", a table with a row for every token, or "sincos2d", which is fixed
            and leaves the prefix without positions.
        prefix_positions: whether a learned table has rows for the prefix; without, the prefix is
            prepended after the table is added.
        projected: whether the layer projects the patches; not after a stem of convolutions.
        use_bias: of the projection.
        mask_token: whether a learned token replaces masked patches. The layer is then called on
            [patches, masked], where masked is (batch, patches), 1 for the patches to hide.
        **kwargs: arguments of every Keras layer.

    Raises:
        InputError: for a wrong width or positions; when built, for another number of patches.

    Example:
        >>> patches = keras.Input((196, 768))
        >>> PatchEncoder(width=192, grid=(14, 14), cls_token=True)(patches).shape
        (None, 197, 192)
    """

    def __init__(
        self,
        width: int,
        grid: tuple[int, int],
        cls_token: bool = False,
        dist_token: bool = False,
        registers: int = 0,
        positions: str = "learned",
        prefix_positions: bool = True,
        projected: bool = True,
        use_bias: bool = True,
        mask_token: bool = False,
        **kwargs: Any,
    ) -> None:
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

    def build(self, patches_shape: Any) -> None:
        if self.mask_token:
            patches_shape, _ = patches_shape
        rows, columns = self.grid
        if patches_shape[1] != rows * columns:
            raise InputError(
                f"PatchEncoder has a grid of {rows}x{columns} = {rows * columns} "
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
            # Registers that start equal would stay equal.
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

    def call(self, inputs: Any) -> Tensor:
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

    def compute_output_shape(self, inputs_shape: Any) -> Shape:
        # Keras 3.12 does not infer that the number of tokens is static.
        batch = inputs_shape[0][0] if self.mask_token else inputs_shape[0]
        rows, columns = self.grid
        return batch, self.prefix + rows * columns, self.width


@_register
class PatchDropout(keras.layers.Layer):
    """In training, keeps a random subset of each image's patches; at inference all of them.

    (batch, prefix + patches, width) -> (batch, prefix + fewer patches, width). arXiv:2208.07220:
    half of the patches take half of the time and, at high resolution, lose almost no accuracy.

    Args:
        rate: fraction of the patches to drop.
        prefix: number of tokens before the patches; they stay.
        **kwargs: arguments of every Keras layer.
    """

    def __init__(self, rate: float, prefix: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.prefix = prefix
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, tokens: Tensor, training: bool | None = None) -> Tensor:
        if not (training and self.rate):
            return tokens
        patches = tokens.shape[1] - self.prefix
        noise = keras.random.uniform(
            (ops.shape(tokens)[0], patches), dtype="float32", seed=self.seed_generator
        )
        _, indices = ops.top_k(noise, max(1, round(patches * (1 - self.rate))))
        subset = ops.take_along_axis(tokens[:, self.prefix :], ops.expand_dims(indices, -1), axis=1)
        return ops.concatenate([tokens[:, : self.prefix], subset], axis=1)
