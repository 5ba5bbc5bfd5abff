"""Prompts that a concept will be drawn with, checked before it is trained: what would fail afterwards fails at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ....dci_core.concept.learned import Concept
from ....dci_core.errors import PackError
from ....dci_core.families.family import Family
from ....dci_core.text.places import has_names
from ....dci_core.text.stand_ins import stand_in_for
from ....dci_core.text.tokens import PLACEHOLDER, find_span
from ..concept.triggers import rows_of, tokenizer_of, with_trigger, words_of
from ..dci.pairs import places_of, read_pair, read_prompt, text_streams

PAIR = "DCIPromptPair"
TEXT_NODES = ("PrimitiveString", "PrimitiveStringMultiline")  # the host's nodes that hold a text and do nothing to it

Graph = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class PlannedPrompt:
    """One prompt.

    where      for messages
    auxiliary  (noun, prompt) of a DCI Prompt Pair; None: a prompt alone
    """

    text: str
    where: str
    auxiliary: tuple[str, str] | None = None


def check_planned(
    clip: Any, family: Family, trigger: str, noun: str, count: int, planned: Sequence[PlannedPrompt]
) -> None:
    """Nothing, or the error that the first such prompt would meet after the training; so would a trigger that is taken.

    count  modifier tokens of the training
    """
    tokens = {name: torch.zeros(count, width) for name, width in family.encoders.items()}
    concept = Concept(family.name, trigger, noun, tokens, {})
    knowing = with_trigger(clip, trigger, tokens, family.reserved)
    for prompt in planned:
        text = prompt.text.replace(PLACEHOLDER, concept.phrase)
        try:
            if prompt.auxiliary is not None:
                asked, whole = prompt.auxiliary
                read_pair(knowing, concept, text, stand_in_for(asked, noun, text, whole, (), family.name), whole)
            else:
                check_alone(knowing, concept, text)
        except PackError as error:
            raise type(error)(f"{error.came} ({prompt.where})", error.expected, error.do) from error


def check_alone(clip: Any, concept: Concept, text: str) -> None:
    """Nothing, or SpanNotFound where a prompt does not hold the concept."""
    for encoder in text_streams(clip, concept):
        rows = rows_of(clip, encoder, concept.trigger)
        words = places_of(rows) + words_of(tokenizer_of(clip, encoder).tokenizer, f" {concept.noun}")
        find_span(read_prompt(clip, encoder, text, rows).ids, words, concept.phrase, text)


def connected_pairs(graph: Graph, node: str) -> list[PlannedPrompt]:
    """Prompts of the DCI Prompt Pairs that read this node's concept, as far as their texts stand in the graph.

    Those with places for several concepts are left out: what the others are called is not known before they are there.
    """
    found = []
    for name, each in graph.items():
        inputs = each.get("inputs", {})
        if each.get("class_type") != PAIR or source_of(graph, inputs.get("concept")) != node:
            continue
        texts = [text_in(graph, inputs.get(field, "")) for field in ("prompt", "auxiliary_noun", "auxiliary_prompt")]
        if all(text is not None for text in texts) and not has_names(str(texts[0])):
            prompt, noun, whole = (str(text) for text in texts)
            found.append(PlannedPrompt(prompt, f"DCI Prompt Pair, node {name}", (noun, whole)))
    return found


def source_of(graph: Graph, link: Any) -> str | None:
    """The node that a link comes from, through nodes that have one link alone, such as reroutes."""
    for _ in range(len(graph)):
        if not is_link(link) or link[0] not in graph:
            return None
        inputs = graph[link[0]].get("inputs", {}).values()
        links = [value for value in inputs if is_link(value)]
        if len(links) != 1 or len(links) != len(inputs):
            return str(link[0])
        link = links[0]
    return None


def text_in(graph: Graph, value: Any) -> str | None:
    """A text as it stands in the graph, or in a node that holds nothing else; None where it is made by other nodes."""
    if is_link(value) and graph.get(value[0], {}).get("class_type") in TEXT_NODES:
        value = graph[value[0]]["inputs"].get("value")
    return value if isinstance(value, str) else None


def is_link(value: Any) -> bool:
    """Whether an input of a graph is [node, output]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
