"""A page in Chromium requests the files in its own folder and nothing else."""

from support.browser import NEEDS_BROWSER, BrowserPage
from support.web_page import assert_close, keras_answer

from export.web.writer import MODEL

pytestmark = NEEDS_BROWSER

# The files of a page that a browser with relaxed SIMD loads
FILES = (
    "page.js",
    "classifier.js",
    "preprocess.js",
    "style.css",
    "labels.txt",
    "preprocessing.json",
    MODEL,
    "litert/core.js",
    "litert/wasm-utils.js",
    "litert/litert_wasm_internal.js",
    "litert/litert_wasm_internal.wasm",
)


def test_a_page_requests_only_the_files_in_its_folder(web_folder, serve, chromium, pictures):
    server = serve(web_folder.parent)
    page = BrowserPage(chromium, f"{server.address}/{web_folder.name}/")
    page.choose(pictures[0])

    paths = {f"/{web_folder.name}/{name}" for name in ("", *FILES)}
    assert sorted(server.requests) == sorted(paths)
    resources = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    loaded = {name.removeprefix(server.address) for name in chromium.execute_script(resources)}
    assert loaded == paths - {f"/{web_folder.name}/"}
    assert page.errors() == []


def test_a_page_cannot_request_another_host(web_folder, serve, chromium):
    other = serve(web_folder)
    page = BrowserPage(chromium, serve(web_folder).address)

    outcome = page.evaluate(
        f"fetch('{other.address}/labels.txt').then(() => ['fetched'], () => ['refused'])"
    )

    assert outcome == ["refused"]
    assert other.requests == []


def test_a_server_without_the_wasm_type_is_enough(web_model, web_folder, serve, chromium, pictures):
    server = serve(web_folder)
    server.knows_wasm = False
    page = BrowserPage(chromium, server.address)

    assert_close(page.choose(pictures[0]), keras_answer(web_model, pictures[0]), 2e-5)
