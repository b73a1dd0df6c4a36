"""Path of a weights file or folder -> Checkpoint: named arrays, and the settings beside them."""

import argparse
import dataclasses
import json
import pathlib
import pickle

import numpy as np

from vit_keras.utils.errors import InputError, first_line

WEIGHTS_OF_FOLDERS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What stands in a file of somebody else's weights.

    Attributes:
        path: of the file.
        arrays: {name: float32 array}, as named in the file.
        config: contents of config.json beside it, or {}.
        preprocessor: contents of preprocessor_config.json beside it, or {}.
        pickled: whether the file was torch's.
    """

    path: pathlib.Path
    arrays: dict[str, np.ndarray]
    config: dict = dataclasses.field(default_factory=dict)
    preprocessor: dict = dataclasses.field(default_factory=dict)
    pickled: bool = False


def read_checkpoint(path) -> Checkpoint:
    """Reads .npz, .safetensors (also in several files with an index) or torch's .pth, .pt, .bin.

    Raises:
        InputError: nothing there, another kind of file, a broken or truncated one, or values that
            are not finite; the message names the file.
    """
    path = _file_of(pathlib.Path(path))
    readers = {
        ".npz": _read_npz,
        ".safetensors": _read_safetensors,
        ".json": _read_index,
        **dict.fromkeys((".pth", ".pt", ".bin"), _read_torch),
    }
    if path.suffix not in readers:
        raise InputError(
            f"weights come as {', '.join(readers)} or .keras files. Got {path}; rename it if it "
            f"is one of these."
        )
    try:
        arrays = readers[path.suffix](path)
        arrays = {name: _as_float32(array) for name, array in arrays.items() if array.size}
    except InputError:
        raise
    except Exception as error:  # a broken file can fail in any of its layers
        raise InputError(
            f"{path} cannot be read as {path.suffix} weights: {first_line(error)}. Is it whole?"
        ) from error
    for wrapper in ("module.", "_orig_mod."):  # torch's DataParallel and compile
        if arrays and all(name.startswith(wrapper) for name in arrays):
            arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    broken = [name for name, array in arrays.items() if not np.isfinite(array).all()]
    if broken:
        raise InputError(
            f"{path} holds NaN or infinite numbers in {shortened(broken)}; it cannot be used."
        )
    return Checkpoint(
        path,
        arrays,
        config=_read_json(path.with_name("config.json")),
        preprocessor=_read_json(path.with_name("preprocessor_config.json")),
        pickled=readers[path.suffix] is _read_torch,
    )


def shortened(names, limit=6):
    """'a, b, c and 10 more'"""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _file_of(path):
    if path.is_dir():
        for name in WEIGHTS_OF_FOLDERS:
            if (path / name).is_file():
                return path / name
        raise InputError(
            f"the folder {path} holds neither the model.keras of a run, which is there after its "
            f"first validation, nor any of {', '.join(WEIGHTS_OF_FOLDERS)}."
        )
    if not path.is_file():
        raise InputError(f"there is no weights file {path}.")
    return path


def _read_npz(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _read_safetensors(path):
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_index(path):
    """model.safetensors.index.json, which says which file holds which array"""
    arrays = {}
    for name in sorted(set(_read_json(path)["weight_map"].values())):
        arrays.update(_read_safetensors(path.with_name(name)))
    return arrays


def _read_torch(path):
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path} is a file of PyTorch, which has to read it: pip install torch. Or, "
            f"where there is torch: safetensors.torch.save_file(torch.load(FILE, weights_only=True)"
            f"['model'], 'weights.safetensors'); vit_keras.PUBLISHED has such files, too."
        ) from None
    # What the authors of MAE saved beside the weights: the command's arguments.
    with torch.serialization.safe_globals([argparse.Namespace]):
        try:
            contents = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"{path} cannot be read: it is broken, or holds more than weights, which might run "
                f"code. Save its state_dict alone, best as .safetensors."
            ) from error
    for key in ("model", "state_dict", "model_state_dict"):
        contents = contents.get(key, contents)
    return {
        str(name): tensor.detach().float().numpy()
        for name, tensor in contents.items()
        if isinstance(tensor, torch.Tensor)
    }


def _read_json(path):
    if not path.is_file():
        return {}
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from error
    if not isinstance(contents, dict):
        raise InputError(f"{path} holds no settings but {type(contents).__name__}.")
    return contents


def _as_float32(array):
    if array.dtype.kind == "V" and array.dtype.itemsize == 2:
        # bfloat16, as NumPy writes it: the upper half of a float32.
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if np.iscomplexobj(array) or array.dtype.kind in "USO":
        raise ValueError(f"an array of {array.dtype} is no weight")
    return np.asarray(array, dtype=np.float32)
