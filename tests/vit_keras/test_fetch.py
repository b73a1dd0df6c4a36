"""Weights are downloaded once, completely and verified, from a server on loopback."""

import contextlib
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.checkpoints import FIXTURES

from vit_keras import PUBLISHED, VARIANTS, InputError, from_weights
from vit_keras.weights.fetch import fetch

WEIGHTS = (FIXTURES / "timm_plain" / "model.safetensors").read_bytes()
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Server(http.server.ThreadingHTTPServer):
    """Files, recorded requests, and where an answer stops."""

    files: dict[str, bytes]
    requests: list[str]
    sent_bytes: int | None
    stalls: bool
    stalled: threading.Event
    address: str


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, {path: bytes}, and records the requests."""

    server: Server

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.requests.append(f"{self.command} {self.path}")
        contents = self.server.files.get(self.path)
        if contents is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")  # as the hub answers
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(contents)))
        self.send_header("ETag", f'"{hashlib.sha256(contents).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(contents[: self.server.sent_bytes])
            self.wfile.flush()
            self.server.stalled.set()
            if self.server.stalls:
                time.sleep(30)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.files = {"/ViT.safetensors": WEIGHTS}
    server.requests, server.sent_bytes, server.stalls = [], None, False
    server.stalled = threading.Event()
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def cached(tmp_path):
    return [path for path in (tmp_path / "keras").rglob("*") if path.is_file()]


def test_an_address_is_fetched_once(server, tmp_path):
    first = fetch(f"{server.address}/ViT.safetensors").path
    second = fetch(f"{server.address}/ViT.safetensors").path

    assert first == second
    assert first.read_bytes() == WEIGHTS
    assert server.requests == ["GET /ViT.safetensors"]
    assert cached(tmp_path) == [first]


def test_models_come_from_an_address(server):
    model = from_weights(f"{server.address}/ViT.safetensors", sha256=SHA256.upper())

    assert model.output_shape == (None, 5)
    assert model.name == "ViT"


def test_a_wrong_checksum_is_refused_and_nothing_is_cached(server, tmp_path):
    with pytest.raises(InputError, match="could not be fetched: .*hash"):
        fetch(f"{server.address}/ViT.safetensors", sha256="0" * 64)

    assert cached(tmp_path) == []


def test_a_cached_file_with_a_wrong_checksum_is_fetched_again(server):
    path = fetch(f"{server.address}/ViT.safetensors").path
    path.write_bytes(WEIGHTS[:-1])

    assert fetch(f"{server.address}/ViT.safetensors", sha256=SHA256).path == path
    assert path.read_bytes() == WEIGHTS


def test_a_broken_connection_leaves_nothing_in_the_cache(server, tmp_path):
    server.sent_bytes = len(WEIGHTS) // 2

    with pytest.raises(InputError, match="could not be fetched"):
        fetch(f"{server.address}/ViT.safetensors")
    assert cached(tmp_path) == []

    server.sent_bytes = None
    assert fetch(f"{server.address}/ViT.safetensors").path.read_bytes() == WEIGHTS


@pytest.mark.parametrize("path", ["/nothing.npz", "/"])
def test_a_missing_file_is_an_input_error(server, path, tmp_path):
    with pytest.raises(InputError, match=r"could not be fetched: .*404|names no file"):
        fetch(server.address + path)

    assert cached(tmp_path) == []


def test_an_unreachable_server_is_an_input_error(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    with pytest.raises(InputError, match="could not be fetched"):
        fetch("http://127.0.0.1:9/ViT.npz")


@pytest.mark.slow
def test_a_killed_download_leaves_no_partial_file_in_its_place(server, tmp_path):
    address = f"{server.address}/ViT.safetensors"
    server.sent_bytes, server.stalls = len(WEIGHTS) // 2, True
    code = f"from vit_keras.weights.fetch import fetch; fetch({address!r})"
    process = subprocess.Popen([sys.executable, "-c", code])
    assert server.stalled.wait(timeout=60)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert not [path for path in cached(tmp_path) if path.parent.parent.name == "vit_keras"]
    server.sent_bytes, server.stalls = None, False
    assert fetch(address).path.read_bytes() == WEIGHTS


FROM_HUB = """
import sys, vit_keras
model = vit_keras.from_weights(sys.argv[1])
print(model.config.block.gelu, model.output_shape, model.name)
"""


def from_hub(server, tmp_path, address):
    """Runs in a process of its own: the client reads its environment when it is imported."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.address,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    return subprocess.run(
        [sys.executable, "-c", FROM_HUB, address], env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_repositories_come_from_the_hub_with_their_settings(server, tmp_path):
    pytest.importorskip("huggingface_hub")
    folder = FIXTURES / "timm_clip_quick"
    for file in ("config.json", "model.safetensors"):
        for revision in ("main", "v1"):
            server.files[f"/owner/clip/resolve/{revision}/{file}"] = (folder / file).read_bytes()

    for address in ("hf://owner/clip", "hf://owner/clip@v1"):
        result = from_hub(server, tmp_path, address)

        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith("quick (None, 5) clip")
    server.requests.clear()
    assert from_hub(server, tmp_path, "hf://owner/clip").returncode == 0
    assert not [r for r in server.requests if r.startswith("GET") and "safetensors" in r]


@pytest.mark.slow
def test_a_repository_without_weights_is_an_input_error(server, tmp_path):
    pytest.importorskip("huggingface_hub")
    server.files["/owner/text/resolve/main/config.json"] = b"{}"

    result = from_hub(server, tmp_path, "hf://owner/text")

    assert result.returncode == 1
    assert "InputError: hf://owner/text has none of model.safetensors" in result.stderr


@pytest.mark.slow
def test_an_unreachable_hub_is_not_an_empty_repository(server, tmp_path):
    pytest.importorskip("huggingface_hub")
    server.files["/owner/vit/resolve/main/model.safetensors"] = WEIGHTS
    assert from_hub(server, tmp_path, "hf://owner/vit").returncode == 0
    server.server_close()

    cached_repository = from_hub(server, tmp_path, "hf://owner/vit")
    other_repository = from_hub(server, tmp_path, "hf://owner/other")

    # The cache also has the information that there is no config.json.
    assert cached_repository.returncode == 0, cached_repository.stderr
    assert other_repository.returncode == 1
    assert "InputError: hf://owner/other could not be fetched" in other_repository.stderr


@pytest.mark.slow
def test_shards_are_fetched_with_their_index(server, tmp_path):
    pytest.importorskip("huggingface_hub")
    index = b'{"weight_map": {"cls_token": "part.safetensors"}}'
    server.files["/owner/large/resolve/main/model.safetensors.index.json"] = index
    server.files["/owner/large/resolve/main/part.safetensors"] = WEIGHTS

    result = from_hub(server, tmp_path, "hf://owner/large")

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("exact (None, 5)")


def test_without_the_hubs_client_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)

    with pytest.raises(InputError, match=r"pip install 'vit-keras-edge\[hub\]'"):
        fetch("hf://owner/name")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rows_are_complete(name):
    row = PUBLISHED[name]

    assert row.source.startswith(("https://", "hf://"))
    assert row.variant in VARIANTS
    assert row.licence in ("Apache-2.0", "MIT", "CC-BY-NC-4.0")
    assert (row.accuracy is None) == (not row.reported_by)
    assert row.accuracy is None or 0.7 < row.accuracy < 0.9


def test_published_names_are_fetched_from_their_source(server, monkeypatch):
    row = PUBLISHED["vit_ti16_224_augreg"]
    replaced = type(row)(f"{server.address}/ViT.safetensors", row.variant, row.licence)
    monkeypatch.setitem(PUBLISHED, "vit_ti16_224_augreg", replaced)

    with contextlib.chdir("/"):
        assert fetch("vit_ti16_224_augreg").path.read_bytes() == WEIGHTS
