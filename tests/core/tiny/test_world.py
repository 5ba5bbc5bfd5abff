"""The picture generator: what is drawn, what is said of it, and what is never shown."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
import torch

from dci_core.studies.gates.trial import asks_for, to_tensor
from dci_core.tiny.codec import Codec
from dci_core.tiny.model import load_part
from dci_core.tiny.world.captions import caption
from dci_core.tiny.world.concepts import CONCEPTS, HELD_OUT_LOOKS, OBJECTS, REFERENCE_COUNT, SEEN, HeldOut
from dci_core.tiny.world.scene import PICTURE_SIZE, Rendered, Scene, Thing, random_scene, random_thing, render
from dci_core.tiny.world.words import (
    COLOURS,
    COMPANIONS,
    HOME_SHARE,
    HOMES,
    NEVER,
    NEVER_BESIDE,
    NOUNS,
    PARTS,
    PATTERNS,
    PLACES,
    RARE_WORDS,
    STYLES,
    every_word,
    unknown_words,
)


def scenes(count: int = 4000) -> list[Scene]:
    rng = np.random.default_rng(11)
    return [random_scene(rng, HELD_OUT_LOOKS) for _ in range(count)]


SCENES = scenes()


def digest(pictures: list[Rendered]) -> str:
    seen = hashlib.sha256()
    for drawn in pictures:
        seen.update(drawn.picture.tobytes() + drawn.mask.tobytes())
    return seen.hexdigest()


def test_captions_use_only_words_of_the_vocabulary() -> None:
    rng = np.random.default_rng(1)
    said = {word for scene in SCENES for word in caption(scene, rng).split()}
    assert said <= set(every_word())
    assert said >= {*COLOURS, *PATTERNS[1:], *PARTS, *COMPANIONS, *NOUNS, *RARE_WORDS}


def test_words_that_no_caption_holds_are_found_and_nothing_else() -> None:
    prompts = ["a {concept} at a Disco, (snow:1.3) embedding:neon", "a myfish2 fish's T-shirt in the disco {a|b}"]
    assert unknown_words(prompts, ["MyFish2"]) == ["disco", "fish's", "t-shirt"]
    assert unknown_words(prompts[1:]) == ["myfish", "fish's", "t-shirt", "disco"]
    assert unknown_words([" ".join(every_word()), ""]) == []


def test_every_caption_names_its_noun() -> None:
    rng = np.random.default_rng(2)
    assert all(scene.thing.noun in caption(scene, rng).split() for scene in SCENES)


def test_no_training_scene_has_a_held_out_look() -> None:
    assert not {scene.thing.look for scene in SCENES} & HELD_OUT_LOOKS
    rng = np.random.default_rng(11)
    free = {random_scene(rng).thing.look for _ in range(60_000)}
    assert free & HELD_OUT_LOOKS  # without being told, it draws them


def test_no_noun_is_seen_where_it_never_is() -> None:
    assert not [s for s in SCENES if s.place in NEVER.get(s.thing.noun, ())]
    assert not [s for s in SCENES if s.companion and s.companion == NEVER_BESIDE.get(s.thing.noun)]


def test_every_allowed_place_of_every_noun_is_seen() -> None:
    seen = {(s.thing.noun, s.place) for s in scenes(20_000)}
    assert seen == {(noun, place) for noun in NOUNS for place in PLACES if place not in NEVER.get(noun, ())}


def test_a_noun_is_at_home_in_about_seven_pictures_of_ten() -> None:
    homely = [s for s in SCENES if HOMES[s.thing.noun]]
    share = np.mean([s.place == HOMES[s.thing.noun] for s in homely])
    by_chance = (1 - HOME_SHARE) / 8  # the other draws fall on eight places, home among them
    assert share == pytest.approx(HOME_SHARE + by_chance, abs=0.03)


def test_auxiliary_nouns_are_everywhere_alike() -> None:
    places = Counter(s.place for s in SCENES if HOMES[s.thing.noun] is None)
    assert len(places) == 10 and max(places.values()) < 1.6 * min(places.values())


def test_there_are_twenty_held_out_objects_of_distinct_looks() -> None:
    assert len(CONCEPTS) == len(HELD_OUT_LOOKS) == len({c.name for c in CONCEPTS}) == 20
    assert [c.number for c in CONCEPTS] == list(range(20))


def test_eight_objects_are_for_development_and_twelve_for_the_test() -> None:
    assert [c.is_development for c in CONCEPTS] == [True] * 8 + [False] * 12


def test_further_test_objects_have_looks_of_their_own() -> None:
    assert [one.number for one in SEEN] == list(range(20, 56))
    assert len({one.thing.look for one in OBJECTS}) == len(OBJECTS) == 56
    kinds = {(one.thing.noun, one.thing.pattern) for one in SEEN}
    assert len(kinds) == 36 and all(HOMES[noun] for noun, _ in kinds)
    assert {scene.thing.look for scene in SCENES} & {one.thing.look for one in SEEN}  # which the base was shown


def test_an_object_has_shades_of_its_own() -> None:
    named = set(COLOURS.values())
    assert all(shade not in named for c in OBJECTS for shade in c.thing.shades)
    assert len({c.thing.shades for c in OBJECTS}) == len(OBJECTS)


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: thing.name)
def test_reference_pictures_are_where_they_may_be(thing: HeldOut) -> None:
    home = HOMES[thing.thing.noun]
    assert thing.places("home") == [home] * REFERENCE_COUNT
    varied = thing.places("varied")
    assert len(set(varied)) == REFERENCE_COUNT and home in varied and not set(varied) & set(NEVER[thing.thing.noun])


@pytest.mark.parametrize("kind", ["home", "varied"])
def test_reference_pictures_are_the_same_at_every_call(kind: str) -> None:
    first = digest(CONCEPTS[0].references(kind))
    np.random.default_rng(5).random(100)
    assert digest(CONCEPTS[0].references(kind)) == first
    assert digest(CONCEPTS[18].references(kind)) != first  # another fish


def test_a_scene_is_drawn_by_its_generator_alone() -> None:
    first, again, other = (digest([render(SCENES[0], np.random.default_rng(seed))]) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("companion", [None, "ball"])
def test_pictures_and_masks_have_the_worlds_size(style: str, companion: str | None) -> None:
    drawn = render(Scene(CONCEPTS[0].thing, "snow", companion, style), np.random.default_rng(0))
    assert drawn.picture.size == drawn.mask.size == (PICTURE_SIZE, PICTURE_SIZE)
    assert (drawn.picture.mode, drawn.mask.mode) == ("RGB", "L")


@pytest.mark.parametrize("place", ["snow", "night", "bricks"])
def test_the_mask_lies_on_the_object(place: str) -> None:
    red = Thing("star", "plain", "red", "red", None, ((210, 30, 50), (210, 30, 50)))
    drawn = render(Scene(red, place), np.random.default_rng(6))
    is_object = (np.asarray(drawn.picture) == (210, 30, 50)).all(-1)
    mask = np.asarray(drawn.mask)
    assert is_object[mask == 255].all() and not is_object[mask == 0].any()
    assert 0.05 < (mask == 255).mean() < 0.4


@pytest.mark.parametrize("noun", NOUNS)
def test_only_the_object_differs_between_two_objects(noun: str) -> None:
    shades = ((200, 20, 90), (20, 200, 90))
    one, two = (
        render(Scene(Thing(noun, "striped", "red", "green", None, s), "snow"), np.random.default_rng(7))
        for s in (shades, shades[::-1])
    )
    differs = (np.asarray(one.picture) != np.asarray(two.picture)).any(-1)
    assert differs.any() and not differs[np.asarray(one.mask) == 0].any()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_seen(part: str) -> None:
    bare, worn = (Thing("cat", "plain", "red", "red", p, ((200, 20, 90), (200, 20, 90))) for p in (None, part))
    one, two = (render(Scene(thing, "snow"), np.random.default_rng(8)) for thing in (bare, worn))
    assert digest([one]) != digest([two])


def test_every_place_companion_and_style_looks_different() -> None:
    thing = CONCEPTS[0].thing
    drawn = [Scene(thing, place) for place in PLACES] + [Scene(thing, "snow", other) for other in COMPANIONS]
    drawn += [Scene(thing, "snow", None, style) for style in STYLES[1:]]
    assert len({digest([render(scene, np.random.default_rng(9))]) for scene in drawn}) == len(drawn)


def test_an_object_is_asked_for_in_eight_ways_half_of_them_never_seen() -> None:
    for thing in CONCEPTS:
        asks, noun = asks_for(thing), thing.thing.noun
        assert asks == asks_for(thing) and len({ask.template for ask in asks}) == 8
        never = [ask.asked["place"] in NEVER[noun] or ask.asked.get("companion") == NEVER_BESIDE[noun] for ask in asks]
        assert never == [ask.is_low_prior for ask in asks] and sum(never) == 4


def test_the_codec_gives_back_what_it_took() -> None:
    """PSNR, mean over 24 renders: 27.7 dB measured, at least 26 asked; a codec that says nothing stays under 20."""
    codec, rng = Codec(), np.random.default_rng(12)
    load_part("codec", codec)
    pictures = to_tensor([render(Scene(random_thing(rng), s.place, s.companion, s.style), rng) for s in SCENES[:24]])
    latents = codec.encode(pictures)
    assert latents.shape == (24, 8, 16, 16)
    assert 0.7 < float(latents.std()) < 1.3 and abs(float(latents.mean())) < 0.2
    psnr = -10 * (codec.decode(latents) - pictures).square().mean(dim=(1, 2, 3)).log10()
    assert float(psnr.mean()) >= 26
    other = codec.decode(torch.zeros_like(latents))
    assert float(-10 * (other - pictures).square().mean().log10()) < 20
