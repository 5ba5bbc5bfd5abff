"""A pretend ComfyUI for tests: lists nodes, takes pictures and graphs, and draws a picture from each graph's words."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

import numpy as np
from PIL import Image

from dci_core.fingerprint import short_hash

GIB = 2**30
NODES: dict[str, dict[str, list[Any]]] = {  # as `/object_info` tells them: older and newer combos, sockets, widgets
    "CheckpointLoaderSimple": {"ckpt_name": [["sd.safetensors"]]},
    "ICOLoadPictures": {"folder": ["COMBO", {"options": ["a"]}], "noun": ["STRING", {"default": ""}]},
    "ICOTrainConcept": {"base_model": ["MODEL"], "learning_rate": ["FLOAT", {"default": 0.5}]},
    "ICOSaveConcept": {"concept": ["CONCEPT"], "filename": ["STRING", {"default": "x"}]},
    "DCIPromptPair": {"prompt": ["STRING", {"default": ""}]},
    "DCIDualBranchSampler": {"strength": ["FLOAT", {"default": 1.0}], "guidance": [["shared", "aligned"]]},
}  # fmt: skip


class Pretend(ThreadingHTTPServer):
    """The server.

    graphs    every graph that was queued, in order
    uploads   pictures by folder
    concepts  files that Save ICO Concept wrote, as a Windows host lists them
    fails_at  number of the graph that ends in an error, or None
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.graphs: list[dict[str, Any]] = []
        self.uploads: dict[str, int] = {}
        self.concepts: list[str] = []
        self.fails_at: int | None = None

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def object_info(self, node: str) -> dict[str, Any]:
        """One node."""
        if node == "ICOLoadConcept":
            return {node: {"input": {"required": {"concept_name": [self.concepts]}}}}
        return {node: {"input": {"required": NODES[node]}}} if node in NODES else {}

    def queue(self, graph: Mapping[str, Any]) -> dict[str, str]:
        """Runs it at once."""
        self.graphs.append(dict(graph))
        for node in graph.values():
            if node["class_type"] == "ICOSaveConcept":
                self.concepts.append(node["inputs"]["filename"].replace("/", "\\") + ".safetensors")
        return {"prompt_id": str(len(self.graphs) - 1)}

    def history(self, ident: str) -> dict[str, Any]:
        """What became of a graph."""
        if int(ident) == self.fails_at:
            facts = {"node_type": "ICOTrainConcept", "exception_message": "out of memory\n"}
            return {ident: {"status": {"completed": False, "messages": [["execution_error", facts]]}, "outputs": {}}}
        saved = [node["inputs"] for node in self.graphs[int(ident)].values() if node["class_type"] == "SaveImage"]
        outputs = {
            str(i): {
                "images": [
                    {
                        "filename": f"{one['filename_prefix'].rpartition('/')[2]}_00001_.png",
                        "subfolder": ident,
                        "type": "output",
                    }
                ]
            }
            for i, one in enumerate(saved)
        }
        return {ident: {"status": {"completed": True, "messages": []}, "outputs": outputs}}

    def picture(self, folder: str, name: str) -> bytes:
        """Noise that follows the whole graph and the picture's name."""
        seed = int(short_hash([json.dumps(self.graphs[int(folder)]).encode(), name.encode()])[:8], 16)
        noise = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "PNG")
        return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Pretend

    def do_GET(self) -> None:
        """Everything that is asked."""
        place, asked = urlparse(self.path), parse_qs(urlparse(self.path).query)
        kind, _, rest = place.path.strip("/").partition("/")
        if kind == "view":
            self.answer(self.server.picture(asked["subfolder"][0], asked["filename"][0]))
        elif kind == "object_info":
            self.answer(json.dumps(self.server.object_info(rest)).encode())
        elif kind == "history":
            self.answer(json.dumps(self.server.history(rest)).encode())
        else:
            device = {"name": "pretend", "vram_total": 8 * GIB, "vram_free": 2 * GIB}
            self.answer(json.dumps({"devices": [device]}).encode())

    def do_POST(self) -> None:
        """A picture or a graph."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/prompt":
            self.answer(json.dumps(self.server.queue(json.loads(body)["prompt"])).encode())
        else:
            folder = body.split(b'name="subfolder"\r\n\r\n')[1].split(b"\r\n")[0].decode()
            self.server.uploads[folder] = self.server.uploads.get(folder, 0) + 1
            self.answer(b"{}")

    def answer(self, data: bytes) -> None:
        """Sends it."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *words: Any) -> None:
        """Nothing."""


@contextmanager
def pretend_server() -> Iterator[Pretend]:
    """A server for as long as a test lasts."""
    server = Pretend()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
