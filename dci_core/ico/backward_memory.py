"""What a forward pass would keep for its backward pass, counted without keeping it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any

from torch import Tensor, is_tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

Seen = Mapping[int, StorageWeakRef]


class Tally:
    """Bytes of the tensors that were noted; memory that several of them share counts once, that of `seen` never."""

    def __init__(self, seen: Seen) -> None:
        self.count = 0
        self.seen: dict[int, StorageWeakRef] = dict(seen)

    def note(self, tensor: Tensor) -> int:
        """Counts the tensor's memory, unless it was seen and not let go since (then it is another tensor's); returns
        the bytes that were counted.
        """
        storage = tensor.untyped_storage()
        place = storage.data_ptr() or -storage._cdata  # on `meta` nothing has an address
        if place in self.seen and not self.seen[place].expired():  # type: ignore[no-untyped-call]  # torch gives it no types
            return 0
        self.seen[place] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        self.count += storage.nbytes()
        return storage.nbytes()


class KeptBytes:
    """Inside `with`, every tensor that autograd would save is counted and let go: memory stays that of inference.

    The memory of `networks` (their weights) never counts; weights that a host casts for each layer do.
    No backward pass can be taken through what was computed inside.
    """

    def __init__(self, networks: Iterable[nn.Module] = ()) -> None:
        weights = Tally({})
        for network in networks:
            for weight in (*network.parameters(), *network.buffers()):
                weights.note(weight)
        self._weights = weights.seen
        self._all, self._outside = Tally(self._weights), Tally(self._weights)
        self._inside: Tally | None = None
        self._casts: Counter[int] = Counter()
        self._cast_bytes = self._block = 0
        self._hooks = saved_tensors_hooks(self._pack, _unpack)

    @property
    def count(self) -> int:
        """Bytes so far."""
        return self._all.count

    @property
    def recomputed(self) -> int:
        """The most that is held at once where watched blocks are computed again: their inputs and all that is outside
        them, and what the largest keeps and the gradients of that.
        """
        return self._outside.count + self._block

    def watched(self, forward: Callable[..., Any], casts: Iterable[int] = ()) -> Callable[..., Any]:
        """The forward of a block that could be computed again.

        casts  bytes of each of its weights in the type that it computes in, where it is stored in another: such memory
               may be kept too, and has no gradients
        """

        def run(*args: Any, **kwargs: Any) -> Any:
            if self._inside is not None:
                return forward(*args, **kwargs)
            for value in filter(is_tensor, (*args, *kwargs.values())):
                self._outside.note(value)
            self._inside, self._casts, self._cast_bytes = Tally(self._weights), Counter(casts), 0
            try:
                return forward(*args, **kwargs)
            finally:
                found, self._inside = self._inside.count, None
                self._block = max(self._block, 2 * found - self._cast_bytes)

        return run

    def __enter__(self) -> KeptBytes:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: Tensor) -> None:
        self._all.note(tensor)
        found = (self._outside if self._inside is None else self._inside).note(tensor)
        if self._inside is not None and self._casts[found] > 0:
            self._casts[found] -= 1
            self._cast_bytes += found


def _unpack(nothing: object) -> Tensor:
    raise RuntimeError("nothing was kept for a backward pass while its memory was counted")
