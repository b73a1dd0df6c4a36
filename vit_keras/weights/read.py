"""Path, address, name or model -> Weights: a checkpoint of any family under a model's names."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_keras.config import ViTConfig
from vit_keras.images.preprocessing import Preprocessing
from vit_keras.model import ViT, get_config, load_model
from vit_keras.tasks.masked import DecoderConfig, MaskedAutoencoder
from vit_keras.utils.checks import as_image_size
from vit_keras.utils.errors import InputError
from vit_keras.weights.assumption import Assumption, without_fields
from vit_keras.weights.checkpoint import Checkpoint, read_checkpoint, shorten
from vit_keras.weights.families.facebook import FACEBOOK
from vit_keras.weights.families.family import Family, PreparedCheckpoint
from vit_keras.weights.families.google import GOOGLE
from vit_keras.weights.families.huggingface import HUGGINGFACE
from vit_keras.weights.families.name_table import (
    PATCH_KERNEL,
    POSITIONS,
    Row,
    Shape,
    from_source,
    rows_by_source_name,
)
from vit_keras.weights.families.timm import TIMM
from vit_keras.weights.fetch import fetch
from vit_keras.weights.infer_config import infer_config, infer_decoder, required_names

# The first that recognises a checkpoint reads it: Facebook's names are timm's, and some more.
FAMILIES = (GOOGLE, HUGGINGFACE, FACEBOOK, TIMM)
_DECODER_POSITIONS = "fill_in/positions"


@dataclasses.dataclass(frozen=True)
class Weights:
    """A checkpoint of any family under a model's names.

    Attributes:
        source: where it came from.
        family: name of its family; "keras" for this project's models.
        rows: the family's name table, empty for this project's models.
        arrays: {name: array}, the patch kernel as (y, x, channels, width).
        source_names: all names in the file.
        unknown_names: source names that no row has.
        config: of the model that the arrays were trained in, with its image size and classes.
        decoder: of a masked autoencoder, or None.
        preprocessing: keyword arguments of Preprocessing but for image_size.
        class_names: of the head, or ().
        patch_resize: how patch kernels are resampled, as in `Family`.
        left_out: {source name: why}, arrays that are not part of a ViT.
        assumptions: values that neither the checkpoint nor the caller specifies.
    """

    source: str
    family: str
    rows: tuple[Row, ...]
    arrays: dict[str, np.ndarray]
    source_names: frozenset[str]
    unknown_names: tuple[str, ...]
    config: ViTConfig
    decoder: DecoderConfig | None
    preprocessing: dict[str, Any]
    class_names: tuple[str, ...]
    patch_resize: str
    left_out: dict[str, str]
    assumptions: tuple[Assumption, ...]

    @property
    def is_masked(self) -> bool:
        """Whether they are of masked pre-training."""
        return self.decoder is not None or "reconstruction/kernel" in self.arrays


def read_weights(
    source: str | os.PathLike | ViT,
    *,
    sha256: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    weights_image_size: int | tuple[int, int] | None = None,
    overrides: Mapping[str, Any] | None = None,
    default_heads: int | None = None,
) -> Weights:
    """Reads a source of weights.

    Args:
        source: as for `from_weights`.
        sha256: as for `from_weights`.
        image_size: as for `from_weights`.
        weights_image_size: as for `from_weights`.
        overrides: fields of ViTConfig that the caller specifies.
        default_heads: as for `infer_config`.

    Returns:
        Weights; every array and setting that inference reads is checked.

    Raises:
        InputError: as for `from_weights`; the message names the file.
    """
    if isinstance(source, ViT):
        return _weights_of_model(source, source.name)
    fetched = fetch(source, sha256)
    if fetched.path.suffix == ".keras":
        return _weights_of_model(load_model(fetched.path), str(source))
    checkpoint = read_checkpoint(fetched.path)
    family = _find_family(checkpoint)
    specified = {**fetched.settings, **(overrides or {})}
    specified.pop("patch_size", None)  # the new model's; the arrays show the checkpoint's
    own_size = None if weights_image_size is None else as_image_size(weights_image_size)
    sizes = (image_size, own_size, default_heads)
    try:
        return _read_family(str(source), checkpoint, family, specified, sizes)
    except InputError as error:
        raise InputError(f"{checkpoint.path} ({family.name}): {error}") from error


def arrays_of(model: ViT) -> dict[str, np.ndarray]:
    """{name: array} of a model's variables, the patch kernel as (y, x, channels, width)."""
    config = get_config(model)
    arrays = {variable.path: np.asarray(variable) for variable in model.weights}
    if PATCH_KERNEL in arrays and config.stem != "shifted_patches":
        side = config.patch_size // config.stem_stride
        kernel = arrays[PATCH_KERNEL]
        arrays[PATCH_KERNEL] = kernel.reshape(side, side, -1, kernel.shape[-1])
    return arrays


def _read_family(source, checkpoint, family, specified, sizes) -> Weights:
    """Reads a checkpoint with the name table of its family.

    Args:
        source: of the checkpoint, for reports.
        checkpoint: Checkpoint.
        family: Family of the checkpoint.
        specified: fields of ViTConfig that the caller specifies.
        sizes: the last three arguments of `infer_config`.
    """
    prepared = family.prepare(checkpoint)
    arrays, unknown_names = from_source(family.rows, prepared.arrays, _shape(prepared, family))
    _check_required(arrays, family)
    settings = {"position_resize": family.position_resize, **prepared.config, **specified}
    config, assumptions = infer_config(arrays, settings, *sizes)
    decoder = None
    if "decoder_embed/kernel" in arrays:
        decoder, decoder_assumptions = infer_decoder(arrays, prepared.decoder, config)
        assumptions += decoder_assumptions
    _check_tables(arrays, family, config, decoder)
    Preprocessing(1, **prepared.preprocessing)  # raises an InputError for numbers out of range
    return Weights(
        source=source,
        family=family.name,
        rows=family.rows,
        arrays=arrays,
        source_names=frozenset(prepared.arrays),
        unknown_names=tuple(unknown_names),
        config=config,
        decoder=decoder,
        preprocessing=prepared.preprocessing,
        class_names=prepared.class_names,
        patch_resize=family.patch_resize,
        left_out=prepared.left_out,
        assumptions=without_fields(prepared.assumptions + assumptions, specified),
    )


def _weights_of_model(model, source) -> Weights:
    """A model of this project as weights for another."""
    config = get_config(model)
    preprocessing = dataclasses.asdict(model.preprocessing)
    del preprocessing["image_size"]
    return Weights(
        source=source,
        family="keras",
        rows=(),
        arrays=arrays_of(model),
        source_names=frozenset(),
        unknown_names=(),
        config=config,
        decoder=model.decoder if isinstance(model, MaskedAutoencoder) else None,
        preprocessing=preprocessing,
        class_names=model.class_names,
        patch_resize="bicubic_antialias",
        left_out={},
        assumptions=(),
    )


def _find_family(checkpoint: Checkpoint) -> Family:
    for family in FAMILIES:
        if family.recognises(checkpoint):
            return family
    raise InputError(
        f"{checkpoint.path} is not a Vision Transformer of a known family "
        f"({', '.join(family.name for family in FAMILIES)}). Its names: "
        f"{shorten(checkpoint.arrays) or 'none'}."
    )


def _shape(prepared: PreparedCheckpoint, family: Family) -> Shape:
    """The numbers that array shapes depend on when they are read: the sizes of a patch."""
    for row in family.rows:
        if row.name == PATCH_KERNEL and row.source_name in prepared.arrays:
            kernel = row.layout.read(prepared.arrays[row.source_name], Shape())
            return Shape(patch_size=kernel.shape[0], channels=kernel.shape[2])
    return Shape()


def _check_required(arrays, family):
    """Checks that the arrays from which a config is inferred are there."""
    for name in required_names(arrays):
        if name not in arrays:
            source_names = ", ".join(rows_by_source_name(family.rows, name))
            raise InputError(f"it is not a complete ViT: {source_names} is missing.")


def _check_tables(arrays, family, config, decoder):
    """Checks the tables of positions, which are resized before they are compared with a model's."""
    rows, columns = config.grid
    expected = {}
    if POSITIONS in arrays:
        expected[POSITIONS] = (1, arrays[POSITIONS].shape[1], config.width)
    if decoder is not None and _DECODER_POSITIONS in arrays:
        expected[_DECODER_POSITIONS] = (1, 1 + rows * columns, decoder.width)
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            source_names = ", ".join(rows_by_source_name(family.rows, name))
            raise InputError(
                f"{source_names} must have the shape {shape}. Got {arrays[name].shape}."
            )
