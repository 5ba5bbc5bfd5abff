"""Automatic regions: a noun found among a model's text rows, and a subject read where the model draws it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from check_joint import FAMILIES, run
from lab import PACK, distance
from mmdit_lab import LabAdapter, all_blocks, prompted, thin_model

PROMPT = "a red fish beside a wooden houseboat in deep snow"


def clip_of(tokenizer: Any, **encoders: Any) -> Any:
    """A CLIP of which only the words matter."""
    return SimpleNamespace(
        tokenizer=tokenizer,
        cond_stage_model=SimpleNamespace(**encoders),
        tokenize=lambda text, **kwargs: tokenizer.tokenize_with_weights(text, **kwargs),
    )


def clips() -> dict[str, tuple[Any, str]]:
    """The host's own tokenizers of each family without their encoders, and the key of the rows that the model reads."""
    from comfy.text_encoders.flux import FluxTokenizer
    from comfy.text_encoders.qwen_image import QwenImageTokenizer
    from comfy.text_encoders.sd3_clip import SD3Tokenizer

    return {
        "flux": (clip_of(FluxTokenizer(), t5xxl=1, clip_l=1), "t5xxl"),
        "sd3": (clip_of(SD3Tokenizer(), t5xxl=1, clip_l=1, clip_g=1), "t5xxl"),
        "sd3 without t5": (clip_of(SD3Tokenizer(), t5xxl=None, clip_l=1, clip_g=1), "l"),
        "qwen": (clip_of(QwenImageTokenizer(), qwen25_7b=1), "qwen25_7b"),
    }


def words_at(clip: Any, key: str, places: tuple[int, ...], prompt: str) -> str:
    """The text of the tokens at some places, counted from the end."""
    rows = clip.tokenize(prompt)[key]
    ids = [token for chunk in rows for token, *_ in chunk]
    name = "clip_l" if key == "l" else key
    return str(getattr(clip.tokenizer, name).tokenizer.decode([ids[place] for place in places])).strip()


def test_a_noun_is_found_in_every_familys_own_tokens() -> None:
    nouns = PACK["nodes.host.dynaip.nouns"]
    for name, (clip, key) in clips().items():
        for noun in ("fish", "houseboat", "deep snow"):
            found = nouns.find_noun(clip, PROMPT, noun)
            assert all(place < 0 for place in found.places)
            assert words_at(clip, key, found.places, PROMPT) == noun, (name, noun, found)
        first = nouns.find_noun(clip, "fish in the snow", "fish")
        assert words_at(clip, key, first.places, "fish in the snow") == "fish", name


def refused(words: str, do: Callable[[], Any]) -> None:
    """Asserts that this is refused with a sentence that holds these words."""
    try:
        do()
    except PACK["dci_core.errors"].PackError as error:
        assert words in str(error), error
    else:
        raise AssertionError("no error")


def test_a_missing_noun_prompt_or_clip_gets_one_sentence() -> None:
    find = PACK["nodes.host.dynaip.nouns"].find_noun
    clip, _ = clips()["flux"]
    refused("noun did not come", lambda: find(clip, PROMPT, " "))
    refused("clip and prompt did not come", lambda: find(None, "", "fish"))
    refused("'cat' is not in the prompt", lambda: find(clip, PROMPT, "cat"))
    refused("SimpleNamespace", lambda: find(clip_of(SimpleNamespace()), PROMPT, "fish"))
    refused("too few", lambda: find(clip, PROMPT, "fish").among(3))


SHARP = 4.0  # random models look everywhere alike; these ones choose


def noun(*places: int) -> Any:
    return PACK["nodes.host.dynaip.nouns"].NounPlaces("fish", places)


def test_a_subject_with_a_noun_is_read_where_the_model_looks_for_it_once_it_was_watched() -> None:
    for name in FAMILIES:
        adapter = LabAdapter(name)
        plain = thin_model(name, SHARP)
        found, record = prompted(name, plain, adapter, noun(-4))
        drawn = run(name, found, steps=8)
        sigmas = sorted({sigma for sigma, _, _ in record.strengths}, reverse=True)
        assert len(sigmas) == 3, (name, sigmas)
        planes = [record.strengths[sigmas[0], key, 0] for key in all_blocks(name)]
        shares = {float((plane > 0).float().mean()) for plane in planes}
        assert len(shares) == 1 and 0 < shares.pop() < 1, name
        assert distance(drawn, run(name, prompted(name, plain, adapter)[0], steps=8)) > 1e-3
        assert distance(drawn, run(name, plain, steps=8)) > 1e-3
        assert torch.equal(drawn, run(name, found, steps=8))


def test_watching_alone_changes_no_bit() -> None:
    for name in FAMILIES:
        found, record = prompted(name, noun=noun(-4))
        assert torch.equal(run(name, found, steps=5), run(name, thin_model(name), steps=5))
        assert not record.strengths and not record.warnings
        assert distance(run(name, found, steps=8), run(name, thin_model(name), steps=8)) > 1e-4


def test_a_batch_finds_each_pictures_own_region() -> None:
    for name in ("flux", "sd3"):
        model, record = prompted(name, thin_model(name, SHARP), noun=noun(-1))
        run(name, model, steps=8, shape=(2, 4, 16, 16), cfg=3.0)
        first = max(sigma for sigma, _, _ in record.strengths)
        plane = record.strengths[first, all_blocks(name)[0], 0]
        assert plane.shape == (2, 8, 8) and not torch.equal(plane[0] > 0, plane[1] > 0)
