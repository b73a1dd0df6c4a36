"""Google's ViT in plain NumPy, from arrays under vision_transformer's published names.

Written from the papers and from models_vit.py's and big_vision's structure, in float64 and without
any code of this project: what the loading of Google's files is checked against.
"""

import numpy as np

EPSILON = 1e-6


def random_arrays(
    seed=0,
    width=16,
    heads=2,
    depth=2,
    mlp=24,
    patch=8,
    grid=(3, 3),
    classes=5,
    pooling="token",
    head_width=0,
    positions=True,
    stem=None,
    prefix_positions=True,
):
    """Arrays as in the files; stem: None, or the bottlenecks in each stage of a hybrid's ResNet"""
    random = np.random.default_rng(seed)

    def normal(*shape, scale=0.3):
        return (scale * random.standard_normal(shape)).astype("float32")

    def dense(name, *shape):
        arrays[f"{name}/kernel"] = normal(*shape)
        arrays[f"{name}/bias"] = normal(shape[-1])

    def norm(name, *shape):
        arrays[f"{name}/scale"] = 1 + normal(*shape)
        arrays[f"{name}/bias"] = normal(*shape)

    def attention(name):
        for part in ("query", "key", "value"):
            arrays[f"{name}/{part}/kernel"] = normal(width, heads, width // heads)
            arrays[f"{name}/{part}/bias"] = normal(heads, width // heads)
        arrays[f"{name}/out/kernel"] = normal(heads, width // heads, width)
        arrays[f"{name}/out/bias"] = normal(width)

    arrays: dict[str, np.ndarray] = {}
    features = 3
    if stem is not None:
        features = 32
        arrays["conv_root/kernel"] = normal(7, 7, 3, 32)
        norm("gn_root", 1, 1, 1, 32)
        for stage, units in enumerate(stem, 1):
            inner = 32 * 2 ** (stage - 1)
            for unit in range(1, units + 1):
                name = f"block{stage}/unit{unit}"
                if unit == 1:
                    arrays[f"{name}/conv_proj/kernel"] = normal(1, 1, features, 4 * inner)
                    norm(f"{name}/gn_proj", 1, 1, 1, 4 * inner)
                sizes = [(1, features, inner), (3, inner, inner), (1, inner, 4 * inner)]
                for number, (side, ins, outs) in enumerate(sizes, 1):
                    arrays[f"{name}/conv{number}/kernel"] = normal(side, side, ins, outs)
                    norm(f"{name}/gn{number}", 1, 1, 1, outs)
                features = 4 * inner
    dense("embedding", patch, patch, features, width)
    arrays["embedding/kernel"] *= 0.1  # small tokens, so that LayerNorm's epsilon matters
    arrays["embedding/bias"] *= 0.1
    tokens = grid[0] * grid[1] + (pooling == "token" and prefix_positions)
    if pooling == "token":
        arrays["cls"] = normal(1, 1, width, scale=0.05)
    if positions:
        arrays["Transformer/posembed_input/pos_embedding"] = normal(1, tokens, width, scale=0.05)
    for index in range(depth):
        block = f"Transformer/encoderblock_{index}"
        norm(f"{block}/LayerNorm_0", width)
        attention(f"{block}/MultiHeadDotProductAttention_1")
        norm(f"{block}/LayerNorm_2", width)
        dense(f"{block}/MlpBlock_3/Dense_0", width, mlp)
        dense(f"{block}/MlpBlock_3/Dense_1", mlp, width)
    norm("Transformer/encoder_norm", width)
    if pooling == "map":
        arrays["MAPHead_0/probe"] = normal(1, 1, width)
        attention("MAPHead_0/MultiHeadDotProductAttention_0")
        norm("MAPHead_0/LayerNorm_0", width)
        dense("MAPHead_0/MlpBlock_0/Dense_0", width, mlp)
        dense("MAPHead_0/MlpBlock_0/Dense_1", mlp, width)
    if head_width:
        dense("pre_logits", width, head_width)
    if classes:
        dense("head", head_width or width, classes)
    return arrays


def forward(arrays, images):
    """float images (batch, height, width, 3) -> logits, or pooled tokens without a head"""
    a = {name: array.astype("float64") for name, array in arrays.items()}
    x = images.astype("float64")
    if "conv_root/kernel" in a:
        x = resnet(a, x)
    x = convolve(x, a["embedding/kernel"], a["embedding/kernel"].shape[0], padding="valid")
    batch, rows, columns, width = x.shape
    x = x.reshape(batch, rows * columns, width) + a["embedding/bias"]
    if "Transformer/posembed_input/pos_embedding" not in a:
        x = x + sincos(rows, columns, width)
    positions = a.get("Transformer/posembed_input/pos_embedding", np.zeros((1, 1, 1)))
    if "cls" in a and positions.shape[1] == rows * columns:
        x, positions = x + positions, np.zeros((1, 1, 1))
    if "cls" in a:
        x = np.concatenate([np.tile(a["cls"], (batch, 1, 1)), x], axis=1)
    x = x + positions
    index = 0
    while f"Transformer/encoderblock_{index}/LayerNorm_0/scale" in a:
        block = f"Transformer/encoderblock_{index}"
        y = layer_norm(a, f"{block}/LayerNorm_0", x)
        x = x + attend(a, f"{block}/MultiHeadDotProductAttention_1", y, y)
        x = x + mlp(a, f"{block}/MlpBlock_3", layer_norm(a, f"{block}/LayerNorm_2", x))
        index += 1
    x = layer_norm(a, "Transformer/encoder_norm", x)
    if "MAPHead_0/probe" in a:
        probe = np.tile(a["MAPHead_0/probe"], (batch, 1, 1))
        x = attend(a, "MAPHead_0/MultiHeadDotProductAttention_0", probe, x)
        x = x + mlp(a, "MAPHead_0/MlpBlock_0", layer_norm(a, "MAPHead_0/LayerNorm_0", x))
        x = x[:, 0]
    else:
        x = x[:, 0] if "cls" in a else x.mean(axis=1)
    if "pre_logits/kernel" in a:
        x = np.tanh(x @ a["pre_logits/kernel"] + a["pre_logits/bias"])
    return x @ a["head/kernel"] + a["head/bias"] if "head/kernel" in a else x


def layer_norm(a, name, x):
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPSILON)
    return x * a[f"{name}/scale"] + a[f"{name}/bias"]


def attend(a, name, queries, tokens):
    def project(part, x):
        kernel, bias = a[f"{name}/{part}/kernel"], a[f"{name}/{part}/bias"]
        return np.einsum("bnd,dhk->bhnk", x, kernel) + bias[:, None]

    query, key, value = project("query", queries), project("key", tokens), project("value", tokens)
    scores = np.einsum("bhqk,bhnk->bhqn", query, key) / np.sqrt(query.shape[-1])
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    x = np.einsum("bhqn,bhnk->bqhk", scores / scores.sum(axis=-1, keepdims=True), value)
    return np.einsum("bqhk,hkd->bqd", x, a[f"{name}/out/kernel"]) + a[f"{name}/out/bias"]


def mlp(a, name, x):
    x = x @ a[f"{name}/Dense_0/kernel"] + a[f"{name}/Dense_0/bias"]
    x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x @ a[f"{name}/Dense_1/kernel"] + a[f"{name}/Dense_1/bias"]


def sincos(rows, columns, width, temperature=10_000.0):
    """big_vision's posemb_sincos_2d"""
    y, x = np.mgrid[:rows, :columns]
    omega = 1.0 / temperature ** (np.arange(width // 4) / (width // 4 - 1))
    y, x = np.outer(y.ravel(), omega), np.outer(x.ravel(), omega)
    return np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)


def resnet(a, x):
    x = np.maximum(group_norm(a, "gn_root", standardized(a["conv_root/kernel"], x, 2)), 0)
    x = max_pool(x)
    stage = 1
    while f"block{stage}/unit1/conv1/kernel" in a:
        unit = 1
        while f"block{stage}/unit{unit}/conv1/kernel" in a:
            name, stride = f"block{stage}/unit{unit}", 2 if stage > 1 and unit == 1 else 1
            shortcut = x
            if unit == 1:
                shortcut = standardized(a[f"{name}/conv_proj/kernel"], x, stride)
                shortcut = group_norm(a, f"{name}/gn_proj", shortcut)
            y = np.maximum(
                group_norm(a, f"{name}/gn1", standardized(a[f"{name}/conv1/kernel"], x)), 0
            )
            y = standardized(a[f"{name}/conv2/kernel"], y, stride)
            y = np.maximum(group_norm(a, f"{name}/gn2", y), 0)
            y = group_norm(a, f"{name}/gn3", standardized(a[f"{name}/conv3/kernel"], y))
            x = np.maximum(shortcut + y, 0)
            unit += 1
        stage += 1
    return x


def standardized(kernel, x, stride=1):
    kernel = kernel - kernel.mean(axis=(0, 1, 2))
    return convolve(x, kernel / (kernel.std(axis=(0, 1, 2)) + 1e-5), stride)


def group_norm(a, name, x, groups=32):
    shape = x.shape
    x = x.reshape(*shape[:3], groups, -1)
    x = x - x.mean(axis=(1, 2, 4), keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=(1, 2, 4), keepdims=True) + EPSILON)
    return x.reshape(shape) * a[f"{name}/scale"] + a[f"{name}/bias"]


def windows(x, side, stride, fill):
    """(batch, rows, columns, side, side, channels), padded as TensorFlow's SAME"""
    pads = []
    for length in x.shape[1:3]:
        total = max((-(-length // stride) - 1) * stride + side - length, 0)
        pads.append((total // 2, total - total // 2))
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))
    return view[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def convolve(x, kernel, stride, padding="same"):
    if padding == "valid":  # patches side by side need no padding
        batch, height, width, channels = x.shape
        side = kernel.shape[0]
        x = x.reshape(batch, height // side, side, width // side, side, channels)
        return np.einsum("brycxi,yxio->brco", x, kernel)
    return np.einsum("brcyxi,yxio->brco", windows(x, kernel.shape[0], stride, 0.0), kernel)


def max_pool(x):
    return windows(x, 3, 2, -np.inf).max(axis=(3, 4))
