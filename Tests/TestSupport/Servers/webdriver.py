"""A client of WebDriver (https://www.w3.org/TR/webdriver2/) for Debian's chromium and chromium-driver, without a window.

with Browser() as browser:
    browser.open("http://127.0.0.1:1/")
    browser.find("button").click()
    browser.wait("an answer", lambda: browser.find("output").text())
    browser.check_errors()
"""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

PATIENCE = 120
# How WebDriver names an element in JSON.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {
    "enter": "\ue007", "escape": "\ue00c", "home": "\ue011", "left": "\ue012", "up": "\ue013", "right": "\ue014", "down": "\ue015", "tab": "\ue004",
    "space": " ",
}
OPTIONS = [
    "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1200,900",
]
# Notes what the page's Content-Security-Policy has refused, before any script of the page runs.
NOTE_VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""
# Lists the texts with less contrast than WCAG's 4.5:1, or 3:1 for large ones, with the colours that are seen.
CONTRAST = """
    const color = (text) => {
        const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
        return { r, g, b, a };
    };
    const over = (top, below) => ({
        r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a), b: top.b * top.a + below.b * (1 - top.a), a: 1,
    });
    const luminance = ({ r, g, b }) => {
        const [x, y, z] = [r, g, b].map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const canvas = matchMedia("(prefers-color-scheme: dark)").matches && getComputedStyle(document.documentElement).colorScheme.includes("dark")
        ? color("rgb(18, 18, 18)") : color("rgb(255, 255, 255)");
    const behind = (element) => {
        const layers = [];
        for (let at = element; at; at = at.parentElement) layers.push(color(getComputedStyle(at).backgroundColor));
        return layers.reverse().reduce((below, layer) => over(layer, below), canvas);
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const looked = new Set();
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || looked.has(element) || !element.checkVisibility({ visibilityProperty: true })) continue;
        looked.add(element);
        const style = getComputedStyle(element);
        const below = behind(element);
        const [one, two] = [luminance(over(color(style.color), below)), luminance(below)].sort((a, b) => b - a);
        const ratio = (one + 0.05) / (two + 0.05);
        const size = parseFloat(style.fontSize);
        const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        if (ratio < (isLarge ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}:1 ${style.color} "${element.textContent.trim().slice(0, 40)}" ${element.className}`);
    }
    return found;
"""


class Failure(Exception):
    """The driver refuses a command, or something that was waited for never came."""


class Element:
    def __init__(self, browser, name):
        self.browser, self.name = browser, name

    def command(self, path, content=None, method=None):
        return self.browser.command(f"/element/{self.name}{path}", content, method)

    def click(self):
        self.command("/click", {})

    def type(self, text):
        """Types a text, or a key of KEYS."""
        self.command("/value", {"text": KEYS.get(text, text)})

    def clear(self):
        self.command("/clear", {})

    def text(self):
        return self.command("/text")

    def attribute(self, name):
        return self.command(f"/attribute/{name}")

    def role(self):
        """The role that a screen reader is told."""
        return self.command("/computedrole")

    def label(self):
        """The name that a screen reader reads."""
        return self.command("/computedlabel")


class Browser:
    """A chromium of its own, with a new profile, which ends with the block; without scripts, it runs none of a page's, only those of the test."""

    def __init__(self, patience=PATIENCE, options=(), scripts=True):
        self.patience = patience
        self.folder = tempfile.mkdtemp(prefix="browser-")
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.session = None
        environment = {**os.environ, "HOME": self.folder, "TMPDIR": self.folder}
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True)
        try:
            self.port = self.read_port()
            # A browser of root has no sandbox; these pages are the tests' own.
            own = [*OPTIONS, *options, f"--user-data-dir={self.folder}/profile", *(["--no-sandbox"] if os.getuid() == 0 else [])]
            wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": own, "binary": shutil.which("chromium")}}
            wanted["goog:loggingPrefs"] = {"browser": "ALL"}
            if not scripts:
                wanted["goog:chromeOptions"]["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
            self.session = self.request("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            self.cdp("Page.addScriptToEvaluateOnNewDocument", source=NOTE_VIOLATIONS)
        except BaseException:
            self.close()
            raise

    def read_port(self):
        """The port that the driver prints; what it prints later is read and dropped."""
        found, lines, is_read = [], [], threading.Event()

        def read():
            for line in self.driver.stdout:
                lines.append(line)
                if match := re.search(r"started successfully on port (\d+)", line):
                    found.append(int(match[1]))
                    is_read.set()
            is_read.set()

        threading.Thread(target=read, daemon=True).start()
        is_read.wait(self.patience)
        if not found:
            raise Failure("chromedriver names no port: " + "".join(lines))
        return found[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the browser and its driver."""
        try:
            if self.session:
                self.command("", method="DELETE")
        except (OSError, Failure):
            pass
        self.driver.terminate()
        try:
            self.driver.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.driver.pid, 9)
            self.driver.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # MARK: Commands

    def request(self, method, path, content=None):
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": "application/json"}, method=method)
        try:
            with self.opener.open(request, timeout=self.patience) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise Failure(f"{method} {path}: {value['error']}: {value['message'].splitlines()[0]}") from None

    def command(self, path, content=None, method=None):
        return self.request(method or ("GET" if content is None else "POST"), f"/session/{self.session}{path}", content)

    def cdp(self, name, **parameters):
        """A command of Chrome's own protocol."""
        return self.command("/goog/cdp/execute", {"cmd": name, "params": parameters})

    # MARK: Pages

    def open(self, url):
        """Opens a page, and waits until it is loaded."""
        self.command("/url", {"url": url})

    def find_all(self, selector):
        found = self.command("/elements", {"using": "css selector", "value": selector})
        return [Element(self, element[ELEMENT]) for element in found]

    def find(self, selector):
        """The first element that fits, once there is one."""
        return self.wait(f"an element {selector}", lambda: next(iter(self.find_all(selector)), None))

    def script(self, text, *arguments):
        """What a function with this body returns."""
        return self.command("/execute/sync", {"script": text, "args": list(arguments)})

    def focused(self):
        return Element(self, self.command("/element/active")[ELEMENT])

    def press(self, key):
        """Presses a key of KEYS where the focus is."""
        self.focused().type(key)

    def wait(self, what, holds):
        """Waits until something holds, and returns it."""
        end = time.monotonic() + self.patience
        while True:
            if result := holds():
                return result
            if time.monotonic() > end:
                raise Failure(f"{what} never came")
            time.sleep(0.02)

    def scheme(self, name):
        """Has pages in the light or dark scheme."""
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def phone(self):
        """Has pages as a phone shows them, with a finger instead of a mouse."""
        self.cdp("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
        self.cdp("Emulation.setTouchEmulationEnabled", enabled=True)

    def screenshot(self, path):
        """Writes the page as it is seen, as PNG."""
        pathlib.Path(path).write_bytes(base64.b64decode(self.command("/screenshot")))

    # MARK: Checks

    def low_contrast(self):
        """The texts that are too pale to read."""
        return self.script(CONTRAST)

    def check_errors(self):
        """Fails when the console has an error since the last time, or the page has broken its Content-Security-Policy."""
        entries = self.command("/se/log", {"type": "browser"})
        errors = [entry["message"] for entry in entries if entry["level"] == "SEVERE" or "Content Security Policy" in entry["message"]]
        errors += self.script("return window.violations ?? ['nothing was noted']")
        if errors:
            raise Failure("the page has errors: " + "; ".join(errors))
