"""ICO and DCI on Flux's layout in the host: thin FLUX.1, FLUX.2 klein and Chroma of random weights."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from anima_lab import stock_lora
from check_training import in_new_folder, pictures, same
from flux_lab import CHANNELS, concept, family, worlds
from lab import PACK, distance, sample
from torch import Tensor

PROMPT, AUXILIARY = "a zorp fish in the snow", "house"
LONG = "the " * 300 + PROMPT
RUN: dict[str, Any] = {"steps": 10, "cfg": 3.5, "shape": (1, CHANNELS, 16, 16), "scheduler": "simple"}


@cache
def parts(kind: str, prompt: str = PROMPT) -> tuple[Any, Any, Any, Any]:
    """(MODEL with the concept, positive, plan, negative) by the pack's own means and stock text encode."""
    model, clip, _ = worlds(kind)
    model, knows = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(kind), 1.0)
    other = "" if prompt == PROMPT else f"a {AUXILIARY}"
    positive, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(knows, concept(kind), prompt, AUXILIARY, other)
    return model, positive, plan, knows.encode_from_tokens_scheduled(knows.tokenize(""))


def patched(kind: str, prompt: str = PROMPT, **settings: Any) -> tuple[Any, Any]:
    """(MODEL with the concept and DCI, record)."""
    model, _, plan, _ = parts(kind, prompt)
    dci = PACK["dci_core.dci.branches"].DciSettings(**{"guidance": "aligned", **settings})
    patch = PACK["nodes.host.dci.plan"].DciPatch(plan, dci, dci.dbim(family(kind)))
    return PACK["nodes.host.dci.branching"].with_dci(model, patch)


def drawn(kind: str, model: Any, prompt: str = PROMPT, **changes: Any) -> Tensor:
    """The latent that the host's stock sampler gives."""
    _, positive, _, negative = parts(kind, prompt)
    return sample(model, positive, negative, **{**RUN, "shape": shape_of(kind), **changes})


def shape_of(kind: str) -> tuple[int, ...]:
    """The latents of one picture."""
    row = family(kind)
    return (1, row.latent_channels, *((1,) if row.has_time else ()), 16, 16)


def is_drawn_with_dci(kind: str) -> None:
    """Asserts blocks, window, off and cfg 1 of one base."""
    plain, row = drawn(kind, parts(kind)[0]), family(kind)
    mask, text = PACK["dci_core.attention.layers"].LayerMask, PACK["dci_core.attention.layers"].in_text
    model, record = patched(kind, window=0.3)
    assert drawn(kind, model).isfinite().all() and (record.steps, record.acted) == (10, 3)
    assert {layer for _, layer in record.weights} == set(row.layers)
    assert ["told its guidance" in told for told in record.warnings] == [True] * (kind == "flux"), record.warnings
    assert len(record.weights) == 3 * len(row.layers)
    for chosen in (row.layers[1:], row.layers[-1:]):
        some, record = patched(kind, window=0.3, layers=mask(f"{' '.join(map(text, chosen))}:0.5"))
        drawn(kind, some)
        assert {layer for _, layer in record.weights} == set(chosen)
    assert all(0 < float(share.min()) < float(share.max()) < 1 for share in record.weights.values())
    off = patched(kind, layers=mask("all:0"))[0]
    assert torch.equal(drawn(kind, off), plain) and torch.equal(drawn(kind, patched(kind, window=0.0)[0]), plain)
    on = drawn(kind, patched(kind, window=0.5)[0])
    assert distance(on, plain) > 1e-4 and torch.equal(drawn(kind, parts(kind)[0]), plain)
    one, record = patched(kind, window=0.3)
    drawn(kind, one, cfg=1.0)
    assert record.acted == 3 and {layer for _, layer in record.weights} == set(row.layers) and not record.warnings
    print("MEASURED", {"effect": distance(on, plain)})


def slots_are_rows_of_the_text(kind: str) -> None:
    """Asserts that the plan counts a language model's rows as they are: what changes with the noun begins there."""
    _, positive, plan, _ = parts(kind)
    clip, words = worlds(kind)[1], plan.tokens.auxiliary
    here, there = (clip.encode_from_tokens(clip.tokenize(f"a {noun} in the snow")) for noun in ("house", "fish"))
    first = int((here != there).any(dim=-1)[0].nonzero()[0])
    assert words.span == (first,) and here.shape[1] == words.length, (words, first, here.shape)
    assert positive[0][0].shape[1] == plan.tokens.concept.length


def places(kind: str) -> dict[Any, Any]:
    """(layer, part) -> (name of the weight, which third of it or None) of everything that a concept changes."""
    names = PACK["dci_core.families.weight_names"]
    return {(layer, part): names.weight_place(layer, part) for layer in family(kind).learned_layers for part in "kv"}


def is_a_patch_of_text_weights(kind: str) -> None:
    """Asserts that a loaded concept changes the text's keys and values alone, and that another base's is refused."""
    model, clip, _ = worlds(kind)
    keys = {str(key) for key in parts(kind)[0].patches}
    assert keys == {f"diffusion_model.{name}" for name, _ in places(kind).values()}
    weightless, _ = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(kind), 0.0)
    mine = drawn(kind, parts(kind)[0])
    assert distance(mine, drawn(kind, weightless)) > 1e-5
    assert distance(drawn(kind, stock_lora(model, concept(kind))), mine) < 1e-5
    try:
        PACK["nodes.host.concept.apply"].with_concept(model, clip, replace(concept(kind), family="sdxl"), 1.0)
    except PACK["dci_core.errors"].BadConcept as error:
        assert f"is for sdxl; lab_{kind} was expected" in str(error)
    else:
        raise AssertionError("no error")


def lesson(**changes: Any) -> Any:
    """A short training with a rate that shows."""
    settings = PACK["dci_core.ico.settings"].IcoSettings(steps=2, learning_rate=1e-3, modifier_tokens=2, rank=4)
    training = PACK["nodes.host.ico.training"]
    return replace(training.Lesson("fish", "zorp", settings, pictures()[:2], size_px=64, preview_every=0), **changes)


def train(kind: str) -> tuple[Any, list[float]]:
    """What the train node's work gives."""
    return PACK["nodes.host.ico.training"].train_concept(*worlds(kind), lesson())


def learns(kind: str) -> None:
    """Asserts that a base trains two steps, saves and loads, and that blocks computed again learn the same."""
    training, found = PACK["nodes.host.ico.training"], []
    for again in (False, True):

        def check(folder: Path, again: bool = again) -> None:
            before = training.is_short_of_memory
            training.is_short_of_memory = lambda *args: again
            try:
                made, losses = train(kind)
            finally:
                training.is_short_of_memory = before
            PACK["dci_core.concept.file"].save_concept(made, folder / "mine.safetensors")
            loaded = PACK["dci_core.concept.file"].load_concept(folder / "mine.safetensors")
            assert same(loaded, made)
            own, knows = PACK["nodes.host.concept.apply"].with_concept(*worlds(kind)[:2], loaded, 1.0)
            words = knows.encode_from_tokens_scheduled(knows.tokenize(PROMPT))
            run = {**RUN, "steps": 2, "shape": shape_of(kind)}
            assert sample(own, words, words, **run).isfinite().all()
            found.append((made, losses))

        in_new_folder(check)
    (kept, losses), (recomputed, others) = found
    assert len(losses) == 2 and kept.family == f"lab_{kind}" and kept.cover.picture is not None
    assert set(kept.tokens) == set(family(kind).encoders)
    assert all(float(change.dense().norm()) > 0 for delta in kept.deltas.values() for change in delta)
    assert tuple(kept.deltas) == family(kind).learned_layers
    assert distance(torch.tensor(losses), torch.tensor(others)) < 1e-4 and same(kept, recomputed, 1e-2)
    network = worlds(kind)[0].model.diffusion_model
    assert not any("forward" in vars(module) or "_ico_dci_seen" in vars(module) for module in network.modules())


def texts_as_trained_are_as_drawn(kind: str) -> None:
    """Asserts that a caption is encoded in training as the stock node encodes the prompt."""
    host = PACK["nodes.host.ico.model"].HostModel(*worlds(kind)[:2], family(kind))
    captions = PACK["dci_core.text.captions"]
    with torch.no_grad():
        mine = captions.encode_captions(host, ["a fish in the snow"])
    clip = worlds(kind)[1]
    theirs = clip.encode_from_tokens(clip.tokenize("a fish in the snow"), return_pooled=True, return_dict=True)
    hidden = mine.hidden if mine.lengths is None else mine.hidden[:, : mine.lengths[0]]
    print("MEASURED", {"text": distance(hidden, theirs["cond"])})
    assert hidden.shape == theirs["cond"].shape and distance(hidden, theirs["cond"]) < 1e-4
    if mine.pooled is not None:
        assert distance(mine.pooled, theirs["pooled_output"]) < 1e-4


def deltas_are_weights(kind: str) -> None:
    """Asserts that changes in a training act as the same changes of the weights do."""
    model, row = worlds(kind)[0], family(kind)
    host = PACK["nodes.host.ico.model"].HostModel(*worlds(kind)[:2], row)
    deltas, text = PACK["dci_core.concept.deltas"], PACK["dci_core.model"].Text
    source = torch.Generator().manual_seed(3)
    x, sigma = torch.randn(2, row.latent_channels, 16, 16, generator=source), torch.tensor([0.7, 0.4])
    sizes = getattr(model.model.diffusion_model, "params", None)
    width = sizes.context_in_dim if sizes is not None else row.encoders[row.behind or row.text_stream] * row.stacked
    beside = sum(row.encoders.values()) - width if row.behind else 768
    rows, pooled = torch.randn(2, 512, width, generator=source), torch.randn(2, beside, generator=source)
    words = text(rows, pooled if row.is_padded else None, None if row.is_padded else (37, 60))
    change = concept(kind).deltas

    def rule(call: Any) -> Tensor:
        return (deltas.changed(call, change[call.layer]) if call.layer in change else call).plain()

    plain, ruled = host.denoise(x, sigma, words), host.denoise(x, sigma, words, rule)
    kept = []
    for (layer, part), (name, third) in places(kind).items():
        weight = model.model.diffusion_model.get_parameter(name)
        mine = weight if third is None else weight.chunk(3)[third]
        kept.append((mine, mine.clone()))
        mine.add_(getattr(change[layer], part).dense())
    by_hand = host.denoise(x, sigma, words)
    for mine, before in kept:
        mine.copy_(before)
    print("MEASURED", {"rule": distance(ruled, by_hand), "effect": distance(ruled, plain)})
    assert distance(ruled, by_hand) < 1e-5 and distance(ruled, plain) > 1e-4


def test_flux_is_drawn_with_dci() -> None:
    is_drawn_with_dci("flux")
    is_a_patch_of_text_weights("flux")


def test_flux_texts_of_unlike_length_run_in_calls_of_their_own() -> None:
    model, record = patched("flux", LONG, window=0.3)
    mine = drawn("flux", model, LONG)
    assert any("tokens" in guest for guest in record.guests), record.guests
    assert {layer for _, layer in record.weights} == set(family("flux").layers) and mine.isfinite().all()


def test_flux_learns() -> None:
    texts_as_trained_are_as_drawn("flux")
    deltas_are_weights("flux")
    learns("flux")


def test_klein_is_drawn_with_dci() -> None:
    is_drawn_with_dci("klein")
    is_a_patch_of_text_weights("klein")


def test_klein_learns() -> None:
    texts_as_trained_are_as_drawn("klein")
    learns("klein")


def test_chroma_is_drawn_with_dci_and_not_trained() -> None:
    is_drawn_with_dci("chroma")
    is_a_patch_of_text_weights("chroma")
    try:
        train("chroma")
    except PACK["dci_core.errors"].BadModel as error:
        assert "one that concepts can be trained on is expected" in str(error)
    else:
        raise AssertionError("no error")
