"""Model + image files -> pictures of what it attends to and of what its first layers learned."""

import collections
import pathlib
from collections.abc import Iterable, Sequence

import keras
import numpy as np
from matplotlib.figure import Figure

from training.data.image_files import decode, find_images
from training.reports.figures import escape_math, image_grid, save
from vit_keras.explain import attention_maps, attention_rollout, patch_filters, position_similarity
from vit_keras.model import ViT

COLORMAP = "inferno"  # of attention
COLUMNS = 4  # images in a row of overlays
MAX_POSITIONS = 8  # down and across


def explain_images(
    model: ViT, patterns: Iterable[str], out: pathlib.Path, fusion: str = "mean"
) -> None:
    """Writes pictures of what a model attends to into a folder, and prints their paths.

    For each image, NAME-rollout.png draws how much each patch counts in the answer over the image
    as the model sees it, and NAME-heads.png what the token that is read attends to in every block
    and head. For the model, positions.png and, where patches of pixels are projected, filters.png
    are those of figure 7 of arXiv:2010.11929.

    Args:
        model: ViT with classes.
        patterns: image files, folders or globs.
        out: path of the folder.
        fusion: of the heads, for the rollout: "mean", "max" or "min".

    Raises:
        InputError: if there is no image, if one cannot be read, or if the model merges tokens.
    """
    paths = [path for pattern in patterns for path in find_images(pattern)]
    images = [
        np.asarray(model.preprocessing.to_size(decode(path, model.config.channels)))[np.newaxis]
        for path in paths
    ]
    for name, image in zip(_unique_stems(paths), images, strict=True):
        _save(overlays(model, image, fusion), out / f"{name}-rollout.png")
        _save(heads(model, image), out / f"{name}-heads.png")
    _save(positions(model), out / "positions.png")
    if model.config.stem in ("patches", "shifted_patches"):
        _save(filters(model), out / "filters.png")


def _save(figure: Figure, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)
    print(path, flush=True)


def _unique_stems(paths: Iterable[str]) -> list[str]:
    """File names without suffixes; the second photo is named photo-2."""
    counts: collections.Counter[str] = collections.Counter()
    names = []
    for path in paths:
        stem = pathlib.Path(path).stem
        counts[stem] += 1
        names.append(stem if counts[stem] == 1 else f"{stem}-{counts[stem]}")
    return names


def overlays(
    model: ViT, images: np.ndarray, fusion: str = "mean", classes: Sequence[str] = ()
) -> Figure:
    """Draws how much each patch of an image counts in the model's answer, next to the image.

    Args:
        model: ViT with classes.
        images: (count, height, width, channels), 0..255, of the model's size.
        fusion: of the heads, as in `attention_rollout`.
        classes: true class names of the images, where they are known.
    """
    normalised = model.preprocessing.normalise(images)
    maps = keras.ops.convert_to_numpy(attention_rollout(model, normalised, fusion))
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model(normalised)))
    names = escape_math(model.class_names or map(str, range(probabilities.shape[1])))
    answers = [f"{names[row.argmax()]}, {row.max():.0%}" for row in probabilities]
    truths = [f"is: {name}" for name in escape_math(classes)] or [""] * len(answers)
    height, width = images.shape[1:3]
    figure = image_grid(
        [_displayed(image) for image in images for _ in range(2)],
        2 * min(COLUMNS, len(images)),
        (2.2, 0.4 + 2.2 * height / width),
        titles=[title for pair in zip(answers, truths, strict=True) for title in pair],
        font_size=9,
    )
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    for axes, relevance in zip(figure.axes[1::2], maps, strict=False):
        axes.imshow(relevance, COLORMAP, alpha=0.6, extent=extent, interpolation="bilinear")
    return figure


def heads(model: ViT, image: np.ndarray) -> Figure:
    """Draws what the token that is read attends to, a row for each block, a column for each head.

    That is the [CLS] token, or the mean of the patches in models that do not read one.

    Args:
        model: ViT.
        image: (1, height, width, channels), 0..255, of the model's size.
    """
    config = model.config
    prefix = config.prefix_count
    queries = slice(1) if config.pooling == "cls" else slice(prefix, None)
    images = []
    for weights in attention_maps(model, model.preprocessing.normalise(image)):
        # (1, heads, queries, keys) -> (heads, patches)
        mean = keras.ops.convert_to_numpy(weights)[0, :, queries, prefix:].mean(axis=1)
        images += [head.reshape(config.grid) for head in mean]
    return image_grid(
        images,
        config.block.heads,
        (1, 1),
        margin=(1, 0.6),
        titles=[f"head {head}" for head in range(config.block.heads)],
        row_labels=[f"block {block}" for block in range(config.depth)],
        font_size=7,
        frames=True,
        cmap=COLORMAP,
        vmin=None,
        vmax=None,
    )


def positions(model: ViT) -> Figure:
    """Draws cosines between positions: for some patches a map of all, at the patch's place."""
    similarity = position_similarity(model)
    rows, columns = (
        np.unique(np.linspace(0, side - 1, MAX_POSITIONS).round().astype(int))
        for side in similarity.shape[:2]
    )
    figure = image_grid(
        [similarity[row, column] for row in rows for column in columns],
        len(columns),
        (1, 1),
        margin=(1, 0),
        frames=True,
        cmap="viridis",
        vmin=-1,
    )
    drawn = figure.axes[-1].images[0]
    figure.colorbar(drawn, ax=figure.axes, label="cosine of the positions")
    return figure


def filters(model: ViT) -> Figure:
    """Draws the first principal components of the patch projection's filters."""
    components = patch_filters(model)
    images = [_displayed(127.5 + 127.5 * filter / np.abs(filter).max()) for filter in components]
    return image_grid(images, 7, (1, 1))


def _displayed(image: np.ndarray) -> np.ndarray:
    """(height, width, channels) of 0..255 -> the same of 0..1."""
    return np.clip(image / 255, 0, 1)
