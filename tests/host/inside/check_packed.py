"""Bases whose weights are packed: the fingerprint falls back to what can be read, and a concept loads all the same."""

from __future__ import annotations

import logging
from typing import Any

import torch
from check_tiny import concept, worlds
from lab import PACK
from strangers import gguf_model
from torch import Tensor


class Packed(Tensor):
    """A weight that says its numbers when it is asked, as the host's own eight-bit tensors do."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    def dequantize(self) -> Tensor:
        return self.as_subclass(Tensor) * 1


class Sealed(Packed):
    """A weight whose numbers only its own loader can read."""

    def dequantize(self) -> Tensor:
        raise NotImplementedError("not from here")


def model_with(kind: type[Tensor]) -> Any:
    """The tiny world whose middle value weight is of this kind."""
    patcher = PACK["nodes.host.tiny.unet"].host_model(worlds()[0])
    real, name = patcher.get_key_patches, "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"

    def packed(prefix: str | None = None) -> dict[str, Any]:
        entries = real(prefix)
        return {**entries, name: [original(entries[name][0]).detach().as_subclass(kind)]}

    original = PACK["nodes.host.concept.identity"].original
    patcher.get_key_patches = packed
    return patcher


def fingerprint(model: Any) -> str | None:
    """Of the model as its checkpoint has it."""
    found: str | None = PACK["nodes.host.concept.identity"].base_hash(
        model, PACK["dci_core.families.table"].find_family("tiny")
    )
    return found


def warnings_of(model: Any) -> list[str]:
    """What is warned of while a concept of the plain base is put on this model."""
    from dataclasses import replace

    about = replace(concept().about, base_hash=fingerprint(worlds()[1]))
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        loaded, _ = PACK["nodes.host.concept.apply"].with_concept(
            model, worlds()[2], replace(concept(), about=about), 1.0
        )
    finally:
        logging.getLogger().removeHandler(handler)
    assert len(loaded.patches) == 20
    return [line for line in seen if "base" in line]


def test_a_base_whose_numbers_can_be_unpacked_is_known_again() -> None:
    assert fingerprint(model_with(Packed)) == fingerprint(worlds()[1])
    assert not warnings_of(model_with(Packed))


def test_a_base_whose_numbers_are_sealed_takes_a_concept_without_a_false_alarm() -> None:
    for model in (model_with(Sealed), gguf_model()):
        assert fingerprint(model) is None
        assert not warnings_of(model)


def test_another_base_is_still_told() -> None:
    other = PACK["nodes.host.tiny.unet"].host_model(PACK["dci_core.tiny.model"].TinyModel.random(7))
    assert any("another base" in line for line in warnings_of(other))
