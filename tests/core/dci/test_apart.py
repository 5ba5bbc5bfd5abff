"""Several concepts in whole attentions and whole runs: every place by its own concept's model; off changes no bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dci_core.attention.call import AttentionCall
from dci_core.attention.layers import LayerId
from dci_core.attention.regions import read_box, region_on
from dci_core.concept.apply import apply_concept
from dci_core.concept.deltas import Delta, LayerDelta
from dci_core.concept.learned import Concept
from dci_core.concept.together import Part, Together
from dci_core.dci.branches import DciSettings
from dci_core.dci.guidance import kept_apart
from dci_core.dci.maps import BranchRows
from dci_core.dci.run import SampleSettings, sample_latents
from dci_core.text.places import Named, pair_of_several
from dci_core.text.prompts import Prompts
from dci_core.tiny.flow.concept_model import TinyFlowModel
from dci_core.tiny.model import TinyModel

LAYER, GRID, WIDTH, SLOTS = LayerId("middle", 0), (2, 4), 8, 9
ROWS, CPU = BranchRows((1,), (2,)), torch.device("cpu")
SIDES = read_box("left"), read_box("right")


def randoms(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights(seed: int) -> LayerDelta:
    return LayerDelta(Delta(randoms(seed, WIDTH, WIDTH)), Delta(randoms(seed + 1, WIDTH, WIDTH)))


BASE, CHANGES = weights(1), (weights(3), weights(5))
PARTS = tuple(
    Part(slots, stand_in, {LAYER: change}, 1.0, side)
    for slots, stand_in, change, side in zip(((2, 3), (6,)), ((2,), (5,)), CHANGES, SIDES, strict=True)
)


def call_of(*shares: tuple[float, float]) -> AttentionCall:
    """The layer with this much of both concepts on each slot; one pair for all."""
    each = list(shares) if len(shares) > 1 else list(shares) * SLOTS
    context = randoms(7, 3, SLOTS, WIDTH)
    k, v = (
        torch.stack([context[:, i] @ (base.up + a * one.up + b * two.up).T for i, (a, b) in enumerate(each)], dim=1)
        for base, one, two in zip(BASE, *CHANGES, strict=True)
    )
    return AttentionCall(randoms(8, 3, GRID[0] * GRID[1], WIDTH), k, v, context, 2, GRID, LAYER)


@pytest.mark.parametrize("which", [0, 1])
def test_in_its_region_each_concept_sees_its_own_model(which: int) -> None:
    out = kept_apart(Together(PARTS), ROWS, CPU)(call_of((1.0, 1.0)))
    own = [(1.0, 0.0) if which == 0 else (0.0, 1.0)] * SLOTS
    own[2] = own[3] = (1.0, 0.0)
    own[6] = (0.0, 1.0)
    bias = torch.zeros(3, GRID[0] * GRID[1], SLOTS)
    bias[1, :, list(PARTS[1 - which].slots)] = float("-inf")
    alone = replace(call_of(*own), bias=bias).plain()
    side = SIDES[which]
    assert side is not None
    inside = region_on(side, GRID)[0] > 0
    torch.testing.assert_close(out[1, inside], alone[1, inside], rtol=2e-3, atol=2e-3)
    assert not torch.allclose(out[1, ~inside], alone[1, ~inside], rtol=0.1, atol=0.1)


def test_other_prompts_see_the_mean_model_and_stand_ins_their_sides() -> None:
    out, mean = kept_apart(Together(PARTS), ROWS, CPU)(call_of((1.0, 1.0))), call_of((0.5, 0.5))
    torch.testing.assert_close(out[0], mean.plain()[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(out[2], mean.plain()[2], atol=1e-2)


def concept(model: TinyModel | TinyFlowModel, trigger: str, noun: str, seed: int) -> Concept:
    def change(inner: int, context: int, seed: int) -> Delta:
        return Delta(randoms(seed, inner, 2) * 0.3, randoms(seed + 1, 2, context) * 0.3)

    deltas = {
        layer: LayerDelta(change(*shape, seed + 4 * i), change(*shape, seed + 4 * i + 2))
        for i, (layer, shape) in enumerate(model.kv_shapes().items())
    }
    return Concept(model.family, trigger, noun, {"clip_l": randoms(seed + 99, 2, 128) * 0.1}, deltas)


MODELS = [pytest.param(TinyModel, id="cross"), pytest.param(TinyFlowModel, id="joint")]
HOW = SampleSettings(num_steps=3, cfg=3.0, sampler="euler")
DCI = DciSettings(window=0.6, guidance="aligned")


class Scene:
    """Two random concepts on a random model, and their prompts."""

    def __init__(self, kind: type[TinyModel] | type[TinyFlowModel]) -> None:
        bare = kind.random(2)
        self.concepts = concept(bare, "zorp", "fish", 20), concept(bare, "quex", "car", 60)
        self.model = apply_concept(apply_concept(bare, self.concepts[0]), self.concepts[1])  # type: ignore[type-var]
        named = [Named("zorp", "fish", "cat"), Named("quex", "car", "star")]
        self.pair = pair_of_several("a {concept:a} in snow next to a {concept:b}", named, self.model.encoders["clip_l"])
        self.prompts = Prompts.from_pair(self.model, self.pair)

    def together(self, regions: tuple[Tensor | None, Tensor | None] = (None, None), apart: bool = True) -> Together:
        sides = self.pair.tokens.concept.parts, self.pair.tokens.auxiliary.parts
        parts = zip(*sides, self.concepts, regions, strict=True)
        return Together(tuple(Part(a, b, c.deltas, 1.0, region) for a, b, c, region in parts), apart=apart)

    def drawn(self, together: Together | None, dci: DciSettings | None = DCI) -> Tensor:
        with torch.no_grad():
            return sample_latents(
                self.model, self.prompts, seeds=[1, 2], settings=HOW, dci=dci, together=together
            ).concept


@pytest.mark.parametrize("kind", MODELS)
def test_whole_runs_feel_what_keeps_concepts_apart(kind: type[TinyModel] | type[TinyFlowModel]) -> None:
    scene = Scene(kind)
    for dci in (None, DCI):
        stacked, apart, placed = (scene.drawn(each, dci) for each in (None, scene.together(), scene.together(SIDES)))
        assert (apart - stacked).norm() > 1e-3 * stacked.norm() and (placed - apart).norm() > 1e-3 * apart.norm()


@pytest.mark.parametrize("kind", MODELS)
def test_concepts_left_together_everywhere_are_plainly_stacked(kind: type[TinyModel] | type[TinyFlowModel]) -> None:
    scene = Scene(kind)
    none = replace(scene.together(apart=False), common=1.0, others=1.0)
    for dci in (None, DCI):
        assert torch.equal(scene.drawn(none, dci), scene.drawn(None, dci))


def test_pictures_do_not_depend_on_their_batch() -> None:
    scene = Scene(TinyModel)
    together = scene.together(SIDES)
    with torch.no_grad():
        alone = sample_latents(scene.model, scene.prompts, seeds=[2], settings=HOW, dci=DCI, together=together).concept
    torch.testing.assert_close(alone[0], scene.drawn(together)[1], rtol=1e-4, atol=1e-4)
