"""A page is written with its model and LiteRT.js from npm, or not at all."""

import base64
import hashlib
import json
import shutil

import pytest

from export.__main__ import main
from export.checks.verify import RefusedError
from export.web.writer import LITERT, MODEL, PACKAGES, tarball

NAME = f"litertjs-core-{LITERT}.tgz"


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Lines of sh -> an `npm` on the PATH that runs them, after it has logged its arguments."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    checksum = base64.b64encode(hashlib.sha512(b"complete").digest()).decode()
    monkeypatch.setitem(PACKAGES, "core", (checksum, {}))
    (tmp_path / "bin").mkdir()

    def install(lines):
        script = tmp_path / "bin" / "npm"
        script.write_text(f'#!/bin/sh\necho "$1 $2 $3" >> {tmp_path / "log"}\n{lines}\n')
        script.chmod(0o755)

    return install


def cached(tmp_path):
    return [path.name for path in (tmp_path / "keras" / "vit_keras").iterdir()]


def test_litert_is_downloaded_once(npm, tmp_path):
    npm(f"printf complete > $4/{NAME}")

    first, second = tarball("core"), tarball("core")

    assert first == second == tmp_path / "keras" / "vit_keras" / NAME
    assert first.read_bytes() == b"complete"
    command = f"pack @litertjs/core@{LITERT} --pack-destination\n"
    assert (tmp_path / "log").read_text() == command
    assert cached(tmp_path) == [NAME]


def test_a_damaged_tarball_is_downloaded_again(npm):
    npm(f"printf complete > $4/{NAME}")
    tarball("core").write_bytes(b"incomplete")

    assert tarball("core").read_bytes() == b"complete"


def test_a_tarball_with_another_checksum_is_refused(npm, tmp_path):
    npm(f"printf another > $4/{NAME}")

    with pytest.raises(RefusedError, match=f"npm fetched a {NAME} whose SHA-512 is not"):
        tarball("core")

    assert cached(tmp_path) == []


def test_errors_of_npm_are_reported(npm, tmp_path):
    npm("echo npm error code E404 >&2; echo npm error 404 Not Found >&2; exit 1")

    with pytest.raises(RefusedError, match="could not fetch @litertjs/core@.*: code E404; 404 Not"):
        tarball("core")

    assert cached(tmp_path) == []


@pytest.mark.slow
def test_without_npm_the_other_formats_are_exported(run_folder, npm, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    model, out = str(run_folder / "model.keras"), tmp_path / "out"

    with pytest.raises(SystemExit, match="Error: a page needs LiteRT.js, .* install Node.js"):
        main([model, "--allow-drop", "--format", "web", "tflite", "--out", str(out)])

    reports = {"labels.txt", "model_card.md", "report.json", "report.md"}
    assert {path.name for path in out.iterdir()} == {"model.tflite", *reports}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm, which downloads LiteRT.js")
def test_a_page_contains_the_exported_tflite_file(run_folder, tmp_path):
    page = tmp_path / "web_float16"
    page.mkdir()
    (page / "page.js").write_text("of an earlier page")
    command = [str(run_folder / "model.keras"), "--allow-drop", "--out", str(tmp_path)]

    main([*command, "--format", "tflite", "web", "--quantization", "float16"])

    assert (page / MODEL).read_bytes() == (tmp_path / "model_float16.tflite").read_bytes()
    assert (page / "labels.txt").read_text() == "blue\nred\n"
    assert json.loads((page / "preprocessing.json").read_text())["image_size"] == [16, 24]
    assert "earlier" not in (page / "page.js").read_text()
    assert f"LiteRT.js {LITERT}" in (page / "NOTICE.txt").read_text()
    assert "Apache License" in (page / "LICENSE.txt").read_text()
    assert not list(page.rglob("*.map"))
    rows = json.loads((tmp_path / "report.json").read_text())["artefacts"]
    assert [row["path"] for row in rows] == ["model_float16.tflite", "web_float16"]
    for key in ("max_difference", "accuracy", "operations"):
        assert rows[0][key] == rows[1][key]
    files = [file for file in page.rglob("*") if file.is_file()]
    assert rows[1]["bytes"] == sum(file.stat().st_size for file in files)
