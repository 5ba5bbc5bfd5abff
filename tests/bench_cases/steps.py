"""Single steps on SD 1.5's shape (and SDXL's with --full): the attention rule's price, and a training step's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import product

import torch
from torch import Tensor

from dci_core.dci.branches import DciSettings
from dci_core.dci.dbim import dbim_rule
from dci_core.dci.maps import BranchRows
from dci_core.families.table import find_family
from dci_core.ico.data import TrainingData
from dci_core.ico.settings import IcoSettings
from dci_core.ico.state import begin_training
from dci_core.ico.train import StepReport, train_steps
from dci_core.model import Text
from dci_core.text.tokens import PairTokens, TokenSet
from dci_core.tiny.model import TinyModel

from .measure import Bench, Figure, Unmeasured, Work, peak_bytes, side_by_side
from .shapes import SD15, SDXL, Shape, random_text, shaped_model

TOKENS = PairTokens(TokenSet((2, 3, 4, 5), tuple(range(1, 12)), 77), TokenSet((2,), tuple(range(1, 9)), 77))
SIGMA = 12.0  # inside the window
BATCH = 2


@cache
def model_of(shape: Shape, device: torch.device, dtype: torch.dtype) -> TinyModel:
    """Made once; SD 1.5's shape has 860 million weights."""
    return shaped_model(shape, device, dtype)


def step_works(bench: Bench, shape: Shape, size_px: int, batch: int) -> tuple[Work, Work]:
    """(a step of 3 rows a picture with DBIM in every layer, the same rows without)."""
    model, rows = model_of(shape, bench.device, bench.dtype), 3 * batch
    generator = torch.Generator().manual_seed(2)
    x = (torch.randn(rows, 4, size_px // 8, size_px // 8, generator=generator) * SIGMA).to(bench.device, bench.dtype)
    text = Text(random_text(rows, shape.context_width, bench.device, bench.dtype))
    sigma = torch.full((rows,), SIGMA, device=bench.device)
    settings = DciSettings(guidance="shared").dbim(find_family(shape.family))
    pairs = [(batch + 2 * i, batch + 2 * i + 1) for i in range(batch)]
    branches = BranchRows(*(tuple(side) for side in zip(*pairs, strict=True)))

    def step(is_ruled: bool) -> Tensor:
        rule = dbim_rule(settings, branches, TOKENS, bench.device) if is_ruled else None
        with torch.no_grad():
            return model.denoise(x, sigma, text, rule)

    return lambda: step(True), lambda: step(False)


def dbim_rule_case(bench: Bench) -> list[Figure]:
    """One step with the rule against the same rows without."""
    is_gpu = bench.device.type == "cuda"
    size_px, target = (512, 1.02) if is_gpu else (256, 1.03)
    works = step_works(bench, SD15, size_px, 1)
    what = f"SD 1.5's shape, {size_px} px, 3 rows with DBIM in 16 layers against the same rows without"
    return [side_by_side(bench, "dbim_rule", *works, what=what, target=target)]


def large_step(shape: Shape, size_px: int, batch: int) -> Callable[[Bench], list[Figure]]:
    """A case of --full: the same at a size that a CPU is too slow for, with peak memory."""
    name = f"dbim_rule_{shape.family}_{size_px}_batch{batch}"

    def measured(bench: Bench) -> list[Figure]:
        if bench.device.type != "cuda" and (shape is SDXL or size_px > 512 or batch > 1):
            raise Unmeasured("needs a GPU: minutes a step on a CPU")
        works = step_works(bench, shape, size_px, batch)
        what = f"{shape.family}'s shape, {size_px} px, {3 * batch} rows with DBIM against the same rows without"
        figures = [side_by_side(bench, name, *works, what=what)]
        if bench.device.type == "cuda":
            peaks = [peak_bytes(bench, work) for work in works]
            where = ("cuda", str(bench.dtype).removeprefix("torch."))
            note = f"peak memory of the same, {peaks[0] / 2**30:.2f} GiB against {peaks[1] / 2**30:.2f} GiB"
            figures.append(Figure(f"{name}_memory", peaks[0] / peaks[1], None, 0.0, *where, note))
        return figures

    return measured


def training(
    bench: Bench, prior: str, size_px: int = 256, precision: str = "fp32"
) -> tuple[TinyModel, TrainingData, Iterator[StepReport]]:
    """(model, data, endless steps) of a training of full-rank keys and values with CLIP L's size of text encoder."""
    model = model_of(SD15, bench.device, bench.dtype)
    shape = (4, 2, 4, size_px // 8, size_px // 8)  # [images flips c h w]
    data = TrainingData(torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(bench.device))
    given = {"prior": prior, "precision": precision}
    settings = IcoSettings(steps=10**6, batch=BATCH, learning_rate=1e-6, **given)  # type: ignore[arg-type]
    return model, data, train_steps(model, data, begin_training(model, data, settings, noun="fish"))


def passes(model: TinyModel, data: TrainingData, rows: int) -> Work:
    """Forward of so many rows and the backward pass of their activations: no weight's gradient, no text encoder."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(rows, *data.latents.shape[2:], generator=generator).to(data.latents)
    text = Text(random_text(rows, SD15.context_width, x.device, x.dtype))
    sigma = torch.full((rows,), SIGMA, device=x.device)

    def both() -> Tensor:
        with torch.enable_grad():
            x.requires_grad_(True)
            out = model.denoise(x, sigma, text)
            return torch.autograd.grad(out.float().square().mean(), x)[0]

    return both


def train_step_case(name: str, prior: str, target: float) -> Callable[[Bench], list[Figure]]:
    """A training step against forward and activation backward of as many rows."""

    def measured(bench: Bench) -> list[Figure]:
        fp32 = replace(bench, dtype=torch.float32)
        model, data, steps = training(fp32, prior)
        rows = BATCH if prior == "none" else 2 * BATCH
        what = f"SD 1.5's shape, 256 px, {rows} rows, prior {prior}, against forward + activation backward of them"
        work = passes(model, data, rows)
        return [side_by_side(fp32, name, lambda: next(steps), work, what=what, target=target)]

    return measured


def narrow_training(precision: str, size_px: int = 512) -> Callable[[Bench], list[Figure]]:
    """A case of --full: a training step in that precision against one in fp32, with peak memory."""
    name = f"train_step_sd15_{size_px}_{precision}"

    def measured(bench: Bench) -> list[Figure]:
        if bench.device.type != "cuda":
            raise Unmeasured("needs a GPU: a CPU trains in fp32")
        fp32 = replace(bench, dtype=torch.float32)
        narrow, wide = (training(fp32, "teacher", size_px, each)[2] for each in (precision, "fp32"))
        works = (lambda: next(narrow)), (lambda: next(wide))
        what = f"SD 1.5's shape, {size_px} px, {2 * BATCH} rows, prior teacher, {precision} against fp32"
        figures = [side_by_side(fp32, name, *works, what=what)]
        peaks = [peak_bytes(fp32, work) for work in works]
        note = f"peak memory of the same, {peaks[0] / 2**30:.2f} GiB against {peaks[1] / 2**30:.2f} GiB"
        return [*figures, Figure(f"{name}_memory", peaks[0] / peaks[1], None, 0.0, "cuda", precision, note)]

    return measured


CASES: dict[str, Callable[[Bench], list[Figure]]] = {
    "dbim_rule": dbim_rule_case,
    "train_step": train_step_case("train_step", "none", 1.15),
    "train_step_teacher": train_step_case("train_step_teacher", "teacher", 1.45),
}
FULL = {
    f"dbim_rule_{shape.family}_{size}_batch{batch}": large_step(shape, size, batch)
    for shape, size, batch in (*product([SD15], (512, 1024), (1, 4, 8)), *product([SDXL], (1024,), (1, 4, 8)))
}
FULL |= {f"train_step_sd15_512_{precision}": narrow_training(precision) for precision in ("bf16", "fp16")}
