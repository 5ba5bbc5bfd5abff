"""One auxiliary picture for many: a batch that shares it, and later runs that replay it bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dci_core.attention.layers import LayerMask
from dci_core.dci.branches import DciSettings, auxiliary_seed
from dci_core.dci.maps import AuxiliaryView
from dci_core.dci.replay import AuxiliaryCall, Replay
from dci_core.dci.row_plan import plan_rows, tags_of
from dci_core.dci.run import Sampled, SampleSettings, sample_latents
from dci_core.errors import BadSettings
from dci_core.families.table import find_family
from dci_core.fingerprint import fingerprint

from .cross_model import CrossModel
from .test_guidance import make_prompts

STEPS = SampleSettings(num_steps=10, cfg=6.0, spacing="ddim")
SEPARATE = DciSettings(window=0.3, strength=1.4, guidance="separate")  # 3 of 10 steps
ONE = replace(SEPARATE, one_auxiliary=True)


def run(model: CrossModel, dci: DciSettings, settings: SampleSettings = STEPS, **more: object) -> Sampled:
    given = {"seeds": [3, 4, 5, 6], "settings": settings, "dci": dci, **more}
    return sample_latents(model, make_prompts(model), **given)


@pytest.mark.parametrize(("cfg", "rows"), [(6.0, [10] * 3 + [8] * 7), (1.0, [5] * 3 + [4] * 7)])
def test_a_batch_of_four_with_one_auxiliary_runs_two_rows_more(cfg: float, rows: list[int]) -> None:
    model = CrossModel.random()
    run(model, ONE, replace(STEPS, cfg=cfg))
    assert model.rows == rows


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_one_auxiliary_gives_each_picture_what_its_own_of_the_same_noise_would(eta: float) -> None:
    model, settings = CrossModel.random(), replace(STEPS, eta=eta)
    shared = run(model, ONE, settings)
    each = run(model, replace(SEPARATE, auxiliary_seed=auxiliary_seed(3)), settings)
    torch.testing.assert_close(shared.concept, each.concept, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(shared.concept, run(model, SEPARATE, settings).concept, atol=1e-3)
    assert shared.auxiliary is not None and torch.equal(shared.auxiliary[0], shared.auxiliary[3])


def test_the_first_picture_of_a_batch_is_the_one_it_would_be_alone() -> None:
    model = CrossModel.random()
    alone = run(model, SEPARATE, seeds=[3]).concept
    torch.testing.assert_close(run(model, ONE).concept[:1], alone, rtol=1e-4, atol=1e-4)


def test_one_auxiliary_starts_from_the_first_pictures_latents() -> None:
    model, start = CrossModel.random(), torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = run(model, ONE, seeds=[3, 4], start=start)
    assert drawn.auxiliary is not None and torch.equal(drawn.auxiliary[0], drawn.auxiliary[1])


@pytest.mark.parametrize("guidance", ["shared", "aligned"])
def test_guidance_in_which_auxiliaries_differ_refuses_to_have_one(guidance: str) -> None:
    with pytest.raises(BadSettings, match="separate"):
        replace(ONE, guidance=guidance).dbim(find_family("tiny"))


def test_borrowed_rows_of_equal_latents_are_equal_bit_for_bit() -> None:
    plan = plan_rows(tags_of([False, True], 3), acts=True, guidance="separate", num_chunks=2, one_auxiliary=True)
    assert plan.runs == (0, 1, 2, 4, 6, 7, 8, 10)
    x, x0 = torch.randn(12, 2), torch.randn(8, 2)
    x[[3, 5, 9, 11]] = x[[1, 1, 7, 7]]
    full = plan.fill(x, x0)
    assert torch.equal(full[[3, 5, 9, 11]], full[[1, 1, 7, 7]])
    assert plan.branches.auxiliary == (5, 5, 5)


SWEEP = [{"strength": 0.5}, {"strength": 2.0}, {"region": torch.ones(4, 4) * 0.5}]


@pytest.mark.parametrize("guidance", ["separate", "aligned"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_replayed_run_is_the_same_bit_for_bit_and_runs_no_auxiliary_row(guidance: str, eta: float) -> None:
    model, dci, replay = CrossModel.random(), replace(SEPARATE, guidance=guidance), Replay()
    settings = replace(STEPS, eta=eta)
    first = run(model, dci, settings, replay=replay, seeds=[3])
    assert model.rows == [2, 2] * 3 + [2] * 7 and replay.hits == 0
    model.rows.clear()
    again = run(model, dci, settings, replay=replay, seeds=[3])
    assert model.rows == [2] * 10 and replay.hits == 3
    assert torch.equal(first.concept, again.concept)
    assert first.auxiliary is not None and again.auxiliary is not None
    assert torch.equal(first.auxiliary, again.auxiliary)
    torch.testing.assert_close(first.concept, run(model, dci, settings, seeds=[3]).concept, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", SWEEP)
def test_a_sweep_replays_and_gives_what_a_fresh_replay_gives(change: dict[str, object]) -> None:
    model, replay = CrossModel.random(), Replay()
    run(model, SEPARATE, replay=replay, seeds=[3])
    swept = run(model, replace(SEPARATE, **change), replay=replay, seeds=[3])
    assert replay.hits == 3
    fresh = run(model, replace(SEPARATE, **change), replay=Replay(), seeds=[3])
    assert torch.equal(swept.concept, fresh.concept)
    assert not torch.allclose(swept.concept, run(model, SEPARATE, replay=replay, seeds=[3]).concept, atol=1e-3)


def test_many_seeds_replay_one_auxiliary_of_a_seed_of_its_own() -> None:
    model, replay, dci = CrossModel.random(), Replay(), replace(SEPARATE, auxiliary_seed=77)
    drawn = [run(model, dci, replay=replay, seeds=[seed]).concept for seed in (1, 2, 3)]
    assert replay.hits == 6 and not torch.allclose(drawn[0], drawn[1], atol=1e-3)


OTHERS = [
    {"settings": replace(STEPS, cfg=5.0)},
    {"settings": replace(STEPS, num_steps=20)},
    {"seeds": [4]},
    {"dci": replace(SEPARATE, layers=LayerMask("mid"))},
]


@pytest.mark.parametrize("change", OTHERS)
def test_what_the_auxiliary_depends_on_is_never_replayed_for_another(change: dict[str, object]) -> None:
    model, replay = CrossModel.random(), Replay()
    given = {"seeds": [3], "settings": STEPS, "dci": SEPARATE, "replay": replay}
    sample_latents(model, make_prompts(model), **given)
    other = sample_latents(model, make_prompts(model), **{**given, **change}).concept
    fresh = sample_latents(model, make_prompts(model), **{**given, **change, "replay": Replay()}).concept
    assert torch.equal(other, fresh) and replay.hits < 3  # the first call may be the same


def test_another_model_is_never_replayed_for() -> None:
    replay, models = Replay(), [CrossModel.random() for _ in range(2)]
    for model in models:
        run(model, SEPARATE, replay=replay, seeds=[3])
    assert replay.hits == 0


def test_shared_guidance_refuses_a_replay() -> None:
    with pytest.raises(BadSettings, match="separate"):
        run(CrossModel.random(), replace(SEPARATE, guidance="shared"), replay=Replay())


def make_call(size: int) -> AuxiliaryCall:
    return AuxiliaryCall(torch.zeros(size), {("middle", 0, 0): AuxiliaryView(torch.zeros(size), torch.zeros(size))})


def test_memory_is_bounded_and_the_call_not_used_for_longest_goes_first() -> None:
    replay, made = Replay(most_bytes=2 * 3 * 4 * 10), []

    def ask(key: bytes, size: int = 10) -> Tensor:
        return replay.call(key, torch.device("cpu"), lambda: made.append(key) or make_call(size)).x0

    for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
        ask(key)
    assert made == [b"a", b"b", b"c", b"b"] and replay.num_bytes == 240 and len(replay) == 2
    ask(b"d", 100)  # more than there is room for
    assert replay.num_bytes == 240
    replay.clear()
    assert replay.num_bytes == 0 and len(replay) == 0


def test_a_digest_knows_numbers_shapes_types_and_places() -> None:
    x = torch.arange(6.0)
    values = [x, x.view(2, 3), x.double(), x.to(torch.bfloat16), [x, 1], [1, x], {"a": x}, {"b": x}, None, 1, "1", 1.0]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert fingerprint({"a": x, "b": 1}) == fingerprint({"b": 1, "a": x.clone()})


class Thing:
    """Something with an address that may be used again."""


def test_an_owners_number_is_never_given_to_another_object() -> None:
    replay, thing, other = Replay(), Thing(), Thing()
    number = replay.owner(thing)
    assert replay.owner(thing) == number != replay.owner(other) != replay.owner(thing, other)
    del thing
    assert replay.owner(Thing()) != number
