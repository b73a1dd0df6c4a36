"""What a recipe says about augmentation, and the names of augmentations in texts."""

import dataclasses
from collections.abc import Callable, Mapping

from training.augment.batches import AUGMENTATIONS, CROPS, describe
from training.augment.images import IMAGE_AUGMENTATIONS
from training.rules import AT_LEAST_1, check_fields, refuse

# The tables that give the functions of a field their names.
FUNCTIONS: Mapping[str, Mapping[str, Callable]] = {
    "train_crop": CROPS,
    "augment_images": IMAGE_AUGMENTATIONS,
    "augment": AUGMENTATIONS,
}


@dataclasses.dataclass(frozen=True)
class AugmentationOptions:
    """Augmentation of training images, in this order.

    Attributes:
        train_crop: function (image, size, seed) -> image that replaces the resize rule of
            preprocessing in training; None keeps that rule.
        augment_images: functions (image, seed) -> image, applied to each image in turn.
        augment: functions (images, labels, seed) -> (images, labels), applied to each batch in
            turn.
        repeated_augmentation: how many times an image is in a batch, augmented differently each
            time (arXiv:1901.09335). An epoch keeps its length and has that many times fewer
            images.
        progressive_resizing: pairs (fraction of image_size, fraction of the epochs): the run
            starts with smaller images and a model for that size. For training from scratch:
            learned positions are resized at each change.
    """

    train_crop: Callable | None = None
    augment_images: tuple[Callable, ...] = ()
    augment: tuple[Callable, ...] = ()
    repeated_augmentation: int = 1
    progressive_resizing: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, {"repeated_augmentation": AT_LEAST_1})
        pairs = self.progressive_resizing
        valid = all(len(pair) == 2 and min(pair) > 0 for pair in pairs)
        if not (valid and sum(share for _, share in pairs) < 1):
            refuse(
                "progressive_resizing",
                pairs,
                "pairs (fraction of image_size, fraction of the epochs) whose epochs add up to "
                "less than 1",
            )

    def described(self) -> dict[str, object]:
        """The fields as JSON-ready values, with functions by name and arguments."""
        values = dataclasses.asdict(self)
        for field in FUNCTIONS:
            functions = getattr(self, field)
            if isinstance(functions, tuple):
                values[field] = [describe(function) for function in functions]
            else:
                values[field] = describe(functions) if functions else None
        return values
