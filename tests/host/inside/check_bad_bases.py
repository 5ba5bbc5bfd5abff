"""What cannot be right on a transformer is refused, or told, in one clear sentence."""

from __future__ import annotations

from pathlib import Path

import torch
from check_flux_concepts import drawn, lesson, patched, train
from check_text import refusal
from check_training import in_new_folder
from flux_lab import concept, worlds
from lab import PACK


def test_a_film_is_refused() -> None:
    model, _ = patched("qwen_image", window=0.3)
    shape = (1, 16, 3, 16, 16)
    assert "the latent has 3 frames; one frame is expected" in refusal(lambda: drawn("qwen_image", model, shape=shape))


def test_a_text_encoder_of_another_base_is_refused() -> None:
    apply = PACK["nodes.host.concept.apply"].with_concept
    for kind, other, words in (
        ("z_image", "klein", "gives 3 of its layers side by side, as another base reads them; 1 is expected"),
        ("klein", "z_image", "gives 1 of its layers side by side, as another base reads them; 3 is expected"),
        ("z_image", "qwen_image", "{'qwen3_4b': 2560} are expected by a lab_z_image model"),
        ("krea2", "z_image", "{'qwen3vl_4b': 128} are expected by a lab_krea2 model"),
    ):
        sentence = refusal(lambda kind=kind, other=other: apply(worlds(kind)[0], worlds(other)[1], concept(kind), 1.0))
        assert words in sentence, sentence


def test_a_concept_of_another_base_is_refused() -> None:
    apply = PACK["nodes.host.concept.apply"].with_concept
    for kind, other in (("flux", "chroma"), ("chroma", "qwen_image"), ("qwen_image", "flux")):
        sentence = refusal(lambda kind=kind, other=other: apply(*worlds(kind)[:2], concept(other), 1.0))
        assert f"is for lab_{other}; lab_{kind} was expected" in sentence, sentence


def test_a_base_of_packed_weights_or_of_eight_bits_with_scales_is_not_trained_on() -> None:
    network, eight = worlds("qwen_image")[0].model.diffusion_model, torch.float8_e4m3fn
    linear = network.transformer_blocks[1].attn.add_v_proj
    kept = linear.weight
    for weight, scale, words in ((kept.to(torch.int8), None, "int8"), (kept.to(eight), 1.0, "fp8 with scales")):
        linear.weight, linear.scale_weight = torch.nn.Parameter(weight, requires_grad=False), scale
        try:
            sentence = refusal(lambda: train("qwen_image"))
        finally:
            linear.weight = kept
            del linear.scale_weight
        expected = f"the model's weights are {words}; fp32, fp16, bf16 or plain fp8 is expected for training"
        assert expected in sentence, sentence


def test_a_subject_on_the_model_that_is_trained_on_is_told_and_not_read() -> None:
    from mmdit_lab import prompted

    training, live = PACK["nodes.host.ico.training"], PACK["nodes.host.page.live"]
    own, clip, vae = worlds("flux")
    found = []

    def check(folder: Path) -> None:
        reading = prompted("flux", own)[0]
        for model, is_told in ((own, False), (reading, True)):
            with live.live_training("zorp fish") as told:
                found.append(training.train_concept(model, clip, vae, lesson())[1])
            assert any("reads the model without it" in note for note in told.notes) == is_told, told.notes
            for file in folder.rglob("zorp*"):
                file.unlink()

    in_new_folder(check)
    assert found[0] == found[1]


def test_a_caption_over_the_encoders_limit_is_refused_before_the_first_step() -> None:
    training = PACK["nodes.host.ico.training"]
    long = lesson(captions=["the " * 600 + "{concept}", "a {concept}"])
    sentence = refusal(lambda: training.train_concept(*worlds("qwen_image"), long))
    assert "tokens; at most" in sentence and "shorten the captions" in sentence, sentence


def test_a_cfg_beside_a_distilled_guidance_is_told() -> None:
    model, record = patched("flux", window=0.3)
    drawn("flux", model, cfg=2.0)
    assert any("a CFG of 2 comes on top" in sentence for sentence in record.warnings), record.warnings
    drawn("flux", model, cfg=1.0)
    assert not record.warnings, record.warnings
