"""Weights and a model -> the model with these weights: resized, checked, and only then set."""

import dataclasses
import re

import numpy as np

from vit_keras.layers.positions import resize_patches, resize_positions
from vit_keras.utils.errors import InputError
from vit_keras.weights.checkpoint import shortened
from vit_keras.weights.families.family import PRE_TRAINING
from vit_keras.weights.families.name_table import PATCH_KERNEL, POSITIONS, theirs_of

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


def assign(model, weights, keep_head) -> LoadReport:
    """Checks every array against every variable, and only then sets them all"""
    config = model.config
    ours, changed = _adapt(weights, config)
    variables = {variable.path: variable for variable in model.weights}
    left_out = dict(weights.left_out)
    if not any(_DECODER.match(path) for path in variables):
        for path in [path for path in ours if _DECODER.match(path)]:
            left_out[path] = PRE_TRAINING
            del ours[path]
    if keep_head:
        for path in [path for path in ours if _HEAD.match(path)]:
            del ours[path]
        variables = {p: v for p, v in variables.items() if not _HEAD.match(p)}
        # Masked pre-training has no use for a pooling that learns: it comes with the head.
        pooled = [path for path in variables if path.startswith("pool/")]
        if pooled and not any(path.startswith("pool/") for path in ours):
            variables = {p: v for p, v in variables.items() if p not in pooled}
            changed.append("the pooling is new, to be trained")
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
    tables = [name for name in (POSITIONS, "fill_in/positions") if name in ours]
    if tables and old != new:
        how = (config if weights.family == "keras" else weights.config).position_resize
        for name in tables:
            ours[name] = resize_positions(ours[name][0], old, new, how)[np.newaxis]
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

    layers = {name.rpartition(".")[0] for name in weights.names}

    def named(path):
        """Their names of a variable: of alternatives the one that others in the file go with"""
        names = list(theirs_of(weights.rows, path)) or [path]
        with_sisters = [name for name in names if name.rpartition(".")[0] in layers]
        return with_sisters or names

    missing = [
        name
        for path in variables
        if path not in ours
        for name in named(path)
        if name not in weights.names
    ]
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
            "For a new head give from_weights num_classes=N, or load_weights keep_head=True."
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
