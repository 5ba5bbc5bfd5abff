"""Pairs of one subject: from a folder, and painted on the fly by the small world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dci_core.dynaip.training.folder import FolderPairs, read_folder
from dci_core.dynaip.training.pairs import batches, cut, make, to_pixels
from dci_core.errors import BadPicture
from dci_core.tiny.pairs import TinyPairs, paint_individual
from dci_core.tiny.world.concepts import HELD_OUT_LOOKS

SIZE = 32


def write_subject(folder: Path, name: str, count: int, grey: int = 10) -> None:
    """Pictures of one grey each, grey, grey + 1, ..., with captions."""
    (folder / name).mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (40, SIZE), (grey + i,) * 3).save(folder / name / f"{i}.png")
        (folder / name / f"{i}.txt").write_text(f"{name} number {i}\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_subject(tmp_path, "cat", 3, 10)
    write_subject(tmp_path, "dog", 2, 100)
    return tmp_path


def test_every_picture_is_the_target_once_an_epoch(folder: Path) -> None:
    source = read_folder(folder, SIZE)
    epochs = [[source.pair(place, 1, 0.0).caption for place in range(5 * e, 5 * e + 5)] for e in range(4)]
    assert all(len(set(epoch)) == 5 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_reference_is_another_picture_of_the_same_subject(folder: Path) -> None:
    for pair in make(read_folder(folder, SIZE), range(40), 1, 0.0):
        target, reference = int(pair.target[0, 0, 0]), int(pair.reference[0, 0, 0])
        assert target != reference and (target < 50) == (reference < 50) == pair.caption.startswith("cat")


def test_a_pair_depends_on_its_place_and_the_seed_alone(folder: Path) -> None:
    for source in (read_folder(folder, SIZE), TinyPairs()):
        first = [source.pair(place, 1, 0.5) for place in range(12)]
        again = [source.pair(place, 1, 0.5) for place in reversed(range(12))][::-1]
        other = [source.pair(place, 2, 0.5) for place in range(12)]
        for one, two in zip(first, again, strict=True):
            assert one.caption == two.caption and np.array_equal(one.target, two.target)
            assert np.array_equal(one.reference, two.reference)
        assert any(not np.array_equal(one.target, two.target) for one, two in zip(first, other, strict=True))


def test_a_mask_cuts_the_reference_out_at_the_asked_rate_and_never_the_target(folder: Path) -> None:
    mask = Image.new("L", (40, SIZE))
    mask.paste(255, (0, 0, 20, SIZE))
    for path in folder.glob("*/*.png"):
        mask.save(path.with_name(f"{path.stem}.mask.png"))
    source = read_folder(folder, SIZE)
    assert len(source.members) == 5
    for share, least, most in ((0.0, 0, 0), (0.5, 60, 140), (1.0, 200, 200)):
        pairs = make(source, range(200), 1, share)
        assert least <= sum(pair.reference[0, -1, 0] == 255 for pair in pairs) <= most
        assert all(pair.reference[0, 0, 0] < 255 and pair.target.max() < 255 for pair in pairs)


def test_cutting_keeps_the_subject_and_whitens_the_rest() -> None:
    picture, mask = np.full((2, 2, 3), 100, np.uint8), np.array([[255, 0], [51, 255]], np.uint8)
    assert cut(picture, mask)[..., 0].tolist() == [[100, 255], [224, 100]]


def test_the_fingerprint_follows_captions_and_pictures(folder: Path) -> None:
    first = read_folder(folder, SIZE).fingerprint()
    assert read_folder(folder, SIZE).fingerprint() == first != read_folder(folder, 2 * SIZE).fingerprint()
    (folder / "cat" / "0.txt").write_text("another caption")
    assert read_folder(folder, SIZE).fingerprint() != first


def lone(folder: Path) -> None:
    write_subject(folder, "bird", 1)


def nameless(folder: Path) -> None:
    write_subject(folder, "bird", 2)
    (folder / "bird" / "1.txt").unlink()


def blank(folder: Path) -> None:
    write_subject(folder, "bird", 2)
    (folder / "bird" / "1.txt").write_text(" \n")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no subjects": (lambda folder: None, "holds no folder"),
    "an empty subject": (lambda folder: (folder / "bird").mkdir(), "holds no picture"),
    "no pair": (lone, '"bird" has 1 picture'),
    "no caption": (nameless, '"bird/1.png" has no caption'),
    "an empty caption": (blank, '"bird/1.png" has no caption'),
}


@pytest.mark.parametrize("name", BAD)
def test_a_folder_without_pairs_gets_one_sentence(name: str, tmp_path: Path) -> None:
    make_it, expected = BAD[name]
    make_it(tmp_path)
    with pytest.raises(BadPicture, match=expected):
        read_folder(tmp_path, SIZE)


def test_one_picture_of_a_subject_is_enough_where_that_is_said(tmp_path: Path) -> None:
    lone(tmp_path)
    pair = read_folder(tmp_path, 16, fewest=1).pair(0, 1, 0.0)
    assert np.array_equal(pair.target, pair.reference)


def test_a_missing_folder_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadPicture, match="cannot be read"):
        read_folder(tmp_path / "nowhere", SIZE)


def test_the_small_world_shows_one_individual_in_two_places_and_never_a_held_out_look() -> None:
    for number in range(40):
        (first, _, words), (second, _, _) = paint_individual(number, 1)
        assert not np.array_equal(np.asarray(first.picture), np.asarray(second.picture)) and words
    source = TinyPairs()
    one, other = source.pair(6, 1, 0.0), source.pair(7, 1, 0.0)
    assert np.array_equal(one.target, other.reference) and np.array_equal(one.reference, other.target)


def test_no_pair_of_the_small_world_has_a_held_out_look(monkeypatch: pytest.MonkeyPatch) -> None:
    from dci_core.tiny import pairs

    seen = []
    monkeypatch.setattr(pairs, "view", lambda scene, rng: seen.append(scene) or (None, None, ""))
    pairs.paint_individual.cache_clear()
    for number in range(800):  # about 8 would have one by chance
        pairs.paint_individual(number, 9)
    pairs.paint_individual.cache_clear()
    assert len(seen) == 1600 and all(scene.thing.look not in HELD_OUT_LOOKS for scene in seen)
    assert all(a.thing == b.thing and a.place != b.place for a, b in zip(seen[::2], seen[1::2], strict=True))


def test_pairs_made_ahead_by_another_process_are_the_same() -> None:
    source, places = TinyPairs(), [range(0, 2), range(2, 4), range(4, 6), range(6, 8)]
    here, ahead = (list(batches(source, places, 1, 0.5, workers)) for workers in (0, 1))
    assert [[pair.caption for pair in part] for part in here] == [[pair.caption for pair in part] for part in ahead]
    for one, two in zip(sum(here, []), sum(ahead, []), strict=True):
        assert np.array_equal(one.target, two.target) and np.array_equal(one.reference, two.reference)


def test_pixels_are_channels_first_in_0_to_1() -> None:
    pixels = to_pixels([np.full((2, 3, 3), 51, np.uint8)])
    assert pixels.shape == (1, 3, 2, 3) and float(pixels[0, 0, 0, 0]) == pytest.approx(0.2)


def test_a_folder_tells_how_much_it_holds(folder: Path) -> None:
    assert isinstance(read_folder(folder, SIZE), FolderPairs)
    assert read_folder(folder, SIZE).name == "2 subjects, 5 pictures"
