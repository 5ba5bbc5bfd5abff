"""Nodes of the host that act on a model, each as a function model -> model, and the oracle for a pair with DCI."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lab import PACK, apply, conditioning, distance, plan, sample, small_model, text
from marks import Absent
from torch import Tensor

NEGATIVE = conditioning(text(3))
LEAST = 2e-5
GUIDANCES = ("shared", "separate", "aligned")
BLACK = torch.zeros(16, 16)
Node = Callable[[Any], Any]


@dataclass(frozen=True)
class Neighbour:
    """A node of the host: its file, class and inputs, and the run in which it acts.

    beside  what it does to the pair's conditioning
    draw    how a picture is drawn with it, as `lab.sample`
    told    words of the warning or the refusal where DCI cannot leave it alone
    acts    whether it changes the picture of these runs by itself
    """

    module: str
    name: str
    inputs: dict[str, Any] | Callable[[], dict[str, Any]] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    beside: Callable[[Any], Any] = lambda positive: positive
    draw: Callable[..., Tensor] = sample
    told: str = ""
    acts: bool = True

    def kind(self) -> Any:
        """The node's class. Raises Absent where this host has not got it."""
        try:
            return getattr(importlib.import_module(f"comfy_extras.{self.module}"), self.name)
        except (ImportError, AttributeError) as error:
            raise Absent(f"this host has no {self.name}") from error

    def on(self, model: Any) -> Any:
        """The model behind the node."""
        inputs = self.inputs() if callable(self.inputs) else self.inputs
        return run_node(self.kind(), model=model, **inputs)[0]


def run_node(kind: Any, **inputs: Any) -> Sequence[Any]:
    """What a node of either interface gives for those of the inputs that it knows."""
    function = kind.execute if hasattr(kind, "define_schema") else getattr(kind(), kind.FUNCTION)
    known = inspect.signature(function).parameters
    takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values())
    out = function(**{key: value for key, value in inputs.items() if takes_all or key in known})
    return out if isinstance(out, tuple) else out.result


def hooked(positive: Any) -> Any:
    """The pair's conditioning with a LoRA that comes and goes with it, as Create Hook LoRA makes it."""
    from comfy.hooks import create_hook_lora, set_hooks_for_conditioning

    weight = small_model().model.diffusion_model.middle_block[1].transformer_blocks[0].attn2.to_v.weight
    source = torch.Generator().manual_seed(6)
    up, down = (torch.randn(*shape, generator=source) * 0.1 for shape in ((weight.shape[0], 4), (4, weight.shape[1])))
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v"
    lora = {f"{name}.lora_up.weight": up * 4, f"{name}.lora_down.weight": down * 4, f"{name}.alpha": torch.tensor(4.0)}
    return set_hooks_for_conditioning(positive, hooks=create_hook_lora(lora, 1.0, 0.0), append_hooks=True)


def by_two_prompts(model: Any, positive: Any, negative: Any, *, shape: Any, steps: int, **_: Any) -> Tensor:
    """A picture by the host's guider of two prompts."""
    from comfy.samplers import calculate_sigmas, sampler_object
    from comfy_extras.nodes_custom_sampler import DualCFGGuider

    how = {"cfg_conds": 5.0, "cfg_cond2_negative": 3.0, "style": "regular"}
    kind = DualCFGGuider
    function = kind.execute if hasattr(kind, "define_schema") else kind().get_guider
    out = function(model=model, cond1=positive, cond2=conditioning(text(8)), negative=negative, **how)
    guider = out[0] if isinstance(out, tuple) else out.result[0]
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(5))
    sigmas = calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps)
    return guider.sample(noise, torch.zeros(*shape), sampler_object("euler"), sigmas, disable_pbar=True, seed=5)


@dataclass(frozen=True)
class Idle(Neighbour):
    """Something that acts on the conditioning or in the sampler alone; the model stays as it is."""

    def on(self, model: Any) -> Any:
        """The same model."""
        return model


@dataclass(frozen=True)
class Merge(Neighbour):
    """A node that merges with another model of the same kind."""

    def on(self, model: Any) -> Any:
        """Both models in one."""
        return run_node(self.kind(), model1=model, model2=small_model(1), ratio=0.8)[0]


NEIGHBOURS = {
    "Dual CFG Guider": Idle("", "DualCFGGuider", draw=by_two_prompts),
    "Hooks: a LoRA of the conditioning": Idle("", "hooks", beside=hooked),
    "Merge of two models": Merge("nodes_model_merging", "ModelMergeSimple"),
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
    """One pair with DCI: what is left under a black region, and what DCI does without one; relative L2 distances.

    acts  None where it was not asked
    """

    guidance: str
    num_pictures: int
    ours_first: bool
    black: float
    acts: float | None
    is_told: bool = False
    is_refused: bool = False

    @property
    def is_right(self) -> bool:
        """Whether the guest is left alone and DCI does something, or the user is told why not."""
        return self.is_refused or ((self.black < LEAST or self.is_told) and (self.acts is None or self.acts > 1e-4))


def outcomes(
    neighbour: Neighbour,
    guidances: tuple[str, ...] = GUIDANCES,
    batches: tuple[int, ...] = (1, 2),
    *,
    by_turns: bool = False,
) -> Iterator[Outcome]:
    """DCI beside a neighbour in both orders. A batch in which the neighbour fails by itself is left out.

    by_turns  what DCI does is asked of one order in a guidance and of the other in the next, and so on

    Raises AssertionError where the neighbour does nothing by itself, Absent where it fails in every batch.
    """
    pair = plan(text(2))
    bare = conditioning(text(1), pair)
    positive, draw = neighbour.beside(bare), neighbour.draw
    shapes = [neighbour.run["shape"]] if "shape" in neighbour.run else [(size, 4, 16, 16) for size in batches]
    broken, has_run = None, False
    for turn, shape in enumerate(shapes):
        run = {"steps": 4, **neighbour.run, "shape": shape}
        alone = neighbour.on(small_model())
        try:
            plain = draw(alone, positive, NEGATIVE, **run)
        except RuntimeError as error:
            broken = Absent(f"{neighbour.name} fails by itself in a batch of {shape[0]}: {error}")
            continue
        has_run = True
        if draw is sample and neighbour.acts:
            change = distance(plain, sample(small_model(), bare, NEGATIVE, **run))
            assert change > 1e-5, f"{neighbour.name} does nothing"
        for (number, guidance), ours_first in itertools.product(enumerate(guidances), (False, True)):
            is_asked = not by_turns or (turn + number + ours_first) % 2 == 0
            yield beside(neighbour, plain, pair, positive, run, guidance, ours_first, is_asked)
    if broken is not None and not has_run:
        raise broken


def beside(
    neighbour: Neighbour, plain: Tensor, pair: Any, positive: Any, run: dict[str, Any], guidance: str,
    ours_first: bool, is_asked: bool,
) -> Outcome:  # fmt: skip
    """One outcome; `plain` is the neighbour's picture without DCI, `is_asked` whether what DCI does is asked."""
    found, told, is_told = [], neighbour.told, False
    for region in (BLACK, None) if is_asked else (BLACK,):
        settings = {"window": 0.6, "guidance": guidance, "region": region}
        model = small_model()  # a new one each time: packs leave things on the model itself
        ours, record = apply(model if ours_first else neighbour.on(model), pair, **settings)
        try:
            drawn = neighbour.draw(neighbour.on(ours) if ours_first else ours, positive, NEGATIVE, **run)
        except PACK["dci_core.errors"].PackError as error:
            assert told and told in str(error), error
            return Outcome(guidance, run["shape"][0], ours_first, 0.0, None, is_refused=True)
        found.append(distance(drawn, plain))
        assert drawn.isfinite().all(), f"{neighbour.name} and DCI give NaN"
        is_told = bool(told) and any(told in sentence for sentence in record.warnings)
    black, acts = found if is_asked else (*found, None)
    return Outcome(guidance, run["shape"][0], ours_first, black, acts, is_told)
