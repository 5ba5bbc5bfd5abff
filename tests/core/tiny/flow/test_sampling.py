"""Euler's method on a rectified flow: where it starts and ends, guidance, seeds, and the rows that never read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dci_core.attention.joint import JointCall, JointRule
from dci_core.errors import BadSettings
from dci_core.model import Text
from dci_core.noise.schedule import shifted
from dci_core.tiny.flow.model import FlowModel
from dci_core.tiny.flow.sampling import FlowSettings, FlowStep, flow_times, sample_flow, seeded_noise

MODEL = FlowModel.random(1)
SHORT = FlowSettings(num_steps=2, cfg=3.0)
WORDS = ["a fish in snow"]


class Straight(FlowModel):
    """A flow that leads straight to a constant latent: 1 for a prompt, 0 for the empty one."""

    def encode(self, prompts: Sequence[str]) -> Text:
        return Text(torch.tensor([[[float(bool(prompt))]] for prompt in prompts]))

    def velocity(
        self,
        x: Tensor,
        t: Tensor,
        text: Text,
        rule: JointRule | None = None,
        *,
        reads: Tensor | None = None,
        place: str = "attention",
    ) -> Tensor:
        return (x - text.hidden[..., None]) / t[:, None, None, None]


STRAIGHT = Straight(MODEL.text, MODEL.mmdit)


def test_a_shift_moves_the_middle_and_keeps_the_ends() -> None:
    t = torch.linspace(0, 1, 11)
    assert torch.equal(shifted(t, 1.0), t)
    assert shifted(t, 3.0)[0] == 0 and shifted(t, 3.0)[-1] == 1
    assert shifted(t, 3.0)[5] == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    times = flow_times(FlowSettings(num_steps=4, shift=3.0))
    assert times[0] == 1 and times[-1] == 0 and times == sorted(times, reverse=True) and len(times) == 5


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_straight_flow_ends_where_guidance_points(cfg: float) -> None:
    latents = sample_flow(STRAIGHT, WORDS, seeds=[0, 1], settings=FlowSettings(num_steps=5, cfg=cfg))
    assert torch.allclose(latents, torch.full_like(latents, cfg), atol=1e-4)


def test_each_step_tells_its_estimate_of_the_end() -> None:
    steps = list[FlowStep]()
    latents = sample_flow(STRAIGHT, WORDS, seeds=[0], settings=SHORT, on_step=steps.append)
    assert [step.index for step in steps] == [0, 1] and torch.equal(steps[-1].x, latents)
    for step in steps:
        assert torch.allclose(step.x0, torch.full_like(latents, SHORT.cfg), atol=1e-4)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_picture() -> None:
    first, again = (sample_flow(MODEL, WORDS, seeds=[4, 5], settings=SHORT) for _ in range(2))
    assert torch.equal(first, again)
    alone = sample_flow(MODEL, WORDS, seeds=[5], settings=SHORT)
    assert torch.allclose(first[1:], alone, atol=1e-4) and not torch.allclose(first[:1], alone, atol=1e-2)
    given = sample_flow(MODEL, WORDS, seeds=[0], settings=SHORT, start=seeded_noise([5]))
    assert torch.equal(given, alone)


def test_every_seed_may_have_its_own_prompt() -> None:
    both = sample_flow(MODEL, ["a fish", "a cat"], seeds=[4, 5], settings=SHORT)
    alone = sample_flow(MODEL, ["a cat"], seeds=[5], settings=SHORT)
    assert torch.allclose(both[1:], alone, atol=1e-4)


def test_a_rule_that_adds_nothing_leaves_the_pictures_and_one_that_adds_does_not() -> None:
    plain = sample_flow(MODEL, WORDS, seeds=[4], settings=SHORT)

    def adds(call: JointCall) -> Tensor:
        return torch.ones(len(call.q), call.q.shape[2], 192) * call.reads[:, None, None]

    assert torch.equal(sample_flow(MODEL, WORDS, seeds=[4], settings=SHORT, rule=lambda call: None), plain)
    assert not torch.allclose(sample_flow(MODEL, WORDS, seeds=[4], settings=SHORT, rule=adds), plain, atol=1e-3)


@pytest.mark.parametrize(("cfg", "expected"), [(3.0, [1, 1, 0, 0]), (1.0, [1, 1])])
def test_rows_of_the_negative_prompt_never_read(cfg: float, expected: list[int]) -> None:
    calls = list[JointCall]()
    settings = FlowSettings(num_steps=1, cfg=cfg)
    sample_flow(MODEL, WORDS, seeds=[4, 5], settings=settings, rule=lambda call: calls.append(call))
    assert len(calls) == 6 and all(call.reads.tolist() == expected for call in calls)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seeds": []}, "no seed"),
        ({"settings": FlowSettings(num_steps=0)}, "0 steps"),
        ({"settings": FlowSettings(shift=0.0)}, "shift is 0.0"),
        ({"seeds": [1, 2, 3], "prompts": ["a", "b"]}, "2 prompts for 3 seeds"),
    ],
)
def test_runs_that_cannot_work_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        sample_flow(MODEL, **{"prompts": WORDS, "seeds": [1], **given})
