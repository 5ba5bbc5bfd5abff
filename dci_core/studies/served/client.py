"""A running ComfyUI, as a study needs it: pictures in, graphs queued, pictures out, and how much memory that took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from ...errors import BadSettings, PackError

ANSWER_SECONDS, PAUSE_SECONDS = 120, 1.0
Graph = dict[str, dict[str, Any]]
"""A graph as the host's `/prompt` takes it: node id -> class_type and inputs."""


@dataclass
class Server:
    """One server, by its address.

    most_bytes  of its first device's memory that were ever taken while it worked, other programs' included
    """

    address: str
    most_bytes: int = field(default=0, init=False)

    def ask(self, path: str, **request: Any) -> Any:
        """What the server answers, from JSON; POST where there is something to send. Raises BadSettings."""
        return self._answer(path, **request).json()

    def picture(self, image: Mapping[str, str]) -> bytes:
        """A saved picture's file."""
        names = {name: image[name] for name in ("filename", "subfolder", "type")}
        return self._answer("/view", params=names).content

    def upload(self, picture: Path, folder: str) -> None:
        """The picture stands in that folder below the server's input folder."""
        with picture.open("rb") as file:
            self.ask("/upload/image", files={"image": file}, data={"subfolder": folder, "overwrite": "true"})

    def defaults(self, node: str) -> dict[str, Any]:
        """A node's widgets with their defaults, inputs without one left out; raises BadSettings where it is missing."""
        about = self.ask(f"/object_info/{node}").get(node)
        if about is None:
            raise BadSettings(
                f"the server at {self.address} has no node {node}",
                "a ComfyUI with this pack in custom_nodes was expected",
                "install the pack there and start it again",
            )
        return dict(defaults_of(about))

    def checkpoints(self) -> list[str]:
        """The names that the stock loader lists."""
        about = self.ask("/object_info/CheckpointLoaderSimple")
        return list(choices_of(about["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"]))

    def listed(self, node: str, widget: str, name: str) -> str:
        """A file as the node lists it, from its name without ending, whichever slashes the host writes."""
        about = self.ask(f"/object_info/{node}")[node]["input"]["required"]
        known = choices_of(about[widget])
        for entry in known:
            if entry.replace("\\", "/").rpartition(".")[0] == name:
                return entry
        raise BadSettings(f"{node} does not list {name}", "it was saved just now", "look into the server's log")

    def device(self) -> dict[str, Any]:
        """Name and bytes of its first device."""
        about = self.ask("/system_stats")["devices"][0]
        return {"name": about["name"], "bytes": about["vram_total"]}

    def run(self, graph: Graph) -> list[dict[str, Any]]:
        """What the output nodes of a queued graph tell once it has ended; raises PackError with a node's sentence."""
        ident = self.ask("/prompt", json={"prompt": graph})["prompt_id"]
        while True:
            history = self.ask(f"/history/{ident}").get(ident)
            if history is not None and history["status"]["completed"]:
                return list(history["outputs"].values())
            if history is not None:
                raise failure(history["status"]["messages"])
            self._watch_memory()
            time.sleep(PAUSE_SECONDS)

    def _watch_memory(self) -> None:
        about = self.ask("/system_stats")["devices"][0]
        self.most_bytes = max(self.most_bytes, about["vram_total"] - about["vram_free"])

    def _answer(self, path: str, **request: Any) -> requests.Response:
        method = "POST" if {"json", "files"} & request.keys() else "GET"
        try:
            answer = requests.request(method, f"{self.address}{path}", timeout=ANSWER_SECONDS, **request)
        except requests.RequestException as error:
            raise BadSettings(
                f"nothing answers at {self.address}",
                "a running ComfyUI with this pack was expected",
                "start it, or change --server; the same command goes on",
            ) from error
        if answer.status_code == requests.codes.bad_request:
            raise BadSettings(f"the server refused a graph: {answer.text[:400]}", "it was expected to run", "mend that")
        if not answer.ok:
            raise BadSettings(
                f"{self.address}{path} answers {answer.status_code}", "a ComfyUI was expected", "change --server"
            )
        return answer


def defaults_of(about: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(input, default) of a node's widgets, as `/object_info` tells them."""
    for kind in ("required", "optional"):
        for name, (what, *more) in about["input"].get(kind, {}).items():
            facts = more[0] if more else {}
            if "default" in facts:
                yield name, facts["default"]
            elif what == "COMBO" or isinstance(what, list):  # choices begin with the default
                yield from [(name, choice) for choice in choices_of([what, *more])[:1]]


def choices_of(entry: list[Any]) -> list[str]:
    """What a combo lists, in the host's older and newer form."""
    what, *more = entry
    return what if isinstance(what, list) else more[0].get("options", [])


def failure(messages: list[Any]) -> PackError:
    """Why a graph ended early, from its history."""
    for kind, facts in messages:
        if kind == "execution_error":
            told = f"{facts['node_type']}: {facts['exception_message'].strip()}"
            return PackError(f"the server stopped at {told}", "the graph was expected to end", "mend that and go on")
    return PackError("the run was interrupted", "it was expected to end", "run the same command again: it goes on")
