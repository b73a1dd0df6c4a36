"""A recipe's name and `key=value` overrides -> Recipe: every number of a training run."""

import ast
import dataclasses
import importlib
import json
import math
import pathlib
import re
import typing
from collections.abc import Callable

import pydantic

from training.augment import batches as augmentations
from training.augment.images import IMAGE_AUGMENTATIONS
from training.model.losses import LOSSES
from training.model.optimizer import DECAYS, OPTIMIZERS
from vit_keras.config import ViTConfig
from vit_keras.tasks.distillation import DISTILLATIONS
from vit_keras.tasks.masked import DecoderConfig
from vit_keras.utils.errors import InputError, did_you_mean

FOLDER = pathlib.Path(__file__).with_name("recipes")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every number of a run; one of these stands in each file of training/recipes/.

    Data
        data: `fashion_mini`, `fashion_mnist`, `tfds:NAME`, or a folder of images; empty where
            the command line has to name it.
        data_dir: where TFDS keeps prepared data, or the folder of Fashion-MNIST's idx files.
        train_split, validation_split, test_split: as TFDS spells them, such as "train[:90%]".
        validation_fraction: of the training images, stratified, where no such split exists.
        max_unreadable: fraction of unreadable image files above which a run does not start.
        cache_mib: MiB of memory for decoded training images, shrunk to at most twice the model's
            size, and again for validation images at the model's size; a set that does not fit is
            decoded anew each epoch.
        balance: for classes of unequal size: "sampling" draws every class equally often,
            "weights" weighs the loss of an image by how rare its class is, "none" does nothing.
    Model
        weights: what to start from, a source as `vit_keras.from_weights` takes it; the model is
            then the one the weights tell, with a new head, and `variant` is not looked at.
        tune: what of the model is trained: "full"; "last-N-blocks", those and all behind them;
            "lora-R", additions of rank R to the matrices of all blocks, and the head; "head", by
            logistic regression on features that are computed once, which needs nothing of what
            is said of augmentation and optimisation below.
        head_first: whether the head starts as "head" would train it (arXiv:2202.10054): a new one
            sends noise into the layers below it.
        variant, image_size, channels: as in `vit_keras.build_vit`; image_size 0 is that of the
            weights.
        model: further fields of ViTConfig.
        resize, crop_fraction, interpolation, mean, std: the model's Preprocessing; mean and std
            are fractions of 255, for all channels alike or one number each. None: that of the
            weights, or "crop", 1.0, "bilinear", 0.5 and 0.5.
    Objective: by default, to tell the classes apart
        pretrain: "mae" or "mim", to fill in hidden patches (arXiv:2111.06377, arXiv:2111.09886),
            for which images need no labels; "none".
        mask_ratio: fraction of the patches that are hidden.
        mask_unit: patches, the side of the squares that are hidden or shown as a whole; "mae",
            which hides as many patches in every image, cuts one of them.
        decoder: further fields of the DecoderConfig, of "mae" alone.
        sheet_every: epochs between two sheets of filled-in images.
        teacher: a model to learn from as well (DeiT, arXiv:2012.12877): a .keras file, a run
            folder, a SavedModel, or what `weights` may be.
        distillation: what is learned from it: "hard", the class it decides for; "soft", its
            probabilities; "none".
        teacher_share: of the teacher's loss in the whole; the paper's is 0.5 for "hard", 0.1 for
            "soft".
        temperature: of "soft".
        teacher_mean, teacher_std: what the teacher's input is normalised by, where it does not say;
            those of the model by default.
        teacher_cache: whether the teacher is asked once about each image, as it is without
            augmentation, and not about every augmented one; MixUp and CutMix mix its answers.
    Augmentation, of training images only, in this order
        train_crop: (image, size, seed) -> image, in place of the resize rule above; None keeps it.
        augment_images: (image, seed) -> image, applied to each image in turn.
        augment: (images, labels, seed) -> (images, labels), applied to each batch in turn.
        repeats: how many times an image stands in a batch, augmented differently
            (arXiv:1901.09335); an epoch keeps its length, and has as many times fewer images.
        smaller_first: (fraction of image_size, fraction of the epochs) in turn: the run starts
            with images, and a model, that much smaller. For training from scratch: learned
            positions are resized each time.
    Optimisation
        epochs, warmup_epochs: passes over the training images; the warm-up rises linearly, for
            half of the run at the most.
        steps: batches of the whole run, rounded to alike epochs, in place of `epochs`; 0 for none.
        batch_size: images a step.
        accumulate: steps whose gradients make one change of the weights.
        optimizer: "adamw", "lamb", "lion", "muon" or "sgd".
        learning_rate: at the end of the warm-up.
        schedule: "cosine" or "linear" to 0 after the warm-up, or "constant".
        layer_decay: factor of the learning rate from each block to the one before it.
        weight_decay: on kernels only, times the learning rate.
        beta_2: of AdamW, LAMB and what Muon leaves to AdamW.
        momentum: of SGD.
        clip_norm: global norm the gradients are clipped to; 0 for no clipping.
        loss: "softmax" cross-entropy; "sigmoid", the binary one of every class, summed; or
            "sigmoid-any", its mean, where a class mixed into an image counts as wholly there
            (DeiT III).
        label_smoothing: fraction of the target spread over all classes, in training.
        ema: momentum, for each step, of the moving average of the weights which is evaluated and
            saved; 0 for none.
        validate_every: epochs between two validations.
    Execution
        seed: of everything random in the run.
        jit: compile the step with XLA.
        mixed_precision: the Keras dtype policy, "float32", "mixed_bfloat16" or "mixed_float16".
        steps_per_execution: steps run in one call of the compiled function, as far as it divides
            the steps of an epoch.
        checkpoint_every: seconds between two checkpoints that a run can go on from.
    """

    data: str = "fashion_mini"
    data_dir: str = ""
    train_split: str = "train"
    validation_split: str = ""
    test_split: str = ""
    validation_fraction: float = 0.1
    max_unreadable: float = 0.05
    cache_mib: int = 1024
    balance: str = "none"

    weights: str = ""
    tune: str = "full"
    head_first: bool = False
    variant: str = "vit_ti16"
    image_size: int | tuple[int, int] = 224
    channels: int = 3
    model: dict[str, object] = dataclasses.field(default_factory=dict)
    resize: str | None = None
    crop_fraction: float | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    pretrain: str = "none"
    mask_ratio: float = 0.75
    mask_unit: int = 1
    decoder: dict[str, object] = dataclasses.field(default_factory=dict)
    sheet_every: int = 10
    teacher: str = ""
    distillation: str = "none"
    teacher_share: float = 0.5
    temperature: float = 3.0
    teacher_mean: tuple[float, ...] = ()
    teacher_std: tuple[float, ...] = ()
    teacher_cache: bool = False

    train_crop: Callable | None = None
    augment_images: tuple[Callable, ...] = ()
    augment: tuple[Callable, ...] = ()
    repeats: int = 1
    smaller_first: tuple[tuple[float, float], ...] = ()

    epochs: int = 100
    warmup_epochs: float = 5
    steps: int = 0
    batch_size: int = 128
    accumulate: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    beta_2: float = 0.999
    momentum: float = 0.9
    clip_norm: float = 1.0
    loss: str = "softmax"
    label_smoothing: float = 0.1
    ema: float = 0.0
    validate_every: int = 1

    seed: int = 0
    jit: bool = True
    mixed_precision: str = "float32"
    steps_per_execution: int = 1
    checkpoint_every: float = 60

    def __post_init__(self):
        for field, value in vars(self).items():
            _check(field, value, not isinstance(value, float) or math.isfinite(value), "finite")
        for field in (
            *("epochs", "batch_size", "validate_every", "steps_per_execution"),
            *("accumulate", "repeats", "mask_unit", "sheet_every"),
        ):
            _check(field, getattr(self, field), getattr(self, field) >= 1, "at least 1")
        for field in (
            *("warmup_epochs", "weight_decay", "clip_norm", "cache_mib", "steps"),
            "checkpoint_every",
        ):
            _check(field, getattr(self, field), getattr(self, field) >= 0, "0 or more")
        for field in ("label_smoothing", "ema", "beta_2", "momentum", "max_unreadable"):
            _check(field, getattr(self, field), 0 <= getattr(self, field) < 1, "in [0, 1)")
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            _check(field, value, value in choices, f"one of {', '.join(choices)}")
        for field in ("mask_ratio", "teacher_share"):
            _check(field, getattr(self, field), 0 < getattr(self, field) < 1, "in (0, 1)")
        _check("temperature", self.temperature, self.temperature > 0, "above 0")
        _check("learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        _check("layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "in (0, 1]")
        inside = 0 < self.validation_fraction < 1
        _check("validation_fraction", self.validation_fraction, inside, "in (0, 1)")
        _check("seed", self.seed, 0 <= self.seed < 2**31, "in [0, 2**31)")
        _check("channels", self.channels, self.channels in (1, 3), "1 (grey) or 3 (RGB)")
        known = bool(re.fullmatch(r"full|head|lora-[1-9]\d*|last-[1-9]\d*-blocks", self.tune))
        _check("tune", self.tune, known, "full, head, lora-8 or last-2-blocks, with any number")
        alone = self.tune.startswith("lora") and self.smaller_first
        _check("tune", self.tune, not alone, "without LoRA where smaller_first is given")
        sound = all(len(phase) == 2 and min(phase) > 0 for phase in self.smaller_first)
        sound = sound and sum(share for _, share in self.smaller_first) < 1
        rule = "pairs (fraction of image_size, fraction of the epochs), the latter below 1 in all"
        _check("smaller_first", self.smaller_first, sound, rule)
        whole = not (self.loss == "sigmoid-any" and self.label_smoothing)
        _check("loss", self.loss, whole, "another one where labels are smoothed")
        probed = self.tune == "head" and self.distillation != "none"
        _check("tune", self.tune, not probed, "other than the head alone where there is a teacher")
        for field in _NOT_IN_PRETRAINING if self.pretrain != "none" else ():
            value = getattr(self, field)
            usual = value == type(self).__dataclass_fields__[field].default
            _check(field, value, usual, f"left as it is where pretrain={self.pretrain!r}")

    def as_dict(self):
        """The recipe as JSON-ready values; functions by name, with their arguments."""
        values = dataclasses.asdict(self)
        crop = self.train_crop
        values["train_crop"] = augmentations.describe(crop) if crop else None
        for field in ("augment_images", "augment"):
            values[field] = [augmentations.describe(function) for function in getattr(self, field)]
        return values


def load_recipe(name, overrides=()) -> Recipe:
    """Loads training/recipes/NAME.py and replaces fields.

    Args:
        name: a recipe's name.
        overrides: strings "field=value"; "model.field=value" reaches into the ViTConfig,
            "decoder.field=value" into the DecoderConfig.

    Raises:
        InputError: unknown recipe or field (with the nearest names), or a value of the wrong type.
    """
    if name not in recipe_names():
        raise InputError(f"no recipe is called {name!r}{did_you_mean(name, recipe_names())}")
    recipe = importlib.import_module(f"training.recipes.{name}").RECIPE
    changes = {part: dict(getattr(recipe, part)) for part in _PARTS}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"--set needs key=value. Got {override!r}.")
        part, dot, field = key.partition(".")
        if not (dot and part in _PARTS):
            changes[key] = parse_value(key, text, typing.get_type_hints(Recipe))
            continue
        config, elsewhere = _PARTS[part]
        if field in elsewhere:
            raise InputError(
                f"{key} is decided elsewhere: image_size, channels and mask_ratio are fields of "
                f"the recipe, and the classes those of the data. Got {override!r}."
            )
        changes[part][field] = parse_value(field, text, typing.get_type_hints(config))
    return dataclasses.replace(recipe, **changes)


def read_recipe(path) -> Recipe:
    """The Recipe in a run folder's config.json.

    Raises:
        InputError: for a file that is none, or names what this version does not have.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"{path.parent} is no run folder: it has no {path.name}.")
    types = typing.get_type_hints(Recipe)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["recipe"]
        for field, value in values.items():
            if field in _AUGMENTATIONS:
                table = _AUGMENTATIONS[field]
                values[field] = tuple(augmentations.by_name(text, table) for text in value)
            elif field in _PARTS:
                lists = {key: one for key, one in value.items() if isinstance(one, list)}
                values[field] = value | {key: tuple(one) for key, one in lists.items()}
            elif field == "train_crop":
                values[field] = value and augmentations.by_name(value, augmentations.CROPS)
            else:
                values[field] = pydantic.TypeAdapter(types[field]).validate_python(value)
        return Recipe(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} has no recipe that can be run: {error}.") from None


def recipe_names():
    """Names of the files in training/recipes/."""
    return sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "__init__")


def parse_value(key, text, types):
    """'0.5' -> 0.5, by the type of the field `key`; augmentations go by name, as in
    'flip,shift(pixels=2)'.

    Raises:
        InputError: for an unknown field, or a text that is no value of its type.
    """
    if key in _PARTS:
        raise InputError(f"{key} is set field by field, as in {key}.width=96. Got {key}={text!r}.")
    if key not in types:
        raise InputError(f"no field is called {key!r}{did_you_mean(key, types)}")
    wanted = types[key]
    if wanted is str or (wanted == str | None and text != "none"):
        return text
    if key == "train_crop":
        return None if text == "none" else augmentations.by_name(text, augmentations.CROPS)
    if key in _AUGMENTATIONS:
        names = [] if text == "none" else _split_calls(text)
        return tuple(augmentations.by_name(name, _AUGMENTATIONS[key]) for name in names)
    try:
        value = ast.literal_eval(_SPELLINGS.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if key == "smaller_first":
        pairs = value or ()
        one = isinstance(pairs, tuple) and pairs and not isinstance(pairs[0], tuple)
        value = (pairs,) if one else pairs
    if wanted in (tuple[float, ...], tuple[float, ...] | None) and isinstance(value, int | float):
        value = (value,)
    try:
        return pydantic.TypeAdapter(wanted).validate_python(value, strict=True)
    except pydantic.ValidationError:
        name = wanted.__name__ if isinstance(wanted, type) else str(wanted)
        raise InputError(f"{key} must be of type {name}. Got {key}={text!r}.") from None


def _split_calls(text):
    """'f(a=1, b=2), g' -> ['f(a=1, b=2)', 'g']; what is not Python is left to whoever reads it"""
    try:
        found = ast.parse(f"[{text}]", mode="eval").body
        return [ast.unparse(one) for one in getattr(found, "elts", [])]
    except SyntaxError:
        return text.split(",")


_SPELLINGS = {"true": "True", "false": "False", "none": "None"}
_PARTS: dict[str, tuple] = {  # a field: the class of its fields, and those decided elsewhere
    "model": (ViTConfig, ("image_size", "channels", "num_classes")),
    "decoder": (DecoderConfig, ("mask_ratio",)),
}
_NOT_IN_PRETRAINING = ("weights", "tune", "head_first", "distillation", "balance", "smaller_first")
_AUGMENTATIONS = {
    "augment_images": IMAGE_AUGMENTATIONS,
    "augment": augmentations.AUGMENTATIONS,
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "pretrain": ("none", "mae", "mim"),
    "distillation": ("none", *DISTILLATIONS),
    "balance": ("none", "sampling", "weights"),
    "optimizer": tuple(OPTIMIZERS),
    "schedule": tuple(DECAYS),
    "loss": tuple(LOSSES),
    "mixed_precision": ("float32", "mixed_bfloat16", "mixed_float16"),
}


def _check(field, value, passed, rule):
    if not passed:
        raise InputError(f"{field} must be {rule}. Got {field}={value!r}.")
