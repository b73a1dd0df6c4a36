"""A .tflite file -> a static page that classifies pictures with it, in any browser.

A page is a copy of the folder `page` next to this file, with the model, labels.txt,
preprocessing.json and LiteRT.js, which runs the model. npm fetches LiteRT.js once, into the cache
of weights.
"""

import base64
import dataclasses
import hashlib
import pathlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from typing import Any

import keras

from export.checks.verify import RefusedError
from export.labels import class_labels, metadata_files
from export.options import Options
from export.source import Source
from export.tflite.convert import write_tflite
from export.tflite.finish import finish
from vit_keras.utils.files import replacing
from vit_keras.weights.fetch import cache_folder

MODEL = "model.tflite"
LITERT = "2.5.3"  # version of LiteRT.js

# {package: (SHA-512 of its tarball, as npm's registry states it, {file in it: file in litert/})}.
# WebAssembly comes with relaxed SIMD and, for browsers that lack it, without. The page does not use
# the variants with threads and for WebGPU.
PACKAGES = {
    "core": (
        "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
        {"dist/index.js": "core.js"}
        | {
            f"wasm/litert_wasm_{variant}.{suffix}": f"litert_wasm_{variant}.{suffix}"
            for variant in ("internal", "compat_internal")
            for suffix in ("js", "wasm")
        },
    ),
    "wasm-utils": (
        "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
        {"dist/index.js": "wasm-utils.js"},
    ),
}
_NOTICE = f"""This page, but for the folder litert, is a part of vit-keras-edge.

The folder litert holds files of LiteRT.js {LITERT} (npm packages @litertjs/core and
@litertjs/wasm-utils), Copyright 2025 Google LLC. In core.js and wasm-utils.js the addresses of
modules were made relative and those of source maps left away; nothing else was changed.

All of it is under the Apache License, Version 2.0: see LICENSE.txt. The model in {MODEL} may have
another licence.
"""


def write_page_model(model: keras.Model, path: pathlib.Path, options: Options) -> None:
    """Writes the float32 .tflite file of a page, which takes uint8 pixels of one image.

    Args:
        model: the model as exported.
        path: the file to write.
        options: Options; attention is used.
    """
    for_pages = dataclasses.replace(
        options, preprocess="in-graph", input_type="uint8", batch=1, embed=False
    )
    write_tflite(model, path, for_pages)


def in_folder(
    write: Callable[[Source, pathlib.Path], dict[str, Any] | None],
) -> Callable[[Source, pathlib.Path], dict[str, Any] | None]:
    """A function of a Kind that writes a file -> one that writes it into a new folder."""

    def write_inside(source, path):
        path.mkdir()
        return write(source, path / MODEL)

    return write_inside


def add_page(model: keras.Model, path: pathlib.Path, options: Options) -> None:
    """Adds the page to a folder with a .tflite file of uint8 pixels.

    Args:
        model: the model that the file was made from.
        path: the folder. It may be served from any address.
        options: Options; author, license and version are used.

    Raises:
        RefusedError: for a model without classes, and when LiteRT.js cannot be fetched.
    """
    if not class_labels(model):
        raise RefusedError(f"a page shows classes, and {model.name} has none.")
    finish(model, path / MODEL, options)
    here = pathlib.Path(__file__).parent
    shutil.copytree(here / "page", path, dirs_exist_ok=True)
    shutil.copy(here.parents[1] / "LICENSE", path / "LICENSE.txt")
    texts = metadata_files(model) | {"NOTICE.txt": _NOTICE}
    for name, text in texts.items():
        (path / name).write_text(text, encoding="utf-8")
    (path / "litert").mkdir()
    for package, (_, files) in PACKAGES.items():
        with tarfile.open(tarball(package)) as archive:
            for member, name in files.items():
                content = archive.extractfile(f"package/{member}").read()  # type: ignore[union-attr]
                if member.startswith("dist/"):
                    content = _with_relative_imports(content)
                (path / "litert" / name).write_bytes(content)


def _with_relative_imports(script):
    """A module whose imports a browser finds without a bundler."""
    script = re.sub(rb'from "@litertjs/(.+?)"', rb'from "./\1.js"', script)
    return re.sub(rb"//# sourceMappingURL=.*", b"// Changed: see NOTICE.txt", script)


def missing_tool() -> str:
    """How to install npm, or "" if LiteRT.js or npm is here."""
    packages = [cache_folder() / _tarball_name(package) for package in PACKAGES]
    if shutil.which("npm") or all(path.exists() for path in packages):
        return ""
    return "Node.js with npm (on Debian and Ubuntu: apt install npm)"


def _tarball_name(package):
    return f"litertjs-{package}-{LITERT}.tgz"  # as npm names it


def tarball(package: str) -> pathlib.Path:
    """The path of a package of LiteRT.js in the cache; npm fetches it if necessary.

    Args:
        package: a key of PACKAGES.

    Raises:
        RefusedError: when npm is missing or fails, or fetches another file than the published one.
    """
    expected, _ = PACKAGES[package]
    path = cache_folder() / _tarball_name(package)
    if path.exists() and _sha512(path) == expected:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as fetched:
        _npm_pack(f"@litertjs/{package}@{LITERT}", fetched.parent)
        if _sha512(fetched) != expected:
            raise RefusedError(
                f"npm fetched a {path.name} whose SHA-512 is not that of the published one; check "
                f"the registry it uses: npm config get registry"
            )
    return path


def _npm_pack(package, folder):
    npm = shutil.which("npm")
    if npm is None:
        raise RefusedError(
            "a page needs LiteRT.js, which npm fetches; install Node.js with npm (on Debian and "
            "Ubuntu: apt install npm)."
        )
    command = [npm, "pack", package, "--pack-destination", folder]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        errors = re.findall(r"^npm (?:error|ERR!) (.+)", result.stderr, re.MULTILINE)
        raise RefusedError(f"npm could not fetch {package}: {'; '.join(errors[:4])}")


def _sha512(path):
    with open(path, "rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
