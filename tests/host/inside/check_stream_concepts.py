"""ICO and DCI on Z-Image, SD 3.5, Qwen-Image and Krea 2 in the host: thin ones; a rule acts where it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from check_flux_concepts import (
    RUN,
    deltas_are_weights,
    drawn,
    is_a_patch_of_text_weights,
    is_drawn_with_dci,
    learns,
    lesson,
    parts,
    patched,
    shape_of,
    slots_are_rows_of_the_text,
    texts_as_trained_are_as_drawn,
)
from check_text import refusal
from flux_lab import concept, family, worlds
from lab import PACK, distance, sample, small_model
from stream_lab import sd3_clip
from torch import Tensor


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


def test_krea2_is_drawn_with_dci() -> None:
    is_drawn_with_dci("krea2")
    is_a_patch_of_text_weights("krea2")
    slots_are_rows_of_the_text("krea2")


def test_krea2_learns() -> None:
    texts_as_trained_are_as_drawn("krea2")
    deltas_are_weights("krea2")
    learns("krea2")


def test_rows_of_krea2s_reference_latents_belong_to_nobody() -> None:
    model, positive, _, negative = parts("krea2")
    source = torch.Generator().manual_seed(6)
    beside = {"reference_latents": [torch.randn(1, 16, 1, 8, 8, generator=source)], "reference_latents_method": "index"}
    told = [[[side[0][0], {**side[0][1], **beside}] for side in (text,)] for text in (positive, negative)]
    run = {**RUN, "shape": shape_of("krea2")}
    plain, alone = sample(model, *told, **run), drawn("krea2", model)
    ready, record = patched("krea2", window=0.3)
    out = sample(ready, *told, **run)
    assert {layer for _, layer in record.weights} == set(family("krea2").layers) and record.acted == 3
    assert min(distance(out, plain), distance(plain, alone)) > 1e-4 and out.isfinite().all()
    assert torch.equal(sample(patched("krea2", window=0.0)[0], *told, **run), plain)


def test_sd3_is_drawn_with_dci() -> None:
    is_drawn_with_dci("sd3")
    is_a_patch_of_text_weights("sd3")


def test_sd3_learns() -> None:
    texts_as_trained_are_as_drawn("sd3")
    deltas_are_weights("sd3")
    learns("sd3")


def test_sd3s_blocks_are_computed_again_only_where_they_should_be() -> None:
    model, clip, _ = worlds("sd3")
    host, row = PACK["nodes.host.ico.model"].HostModel(model, clip, family("sd3")), family("sd3")
    deltas, copied = PACK["dci_core.concept.deltas"], PACK["dci_core.concept.learned"].map_tensors
    network, runs = model.model.diffusion_model, 0

    def counting(*_: Any) -> None:
        nonlocal runs
        runs += 1

    def rule(call: Any) -> Tensor:
        return deltas.changed(call, change[call.layer]).plain()

    hooks = [block.x_block.attn.qkv.register_forward_hook(counting) for block in network.joint_blocks]
    for recomputes, times in ((False, 1), (True, 2)):
        with PACK["nodes.host.ico.thaw"].open_to_gradients(network, recomputes=recomputes):
            change = {layer: copied(one, torch.clone) for layer, one in concept("sd3").deltas.items()}
            x, text = torch.randn(1, row.latent_channels, 16, 16), torch.randn(1, 154, 4096, requires_grad=True)
            words, runs = PACK["dci_core.model"].Text(text, torch.randn(1, 2048)), 0
            host.denoise(x, torch.tensor([0.6]), words, rule).square().mean().backward()
        assert runs == times * len(network.joint_blocks), (recomputes, runs)
        assert text.grad is not None and bool(text.grad.any())
    for hook in hooks:
        hook.remove()


def test_both_places_of_a_word_in_sd3s_text_are_its_span() -> None:
    _, positive, plan, _ = parts("sd3")
    words, clip = plan.tokens.auxiliary, worlds("sd3")[1]
    here, there = (clip.encode_from_tokens(clip.tokenize(f"a {noun} in the snow")) for noun in ("house", "fish"))
    changed = (here != there).any(dim=-1)[0].nonzero().flatten().tolist()
    assert words.length == here.shape[1] == 2 * 77 and words.span[0] == changed[0] < 77 <= words.span[-1]
    assert positive[0][0].shape[1] == plan.tokens.concept.length
    assert len(plan.tokens.concept.span) == 2 * len([slot for slot in plan.tokens.concept.span if slot < 77])


def test_sd35s_second_attention_is_left_alone() -> None:
    shapes: list[tuple[int, int]] = []

    def seen(attend: Any, q: Any, k: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append((q.shape[1], k.shape[1]))
        return attend(q, k, *args, **kwargs)

    model, record = patched("sd3", window=0.3)
    model.model_options["transformer_options"]["optimized_attention_override"] = seen
    drawn("sd3", model)
    own, joint = 64, 64 + 2 * 77
    assert set(shapes) == {(joint, joint), (own, own)}, set(shapes)
    assert 3 * shapes.count((own, own)) == 2 * shapes.count((joint, joint)), shapes  # in two blocks of three
    assert len(record.weights) == 3 * 3  # steps in the window, blocks


def test_two_concepts_in_one_sd3_picture_keep_to_both_places_of_their_words() -> None:
    from check_together import box, second
    from check_together import patched as applied

    pairs, put = PACK["nodes.host.dci.pairs"], PACK["nodes.host.concept.apply"].with_concept
    both, (model, clip, _) = (concept("sd3"), second(concept("sd3"))), worlds("sd3")
    for one in both:
        model, clip = put(model, clip, one, 1.0)
    words = "a zorp fish in the snow by a quex car"

    def run(*regions: Any, **dci: Any) -> Tensor:
        sides = zip(both, ("house", "tree"), regions, strict=True)
        positive, plan, _ = pairs.make_several(clip, [pairs.Placed(*side) for side in sides], words)
        for part in (*plan.tokens.concept.parts, *plan.tokens.auxiliary.parts):
            assert part[0] < 77 <= part[-1], plan.tokens
        ready, record = applied(model, plan, window=0.3, strength=1.0, guidance="aligned", **dci)
        out = sample(ready, positive, empty, **{**RUN, "shape": shape_of("sd3")})
        assert out.isfinite().all() and record.acted == 3
        return out

    plain, empty = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (words, ""))
    stacked = sample(model, plain, empty, **{**RUN, "shape": shape_of("sd3")})
    anywhere, sides, other = run(None, None), run(box("left"), box("right")), run(box("right"), box("left"))
    assert min(distance(anywhere, stacked), distance(sides, anywhere), distance(sides, other)) > 1e-4


def test_sd3_without_t5_is_refused_in_a_sentence() -> None:
    sentence = refusal(
        lambda: PACK["nodes.host.concept.apply"].with_concept(worlds("sd3")[0], sd3_clip(False), concept("sd3"), 1)
    )
    assert "'t5xxl': 4096} are expected by a lab_sd3 model; load all of these together" in sentence, sentence


def test_sd3_medium_and_sd35_medium_are_told_apart() -> None:
    family_of, model = PACK["nodes.host.families.recognition"].family_of, worlds("sd3")[0]
    assert family_of(model).name == "lab_sd3"
    network = model.model.diffusion_model
    kept, network.x_block_self_attn_layers = network.x_block_self_attn_layers, []
    try:
        sentence = refusal(lambda: family_of(model))
    finally:
        network.x_block_self_attn_layers = kept
    assert "the sizes of sd3_medium or sd35_medium or sd35_large" in sentence, sentence


def test_a_card_for_a_base_that_nobody_counted_is_told() -> None:
    choosing, live = PACK["nodes.host.ico.choosing"], PACK["nodes.host.page.live"]
    table, card = PACK["dci_core.families.table"], lesson(memory="24 GB")
    with live.live_training("zorp fish") as told:
        for name, said in (("tiny", 0), ("chroma", 1)):
            kept = choosing.fitted(card, table.FAMILIES[name], lambda: None, torch.device("cpu"))
            assert kept == card and len(told.notes) == said, (name, told.notes)
    assert "chroma takes has not been counted: memory 24 GB leaves batch" in told.notes[0]


def test_two_concepts_in_a_picture_of_one_stream_are_refused() -> None:
    apply, pairs = PACK["nodes.host.concept.apply"], PACK["nodes.host.dci.pairs"]
    for kind in ("z_image", "krea2"):
        model, clip, _ = worlds(kind)
        model, knows = apply.with_concept(model, clip, concept(kind), 1.0)
        placed = [pairs.Placed(concept(kind), "house", torch.ones(4, 4))]
        _, plan, _ = pairs.make_several(knows, placed, "a zorp fish in the snow")
        sentence = refusal(lambda model=model, plan=plan: PACK["nodes.host.dci.together"].together_of(model, plan))
        assert f"came for lab_{kind}; one concept without a region is expected" in sentence, sentence


def test_embeddings_of_qwen_image_are_refused() -> None:
    family("qwen_image")
    export = PACK["dci_core.concept.exports"].export_embedding
    assert "take no embedding files" in refusal(lambda: export(concept("qwen_image"), Path("never.safetensors")))


def test_a_host_without_a_model_says_so() -> None:
    transformers, apply = PACK["nodes.host.families.transformers"], PACK["nodes.host.concept.apply"]
    for name, title in (("z_image", "Z-Image"), ("krea2", "Krea 2")):
        layout = next(layout for layout in transformers.LAYOUTS if layout.name == name)
        row = PACK["dci_core.families.table"].FAMILIES[name]
        tokens = {encoder: torch.zeros(2, width) for encoder, width in row.encoders.items()}
        made = PACK["dci_core.concept.learned"].Concept(name, "zorp", "fish", tokens, {})
        if layout.own_class() is not None:
            transformers.check_host_has(row, "zorp")  # nothing to say
            continue
        sentence = refusal(lambda made=made: apply.with_concept(small_model(), None, made, 1.0))
        assert f"is for {title}; ComfyUI" in sentence and "has not got that model" in sentence, sentence
