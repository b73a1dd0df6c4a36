"""A static web server, Chromium, and the exported page as its users see it."""

import contextlib
import functools
import http.server
import re
import shutil
import threading

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

TIMEOUT = 60  # seconds
NEEDS_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("npm", "chromium", "chromedriver"))),
        reason="needs npm and Chromium: on Debian and Ubuntu npm, chromium and chromium-driver",
    ),
]


class Server(http.server.ThreadingHTTPServer):
    """A server of a folder on the loopback interface.

    Attributes:
        requests: the requested paths.
        knows_wasm: whether it sends the MIME type of WebAssembly.
        address: such as http://127.0.0.1:8000
    """

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        self.requests: list[str] = []
        self.knows_wasm = True
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder like any static server, and records the requested paths."""

    server: Server

    def do_GET(self):
        self.server.requests.append(self.path)
        super().do_GET()

    def guess_type(self, path):
        if path.endswith(".wasm") and not self.server.knows_wasm:
            return "application/octet-stream"
        return super().guess_type(path)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def web_server(folder):
    """A running Server of the folder."""
    with Server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def start_chromium(user_folder):
    """A headless Chromium with a fake camera, driven by Selenium."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in (
        "headless=new",
        "no-sandbox",  # for root
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "use-fake-device-for-media-stream",
        "use-fake-ui-for-media-stream",  # allows the camera
        f"user-data-dir={user_folder}",
        "window-size=1100,900",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(TIMEOUT)
    return driver


@contextlib.contextmanager
def script_before_page(driver, script):
    """Runs a script in every page that is opened, before the page's own scripts."""
    added = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        yield
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


class BrowserPage:
    """The exported page, opened in Chromium: what users do with it and see on it."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get_log("browser")  # empties it
        driver.get(address)
        self.wait(lambda: not self.status.startswith("Loading"))

    def wait(self, condition):
        WebDriverWait(self.driver, TIMEOUT, 0.05).until(lambda _: condition())

    def element(self, name):
        return self.driver.find_element("id", name)

    @property
    def status(self):
        return self.element("status").text

    def choose(self, file):
        """Chooses an image file; returns {label: probability}, best first."""
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

    def attention(self):
        """(columns, rows, opacity of each patch, 0 to 255) of the attention map."""
        return self.driver.execute_script(
            "const { width, height } = attention;"
            "const { data } = attention.getContext('2d').getImageData(0, 0, width, height);"
            "return [width, height, [...data].filter((_, index) => index % 4 === 3)]"
        )

    def errors(self):
        """Messages in the console, without those of LiteRT.js, which logs there and looks for a
        GPU."""
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        return [text for text in messages if not re.search("/litert/|No available adapters", text)]

    def evaluate(self, expression):
        """The value of an asynchronous JavaScript expression in the page, a list."""
        value = self.driver.execute_async_script(
            f"const done = arguments[0]; ({expression}).then(done, (error) => done(String(error)))"
        )
        assert not isinstance(value, str), value  # an error
        return value
