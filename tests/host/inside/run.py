"""Runs checks inside a host: run.py HOST PACK MODULE:CHECK... Prints a line `RESULT [MODULE:CHECK, trouble]` each."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType


def start_host(host: str) -> None:
    """The host's modules on a CPU, without its server."""
    sys.path[:] = [host, *(entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent)]
    sys.argv = [sys.argv[0], "--cpu"]
    os.environ["HF_HUB_OFFLINE"] = "1"
    import comfy.options

    comfy.options.enable_args_parsing()
    importlib.import_module("utils.json_util")  # first, as main.py does: nodes.py lets comfy/utils.py hide this package
    importlib.import_module("nodes")  # the host's own, before the pack is timed


def refuse_network() -> None:
    """From here on, whatever would leave this machine raises: nothing that the checks run may need the network."""
    import socket

    kept = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        is_here = self.family == getattr(socket, "AF_UNIX", None) or "127.0.0.1" in str(address)
        if not is_here:
            raise AssertionError(f"something reached for the network: {address}")
        kept(self, address)  # type: ignore[arg-type]

    socket.socket.connect = connect  # type: ignore[method-assign, assignment]


def quiet_host() -> None:
    """From here on the clock sees the pack alone: not what the host imports once to read any pack's pyproject.toml, nor
    the collector's walks over the host's own objects, which cost more than the pack and another sum each time.
    """
    importlib.import_module("comfy_config.config_parser")
    gc.collect()
    gc.freeze()


def load_pack(pack: str) -> str:
    """Loads the pack as the host does and returns the name that the host gives its module."""
    import nodes

    if not asyncio.run(nodes.load_custom_node(pack)):
        raise RuntimeError("the host could not load the pack; its log says why")
    return pack.replace(".", "_x_")


class Pack:
    """Modules of the pack, under the name that the host gave it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getitem__(self, module: str) -> ModuleType:
        return importlib.import_module(f"{self.name}.{module}")


def main(host: str, pack: str, *names: str) -> None:
    """Runs the named checks; trouble is null where there was none."""
    start_host(host)
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sys.path.append(str(Path(__file__).parent))
    import lab
    import marks

    refuse_network()
    quiet_host()
    started = time.process_time()
    lab.PACK = Pack(load_pack(pack))
    lab.LOAD_SECONDS = time.process_time() - started
    for name in names:
        module, _, check = name.partition(":")
        try:
            with torch.inference_mode():
                getattr(importlib.import_module(module), check)()
            trouble = None
        except marks.Absent as absence:
            trouble = f"ABSENT {absence}"
        except BaseException:
            trouble = traceback.format_exc()
        print("RESULT", json.dumps([name, trouble]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
