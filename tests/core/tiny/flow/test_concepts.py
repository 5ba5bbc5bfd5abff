"""ICO on the tiny flow world by the U-Nets' own loop: changes of the text rows before the norms, training, files."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from dci_core.attention.call import AttentionCall, AttentionRule
from dci_core.attention.layers import LayerId
from dci_core.concept.apply import apply_concept
from dci_core.concept.base_hash import hash_base
from dci_core.concept.deltas import Delta, LayerDelta, changed
from dci_core.concept.exports import export_lora
from dci_core.concept.file import load_concept, save_concept
from dci_core.concept.learned import Concept
from dci_core.errors import BadConcept, BadModel, BadSettings, PromptTooLong
from dci_core.families.table import find_family
from dci_core.ico.checkpoint import load_state, save_state
from dci_core.ico.data import TrainingData
from dci_core.ico.result import make_concept
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import TrainState, begin_training, family_widths, parameters_by_name
from dci_core.ico.train import StepReport, train_steps
from dci_core.text.captions import encode_captions
from dci_core.tiny.flow.concept_model import TinyFlowModel
from dci_core.tiny.flow.model import SLOTS
from dci_core.tiny.model import TinyModel

MODEL = TinyFlowModel.random()
FAMILY = find_family("tiny_flow")
SETTINGS = IcoSettings(steps=3, batch=1, learning_rate=1e-2, modifier_tokens=2)
DATA = TrainingData(torch.randn(2, 2, 8, 16, 16, generator=torch.Generator().manual_seed(4)))
RARE = {"clip_l": (5, 6, 7)}
X = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(5))
T = torch.tensor([0.9, 0.3])


def begin(settings: IcoSettings = SETTINGS) -> TrainState:
    return begin_training(MODEL, DATA, settings, noun="fish", rare_tokens=RARE)


def run(state: TrainState, count: int | None = None) -> list[StepReport]:
    return list(itertools.islice(train_steps(MODEL, DATA, state), count))


def draw(model: TinyFlowModel, rule: AttentionRule | None = None, words: str = "a fish in snow") -> Tensor:
    with torch.no_grad():
        return model.denoise(X, T, encode_captions(model, [words] * len(X)), rule)


def some_change(layer: LayerId, seed: int = 1) -> LayerDelta:
    g = torch.Generator().manual_seed(seed)
    return LayerDelta(*(Delta(torch.randn(192, 192, generator=g) * 0.05) for _ in range(2)))


@pytest.fixture(scope="module")
def state() -> TrainState:
    state = begin()
    run(state)
    return state


@pytest.fixture(scope="module")
def concept(state: TrainState) -> Concept:
    base = hash_base(MODEL.kv_weights(), FAMILY.learned_layers)
    return make_concept(state, trigger="sks", rank=None, precision="fp32", base_hash=base)


def test_without_a_concept_the_model_is_the_plain_flow_bit_for_bit() -> None:
    text = encode_captions(MODEL, ["a fish in snow"] * 2)
    with torch.no_grad():
        velocity = MODEL.flow.velocity(X, T, MODEL.flow.encode(["a fish in snow"] * 2))
        assert torch.equal(MODEL.denoise(X, T, text), X - T[:, None, None, None] * velocity)


def test_a_rule_is_asked_in_every_block_in_order_and_a_plain_one_changes_nothing() -> None:
    asked: list[LayerId] = []

    def rule(call: AttentionCall) -> Tensor:
        asked.append(call.layer)
        assert call.rows is not None and call.rows.text_count == SLOTS and call.grid == (8, 8)
        assert call.context.shape == (2, SLOTS, 192)
        return call.plain()

    torch.testing.assert_close(draw(MODEL, rule), draw(MODEL), atol=1e-5, rtol=1e-4)
    assert tuple(asked) == MODEL.layers == FAMILY.layers and len(asked) == 6


def test_a_change_of_nothing_gives_the_same_keys_and_values_again() -> None:
    nothing = LayerDelta(Delta(torch.zeros(192, 192)), Delta(torch.zeros(192, 192)))

    def rule(call: AttentionCall) -> Tensor:
        same = changed(call, nothing)
        torch.testing.assert_close((same.k, same.v), (call.k, call.v), atol=1e-5, rtol=1e-4)
        return same.plain()

    torch.testing.assert_close(draw(MODEL, rule), draw(MODEL), atol=1e-4, rtol=1e-3)


def weights_changed(layer: LayerId, change: LayerDelta) -> TinyFlowModel:
    """The naive way: the block's own map says the change, on its text rows alone."""
    mmdit = copy.deepcopy(MODEL.flow.mmdit)
    if layer.stage == "double":
        attention: Any = mmdit.double_blocks[layer.block]
        with torch.no_grad():
            attention.txt_attn.qkv.weight[192:384] += change.k.dense()
            attention.txt_attn.qkv.weight[384:] += change.v.dense()
    else:
        block: Any = mmdit.single_blocks[layer.block]

        def with_change(module: Any, inputs: tuple[Tensor], out: Tensor) -> Tensor:
            out = out.clone()
            out[:, :SLOTS, 192:384] += inputs[0][:, :SLOTS] @ change.k.dense().T
            out[:, :SLOTS, 384:576] += inputs[0][:, :SLOTS] @ change.v.dense().T
            return out

        block.linear1.register_forward_hook(with_change)
    return replace(MODEL, flow=replace(MODEL.flow, mmdit=mmdit))


@pytest.mark.parametrize("layer", [LayerId("double", 0), LayerId("double", 1), LayerId("single", 2)])
def test_a_change_acts_before_norms_and_rotary_on_the_text_rows(layer: LayerId) -> None:
    change = some_change(layer)
    ours = draw(MODEL, lambda call: (changed(call, change) if call.layer == layer else call).plain())
    torch.testing.assert_close(ours, draw(weights_changed(layer, change)), atol=1e-4, rtol=1e-3)
    assert (ours - draw(MODEL)).abs().max() > 1e-2


def test_training_learns_every_part_and_leaves_the_model_alone(state: TrainState) -> None:
    weights = {name: x.clone() for name, x in MODEL.flow.mmdit.state_dict().items()}
    start, now = parameters_by_name(begin()), parameters_by_name(state)
    assert set(start) == set(now) and state.learned.deltas.layers == FAMILY.learned_layers
    assert all(not torch.equal(start[name], x) for name, x in now.items())
    assert all(torch.equal(weights[name], x) for name, x in MODEL.flow.mmdit.state_dict().items())
    assert family_widths("tiny_flow") == MODEL.kv_shapes()


def test_the_begin_marks_keys_and_values_pass_no_gradient() -> None:
    deltas = begin().learned.deltas
    found: list[Tensor] = []

    def last(call: AttentionCall) -> Tensor:
        if call.layer == LayerId("double", 0):
            found.append(torch.autograd.grad(call.k.sum() + call.v.square().sum(), deltas.of_layer(call.layer).v.up)[0])
        return call.plain()

    text = encode_captions(MODEL, ["a fish"] * 2)
    MODEL.denoise(X, T, text, deltas.rule(last))
    whole: list[Tensor] = []

    def seen(call: AttentionCall) -> Tensor:
        if call.layer == LayerId("double", 0):
            own = changed(call, deltas.of_layer(call.layer))
            loss = own.v[:, 1:].square().sum() + 0 * own.k.sum()  # slot 0 is the begin mark
            whole.append(torch.autograd.grad(loss, deltas.of_layer(call.layer).v.up)[0])
        return call.plain()

    MODEL.denoise(X, T, text, seen)
    torch.testing.assert_close(found[0], whole[0])


def test_the_untrained_models_answer_is_the_prior(state: TrainState) -> None:
    first = run(begin(), 1)[0]
    assert first.prior_loss == pytest.approx(0, abs=1e-6)
    assert first.loss > 0.1


@pytest.mark.parametrize("changes", [{}, {"rank": 4, "accumulation": 2}])
def test_a_training_goes_on_from_disk_exactly(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **changes)
    whole, part = begin(settings), begin(settings)
    run(whole), run(part, 1)
    save_state(part, tmp_path / "state.safetensors")
    again = load_state(tmp_path / "state.safetensors", MODEL, DATA, settings, noun="fish", rare_tokens=RARE)
    run(again)
    assert again.losses == whole.losses
    assert all(torch.equal(x, parameters_by_name(again)[name]) for name, x in parameters_by_name(whole).items())


def test_a_unets_training_does_not_go_on_here(tmp_path: Path) -> None:
    unet = TinyModel.random()
    save_state(begin_training(unet, DATA, SETTINGS, noun="fish", rare_tokens=RARE), tmp_path / "state.safetensors")
    with pytest.raises(BadSettings, match="family is tiny_flow; tiny was expected"):
        load_state(tmp_path / "state.safetensors", MODEL, DATA, SETTINGS, noun="fish", rare_tokens=RARE)


def test_the_applied_concept_draws_what_was_trained(state: TrainState, concept: Concept) -> None:
    applied = apply_concept(MODEL, concept)
    with torch.no_grad():
        text = encode_captions(applied, ["a sks fish in snow"] * 2)
        patched, plain = applied.denoise(X, T, text), MODEL.denoise(X, T, text)
        ruled = MODEL.denoise(X, T, text, state.learned.deltas.rule())
    torch.testing.assert_close(patched, ruled, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(patched, plain, atol=1e-2)


def test_concepts_chain_by_the_sum_of_their_changes(concept: Concept) -> None:
    other = replace(concept, trigger="zzz")
    words = "a sks fish and a zzz fish"
    twice = apply_concept(apply_concept(MODEL, concept), other)
    strong = apply_concept(apply_concept(MODEL, concept, 2.0), other, 0.0)
    torch.testing.assert_close(draw(twice, words=words), draw(strong, words=words), atol=1e-5, rtol=1e-4)
    none = apply_concept(MODEL, concept, 0.0)
    assert torch.equal(draw(none), draw(MODEL)) and not torch.equal(draw(none, words="a sks fish"), draw(MODEL))


def test_the_file_knows_the_family(tmp_path: Path, concept: Concept, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "fish.safetensors"
    save_concept(concept, path)
    base = hash_base(MODEL.kv_weights(), FAMILY.learned_layers)
    again = load_concept(path, family="tiny_flow", widths=MODEL.kv_shapes(), base_hash=base)
    assert again.family == "tiny_flow" and again.about.prediction == "flow" and not caplog.records
    assert tuple(again.deltas) == FAMILY.learned_layers == MODEL.layers[:2]
    assert torch.equal(draw(apply_concept(MODEL, again)), draw(apply_concept(MODEL, concept)))
    with pytest.raises(BadConcept, match="is for tiny_flow; tiny was expected"):
        load_concept(path, family="tiny")
    other = TinyFlowModel.random(3)
    apply_concept(other, again, base_hash=hash_base(other.kv_weights(), FAMILY.learned_layers))
    assert "another base model" in caplog.text


def test_a_low_rank_concept_is_small(tmp_path: Path) -> None:
    state = begin(replace(SETTINGS, rank=4))
    run(state, 1)
    save_concept(make_concept(state, trigger="sks", rank=4), tmp_path / "small.safetensors")
    kept = load_concept(tmp_path / "small.safetensors", family="tiny_flow", widths=MODEL.kv_shapes())
    assert kept.about.rank == 4 and (tmp_path / "small.safetensors").stat().st_size < 60_000


def test_a_plain_lora_changes_the_texts_fused_weight_alone(tmp_path: Path, concept: Concept) -> None:
    export_lora(concept, tmp_path / "lora.safetensors", rank=192, precision="fp32")
    lora = safetensors.torch.load_file(tmp_path / "lora.safetensors")
    names = sorted({key.partition(".")[0] for key in lora})
    assert names == ["lora_unet_double_blocks_0_txt_attn_qkv", "lora_unet_double_blocks_1_txt_attn_qkv"]
    mmdit = copy.deepcopy(MODEL.flow.mmdit)
    with torch.no_grad():
        for i, name in enumerate(names):
            up, down, alpha = (lora[f"{name}.{part}"] for part in ("lora_up.weight", "lora_down.weight", "alpha"))
            block: Any = mmdit.double_blocks[i]
            block.txt_attn.qkv.weight += up @ down * (alpha / len(down))
    patched = replace(MODEL, flow=replace(MODEL.flow, mmdit=mmdit))
    torch.testing.assert_close(draw(patched), draw(apply_concept(MODEL, concept)), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "asks",
    [
        lambda concept, path: MODEL.with_deltas({"double_blocks.9.txt_attn.to_k.weight": torch.zeros(192, 192)}),
        lambda concept, path: encode_captions(MODEL, ["very " * SLOTS + "small fish"]),
    ],
    ids=["an unknown weight", "a long prompt"],
)
def test_what_cannot_be_is_refused(asks: Callable[[Concept, Path], Any], concept: Concept, tmp_path: Path) -> None:
    with pytest.raises((BadConcept, BadModel, PromptTooLong)):
        asks(concept, tmp_path / "lora.safetensors")
