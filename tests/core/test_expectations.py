"""What `docs/expectations.md` points to exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "expectations.md").read_text(encoding="utf-8")
ROWS = {title: rows.split("\n## ")[0] for title, _, rows in (part.partition("\n") for part in TEXT.split("\n## ")[1:])}
NAMED = re.findall(r"`([^`]+)`", TEXT)


def test_each_row_has_evidence_and_thirty_are_what_users_expect() -> None:
    tables = {title: re.findall(r"^\|(?! what |-)(.*)\|$", rows, re.MULTILINE) for title, rows in ROWS.items()}
    assert len(tables["Thirty things that users expect of a pack"]) == 30
    for title, rows in tables.items():
        for row in rows:
            evidence = row.rpartition(" | ")[2]
            assert re.search(r"`|\]\(|every host test", evidence), (title, row)


def test_every_test_that_is_named_exists() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    named_files = [name for name in NAMED if re.fullmatch(r"(test|check)_\w+\.py", name)]
    assert len(named_files) > 50 and set(named_files) <= set(files)
    for file, tests in re.findall(r"`((?:test|check)_\w+\.py)` \(([^|()]*)\)", TEXT):
        for test in re.findall(r"`(test_\w+)`", tests):
            assert f"def {test}(" in files[file], (file, test)
    every = "\n".join(files.values())
    assert [name for name in NAMED if re.fullmatch(r"test_\w+", name) and f"def {name}(" not in every] == []


def test_every_other_file_and_link_exists() -> None:
    paths = [name for name in NAMED if "/" in name and re.fullmatch(r"[\w./-]+", name)]
    links = re.findall(r"\]\(([^)#]+)", TEXT)
    assert [name for name in paths if not (ROOT / name).exists()] == []
    assert [name for name in links if not (ROOT / "docs" / name).exists()] == []
