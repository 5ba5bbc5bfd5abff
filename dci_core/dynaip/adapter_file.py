"""Adapters on disk: one safetensors file each, which says itself what it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..attention.joint import BlockId
from ..errors import BadAdapter, BadConcept, NotSaved
from ..families.mmdit import find_mmdit
from ..files import check_finite, write_tensors
from ..version import VERSION
from .adapter import Adapter, AdapterParams
from .ancestors import PooledAdapter, read_ancestor

FORMAT = "ico-dci image prompt adapter"
FORMAT_VERSION = 1
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
UNET_KEYS = ("model.diffusion_model.", "input_blocks.", "down_blocks.", "unet.")


def save_adapter(
    adapter: Adapter, path: Path, *, precision: str = "bf16", training: Mapping[str, object] | None = None
) -> None:
    """The adapter stands at path, whole; a file that stood there survives any failure.

    precision  of the numbers in the file: fp32, bf16 or fp16
    training   what is worth telling of how it was trained, as JSON takes it; never paths or captions

    Raises NotSaved, and BadAdapter where a number is not finite.
    """
    if precision not in PRECISIONS:
        raise NotSaved(
            f"the precision is {precision!r}", f"one of {', '.join(PRECISIONS)} was expected", "use bf16, or fp32"
        )
    tensors = {name: x.detach().to("cpu", PRECISIONS[precision]) for name, x in adapter.state_dict().items()}
    check_numbers(tensors, path.name)
    about = {**params_to_json(adapter.params), "precision": precision, "code_version": VERSION}
    metadata = {
        "format": FORMAT,
        "version": str(FORMAT_VERSION),
        "family": adapter.params.family,
        "about": json.dumps(about),
        "training": json.dumps(dict(training or {})),
    }
    write_tensors(path, tensors, metadata)


def load_adapter(path: Path, *, family: str | None = None) -> Adapter | PooledAdapter:
    """The adapter of a file, frozen, in the file's precision: ours, or one of the public ancestors.

    family  name of the model's family; another one is refused

    Raises BadAdapter for a file that is missing, cut short, not finite, no adapter, a U-Net's, of a newer
    format version, or made for another family.
    """
    tensors, metadata = read_file(path)
    check_numbers(tensors, path.name)
    adapter = _build(path, tensors, metadata) if metadata.get("format") == FORMAT else read_ancestor(tensors)
    if adapter is None:
        raise _foreign(path, tensors)
    check_family(adapter.params, family, path.name)
    return adapter


def check_family(params: AdapterParams, family: str | None, name: str = "the adapter") -> None:
    """Nothing, or BadAdapter where the adapter was made for another family of models."""
    if family is not None and params.family != family:
        raise BadAdapter(
            f'"{name}" is an adapter for {params.family}',
            f"one for {family} was expected",
            "load the model that it was made for, or an adapter for this one",
        )


def check_vision(params: AdapterParams, width: int, layers: int) -> None:
    """Nothing, or BadAdapter where the CLIP vision model has another width or depth than the adapter reads.

    width   of the hidden states; of the pooled vector where `params.vision_output` names one
    layers  of the vision model; looked at only where hidden states are read
    """
    has_depth = params.vision_output == "states"
    if width != params.vision_width or (has_depth and layers != params.vision_layers):
        of_depth = f" and {params.vision_layers} layers deep" if has_depth else f" ({params.reads})"
        raise BadAdapter(
            f"the CLIP vision model is {width} wide and {layers} layers deep",
            f"one {params.vision_width} wide{of_depth} was expected by the adapter",
            "load the vision model that the adapter was made with",
        )


def read_training(path: Path) -> dict[str, Any]:
    """What a file of ours tells of its training; raises BadAdapter."""
    return dict(json.loads(read_file(path)[1].get("training", "{}")))


def params_to_json(params: AdapterParams) -> dict[str, Any]:
    """The parameters as JSON takes them; `params_from_json` reads them."""
    return dataclasses.asdict(params) | {"blocks": [str(block) for block in params.block_ids]}


def params_from_json(about: Mapping[str, Any]) -> AdapterParams:
    """The parameters that `params_to_json` wrote; other entries are left alone."""
    known = {field.name: about[field.name] for field in dataclasses.fields(AdapterParams)}
    split = (name.split(".") for name in known["blocks"])
    blocks = tuple(BlockId(stream, int(index)) for stream, index in split)
    known["blocks"] = None if blocks == find_mmdit(known["family"]).block_ids else blocks
    known["levels"] = tuple(known["levels"])
    return AdapterParams(**known)


def _build(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Adapter:
    version = metadata.get("version", "")
    if version != str(FORMAT_VERSION):
        raise BadAdapter(
            f'"{path.name}" has format version {version!r}',
            f"version {FORMAT_VERSION} was expected",
            "update the pack" if version.isdigit() and int(version) > FORMAT_VERSION else "save it again",
        )
    try:
        with torch.device("meta"):
            adapter = Adapter(params_from_json(json.loads(metadata["about"])))
        adapter.load_state_dict(dict(tensors), strict=True, assign=True)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, BadAdapter) as error:
        raise BadAdapter(
            f'"{path.name}" has parts that do not fit together',
            "the experts and blocks that its metadata lists were expected",
            "save or download it again",
        ) from error
    return _frozen(adapter)


def _frozen(adapter: Adapter) -> Adapter:
    module: nn.Module = adapter.eval()
    module.requires_grad_(False)
    return adapter


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of a safetensors file, mapped rather than copied; nothing in it is ever executed.

    Raises BadAdapter for a file that is missing, cut short or of torch.save.
    """
    expected = "an image prompt adapter (safetensors) was expected"
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        if path.suffix.lower() in (".bin", ".pt", ".pth", ".ckpt"):
            do = "turn it into safetensors: python -m dci_core adapter-convert --in FILE --out FILE"
            raise BadAdapter(f'"{path.name}" is a file of torch.save, which could run code', expected, do) from error
        what = "is cut short, damaged or no safetensors file" if path.is_file() else "could not be read"
        raise BadAdapter(f'"{path.name}" {what}', expected, "check the path, or download it again") from error


def check_numbers(tensors: Mapping[str, Tensor], name: str) -> None:
    """Nothing, or BadAdapter when a number is NaN or infinite."""
    try:
        check_finite(tensors, name)
    except BadConcept as error:
        raise BadAdapter(error.came, error.expected, error.do) from error


def _foreign(path: Path, tensors: Mapping[str, Tensor]) -> BadAdapter:
    is_unet = any(key.startswith(UNET_KEYS) for key in tensors)
    return BadAdapter(
        f'"{path.name}" is {"a U-Net or a checkpoint with one" if is_unet else "no image prompt adapter"}',
        "a DynaIP adapter, or the FLUX IP-Adapter of XLabs or InstantX, was expected",
        "choose another file",
    )
