"""The released routine's numbers, on its inputs: every dbim_*.safetensors here and in the folder DCI_VECTORS names."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from dci_core.attention.call import AttentionCall
from dci_core.attention.layers import LayerId
from dci_core.dci.dbim import DbimSettings, dbim_rule
from dci_core.dci.maps import BranchRows
from dci_core.text.tokens import PairTokens, TokenSet

GOLDEN = Path(__file__).parents[2] / "golden"
LAYER = LayerId("middle", 0)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


def vector_files() -> list[Path]:
    folders = [GOLDEN]
    if os.environ.get("DCI_VECTORS"):
        folders.append(Path(os.environ["DCI_VECTORS"]))
    return [file for folder in folders for file in sorted(folder.glob("dbim_*.safetensors"))]


@dataclass(frozen=True)
class Vector:
    case: dict
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, file: Path) -> Vector:
        with safe_open(file, "pt") as stored:
            return cls(json.loads(stored.metadata()["case"]), load_file(file))

    def block(self, branch: str) -> tuple[int, ...]:
        start = self.case["branch_order"].index(branch) * self.case["batch"]
        return tuple(range(start, start + self.case["batch"]))

    def tokens(self, branch: str) -> TokenSet:
        return slots(self.case[f"{branch}_token_indices"], self.case[f"{branch}_prompt_length"])

    def run(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(out, concept weights) of our rule."""
        seen: list[Tensor] = []
        case = self.case
        settings = DbimSettings(
            shares={LAYER: 1.0},
            strength=case["aux_strength"],
            token_sharpness=case["token_sharpness"],
            spatial_sharpness=case["spatial_sharpness"],
            gain=case["spatial_scale"],
        )
        rule = dbim_rule(
            settings,
            BranchRows(self.block("concept"), self.block("aux")),
            PairTokens(self.tokens("concept"), self.tokens("auxiliary")),
            torch.device("cpu"),
            observe=lambda layer, weights, grid: seen.append(weights),
        )
        q, k, v = (self.tensors[name].to(dtype) for name in "qkv")
        out = rule(AttentionCall(q, k, v, k, case["heads"], (q.shape[1], 1), LAYER))
        return out, seen[0]


def slots(indices: list[int], length: int) -> TokenSet:
    """Indices with the begin mark removed, as slots of the context."""
    return TokenSet(span=tuple(index + 1 for index in indices), real=tuple(range(1, length + 1)))


def error(ours: Tensor, reference: Tensor) -> float:
    return float((ours.double() - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize("file", vector_files(), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_rule_gives_the_released_numbers(file: Path) -> None:
    vector = Vector.read(file)
    for dtype, tolerance in TOLERANCE.items():
        out, weights = vector.run(dtype)
        assert out.dtype == dtype
        assert error(out, vector.tensors["out"]) <= tolerance
        assert error(weights, vector.tensors["concept_weight"]) <= tolerance


def test_every_folder_named_holds_vectors() -> None:
    for folder in (GOLDEN, os.environ.get("DCI_VECTORS")):
        assert not folder or sorted(Path(folder).glob("dbim_*.safetensors")), f"no dbim_*.safetensors in {folder}"
