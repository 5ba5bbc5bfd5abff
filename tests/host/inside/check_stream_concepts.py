"""ICO and DCI on Z-Image and Qwen-Image in the host: thin ones of random weights; a rule acts where it should."""

from __future__ import annotations

from pathlib import Path

import torch
from check_flux_concepts import (
    deltas_are_weights,
    is_a_patch_of_text_weights,
    is_drawn_with_dci,
    learns,
    slots_are_rows_of_the_text,
    texts_as_trained_are_as_drawn,
)
from check_text import refusal
from flux_lab import concept, family, worlds
from lab import PACK, small_model


def test_z_image_is_drawn_with_dci() -> None:
    is_drawn_with_dci("z_image")
    is_a_patch_of_text_weights("z_image")
    slots_are_rows_of_the_text("z_image")


def test_z_image_learns() -> None:
    texts_as_trained_are_as_drawn("z_image")
    deltas_are_weights("z_image")
    learns("z_image")


def test_qwen_image_is_drawn_with_dci() -> None:
    is_drawn_with_dci("qwen_image")
    is_a_patch_of_text_weights("qwen_image")
    slots_are_rows_of_the_text("qwen_image")


def test_qwen_image_learns() -> None:
    texts_as_trained_are_as_drawn("qwen_image")
    deltas_are_weights("qwen_image")
    learns("qwen_image")


def test_two_concepts_in_one_z_image_picture_are_refused() -> None:
    model, clip, _ = worlds("z_image")
    apply, pairs = PACK["nodes.host.concept.apply"], PACK["nodes.host.dci.pairs"]
    model, knows = apply.with_concept(model, clip, concept("z_image"), 1.0)
    placed = [pairs.Placed(concept("z_image"), "house", torch.ones(4, 4))]
    _, plan, _ = pairs.make_several(knows, placed, "a zorp fish in the snow")
    sentence = refusal(lambda: PACK["nodes.host.dci.together"].together_of(model, plan))
    assert "came for lab_z_image; one concept without a region is expected" in sentence, sentence


def test_embeddings_of_qwen_image_are_refused() -> None:
    family("qwen_image")
    export = PACK["dci_core.concept.exports"].export_embedding
    assert "take no embedding files" in refusal(lambda: export(concept("qwen_image"), Path("never.safetensors")))


def test_a_host_without_z_image_says_so() -> None:
    transformers, apply = PACK["nodes.host.families.transformers"], PACK["nodes.host.concept.apply"]
    layout = next(layout for layout in transformers.LAYOUTS if layout.name == "z_image")
    made = PACK["dci_core.concept.learned"].Concept("z_image", "zorp", "fish", {"qwen3_4b": torch.zeros(2, 2560)}, {})
    if layout.own_class() is not None:
        transformers.check_host_has(PACK["dci_core.families.table"].FAMILIES["z_image"], "zorp")  # nothing to say
        return
    sentence = refusal(lambda: apply.with_concept(small_model(), None, made, 1.0))
    assert "is for Z-Image; ComfyUI" in sentence and "has not got that model" in sentence, sentence
