"""Weights from anywhere -> a Keras model that computes what the original computes."""

import dataclasses
import logging
import pathlib
import re

import numpy as np

from vit_keras.config import ViTConfig, as_image_size
from vit_keras.errors import InputError
from vit_keras.masked import DecoderConfig, MaskedAutoencoder, build_mae, build_mim
from vit_keras.model import ViT, build_vit, get_config, load_model
from vit_keras.positions import resize_patches, resize_positions
from vit_keras.preprocessing import Preprocessing
from vit_keras.weights.checkpoint import read_checkpoint, shortened
from vit_keras.weights.facebook import FACEBOOK
from vit_keras.weights.family import Family
from vit_keras.weights.google import GOOGLE
from vit_keras.weights.huggingface import HUGGINGFACE
from vit_keras.weights.infer import infer_config, infer_decoder
from vit_keras.weights.names import PATCH_KERNEL, POSITIONS, Shape, theirs_of, to_ours
from vit_keras.weights.sources import fetch
from vit_keras.weights.timm import TIMM

logger = logging.getLogger("vit_keras")

# In this order: Facebook's names are timm's, and some more.
FAMILIES = (GOOGLE, HUGGINGFACE, FACEBOOK, TIMM)
_HEAD = re.compile(r"(head|head_dist|pre_logits|pre_logits_dist)/")
_DECODER = re.compile(r"(decoder_\w+|fill_in|reconstruction)/|patch_encoder/mask$")


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did.

    Attributes:
        source: where the weights came from.
        family: "google", "timm", "huggingface", "facebook" or "keras".
        loaded: number of variables set.
        changed: sentences about what was resized, replaced or assumed.
        left_out: {name: why}, arrays of the checkpoint that no model here has.
    """

    source: str
    family: str
    loaded: int
    changed: tuple[str, ...] = ()
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def __str__(self):
        lines = [f"{self.loaded} variables from {self.source} ({self.family})", *self.changed]
        if self.left_out:
            lines.append(f"left out: {shortened(self.left_out)}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class _Weights:
    """A checkpoint of any family, under our names."""

    source: str
    family: str
    rows: tuple
    ours: dict[str, np.ndarray]
    unknown: tuple[str, ...]  # their names that no row knows
    config: ViTConfig
    decoder: DecoderConfig | None
    preprocessing: dict
    class_names: tuple[str, ...]
    patch_resize: str
    left_out: dict[str, str]
    assumed: tuple[str, ...]


def from_weights(
    source,
    num_classes=None,
    image_size=None,
    *,
    weights_image_size=None,
    sha256=None,
    name=None,
    **overrides,
) -> ViT:
    """Builds the model that a checkpoint's names, shapes and settings tell, with its weights.

    Args:
        source: a path, an https:// address, hf://owner/name[@revision], or a row of
            `vit_keras.PUBLISHED`. Google's and big_vision's .npz, timm's, Hugging Face's and
            Facebook's files and folders, or a .keras file of this project.
        num_classes: another number than the checkpoint's replaces its head by a new one, which is
            to be trained; None keeps the head. 0 gives features, the pooled token.
        image_size: pixels, an int or (height, width); positions are resized by the rule of the
            checkpoint's family. None keeps its own.
        weights_image_size: the image size of the checkpoint, for one whose grid of patches is not
            square and which does not tell.
        sha256: expected of the file at an https:// address.
        name: of the model.
        **overrides: fields of ViTConfig: dropout, stochastic_depth, patch_size (the patch kernel
            is resampled), or what a checkpoint cannot tell (heads, gelu).

    Returns:
        ViT with the checkpoint's preprocessing and class names; for masked pre-training
        checkpoints without num_classes a MaskedAutoencoder or MaskedImageModel.

    Raises:
        InputError: for a source that is not there or broken, for a checkpoint that is not whole or
            not a ViT (missing and unused names are listed), and for what it cannot tell.
    """
    weights = _read(source, sha256, image_size, weights_image_size, overrides)
    wanted = dict(overrides)
    if image_size is not None:
        wanted["image_size"] = image_size
    elif "patch_size" in overrides:
        grid, patch_size = weights.config.grid, overrides["patch_size"]
        wanted["image_size"] = tuple(side * patch_size for side in grid)
    replace_head = num_classes is not None and num_classes != weights.config.num_classes
    if replace_head:
        wanted.update(num_classes=num_classes, head_width=0)
    config = dataclasses.replace(weights.config, **wanted)
    preprocessing = Preprocessing(config.image_size, **_fit_channels(weights, config))
    build = build_vit
    options: dict = {"preprocessing": preprocessing, "name": name or pathlib.Path(str(source)).stem}
    if num_classes is None and weights.decoder is not None:
        build, options["decoder"] = build_mae, weights.decoder
    elif num_classes is None and "reconstruction/kernel" in weights.ours:
        build = build_mim
    elif not replace_head and len(weights.class_names) == config.num_classes:
        options["class_names"] = weights.class_names
    options["name"] = re.sub(r"[^A-Za-z0-9_.-]", "_", options["name"])
    model = build(config, **options)
    report = _assign(model, weights, replace_head)
    for sentence in report.changed:
        logger.warning("%s: %s", report.source, sentence)
    return model


def load_weights(
    model, source, *, replace_head=False, weights_image_size=None, sha256=None
) -> LoadReport:
    """Sets all weights of a model from a checkpoint; nothing is set if anything does not fit.

    Args:
        model: made by `vit_keras.build_vit`, of the checkpoint's shape; image size and patch size
            may differ.
        source: as for `from_weights`.
        replace_head: keep the model's own head, for another number of classes.
        weights_image_size, sha256: as for `from_weights`.

    Raises:
        InputError: as for `from_weights`, and for a checkpoint of another model.
    """
    config = get_config(model)
    weights = _read(source, sha256, config.image_size, weights_image_size, {})
    report = _assign(model, weights, replace_head)
    for field in ("gelu", "norm_epsilon", "pooling", "norm_after_pooling"):
        theirs, own = getattr(weights.config, field), getattr(config, field)
        if theirs != own:
            logger.warning(
                "%s was trained with %s=%r, and this model has %r: its outputs will differ.",
                report.source, field, theirs, own,
            )  # fmt: skip
    return report


def _read(source, sha256, image_size, weights_image_size, overrides) -> _Weights:
    if isinstance(source, ViT):
        return _of_model(source, source.name)
    fetched = fetch(source, sha256)
    if fetched.path.suffix == ".keras":
        return _of_model(load_model(fetched.path), str(source))
    checkpoint = read_checkpoint(fetched.path)
    family = _family_of(checkpoint)
    prepared = family.prepare(checkpoint)
    known = {**prepared.config, **fetched.settings}
    if weights_image_size is not None:
        known["image_size"] = as_image_size(weights_image_size)
    known.update({key: value for key, value in overrides.items() if key != "patch_size"})
    try:
        ours, unknown = to_ours(family.rows, prepared.arrays, _pixels(prepared, family))
        config, assumed = infer_config(ours, known, image_size)
        decoder = None
        if "decoder_embed/kernel" in ours:
            decoder, more = infer_decoder(ours, prepared.decoder)
            assumed += more
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{checkpoint.path} has the names of {family.name} and not the arrays of a whole ViT "
            f"({type(error).__name__}: {error})."
        ) from error
    return _Weights(
        source=str(source),
        family=family.name,
        rows=family.rows,
        ours=ours,
        unknown=tuple(unknown),
        config=dataclasses.replace(
            config,
            position_resize=known.get("position_resize", family.position_resize),
        ),
        decoder=decoder,
        preprocessing=prepared.preprocessing,
        class_names=prepared.class_names,
        patch_resize=family.patch_resize,
        left_out=prepared.left_out,
        assumed=(*prepared.assumed, *assumed),
    )


def weights_of(model):
    """{our path: array} of a model, the patch kernel as (y, x, channels, width)"""
    config = get_config(model)
    ours = {variable.path: np.asarray(variable) for variable in model.weights}
    if PATCH_KERNEL in ours and config.stem != "shifted_patches":
        side = config.patch_size // config.stem_stride
        kernel = ours[PATCH_KERNEL]
        ours[PATCH_KERNEL] = kernel.reshape(side, side, -1, kernel.shape[-1])
    return ours


def _of_model(model, source) -> _Weights:
    """A model of this project as weights for another"""
    config = get_config(model)
    preprocessing = dataclasses.asdict(model.preprocessing)
    del preprocessing["image_size"]
    return _Weights(
        source=source,
        family="keras",
        rows=(),
        ours=weights_of(model),
        unknown=(),
        config=config,
        decoder=model.decoder if isinstance(model, MaskedAutoencoder) else None,
        preprocessing=preprocessing,
        class_names=model.class_names,
        patch_resize="bicubic_antialias",
        left_out={},
        assumed=(),
    )


def _family_of(checkpoint) -> Family:
    for family in FAMILIES:
        if family.recognises(checkpoint):
            return family
    raise InputError(
        f"{checkpoint.path} is no Vision Transformer of a known family "
        f"({', '.join(family.name for family in FAMILIES)}). Its names: "
        f"{shortened(checkpoint.arrays)}."
    )


def _pixels(prepared, family) -> Shape:
    """What shapes depend on, as far as it is needed to read"""
    for row in family.rows:
        if row.ours == PATCH_KERNEL and row.theirs in prepared.arrays:
            side, _, channels, _ = row.layout.read(prepared.arrays[row.theirs], Shape()).shape
            return Shape(patch_size=side, channels=channels)
    return Shape()


def _fit_channels(weights, config):
    options = dict(weights.preprocessing)
    if len(options["mean"]) != config.channels:  # published settings are for RGB
        options.update(mean=(0.5,) * config.channels, std=(0.5,) * config.channels)
    return options


def _assign(model, weights, replace_head) -> LoadReport:
    """Checks every array against every variable, and only then sets them all"""
    config = model.config
    ours, changed = _adapt(weights, config)
    variables = {variable.path: variable for variable in model.weights}
    left_out = dict(weights.left_out)
    if not any(_DECODER.match(path) for path in variables):
        for path in [path for path in ours if _DECODER.match(path)]:
            left_out[path] = "is of use in pre-training alone"
            del ours[path]
    if replace_head:
        for path in [path for path in ours if _HEAD.match(path)]:
            del ours[path]
        variables = {p: v for p, v in variables.items() if not _HEAD.match(p)}
        if config.num_classes:
            changed.append(
                f"the head is new and untrained, for {config.num_classes} classes "
                f"(the checkpoint: {weights.config.num_classes or 'none'})"
            )
    _check(variables, ours, weights)
    for path, variable in variables.items():
        variable.assign(ours[path].reshape(variable.shape))
    return LoadReport(
        weights.source,
        weights.family,
        loaded=len(variables),
        changed=(*changed, *(f"assumed {sentence}" for sentence in weights.assumed)),
        left_out=left_out,
    )


def _adapt(weights, config):
    """The arrays resized to the config's grid and patches, and sentences about it"""
    ours, changed = dict(weights.ours), []
    old, new = weights.config.grid, config.grid
    if POSITIONS in ours and old != new:
        how = (
            config.position_resize if weights.family == "keras" else weights.config.position_resize
        )
        ours[POSITIONS] = resize_positions(ours[POSITIONS][0], old, new, how)[np.newaxis]
        changed.append(f"positions resized from {_by(old)} to {_by(new)} patches ({how})")
    kernel = ours.get(PATCH_KERNEL)
    if kernel is not None and kernel.ndim == 4 and config.patch_size != weights.config.patch_size:
        side = config.patch_size // config.stem_stride
        ours[PATCH_KERNEL] = resize_patches(kernel, side, weights.patch_resize)
        changed.append(
            f"patches resampled from {_by(kernel.shape[:2])} to {side}x{side} pixels "
            f"({weights.patch_resize})"
        )
    return ours, changed


def _by(sides):
    return "x".join(map(str, sides))


def _check(variables, ours, weights):
    """Every variable set, every array used, every shape right

    Raises:
        InputError: else, with all that does not fit, grouped.
    """

    def named(path):
        return list(theirs_of(weights.rows, path)) or [path]

    missing = [name for path in variables if path not in ours for name in named(path)]
    unused = [*weights.unknown]
    unused += [name for path in ours if path not in variables for name in named(path)]
    wrong = [
        f"{', '.join(named(path))} ({_by(ours[path].shape)} for {_by(variable.shape)})"
        for path, variable in variables.items()
        if path in ours and not _same_shape(ours[path], variable)
    ]
    if missing or unused or wrong:
        found = "; ".join(
            f"{what}: {shortened(_grouped(names))}"
            for what, names in (
                ("missing", missing),
                ("not used", unused),
                ("of another shape", wrong),
            )
            if names
        )
        only_head = all(
            re.search("head|classifier|pre_logits", n) for n in missing + unused + wrong
        )
        advice = (
            "For a new head give from_weights num_classes=N, or load_weights replace_head=True."
            if only_head
            else "Let vit_keras.from_weights build the model, or compare its ViTConfig."
        )
        raise InputError(
            f"{weights.source} ({weights.family}) does not fit the model. In the checkpoint's "
            f"names, {found}. {advice}"
        )


def _same_shape(array, variable):
    if array.ndim == 4 and len(variable.shape) == 2:  # the patch kernel
        return (array.size // array.shape[-1], array.shape[-1]) == tuple(variable.shape)
    return array.shape == tuple(variable.shape)


def _grouped(names):
    """Names that differ in one number alone, as one: blocks.{0-11}.norm1.weight"""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        before, *rest = re.split(r"(?<=[._])(\d+)(?=[./])", name, maxsplit=1)
        groups.setdefault((before, *rest[1:]), []).extend(rest[:1])
    for (before, *after), numbers in groups.items():
        ordered = sorted(numbers, key=int)
        many = f"{{{ordered[0]}-{ordered[-1]}}}" if len(numbers) > 1 else "".join(numbers)
        yield before + many + "".join(after)
