"""Anima in the host: a thin model of random weights is taught, loaded and drawn with DCI; what is missing is said."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from anima_lab import BLOCKS, SIDE, concept, family, stock_lora, worlds
from check_training import in_new_folder, pictures, same
from lab import PACK, counting_rows, distance, sample, small_model
from torch import Tensor

PROMPT, AUXILIARY = "a zorp fish in the snow", "house"
RUN: dict[str, Any] = {"steps": 10, "cfg": 4.0, "shape": (1, 16, 1, 16, 16), "scheduler": "simple"}


@cache
def parts() -> tuple[Any, Any, Any, Any]:
    """(MODEL with the concept, positive, plan, negative) by the pack's own means and stock text encode."""
    model, clip, _ = worlds()
    model, knows = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)
    positive, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(knows, concept(), PROMPT, AUXILIARY)
    return model, positive, plan, knows.encode_from_tokens_scheduled(knows.tokenize(""))


def patched(**settings: Any) -> tuple[Any, Any]:
    """(MODEL with the concept and DCI, record)."""
    model, _, plan, _ = parts()
    dci = PACK["dci_core.dci.branches"].DciSettings(**{"guidance": "aligned", **settings})
    patch = PACK["nodes.host.dci.plan"].DciPatch(plan, dci, dci.dbim(family()))
    return PACK["nodes.host.dci.branching"].with_dci(model, patch)


def drawn(model: Any, **changes: Any) -> Tensor:
    """The latent that the host's stock sampler gives."""
    _, positive, _, negative = parts()
    return sample(model, positive, negative, **{**RUN, **changes})


def lesson(steps: int = 2, **changes: Any) -> Any:
    """A short training with a rate that shows."""
    settings = PACK["dci_core.ico.settings"].IcoSettings(steps=steps, learning_rate=1e-3, modifier_tokens=2, rank=4)
    training = PACK["nodes.host.ico.training"]
    return replace(training.Lesson("fish", "zorp", settings, pictures()[:2], size_px=SIDE, preview_every=0), **changes)


def train(**changes: Any) -> tuple[Any, list[float]]:
    """What the train node's work gives."""
    return PACK["nodes.host.ico.training"].train_concept(*worlds(), lesson(**changes))


def test_the_trigger_stands_in_both_streams_of_the_stock_text_encode() -> None:
    model, clip, _ = worlds()
    _, knows = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)
    tokens, plain = knows.tokenize(PROMPT), clip.tokenize("a fish in the snow")
    vectors = [token for token, *_ in tokens["qwen3_06b"][0] if isinstance(token, Tensor)]
    assert all(torch.equal(a.float(), b) for a, b in zip(vectors, concept().tokens["qwen3_06b"], strict=True))
    ids = [token for token, *_ in tokens["t5xxl"][0]]
    words = [token for token, *_ in plain["t5xxl"][0]]
    first, noun = (len(clip.tokenize(word)["t5xxl"][0]) - 1 for word in ("a", "fish"))  # the end mark is no word
    assert ids == [*words[:first], 32099, 32098, *words[first:]] and words[-1] == 1
    rest = [token for token, *_ in tokens["qwen3_06b"][0] if not isinstance(token, Tensor)]
    assert rest == [token for token, *_ in plain["qwen3_06b"][0]]  # "a", then " fish" with its blank
    encoded = knows.encode_from_tokens_scheduled(tokens)[0]
    assert encoded[1]["t5xxl_ids"].tolist() == ids
    real = parts()[2].tokens.concept
    assert (
        real.span == tuple(range(first, first + 2 + noun))
        and real.real == tuple(range(len(ids) - 1))
        and real.length is None
    )


def test_every_block_asked_for_fires_and_no_other() -> None:
    model, record = patched(window=0.3)
    drawn(model)
    assert {layer for _, layer in record.weights} == set(family().layers) and len(record.weights) == BLOCKS * 3
    assert all(0 < float(share.min()) < float(share.max()) < 1 for share in record.weights.values())
    assert all(share.shape == (1, 8, 8) for share in record.weights.values()) and not record.warnings
    some, record = patched(window=0.3, layers=PACK["dci_core.attention.layers"].LayerMask("block0 block2:0.5"))
    drawn(some)
    assert {layer.block for _, layer in record.weights} == {0, 2}


def test_off_is_the_plain_run_bit_for_bit_and_nothing_stays() -> None:
    model = parts()[0]
    plain, mask = drawn(model), PACK["dci_core.attention.layers"].LayerMask("all:0")
    for off in ({"window": 0.0}, {"layers": mask}):
        assert torch.equal(drawn(patched(**off)[0]), plain)
    on = drawn(patched(window=0.5)[0])
    assert on.isfinite().all() and distance(on, plain) > 1e-3
    assert torch.equal(drawn(patched(window=0.5)[0]), on) and torch.equal(drawn(model), plain)


def test_the_window_is_the_flows_own_time_and_closes_the_branch() -> None:
    for window, acted in ((0.2, 2), (0.3, 3), (1.0, 10)):
        model, record = patched(window=window)
        drawn(model)
        assert (record.steps, record.acted) == (10, acted)
    model, rows = counting_rows(patched(window=0.3)[0])
    drawn(model)
    assert sum(rows) == 4 * 3 + 2 * 7 and rows[-7:] == [2] * 7
    model, record = patched(window=0.3)
    drawn(model, cfg=1.0)  # no unconditional row at all
    assert record.acted == 3 and {layer for _, layer in record.weights} == set(family().layers)


def test_two_pictures_of_a_batch_are_drawn_as_one_by_one() -> None:
    import comfy.sample

    noise = comfy.sample.prepare_noise(torch.zeros(2, 16, 1, 16, 16), 5)
    both = drawn(patched(window=0.5)[0], shape=(2, 16, 1, 16, 16))
    _, positive, _, negative = parts()
    alone = comfy.sample.sample(
        patched(window=0.5)[0], noise[:1], 10, 4.0, "euler", "simple", positive, negative,
        torch.zeros(1, 16, 1, 16, 16), disable_pbar=True, seed=5,
    )  # fmt: skip
    assert distance(both[:1], alone) < 1e-4 and distance(both[1:], both[:1]) > 1e-2


def call_with(rule: Any, seen: list[Any] | None = None) -> Tensor:
    """x0 of one model call of the plain model in which a rule acts in every block."""
    model = worlds()[0]
    joint, projections = PACK["nodes.host.attention.joint_rule"], PACK["nodes.host.attention.projections"]
    source = torch.Generator().manual_seed(3)
    x, text = torch.randn(1, 16, 1, 16, 16, generator=source), torch.randn(1, 512, 1024, generator=source)
    with projections.projections_seen(model.model.diffusion_model):
        options = joint.with_attention_rule({}, family().layers, rule, model.model, (16, 16))
        return model.model.apply_model(x, torch.tensor([0.7]), c_crossattn=text, transformer_options=options)


def test_a_rule_sees_the_cross_attentions_and_a_changed_key_is_a_changed_weight() -> None:
    calls: list[Any] = []

    def looking(call: Any) -> Tensor:
        calls.append(call)
        return call.plain()

    plain = call_with(looking)
    assert [call.layer for call in calls] == list(family().layers)
    assert all(call.k.shape == (1, 512, 128) and call.q.shape == (1, 64, 128) for call in calls)
    assert all(call.context.shape == (1, 512, 1024) and call.rows is None and call.grid == (8, 8) for call in calls)
    deltas, change = PACK["dci_core.concept.deltas"], concept().deltas
    ruled = call_with(lambda call: deltas.changed(call, change[call.layer]).plain())
    network, kept = worlds()[0].model.diffusion_model, {}
    for layer, delta in change.items():
        cross = network.blocks[layer.block].cross_attn
        for part, own in ((delta.k, cross.k_proj), (delta.v, cross.v_proj)):
            kept[own] = own.weight.clone()
            own.weight.add_(part.dense())
    patched_by_hand = call_with(looking)
    for own, weight in kept.items():
        own.weight.copy_(weight)
    print("MEASURED", {"rule": distance(ruled, patched_by_hand), "effect": distance(ruled, plain)})
    assert distance(ruled, patched_by_hand) < 1e-5 and distance(ruled, plain) > 1e-3


def test_a_concept_is_an_ordinary_patch_of_the_cross_attentions() -> None:
    model, clip, _ = worlds()
    own = parts()[0]
    keys = {f"diffusion_model.blocks.{i}.cross_attn.{part}_proj.weight" for i in range(BLOCKS) for part in "kv"}
    assert set(own.patches) == keys
    weightless, _ = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 0.0)
    assert distance(drawn(own), drawn(weightless)) > 1e-4 and not weightless.patches
    other = stock_lora(model, concept())
    assert set(other.patches) == keys and distance(drawn(other), drawn(own)) < 1e-5
    try:
        PACK["dci_core.concept.exports"].export_embedding(concept(), Path("never.safetensors"))
    except PACK["dci_core.errors"].BadConcept as error:
        assert "take no embedding files" in str(error)
    else:
        raise AssertionError("no error")


def test_it_trains_saves_loads_and_draws_with_dci() -> None:
    def check(folder: Path) -> None:
        import nodes

        samples = PACK["nodes.host.ico.samples"].Samples(every=1)
        made, losses = train(preview_every=1, samples=samples)
        assert samples.batch().shape == (2, SIDE, SIDE, 3)
        network = worlds()[0].model.diffusion_model
        assert len(losses) == 2 and made.family == "lab_anima" and made.cover.picture is not None
        assert len(made.deltas) == BLOCKS and all(float(d.k.dense().norm()) > 0 for d in made.deltas.values())
        assert made.tokens["qwen3_06b"].shape == (2, 1024) and list(made.tokens) == ["qwen3_06b"]
        assert "forward" not in vars(network.blocks[0]) and not network.blocks[0].cross_attn.k_proj._forward_hooks
        PACK["dci_core.concept.file"].save_concept(made, folder / "mine.safetensors")
        model, clip, _ = worlds()
        loaded = nodes.NODE_CLASS_MAPPINGS["ICOLoadConcept"].execute(
            base_model=model, base_clip=clip, concept_name="mine.safetensors", strength=1.0
        )
        own, knows, kept = loaded.args[:3]
        assert same(kept, made)
        pair = nodes.NODE_CLASS_MAPPINGS["DCIPromptPair"].execute(
            clip=knows, concept=kept, prompt=PROMPT, auxiliary_noun=AUXILIARY
        )
        positive, plan = pair.args[:2]
        how = {"window": 0.5, "strength": 1.0, "guidance": "aligned", "gain": "scaled", "hints": "both"}
        dci, record = nodes.NODE_CLASS_MAPPINGS["DCIApply"].execute(model=own, plan=plan, **how).args[:2]
        negative = nodes.CLIPTextEncode().encode(knows, "")[0]
        empty = {"samples": torch.zeros(1, 16, 1, 16, 16)}
        out = nodes.KSampler().sample(dci, 7, 4, 4.0, "euler", "simple", positive, negative, empty)[0]["samples"]
        assert out.isfinite().all() and {layer for _, layer in record.weights} == set(family().layers)

    in_new_folder(check)


def test_blocks_that_are_computed_again_learn_the_same() -> None:
    training, found = PACK["nodes.host.ico.training"], []
    for again in (False, True):

        def check(folder: Path, again: bool = again) -> None:
            before = training.is_short_of_memory
            training.is_short_of_memory = lambda *args: again
            try:
                found.append(train())
            finally:
                training.is_short_of_memory = before

        in_new_folder(check)
    (kept, losses), (recomputed, others) = found
    assert distance(torch.tensor(losses), torch.tensor(others)) < 1e-4 and same(kept, recomputed, 1e-2)


def test_concepts_of_other_bases_and_films_are_refused_in_a_sentence() -> None:
    errors, apply = PACK["dci_core.errors"], PACK["nodes.host.concept.apply"]
    model, clip, _ = worlds()
    for made, words in ((replace(concept(), family="sd15"), "is for sd15; lab_anima was expected"),):
        try:
            apply.with_concept(model, clip, made, 1.0)
        except errors.BadConcept as error:
            assert words in str(error)
        else:
            raise AssertionError("no error")
    try:
        drawn(patched(window=0.5)[0], shape=(1, 16, 2, 16, 16))
    except errors.BadModel as error:
        assert "one frame is expected" in str(error)
    else:
        raise AssertionError("no error")


def test_a_host_without_anima_says_so() -> None:
    transformers, apply = PACK["nodes.host.families.transformers"], PACK["nodes.host.concept.apply"]
    anima = PACK["dci_core.families.table"].FAMILIES["anima"]
    made = PACK["dci_core.concept.learned"].Concept("anima", "zorp", "fish", {"qwen3_06b": torch.zeros(2, 1024)}, {})
    if transformers.LAYOUTS[0].own_class() is not None:
        transformers.check_host_has(anima, "zorp")  # nothing to say
        return
    try:
        apply.with_concept(small_model(), None, made, 1.0)
    except PACK["dci_core.errors"].BadModel as error:
        assert "has not got that model" in str(error), str(error)
    else:
        raise AssertionError("no error")
