"""A real browser without a window, driven by the Chrome DevTools Protocol over a pipe: no port, no driver, no library.

A page that is opened here tells what it asked the network for, which dialogs it opened and what its console said.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MISSING = ("no Chromium on PATH, so the page was not looked at: apt-get install chromium fonts-dejavu-core, or name "
           "one in $BROWSER_FOR_TESTS")
TIMEOUT_S = 60.0


def find_browser() -> str | None:
    """Return the program to run: $BROWSER_FOR_TESTS, else the first of NAMES on PATH."""
    named = os.environ.get("BROWSER_FOR_TESTS")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab with one file in it. `requests` are the URLs it asked for, `dialogs` and `complaints` what it said."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the protocol to this tab; return its result."""
        return self._browser.call(method, parameters, self._session)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, as JSON holds it."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def size(self, width: int, height: int, *, touch: bool = False) -> None:
        """Set the window's inner size in CSS pixels; one is one pixel of a picture."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)

    def media(self, *, dark: bool = False, printed: bool = False, forced: bool = False) -> None:
        """Choose what the reader prefers."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                    {"name": "forced-colors", "value": "active" if forced else "none"}]
        self.call("Emulation.setEmulatedMedia", media="print" if printed else "screen", features=features)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key, named as in KeyboardEvent.key."""
        codes = {"Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Escape": 27}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key],
                      modifiers=8 if shift else 0)

    def point(self, x: float, y: float) -> None:
        """Move the mouse there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def tap(self, x: float, y: float) -> None:
        """Touch there with a finger."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def picture(self, save: Path | None = None) -> np.ndarray:
        """Return the whole page as pixels [height, width, RGB]."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        data = base64.b64decode(found["data"])
        if save is not None:
            save.write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def events(self, method: str) -> list[dict[str, Any]]:
        """Return the parameters of the events of one kind so far."""
        self._browser.call("Browser.getVersion", {}, None)
        return [event["params"] for event in self._browser.events
                if event["method"] == method and event.get("sessionId") == self._session]

    @property
    def requests(self) -> list[str]:
        """The URLs that the page asked for, itself included."""
        return [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]

    @property
    def dialogs(self) -> list[str]:
        """The messages of alert, confirm, prompt and their like."""
        return [event["message"] for event in self.events("Page.javascriptDialogOpening")]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings: of scripts, and of the Content-Security-Policy."""
        logged = [event["entry"]["text"] for event in self.events("Log.entryAdded")]
        thrown = [event["exceptionDetails"]["text"] for event in self.events("Runtime.exceptionThrown")]
        return logged + thrown + [event["type"] for event in self.events("Runtime.consoleAPICalled")]


class Browser:
    """A running browser."""

    def __init__(self, process: subprocess.Popen[bytes], commands: int, answers: int) -> None:
        self._process = process
        self._commands, self._answers = commands, answers
        self._held, self._last = b"", 0
        self.events: list[dict[str, Any]] = []

    def open(self, path: Path, *, width: int = 1200, height: int = 900, touch: bool = False, dark: bool = False
             ) -> Page:
        """Open a file in a new tab of that size; return when it has loaded."""
        target = self.call("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True}, None)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.size(width, height, touch=touch)
        page.media(dark=dark)
        page.call("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + TIMEOUT_S
        while not page.events("Page.loadEventFired"):
            assert time.monotonic() < deadline, f"{path} did not load in {TIMEOUT_S:g} s"
            time.sleep(0.02)
        return page

    def call(self, method: str, parameters: dict[str, Any], session: str | None) -> dict[str, Any]:
        """Send one command; return its result. Events that come before it are kept, dialogs dismissed."""
        number = self._send(method, parameters, session)
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            if "method" in message:
                self.events.append(message)
                if message["method"] == "Page.javascriptDialogOpening":
                    self._send("Page.handleJavaScriptDialog", {"accept": False}, message.get("sessionId"))

    def _send(self, method: str, parameters: dict[str, Any], session: str | None) -> int:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        data = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data):]
        return self._last

    def _receive(self) -> dict[str, Any]:
        parts = [self._held]
        while b"\0" not in parts[-1]:
            ready, _, _ = select.select([self._answers], [], [], TIMEOUT_S)
            more = os.read(self._answers, 1 << 20) if ready else b""
            assert more, "the browser has gone, or said nothing for a minute"
            parts.append(more)
        message, _, self._held = b"".join(parts).partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def running(program: str) -> Iterator[Browser]:
    """Run a browser with a profile of its own, offline but for what a page itself asks for."""
    arguments = ["--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
                 "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
                 "--force-color-profile=srgb", "--remote-debugging-pipe", "--disable-lcd-text"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's own sandbox refuses to run as root, as tests in a container do
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        to_browser, commands = os.pipe()
        answers, from_browser = os.pipe()
        process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}', program, f"--user-data-dir={profile}",
             *arguments, "about:blank"],
            pass_fds=(to_browser, from_browser), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        browser = Browser(process, commands, answers)
        try:
            yield browser
        finally:
            with contextlib.suppress(Exception):
                browser.call("Browser.close", {}, None)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            os.close(commands)
            os.close(answers)
