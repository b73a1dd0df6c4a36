"""Masked model + images -> pictures of hidden patches and of what the model fills in."""

import pathlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from training.reports.figures import image_grid, save
from vit_keras import MaskedAutoencoder, Patches, ViT
from vit_keras.tasks.masked import Unpatch, patch_moments

SHEET = 8  # images


class DrawReconstructions(keras.callbacks.Callback):
    """Writes FOLDER/epoch-010.png and so on while a masked model is trained.

    Args:
        model: MaskedAutoencoder or MaskedImageModel with the weights that are trained.
        inputs: a batch for the model, of images it is not trained on.
        folder: path.
        every: epochs between two pictures.
    """

    def __init__(
        self, model: ViT, inputs: Mapping[str, Any], folder: pathlib.Path, every: int
    ) -> None:
        super().__init__()
        self.masked_model = model
        self.inputs = inputs
        self.folder = folder
        self.every = every

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self.every == 0:
            self.folder.mkdir(exist_ok=True)
            figure = reconstructions(self.masked_model, self.inputs)
            save(figure, self.folder / f"epoch-{epoch + 1:03}.png")


def reconstructions(model: ViT, inputs: Mapping[str, Any]) -> Figure:
    """Draws images, their visible patches, and the images with hidden patches filled in.

    Args:
        model: MaskedAutoencoder or MaskedImageModel.
        inputs: a batch for the model.
    """
    rows = {
        "original": np.asarray(inputs["images"][:SHEET]),
        **inpaint(model, {name: array[:SHEET] for name, array in inputs.items()}),
    }
    mean, std = model.preprocessing.mean, model.preprocessing.std
    images = [(image * std + mean).clip(0, 1) for row in rows.values() for image in row]
    count = len(rows["original"])
    height, width = rows["original"].shape[1:3]
    cell = (1.6, 5 / 3 * height / width)
    return image_grid(images, count, cell, row_labels=rows, font_size=8, frames=True)


def inpaint(model: ViT, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Fills in the hidden patches of images.

    Where a model predicts patches normalised by their mean and deviation, both are taken from the
    hidden patch itself: details are the model's, brightness and contrast the original's.

    Args:
        model: MaskedAutoencoder or MaskedImageModel.
        inputs: a batch for the model.

    Returns:
        {"masked": images with grey patches, "filled in": with the model's}, normalised,
        (batch, height, width, channels).
    """
    size, (rows, columns) = model.config.patch_size, model.config.grid
    cut = Patches(size, dtype="float32")
    patches = np.asarray(cut(inputs["images"]))
    answer = model.predict_on_batch(inputs)
    if isinstance(model, MaskedAutoencoder):
        predicted, hidden = answer["prediction"], answer["mask"]
        if model.decoder.normalised:
            mean, deviation = map(np.asarray, patch_moments(patches))
            predicted = predicted * deviation + mean
    else:
        predicted, hidden = np.asarray(cut(answer)), inputs["masked"]
    hidden = np.asarray(hidden)[..., np.newaxis] == 1
    join = Unpatch((rows, columns), size, dtype="float32")
    return {
        "masked": np.asarray(join(np.where(hidden, 0, patches))),
        "filled in": np.asarray(join(np.where(hidden, predicted, patches))),
    }
