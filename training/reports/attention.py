"""Model + image files -> pictures of what it attends to and of what its first layers learned."""

import collections
import pathlib

import keras
import numpy as np
from matplotlib.figure import Figure

from training.data.image_files import decode, find_images
from training.reports.figures import plain, save
from vit_keras.explain import attention_maps, attention_rollout, patch_filters, position_similarity

COLOURS = "inferno"
COLUMNS = 4  # images in a row of overlays
SAMPLED = 8  # positions down and across, at the most
UPSAMPLED = {"interpolation": "bilinear", "cmap": COLOURS}


def explain(model, patterns, out, fusion="mean"):
    """Writes pictures into a folder, and prints their paths.

    For each image NAME-rollout.png, how much each patch counts in the answer, drawn over what the
    model sees of the image, and NAME-heads.png, what the token that is read attends to in every
    block and head. For the model positions.png and, where patches of pixels are projected,
    filters.png, after figure 7 of arXiv:2010.11929.

    Args:
        model: ViT with classes.
        patterns: image files, folders or globs.
        out: path of the folder.
        fusion: of the heads, for the rollout: "mean", "max" or "min".

    Raises:
        InputError: where there is no image, or one cannot be read, and for a model that merges
            tokens.
    """
    paths = [path for pattern in patterns for path in find_images(pattern)]
    images = [
        np.asarray(model.preprocessing.to_size(decode(path, model.config.channels)))[np.newaxis]
        for path in paths
    ]
    for name, image in zip(_names(paths), images, strict=True):
        _save(overlays(model, image, fusion), out / f"{name}-rollout.png")
        _save(heads(model, image), out / f"{name}-heads.png")
    _save(positions(model), out / "positions.png")
    if model.config.stem in ("patches", "shifted_patches"):
        _save(filters(model), out / "filters.png")


def _save(figure, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)
    print(path, flush=True)


def _names(paths):
    """Stems of the paths, numbered where they are alike"""
    seen: collections.Counter[str] = collections.Counter()
    names = []
    for path in paths:
        stem = pathlib.Path(path).stem
        seen[stem] += 1
        names.append(stem if seen[stem] == 1 else f"{stem}-{seen[stem]}")
    return names


def overlays(model, images, fusion="mean", classes=()):
    """Images, and how much each of their patches counts in the model's answer -> Figure

    Args:
        model: ViT with classes.
        images: (count, height, width, channels), 0..255, of the model's size.
        fusion: as in `attention_rollout`.
        classes: the names of theirs, where somebody knows them.
    """
    normalised = model.preprocessing.normalise(images)
    maps = keras.ops.convert_to_numpy(attention_rollout(model, normalised, fusion))
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model(normalised)))
    names = plain(model.class_names or map(str, range(probabilities.shape[1])))
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    height, width = images.shape[1:3]
    figure = Figure(
        figsize=(4.4 * columns, rows * (0.4 + 2.2 * height / width)), layout="constrained"
    )
    grid = figure.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    pairs = grid.reshape(-1, 2)
    for (plainly, over), image, found, answer in zip(
        pairs, images, maps, probabilities, strict=False
    ):
        _show(plainly, image)
        _show(over, image)
        over.imshow(found, alpha=0.6, extent=(-0.5, width - 0.5, height - 0.5, -0.5), **UPSAMPLED)
        best = answer.argmax()
        plainly.set_title(f"{names[best]}, {answer[best]:.0%}", fontsize=9)
    for (_, over), name in zip(pairs, plain(classes), strict=False):
        over.set_title(f"is: {name}", fontsize=9)
    return figure


def heads(model, image):
    """What the token that is read attends to, block by block and head by head -> Figure

    That is the [CLS] token, or the mean of the patches where there is none that is read.

    Args:
        model: ViT.
        image: (1, height, width, channels), 0..255, of the model's size.
    """
    config = model.config
    prefix = sum(config.prefix_tokens.values())
    maps = attention_maps(model, model.preprocessing.normalise(image))
    figure = Figure(figsize=(1 + config.heads, 0.6 + config.depth), layout="constrained")
    grid = figure.subplots(config.depth, config.heads, squeeze=False)
    for block, (line, weights) in enumerate(zip(grid, maps, strict=True)):
        reading = slice(1) if config.pooling == "cls" else slice(prefix, None)
        read = keras.ops.convert_to_numpy(weights)[0, :, reading, prefix:].mean(axis=1)
        for axes, head in zip(line, read, strict=True):
            axes.imshow(head.reshape(config.grid), cmap=COLOURS)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"block {block}", fontsize=7)
    for head, axes in enumerate(grid[0]):
        axes.set_title(f"head {head}", fontsize=7)
    return figure


def positions(model):
    """Cosines between positions: one map for each of some patches, where the patch is -> Figure"""
    similarity = position_similarity(model)
    rows, columns = (
        np.unique(np.linspace(0, side - 1, SAMPLED).round().astype(int))
        for side in similarity.shape[:2]
    )
    figure = Figure(figsize=(1 + len(columns), len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        for axes, column in zip(line, columns, strict=True):
            drawn = axes.imshow(similarity[row, column], vmin=-1, vmax=1)
            axes.set(xticks=[], yticks=[])
    figure.colorbar(drawn, ax=grid, label="cosine of the positions")
    return figure


def filters(model):
    """The first principal components of the patch projection's filters -> Figure"""
    components = patch_filters(model)
    columns = 7
    rows = -(-len(components) // columns)
    figure = Figure(figsize=(columns, rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, component in zip(grid, components, strict=False):
        _show(axes, 127.5 + 127.5 * component / np.abs(component).max())
    return figure


def _show(axes, image):
    """(height, width, channels), 0..255"""
    axes.imshow(np.clip(image / 255, 0, 1), cmap="gray", vmin=0, vmax=1)
