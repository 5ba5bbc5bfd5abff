"""The judge's scale and the numbers that gates are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dci_core.studies.gates.judge import read, truth
from dci_core.studies.gates.trial import scale_for, to_tensor
from dci_core.tiny.judge import QUESTIONS, Judge, Verdict, make_scale, verdict
from dci_core.tiny.model import load_part
from dci_core.tiny.readings import auc, reading
from dci_core.tiny.world.concepts import CONCEPTS, HELD_OUT_LOOKS
from dci_core.tiny.world.scene import Scene, random_scene, random_thing, render
from dci_core.tiny.world.words import COMPANIONS, NOUNS


@pytest.fixture(scope="module")
def judge() -> Judge:
    judge = Judge()
    load_part("judge", judge)
    return judge


def renders(count: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return to_tensor([render(random_scene(rng, HELD_OUT_LOOKS), rng) for _ in range(count)])


def test_the_scale_puts_strangers_at_nought_and_the_object_itself_at_one(judge: Judge) -> None:
    rng, thing = np.random.default_rng(1), CONCEPTS[0]
    stranger = to_tensor([render(Scene(random_thing(rng, "fish"), "snow"), rng)])
    itself = to_tensor([render(Scene(thing.thing, "snow"), rng)])
    scale = make_scale(judge, to_tensor(thing.references("varied")), stranger, itself)
    assert scale.stranger < scale.itself
    both = verdict(judge, torch.cat((stranger, itself)), scale, {})
    assert both.likeness.tolist() == pytest.approx([0, 1], abs=1e-4)


def test_likeness_is_the_same_whoever_else_is_judged(judge: Judge) -> None:
    pictures, scale = renders(3, 2), scale_for(judge, CONCEPTS[1])
    together, alone = verdict(judge, pictures, scale, {}), verdict(judge, pictures[:1], scale, {})
    assert torch.allclose(together.likeness[:1], alone.likeness, atol=1e-5)


@pytest.mark.parametrize("number", [0, 5, 12])
def test_true_pictures_are_more_like_the_object_than_strangers(judge: Judge, number: int) -> None:
    rng, thing = np.random.default_rng(3), CONCEPTS[number]
    scale = scale_for(judge, thing)
    true = [render(Scene(thing.thing, place), rng) for place in ("snow", "night", "meadow", "city")]
    others = [render(Scene(random_thing(rng, thing.thing.noun), "snow"), rng) for _ in range(8)]
    like, unlike = (verdict(judge, to_tensor(p), scale, {}).likeness.mean() for p in (true, others))
    assert like > 0.7 and unlike < 0.4


def test_the_judge_names_what_is_in_a_picture(judge: Judge) -> None:
    rng = np.random.default_rng(4)
    scenes = [random_scene(rng, HELD_OUT_LOOKS) for _ in range(60)]
    answers, identity = read(judge, scenes, rng)
    for question, logits in answers.items():
        told = [QUESTIONS[question][int(i)] for i in logits.argmax(1)]
        assert np.mean([a == truth(s)[question] for a, s in zip(told, scenes, strict=True)]) >= 0.9, question
    assert torch.allclose(identity.norm(dim=1), torch.ones(60), atol=1e-5)


def test_answers_are_every_noun_and_companion_and_nothing() -> None:
    assert QUESTIONS["noun"] == NOUNS and QUESTIONS["companion"] == (*COMPANIONS, "nothing")


def test_prompt_following_is_the_share_of_right_answers_without_the_noun() -> None:
    asked = {"place": [1, 0], "companion": [1, 1], "noun": [0, 0]}
    found = Verdict(torch.zeros(2), {question: torch.tensor(hits).bool() for question, hits in asked.items()})
    assert found.prompt_following.tolist() == [1.0, 0.5]


def test_the_verdict_says_whether_the_asked_is_there(judge: Judge) -> None:
    rng, scale = np.random.default_rng(5), scale_for(judge, CONCEPTS[0])
    picture = to_tensor([render(Scene(CONCEPTS[0].thing, "snow", "ball"), rng)])
    right = verdict(judge, picture, scale, {"place": "snow", "companion": "ball"})
    wrong = verdict(judge, picture, scale, {"place": "night", "companion": "lamp"})
    assert (float(right.prompt_following), float(wrong.prompt_following)) == (1.0, 0.0)


def test_the_area_under_roc_is_the_share_of_pairs_in_order() -> None:
    source = torch.Generator().manual_seed(6)
    positive, negative = torch.randn(17, generator=source) + 0.5, torch.randn(31, generator=source)
    naive = float(np.mean([float(p > n) for p in positive for n in negative]))
    assert auc(positive, negative) == pytest.approx(naive, abs=1e-12)
    assert auc(positive + 9, negative) == 1.0 and auc(positive - 9, negative) == 0.0


def test_a_reading_passes_from_its_threshold_on() -> None:
    assert [reading("6", "", value, 0.5).passed for value in (0.5, 0.4)] == [True, False]
    assert reading("4", "", 0.1).passed is None
