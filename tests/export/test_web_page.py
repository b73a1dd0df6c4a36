"""What a page takes, LiteRT.js by way of npm, is there whole or the page is not written."""

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
    """(lines of sh) -> an npm that does this, after it has noted what it was asked"""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    expected = base64.b64encode(hashlib.sha512(b"whole").digest()).decode()
    monkeypatch.setitem(PACKAGES, "core", (expected, {}))
    (tmp_path / "bin").mkdir()

    def install(lines):
        script = tmp_path / "bin" / "npm"
        script.write_text(f'#!/bin/sh\necho "$1 $2 $3" >> {tmp_path / "asked"}\n{lines}\n')
        script.chmod(0o755)

    return install


def cached(tmp_path):
    return [path.name for path in (tmp_path / "keras" / "vit_keras").iterdir()]


def test_litert_is_fetched_once(npm, tmp_path):
    npm(f"printf whole > $4/{NAME}")

    first, second = tarball("core"), tarball("core")

    assert first == second == tmp_path / "keras" / "vit_keras" / NAME
    assert first.read_bytes() == b"whole"
    asked = f"pack @litertjs/core@{LITERT} --pack-destination\n"
    assert (tmp_path / "asked").read_text() == asked
    assert cached(tmp_path) == [NAME]


def test_a_damaged_tarball_is_fetched_again(npm):
    npm(f"printf whole > $4/{NAME}")
    tarball("core").write_bytes(b"hole")

    assert tarball("core").read_bytes() == b"whole"


def test_another_tarball_is_refused(npm, tmp_path):
    npm(f"printf another > $4/{NAME}")

    with pytest.raises(RefusedError, match=f"npm fetched a {NAME} whose SHA-512 is not"):
        tarball("core")

    assert cached(tmp_path) == []


def test_what_npm_says_is_told(npm, tmp_path):
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
@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm, which fetches LiteRT.js")
def test_a_page_holds_the_file_that_is_exported_alone(run_folder, tmp_path):
    page = tmp_path / "web_float16"
    page.mkdir()
    (page / "page.js").write_text("of an earlier page, which this one replaces")
    command = [str(run_folder / "model.keras"), "--allow-drop", "--out", str(tmp_path)]

    main([*command, "--format", "tflite", "web", "--quantization", "float16"])

    assert (page / MODEL).read_bytes() == (tmp_path / "model_float16.tflite").read_bytes()
    assert (page / "labels.txt").read_text() == "blue\nred\n"
    assert json.loads((page / "preprocessing.json").read_text())["image_size"] == [16, 24]
    assert "earlier" not in (page / "page.js").read_text()
    assert f"LiteRT.js {LITERT}" in (page / "NOTICE.txt").read_text()
    assert "Apache License" in (page / "LICENSE.txt").read_text()
    assert not list(page.rglob("*.map"))
    rows = json.loads((tmp_path / "report.json").read_text())
    assert [row["path"] for row in rows] == ["model_float16.tflite", "web_float16"]
    alike = ("max_difference", "accuracy", "operations")
    assert [rows[0][key] for key in alike] == [rows[1][key] for key in alike]
    files = [file for file in page.rglob("*") if file.is_file()]
    assert rows[1]["bytes"] == sum(file.stat().st_size for file in files)
