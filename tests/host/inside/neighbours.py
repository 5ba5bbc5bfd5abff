"""Nodes of the host that act on a model, each as a function model -> model, and the oracle for a pair with DCI."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from lab import apply, conditioning, distance, plan, sample, small_model, text
from marks import Absent

NEGATIVE = conditioning(text(3))
GUIDANCES = ("shared", "separate", "aligned")
BLACK = torch.zeros(16, 16)
Node = Callable[[Any], Any]


@dataclass(frozen=True)
class Neighbour:
    """A node of the host: its file, class and inputs, and the run in which it acts."""

    module: str
    name: str
    inputs: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)

    def on(self, model: Any) -> Any:
        """The model behind the node. Raises Absent where this host has not got it."""
        try:
            kind = getattr(importlib.import_module(f"comfy_extras.{self.module}"), self.name)
        except (ImportError, AttributeError) as error:
            raise Absent(f"this host has no {self.name}") from error
        function = kind.execute if hasattr(kind, "execute") else getattr(kind(), kind.FUNCTION)
        known = inspect.signature(function).parameters
        out = function(model, **{key: value for key, value in self.inputs.items() if key in known})
        return out[0] if isinstance(out, tuple) else out.result[0]


NEIGHBOURS = {
    "EasyCache": Neighbour(
        "nodes_easycache",
        "EasyCacheNode",
        {"reuse_threshold": 0.6, "start_percent": 0.15, "end_percent": 0.95, "verbose": False},
        {"steps": 10},
    ),
    "LazyCache": Neighbour(
        "nodes_easycache",
        "LazyCacheNode",
        {"reuse_threshold": 0.6, "start_percent": 0.15, "end_percent": 0.95, "verbose": False},
        {"steps": 10},
    ),
    "Self-Attention Guidance": Neighbour("nodes_sag", "SelfAttentionGuidance", {"scale": 0.5, "blur_sigma": 2.0}),
    "Perturbed-Attention Guidance": Neighbour("nodes_pag", "PerturbedAttentionGuidance", {"scale": 3.0}),
    "Normalized Attention Guidance": Neighbour(
        "nodes_nag", "NAGuidance", {"nag_scale": 5.0, "nag_alpha": 0.5, "nag_tau": 1.5}
    ),
    "FreeU": Neighbour("nodes_freelunch", "FreeU", {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2}),
    "FreeU V2": Neighbour("nodes_freelunch", "FreeU_V2", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
    "HyperTile": Neighbour(
        "nodes_hypertile",
        "HyperTile",
        {"tile_size": 1, "swap_size": 1, "max_depth": 1, "scale_depth": False},
        {"shape": (2, 4, 64, 64), "steps": 2},
    ),
    "Tome": Neighbour("nodes_tomesd", "TomePatchModel", {"ratio": 0.3}),
    "RescaleCFG": Neighbour("nodes_model_advanced", "RescaleCFG", {"multiplier": 0.7}),
    "Kohya deep shrink": Neighbour(
        "nodes_model_downscale",
        "PatchModelAddDownscale",
        {
            "block_number": 1,
            "downscale_factor": 2.0,
            "start_percent": 0.0,
            "end_percent": 0.35,
            "downscale_after_skip": True,
            "downscale_method": "bicubic",
            "upscale_method": "bicubic",
        },
    ),
    "TCFG": Neighbour("nodes_tcfg", "TCFG"),
    "CFG-Zero*": Neighbour("nodes_cfg", "CFGZeroStar"),
    "CFGNorm": Neighbour("nodes_cfg", "CFGNorm", {"strength": 1.0, "pre_cfg": False}),
    "Mahiro": Neighbour("nodes_mahiro", "Mahiro"),
    "PerpNeg": Neighbour("nodes_perpneg", "PerpNeg", {"empty_conditioning": conditioning(text(9)), "neg_scale": 1.0}),
    "APG": Neighbour("nodes_apg", "APG", {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.2}),
    "FreSca": Neighbour("nodes_fresca", "FreSca", {"scale_low": 1.0, "scale_high": 1.5, "freq_cutoff": 4}),
    "Epsilon Scaling": Neighbour("nodes_eps", "EpsilonScaling", {"scaling_factor": 1.05}),
    "U-Net cross-attention multiply": Neighbour(
        "nodes_attention_multiply", "UNetCrossAttentionMultiply", {"q": 1.1, "k": 1.1, "v": 1.0, "out": 1.0}
    ),
    "Context windows": Neighbour(
        "nodes_context_windows",
        "ContextWindowsManualNode",
        {
            "context_length": 2,
            "context_overlap": 1,
            "context_schedule": "standard_static",
            "context_stride": 1,
            "closed_loop": False,
            "fuse_method": "pyramid",
            "dim": 0,
            "freenoise": True,  # without it, windows of single pictures change nothing
        },
        {"shape": (4, 4, 16, 16)},
    ),
    "Differential Diffusion": Neighbour(
        "nodes_differential_diffusion",
        "DifferentialDiffusion",
        {"strength": 1.0},
        {"mask": torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)},
    ),
}


@dataclass(frozen=True)
class Outcome:
    """One pair with DCI: what is left under a black region, and what DCI does without one; relative L2 distances."""

    guidance: str
    num_pictures: int
    ours_first: bool
    black: float
    acts: float


def outcomes(name: str, guidances: tuple[str, ...] = GUIDANCES, batches: tuple[int, ...] = (1, 2)) -> Iterator[Outcome]:
    """DCI beside a neighbour in both orders. Raises AssertionError where the neighbour does nothing by itself."""
    neighbour, model, pair = NEIGHBOURS[name], small_model(), plan(text(2))
    positive = conditioning(text(1), pair)
    shapes = [neighbour.run["shape"]] if "shape" in neighbour.run else [(size, 4, 16, 16) for size in batches]
    for shape in shapes:
        run = {"steps": 4, **neighbour.run, "shape": shape}
        plain = sample(neighbour.on(model), positive, NEGATIVE, **run)
        assert distance(plain, sample(model, positive, NEGATIVE, **run)) > 1e-5, f"{name} does nothing"
        for guidance, ours_first in itertools.product(guidances, (False, True)):
            found = []
            for region in (BLACK, None):
                settings = {"window": 0.6, "guidance": guidance, "region": region}
                ours = apply(model if ours_first else neighbour.on(model), pair, **settings)[0]
                found.append(sample(neighbour.on(ours) if ours_first else ours, positive, NEGATIVE, **run))
            assert found[1].isfinite().all(), f"{name} and DCI give NaN"
            yield Outcome(guidance, shape[0], ours_first, *(distance(out, plain) for out in found))
