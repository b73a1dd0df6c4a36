"""What users of a page in Chromium do and see: files, camera, errors, layout."""

import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from support.browser import NEEDS_BROWSER, BrowserPage, script_before_page
from support.web_page import assert_close, keras_answer

from export.web.writer import MODEL

pytestmark = NEEDS_BROWSER


def test_a_picture_can_be_dropped(web_model, web_page, pictures):
    drop = f"""(async () => {{
          const response = await fetch('../pictures/{pictures[0].name}');
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([await response.blob()], 'dropped.png'));
          document.body.dispatchEvent(new DragEvent('drop', {{ dataTransfer, bubbles: true }}));
          return [];
        }})()"""
    web_page.evaluate(drop)
    web_page.wait(lambda: web_page.status.startswith("dropped.png: "))

    assert_close(web_page.answers(), keras_answer(web_model, pictures[0]), 2e-5)


def test_an_unreadable_file_is_named(web_page, pictures, tmp_path):
    good = pictures[0].read_bytes()
    broken = {"empty.png": b"", "notes.jpg": b"not an image", "half.png": good[: len(good) // 2]}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)

        web_page.element("file").send_keys(str(tmp_path / name))

        web_page.wait(lambda name=name: web_page.status.startswith(name))
        reason = "is not an image that this browser can read; try a JPEG or PNG."
        assert web_page.status == f"{name} {reason}"
        assert web_page.element("status").get_attribute("class") == "failed"
    assert len(web_page.choose(pictures[0])) == 5
    assert web_page.element("status").get_attribute("class") == ""
    assert web_page.errors() == []


def test_the_camera_is_classified_until_it_is_stopped(web_page):
    web_page.element("camera").click()
    web_page.wait(lambda: web_page.status.startswith("Camera: "))
    first = web_page.status
    web_page.wait(lambda: web_page.status != first)
    assert web_page.element("camera").text == "Stop"

    web_page.element("camera").click()

    assert web_page.element("camera").text == "Camera"
    assert web_page.driver.execute_script("return stream.srcObject") is None
    assert sum(web_page.answers().values()) > 0.5
    assert web_page.errors() == []


def test_a_browser_without_simd_gets_a_message(web_folder, serve, chromium):
    with script_before_page(chromium, "WebAssembly.validate = () => false"):
        page = BrowserPage(chromium, serve(web_folder).address)

    assert page.status.startswith("This browser has no WebAssembly SIMD, which the model needs.")
    assert not page.element("file").is_enabled()


def test_a_browser_without_relaxed_simd_gives_the_same_answer(
    web_model, web_folder, serve, chromium, pictures
):
    reject_relaxed_simd = """
        const { instantiate } = WebAssembly;
        WebAssembly.instantiate = (bytes, ...rest) =>
          bytes.length < 100 ? Promise.reject('unsupported') : instantiate(bytes, ...rest);"""
    server = serve(web_folder)
    with script_before_page(chromium, reject_relaxed_simd):
        page = BrowserPage(chromium, server.address)

    assert_close(page.choose(pictures[0]), keras_answer(web_model, pictures[0]), 2e-5)
    assert "/litert/litert_wasm_compat_internal.wasm" in server.requests


def test_a_missing_file_is_named(web_folder, serve, chromium, tmp_path):
    shutil.copytree(web_folder, tmp_path / "page")
    (tmp_path / "page" / MODEL).unlink()

    page = BrowserPage(chromium, serve(tmp_path / "page").address)

    assert page.status == "model.tflite cannot be loaded: status 404."


def test_attention_is_drawn_over_its_patch_of_the_picture(
    brightness_folder, serve, chromium, tmp_path
):
    pixels = np.zeros((160, 240, 3), "uint8")
    pixels[48:72, 168:192] = 255  # inside the patch of 40x40 pixels in row 1, column 4
    Image.fromarray(pixels).save(tmp_path / "spot.png")
    page = BrowserPage(chromium, serve(brightness_folder).address)
    assert not page.element("attention").is_displayed()

    page.choose(tmp_path / "spot.png")

    columns, rows, opacities = page.attention()
    assert (columns, rows) == (6, 4)
    assert np.flatnonzero(opacities).tolist() == [1 * 6 + 4]
    assert page.element("attention").rect == page.element("preview").rect
    page.element("overlay").click()
    assert not page.element("attention").is_displayed()


@pytest.mark.parametrize(
    ("name", "width", "height", "scheme"),
    [("desk", 1100, 800, "light"), ("phone", 360, 740, "light"), ("dark", 390, 844, "dark")],
)
def test_the_page_fits_the_width_of_the_screen(
    name, width, height, scheme, brightness_folder, serve, chromium, request
):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 500}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    photograph = pathlib.Path(load_sample_images().filenames[1])
    screenshots = request.config.cache.mkdir("web")  # .pytest_cache/d/web, to look at
    try:
        page = BrowserPage(chromium, serve(brightness_folder).address)
        for step in ("before", "after"):
            assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
            assert chromium.save_screenshot(str(screenshots / f"{name}-{step}.png"))
            page.choose(photograph)
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
