"""The dual branch as a model patch: two keyed wrappers on a clone, nothing else.

Around the whole run, noise, latent, mask and conditionings get the branch axis and the result loses it again. Around
each model call, the rows that need not run are left out and the attention rule is put in for those that do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from ....dci_core.dci.branches import auxiliary_seed, for_all, pair, unpair
from ....dci_core.dci.dbim import dbim_rule
from ....dci_core.dci.row_plan import rows_of_pair
from ....dci_core.dci.stability import window_warning
from ....dci_core.errors import BadModel
from ....dci_core.noise.schedule import is_open, open_steps, window_threshold
from ..attention.joint_rule import with_attention_rule
from ..families.sampling import borrowed_share, level_at
from ..model_call import ModelCall
from .beside import RUN, BesideGuests
from .conds import check_marked, doubled_mask, paired_conds, unlike_texts
from .controls import branch_controls
from .guests import SUBJECTS, guests_of, put_innermost, troubles_of
from .levels import remembered, sigma_of
from .noise import freshness, start_noise, with_branch_noise
from .plan import KEY, DbimRecord, DciPatch
from .regions import region_for
from .replaying import call_in_halves, can_replay
from .rows import call_over
from .run_warnings import (
    warn_of_black_region,
    warn_of_changed_text,
    warn_of_distilled_guidance,
    warn_of_misplaced_region,
    warn_of_missing_concept,
    warn_of_overshoot,
)
from .tags import NAME, plain
from .together import apart_rule, projections_shown, ruled_layers

Wrapper = Callable[..., Tensor]


def with_dci(model: Any, patch: DciPatch) -> tuple[Any, DbimRecord]:
    """(clone of the model with the dual branch, record of its last run). An earlier DCI on it gives way to this one.

    Off means off: with a closed window or without a layer that has a share, the clone carries nothing. Raises
    BadSettings for a window outside 0..1.
    """
    from comfy.patcher_extension import WrappersMP

    clone, record = model.clone(), DbimRecord()
    threshold_of(patch, clone.get_model_object("model_sampling"))
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.APPLY_MODEL):
        clone.remove_wrappers_with_key(kind, KEY)
    if patch.settings.window > 0 and any(patch.dbim.shares.values()):
        clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, around_run(patch, record))
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, around_call(patch, record))
        put_innermost(clone, WrappersMP.APPLY_MODEL, SUBJECTS)
    return clone, record


def threshold_of(patch: DciPatch, sampling: Any) -> float:
    """Noise above which the patch acts, by the model's own clock; raises BadModel where that has no such level."""
    return window_threshold(patch.settings.window, partial(level_at, sampling))


def around_run(patch: DciPatch, record: DbimRecord) -> Wrapper:
    """Wrapper of the host's outer sample: carries both branches through one run, returns the concept's latent."""

    def wrapper(
        executor: Any,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Callable[..., None] | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        # Which steps are in the window
        guider = executor.class_obj
        record.clear()
        record.size = (int(noise.shape[-2]), int(noise.shape[-1]))
        refuse_nested(noise, kwargs.get("latent_shapes"))
        refuse_film(noise)
        sampling = guider.model_patcher.get_model_object("model_sampling")
        threshold = threshold_of(patch, sampling)
        record.steps, record.acted = len(sigmas) - 1, len(open_steps(sigmas.tolist(), threshold))
        if too_low := window_warning(sigmas.tolist(), threshold):
            record.warn(too_low)
            rest = (denoise_mask, callback, disable_pbar, seed, *args)
            record.end()
            return executor(noise, latent_image, sampler, sigmas, *rest, **kwargs)
        # What the user should know before the first step
        warn_of_missing_concept(guider.model_patcher, record)
        warn_of_distilled_guidance(guider, record)
        warn_of_black_region(patch, record)
        warn_of_misplaced_region(patch, record)
        warn_of_overshoot(
            patch, record, getattr(guider, "cfg", None), sampling, [*sigmas.tolist(), threshold], freshness(sampler)
        )
        # The auxiliary branch's own noise, conditioning and latent
        own_seed, is_one = patch.settings.auxiliary_seed, patch.settings.one_auxiliary
        other_seed = auxiliary_seed(seed or 0) if own_seed is None else own_seed
        other = noise if patch.settings.guidance == "aligned" else for_all(start_noise(noise, other_seed, seed), is_one)
        check_marked(guider.conds, patch.plan)
        warn_of_changed_text(guider.conds, patch.plan, record)
        record.guests = (*guests_of(guider), *unlike_texts(guider.conds, patch.plan, not patch.is_joint))
        if record.guests:
            for sentence in troubles_of(guider):
                record.warn(sentence)
            run = BesideGuests(patch, record, guider, other, threshold, partial(watch, sigmas, threshold, record))
            mine = run.around(sampler, with_branch_noise(sampler, other_seed, is_one))
            rest = (denoise_mask, callback, disable_pbar, seed, *args)
            with told_of(guider, run):
                concept = executor(noise, latent_image, mine, sigmas, *rest, **kwargs)
            record.settle(guider.model_patcher.model.process_latent_out)
            record.end()
            return concept
        controls = branch_controls(
            lambda tags, num, sigma: patch.rows(tags, num, is_open(sigma, threshold)), patch.hints
        )
        guider.conds = paired_conds(guider.conds, patch.plan, controls)
        latent = pair(latent_image, for_all(latent_image, is_one))
        if "latent_shapes" in kwargs:
            kwargs["latent_shapes"] = [latent.shape]
        # Both branches through the host's sampler; the concept's comes back
        both = executor(
            pair(noise, other),
            latent,
            with_branch_noise(sampler, other_seed, is_one),
            sigmas,
            doubled_mask(denoise_mask, is_one),
            watch(sigmas, threshold, record, callback),
            disable_pbar,
            seed,
            *args,
            **kwargs,
        )
        concept, record.final_auxiliary = unpair(both)
        record.settle(guider.model_patcher.model.process_latent_out)
        record.end()
        return concept

    return wrapper


def around_call(patch: DciPatch, record: DbimRecord) -> Wrapper:
    """Wrapper of the host's model call: runs the rows that are needed, with the rule where both branches run."""
    threshold = remembered(partial(threshold_of, patch))

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        run = ModelCall.of(*args, **kwargs).options.get(RUN)
        if run is not None:
            return run.call(executor, ModelCall.of(*args, **kwargs))  # type: ignore[no-any-return]
        tags, call = ModelCall.of(*args, **kwargs).split_mark(NAME)
        if tags is None:
            return call.run(executor)
        sigma = sigma_of(call.t)
        sampling = executor.class_obj.model_sampling
        acts = is_open(sigma, threshold(sampling))
        plan = patch.rows(plain(tags), len(call.options.get("cond_or_uncond") or [0]), acts)
        record.rows, record.plain_rows = record.rows + len(plan.runs), record.plain_rows + plan.num_rows // 2
        tokens, size = patch.plan.tokens, tuple(call.x.shape[-2:])
        areas = [tags[plan.runs[row]].area for row in plan.branches.concept]
        dbim = replace(patch.dbim, region=region_for(patch.dbim.region, areas, record.size, size))
        if patch.replays and can_replay(plan, call.options):
            x0 = call_in_halves(executor, call, plan, dbim, tokens, record.see)
            record.file(sigma)
            return x0
        chosen, rows = call_over(call, plan), rows_of_pair(plain(tags), plan)
        with projections_shown(patch, executor.class_obj.diffusion_model):
            if plan.branches.concept or patch.together is not None:
                rule = dbim_rule(dbim, plan.branches, tokens, call.x.device, record.see, size=size)
                if patch.together is not None:
                    areas = [tags[plan.runs[row]].area for row in rows.concept]
                    rule = apart_rule(patch, rows, areas, record.size, size, call.x.device, rule)
                options = with_attention_rule(chosen.options, ruled_layers(patch), rule, executor.class_obj, size)
                chosen = chosen.with_options(options)
            x0 = chosen.run(executor)
        record.file(sigma)
        return plan.fill(call.x, x0, borrowed_share(sampling, sigma) if plan.borrows else 1.0)

    return wrapper


def watch(
    sigmas: Tensor, threshold: float, record: DbimRecord, callback: Callable[..., None] | None
) -> Callable[..., None]:
    """A step callback that shows the user's one the concept's rows alone and keeps the auxiliary's last estimate."""
    levels = sigmas.tolist()

    def seen(step: int, x0: Tensor, x: Tensor, total: int) -> None:
        concept, auxiliary = unpair(x0)
        if is_open(levels[min(step, len(levels) - 1)], threshold):
            record.auxiliary = auxiliary.clone()
        if callback is not None:
            callback(step, concept, unpair(x)[0], total)

    return seen


@contextmanager
def told_of(guider: Any, run: BesideGuests) -> Iterator[None]:
    """For the time of a run, its model calls find it in their options."""
    kept = guider.model_options
    inner = kept.get("transformer_options", {})
    guider.model_options = {**kept, "transformer_options": {**inner, RUN: run}}
    try:
        yield
    finally:
        guider.model_options = kept


def refuse_nested(noise: Any, latent_shapes: Any) -> None:
    """Models whose latent has several streams have no text cross-attention of the kind that DBIM reads."""
    if getattr(noise, "is_nested", False) or (latent_shapes is not None and len(latent_shapes) > 1):
        raise BadModel(
            "the latent has several streams",
            "one picture latent is expected",
            "use a U-Net model (SD 1.x, SD 2.x, SDXL)",
        )


def refuse_film(noise: Tensor) -> None:
    """Raises BadModel for a latent of several frames."""
    if noise.ndim == 5 and noise.shape[2] > 1:
        raise BadModel(
            f"the latent has {noise.shape[2]} frames",
            "one frame is expected, since DCI draws pictures",
            "use an empty latent of length 1",
        )
