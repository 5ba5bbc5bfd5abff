"""ICO and DCI on the tiny flow world in the host's classes against the core's own, to 1e-4; off is the plain run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from check_training import codec, in_new_folder, lesson, ordinary, pictures, same
from lab import PACK, counting_rows, distance, sample
from torch import Tensor

PROMPT, NOUN, AUXILIARY = "a zorp fish in the snow", "fish", "house"
LONG = "the " * 30 + PROMPT
CLOSE = 1e-4
AUTO, GUIDANCE = "auto", ("shared", "separate", "aligned")
RUN: dict[str, Any] = {"steps": 10, "cfg": 3.5, "shape": (1, 8, 16, 16), "scheduler": "simple"}


@cache
def worlds() -> tuple[Any, Any, Any]:
    """(the core's random flow model, the host's MODEL and CLIP with the same weights)."""
    core = PACK["dci_core.tiny.flow.concept_model"].TinyFlowModel.random(0)
    for parameter in core.flow.text.parameters():
        parameter.copy_(parameter.half())  # the host keeps a text encoder in half precision, as the shipped weights are
    for parameter in core.flow.mmdit.parameters():
        if parameter.ndim > 1:
            parameter.mul_(1.6)  # so that text and attention show in the picture
    slots = PACK["dci_core.tiny.flow.model"].SLOTS
    host = PACK["nodes.host.tiny.flow"].host_flow(core.flow.mmdit)
    return core, host, PACK["nodes.host.tiny.unet"].host_clip(core.flow, slots)


def family() -> Any:
    """The family's row."""
    return PACK["dci_core.families.table"].find_family("tiny_flow")


@cache
def concept() -> Any:
    """A concept of random weights, rank 4, with two modifier tokens."""
    deltas, names = PACK["dci_core.concept.deltas"], PACK["dci_core.concept.learned"]
    source = torch.Generator().manual_seed(4)

    def change(inner: int, context: int) -> Any:
        up, down = torch.randn(inner, 4, generator=source), torch.randn(4, context, generator=source)
        return deltas.Delta(up * 0.1, down * 0.1)

    shapes = worlds()[0].kv_shapes()
    changes = {layer: deltas.LayerDelta(change(*shape), change(*shape)) for layer, shape in shapes.items()}
    tokens = {"clip_l": torch.randn(2, 128, generator=source) * 0.1}
    return names.Concept("tiny_flow", "zorp", NOUN, tokens, changes)


@cache
def core_prompts() -> Any:
    """(the core's model with the concept, the pair's prompts)."""
    model = PACK["dci_core.concept.apply"].apply_concept(worlds()[0], concept())
    made = PACK["dci_core.text.tokens"].PromptPair.from_template(
        "a {concept} in the snow", trigger="zorp", noun=NOUN, auxiliary=AUXILIARY, encoder=model.encoders["clip_l"]
    )
    return model, PACK["dci_core.text.prompts"].Prompts.from_pair(model, made)


@cache
def host_parts(prompt: str = PROMPT) -> tuple[Any, Any, Any, Any]:
    """(MODEL with the concept, positive, plan, negative) by the pack's own means."""
    _, model, clip = worlds()
    model, clip = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)
    positive, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(clip, concept(), prompt, AUXILIARY, f"a {AUXILIARY}")
    if prompt == PROMPT:
        positive, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(clip, concept(), prompt, AUXILIARY)
    return model, positive, plan, clip.encode_from_tokens_scheduled(clip.tokenize(""))


def patched(prompt: str = PROMPT, **settings: Any) -> tuple[Any, Any]:
    """(MODEL with the concept and DCI, record)."""
    model, _, plan, _ = host_parts(prompt)
    dci = PACK["dci_core.dci.branches"].DciSettings(**settings)
    return PACK["nodes.host.dci.branching"].with_dci(
        model, PACK["nodes.host.dci.plan"].DciPatch(plan, dci, dci.dbim(family()))
    )


def drawn(model: Any, prompt: str = PROMPT, **changes: Any) -> Tensor:
    """The latent that the host's stock sampler gives."""
    _, positive, _, negative = host_parts(prompt)
    return sample(model, positive, negative, **{**RUN, **changes})


def core_run(cfg: float = 3.5, **settings: Any) -> Tensor:
    """The same run by the core; plain without settings."""
    model, prompts = core_prompts()
    sampling, branches = PACK["dci_core.dci.run"], PACK["dci_core.dci.branches"]
    how = sampling.SampleSettings(num_steps=RUN["steps"], cfg=cfg, sampler="euler")
    dci = branches.DciSettings(**settings) if settings else None
    return sampling.sample_latents(model, prompts, seeds=[5], settings=how, dci=dci).concept


def test_text_and_tokens_are_the_cores() -> None:
    _, prompts = core_prompts()
    _, positive, plan, negative = host_parts()
    for mine, theirs in ((positive[0][0], prompts.concept.hidden), (negative[0][0], prompts.empty.hidden)):
        assert distance(mine, theirs) < 1e-5
    assert distance(positive[0][1]["pooled_output"], prompts.concept.pooled) < 1e-5
    assert distance(plan.hidden, prompts.auxiliary.hidden) < 1e-5
    assert distance(plan.pooled, prompts.auxiliary.pooled) < 1e-5
    assert plan.tokens == prompts.tokens


def test_a_concept_is_a_patch_of_the_texts_thirds_and_draws_as_in_the_core() -> None:
    plain, mine = drawn(worlds()[1]), drawn(host_parts()[0])
    print("MEASURED", {"plain": distance(mine, core_run()), "concept": distance(mine, plain)})
    assert distance(mine, core_run()) < CLOSE
    assert distance(mine, plain) > 1e-2
    keys = {key for key in host_parts()[0].patches if "txt_attn" in key}
    assert keys == {f"diffusion_model.double_blocks.{i}.txt_attn.qkv.weight" for i in range(2)}


def agree(limit: float = CLOSE, cfg: float = 3.5, **settings: Any) -> None:
    """Asserts that a run with DCI is the core's, and not the plain one."""
    chosen = {"window": 0.5, "strength": 1.2, **settings}
    mine, theirs = drawn(patched(**chosen)[0], cfg=cfg), core_run(cfg, **chosen)
    off = drawn(host_parts()[0], cfg=cfg)
    print("MEASURED", {str(settings): distance(mine, theirs), "effect": distance(off, theirs)})
    assert distance(mine, theirs) < limit, distance(mine, theirs)
    assert distance(off, theirs) > 20 * limit, distance(off, theirs)


def test_runs_with_dci_are_the_cores() -> None:
    for guidance in ("aligned", "separate", "shared"):
        agree(guidance=guidance)


def test_without_guidance_there_is_nothing_to_share() -> None:
    agree(cfg=1.0, guidance="aligned")
    shared, separate = (drawn(patched(window=0.5, guidance=how)[0], cfg=1.0) for how in ("shared", "separate"))
    assert torch.equal(shared, separate)


def test_the_window_is_the_flows_own_time() -> None:
    for window, acted in ((0.2, 2), (0.3, 3), (1.0, 10)):
        model, record = patched(window=window, guidance="aligned")
        drawn(model)
        assert (record.steps, record.acted) == (10, acted)


def test_every_block_asked_for_fires_and_no_other() -> None:
    layers, mask = PACK["dci_core.attention.layers"], PACK["dci_core.attention.layers"].LayerMask
    model, record = patched(window=0.3, guidance="aligned")
    drawn(model)
    assert {layer for _, layer in record.weights} == set(family().layers) and len(record.weights) == 6 * 3
    assert not record.warnings and not record.guests
    some, record = patched(window=0.3, guidance="aligned", layers=mask("double1 single2-3:0.5"))
    drawn(some)
    assert {layer for _, layer in record.weights} == {
        layers.LayerId("double", 1), layers.LayerId("single", 2), layers.LayerId("single", 3),
    }  # fmt: skip
    agree(guidance="aligned", layers=mask("double1 single2-3:0.5"))


def test_off_is_the_plain_run_bit_for_bit() -> None:
    plain = drawn(host_parts()[0])
    mask = PACK["dci_core.attention.layers"].LayerMask("all:0")
    for off in ({"window": 0.0}, {"layers": mask}):
        assert torch.equal(drawn(patched(guidance="aligned", **off)[0]), plain)
    on = patched(window=0.5, guidance="aligned")[0]
    assert not torch.equal(drawn(on), plain)
    assert torch.equal(drawn(host_parts()[0]), plain)  # nothing stays on the model


def test_outside_the_window_the_auxiliary_branch_is_not_computed() -> None:
    model, rows = counting_rows(patched(window=0.3, guidance="aligned")[0])
    drawn(model)
    assert rows == [4] * 3 + [2] * 7


def test_texts_of_unlike_length_run_in_calls_of_their_own() -> None:
    model, record = patched(LONG, window=0.3, guidance="aligned")
    mine = drawn(model, LONG)
    assert any("texts of 32 and 64 tokens" in guest for guest in record.guests), record.guests
    assert {layer for _, layer in record.weights} == set(family().layers)
    assert mine.isfinite().all() and distance(mine, drawn(host_parts(LONG)[0], LONG)) > 1e-3


def test_a_replayed_auxiliary_draws_the_same() -> None:
    model, _, plan, _ = host_parts()
    dci = PACK["dci_core.dci.branches"].DciSettings(window=0.3, guidance="aligned")
    patch = PACK["nodes.host.dci.plan"].DciPatch(plan, dci, dci.dbim(family()), replays=True)
    replayed = drawn(PACK["nodes.host.dci.branching"].with_dci(model, patch)[0])
    assert distance(replayed, drawn(patched(window=0.3, guidance="aligned")[0])) < CLOSE


def test_host_and_core_know_a_base_model_by_the_same_hash() -> None:
    core, model, _ = worlds()
    own = PACK["dci_core.concept.base_hash"].hash_base(core.kv_weights(), family().learned_layers)
    identity = PACK["nodes.host.concept.identity"]
    assert identity.base_hash(model, family()) == identity.base_hash(host_parts()[0], family()) == own


def train(chosen: Any) -> tuple[Any, list[float]]:
    """What the train node's work gives."""
    _, model, clip = worlds()
    return PACK["nodes.host.ico.training"].train_concept(
        model, clip, PACK["nodes.host.tiny.unet"].host_vae(codec()), chosen
    )


def test_steps_in_the_host_are_steps_in_the_core() -> None:
    from comfy import model_management

    def check(folder: Path) -> None:
        core, model, _ = worlds()
        model_management.load_models_gpu([model])  # the host marks layers when it first loads them
        before = set(vars(model.model.diffusion_model.double_blocks[0].txt_attn.qkv))
        concept, losses = train(lesson(steps=6))
        state_of, ico = PACK["dci_core.ico.state"], PACK["dci_core.ico.train"]
        data_of, pictures_of = PACK["dci_core.ico.data"], PACK["dci_core.pictures.reference"]
        rare = [core.encoders["clip_l"].tokenize(w)[0] for w in PACK["dci_core.tiny.world.words"].RARE_WORDS]
        data = data_of.encode_pictures([pictures_of.make_picture(p, 128) for p in pictures()], codec().encode)
        with torch.inference_mode(False), torch.enable_grad():
            flow = PACK["dci_core.tiny.flow.model"].FlowModel(ordinary(core.flow.text), ordinary(core.flow.mmdit))
            own = PACK["dci_core.tiny.flow.concept_model"].TinyFlowModel(flow)
            data = replace(data, latents=data.latents.clone())
            state = state_of.begin_training(own, data, lesson(6).settings, noun="fish", rare_tokens={"clip_l": rare})
            for _ in ico.train_steps(own, data, state):
                pass
        mine = PACK["dci_core.ico.result"].make_concept(state, trigger="zorp", rank=None)
        print("MEASURED", {"losses": distance(torch.tensor(losses), torch.tensor(state.losses))})
        assert distance(torch.tensor(losses), torch.tensor(state.losses)) < 1e-3
        assert same(concept, mine, 1e-2)
        assert concept.family == "tiny_flow" and len(concept.deltas) == 2 and concept.cover is not None
        assert all(float(delta.k.dense().norm()) > 0 for delta in concept.deltas.values())
        assert set(vars(model.model.diffusion_model.double_blocks[0].txt_attn.qkv)) == before
        assert "forward" not in vars(model.model.diffusion_model.double_blocks[0])

    in_new_folder(check)


def test_blocks_that_are_computed_again_learn_the_same() -> None:
    training = PACK["nodes.host.ico.training"]
    found = []
    for again in (False, True):

        def check(folder: Path, again: bool = again) -> None:
            before = training.is_short_of_memory
            training.is_short_of_memory = lambda *args: again
            try:
                found.append(train(lesson(steps=2)))
            finally:
                training.is_short_of_memory = before

        in_new_folder(check)
    (kept, losses), (recomputed, others) = found
    assert distance(torch.tensor(losses), torch.tensor(others)) < 1e-4 and same(kept, recomputed, 1e-2)


def test_a_low_rank_training_previews_and_goes_on() -> None:
    def check(folder: Path) -> None:
        settings = replace(lesson(2).settings, rank=4)
        short, _ = train(lesson(settings=settings, keep_rank=4, preview_every=1))
        longer, losses = train(lesson(settings=replace(settings, steps=3), keep_rank=4, preview_every=1))
        assert short.about.rank == longer.about.rank == 4 and len(losses) == 3

    in_new_folder(check)


def test_concepts_of_other_families_and_larger_flows_are_refused() -> None:
    _, model, clip = worlds()
    try:
        PACK["nodes.host.concept.apply"].with_concept(model, clip, replace(concept(), family="tiny"), 1.0)
    except PACK["dci_core.errors"].BadConcept as error:
        assert "is for tiny; tiny_flow was expected" in str(error)
    else:
        raise AssertionError("no error")
    try:
        patched(layers=PACK["dci_core.attention.layers"].LayerMask("in4"))
    except PACK["dci_core.errors"].BadLayers as error:
        assert "double0 double1 single0" in str(error)
    else:
        raise AssertionError("no error")


def test_guidance_auto_is_aligned_on_the_flow_and_shared_on_a_unet() -> None:
    fields, (model, _, plan, _) = PACK["nodes.dci_fields"], host_parts()
    dci = {"window": 0.5, "strength": 1.0, "gain": "scaled", "hints": "both"}
    runs = {how: drawn(fields.patched(model, plan, {**dci, "guidance": how})[0]) for how in (AUTO, *GUIDANCE)}
    assert torch.equal(runs[AUTO], runs["aligned"])
    assert all(distance(runs[AUTO], runs[how]) > 1e-4 for how in ("shared", "separate"))
    unet, _, _ = PACK["nodes.host.tiny.unet"].load_world()
    assert [fields.guidance_of(unet, how) for how in (AUTO, *GUIDANCE)] == ["shared", *GUIDANCE]
