"""timm's weights and settings -> timm's ViT in torch, which classifies images of uint8."""

import pathlib

import torch

from benchmarks.import_timm import import_timm

timm = import_timm()


class Classifier(torch.nn.Module):
    """uint8 (batch, height, width, channels) -> probabilities (batch, classes)."""

    def __init__(self, vit: torch.nn.Module) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalises the images and classifies them."""
        images = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        return self.vit(images).softmax(-1)


def load_classifier(folder: pathlib.Path) -> Classifier:
    """Loads a folder that `save_weights` wrote, as timm's own exports build the model."""
    vit = timm.create_model(f"local-dir:{folder}", pretrained=True, exportable=True)
    return Classifier(vit).eval()
