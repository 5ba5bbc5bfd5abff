"""From a pickled IP-Adapter (.bin) to safetensors, with weights-only loading: no code of the file ever runs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import BadAdapter
from ..files import stream_tensors
from .adapter import AdapterParams
from .adapter_file import check_numbers
from .ancestors import read_ancestor
from .families import MmditFamily


def convert_bin(path_in: Path, path_out: Path, family: MmditFamily | None = None) -> AdapterParams:
    """The adapter's parameters, after its tensors stand at path_out under their own flat key names.

    path_in  a file of torch.save with an XLabs or InstantX state dict, nested or flat
    family   the family it was made for, FLUX where it is None

    Raises BadAdapter for anything else, NotSaved where path_out takes no file.
    """
    tensors = dict(flat_tensors(_load(path_in), path_in.name))
    adapter = read_ancestor(tensors, family)
    if adapter is None:
        raise BadAdapter(
            f'"{path_in.name}" holds neither key names of XLabs nor of InstantX',
            "one of their IP-Adapters for FLUX was expected",
            "choose another file",
        )
    check_numbers(tensors, path_in.name)
    stream_tensors(path_out, tensors, {"format": "pt"})
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


def _load(path: Path) -> object:
    if path.suffix.lower() == ".safetensors":
        raise BadAdapter(
            f'"{path.name}" is a safetensors file already', "a .bin file was expected", "load it in the node as it is"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadAdapter(
            f'"{path.name}" could not be read ({error.strerror or error})', "a .bin file was expected", "check the path"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BadAdapter(
            f'"{path.name}" holds more than tensors, or is damaged',
            "a file of torch.save with tensors alone was expected",
            "download it again",
        ) from error
