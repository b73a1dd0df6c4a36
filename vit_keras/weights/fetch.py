"""Path, address or short name of weights -> local file, downloaded once and completely."""

import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
import time
import urllib.parse
from typing import Any

import keras

from vit_keras.utils.errors import InputError, did_you_mean, first_line
from vit_keras.weights.checkpoint import FOLDER_WEIGHTS, read_shard_names
from vit_keras.weights.published import PUBLISHED

_HUB = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>.+))?")
_HUB_SETTINGS = ("config.json", "preprocessor_config.json")
_STALE_AFTER = 24 * 3600  # seconds, of a folder that a killed process left


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A local source of weights.

    Attributes:
        path: of a file or folder.
        settings: fields of ViTConfig that the file does not specify.
    """

    path: pathlib.Path
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)


def fetch(source: str | os.PathLike, sha256: str | None = None) -> Fetched:
    """The local path of a source of weights, downloaded if necessary.

    Args:
        source: a path (also of a run folder), an https:// address, hf://owner/name[@revision], or
            a row of PUBLISHED.
        sha256: expected of the file, 64 hexadecimal digits; for single files only.

    Returns:
        Fetched.

    Raises:
        InputError: for an unknown name, and for a file that cannot be fetched completely.
    """
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"weights come from a path, an address, a name or a ViT. Got {source!r}.")
    text = str(source)
    if text in PUBLISHED and not pathlib.Path(text).exists():
        row = PUBLISHED[text]
        return Fetched(fetch(row.source, sha256).path, row.settings)
    if text.startswith("hf://"):
        if sha256:
            raise InputError("sha256 is for a single file; the hub's client verifies its own.")
        return Fetched(_fetch_from_hub(text))
    if text.startswith(("https://", "http://")):
        return Fetched(_download(text, sha256))
    path = pathlib.Path(source)
    if not path.exists() and re.fullmatch(r"\w+", text):
        raise InputError(
            f"{text!r} is neither a file nor the name of published weights"
            f"{did_you_mean(text, PUBLISHED)}."
        )
    if sha256 and not (path.is_file() and _sha256(path) == sha256.lower()):
        raise InputError(f"{path} is not a file with sha256 {sha256}.")
    return Fetched(in_run_folder(path))


def in_run_folder(path: pathlib.Path) -> pathlib.Path:
    """The model.keras in a run folder; any other path unchanged."""
    model = path / "model.keras"
    return model if model.is_file() else path


def cache_folder() -> pathlib.Path:
    """The folder of downloaded files; it need not exist."""
    home = os.environ.get("KERAS_HOME", "~/.keras")  # where Keras's get_file caches files, too
    return pathlib.Path(home).expanduser() / "vit_keras"


def _download(address, sha256) -> pathlib.Path:
    """Downloads a file into a folder of the cache that belongs to its address."""
    try:
        name = pathlib.PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(address).path)).name
    except ValueError as error:
        raise InputError(f"{address} is not a valid address: {error}.") from error
    if not name:
        raise InputError(f"{address} names no file.")
    target = cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:16] / name
    if target.exists() and (sha256 is None or _sha256(target) == sha256.lower()):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    for folder in target.parent.glob(".fetching-*"):
        if time.time() - folder.stat().st_mtime > _STALE_AFTER:
            shutil.rmtree(folder, ignore_errors=True)
    # A complete file replaces the target at the end, so that an interruption leaves no part of it.
    workplace = tempfile.mkdtemp(prefix=".fetching-", dir=target.parent)
    try:
        os.replace(_get_file(address, name, sha256, workplace), target)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return target


def _get_file(address, name, sha256, folder):
    try:
        return keras.utils.get_file(
            name,
            address,
            file_hash=sha256 and sha256.lower(),
            hash_algorithm="sha256",
            cache_dir=folder,
        )
    except Exception as error:  # get_file raises bare Exceptions
        raise InputError(f"{address} could not be fetched: {error}") from error


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_from_hub(address) -> pathlib.Path:
    """Fetches a repository's weights and settings into the cache of the hub's client."""
    match = _HUB.fullmatch(address)
    if match is None:
        raise InputError(f"an address of the hub is hf://owner/name[@revision]. Got {address}.")
    repository, revision = match["repository"], match["revision"]
    for name in _HUB_SETTINGS:
        _fetch_hub_file(address, repository, revision, name)
    for name in FOLDER_WEIGHTS:
        weights = _fetch_hub_file(address, repository, revision, name)
        if weights is None:
            continue
        if weights.suffix == ".json":
            for shard in read_shard_names(weights):
                _fetch_hub_file(address, repository, revision, shard)
        return weights
    raise InputError(f"{address} has none of {', '.join(FOLDER_WEIGHTS)}.")


def _fetch_hub_file(address, repository, revision, name) -> pathlib.Path | None:
    """The local path of a repository's file; None if the repository has no such file."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise InputError(
            f"{address} needs the hub's client: pip install 'vit-keras-edge[hub]'."
        ) from None
    try:
        return pathlib.Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
    except errors.LocalEntryNotFoundError as error:  # offline: the cache may know the answer
        cached = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision)
        if cached is huggingface_hub._CACHED_NO_EXIST:
            return None
        raise InputError(f"{address} could not be fetched: {first_line(error)}") from error
    except errors.EntryNotFoundError:
        return None
    except Exception as error:  # of the client, of HTTP, of the file system
        raise InputError(f"{address} could not be fetched: {first_line(error)}") from error
