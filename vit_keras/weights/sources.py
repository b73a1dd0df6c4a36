"""Path, address or name of published weights -> local file, fetched once."""

import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A local file or folder, and what its publisher tells beyond it: fields of ViTConfig."""

    path: pathlib.Path
    settings: dict = dataclasses.field(default_factory=dict)


def fetch(source, sha256=None) -> Fetched:
    return Fetched(pathlib.Path(source))
