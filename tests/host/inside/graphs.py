"""Graphs run by the host's own executor, without its page: what a node gives, and which one turned red and why."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from flows import inputs_of, is_widget

SHELF: dict[str, Any] = {}  # what LabGive gives, by name
SEEN: dict[str, list[Any]] = {}  # what LabKeep got, by name

Graph = dict[str, dict[str, Any]]


class LabGive:
    """A node that gives something which no shipped node makes on its own."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("*",), "give", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"name": ("STRING", {})}}

    def give(self, name: str) -> tuple[Any]:
        return (SHELF[name],)


class LabKeep:
    """An output node that keeps what it is given."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "keep", "lab", True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"name": ("STRING", {}), "value": ("*", {})}}

    def keep(self, name: str, value: Any) -> dict[str, Any]:
        SEEN.setdefault(name, []).append(value)
        return {}


class NoPage:
    """The server as the executor sees it when nobody looks."""

    client_id = last_node_id = last_prompt_id = None
    sockets_metadata: dict[str, Any] = {}

    def send_sync(self, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""


@dataclass(frozen=True)
class Red:
    """The node that turned red, the kind of its error, and what it says."""

    node: str
    kind: str
    sentence: str


class Queue:
    """One executor with its cache: the host between start and end."""

    def __init__(self) -> None:
        import execution
        import nodes

        nodes.NODE_CLASS_MAPPINGS.update({"LabGive": LabGive, "LabKeep": LabKeep})
        self.executor = execution.PromptExecutor(NoPage(), **cache_choice(execution))

    def run(self, graph: Graph) -> Red | str | None:
        """Runs a graph to its LabKeep nodes: None when it succeeded, the red node, or "interrupted"."""
        outputs = [name for name, node in graph.items() if node["class_type"] == "LabKeep"]
        self.executor.execute(graph, uuid4().hex, {}, outputs)
        for event, told in self.executor.status_messages:
            if event == "execution_interrupted":
                return "interrupted"
            if event == "execution_error":
                kind = told["exception_type"].rpartition(".")[2]
                return Red(told["node_id"], kind, told["exception_message"].strip())
        assert self.executor.success
        return None


def cache_choice(execution: Any) -> dict[str, Any]:
    """The host's plain cache, in the words of this version."""
    newer = {"cache_type": execution.CacheType.CLASSIC, "cache_args": {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}}
    is_new = "cache_args" in execution.PromptExecutor.__init__.__code__.co_varnames
    return newer if is_new else {"cache_type": execution.CacheType.CLASSIC}


def node(kind: str, **given: Any) -> dict[str, Any]:
    """A node with what is given and its own defaults for all other fields; a link is [node, output]."""
    import nodes

    definition = {"input": nodes.NODE_CLASS_MAPPINGS[kind].INPUT_TYPES()}
    fields = {
        name: default_of(kind, options)
        for name, (kind, options, _) in inputs_of(definition).items()
        if is_widget(kind, options)
    }
    return {"class_type": kind, "inputs": {**fields, **given}}


def default_of(kind: Any, options: Mapping[str, Any]) -> Any:
    """What the page shows in a new field."""
    choices = kind if isinstance(kind, list) else options.get("options")
    return options.get("default", next(iter(choices), "") if choices is not None else "")


def changed(graph: Graph, changes: Mapping[str, Any]) -> Graph:
    """The graph with other inputs: {"node.input": value}."""
    made = {name: {**each, "inputs": dict(each["inputs"])} for name, each in graph.items()}
    for place, value in changes.items():
        name, _, field = place.partition(".")
        made[name]["inputs"][field] = value
    return made


@contextmanager
def heard() -> Iterator[list[str]]:
    """What the log says meanwhile."""
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    ear = Ear()
    logging.getLogger().addHandler(ear)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(ear)
