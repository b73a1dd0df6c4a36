"""Images -> patches -> tokens -> transformed tokens -> one pooled token: the layers of a ViT."""

import keras
from keras import ops

from vit_keras.config import GELUS, POOLINGS, POSITIONS, check_choice, check_integer
from vit_keras.errors import InputError
from vit_keras.positions import sincos2d

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
    """Projects flattened patches to tokens, puts a [CLS] token first, and adds positions.

    (batch, patches, pixels) -> (batch, patches, width), one token more with a [CLS] token.
    Equation 1 of arXiv:2010.11929.

    Args:
        width: D, the length of a token.
        grid: (rows, columns) of patches.
        cls_token: whether a learned token is put before the patches.
        positions: "learned", a table with a row for every token, or "sincos2d", which is fixed
            and leaves the [CLS] token without a position.
    """

    def __init__(self, width, grid, cls_token=False, positions="learned", **kwargs):
        super().__init__(**kwargs)
        check_integer("width", width, minimum=1)
        check_choice("positions", positions, POSITIONS)
        if positions == "sincos2d" and width % 4:
            raise InputError(f"sincos2d positions need a width divisible by 4. Got width={width}.")
        self.width = width
        self.grid = tuple(grid)
        self.cls_token = cls_token
        self.positions = positions
        self.projection = keras.layers.Dense(width, name="projection", dtype=self.dtype_policy)

    def build(self, patches_shape):
        rows, columns = self.grid
        if patches_shape[1] != rows * columns:
            raise InputError(
                f"PatchEncoder was made for a grid of {rows}x{columns} = {rows * columns} "
                f"patches. Got {patches_shape[1]}, shape {tuple(patches_shape)}."
            )
        self.projection.build(patches_shape)
        if self.cls_token:
            self.cls = self.add_weight(name="cls", shape=(1, 1, self.width), initializer="zeros")
        if self.positions == "learned":
            self.position_table = self.add_weight(
                name="positions",
                shape=(1, rows * columns + self.cls_token, self.width),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )

    def call(self, patches):
        tokens = self.projection(patches)
        if self.positions == "sincos2d":
            rows, columns = self.grid
            tokens = tokens + ops.cast(sincos2d(rows, columns, self.width), tokens.dtype)
        if self.cls_token:
            cls = ops.tile(self.cls, (ops.shape(tokens)[0], 1, 1))
            tokens = ops.concatenate([cls, tokens], axis=1)
        if self.positions == "learned":
            tokens = tokens + self.position_table
        return tokens

    def compute_output_shape(self, patches_shape):
        # Said, because Keras 3.12 does not find out that the number of tokens is static.
        rows, columns = self.grid
        return patches_shape[0], rows * columns + self.cls_token, self.width


@_register
class LayerNorm(keras.layers.LayerNormalization):
    """Keras's LayerNormalization in the order of operations that exports best.

    (..., width) -> (..., width). Written as (x - mean) / sqrt(variance + epsilon) * gamma + beta
    it becomes 7 TFLite operations instead of 11, and gamma and beta fold into the Dense behind
    it. Statistics are taken in float32 under mixed precision.

    Args:
        epsilon: added to the variance.
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(epsilon=epsilon, **kwargs)

    def get_config(self):
        return {**keras.layers.Layer.get_config(self), "epsilon": self.epsilon}

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        x = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
        x = x * ops.rsqrt(variance + self.epsilon)
        return ops.cast(x * self.gamma + self.beta, self.compute_dtype)


@_register
class MultiHeadSelfAttention(keras.layers.Layer):
    """Scaled dot-product attention of every token to every token, in parallel heads.

    (batch, tokens, width) -> (batch, tokens, width). Appendix A of arXiv:2010.11929. One Dense
    gives queries, keys and values, and no tensor has more than four axes: in TFLite a five-axis
    transpose made a Ti/16 1.3-1.6 times slower.

    Args:
        heads: divides width.
        dropout: fraction of attention weights dropped.
    """

    def __init__(self, heads, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        check_integer("heads", heads, minimum=1)
        self.heads = heads
        self.dropout = dropout
        self.attention_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, tokens_shape):
        width = tokens_shape[-1]
        if width % self.heads:
            raise InputError(f"heads must divide width. Got heads={self.heads}, width={width}.")
        # Drawn as three (width, width) matrices would be, not as one (width, 3 * width).
        initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "uniform")
        self.qkv = keras.layers.Dense(
            3 * width, kernel_initializer=initializer, name="qkv", dtype=self.dtype_policy
        )
        self.qkv.build(tokens_shape)
        self.projection = keras.layers.Dense(width, name="projection", dtype=self.dtype_policy)
        self.projection.build(tokens_shape)

    def call(self, tokens, training=None):
        width = tokens.shape[-1]
        query, key, value = ops.split(self.qkv(tokens), 3, axis=-1)  # each (batch, tokens, width)
        query = self._split_heads(query * (width // self.heads) ** -0.5)
        key = self._split_heads(key)
        value = self._split_heads(value)
        weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))))
        weights = self.attention_dropout(weights, training=training)
        x = ops.matmul(weights, value)  # (batch, heads, tokens, width / heads)
        x = ops.transpose(x, (0, 2, 1, 3))
        return self.projection(ops.reshape(x, (-1, ops.shape(tokens)[1], width)))

    def _split_heads(self, x):
        """(batch, tokens, width) -> (batch, heads, tokens, width / heads)"""
        tokens, width = ops.shape(x)[1], x.shape[-1]
        x = ops.reshape(x, (-1, tokens, self.heads, width // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))


@_register
class TransformerBlock(keras.layers.Layer):
    """Attention and an MLP, each behind a LayerNorm and beside a residual connection.

    (batch, tokens, width) -> (batch, tokens, width). Equations 2 and 3 of arXiv:2010.11929.

    Args:
        heads: attention heads; divides width.
        mlp_width: hidden units of the MLP.
        dropout: fraction, after the attention projection and both MLP layers.
        attention_dropout: fraction of attention weights dropped.
        stochastic_depth: fraction of images for which a branch is left out in training; the
            others' branches are scaled up to keep the mean (arXiv:1603.09382).
        norm_epsilon: added to the variance in both LayerNorms.
        gelu: "exact" or "tanh".
    """

    def __init__(
        self,
        heads,
        mlp_width,
        dropout=0.0,
        attention_dropout=0.0,
        stochastic_depth=0.0,
        norm_epsilon=1e-6,
        gelu="exact",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_integer("mlp_width", mlp_width, minimum=1)
        check_choice("gelu", gelu, GELUS)
        self.heads = heads
        self.mlp_width = mlp_width
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.stochastic_depth = stochastic_depth
        self.norm_epsilon = norm_epsilon
        self.gelu = gelu

    def build(self, tokens_shape):
        width = tokens_shape[-1]
        hidden_shape = (*tokens_shape[:-1], self.mlp_width)
        dtype = self.dtype_policy
        self.norm1 = LayerNorm(epsilon=self.norm_epsilon, name="norm1", dtype=dtype)
        self.attention = MultiHeadSelfAttention(
            self.heads, self.attention_dropout, name="attention", dtype=dtype
        )
        self.norm2 = LayerNorm(epsilon=self.norm_epsilon, name="norm2", dtype=dtype)
        self.mlp_hidden = keras.layers.Dense(self.mlp_width, name="mlp_hidden", dtype=dtype)
        self.mlp_output = keras.layers.Dense(width, name="mlp_output", dtype=dtype)
        self.drop_units = keras.layers.Dropout(self.dropout, dtype=dtype)
        self.drop_branch = keras.layers.Dropout(
            self.stochastic_depth, noise_shape=(None, 1, 1), dtype=dtype
        )
        for layer in (self.norm1, self.attention, self.norm2, self.mlp_hidden):
            layer.build(tokens_shape)
        self.mlp_output.build(hidden_shape)

    def call(self, tokens, training=None):
        x = self.attention(self.norm1(tokens), training=training)
        x = self.drop_units(x, training=training)
        tokens = tokens + self.drop_branch(x, training=training)
        x = gelu(self.mlp_hidden(self.norm2(tokens)), self.gelu)
        x = self.drop_units(x, training=training)
        x = self.drop_units(self.mlp_output(x), training=training)
        return tokens + self.drop_branch(x, training=training)


@_register
class Pool(keras.layers.Layer):
    """Reduces the tokens of an image to one.

    (batch, tokens, width) -> (batch, width)

    Args:
        kind: "cls", the first token, or "mean", the average of all.
    """

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        check_choice("kind", kind, POOLINGS)
        self.kind = kind

    def call(self, tokens):
        return tokens[:, 0] if self.kind == "cls" else ops.mean(tokens, axis=1)


def gelu(x, form):
    """x times the normal distribution's cumulative function at x (arXiv:1606.08415).

    Args:
        x: any shape.
        form: "exact", or "tanh" for the approximation of section 2 of that paper.
    """
    if form == "tanh":
        return keras.activations.gelu(x, approximate=True)
    # Not keras.activations.gelu: it lowers to Erfc, which ONNX does not have.
    return 0.5 * x * (1.0 + ops.erf(x * 2.0**-0.5))
