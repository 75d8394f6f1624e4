"""A headless Chromium, controlled by tests and benchmarks over pipes with the DevTools protocol."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
FLAGS += " --disable-component-update --hide-scrollbars --remote-debugging-pipe"

# Chromium reads commands from file descriptor 3 and writes replies to 4; a zero byte ends each message.
START = "import os, sys; [os.dup2(int(pipe), number) for number, pipe in enumerate(sys.argv[1:3], 3)]; "
START += "os.execv(sys.argv[3], sys.argv[3:])"


def find_chromium() -> str | None:
    """Path of the program; None if it is not installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """A browser with one page. A context manager: leaving it ends the browser."""

    def __init__(self, width: int = 1200, height: int = 900, dark: bool = False):
        self.profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        (read, self._out), (self._in, write) = os.pipe(), os.pipe()
        # High numbers, which do not collide with 3 and 4 when START moves the pipes there.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 50) for end in (read, write)]
        command = [find_chromium(), *FLAGS.split(), f"--user-data-dir={self.profile.name}"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, ends), *command],
            pass_fds=ends,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for end in (read, write, *ends):
            os.close(end)
        self._buffer, self._number, self._session, self.events = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._out)
        os.close(self._in)
        self.profile.cleanup()

    def call(self, method: str, **params) -> dict:
        """The result of a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (reply := self._next()).get("id") != self._number:
            self.events.append(reply)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def open(self, page: Path, fragment: str = "", timeout: float = 120) -> float:
        """Open a file; seconds until its load event."""
        self._load("about:blank", timeout)  # a change of the fragment alone would not load the page
        start = time.monotonic()
        self._load(page.resolve().as_uri() + fragment, timeout)
        return time.monotonic() - start

    def _load(self, url: str, timeout: float) -> None:
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next(timeout))

    def evaluate(self, expression: str):
        """The value of a JavaScript expression; of a promise, the value it resolves to."""
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise RuntimeError(reply["exceptionDetails"]["exception"]["description"])
        return reply["result"].get("value")

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions and network requests since the page was opened."""
        complaints = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                complaints.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                complaints.append(str(params["args"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                complaints.append(params["entry"]["text"])
            elif method == "Network.requestWillBeSent" and params["request"]["url"].startswith(("http", "ws", "ftp")):
                complaints.append(f"requests {params['request']['url']}")
        return complaints

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """PNG of the window, or of the whole page."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """The page as it is printed."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"]))

    def _next(self, timeout: float = 120) -> dict:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], timeout)[0]:
                raise TimeoutError("the browser does not reply")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise RuntimeError("the browser has ended")
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)
