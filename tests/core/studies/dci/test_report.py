"""The report's words follow its numbers."""

from __future__ import annotations

import pytest

from dci_core.studies.dci.dials import dials
from dci_core.studies.dci.plot_style import COLOURS, MARKS, dials_of, name_of
from dci_core.studies.dci.protocol import GROUND, QUICK
from dci_core.studies.dci.report import AT_SHARE, HYPERVOLUME, answer, leads_section, verdict
from dci_core.studies.dci.report_defaults import OTHERS, defaults_table
from dci_core.studies.dci.report_words import decided

DIALS = tuple(dials(QUICK.plain, GROUND.earlier))


def number(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


@pytest.mark.parametrize(
    ("lead", "word"), [(0.2, "DCI is ahead"), (-0.2, "DCI is behind"), (0.005, "not decided"), (-0.01, "not decided")]
)
def test_only_an_interval_without_zero_decides(lead: float, word: str) -> None:
    assert decided(number(lead)) == word


def test_the_answer_compares_dci_with_the_best_plain_dial() -> None:
    values = dict(zip(DIALS, (0.9, 0.5, 0.7, 0.6, 0.4, 0.3), strict=True))
    ahead = {dial: number(0.9 - value) for dial, value in values.items() if dial != "dci"}
    ahead["prompt_swap_dial"] = number(0.0)
    part = {
        AT_SHARE: {dial: number(value) for dial, value in values.items()},
        "dci_minus": {dial: {AT_SHARE: lead, HYPERVOLUME: lead} for dial, lead in ahead.items()},
    }
    told = verdict(part)
    assert "the best plain dial (CFG) 0.700 [0.690, 0.710]; the difference is +0.200 [+0.190, +0.210]" in told
    assert "DCI is ahead of concept strength, CFG" in told and told.endswith("not decided against prompt swap.")


def test_the_shifted_dial_is_answered_for_by_itself_and_is_no_plain_dial() -> None:
    values = {"dci": 0.5, "dci_shifted": 0.9, "strength_dial": 0.6}
    part = {
        AT_SHARE: {dial: number(value) for dial, value in values.items()},
        "dci_minus": {dial: {AT_SHARE: number(-0.1), HYPERVOLUME: number(0.0)} for dial in list(values)[1:]},
        "dci_shifted_minus": {dial: {AT_SHARE: number(0.3), HYPERVOLUME: number(0.1)} for dial in list(values)[::2]},
    }
    told = verdict(part, "dci_shifted")
    assert "DCI shifted follows 0.900 [0.890, 0.910] of what is asked, the best plain dial (concept strength)" in told
    assert "the best plain dial (concept strength) 0.600" in verdict(part)
    assert answer({**part, "low_prior": part}).count("\n- ") == 4


def test_only_decided_leads_are_bold() -> None:
    leads = {dial: {AT_SHARE: number(0.2), HYPERVOLUME: number(0.005)} for dial in DIALS if dial != "dci"}
    told = leads_section({"dci_minus": leads, "low_prior": {"dci_minus": leads}}).splitlines()
    rows = [line for line in told if line.startswith("| ")][2:]
    assert len(rows) == len(leads)
    for row in rows:
        undecided, decided_lead = "+0.005 [-0.005, +0.015]", "**+0.200 [+0.190, +0.210]**"
        assert row.split(" | ", 1)[1] == " | ".join((undecided, decided_lead) * 2) + " |"


def test_every_dial_of_the_study_is_one_of_the_plots() -> None:
    assert dials_of(dict.fromkeys(DIALS)) == list(DIALS) and DIALS[0] == "dci"
    assert dials_of({"plain": 0, "control": 0, "whole_blend_dial": 0}) == ["whole_blend_dial"]
    assert set(COLOURS) == set(MARKS) and all(name_of(dial) != dial for dial in COLOURS)


def test_every_default_says_where_it_comes_from() -> None:
    rows = defaults_table().splitlines()[2:]
    assert len(rows) == sum(map(len, OTHERS.values()))
    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|"))
