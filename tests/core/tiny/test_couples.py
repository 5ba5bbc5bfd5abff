"""Pictures of two objects: where they stand, what is said of them, what is never shown."""

from __future__ import annotations

import numpy as np
from PIL import ImageChops

from dci_core.tiny.tokenizer import frame, load_tokenizer, marks
from dci_core.tiny.training.mmdit import LONGEST
from dci_core.tiny.world.concepts import HELD_OUT_LOOKS
from dci_core.tiny.world.couples import couple_caption, paint_couple, random_couple
from dci_core.tiny.world.dataset import COUPLES, SINGLES
from dci_core.tiny.world.words import NEVER, PLACES


def test_a_couple_has_no_held_out_look_and_stands_where_both_are_seen() -> None:
    rng = np.random.default_rng(3)
    for _ in range(500):
        things, place = random_couple(rng)
        assert not {thing.look for thing in things} & HELD_OUT_LOOKS
        assert all(place not in NEVER.get(thing.noun, ()) and thing.part is None for thing in things)


def test_the_first_of_a_couple_is_on_the_left() -> None:
    (one, other), place = random_couple(np.random.default_rng(5))
    both, twins = (paint_couple(things, place, np.random.default_rng(6)) for things in ((one, other), (one, one)))
    changed = ImageChops.difference(both.picture, twins.picture).convert("L")
    left, top, right, bottom = changed.point(lambda x: 255 * (x > 8)).getbbox()
    assert left >= both.picture.width // 2 and right <= both.picture.width and bottom > top


def test_a_caption_of_two_names_both_in_their_order_and_fits_the_slots() -> None:
    rng, tokenizer = np.random.default_rng(7), load_tokenizer()
    longest = 0
    for _ in range(300):
        things, place = random_couple(rng)
        words = couple_caption(things, place, rng)
        first, second = words.split(f" {PLACES[place]} next to ")
        assert first.endswith(things[0].noun) and second.endswith(things[1].noun)
        begin, end = marks()
        longest = max(longest, int((frame(tokenizer.encode(words).ids, begin, end) != end).sum()))
    assert 15 < longest < LONGEST


def test_kinds_of_pictures_have_chances_and_files_of_their_own() -> None:
    assert SINGLES.seed != COUPLES.seed and SINGLES.prefix != COUPLES.prefix
    rendered, words = COUPLES.paint(np.random.default_rng(1))
    assert rendered.picture.size == (128, 128) and " next to a" in words
