"""A real ComfyUI server with this pack in it, for as long as a test lasts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from hosts import ROOT, Host

START_SECONDS = 600
RUN_SECONDS = 1800


@dataclass(frozen=True)
class Server:
    """One running server; base holds its models, inputs and outputs, all empty at first."""

    address: str
    base: Path

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What the server answers, from JSON; None where it says nothing.

        A refused prompt raises AssertionError with the server's reasons.
        """
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.address}{path}", data, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except HTTPError as error:
            with error:
                raise AssertionError(error.read().decode(errors="replace")) from error

    def run(self, prompt: Mapping[str, Any]) -> dict[str, Any]:
        """The history of a queued prompt once it has ended."""
        ident = self.ask("/prompt", {"prompt": prompt})["prompt_id"]
        end = time.monotonic() + RUN_SECONDS
        while time.monotonic() < end:
            if ident in (history := self.ask(f"/history/{ident}")):
                return history[ident]
            time.sleep(0.5)
        raise TimeoutError(f"the prompt did not end within {RUN_SECONDS} s")


@contextmanager
def serving(host: Host, base: Path, front_end: Path | None = None) -> Iterator[Server]:
    """A server of this host on the CPU, whose only custom node is this pack.

    front_end  folder of another front end's files; None: the one that the host came with
    """
    (base / "custom_nodes").mkdir(parents=True)
    (base / "custom_nodes" / "ico-dci").symlink_to(ROOT, target_is_directory=True)
    port = free_port()
    command = [str(host.python), "main.py", "--cpu", "--port", str(port), "--disable-auto-launch"]
    command += [] if front_end is None else ["--front-end-root", str(front_end)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST"))}
    log = base / "server.log"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [*command, "--base-directory", str(base)], cwd=host.folder, env=clean, stdout=out, stderr=out
        )
        try:
            server = Server(f"http://127.0.0.1:{port}", base)
            wait_for(server, process, log)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=60)


def wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when the server answers; raises with the end of its log when it will not."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            server.ask("/system_stats")
            return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(1)
    raise RuntimeError(f"the server did not start:\n{log.read_text(encoding='utf-8')[-4000:]}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
