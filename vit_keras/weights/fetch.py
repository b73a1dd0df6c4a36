"""Path, address or short name of weights -> local file, fetched once and whole."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import urllib.parse

import keras

from vit_keras.utils.errors import InputError, did_you_mean, first_line
from vit_keras.weights.checkpoint import WEIGHTS_OF_FOLDERS
from vit_keras.weights.published import PUBLISHED

_HUB = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>.+))?")
_ABANDONED = 24 * 3600  # seconds
_HUB_SETTINGS = ("config.json", "preprocessor_config.json")


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A local file or folder, and what is known of it beyond: fields of ViTConfig."""

    path: pathlib.Path
    settings: dict = dataclasses.field(default_factory=dict)


def fetch(source, sha256=None) -> Fetched:
    """Gives a local path for what `from_weights` takes as a source, downloading it if need be.

    Args:
        source: a path (of a run folder, too), an https:// address, hf://owner/name[@revision], or a
            row of PUBLISHED.
        sha256: expected of the file, 64 hexadecimal digits; for single files alone.

    Raises:
        InputError: for an unknown name, and for what cannot be fetched whole.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"weights come from a path, an address, a name or a ViT. Got {source!r}.")
    text = str(source)
    if text in PUBLISHED and not pathlib.Path(text).exists():
        row = PUBLISHED[text]
        return Fetched(fetch(row.source, sha256).path, row.settings)
    if text.startswith("hf://"):
        if sha256:
            raise InputError("sha256 is of a single file; the hub's client verifies its own.")
        return Fetched(_from_hub(text))
    if text.startswith(("https://", "http://")):
        return Fetched(_download(text, sha256))
    path = pathlib.Path(source)
    if not path.exists() and re.fullmatch(r"\w+", text):
        raise InputError(
            f"{text!r} is neither a file nor the name of published weights"
            f"{did_you_mean(text, PUBLISHED)}."
        )
    if sha256 and not (path.is_file() and _sha256(path) == sha256.lower()):
        raise InputError(f"{path} is no file of sha256 {sha256}.")
    return Fetched(in_run_folder(path))


def in_run_folder(path) -> pathlib.Path:
    """The model.keras of a run folder; any other path itself"""
    inside = path / "model.keras"
    return inside if inside.is_file() else path


def cache_folder() -> pathlib.Path:
    """Where fetched files are kept; it need not exist."""
    home = os.environ.get("KERAS_HOME", "~/.keras")  # where Keras's get_file puts files, too
    return pathlib.Path(home).expanduser() / "vit_keras"


def _download(address, sha256) -> pathlib.Path:
    """Fetches a file into Keras's cache, under its address's own folder"""
    try:
        name = pathlib.PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(address).path)).name
    except ValueError as error:
        raise InputError(f"{address} is no address: {error}.") from error
    if not name:
        raise InputError(f"{address} names no file.")
    target = cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:16] / name
    if target.exists() and (sha256 is None or _sha256(target) == sha256.lower()):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".fetching-*"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
    # Beside its place: what stands there is whole, however this ends.
    workplace = tempfile.mkdtemp(prefix=".fetching-", dir=target.parent)
    try:
        fetched = keras.utils.get_file(
            name,
            address,
            file_hash=sha256 and sha256.lower(),
            hash_algorithm="sha256",
            cache_dir=workplace,
        )
        os.replace(fetched, target)
    except Exception as error:  # get_file raises bare Exceptions
        raise InputError(f"{address} could not be fetched: {error}") from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return target


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(address) -> pathlib.Path:
    """Fetches a repository's weights and settings into the hub's own cache"""
    match = _HUB.fullmatch(address)
    if match is None:
        raise InputError(
            f"the hub's addresses are hf://owner/name or with @revision. Got {address}."
        )
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise InputError(
            f"{address} needs the hub's client: pip install 'vit-keras-edge[hub]'."
        ) from None
    repository, revision = match["repository"], match["revision"]

    def get(name):
        """The file's path, or None where the repository has none of that name"""
        try:
            path = huggingface_hub.hf_hub_download(repository, name, revision=revision)
        except huggingface_hub.errors.LocalEntryNotFoundError:  # not reached: what is known of it?
            known = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision)
            if known is huggingface_hub._CACHED_NO_EXIST:
                return None
            raise
        except huggingface_hub.errors.EntryNotFoundError:
            return None
        return pathlib.Path(path)

    try:
        for name in _HUB_SETTINGS:
            get(name)
        for name in WEIGHTS_OF_FOLDERS:
            weights = get(name)
            if weights is None:
                continue
            if name.endswith(".json"):
                for part in sorted(set(json.loads(weights.read_text())["weight_map"].values())):
                    get(part)
            return weights
    except Exception as error:  # of the client, of HTTP, of the file system
        raise InputError(f"{address} could not be fetched: {first_line(error)}") from error
    raise InputError(f"{address} holds none of {', '.join(WEIGHTS_OF_FOLDERS)}.")
