"""One bar over several runs, or over anything counted; the user may cancel at every tick."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

KEY = "ico_dci_progress"


def counter(total: int) -> Callable[[int], None]:
    """What moves a bar of that length on by so many; raises the host's interruption where the user has cancelled."""
    from comfy.model_management import throw_exception_if_processing_interrupted
    from comfy.utils import ProgressBar

    bar = ProgressBar(total)

    def tick(count: int) -> None:
        throw_exception_if_processing_interrupted()
        bar.update(count)

    return tick


class RunsBar:
    """One bar over equal sampling runs of one model, with the host's previews."""

    def __init__(self, model: Any, runs: int, steps: int) -> None:
        from comfy.utils import ProgressBar
        from latent_preview import get_previewer

        self.steps, self.bar = steps, ProgressBar(runs * steps)
        self.painter = get_previewer(model.load_device, model.model.latent_format)

    def told_by(self, model: Any, run: int) -> Any:
        """A clone of the model whose sampling moves this bar, as the run-th run from 0, and no bar of its own.

        It must come before other patches: what wraps a run first is outermost, and sees the user's callback.
        """
        from comfy.model_management import throw_exception_if_processing_interrupted
        from comfy.patcher_extension import WrappersMP

        throw_exception_if_processing_interrupted()

        def seen(step: int, x0: Any, x: Any, total: int) -> None:
            throw_exception_if_processing_interrupted()  # older hosts ask in their own bar alone
            done = round((step + 1) / max(total, 1) * self.steps)
            picture = self.painter.decode_latent_to_preview_image("JPEG", x0) if self.painter else None
            self.bar.update_absolute(run * self.steps + done, preview=picture)

        def wrapper(
            executor: Any, noise: Any, latent: Any, sampler: Any, sigmas: Any, mask: Any = None, callback: Any = None,
            *args: Any, **kwargs: Any,
        ) -> Any:  # fmt: skip
            return executor(noise, latent, sampler, sigmas, mask, seen, *args, **kwargs)

        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, wrapper)
        return clone
