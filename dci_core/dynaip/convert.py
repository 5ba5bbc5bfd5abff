"""A public IP-Adapter's file as safetensors, with the vision model's pooling head where one is given.

Of a file of torch.save (.bin) nothing but tensors is read: no code in it ever runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from ..errors import BadAdapter
from ..families.mmdit import MmditFamily
from ..files import write_tensors
from ..torch_files import load_weights_only
from .adapter import AdapterParams
from .adapter_file import check_numbers, read_file
from .ancestors import PooledAdapter, read_ancestor
from .pooling_head import HEAD_PREFIX, read_head

BIN = "a file of torch.save (.bin) with tensors alone was expected"


def convert_adapter(
    path_in: Path, path_out: Path, family: MmditFamily | None = None, *, vision: Path | None = None
) -> AdapterParams:
    """The adapter's parameters, after its tensors stand at path_out under their own flat key names.

    path_in  a file of torch.save with an XLabs or InstantX state dict, nested or flat; with `vision` also safetensors
    family   the family it was made for, FLUX where it is None
    vision   safetensors of the SigLIP whose pooling head goes into the file, in place of one that it may hold

    Raises BadAdapter for anything else, NotSaved where path_out takes no file.
    """
    tensors = _load(path_in, may_be_safe=vision is not None)
    adapter = _recognised(tensors, path_in.name, family)
    if vision is not None:
        own = {key: x for key, x in tensors.items() if not key.startswith(HEAD_PREFIX)}
        tensors = {**own, **_head_for(adapter.params, vision, path_in.name)}
        adapter = _recognised(tensors, path_in.name, family)
    check_numbers(tensors, path_in.name)
    write_tensors(path_out, tensors, {"format": "pt"})
    return adapter.params


def flat_tensors(state: object, name: str, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """(key, tensor) of nested dicts, keys joined by dots; raises BadAdapter for anything else in them."""
    if isinstance(state, Tensor) and prefix:
        yield prefix, state
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from flat_tensors(value, name, f"{prefix}.{key}" if prefix else str(key))
    else:
        raise BadAdapter(
            f'"{name}" holds a {type(state).__name__} at {prefix or "its top"}',
            "named tensors alone were expected",
            "choose another file",
        )


def _recognised(tensors: Mapping[str, Tensor], name: str, family: MmditFamily | None) -> PooledAdapter:
    adapter = read_ancestor(tensors, family)
    if adapter is None:
        raise BadAdapter(
            f'"{name}" holds neither key names of XLabs nor of InstantX',
            "one of their IP-Adapters for FLUX was expected",
            "choose another file",
        )
    return adapter


def _head_for(params: AdapterParams, vision: Path, name: str) -> dict[str, Tensor]:
    """The head in a vision model's file, by its keys in an adapter's file; raises BadAdapter where it does not fit."""
    if params.vision_output == "projected":
        raise BadAdapter(
            f'"{name}" is an adapter of XLabs, which needs no pooling head',
            "one of InstantX was expected beside a vision model",
            "leave --vision out",
        )
    head = read_head(vision)
    check_numbers(head, vision.name)
    if (width := head["probe"].shape[-1]) != params.vision_width:
        raise BadAdapter(
            f'the pooling head in "{vision.name}" is {width} wide',
            f'one {params.vision_width} wide is read by "{name}"',
            "give the SigLIP that the adapter was made with",
        )
    return {f"{HEAD_PREFIX}{key}": x for key, x in head.items()}


def _load(path: Path, *, may_be_safe: bool) -> dict[str, Tensor]:
    if path.suffix.lower() != ".safetensors":
        return dict(flat_tensors(load_weights_only(path, BIN, BadAdapter), path.name))
    if may_be_safe:
        return read_file(path)[0]
    raise BadAdapter(
        f'"{path.name}" is a safetensors file already',
        "a .bin file was expected, or --vision with the file of a SigLIP",
        "load it in the node as it is, or add --vision where the adapter is InstantX's",
    )
