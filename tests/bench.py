"""What the auxiliary branch and training cost: python tests/bench.py [--full] [--json FILE] [CASE ...].

One line a case: its ratio to what stands beside it, measured by turns in one run. Cases that cannot be measured here
are listed with the reason. COMFYUI_PATH names a ComfyUI for the cases that need one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_cases import compiled, concepts, hosted, references, runs, steps, trainings
from bench_cases.measure import Bench, Figure, Unmeasured

Case = Callable[[Bench], list[Figure]]
JSON_FIELDS = ("case", "ratio", "seconds", "spread", "device", "dtype")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def through_host_or(action: str, without: Case) -> Case:
    """The case as the host runs it; without a host, or on a GPU, as the core does."""

    def measured(bench: Bench) -> list[Figure]:
        try:
            return hosted.figures_of(action)(bench)
        except Unmeasured as reason:
            return [replace(figure, what=f"{figure.what} (no host: {reason})") for figure in without(bench)]

    return measured


def cases(is_full: bool) -> dict[str, Case]:
    """Every case by name, in the order of the issue that asked for them."""
    found: dict[str, Case] = {
        "dbim_rule": through_host_or("step", steps.CASES["dbim_rule"]),
        **runs.CASES,
        **{f"host_{action}": hosted.figures_of(action) for action in ("run_shared", "run_separate")},
        "train_step": steps.CASES["train_step"],
        "train_step_teacher": steps.CASES["train_step_teacher"],
        "train_vs_host_lora": hosted.train_vs_host_lora,
        "concept_apply": through_host_or("apply", concepts.apply_case),
        "concept_file": concepts.file_case,
        "concept_truncation": concepts.truncation_case,
        "train_precision": trainings.precision_case,
        "train_rank": trainings.rank_case,
        "new_reference_tiny_flow": references.tiny_reference,
        "new_reference_flux": references.flux_reference,
    }
    return {**found, **({**steps.FULL, **compiled.FULL} if is_full else {})}


def line(figure: Figure) -> str:
    """`case ratio (spread) seconds ...`, with the target and whether it is kept."""
    ratio = "        " if figure.ratio is None else f"{figure.ratio:8.3f}"
    seconds = "         " if figure.seconds is None else f"{figure.seconds:7.3f} s"
    value = figure.seconds if figure.ratio is None else figure.ratio
    target = "" if figure.target is None or value is None else f"{verdict(value, figure)} <= {figure.target:.3g}"
    where = f"{figure.device} {figure.dtype}"
    return f"{figure.case:28}{ratio} +-{figure.spread:6.3f} {seconds}  {target:24} {where:13} {figure.what}"


def verdict(value: float, figure: Figure) -> str:
    """Whether the target is kept, for certain or within the spread."""
    assert figure.target is not None
    if value <= figure.target:
        return "kept"
    return "within spread of" if value - figure.spread <= figure.target else "MISSED"


def row(figure: Figure) -> dict[str, object]:
    """A figure as the JSON file has it."""
    return {field: getattr(figure, field) for field in JSON_FIELDS}


def main() -> None:
    """Measures the cases asked for, prints a line each, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="names of cases; none: all")
    parser.add_argument("--full", action="store_true", help="also SDXL's shape, 512 and 1024 px, batch 1, 4, 8")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--profile", action="store_true", help="also print where each case's time goes, by kernel")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, help="of single steps; fp16 on a GPU, else fp32")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each case, loading left out")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    dtype = DTYPES[chosen.dtype or ("fp16" if device.type == "cuda" else "fp32")]
    bench, known = Bench(device, dtype, chosen.seconds, chosen.full, chosen.profile), cases(chosen.full)
    if unknown := set(chosen.cases) - set(known):
        parser.error(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    rows: list[dict[str, object]] = []
    started = time.perf_counter()
    for name in chosen.cases or known:
        try:
            for figure in known[name](bench):
                print(line(figure), flush=True)
                rows.append(row(figure))
        except Unmeasured as reason:
            print(f"{name:28}unmeasured: {reason}", flush=True)
            rows.append({**dict.fromkeys(JSON_FIELDS), "case": name, "device": device.type})
        if chosen.json is not None:
            chosen.json.parent.mkdir(parents=True, exist_ok=True)
            chosen.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"{time.perf_counter() - started:.0f} s in all, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
