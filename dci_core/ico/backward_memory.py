"""What a forward pass would keep for its backward pass, counted without keeping it."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef


class KeptBytes:
    """Inside `with`, every tensor that autograd would save is counted and let go: memory stays that of inference.

    count  bytes so far; memory that several operations save counts once, that of `networks` (their weights) never

    No backward pass can be taken through what was computed inside.
    """

    def __init__(self, networks: Iterable[nn.Module] = ()) -> None:
        self.count = 0
        self._seen: dict[int, StorageWeakRef] = {}
        for network in networks:
            for weight in (*network.parameters(), *network.buffers()):
                self._is_new(weight)
        self._hooks = saved_tensors_hooks(self._pack, _unpack)

    def __enter__(self) -> KeptBytes:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: Tensor) -> None:
        if self._is_new(tensor):
            self.count += tensor.untyped_storage().nbytes()

    def _is_new(self, tensor: Tensor) -> bool:
        """Whether its memory was not seen, or was let go since and now belongs to another tensor."""
        storage = tensor.untyped_storage()
        place = storage.data_ptr() or -storage._cdata  # on `meta` nothing has an address
        if place in self._seen and not self._seen[place].expired():  # type: ignore[no-untyped-call]  # torch gives it no types
            return False
        self._seen[place] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        return True


def _unpack(nothing: object) -> Tensor:
    raise RuntimeError("nothing was kept for a backward pass while its memory was counted")
