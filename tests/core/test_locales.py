"""The translations: every text of `tests/golden/english.json` and of the page extension in every language, none left
over, in words that the page can show. `tests/host/inside/check_locales.py` holds that record to the nodes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ("de", "es", "fr", "ja", "ko", "ru", "zh")
PAGE_READS = set("{}@|<>")  # what the page's messages give a meaning to; no escape suits every version of it
CALL = re.compile(r"(?<![\w.])t\(")  # js/parts/words.js: t("text", values)
TEXT = re.compile(r"(?<![\w.])t\(\s*\"([^\"\\\\]+)\"")
ROOT_CATEGORY = "nodeCategories.ICO + DCI"  # a name; the page extension knows our nodes by it

Texts = dict[str, str]  # path such as nodeDefs.DCIApply.inputs.window.tooltip -> text


def flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every text in nested messages."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def page_sources() -> str:
    """The page extension, without the module that defines t."""
    files = sorted(path for path in (ROOT / "js").rglob("*.js") if path.name != "words.js")
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def english() -> Texts:
    """What the nodes and the page extension say."""
    nodes = flat(json.loads((ROOT / "tests" / "golden" / "english.json").read_text(encoding="utf-8")))
    return {**dict(nodes), **{f"icoDci.{text}": text for text in TEXT.findall(page_sources())}}


def translated(language: str) -> Texts:
    """What one language says, as the host puts its files together."""
    folder = ROOT / "locales" / language
    main, nodes = (json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("main", "nodeDefs"))
    return dict(flat({**main, "nodeDefs": nodes}))


def numbers(text: str) -> set[str]:
    """The numbers in a text."""
    return set(re.findall(r"\d+(?:\.\d+)?", text))


def test_the_page_translates_whole_texts_only() -> None:
    source = page_sources()
    assert len(CALL.findall(source)) == len(TEXT.findall(source)) > 30


def test_there_is_a_folder_for_every_language_and_no_other() -> None:
    assert sorted(path.name for path in (ROOT / "locales").iterdir()) == list(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_translated_and_none_is_left_over(language: str) -> None:
    wanted, came = english(), translated(language)
    missing = [f"{path}: {text}" for path, text in wanted.items() if not came.get(path, "").strip()]
    assert not missing, f"add to locales/{language}:\n" + "\n".join(missing)
    left = sorted(set(came) - set(wanted))
    assert not left, f"remove from locales/{language}:\n" + "\n".join(left)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_translation_holds_what_the_page_would_read(language: str) -> None:
    assert {path: text for path, text in translated(language).items() if PAGE_READS & set(text)} == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_numbers_of_a_text_stand_in_its_translation(language: str) -> None:
    came = translated(language)
    assert {path: came[path] for path, text in english().items() if numbers(text) - numbers(came[path])} == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_is_in_its_language(language: str) -> None:
    """Most texts differ from the English; the names of the pack and of the methods stay."""
    came, wanted = translated(language), english()
    long = [path for path, text in wanted.items() if len(text) > 20]
    assert [path for path in long if came[path] == wanted[path]] == []
    assert came[ROOT_CATEGORY] == wanted[ROOT_CATEGORY]
    for path, text in wanted.items():
        for name in re.findall(r"\b(?:ICO|DCI|DBIM|DynaIP)\b", text) if path.endswith("display_name") else ():
            assert name in came[path], (path, name)
