"""Recipe or model -> the splits of a dataset: training, validation and test Examples."""

import numpy as np

from training.data.datasets import SPLIT_FOLDERS, find_splits
from training.data.examples import split_off
from training.data.preload import read_all
from vit_keras.utils.errors import InputError


def load_evaluation_images(model, data, split=None, data_dir=""):
    """The images to evaluate a model on, with the model's class indices.

    Args:
        model: ViT.
        data, data_dir: as in `find_splits`.
        split: "train", "validation" or "test", or for TFDS any as it spells them; by default the
            first there is of test, validation and train.

    Returns:
        the split's name, or None where all images are one, Examples, and {name: reason} of
        unreadable images that were left out.

    Raises:
        InputError: where that split does not exist, or has classes the model does not know.
    """
    spelled = None
    if split and data.startswith("tfds:"):
        spelled = {split if split in SPLIT_FOLDERS else "test": split}
        split = next(iter(spelled))
    found = find_splits(data, model.config.channels, spelled, data_dir)
    split = split or next(name for name in ("test", "validation", "train") if name in found)
    if split not in found:
        raise InputError(f"{data} has no {split!r} images; it has: {', '.join(found)}.")
    readable, reasons = read_all(with_classes_of(model, found[split](), data))
    return None if list(found) == ["train"] else split, readable, reasons


def with_classes_of(model, examples, data):
    """Examples of `data` whose labels are the model's.

    Raises:
        InputError: where they have classes the model does not know.
    """
    if model.class_names:
        return examples.with_classes(model.class_names)
    if len(examples.class_names) != model.config.num_classes:
        raise InputError(
            f"the model tells {model.config.num_classes} classes apart, {data} has "
            f"{len(examples.class_names)}."
        )
    return examples


def load_splits(recipe):
    """{"train", "validation", perhaps "test": Examples}, of which nothing has been decoded yet."""
    spelled = {
        "train": recipe.train_split,
        "validation": recipe.validation_split,
        "test": recipe.test_split,
    }
    labelled = recipe.pretrain == "none"
    found = find_splits(recipe.data, recipe.channels, spelled, recipe.data_dir, labelled)
    if "train" not in found:
        raise InputError(f"{recipe.data} has no training images; it has: {', '.join(found)}.")
    splits = {split: load() for split, load in found.items()}
    check_classes(splits["train"], recipe)
    if "validation" not in splits:
        splits["train"], splits["validation"] = split_off(
            splits["train"], recipe.validation_fraction, recipe.seed
        )
    return splits


def check_classes(train, recipe):
    if recipe.pretrain != "none":
        return
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    if len(counts) < 2:
        raise InputError(
            f"{recipe.data} has only the class {train.class_names[0]!r}; "
            f"training needs images of two or more."
        )
    if not counts.all():
        raise InputError(
            f"class {train.class_names[counts.argmin()]!r} has no readable training images in "
            f"{recipe.data}. Add some, or remove the class."
        )


def only_readable(splits, recipe, image_size, run):
    """Leaves out unreadable images and lists them; keeps small sets of images in memory.

    Returns:
        the splits, and {name: reason} of what was left out.
    """
    readable, reasons = {}, dict[str, str]()
    for split, examples in splits.items():
        # Only what is read again and again is worth keeping.
        cache_mib = recipe.cache_mib if split == "train" else 0
        side = 2 * max(image_size) if split == "train" else None
        readable[split], found = read_all(examples, cache_mib, side)
        reasons |= found
    if reasons:
        lines = [f"{name}\t{reason}" for name, reason in reasons.items()]
        (run / "unreadable.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        total = sum(map(len, splits.values()))
        first = lines[0].replace("\t", ": ")
        share = f"{len(reasons)} of {total} images cannot be read ({first}"
        share += f", ...); all are listed in {run / 'unreadable.txt'}"
        if len(reasons) > recipe.max_unreadable * total:
            raise InputError(
                f"{share}. That is more than max_unreadable={recipe.max_unreadable}: repair or "
                f"remove them, or allow more with --set max_unreadable=0.5."
            )
        print(f"Warning: {share}. They are left out.", flush=True)
        check_classes(readable["train"], recipe)
    return readable, reasons
