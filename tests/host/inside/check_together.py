"""Two concepts in one picture in the host against the core: chained concepts, a pair of two places, regions, guests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import check_flow_concepts
import check_tiny
import torch
from lab import PACK, distance, sample
from torch import Tensor

TEMPLATE = "a {concept:a} in the snow by a {concept:b}"
WRITTEN = "a zorp fish in the snow by a quex car"
RUN: dict[str, Any] = {"steps": 8, "cfg": 3.0, "shape": (1, 8, 16, 16)}
STAND_INS = ("house", "tree")
DCI: dict[str, Any] = {"window": 0.5, "strength": 1.2, "guidance": "aligned"}
SCHEDULERS = {"tiny": "normal", "tiny_flow": "simple"}


def second(first: Any) -> Any:
    """Another concept with changes and tokens of its own."""
    deltas, source = PACK["dci_core.concept.deltas"], torch.Generator().manual_seed(9)

    def other(change: Any) -> Any:
        return deltas.Delta(*(torch.randn(x.shape, generator=source) * x.std() for x in change))

    changes = {layer: deltas.LayerDelta(*map(other, delta)) for layer, delta in first.deltas.items()}
    tokens = {name: torch.randn(x.shape, generator=source) * 0.1 for name, x in first.tokens.items()}
    return replace(first, trigger="quex", noun="car", tokens=tokens, deltas=changes)


@cache
def concepts(world: ModuleType) -> tuple[Any, Any]:
    """Both concepts."""
    first = world.concept()
    return first, second(first)


def box(name: str) -> Any:
    """A region."""
    return PACK["dci_core.attention.regions"].read_box(name)


def placed(world: ModuleType, regions: tuple[Any, Any] = (None, None)) -> list[Any]:
    """Both concepts with their stand-ins and regions."""
    make = PACK["nodes.host.dci.pairs"].Placed
    return [make(c, noun, region) for c, noun, region in zip(concepts(world), STAND_INS, regions, strict=True)]


@cache
def chained(world: ModuleType, strengths: tuple[float, float] = (1.0, 0.7)) -> tuple[Any, Any]:
    """The host's MODEL and CLIP that know both."""
    _, model, clip = world.worlds()
    for concept, strength in zip(concepts(world), strengths, strict=True):
        model, clip = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept, strength)
    return model, clip


def in_host(world: ModuleType, regions: tuple[Any, Any] = (None, None), guest: bool = False, **dci: Any) -> Tensor:
    """The latent that the host's stock sampler gives."""
    model, clip = chained(world)
    positive, plan, _ = PACK["nodes.host.dci.pairs"].make_several(clip, placed(world, regions), TEMPLATE)
    if guest:
        model = model.clone()
        model.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    ready, record = patched(model, plan, **{**DCI, **dci})
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    out = sample(ready, positive, negative, **RUN, scheduler=SCHEDULERS[concepts(world)[0].family])
    assert bool(record.guests) == guest
    return out


def patched(model: Any, plan: Any, **dci: Any) -> tuple[Any, Any]:
    """What Apply DCI makes of a model."""
    fields = PACK["nodes.dci_fields"]
    widgets = {"gain": "scaled", "hints": "both", **dci}
    ready, record = fields.patched(model, plan, widgets)
    return ready, record


def in_core(world: ModuleType, regions: tuple[Any, Any] = (None, None), apart: bool = True) -> Tensor:
    """The same run by the core."""
    apply, places = PACK["dci_core.concept.apply"], PACK["dci_core.text.places"]
    together, sampling = PACK["dci_core.concept.together"], PACK["dci_core.dci.run"]
    model = world.worlds()[0]
    for concept, strength in zip(concepts(world), (1.0, 0.7), strict=True):
        model = apply.apply_concept(model, concept, strength)
    named = [places.Named(c.trigger, c.noun, noun) for c, noun in zip(concepts(world), STAND_INS, strict=True)]
    pair = places.pair_of_several(TEMPLATE, named, model.encoders["clip_l"])
    sides = zip(
        pair.tokens.concept.parts, pair.tokens.auxiliary.parts, concepts(world), (1.0, 0.7), regions, strict=True
    )
    parts = tuple(together.Part(own, other, c.deltas, strength, region) for own, other, c, strength, region in sides)
    how = sampling.SampleSettings(num_steps=RUN["steps"], cfg=RUN["cfg"], sampler="euler")
    return sampling.sample_latents(
        model,
        PACK["dci_core.text.prompts"].Prompts.from_pair(model, pair),
        seeds=[5],
        settings=how,
        dci=PACK["dci_core.dci.branches"].DciSettings(**DCI, gain="scaled"),
        together=together.Together(parts) if apart else None,
    ).concept


WORLDS = (check_tiny, check_flow_concepts)


def test_two_concepts_are_drawn_as_the_core_draws_them() -> None:
    for world in WORLDS:
        mine, stacked = in_core(world), in_core(world, apart=False)
        theirs = in_host(world)
        print("MEASURED", {world.__name__: distance(theirs, mine), "effect": distance(stacked, mine)})
        assert distance(theirs, mine) < 1e-3 and distance(stacked, mine) > 1e-2


def test_regions_are_the_cores() -> None:
    sides = box("left"), box("0.5 0.25 0.5 0.5")
    for world in WORLDS:
        mine, free = in_core(world, sides), in_core(world)
        assert distance(in_host(world, sides), mine) < 1e-3 and distance(free, mine) > 1e-2


def test_beside_a_guest_the_run_is_the_same() -> None:
    sides = box("left"), box("right")
    for world in WORLDS:
        for regions in ((None, None), sides):
            alone = in_host(world, regions)
            assert distance(in_host(world, regions, guest=True), alone) < 1e-4


def fitted(concept: Any, model: Any) -> Any:
    """The concept with changes of this model's own widths."""
    deltas, name = PACK["dci_core.concept.deltas"], PACK["dci_core.families.weight_names"].weight_place
    weights, source = model.model.state_dict(), torch.Generator().manual_seed(len(concept.trigger))

    def change(layer: Any, part: str) -> Any:
        wide, narrow = weights[f"diffusion_model.{name(layer, part)[0]}"].shape
        sizes = (wide, 2), (2, narrow)
        return deltas.Delta(*(torch.randn(size, generator=source) * 0.1 for size in sizes))

    return replace(concept, deltas={at: deltas.LayerDelta(change(at, "k"), change(at, "v")) for at in concept.deltas})


def test_places_act_beside_a_controlnet_whichever_branch_it_reaches() -> None:
    from check_guests import controlled, made

    model, clip = made()[0], check_tiny.worlds()[2]
    each = [placed(check_tiny), placed(check_tiny, (box("left"), box("right")))]
    each = [[replace(one, concept=fitted(one.concept, model)) for one in some] for some in each]
    apply, teach = PACK["nodes.host.concept.apply"], PACK["nodes.host.concept.triggers"].with_trigger
    for one in each[0]:  # by hand: the lab's model has the small world's layers and other widths
        assert model.add_patches(apply.weight_patches(one.concept), 1.0)
        model.set_attachments(f"{apply.CARRIED}{one.concept.trigger}", True)
        clip = teach(clip, one.concept.trigger, one.concept.tokens, None)
    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(9))
    drawn: dict[tuple[str, bool], Tensor] = {}
    for is_placed in (True, False):
        positive, plan, _ = PACK["nodes.host.dci.pairs"].make_several(clip, each[is_placed], TEMPLATE)
        for to in ("both", "concept", "auxiliary"):
            ready, _ = patched(model, plan, **{**DCI, "hints": to})
            drawn[to, is_placed] = sample(ready, *controlled(positive, hint), steps=4)
        free = sample(patched(model, plan, **DCI)[0], positive, controlled(positive, hint)[1], steps=4)
        assert distance(drawn["both", is_placed], free) > 1e-4
    assert all(picture.isfinite().all() for picture in drawn.values())
    pairs = [(a, b) for a in drawn for b in drawn if a < b]
    assert all(distance(drawn[a], drawn[b]) > 1e-4 for a, b in pairs)


def test_an_image_mask_is_the_same_as_its_box() -> None:
    mask = torch.zeros(1, 128, 128)
    mask[:, :, :64] = 1
    assert distance(in_host(check_tiny, (mask, None)), in_host(check_tiny, (box("left"), None))) < 1e-5


def test_a_closed_window_is_plain_stacking_bit_for_bit() -> None:
    for world in WORLDS:
        model, clip = chained(world)
        words, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (WRITTEN, ""))
        plain = sample(model, words, negative, **RUN, scheduler=SCHEDULERS[concepts(world)[0].family])
        assert torch.equal(in_host(world, window=0.0), plain)


def test_a_plan_of_one_concept_knows_of_none_beside_it() -> None:
    model, _, plan, _ = check_tiny.host_parts()
    assert PACK["nodes.host.dci.together"].together_of(model, plan) is None
    assert plan.tokens.concept.parts == ()


def test_places_and_written_phrases_make_the_same_plan() -> None:
    _, clip = chained(check_tiny)
    make = PACK["nodes.host.dci.pairs"].make_several
    (one, plan, told), (other, written, _) = (make(clip, placed(check_tiny), text) for text in (TEMPLATE, WRITTEN))
    assert plan.tokens == written.tokens and plan.texts == written.texts and torch.equal(one[0][0], other[0][0])
    assert len(plan.tokens.concept.parts) == 2 and plan.texts[1] == "a house in the snow by a tree"
    assert "zorp fish" in told and "quex car" in told


def test_the_strength_of_each_concept_is_read_off_the_model() -> None:
    model, clip = chained(check_tiny)
    _, plan, _ = PACK["nodes.host.dci.pairs"].make_several(clip, placed(check_tiny), TEMPLATE)
    strengths = [part.strength for part in PACK["nodes.host.dci.together"].together_of(model, plan).parts]
    assert strengths == [1.0, 0.7]
    bare = PACK["nodes.host.dci.together"].together_of(check_tiny.worlds()[1], plan)
    assert [part.strength for part in bare.parts] == [0.0, 0.0]


def test_nothing_is_left_on_the_model_after_a_run() -> None:
    network = check_flow_concepts.worlds()[1].model.diffusion_model
    first = in_host(check_flow_concepts)
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(in_host(check_flow_concepts), first)


def refusal(prompt: str, pairs: list[Any]) -> str:
    """What is said to a prompt that cannot be read."""
    errors = PACK["dci_core.errors"]
    try:
        PACK["nodes.host.dci.pairs"].make_several(chained(check_tiny)[1], pairs, prompt)
    except errors.PackError as error:
        return str(error)
    raise AssertionError(f"{prompt} was taken")


def test_what_cannot_be_told_apart_is_refused_in_a_sentence() -> None:
    both = placed(check_tiny)
    twice = [both[0], replace(both[1], concept=both[0].concept)]
    same = [both[0], replace(both[1], noun="House")]
    assert "trigger" in refusal(WRITTEN, twice) and "stand-in" in refusal(WRITTEN, same)
    assert "quex" in refusal("a zorp fish in the snow", both)
    assert "{concept:b}" in refusal("a {concept:a} in the snow", both)
