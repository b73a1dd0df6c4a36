"""Masked model + images -> a sheet of what was hidden from it, and what it filled in."""

import keras
import numpy as np
from matplotlib.figure import Figure

from training.reports.figures import save
from vit_keras.layers.embedding import Patches
from vit_keras.tasks.masked import MaskedAutoencoder, Unpatch, patch_moments

SHEET = 8  # images


class DrawSheets(keras.callbacks.Callback):
    """Writes folder/epoch-010.png and so on while a masked model is trained.

    Args:
        model: MaskedAutoencoder or MaskedImageModel with the weights that are trained.
        inputs: a batch as `masked_batches` gives it, of images the model is not trained on.
        folder: path.
        every: epochs between two sheets.
    """

    def __init__(self, model, inputs, folder, every):
        super().__init__()
        self.inpainter = model
        self.inputs = inputs
        self.folder = folder
        self.every = every

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0:
            self.folder.mkdir(exist_ok=True)
            save(sheet(self.inpainter, self.inputs), self.folder / f"epoch-{epoch + 1:03}.png")


def sheet(model, inputs):
    """Images, the same without what was hidden, and with what the model put there -> Figure"""
    rows = {
        "original": np.asarray(inputs["images"][:SHEET]),
        **inpaint(model, {name: array[:SHEET] for name, array in inputs.items()}),
    }
    images = rows["original"]
    height, width = images.shape[1:3]
    figure = Figure(figsize=(1.6 * len(images), 5 * height / width), layout="constrained")
    grid = figure.subplots(3, len(images), squeeze=False)
    settings = model.preprocessing
    for line, (title, found) in zip(grid, rows.items(), strict=True):
        for axes, image in zip(line, found, strict=True):
            axes.imshow((image * settings.std + settings.mean).clip(0, 1), "gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(title, fontsize=8)
    return figure


def inpaint(model, inputs):
    """What a masked model makes of images.

    Where a model predicts patches less their mean and over their deviation, both are taken from
    the hidden patch itself: details are the model's, brightness and contrast are given.

    Args:
        model: MaskedAutoencoder or MaskedImageModel.
        inputs: a batch for it.

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
    whole = Unpatch((rows, columns), size, dtype="float32")
    return {
        "masked": np.asarray(whole(np.where(hidden, 0, patches))),
        "filled in": np.asarray(whole(np.where(hidden, predicted, patches))),
    }
