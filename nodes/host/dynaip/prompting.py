"""Image prompts as a model patch: two keyed wrappers on a clone, nothing else.

Around the whole run, each reference's keys and values are computed once and every conditioning is marked as reading or
not. Around each model call, the rules of the references that are read at this noise level are put into the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import BadSettings
from ..attention.joint import CallFrame, with_sites
from ..families.mmdit import mmdit_of, token_grid
from ..model_call import ModelCall
from ..region_frame import trouble_of_region
from .prompted_run import PromptedRun
from .readings import KEY, HeldReference, ReadingRecord

TAG = "ico_dynaip_reads"  # keyword of the model call: 1 for each row that reads, 0 for negative ones
Wrapper = Callable[..., Tensor]
UNREAD = (
    "no block of the model read the subject, since another node runs the model in a way of its own (as TeaCache does); "
    "its picture is the one without DynaIP; take that node off this model"
)


def with_reference(model: Any, reference: HeldReference) -> tuple[Any, ReadingRecord]:
    """(clone of the model that reads one more subject, record of its last run).

    Off means off: a subject that no block, no step or no row reads leaves the clone as the model was. Raises BadModel
    and BadAdapter for anything but an MM-DiT of the adapter's family.
    """
    from comfy.patcher_extension import WrappersMP

    reference.adapter.check_family(mmdit_of(model))
    clone, record = model.clone(), ReadingRecord()
    references = (*references_on(model), *([reference] if is_on(reference) else []))
    if references:
        run = PromptedRun(references, record)
        clone.set_attachments(KEY, references)
        for kind, wrapper in ((WrappersMP.OUTER_SAMPLE, around_run(run)), (WrappersMP.APPLY_MODEL, around_call(run))):
            clone.remove_wrappers_with_key(kind, KEY)
            clone.add_wrapper_with_key(kind, KEY, wrapper)
    return clone, record


def references_on(model: Any) -> tuple[HeldReference, ...]:
    """The subjects that a model reads already, in the order of their Apply nodes."""
    return tuple(model.get_attachment(KEY) or ())


def is_on(reference: HeldReference) -> bool:
    """Whether anything would ever be read."""
    subject = reference.subject
    blocks = reference.adapter.blocks if subject.blocks is None else reference.adapter.blocks & subject.blocks
    nowhere = subject.region is not None and not bool(subject.region.any()) and not subject.text_scale
    return bool((subject.scale or subject.text_scale) and blocks and subject.start < subject.end and not nowhere)


def around_run(run: PromptedRun) -> Wrapper:
    """Wrapper of the host's outer sample: prepares what the run needs and releases it afterwards."""

    def wrapper(executor: Any, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        guider = executor.class_obj
        patcher = guider.model_patcher
        run.begin(noise, (patcher.load_device, compute_dtype(patcher.model)))
        warn_of_misplaced_regions(run)
        guider.conds = marked(guider.conds)
        try:
            return executor(noise, *args, **kwargs)
        finally:
            run.end()

    return wrapper


def warn_of_misplaced_regions(run: PromptedRun) -> None:
    """Says so where a region may lie over a part of the picture that it was drawn for."""
    for reference in run.references:
        region, size = reference.subject.region, run.size
        trouble = size and trouble_of_region(region, (size[0], size[1]), "set the subject to read everywhere")
        if trouble:
            run.record.warn(trouble)


def marked(conds: Mapping[str, Sequence[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The same conditionings, each told whether its rows read references: all but those named negative."""
    from comfy.conds import CONDRegular

    out = {}
    for name, entries in conds.items():
        tag = CONDRegular(torch.tensor([[float("negative" not in name)]]))
        out[name] = [{**entry, "model_conds": {**entry.get("model_conds", {}), TAG: tag}} for entry in entries]
    return out


def compute_dtype(model: Any) -> torch.dtype:
    """What a host's model computes in, whatever its weights are kept in."""
    return getattr(model, "manual_cast_dtype", None) or model.get_dtype()


def around_call(run: PromptedRun) -> Wrapper:
    """Wrapper of the host's model call: puts in the rules of the references that are read now."""

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        tags, call = ModelCall.of(*args, **kwargs).split_mark(TAG)
        model, sigma, x = executor.class_obj, float(call.t.max()), call.x
        reads, frame = reading_rows(tags, call.options, x.shape[0]), None
        if bool(reads.any()):
            run.step_to(sigma, 0 if call.c_crossattn is None else call.c_crossattn.shape[1])
            numbers = run.read_at(sigma, model.model_sampling)
            refuse_areas(run, x)
            sites = run.sites_of(numbers, model, (x.device, compute_dtype(model)))
            frame = CallFrame(token_grid(model, *x.shape[-2:]), reads) if sites else None
        if frame is not None:
            call = call.with_options(with_sites(call.options, frame, sites))
        out = call.run(executor)
        if frame is not None and not run.was_reached(frame):
            run.record.warn(UNREAD)
        run.record.file(sigma)
        return out

    return wrapper


def reading_rows(tags: Tensor | None, options: Mapping[str, Any], size: int) -> Tensor:
    """[b] on the CPU, 1 where a row reads references: by the conditionings' marks, else by the host's own numbers."""
    if tags is not None:
        return tags.detach().float().cpu().reshape(-1)
    chunks = options.get("cond_or_uncond") or [0]
    return torch.tensor([float(kind == 0) for kind in chunks]).repeat_interleave(size // len(chunks))


def refuse_areas(run: PromptedRun, x: Tensor) -> None:
    """A region is of the whole picture; a conditioning of a part of it would see it squeezed. Raises BadSettings."""
    has_region = any(each.subject.region is not None or each.noun for each in run.references)
    if has_region and run.size is not None and tuple(x.shape[-2:]) != run.size:
        raise BadSettings(
            "a conditioning with an area of its own meets a subject with a region",
            "either of them is expected, since each says where something is drawn",
            "leave the area out, or set the subject to read everywhere",
        )
