"""A pretend accelerator: tensors that say they lie on another device, while their numbers stay on the CPU.

Inside `with Accelerator():` everything made on, or moved to, `DEVICE` is such a tensor. Mixing it with a tensor of the
CPU raises where a real accelerator would, and what makes the CPU wait for a real one is counted.

The device is called `meta`: torch knows it everywhere and guards it, and it has no memory of its own. Three ways past
torch's dispatcher lose numbers there, and are closed here: `torch.tensor(numbers, device=...)` leaves memory unfilled
on `meta`, `parameter.data = ...` swaps a tensor behind its wrapper's back, and `tolist` refuses wrapped tensors.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE, CPU = torch.device("meta"), torch.device("cpu")
READS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive",
    "multinomial", "bincount", "histc", "_linalg_svd", "_linalg_eigh",
}  # fmt: skip  # the CPU must see numbers of the device, or how many there are
COPIES = {"_to_copy", "copy_", "copy"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}  # takes indices of the CPU too
TAKES_NUMBERS = {"where", "lerp", "lerp_", "fill_"}  # beside pointwise operations: one number of the CPU
FREE = {"empty", "empty_like", "empty_strided", "new_empty", "detach", "alias"}  # nothing for the device to do
WHOLE = {"to", "item"}
MAKERS = (torch.tensor, torch.as_tensor, torch.asarray)
OURS = ("/torch/", "/einops/", Path(__file__).name)


class OnDevice(Tensor):
    """A tensor of the pretend device; `inner` holds its numbers."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type[OnDevice], inner: Tensor) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]  # torch gives it no types
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=DEVICE,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function} met a tensor of the pretend device outside of `with Accelerator()`")

    @property
    def data(self) -> Tensor:
        """The tensor without its history."""
        return self.detach()

    @data.setter
    def data(self, value: OnDevice) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.inner = value.inner

    def tolist(self) -> Any:
        """The numbers, which makes the CPU wait."""
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"OnDevice({self.inner})"


class Accelerator(TorchDispatchMode):
    """Runs operations on `DEVICE` on the numbers, and counts them.

    waits     (what, line of code) -> how often the CPU would have waited for the device
    launches  operations that the device would have run
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.launches = 0
        self._makers = _Makers()

    def __enter__(self) -> Accelerator:
        self._makers.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._makers.__exit__(*error)

    def taken(self) -> tuple[int, int]:
        """(waits, launches) since the last call."""
        counts = sum(self.waits.values()), self.launches
        self.waits.clear()
        self.launches = 0
        return counts

    def told(self) -> str:
        """The waits, one a line, for a message."""
        return "\n".join(f"{count} x {what} at {place}" for (what, place), count in self.waits.most_common())

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function.overloadpacket.__name__ in WHOLE:  # inference mode leaves these whole
            function, args, kwargs = taken_apart(function, args, kwargs)
            if function is None:
                return args[0]
        flat, spec = tree_flatten((args, kwargs))
        asked = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        if asked != DEVICE and not any(isinstance(x, OnDevice) for x in flat):
            return function(*args, **kwargs)
        name = function.overloadpacket.__name__
        if name == "_has_compatible_shallow_copy_type":
            return all(isinstance(x, OnDevice) for x in flat)
        refuse_mixing(function, name, flat)
        what = wait_of(name, args, kwargs, asked)
        if what is not None:
            self.waits[what, calling_line()] += 1
        if name not in FREE and not _is_view(function):
            self.launches += 1
        inner_args, inner_kwargs = tree_unflatten([x.inner if isinstance(x, OnDevice) else x for x in flat], spec)
        if asked == DEVICE:
            inner_kwargs["device"] = CPU
        out = function(*inner_args, **inner_kwargs)
        if function._schema.is_mutable:
            return _written(function, args, kwargs, out)
        if name in COPIES and asked == CPU:
            return out
        is_plain = _is_view(function) and not any(x.is_inference() for x in flat if isinstance(x, OnDevice))
        with torch.inference_mode(False) if is_plain else nullcontext():  # a view is of the kind of what it looks at
            return tree_map(_wrapped, out)


class _Makers(TorchFunctionMode):
    """`torch.tensor` and its like leave memory on `meta` unfilled: they make the tensor on the CPU and move it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if function in MAKERS and device is not None and not isinstance(args[0], Tensor):
            if torch.device(device) == DEVICE:
                return function(*args, **{**kwargs, "device": CPU}).to(DEVICE)
        elif function is Tensor.new_tensor and isinstance(args[0], OnDevice):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(DEVICE)
        return function(*args, **kwargs)


def taken_apart(function: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """`to` as the copy and `item` as the read that they are; no function where there is nothing to do."""
    if function.overloadpacket is torch.ops.aten.item:
        return torch.ops.aten._local_scalar_dense.default, args, {}
    given = {argument.name: value for argument, value in zip(function._schema.arguments, args, strict=False)} | kwargs
    x, other = args[0], given.get("other")
    dtype = given.get("dtype") or (other.dtype if other is not None else x.dtype)
    device = torch.device(given.get("device") or (other.device if other is not None else x.device))
    if (dtype, device) == (x.dtype, x.device) and not given.get("copy"):
        return None, args, {}
    how = {"dtype": dtype, "device": device, "non_blocking": bool(given.get("non_blocking"))}
    return torch.ops.aten._to_copy.default, (x,), how


def refuse_mixing(function: Any, name: str, flat: list[Any]) -> None:
    """Raises where a real accelerator refuses tensors of the CPU beside its own."""
    if name in COPIES or name in INDEXING or not any(isinstance(x, OnDevice) for x in flat):
        return
    takes_numbers = torch.Tag.pointwise in function.tags or name.startswith("_foreach") or name in TAKES_NUMBERS
    strangers = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, OnDevice)]
    bad = [tuple(x.shape) for x in strangers if x.ndim or not takes_numbers]
    if bad:
        raise RuntimeError(f"Expected all tensors to be on the same device; {name} got tensors of the CPU, {bad}")


def wait_of(name: str, args: Any, kwargs: dict[str, Any], asked: torch.device | None) -> str | None:
    """What a real device would make the CPU wait for in this operation, or None."""
    if name in READS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        return name
    if name in ("_to_copy", "copy_"):
        source, is_async = (args[0] if name == "_to_copy" else args[1]), bool(kwargs.get("non_blocking"))
        if name == "copy_":
            is_async, asked = is_async or (len(args) > 2 and bool(args[2])), args[0].device
        if isinstance(source, OnDevice):
            return "a copy to the CPU" if asked == CPU else None
        return None if asked != DEVICE or is_async or (name == "copy_" and not source.ndim) else "a copy from the CPU"
    if name in INDEXING:
        indices = [x for x in args[1] if x is not None]
        if any(x.dtype in (torch.bool, torch.uint8) for x in indices):
            return "an index that is a mask"
        return None if all(isinstance(x, OnDevice) for x in indices) else "an index of the CPU"
    return None


def calling_line() -> str:
    """The innermost line of code that is neither torch's nor this file's."""
    frames = (f for f in reversed(traceback.extract_stack(limit=40)) if not any(part in f.filename for part in OURS))
    frame = next(frames)
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}: {frame.line}"


def numbers(x: Tensor) -> Tensor:
    """A tensor of either device on the CPU, not counted."""
    return x.inner if isinstance(x, OnDevice) else x.detach()


def _wrapped(x: Any) -> Any:
    return OnDevice(x) if isinstance(x, Tensor) else x


def _is_view(function: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in function._schema.returns)


def _written(function: Any, args: Any, kwargs: dict[str, Any], out: Any) -> Any:
    """What a writing operation returns: the very tensors that it wrote to, new ones beside them."""
    schema = function._schema
    targets: Iterator[Any] = (
        args[place] if place < len(args) else kwargs.get(argument.name)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    if not schema.returns:
        return None
    values = out if len(schema.returns) > 1 else (out,)
    back = tuple(
        next(targets) if result.alias_info is not None and result.alias_info.is_write else tree_map(_wrapped, value)
        for result, value in zip(schema.returns, values, strict=True)
    )
    return back if len(back) > 1 else back[0]
