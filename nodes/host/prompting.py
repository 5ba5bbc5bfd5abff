"""Image prompts as a model patch: two keyed wrappers on a clone, nothing else.

Around the whole run, each reference's keys and values are computed once and every conditioning is marked as reading or
not. Around each model call, the rules of the subjects that are read at this noise level are put into the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...dci_core.errors import BadSettings
from ...dci_core.image_prompt.decoupled import SubjectKV, image_prompt_rule
from ...dci_core.image_prompt.joint import BlockId
from .joint import CallFrame, Site, with_sites
from .mmdit import image_first_blocks, mmdit_of, token_grid
from .readings import KEY, ReadingRecord, Reference

TAG = "ico_dynaip_reads"  # keyword of the model call: 1 for each row that reads, 0 for negative ones
Wrapper = Callable[..., Tensor]


def with_reference(model: Any, reference: Reference) -> tuple[Any, ReadingRecord]:
    """(clone of the model that reads one more subject, record of its last run).

    Off means off: a subject that no block, no step or no row reads leaves the clone as the model was. Raises BadModel
    for anything but a MM-DiT of the adapter's family.
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


def references_on(model: Any) -> tuple[Reference, ...]:
    """The subjects that a model reads already, in the order of their Apply nodes."""
    return tuple(model.get_attachment(KEY) or ())


def is_on(reference: Reference) -> bool:
    """Whether anything would ever be read."""
    subject = reference.subject
    blocks = reference.adapter.blocks if subject.blocks is None else reference.adapter.blocks & subject.blocks
    nowhere = subject.region is not None and not bool(subject.region.any()) and not subject.text_scale
    return bool((subject.scale or subject.text_scale) and blocks and subject.start < subject.end and not nowhere)


@dataclass(eq=False)
class PromptedRun:
    """What lasts for one run of a model: keys and values, rules, and the picture's size; released at its end.

    kept  (place of a reference's tokens, device, dtype) -> its keys and values; as many as there are references
    """

    references: tuple[Reference, ...]
    record: ReadingRecord
    kept: dict[tuple[int, torch.device, torch.dtype], SubjectKV] = field(default_factory=dict)
    sites: dict[tuple[tuple[int, ...], torch.device, torch.dtype], dict[BlockId, Site]] = field(default_factory=dict)
    size: tuple[int, ...] | None = None

    def clear(self) -> None:
        """Releases everything."""
        self.kept.clear()
        self.sites.clear()
        self.size = None

    def kv(self, number: int, device: torch.device, dtype: torch.dtype) -> SubjectKV:
        """Keys and values of one reference, computed on first use."""
        reference = self.references[number]
        first = next(i for i, other in enumerate(self.references) if is_same_reading(other, reference))
        key = (first, device, dtype)
        if key not in self.kept:
            self.kept[key] = reference.adapter.keys_and_values(reference.tokens, device, dtype)
        return self.kept[key]

    def sites_of(
        self, numbers: tuple[int, ...], model: Any, device: torch.device, dtype: torch.dtype
    ) -> Mapping[BlockId, Site]:
        """What happens in each block while these subjects are read."""
        key = (numbers, device, dtype)
        if key not in self.sites:
            self.sites[key] = self.make_sites(numbers, model, device, dtype)
        return self.sites[key]

    def make_sites(
        self, numbers: tuple[int, ...], model: Any, device: torch.device, dtype: torch.dtype
    ) -> dict[BlockId, Site]:
        """One rule for all subjects whose adapters add at the same place, in every block that any of them reads."""
        rules: dict[BlockId, list[tuple[Any, str]]] = {}
        for place in ("attention", "stream"):
            own = [k for k in numbers if self.references[k].adapter.place == place]
            if not own:
                continue
            kvs, subjects = [self.kv(k, device, dtype) for k in own], [self.references[k].subject for k in own]
            rule = image_prompt_rule(kvs, subjects, observe=self.record.observer(own))
            for block in {block for kv, s in zip(kvs, subjects, strict=True) for block in kv if s.is_read(block)}:
                rules.setdefault(block, []).append((rule, place))
        flipped = image_first_blocks(model)
        return {block: Site(tuple(found), block in flipped) for block, found in sorted(rules.items())}

    def read_at(self, sigma: float, sampling: Any) -> tuple[int, ...]:
        """Numbers of the subjects that are read at this noise level: from start on and before end."""
        return tuple(k for k, each in enumerate(self.references) if is_read_at(each, sigma, sampling))


def is_same_reading(one: Reference, other: Reference) -> bool:
    """Whether two references have the same keys and values."""
    return one.adapter is other.adapter and (one.tokens is other.tokens or torch.equal(one.tokens, other.tokens))


def is_read_at(reference: Reference, sigma: float, sampling: Any) -> bool:
    """Whether a noise level lies in the reference's part of the schedule."""
    subject = reference.subject
    begins = sigma <= float(sampling.percent_to_sigma(subject.start))
    return begins and (subject.end >= 1 or sigma > float(sampling.percent_to_sigma(subject.end)))


def around_run(run: PromptedRun) -> Wrapper:
    """Wrapper of the host's outer sample: prepares what the run needs and releases it afterwards."""

    def wrapper(executor: Any, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        guider = executor.class_obj
        run.clear()
        run.record.clear()
        patcher = guider.model_patcher
        run.size = tuple(noise.shape[-2:])
        for number in range(len(run.references)):
            run.kv(number, patcher.load_device, compute_dtype(patcher.model))
        guider.conds = marked(guider.conds)
        try:
            return executor(noise, *args, **kwargs)
        finally:
            run.clear()
            run.record.settle()

    return wrapper


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
    """Wrapper of the host's model call: puts in the rules of the subjects that are read now."""

    def wrapper(
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: dict[str, Any] | None = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        options, model, sigma = transformer_options or {}, executor.class_obj, float(t.max())
        reads = reading_rows(kwargs.pop(TAG, None), options, x.shape[0])
        numbers = run.read_at(sigma, model.model_sampling) if bool(reads.any()) else ()
        if numbers:
            refuse_areas(run, numbers, x)
            sites = run.sites_of(numbers, model, x.device, compute_dtype(model))
            options = with_sites(options, CallFrame(token_grid(model, *x.shape[-2:]), reads), sites)
        out = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        run.record.file(sigma)
        return out

    return wrapper


def reading_rows(tags: Tensor | None, options: Mapping[str, Any], size: int) -> Tensor:
    """[b] on the CPU, 1 where a row reads references: by the conditionings' marks, else by the host's own numbers."""
    if tags is not None:
        return tags.detach().float().cpu().reshape(-1)
    chunks = options.get("cond_or_uncond") or [0]
    return torch.tensor([float(kind == 0) for kind in chunks]).repeat_interleave(size // len(chunks))


def refuse_areas(run: PromptedRun, numbers: Sequence[int], x: Tensor) -> None:
    """A region is of the whole picture; a conditioning of a part of it would see it squeezed. Raises BadSettings."""
    has_region = any(run.references[k].subject.region is not None for k in numbers)
    if has_region and run.size is not None and tuple(x.shape[-2:]) != run.size:
        raise BadSettings(
            "a conditioning with an area of its own meets a subject with a region",
            "either of them is expected, since each says where something is drawn",
            "leave the area out, or set the subject to read everywhere",
        )
