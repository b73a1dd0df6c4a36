"""Path, address, name or model -> Weights: a checkpoint of any family under our names."""

import dataclasses

import numpy as np

from vit_keras.config import ViTConfig
from vit_keras.model import ViT, get_config, load_model
from vit_keras.tasks.masked import DecoderConfig, MaskedAutoencoder
from vit_keras.utils.checks import as_image_size
from vit_keras.utils.errors import InputError
from vit_keras.weights.checkpoint import read_checkpoint, shortened
from vit_keras.weights.families.facebook import FACEBOOK
from vit_keras.weights.families.family import Family
from vit_keras.weights.families.google import GOOGLE
from vit_keras.weights.families.huggingface import HUGGINGFACE
from vit_keras.weights.families.name_table import PATCH_KERNEL, Row, Shape, theirs_of, to_ours
from vit_keras.weights.families.timm import TIMM
from vit_keras.weights.fetch import fetch
from vit_keras.weights.infer_config import infer_config, infer_decoder

# In this order: Facebook's names are timm's, and some more.
FAMILIES = (GOOGLE, HUGGINGFACE, FACEBOOK, TIMM)
_NOT_WHOLE = (AttributeError, IndexError, TypeError, ValueError)


@dataclasses.dataclass(frozen=True)
class Weights:
    """A checkpoint of any family, under our names.

    Attributes:
        source, family: where it came from, and its family's name; "keras" for our own models.
        rows: the family's name table, empty for our own.
        ours: {our path: array}, the patch kernel as (y, x, channels, width).
        unknown: their names that no row knows.
        names: all their names.
        config: of the model the arrays were trained in, at its own image size and classes.
        decoder: of a masked autoencoder, or None.
        preprocessing: keyword arguments of Preprocessing but for image_size.
        class_names: of the head, or ().
        patch_resize: a key of positions.RESIZES.
        left_out, assumed: as in `family.Prepared`.
    """

    source: str
    family: str
    rows: tuple[Row, ...]
    ours: dict[str, np.ndarray]
    unknown: tuple[str, ...]
    names: frozenset[str]
    config: ViTConfig
    decoder: DecoderConfig | None
    preprocessing: dict
    class_names: tuple[str, ...]
    patch_resize: str
    left_out: dict[str, str]
    assumed: tuple[str, ...]


def read_weights(source, sha256, image_size, weights_image_size, overrides, heads=None) -> Weights:
    """Reads what `from_weights` takes, with its arguments of the same names.

    Args:
        heads: where the checkpoint tells them in no way.
    """
    if isinstance(source, ViT):
        return _of_model(source, source.name)
    fetched = fetch(source, sha256)
    if fetched.path.suffix == ".keras":
        return _of_model(load_model(fetched.path), str(source))
    checkpoint = read_checkpoint(fetched.path)
    family = _family_of(checkpoint)
    told = {**fetched.settings, **overrides}
    told.pop("patch_size", None)
    if weights_image_size is not None:
        weights_image_size = as_image_size(weights_image_size)
    try:
        prepared = family.prepare(checkpoint)
        known = {**prepared.config, **told}
        ours, unknown = to_ours(family.rows, prepared.arrays, _pixels(prepared, family))
        config, assumed = infer_config(ours, known, image_size, weights_image_size, heads)
        decoder = None
        if "decoder_embed/kernel" in ours:
            decoder, more = infer_decoder(ours, prepared.decoder)
            assumed += more
    except InputError as error:
        raise InputError(f"{checkpoint.path} ({family.name}): {error}") from error
    except KeyError as error:
        lacks = ", ".join(theirs_of(family.rows, str(error.args[0]))) or error
        raise InputError(
            f"{checkpoint.path} ({family.name}) is no whole ViT: {lacks} is missing."
        ) from error
    except _NOT_WHOLE as error:  # strangers' files: names without arrays, settings of other types
        raise InputError(
            f"{checkpoint.path} has the names of {family.name}, and not the arrays and settings of "
            f"a whole ViT ({type(error).__name__}: {error})."
        ) from error
    return Weights(
        source=str(source),
        family=family.name,
        rows=family.rows,
        ours=ours,
        unknown=tuple(unknown),
        names=frozenset(prepared.arrays),
        config=config.replace(
            position_resize=known.get("position_resize", family.position_resize),
        ),
        decoder=decoder,
        preprocessing=prepared.preprocessing,
        class_names=prepared.class_names,
        patch_resize=family.patch_resize,
        left_out=prepared.left_out,
        assumed=tuple(
            sentence
            for sentence in (*prepared.assumed, *assumed)
            if sentence.partition("=")[0] not in overrides  # the caller has told
        ),
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


def _of_model(model, source) -> Weights:
    """A model of this project as weights for another"""
    config = get_config(model)
    preprocessing = dataclasses.asdict(model.preprocessing)
    del preprocessing["image_size"]
    return Weights(
        source=source,
        family="keras",
        rows=(),
        ours=weights_of(model),
        unknown=(),
        names=frozenset(),
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
