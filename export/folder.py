"""Model + export folder -> a folder with artefacts of that model alone."""

import pathlib
import shutil
from typing import Any

import keras

from export.digest import artefact_digest, model_digest
from export.labels import metadata_files
from export.options import Options
from export.reports.model_card import format_card
from export.reports.report import add_to_report, read_report, write_report
from export.saved_model.serving import KIT
from training.recipe import RunFolder
from vit_keras.utils.errors import InputError, naming_write_errors
from vit_keras.utils.files import remove_leftovers, write_text


class ExportFolder:
    """The folder of a model's artefacts.

    Args:
        path: of the folder; it may not exist.
        model: the model as it was loaded.
        replace: whether to remove the artefacts of another model.
    """

    def __init__(self, path: pathlib.Path, model: keras.Model, replace: bool) -> None:
        self.path = path
        self.model = model
        self.replace = replace
        self.identity = {
            "sha256": model_digest(model),
            "name": model.name,
            "description": model.description,
        }

    def check(self) -> None:
        """Checks that the folder has no artefacts of another model, or that they may be removed.

        Raises:
            InputError: if it has; if report.json cannot be read; and, with `replace`, for an
                artefact that has been changed since it was exported.
        """
        report = read_report(self.path)
        if report is None or self._is_ours(report):
            return
        if not self.replace:
            raise InputError(
                f"{self.path} holds the export of another model: {_described(report['model'])}. "
                f"Got {_described(self.identity)}. Export to another folder, or pass --replace, "
                f"which removes the other model's files."
            )
        for row in report["artefacts"]:
            path = self.path / row["path"]
            if path.exists() and artefact_digest(path) != row["sha256"]:
                raise InputError(
                    f"{path} has been changed since it was exported, and --replace would remove "
                    f"it. Move it to another folder, or export to another folder."
                )

    def claim(self) -> None:
        """Removes the artefacts of another model, and writes labels.txt, if there are labels.

        Versions of a SavedModel stay until `finish`: TF Serving needs them until a newer one is
        loaded.
        """
        with naming_write_errors(self.path / "report.json"):
            self.path.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path)
            report = read_report(self.path)
            if report is None or not self._is_ours(report):
                versions = self._remove(report) if report else []
                write_report(self.path, self.identity, [], versions)
        labels = metadata_files(self.model).get("labels.txt")
        if labels:
            write_text(self.path / "labels.txt", labels)

    def add(self, row: dict[str, Any]) -> None:
        """Adds an artefact to the reports, see `add_to_report`."""
        add_to_report(self.path, row)

    def finish(self, run: RunFolder, options: Options) -> None:
        """Writes model_card.md, and removes earlier SavedModels that no newer one follows.

        Earlier versions of other models stay below a version of this model. TF Serving serves the
        highest, and can go back. Each version has its own labels.

        Args:
            run: RunFolder of the model.
            options: Options; author, license and version are used.
        """
        report = read_report(self.path)
        if report is None or not self._is_ours(report):
            return  # nothing was published
        bases = {(self.path / row["path"]).parent for row in report["artefacts"]}
        for version in report["earlier_versions"]:
            path = self.path / version
            if path.parent not in bases:
                _remove_version(path)
        write_report(self.path, self.identity, report["artefacts"], report["earlier_versions"])
        write_text(self.path / "model_card.md", format_card(self.model, run, options))

    def _is_ours(self, report):
        return report["model"]["sha256"] == self.identity["sha256"]

    def _remove(self, report):
        """Removes another model's files; returns the paths of its SavedModels, which stay."""
        versions = list(report["earlier_versions"])
        for row in report["artefacts"]:
            path = self.path / row["path"]
            if row["format"] == "savedmodel":
                versions.append(row["path"])
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
                path.with_suffix(".search.json").unlink(missing_ok=True)
        for name in ("labels.txt", "model_card.md", "report.md"):
            (self.path / name).unlink(missing_ok=True)
        return versions


def _remove_version(path):
    """Removes a SavedModel, and with the last version its folder and the files to serve it."""
    shutil.rmtree(path, ignore_errors=True)
    if not any(entry.name.isdecimal() for entry in path.parent.glob("*")):
        for file in KIT.iterdir():
            (path.parent / file.name).unlink(missing_ok=True)
        if path.parent.exists() and not any(path.parent.iterdir()):
            path.parent.rmdir()


def _described(model):
    return f"{model['description'] or model['name']} (SHA-256 {model['sha256'][:12]}...)"
