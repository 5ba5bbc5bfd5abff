"""The small world's model behind the core's seams, with random weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dci_core.attention.call import AttentionCall
from dci_core.attention.layers import LayerId
from dci_core.errors import BadModel
from dci_core.families.table import find_family
from dci_core.families.weight_names import weight_key
from dci_core.model import Text
from dci_core.noise.schedule import sd_schedule
from dci_core.text.captions import encode_captions
from dci_core.text.prompts import encode_text
from dci_core.tiny.codec import Codec
from dci_core.tiny.model import WEIGHTS, TinyModel, load_part
from dci_core.tiny.text import TextEncoder, TextParams
from dci_core.tiny.tokenizer import load_tokenizer

MODEL = TinyModel.random(1)
SOURCE = torch.Generator().manual_seed(2)
X, SIGMA = torch.randn(2, 8, 16, 16, generator=SOURCE) * 3, torch.tensor([0.4, 5.0])
VECTORS = torch.randn(3, 128, generator=SOURCE)


@pytest.fixture(scope="module")
def text() -> Text:
    return encode_captions(MODEL, ["a fish in snow", "a cat at night"])


@pytest.fixture(scope="module")
def plain(text: Text) -> Tensor:
    return MODEL.denoise(X, SIGMA, text)


def test_denoising_is_the_naive_formula_row_by_row(text: Text, plain: Tensor) -> None:
    betas = [(0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * i / 999) ** 2 for i in range(1000)]
    kept, sigmas = 1.0, []
    for beta in betas:
        kept *= 1 - beta
        sigmas.append(math.sqrt((1 - kept) / kept))
    for row, sigma in enumerate(SIGMA.tolist()):
        timestep = min(range(1000), key=lambda t: abs(math.log(sigmas[t]) - math.log(sigma)))
        scaled = X[row : row + 1] / math.sqrt(1 + sigma**2)
        noise = MODEL.unet(scaled, torch.tensor([timestep]), text.hidden[row : row + 1])
        assert torch.allclose(X[row : row + 1] - sigma * noise, plain[row : row + 1], atol=1e-4)


def test_the_text_is_read(plain: Tensor) -> None:
    other = MODEL.denoise(X, SIGMA, encode_captions(MODEL, ["a star", "a heart"]))
    assert not torch.allclose(other, plain, atol=1e-3)


def test_a_rule_that_does_nothing_changes_nothing(text: Text, plain: Tensor) -> None:
    seen: list[LayerId] = []

    def rule(call: AttentionCall) -> Tensor:
        seen.append(call.layer)
        assert call.grid[0] * call.grid[1] == call.q.shape[1]
        return call.plain()

    assert torch.allclose(MODEL.denoise(X, SIGMA, text, rule), plain, atol=1e-4)
    assert seen == list(MODEL.layers)


def test_a_rule_that_says_nothing_changes_the_picture(text: Text, plain: Tensor) -> None:
    silent = MODEL.denoise(X, SIGMA, text, lambda call: torch.zeros_like(call.q))
    assert not torch.allclose(silent, plain, atol=1e-3)


def test_layers_and_widths_are_those_of_the_family_table() -> None:
    family = find_family("tiny")
    assert list(MODEL.layers) == list(family.layers)
    assert MODEL.kv_shapes() == {layer: (family.width(layer), family.context_width) for layer in family.layers}
    assert {name: encoder.width for name, encoder in MODEL.encoders.items()} == family.encoders


def test_grids_are_those_of_the_family_table(text: Text) -> None:
    family, grids = find_family("tiny"), dict[LayerId, tuple[int, int]]()

    def rule(call: AttentionCall) -> Tensor:
        grids[call.layer] = call.grid
        return call.plain()

    MODEL.denoise(X, SIGMA, text, rule)
    side = family.latent_shape[1]
    assert grids == {layer: (side >> depth, side >> depth) for layer, depth in family.depths.items()}


def test_weights_have_the_names_of_ldm_checkpoints() -> None:
    names = set(MODEL.unet.state_dict())
    assert names >= {weight_key(layer, part) for layer in MODEL.layers for part in "kv"}
    assert names >= {
        "time_embed.0.weight",
        "time_embed.2.bias",
        "input_blocks.0.0.weight",
        "input_blocks.1.0.in_layers.2.weight",
        "input_blocks.1.0.emb_layers.1.weight",
        "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj.weight",
        "input_blocks.2.0.op.weight",
        "input_blocks.3.0.skip_connection.weight",
        "middle_block.1.transformer_blocks.0.attn1.to_out.0.bias",
        "middle_block.2.out_layers.3.weight",
        "output_blocks.1.2.conv.weight",
        "output_blocks.5.1.proj_out.weight",
        "out.0.weight",
        "out.2.weight",
    }
    assert len([name for name in names if ".attn2.to_k." in name]) == 10


def test_deltas_change_the_named_weight_of_a_copy_and_no_other() -> None:
    key = weight_key(LayerId("input", 3), "k")
    before = {name: value.clone() for name, value in MODEL.unet.state_dict().items()}
    changed = MODEL.with_deltas({key: torch.full((128, 128), 0.5)})
    after = changed.unet.state_dict()
    assert torch.equal(after[key], before[key] + 0.5)
    assert all(torch.equal(after[name], value) for name, value in before.items() if name != key)
    assert all(torch.equal(MODEL.unet.state_dict()[name], value) for name, value in before.items())


def test_a_delta_is_seen_in_what_is_drawn(text: Text, plain: Tensor) -> None:
    key = weight_key(LayerId("middle", 0), "v")
    assert not torch.allclose(MODEL.with_deltas({key: torch.eye(128)}).denoise(X, SIGMA, text), plain, atol=1e-4)
    assert torch.equal(MODEL.with_deltas({}).denoise(X, SIGMA, text), plain)


def test_a_delta_for_a_weight_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadModel, match=r"'input_blocks\.99\.weight'; the tiny U-Net has no such weight"):
        MODEL.with_deltas({"input_blocks.99.weight": torch.zeros(1)})


def test_a_trigger_gives_one_id_per_modifier_token() -> None:
    taught = MODEL.with_tokens("Blup", {"clip_l": VECTORS}).encoders["clip_l"]
    entries = load_tokenizer().get_vocab_size()
    a, fish = (load_tokenizer().encode(word).ids[0] for word in ("a", "fish"))
    assert taught.tokenize("a blup fish") == [a, entries, entries + 1, entries + 2, fish]
    assert torch.equal(taught.embed(torch.arange(entries, entries + 3)), VECTORS)


def test_a_trigger_is_found_beside_punctuation_and_capitals() -> None:
    taught = MODEL.with_tokens("blup", {"clip_l": VECTORS}).encoders["clip_l"]
    assert taught.tokenize('a "Blup", cat') == [
        i for word in ("a", '"', "blup", '",', "cat") for i in taught.tokenize(word)
    ]


def test_two_triggers_keep_their_own_vectors() -> None:
    both = MODEL.with_tokens("blup", {"clip_l": VECTORS}).with_tokens("glim", {"clip_l": VECTORS[:1] + 1})
    encoder = both.encoders["clip_l"]
    assert torch.equal(
        encoder.embed(torch.tensor(encoder.tokenize("glim blup"))), torch.cat((VECTORS[:1] + 1, VECTORS))
    )


def test_the_original_does_not_know_the_trigger() -> None:
    MODEL.with_tokens("blup", {"clip_l": VECTORS})
    assert max(MODEL.encoders["clip_l"].tokenize("blup")) < load_tokenizer().get_vocab_size()


def test_a_word_after_another_does_not_change_what_stands_before_it() -> None:
    short, long = encode_text(MODEL, "a fish").hidden, encode_text(MODEL, "a fish in snow").hidden
    assert torch.allclose(short[:, :3], long[:, :3], atol=1e-5) and not torch.allclose(short, long, atol=1e-3)


def test_pooled_is_the_end_mark() -> None:
    encoded = encode_text(MODEL, "a fish")
    assert encoded.pooled is not None and torch.equal(encoded.pooled, encoded.hidden[:, 3])


def test_one_seed_gives_one_model() -> None:
    one, other = TinyModel.random(1).unet.state_dict(), TinyModel.random(2).unet.state_dict()
    assert all(torch.equal(one[name], value) for name, value in MODEL.unet.state_dict().items())
    assert not torch.equal(one["out.2.weight"], other["out.2.weight"])


def test_the_shipped_text_encoder_and_codec_load_frozen_and_finite() -> None:
    text = TextEncoder(TextParams(load_tokenizer().get_vocab_size()))
    for part in (load_part("text", text), load_part("codec", Codec())):
        assert all(p.isfinite().all() and not p.requires_grad for p in part.parameters())


def test_all_shipped_weights_are_under_40_megabytes() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) < 40e6


def test_the_schedule_covers_the_noise_of_training() -> None:
    assert sd_schedule().timestep(torch.tensor([sd_schedule().sigma_min, sd_schedule().sigma_max])).tolist() == [0, 999]
