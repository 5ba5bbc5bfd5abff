"""A real Chromium, driven through its debugging pipe with nothing but Python: pages, expressions, clicks.

CHROMIUM_PATH  the browser; else the first of NAMES on the PATH
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTH, HEIGHT = 1600, 950  # px of a page
ANSWER_SECONDS = 60
# The browser reads commands from file descriptor 3 and writes to 4.
LAUNCH = "import os, sys; r, w, *c = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4); os.execv(c[0], c)"
FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-extensions", "--disable-background-networking", "--lang=en-US", f"--window-size={WIDTH},{HEIGHT}"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing outside this machine
)


def find_browser() -> str | None:
    """Path of a Chromium, or None."""
    named = os.environ.get("CHROMIUM_PATH")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


def absence() -> str | None:
    """Why no browser can be driven here, or None."""
    if os.name != "posix":
        return "the browser's pipe needs a POSIX system"
    return None if find_browser() else "no Chromium on the PATH; name one in CHROMIUM_PATH"


class PageError(AssertionError):
    """An expression of the page threw, or never came true."""


@dataclass
class Browser:
    """A running browser: commands go out, answers and events come in, each ended by a zero byte."""

    reads: int
    writes: int
    pending: bytes = b""
    number: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The browser's answer to one command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **({"sessionId": session} if session else {})}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.writes, data) :]
        end = time.monotonic() + ANSWER_SECONDS
        while (answer := self.receive(end)).get("id") != self.number:
            self.events.append(answer)
        if "error" in answer:
            raise PageError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def receive(self, end: float) -> dict[str, Any]:
        """The next message; raises TimeoutError when none came by then."""
        while b"\0" not in self.pending:
            ready, _, _ = select.select([self.reads], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self.reads, 1 << 20) if ready else b""
            if not data:
                raise TimeoutError("the browser gave no answer" if not ready else "the browser ended")
            self.pending += data
        message, _, self.pending = self.pending.partition(b"\0")
        return json.loads(message)

    def open(self, address: str) -> Page:
        """A page of its own, without anything that earlier pages stored."""
        context = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask(
            "Target.createTarget", url="about:blank", browserContextId=context, width=WIDTH, height=HEIGHT
        )
        session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        page = Page(self, session, context)
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable", session)
        screen = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", session, **screen)
        self.ask("Page.navigate", session, url=address)
        return page


@dataclass
class Page:
    """One page of a browser."""

    browser: Browser
    session: str
    context: str

    def run(self, code: str) -> Any:
        """What the body of an async function returns in the page, from JSON."""
        wrapped = f"(async () => {{ {code} }})()"
        answer = self.browser.ask(
            "Runtime.evaluate", self.session, expression=wrapped, awaitPromise=True, returnByValue=True
        )
        if details := answer.get("exceptionDetails"):
            raise PageError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 30) -> Any:
        """The value of an expression once it is true; it may throw before."""
        end = time.monotonic() + seconds
        while True:
            found = self.run(f"try {{ return {condition} }} catch {{ return null }}")
            if found:
                return found
            if time.monotonic() > end:
                raise PageError(f"not within {seconds} s: {condition}")
            time.sleep(0.2)

    def point(self, x: float, y: float) -> None:
        """Moves the mouse, in px of the page."""
        self.browser.ask("Input.dispatchMouseEvent", self.session, type="mouseMoved", x=x, y=y)

    def click(self, element: str, across: float = 0.5, down: float = 0.5) -> None:
        """A press and release of the left button on an element, given as an expression, at shares of its box."""
        self.wait(f"{element}.isConnected")
        box, before = self.box(element), {}
        while box != before:  # it may still be on its way
            time.sleep(0.3)
            box, before = self.box(element), box
        place = {"x": box["x"] + across * box["width"], "y": box["y"] + down * box["height"]}
        self.point(**place)
        for kind in ("mousePressed", "mouseReleased"):
            held = {"button": "left", "clickCount": 1}
            self.browser.ask("Input.dispatchMouseEvent", self.session, type=kind, **place, **held)

    def box(self, element: str) -> dict[str, float]:
        """Place and size of an element, px."""
        return self.run(f"return {element}.getBoundingClientRect().toJSON()")

    def write(self, text: str) -> None:
        """Types a text where the cursor is."""
        self.browser.ask("Input.insertText", self.session, text=text)

    def press(self, key: str) -> None:
        """One stroke of a key without a letter, such as `Tab`."""
        for kind in ("keyDown", "keyUp"):
            self.browser.ask("Input.dispatchKeyEvent", self.session, type=kind, key=key, code=key)

    def picture(self) -> bytes:
        """What the page shows, as PNG."""
        return base64.b64decode(self.browser.ask("Page.captureScreenshot", self.session, format="png")["data"])

    def troubles(self, place: str) -> list[str]:
        """Errors so far that name a place, such as a folder of scripts."""
        found = [
            json.dumps(event["params"])
            for event in self.browser.events
            if event.get("sessionId") == self.session
            and (
                event["method"] == "Runtime.exceptionThrown"
                or (event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] == "error")
                or (event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error")
            )
        ]
        return [text for text in found if place in text]

    def close(self) -> None:
        """Closes the page and forgets what it stored."""
        self.browser.ask("Target.disposeBrowserContext", browserContextId=self.context)


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """A browser whose own files lie in a folder."""
    import fcntl

    path = find_browser()
    assert path
    from_us, ours = os.pipe()
    theirs, to_us = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (from_us, to_us)]  # clear of 3 and 4
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    command = [sys.executable, "-c", LAUNCH, *map(str, high), path, *FLAGS, *root, f"--user-data-dir={folder}"]
    with (folder / "browser.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, pass_fds=high, stdout=log, stderr=log)
        for end in (from_us, to_us, *high):
            os.close(end)
        browser = Browser(theirs, ours)
        try:
            yield browser
            browser.ask("Browser.close")
        finally:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours)
            os.close(theirs)
