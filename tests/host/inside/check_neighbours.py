"""The host's own nodes beside DCI: what it leaves alone under a black region is what they give without it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from marks import Absent, slow
from neighbours import NEIGHBOURS, Neighbour, Outcome, outcomes

HEAD = "| node | runs | most left under a black region | least and most that DCI does |"
OUT = Path(__file__).parents[3] / "out"


@slow
def test_every_neighbour_in_every_guidance_order_and_batch() -> None:
    """Writes what `docs/neighbours.md` shows: out/neighbours-<version of the host>.md."""
    written("neighbours", NEIGHBOURS)


def written(title: str, neighbours: Mapping[str, Neighbour]) -> None:
    """Writes the table of these neighbours, each row as it is found, and asserts the oracle for all of them.

    Raises Absent where none is there. The environment's NEIGHBOURS, a regular expression, chooses some by name.
    """
    from comfyui_version import __version__

    OUT.mkdir(exist_ok=True)
    table, broken, absent = OUT / f"{title}-{__version__}.md", [], 0
    table.write_text(f"{HEAD}\n|---|---|---|---|\n", encoding="utf-8")
    chosen = {name: each for name, each in neighbours.items() if re.search(os.environ.get("NEIGHBOURS", ""), name)}
    for name, neighbour in chosen.items():
        seen: list[Outcome] = []
        try:
            seen = list(outcomes(neighbour, by_turns=True))
            row = row_of(seen)
        except Absent as absence:
            row = f"0 | {absence} | "
            absent += 1
        except Exception as error:
            row = f"0 | {type(error).__name__}: {error} | ".replace("\n", " ")
            broken.append((name, error))
        broken += [(name, one) for one in seen if not one.is_right]
        with table.open("a", encoding="utf-8") as file:
            file.write(f"| {name} | {row} |\n")
    if absent == len(chosen):
        raise Absent("none of them is in this host")
    assert not broken, broken


def row_of(seen: Sequence[Outcome]) -> str:
    """What the table says of a neighbour: runs, the most that was left, what DCI does."""
    black, acts = max(one.black for one in seen), [one.acts for one in seen if one.acts is not None]
    told = ", told" * any(one.is_told for one in seen) + ", refused" * any(one.is_refused for one in seen)
    return f"{len(seen)} | {black:.1e}{told} | " + (f"{min(acts):.3f} to {max(acts):.3f}" if acts else "")


def holds(name: str) -> None:
    """Asserts the oracle in both orders, with shared guidance and two pictures; `docs/neighbours.md` has all."""
    for seen in outcomes(NEIGHBOURS[name], ("shared",), (2,)):
        assert seen.is_right, (name, seen)


def test_easycache() -> None:
    holds("EasyCache")


def test_lazycache() -> None:
    holds("LazyCache")


def test_self_attention_guidance() -> None:
    holds("Self-Attention Guidance")


def test_perturbed_attention_guidance() -> None:
    holds("Perturbed-Attention Guidance")


def test_normalized_attention_guidance() -> None:
    holds("Normalized Attention Guidance")


def test_freeu() -> None:
    holds("FreeU")


def test_freeu_v2() -> None:
    holds("FreeU V2")


def test_hypertile() -> None:
    holds("HyperTile")


def test_tome() -> None:
    holds("Tome")


def test_rescalecfg() -> None:
    holds("RescaleCFG")


def test_kohya_deep_shrink() -> None:
    holds("Kohya deep shrink")


def test_tcfg() -> None:
    holds("TCFG")


def test_cfg_zero_star() -> None:
    holds("CFG-Zero*")


def test_cfgnorm() -> None:
    holds("CFGNorm")


def test_mahiro() -> None:
    holds("Mahiro")


def test_perpneg() -> None:
    holds("PerpNeg")


def test_apg() -> None:
    holds("APG")


def test_fresca() -> None:
    holds("FreSca")


def test_epsilon_scaling() -> None:
    holds("Epsilon Scaling")


def test_unet_cross_attention_multiply() -> None:
    holds("U-Net cross-attention multiply")


def test_context_windows() -> None:
    holds("Context windows")


def test_differential_diffusion() -> None:
    holds("Differential Diffusion")
