"""A page that an export wrote answers in Chromium like the Keras model, and asks nobody else."""

import contextlib
import dataclasses
import functools
import http.server
import json
import pathlib
import re
import shutil
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait
from sklearn.datasets import load_sample_images
from support.tiny import tiny_model

from export.checks.run_standalone import ask_tflite
from export.formats import FORMATS
from export.options import Options
from export.tflite.convert import convert_in_subprocess
from export.web.writer import MODEL
from vit_keras import Preprocessing, attention_rollout
from vit_keras.images.decoding import decode_image

# What a browser with relaxed SIMD loads of a page
PARTS = (
    *("page.js", "classifier.js", "preprocess.js", "style.css"),
    *("labels.txt", "preprocessing.json", MODEL, "litert/core.js", "litert/wasm-utils.js"),
    *("litert/litert_wasm_internal.js", "litert/litert_wasm_internal.wasm"),
)
CLASSES = ("ant", "bee", "cat", "dog", "èlk", "fox", "gnu")
NORMALISATION = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
GREY = {"mean": (0.5,), "std": (0.25,)}
PATIENCE = 60  # seconds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("npm", "chromium", "chromedriver"))),
        reason="needs npm and Chromium: on Debian and Ubuntu npm, chromium and chromium-driver",
    ),
]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder as any static server does, and notes what was asked for."""

    def do_GET(self):
        self.server.requests.append(self.path)
        super().do_GET()

    def guess_type(self, path):
        guessed = super().guess_type(path)
        knows = self.server.knows_wasm or not path.endswith(".wasm")
        return guessed if knows else "application/octet-stream"

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """folder -> a server of it on loopback, with its `address`"""
    with contextlib.ExitStack() as stack:

        def start(folder):
            handler = functools.partial(Handler, directory=str(folder))
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads = True
            server.requests, server.knows_wasm = [], True
            server.address = f"http://127.0.0.1:{server.server_port}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server

        yield start


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "headless=new",
        "no-sandbox",  # for root
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "use-fake-device-for-media-stream",
        "use-fake-ui-for-media-stream",  # which says yes
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
        "window-size=1100,900",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


class Page:
    """What people do with the page, and see on it."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get_log("browser")  # empties it
        driver.get(address)
        self.wait(lambda: not self.status.startswith("Loading"))

    def wait(self, condition):
        WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: condition())

    def element(self, name):
        return self.driver.find_element("id", name)

    @property
    def status(self):
        return self.element("status").text

    def choose(self, file):
        """Hands in a file; returns {label: probability}, best first."""
        self.element("file").send_keys(str(file))
        self.wait(lambda: self.status.startswith(file.name))
        return self.answers()

    def answers(self):
        return dict(
            self.driver.execute_script(
                "return [...answers.children].map((row) => [row.firstChild.textContent, "
                "parseFloat(row.style.getPropertyValue('--probability'))])"
            )
        )

    def errors(self):
        """What the console tells, but for LiteRT.js, which logs there and looks for a GPU"""
        told = [entry["message"] for entry in self.driver.get_log("browser")]
        return [text for text in told if not re.search("/litert/|No available adapters", text)]

    def ask(self, expression):
        """What an asynchronous JavaScript expression says, within the page"""
        told = self.driver.execute_async_script(
            f"const done = arguments[0]; ({expression}).then(done, (error) => done(String(error)))"
        )
        assert not isinstance(told, str), told
        return told


def assert_alike(answers, expected, tolerance):
    assert answers == pytest.approx({label: expected[label] for label in answers}, abs=tolerance)


def write_page(model, folder, kind="float32", **asked):
    """A page as an export has it, not verified"""
    row, options, source = FORMATS["web"], Options(**asked), folder.with_name("source")
    row.prepare(model, source, options)
    row.kinds[kind](source, folder, None, options)
    row.finish(folder, model, options)
    return folder


def model_with(preprocessing, **options):
    keras.utils.set_random_seed(0)
    return tiny_model(
        image_size=preprocessing.image_size,
        num_classes=7,
        class_names=CLASSES,
        preprocessing=preprocessing,
        channels=preprocessing.channels,
        **options,
    )


def seen(preprocessing, file):
    """uint8 (height, width, channels), of an image file as Keras prepares it"""
    image = decode_image(pathlib.Path(file).read_bytes(), preprocessing.channels)
    return np.clip(np.round(preprocessing.to_size(image)), 0, 255).astype("uint8")


def probabilities(model, file):
    pixels = seen(model.preprocessing, file)[np.newaxis]
    row = keras.ops.softmax(model(model.preprocessing.normalise(pixels)))
    return dict(zip(CLASSES, np.asarray(row)[0].tolist(), strict=True))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Image files: parts, of 16 sizes, of the two photographs that scikit-learn comes with"""
    folder = tmp_path_factory.mktemp("pictures")
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for index in range(16):
        left, top = 30 * index, 20 * (index % 4)
        size = (60 + 23 * index, 300 - 13 * index)
        part = photographs[index % 2].crop((left, top, left + size[0], top + size[1]))
        suffix = ("png", "jpg", "bmp", "gif", "webp")[index % 5]
        part.save(folder / f"{index:02}.{suffix}", quality=95)
    return sorted(folder.iterdir())


def clearest(model, pictures, count=4):
    """[(file, what Keras answers)] of pictures that a few bits do not decide: weights are random"""

    def margin(answered):
        best, second = sorted(answered[1].values())[:-3:-1]
        return second - best

    return sorted(((file, probabilities(model, file)) for file in pictures), key=margin)[:count]


@pytest.fixture(scope="session")
def model():
    return model_with(Preprocessing((16, 24), crop=0.9, **NORMALISATION))


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """A page of the model, in a folder of a folder"""
    return write_page(model, tmp_path_factory.mktemp("site") / "page")


@pytest.fixture
def page(folder, serve, chromium):
    """The page, under a path of its server"""
    return Page(chromium, f"{serve(folder.parent).address}/{folder.name}/")


def litert(folder, file, preprocessing):
    """What LiteRT's interpreter answers with a page's model, as `probabilities` does"""
    interpreter = Interpreter(str(folder / MODEL))
    asked = ask_tflite(interpreter, seen(preprocessing, file)[np.newaxis])
    row = asked["probabilities"][0]
    return dict(zip(CLASSES, row.tolist(), strict=True))


# The most that probabilities differ from LiteRT's, of the same file, and from Keras's; a rounding
# more or less in `dynamic` is a step of an 8-bit number.
TOLERANCES = {"float32": (2e-5, 2e-5), "float16": (2e-5, 1e-3), "dynamic": (1e-2, 2e-2)}
CASES = {
    "float32": (Preprocessing((16, 24), crop=0.9, **NORMALISATION), {}),
    "float16": (Preprocessing((24, 16), resize="squash", crop=0.8, **NORMALISATION), {}),
    "dynamic": (Preprocessing((16, 24), interpolation="bicubic", **NORMALISATION), {}),
    "grey": (Preprocessing((24, 24), **GREY), {}),
    "merged": (Preprocessing((16, 24), **NORMALISATION), {"merge_tokens": 3}),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_and_probabilities_are_those_of_keras(case, pictures, serve, chromium, tmp_path):
    preprocessing, options = CASES[case]
    kind = case if case in FORMATS["web"].kinds else "float32"
    model = model_with(preprocessing, **options)
    folder = write_page(model, tmp_path / "page", kind)
    page = Page(chromium, serve(folder).address)

    for file, expected in clearest(model, pictures):
        answers = page.choose(file)
        assert len(answers) == 5
        assert next(iter(answers)) == max(expected, key=expected.get)
        others = litert(folder, file, preprocessing), expected
        for other, tolerance in zip(others, TOLERANCES[kind], strict=True):
            assert_alike(answers, other, tolerance)
    assert page.errors() == []


RULES = [
    Preprocessing(size, resize, crop, interpolation, *normalisation.values())
    for size, resize, crop, interpolation, normalisation in (
        ((16, 24), "crop", 1.0, "bilinear", NORMALISATION),
        ((24, 16), "crop", 0.9, "bilinear", NORMALISATION),
        ((31, 47), "squash", 0.875, "bilinear", NORMALISATION),
        ((7, 9), "crop", 0.56, "bicubic", NORMALISATION),  # of 12.5 and 16.07 pixels
        ((500, 400), "crop", 1.0, "bicubic", NORMALISATION),  # larger than any picture
        ((500, 700), "squash", 0.8, "bilinear", GREY),
        ((20, 30), "crop", 1.0, "bicubic", GREY),
    )
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_pixels_are_those_of_keras(rule, page, folder, pictures):
    for file in pictures[::3]:
        shutil.copy(file, folder)
        pixels = page.ask(
            "(async () => {"
            "const { preprocess } = await import('./preprocess.js');"
            f"const file = await (await fetch('{file.name}')).blob();"
            "const bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none' });"
            f"return [...preprocess(bitmap, {json.dumps(dataclasses.asdict(rule))})];"
            "})()"
        )

        expected = seen(rule, file)
        difference = np.abs(np.reshape(pixels, expected.shape) - expected.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3  # that lie between two numbers, but for rounding


def test_sideways_photographs_stand_upright(model, page, pictures, tmp_path):
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        file = tmp_path / f"{orientation}.jpg"
        Image.open(pictures[4]).save(file, quality=95, exif=exif)

        answers = page.choose(file)

        assert_alike(answers, probabilities(model, file), 2e-5)


def test_a_page_asks_its_own_folder_alone(folder, serve, chromium, pictures):
    server = serve(folder.parent)
    page = Page(chromium, f"{server.address}/{folder.name}/")
    page.choose(pictures[0])

    files = {f"/{folder.name}/{name}" for name in ("", *PARTS)}
    assert sorted(server.requests) == sorted(files)
    told = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    asked = {name.removeprefix(server.address) for name in chromium.execute_script(told)}
    assert asked == files - {f"/{folder.name}/"}
    assert page.errors() == []


def test_a_page_may_not_ask_another_host(folder, serve, chromium):
    other = serve(folder)
    page = Page(chromium, serve(folder).address)

    told = page.ask(
        f"fetch('{other.address}/labels.txt').then(() => ['got it'], () => ['refused'])"
    )

    assert told == ["refused"]
    assert other.requests == []


def test_pictures_can_be_dropped(model, page, folder, pictures):
    shutil.copy(pictures[0], folder)
    dropped = f"""
        const [done] = arguments;
        fetch('{pictures[0].name}').then((response) => response.blob()).then((blob) => {{
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([blob], 'dropped.png'));
          document.body.dispatchEvent(new DragEvent('drop', {{ dataTransfer, bubbles: true }}));
          done();
        }})"""
    page.driver.execute_async_script(dropped)
    page.wait(lambda: page.status.startswith("dropped.png: "))

    assert_alike(page.answers(), probabilities(model, pictures[0]), 2e-5)


def test_a_file_that_is_no_picture_is_named(page, pictures, tmp_path):
    good = pictures[0].read_bytes()
    broken = {"empty.png": b"", "notes.jpg": b"no picture", "half.png": good[: len(good) // 2]}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)

        page.element("file").send_keys(str(tmp_path / name))

        page.wait(lambda name=name: page.status.startswith(name))
        assert page.status == f"{name} is no picture that this browser can read; try a JPEG or PNG."
        assert page.element("status").get_attribute("class") == "failed"
    assert page.choose(pictures[0])
    assert page.element("status").get_attribute("class") == ""
    assert page.errors() == []


def test_the_camera_is_watched_until_it_is_stopped(page):
    page.element("camera").click()
    page.wait(lambda: page.status.startswith("Camera: "))
    first = page.status
    page.wait(lambda: page.status != first)
    assert page.element("camera").text == "Stop"

    page.element("camera").click()

    assert page.element("camera").text == "Camera"
    assert page.driver.execute_script("return stream.srcObject") is None
    assert sum(page.answers().values()) > 0.5
    assert page.errors() == []


@contextlib.contextmanager
def before_each_page(driver, script):
    added = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_a_browser_without_simd_is_told(folder, serve, chromium):
    with before_each_page(chromium, "WebAssembly.validate = () => false"):
        page = Page(chromium, serve(folder).address)

    assert page.status.startswith("This browser has no WebAssembly SIMD, which the model needs.")
    assert not page.element("file").is_enabled()


def test_a_browser_without_relaxed_simd_answers_the_same(model, folder, serve, chromium, pictures):
    lacking = """
        const { instantiate } = WebAssembly;
        WebAssembly.instantiate = (bytes, ...given) =>
          bytes.length < 100 ? Promise.reject('not known') : instantiate(bytes, ...given);"""
    server = serve(folder)
    with before_each_page(chromium, lacking):
        page = Page(chromium, server.address)

    assert_alike(page.choose(pictures[0]), probabilities(model, pictures[0]), 2e-5)
    assert "/litert/litert_wasm_compat_internal.wasm" in server.requests


def test_a_server_that_does_not_know_wasm_will_do(model, folder, serve, chromium, pictures):
    server = serve(folder)
    server.knows_wasm = False
    page = Page(chromium, server.address)

    assert_alike(page.choose(pictures[0]), probabilities(model, pictures[0]), 2e-5)


def test_a_missing_file_is_named(folder, serve, chromium, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / MODEL).unlink()

    page = Page(chromium, serve(tmp_path / "page").address)

    assert page.status == "model.tflite is missing here: status 404."


@pytest.fixture(scope="session")
def watching(folder, tmp_path_factory):
    """A page whose model has the brightness of 4x6 patches for its attention"""

    def answer(images):
        brightness = tf.reduce_mean(tf.cast(images, tf.float32), axis=-1, keepdims=True)
        patches = tf.nn.avg_pool2d(brightness, 4, 4, "VALID")[..., 0]
        scores = tf.reduce_mean(patches, axis=1)
        return {
            "probabilities": tf.nn.softmax(scores / 255),
            "attention": patches / tf.reduce_sum(patches),
        }

    copy = tmp_path_factory.mktemp("watching") / "page"
    shutil.copytree(folder, copy)
    rule = json.dumps(dataclasses.asdict(Preprocessing((16, 24), **NORMALISATION)))
    (copy / "preprocessing.json").write_text(rule)
    module, spec = tf.Module(), tf.TensorSpec((1, 16, 24, 3), tf.uint8, "images")
    module.answer = tf.function(answer, input_signature=[spec])
    tf.saved_model.save(module, str(copy.with_name("saved_model")), module.answer)
    convert_in_subprocess(copy.with_name("saved_model"), copy / MODEL)
    return copy


def test_attention_is_kerass_rollout(model, pictures, serve, chromium, tmp_path):
    folder = write_page(model, tmp_path / "page", attention=True)
    page = Page(chromium, serve(folder).address)
    for file in pictures[:3]:
        page.choose(file)

        drawn = chromium.execute_script(
            "const { width, height } = attention;"
            "const { data } = attention.getContext('2d').getImageData(0, 0, width, height);"
            "return [...data].filter((_, index) => index % 4 === 3)"
        )

        pixels = seen(model.preprocessing, file)[np.newaxis]
        rollout = np.asarray(attention_rollout(model, model.preprocessing.normalise(pixels)))
        expected = (190 * rollout / rollout.max()).ravel()  # 190 is the highest opacity
        np.testing.assert_allclose(drawn, expected, atol=1)


def test_attention_lies_over_the_picture(watching, serve, chromium, tmp_path):
    pixels = np.zeros((160, 240, 3), "uint8")
    pixels[48:72, 168:192] = 255  # in one patch of 40x40 pixels: (1, 4)
    Image.fromarray(pixels).save(tmp_path / "spot.png")
    page = Page(chromium, serve(watching).address)
    assert not page.element("attention").is_displayed()

    page.choose(tmp_path / "spot.png")

    opacity = chromium.execute_script(
        "const { width, height } = attention;"
        "const { data } = attention.getContext('2d').getImageData(0, 0, width, height);"
        "return [width, height, [...data].filter((_, index) => index % 4 === 3)]"
    )
    width, height, alphas = opacity
    assert (width, height) == (6, 4)
    assert [index for index, alpha in enumerate(alphas) if alpha] == [1 * 6 + 4]
    seen, shown = page.element("seen"), page.element("attention")
    assert shown.rect == seen.rect
    page.element("overlay").click()
    assert not shown.is_displayed()


@pytest.mark.parametrize(
    ("name", "width", "height", "scheme"),
    [("desk", 1100, 800, "light"), ("phone", 360, 740, "light"), ("dark", 390, 844, "dark")],
)
def test_nothing_is_cut_off(name, width, height, scheme, watching, serve, chromium, request):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 500}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    photograph = pathlib.Path(load_sample_images().filenames[1])
    try:
        page = Page(chromium, serve(watching).address)
        for step in ("before", "after"):
            wide = chromium.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width
            # To look at: .pytest_cache/d/web
            folder = request.config.cache.mkdir("web")
            chromium.save_screenshot(str(folder / f"{name}-{step}.png"))
            page.choose(photograph)
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
