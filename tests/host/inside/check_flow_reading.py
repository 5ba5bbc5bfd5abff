"""The tiny flow world in the host's classes against the core's own: text, vision, and whole runs with a reference."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from lab import PACK, distance, sample
from torch import Tensor

PROMPT = "a fish in the snow"


@cache
def flow_worlds() -> tuple[Any, Any, Any, Any, Any]:
    """(core's random flow model, its vision tower, the host's MODEL, CLIP and CLIP_VISION with the same weights)."""
    tiny, flow = PACK["nodes.host.tiny.unet"], PACK["nodes.host.tiny.flow"]
    core = PACK["dci_core.tiny.flow.model"].FlowModel.random(0)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        tower = PACK["dci_core.tiny.flow.vision"].VisionTower().eval().requires_grad_(False)
    for parameter in core.text.parameters():
        parameter.copy_(parameter.half())  # the host keeps a text encoder in half precision, as the shipped weights are
    slots = PACK["dci_core.tiny.flow.model"].SLOTS
    return core, tower, flow.host_flow(core.mmdit), tiny.host_clip(core, slots), flow.host_vision(tower)


@cache
def flow_adapter(seed: int = 2) -> Any:
    """A `HostAdapter` of random weights, value maps included, so that it shows."""
    adapter = PACK["dci_core.dynaip.adapter"]
    with torch.inference_mode(False), torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        core = adapter.Adapter(adapter.default_params("tiny_flow")).eval().requires_grad_(False)
        for name, parameter in core.named_parameters():
            if name.endswith("to_v.weight"):
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return PACK["nodes.host.dynaip.adapters"].HostAdapter("lab", core)


def pictures() -> Tensor:
    return torch.rand(2, 128, 128, 3, generator=torch.Generator().manual_seed(3))


def encoded(clip: Any, text: str) -> Any:
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def test_the_text_is_the_cores_text() -> None:
    core, _, _, clip, _ = flow_worlds()
    (rows, extra), *_ = encoded(clip, PROMPT)
    own = core.encode([PROMPT])
    assert rows.shape == own.hidden.shape
    assert distance(rows, own.hidden) < 1e-4 and distance(extra["pooled_output"], own.pooled) < 1e-4


def test_the_vision_model_sees_what_the_cores_tower_sees() -> None:
    _, tower, _, _, vision = flow_worlds()
    seen = PACK["nodes.host.dynaip.vision"].look(vision, pictures())
    own = tower.states(pictures().movedim(-1, 1))
    assert len(seen.states) == len(own)
    for state, expected in zip(seen.states, own, strict=True):
        assert distance(state, expected) < 1e-4
    assert distance(seen.projected, tower.project(own)) < 1e-4


def applied(**given: Any) -> tuple[Any, Any, str]:
    """(model, record, granularity) of Apply DynaIP on the random flow world."""
    core, _, model, clip, vision = flow_worlds()
    usual = {
        "scale": 1.0, "text_scale": 0.0, "granularity": 0.0, "start": 0.0, "end": 1.0, "blocks": "all",
        "where": "everywhere",
    }  # fmt: skip
    node = PACK["nodes.dynaip_nodes"].DynaIPApply
    onto = given.pop("model", model)
    args = {**usual, "images": pictures(), "clip_vision": vision, "adapter": flow_adapter(), "clip": clip, **given}
    return node.execute(onto, **args).result


def drawn(model: Any, **options: Any) -> Tensor:
    """A run of the host's Euler sampler."""
    _, _, _, clip, _ = flow_worlds()
    args = {"steps": 10, "cfg": 3.5, "shape": (1, 8, 16, 16), "scheduler": "simple", **options}
    return sample(model, encoded(clip, PROMPT), encoded(clip, ""), **args)


def core_run(rule: Any = None, seed: int = 5, world: tuple[Any, Any] | None = None) -> Tensor:
    """The core's own run from the host's noise, by the host's noise levels.

    world  (core's flow model, host's MODEL of the same weights); None: those of `flow_worlds`
    """
    import comfy.sample
    import comfy.samplers

    core, model = world or (flow_worlds()[0], flow_worlds()[2])
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 10).tolist()
    x = comfy.sample.prepare_noise(torch.zeros(1, 8, 16, 16), seed) * sigmas[0]
    text = core.encode([PROMPT, ""])
    for t, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        both = core.velocity(x.repeat(2, 1, 1, 1), torch.full((2,), t), text, rule, reads=torch.tensor([1.0, 0.0]))
        asked, refused = both.chunk(2)
        x = x + (following - t) * (refused + 3.5 * (asked - refused))
    return x


def test_a_run_is_the_cores_run() -> None:
    _, _, model, _, _ = flow_worlds()
    assert distance(drawn(model), core_run()) < 1e-3


def test_a_run_with_a_reference_is_the_cores_run_with_it() -> None:
    _, tower, model, _, _ = flow_worlds()
    decoupled, subject = PACK["dci_core.dynaip.decoupled"], PACK["dci_core.dynaip.subject"]
    reference = PACK["dci_core.dynaip.reference"].prepare_reference(
        flow_adapter().core, tower.states(pictures().movedim(-1, 1))
    )
    for scale in (0.0, 1.0):
        rule = decoupled.image_prompt_rule([reference.kvs], [subject.Subject(text_scale=scale)])
        ours = drawn(applied(text_scale=scale)[0])
        assert distance(ours, core_run(rule)) < 1e-3, scale
        assert distance(ours, drawn(model)) > 1e-2


def test_an_untrained_adapter_changes_no_bit() -> None:
    _, _, model, _, _ = flow_worlds()
    adapter = PACK["dci_core.dynaip.adapter"]
    with torch.inference_mode(False):
        fresh = adapter.Adapter(adapter.default_params("tiny_flow")).eval().requires_grad_(False)
    untrained = PACK["nodes.host.dynaip.adapters"].HostAdapter("fresh", fresh)
    assert torch.equal(drawn(applied(adapter=untrained, text_scale=1.0)[0]), drawn(model))


def test_granularity_and_level_weights_choose_the_levels() -> None:
    told = {dial: applied(granularity=dial)[2].splitlines()[0] for dial in (-1.0, 0.0, 1.0)}
    assert told[0.0] == "layer 2: 0.33  layer 4: 0.33  layer 6: 0.33"
    assert told[-1.0].startswith("layer 2: 0.98") and told[1.0].endswith("layer 6: 0.98")
    weighted, _, words = applied(level_weights="0, 0 1")
    assert words.splitlines()[0] == "layer 2: 0.00  layer 4: 0.00  layer 6: 1.00"
    assert distance(drawn(weighted), drawn(applied(granularity=-1.0)[0])) > 1e-3


def test_two_subjects_and_a_noun_on_the_flow_world() -> None:
    side = torch.zeros(1, 40, 60)
    side[:, :, :30] = 1
    first, _, _ = applied(where="region", region=side)
    both, record, _ = applied(model=first, adapter=flow_adapter(7), where="noun", noun="fish", prompt=PROMPT)
    assert distance(drawn(both), drawn(first)) > 1e-4
    assert {number for _, _, number in record.strengths} == {0, 1}


def test_the_preview_shows_a_row_for_each_subject_and_block_and_a_column_for_each_step() -> None:
    model, record, _ = applied()
    preview = PACK["nodes.dynaip_nodes"].DynaIPPreview.execute
    maps = PACK["nodes.maps"]
    assert float(preview(record, None, 16).result[0].max()) == 0
    drawn(model, steps=3)
    (image,) = preview(record, None, 16).result
    blocks = len(flow_adapter().blocks)
    assert image.shape == (1, blocks * 16, maps.LABEL_PX + 3 * 16, 3)
    shown = image[..., maps.LABEL_PX :, 0]
    assert float(shown.max()) == 1 and float(shown.min()) >= 0 and len(shown.unique()) > 10


def pooled_adapter(place: str, output: str) -> Any:
    """A `HostAdapter` of the form of XLabs ("stream", "projected") or InstantX ("attention", "pooled")."""
    adapter, ancestors = PACK["dci_core.dynaip.adapter"], PACK["dci_core.dynaip.ancestors"]
    blocks = PACK["dci_core.families.mmdit"].find_mmdit("tiny_flow").block_ids
    params = adapter.AdapterParams(
        "tiny_flow", 128, 0, output, (), 4, 64, text_kv=False, norm="none", place=place,
        blocks=tuple(b for b in blocks if place == "attention" or b.stream == "double"),
    )  # fmt: skip
    with torch.inference_mode(False), torch.random.fork_rng(devices=()):
        torch.manual_seed(4)
        core = ancestors.PooledAdapter(params).eval().requires_grad_(False)
        for name, parameter in core.named_parameters():
            if "to_v" in name:
                parameter.normal_(std=0.2)
    return PACK["nodes.host.dynaip.adapters"].HostAdapter("ancestor", core)


def test_the_public_ancestors_forms_draw_and_only_one_lets_the_text_read() -> None:
    _, _, model, _, _ = flow_worlds()
    plain = drawn(model)
    for place, output, text_reads in (("stream", "projected", False), ("attention", "pooled", True)):
        off, on = (drawn(applied(adapter=pooled_adapter(place, output), text_scale=scale)[0]) for scale in (0.0, 1.0))
        assert distance(off, plain) > 1e-3, place
        assert torch.equal(off, on) != text_reads, place


def test_an_ancestor_refuses_granularity_and_a_siglip_without_its_head() -> None:
    from check_vision import refused, small_vision

    siglip = small_vision(model_type="siglip_vision_model", hidden_size=128)
    adapter = pooled_adapter("attention", "pooled")
    refused("one pooled vector", lambda: applied(adapter=adapter, granularity=0.5))
    refused("pooling head", lambda: applied(adapter=adapter, clip_vision=siglip))
    assert applied(adapter=adapter)[2] == "this adapter reads one pooled vector: no granularity"
