"""Which picture was drawn for which prompt, and the prompt as CLIP should read it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import BadSettings, SpanNotFound
from ..files import read_words
from ..text.tokens import PLACEHOLDER

FORMS = ".txt with a line for each picture, .csv with the columns name and prompt, or .json of names to prompts"


def read_prompts(path: Path, names: Sequence[str]) -> list[str]:
    """The prompt of each picture, whose file names these are; raises BadSettings where they do not match.

    .txt   a line for each picture, in the order of the names; a single line is for all of them
    .csv   a head line `name,prompt`, then a line for each picture
    .json  one object, name -> prompt

    A name in .csv and .json may leave out its ending.
    """
    text = read_text(path)
    if path.suffix.lower() == ".txt":
        return by_line([line.strip() for line in text.splitlines() if line.strip()], names, path.name)
    readers = {".csv": read_csv, ".json": read_json}
    if path.suffix.lower() not in readers:
        raise BadSettings(f'the prompts file is "{path.name}"', f"{FORMS} is expected", "rename or convert it")
    return by_name(readers[path.suffix.lower()](text, path.name), names, path.name)


def read_text(path: Path) -> str:
    """What the file says; raises BadSettings."""
    try:
        return read_words(path.read_bytes())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise BadSettings(
            f'the prompts file "{path.name}" cannot be read ({reason})', f"{FORMS} is expected", "check the path"
        ) from error


def by_line(lines: Sequence[str], names: Sequence[str], source: str) -> list[str]:
    """A line for each picture, or one for all; raises BadSettings."""
    if len(lines) == 1:
        return list(lines) * len(names)
    if len(lines) != len(names):
        raise BadSettings(
            f'"{source}" has {len(lines)} prompts for {len(names)} pictures',
            "one line for each picture in the order of their names, or one for all, is expected",
            "add or remove lines",
        )
    return list(lines)


def by_name(prompts: Mapping[str, str], names: Sequence[str], source: str) -> list[str]:
    """Each picture's own; raises BadSettings for a picture without a prompt and a prompt without a picture."""
    keys = [name if name in prompts else Path(name).stem for name in names]
    for name, key in zip(names, keys, strict=True):
        if key not in prompts:
            raise BadSettings(
                f'"{source}" has no prompt for "{name}"', "one for each picture is expected", "add it to the file"
            )
    if spare := sorted(set(prompts) - set(keys)):
        raise BadSettings(
            f'"{source}" has a prompt for "{spare[0]}"', "only names of pictures are expected", "remove or rename it"
        )
    return [prompts[key] for key in keys]


def read_csv(text: str, source: str) -> dict[str, str]:
    """name -> prompt of a table; raises BadSettings."""
    rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
    found = [(row.get("name"), row.get("prompt")) for row in rows]
    if not found or any(not name or not prompt or not prompt.strip() for name, prompt in found):
        raise BadSettings(
            f'"{source}" lacks a name or a prompt',
            "the columns name and prompt, both filled in every line, are expected",
            "put quotes around prompts with commas",
        )
    return unique([(str(name).strip(), str(prompt).strip()) for name, prompt in found], source)


def read_json(text: str, source: str) -> dict[str, str]:
    """name -> prompt of an object; raises BadSettings."""
    try:
        found = json.loads(text, object_pairs_hook=lambda pairs: unique(pairs, source))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) and each.strip() for each in found.values()):
        raise BadSettings(
            f'"{source}" is no list of prompts', 'an object as {"name": "prompt"} is expected', "write it so"
        )
    return found


def unique(pairs: Sequence[tuple[str, str]], source: str) -> dict[str, str]:
    """The pairs as a mapping; raises BadSettings for a name that comes twice."""
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadSettings(f'"{source}" names "{twice[0]}" twice', "each picture once is expected", "remove one")
    return dict(pairs)


def plain_prompts(prompts: Sequence[str], trigger: str = "", noun: str = "") -> list[str]:
    """The prompts as CLIP should read them: the class noun alone where the concept stands, its trigger gone.

    `mydog dog in snow` and `{concept} in snow` become `dog in snow`. Raises BadSettings for `{concept}` without a
    noun, SpanNotFound for a trigger that no prompt holds.
    """
    if not noun and any(PLACEHOLDER in prompt for prompt in prompts):
        raise BadSettings(
            f"a prompt holds {PLACEHOLDER}", "the noun for it is expected", "name the concept's class, such as dog"
        )
    told = [prompt.replace(PLACEHOLDER, noun) for prompt in prompts] if noun else list(prompts)
    if trigger.strip():
        plain = [without_trigger(prompt, trigger.strip(), noun.strip()) for prompt in told]
        if plain == told and list(prompts) == told:
            raise SpanNotFound(
                f'the trigger "{trigger.strip()}" is in no prompt',
                "one that is there is expected",
                "check its spelling",
            )
        told = plain
    return [" ".join(prompt.split()) for prompt in told]


def without_trigger(prompt: str, trigger: str, noun: str) -> str:
    """The prompt with the noun alone for the trigger and its noun, case and blanks aside."""
    words = r"\s+".join(map(re.escape, trigger.split()))
    follower = rf"(?:\s+{re.escape(noun)}(?!\w))?" if noun else ""
    return re.sub(rf"(?<!\w){words}(?!\w){follower}", lambda _: noun, prompt, flags=re.IGNORECASE)


def by_number(name: str) -> list[tuple[int, int, str]]:
    """Sorts names as people do: picture 2 before picture 10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name) if part
    ]
