"""Path of a weights file or folder -> Checkpoint: named arrays, and the settings next to them."""

import argparse
import dataclasses
import json
import pathlib
import pickle
from collections.abc import Iterable

import numpy as np

from vit_keras.utils.errors import InputError, first_line
from vit_keras.weights.settings import Settings

FOLDER_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The contents of a weights file of another project.

    Attributes:
        path: of the file.
        arrays: {source name: float32 array}, each with at least one value.
        config: config.json in the same folder; empty if there is none.
        preprocessor: preprocessor_config.json in the same folder; empty if there is none.
        pickled: whether it is a file of torch.save.
    """

    path: pathlib.Path
    arrays: dict[str, np.ndarray]
    config: Settings = dataclasses.field(default_factory=Settings)
    preprocessor: Settings = dataclasses.field(default_factory=Settings)
    pickled: bool = False


def read_checkpoint(path: pathlib.Path) -> Checkpoint:
    """Reads .npz, .safetensors (also several files with an index) or torch's .pth, .pt, .bin.

    Args:
        path: of the file, or of a folder that contains one of FOLDER_WEIGHTS.

    Returns:
        Checkpoint with the settings files in the same folder.

    Raises:
        InputError: nothing there, another kind of file, a broken or truncated one, or values that
            are not finite; the message names the file.
    """
    path = _find_file(path)
    if path.suffix not in _READERS:
        raise InputError(
            f"weights are {', '.join(_READERS)} or .keras files. Got {path}; rename it if it is "
            f"one of these."
        )
    arrays = {
        name: _as_float32(path, name, array)
        for name, array in _READERS[path.suffix](path).items()
        if array.size
    }
    for wrapper in ("module.", "_orig_mod."):  # torch's DataParallel and compile
        if arrays and all(name.startswith(wrapper) for name in arrays):
            arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise InputError(
            f"{path} has NaN or infinite numbers in {shorten(broken)}; it cannot be used."
        )
    return Checkpoint(
        path,
        arrays,
        config=_read_settings(path, "config.json"),
        preprocessor=_read_settings(path, "preprocessor_config.json").without_nulls(),
        pickled=_READERS[path.suffix] is _read_torch,
    )


def read_shard_names(path: pathlib.Path) -> list[str]:
    """The names of the weights files that an index lists.

    Args:
        path: of model.safetensors.index.json.

    Raises:
        InputError: for a file that is not such an index.
    """
    shards = _read_json(path).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{path} must have a weight_map, {{array name: file name}}.")
    return sorted(set(shards.values()))


def shorten(names: Iterable[str], limit: int = 6) -> str:
    """The first names, as in "a, b, c and 10 more"."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _find_file(path):
    if path.is_dir():
        for name in FOLDER_WEIGHTS:
            if (path / name).is_file():
                return path / name
        raise InputError(
            f"the folder {path} has neither the model.keras of a run, which is written after its "
            f"first validation, nor any of {', '.join(FOLDER_WEIGHTS)}."
        )
    if not path.is_file():
        raise InputError(f"there is no weights file {path}.")
    return path


def _unreadable(path, error):
    return InputError(
        f"{path} cannot be read as {path.suffix} weights: {first_line(error)}. "
        f"Is the file complete?"
    )


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # a broken file fails in NumPy, zipfile or zlib
        raise _unreadable(path, error) from error


def _read_safetensors(path):
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors has exceptions of its own, NumPy others
        raise _unreadable(path, error) from error


def _read_index(path):
    """Reads the files that model.safetensors.index.json lists."""
    arrays = {}
    for name in read_shard_names(path):
        arrays.update(_read_safetensors(path.with_name(name)))
    return arrays


def _read_torch(path):
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path} is a PyTorch file and needs torch: pip install torch. Or, on a machine with "
            f"torch: safetensors.torch.save_file(torch.load(FILE, weights_only=True)['model'], "
            f"'weights.safetensors'). Some rows of vit_keras.PUBLISHED are .safetensors already."
        ) from None
    # The authors of MAE saved the command's arguments with the weights.
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            contents = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path} cannot be read: it is broken, or contains more than weights, which might "
                f"run code. Save only its state_dict, best as .safetensors."
            ) from error
        except Exception as error:  # a broken file fails in torch, zipfile or pickle
            raise _unreadable(path, error) from error
    for key in ("model", "state_dict", "model_state_dict"):
        if isinstance(contents, dict):
            contents = contents.get(key, contents)
    if not isinstance(contents, dict):
        raise InputError(
            f"{path} must contain a state_dict, {{name: tensor}}. Got {type(contents).__name__}."
        )
    tensors = {
        str(name): tensor for name, tensor in contents.items() if isinstance(tensor, torch.Tensor)
    }
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
            raise InputError(f"{path} cannot be read: {name} must be a dense tensor of numbers.")
    return {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}


_READERS = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".json": _read_index,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
}


def _read_settings(weights_path, file):
    return Settings(file, _read_json(weights_path.with_name(file)))


def _read_json(path):
    if not path.is_file():
        return {}
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {first_line(error)}.") from error
    if not isinstance(contents, dict):
        raise InputError(f"{path} must be a JSON object. Got {type(contents).__name__}.")
    return contents


def _as_float32(path, name, array):
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        # bfloat16, as NumPy writes it: the upper half of a float32.
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if array.dtype.kind in "cmMOSU" or array.dtype.type is np.void:
        raise InputError(f"{path} cannot be read as weights: {name} has the type {array.dtype}.")
    return np.asarray(array, dtype=np.float32)
