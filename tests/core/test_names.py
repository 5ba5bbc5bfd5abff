"""File names that people type: good on every system, inside their folder, and never another thing's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dci_core.errors import NotSaved
from dci_core.names import as_part, for_prompts, free_paths, path_for


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("rex", "rex.safetensors"),
        ("rex.safetensors", "rex.safetensors"),
        ("Rex.SafeTensors", "Rex.safetensors"),
        ("animals/rex", "animals/rex.safetensors"),
        ("animals\\rex", "animals/rex.safetensors"),
        ("  animals /  rex. ", "animals/rex.safetensors"),
        ("my rex v1.5", "my rex v1.5.safetensors"),
        ("レックス", "レックス.safetensors"),
        ("u\u0308ber", "\u00fcber.safetensors"),
    ],
)
def test_a_name_stands_where_it_says(tmp_path: Path, name: str, there: str) -> None:
    assert path_for(name, tmp_path) == tmp_path / there


@pytest.mark.parametrize(
    "name",
    ["", " ", ".", "..", "../x", " ../x", "a/ .. /../x", "a/../../x", "/x", "\\x", "c:x", "a//b", "animals/", "...",
     "a\0b", "what?", 'so "called"', "a|b", "a*", "<a>", "CON", "con.txt", "aux/rex", "LPT1", "com¹", "x" * 250,
     "\ud800", ".safetensors"],
)  # fmt: skip
def test_a_name_that_some_system_does_not_take_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotSaved, match="file name"):
        path_for(name, tmp_path)


def test_any_words_become_a_part_of_a_name(tmp_path: Path) -> None:
    for words in ("zorp", "zorp?", 'a "b"', "a/b", "con", "...", "", "名前" * 200):
        part = as_part(words)
        assert path_for(part, tmp_path).parent == tmp_path, words
    assert as_part("zorp") == "zorp"


def test_an_embeddings_name_can_stand_in_a_prompt() -> None:
    assert for_prompts("my rex (v2), new") == "my_rex_v2_new"
    assert for_prompts("animals\\my rex") == "animals/my_rex"
    assert for_prompts("rex-1.5") == "rex-1.5"


def test_files_of_other_things_are_counted_past_and_own_ones_replaced(tmp_path: Path) -> None:
    one, two = tmp_path / "rex.safetensors", tmp_path / "deep" / "rex.safetensors"
    assert free_paths([one, two], lambda path: False) == [one, two]
    one.write_bytes(b"theirs")
    counted = free_paths([one, two], lambda path: False)
    assert [path.name for path in counted] == ["rex_00002_.safetensors"] * 2
    assert free_paths([one, two], lambda path: path == one) == [one, two]
    (tmp_path / "rex_00002_.safetensors").symlink_to(tmp_path / "gone")
    assert free_paths([one], lambda path: False)[0].name == "rex_00003_.safetensors"
