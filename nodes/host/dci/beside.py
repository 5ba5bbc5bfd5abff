"""The dual branch beside guests: they see the plain run, row for row; the auxiliary branch runs in calls of its own.

The two latents are one batch inside the sampler alone. Each step runs the auxiliary's own text first and keeps what
DBIM reads of it, then the run as the host and its guests know it, then the auxiliary's guidance.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ....dci_core.attention.call import AttentionCall, AttentionRule
from ....dci_core.dci.branches import for_all, pair, unpair
from ....dci_core.dci.dbim import dbim_rule
from ....dci_core.dci.maps import BranchRows, keeping_rule
from ....dci_core.errors import BadSettings
from ....dci_core.noise.schedule import is_open
from ..attention.joint_rule import with_attention_rule
from ..families.sampling import borrowed_share
from ..model_call import ModelCall
from .auxiliary_conds import Auxiliary, without_controls
from .beside_options import hand_back, watching
from .levels import sigma_of
from .paired_sampling import Paired, finished, for_both
from .plan import KEY, DbimRecord, DciPatch
from .regions import region_for
from .step_views import StepViews, Views
from .together import apart_rule, projections_shown, ruled_layers

RUN = "ico_dci_run"  # transformer option: the run that a model call belongs to
GUIDANCE = ("sampler_pre_cfg_function", "sampler_post_cfg_function", "sampler_calc_cond_batch_function")
KEPT_WRAPPERS = (KEY, "torch.compile")


@dataclass(eq=False)
class BesideGuests:
    """One run beside guests.

    noise      the auxiliary's, as the run starts
    threshold  of noise, above which DCI acts
    finish     shows the user's callback the concept alone: (callback) -> callback
    views      what the auxiliary's calls of the step left for the concept's
    """

    patch: DciPatch
    record: DbimRecord
    guider: Any
    noise: Tensor
    threshold: float
    finish: Callable[[Any], Callable[..., None]]
    views: StepViews = field(default_factory=StepViews)
    is_auxiliary: bool = False
    auxiliary: Auxiliary | None = None

    # The sampler's side

    def around(self, sampler: Any, own: Any) -> Any:
        """A copy of the sampler that steps both latents as one batch and hands back the concept's.

        own  the same sampler with a stream of later noise for each branch
        """
        outer = copy.copy(sampler)

        def sample(
            model_wrap: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor,
            latent_image: Tensor, denoise_mask: Tensor | None = None, disable_pbar: bool = False,
        ) -> Tensor:  # fmt: skip
            is_one = self.patch.settings.one_auxiliary
            self.auxiliary = Auxiliary.of(model_wrap, self.patch, noise, latent_image, denoise_mask, extra_args)
            if self.patch.hints == "auxiliary":
                model_wrap.conds = without_controls(model_wrap.conds)
            options = extra_args["model_options"]
            if mask_function := options.get("denoise_mask_function"):
                options = {**options, "denoise_mask_function": for_both(mask_function)}
            if denoise_mask is not None and denoise_mask.shape[0] > 1:
                denoise_mask = pair(denoise_mask, for_all(denoise_mask, is_one))
            extra_args = {**extra_args, "model_options": options}
            both = own.sample(
                Paired(model_wrap, self.predict), sigmas, extra_args, self.finish(callback),
                pair(noise, self.noise.to(noise)), pair(latent_image, for_all(latent_image, is_one)), denoise_mask,
                disable_pbar,
            )  # fmt: skip
            concept, auxiliary = unpair(both)
            self.record.final_auxiliary = model_wrap.inner_model.process_latent_out(auxiliary.float())
            return concept.contiguous()

        outer.sample = sample
        return outer

    def predict(self, both: Tensor, levels: Tensor, options: dict[str, Any], seed: int | None) -> Tensor:
        """x0 of both latents [(b branch) ...] at one noise level."""
        x, y = (part.contiguous() for part in unpair(both))
        level = levels[::2] if levels.ndim and levels.shape[0] == both.shape[0] else levels
        given, (after, options) = options, self.apart_from_sampler(options)
        acts = is_open(sigma_of(level), self.threshold)
        self.views.clear()
        if not acts or self.auxiliary is None:
            concept, found = self.guided(self.guider, x, level, options, seed, bool(after))
            hand_back(given, options)
            return finished(after, pair(concept, y), both, levels, found, [y, y], options)
        alone = self.alone(options)
        # What DBIM reads of the auxiliary branch, without a trace for anyone else
        with self.apart(x):
            own = self.auxiliary.run_own(y, level, alone)
        # The run that the host and its guests know, and what it predicted on the way
        plain: dict[str, Tensor] = {}
        watched = watching(options, self.guider.conds, x, plain)
        concept, found = self.guided(self.guider, x, level, watched, seed, bool(after))
        hand_back(given, watched)
        # The auxiliary's guidance
        shares = self.patch.settings.guidance == "shared"
        moves = borrowed_share(self.guider.inner_model.model_sampling, sigma_of(level)) if shares else 1.0
        borrowed = {name: x0 + (y - x if moves == 1 else (y - x) * moves) for name, x0 in plain.items() if shares}
        with self.apart(x):
            joined = self.auxiliary.joining(alone, {**borrowed, **own})
            auxiliary, other = self.guided(self.auxiliary.guider, y, level, joined, seed, bool(after))
        return finished(after, pair(concept, auxiliary), both, levels, found, other, options)

    def guided(
        self, guider: Any, x: Tensor, level: Tensor, options: dict[str, Any], seed: int | None, looks: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """(x0 of a guider, its conditional and unconditional predictions where the sampler looks at them)."""
        found: list[Tensor] = []
        given = options
        if looks:
            options = {**options, "sampler_post_cfg_function": [*options.get("sampler_post_cfg_function", [])]}

            def look(args: dict[str, Any]) -> Tensor:
                found[:] = [args["cond_denoised"], args["uncond_denoised"]]
                out: Tensor = args["denoised"]
                return out

            options["sampler_post_cfg_function"].append(look)
        call = guider if guider is self.guider else type(guider).predict_noise.__get__(guider)
        x0 = call(x, level, model_options=options, seed=seed)
        hand_back(given, options)
        return x0, found or [x, x]

    def apart_from_sampler(self, options: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """(functions that the sampler itself put after the guidance, the options without them)."""
        name = "sampler_post_cfg_function"
        known = {id(function) for function in self.guider.model_options.get(name, [])}
        functions = options.get(name, [])
        added = [function for function in functions if id(function) not in known]
        if not added:
            return [], options
        return added, {**options, name: [function for function in functions if id(function) in known]}

    def alone(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options without the guests' guidance and wrappers; their patches stay."""
        inner = dict(options.get("transformer_options", {}))
        inner["wrappers"] = {
            kind: {key: functions for key, functions in keys.items() if key in KEPT_WRAPPERS}
            for kind, keys in inner.get("wrappers", {}).items()
            if kind == "apply_model"
        }
        return {**{key: value for key, value in options.items() if key not in GUIDANCE}, "transformer_options": inner}

    @contextmanager
    def apart(self, x: Tensor) -> Iterator[None]:
        """Calls of the auxiliary branch; whoever draws random numbers draws the same as without them."""
        kept = random.getstate()
        self.is_auxiliary = True
        try:
            with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
                yield
        finally:
            self.is_auxiliary = False
            random.setstate(kept)

    # The model's side

    def call(self, executor: Any, call: ModelCall) -> Tensor:
        """A model call of either branch: keeps what DBIM reads of the auxiliary's, and blends it into the concept's."""
        uuids, num_rows = call.options.get("uuids") or [], call.x.shape[0]
        self.record.rows += num_rows
        self.record.plain_rows += 0 if self.is_auxiliary else num_rows
        whose = self.auxiliary.twins if self.auxiliary is not None else {}
        shown = tuple(call.x.shape[-2:])
        known = set(whose) if self.is_auxiliary else set(whose.values()) & self.views.known(shown)
        chunks = [index for index, uuid in enumerate(uuids) if uuid in known]
        if not chunks or num_rows % len(uuids):
            return self.run_ruled(executor, call, None)
        size = num_rows // len(uuids)
        rows = tuple(index * size + row for index in chunks for row in range(size))
        mine = [uuids[index] for index in chunks]
        if self.is_auxiliary:
            return self.keeping(executor, call, rows, [whose[uuid] for uuid in mine])
        return self.blending(executor, call, rows, mine)

    def keeping(self, executor: Any, call: ModelCall, rows: tuple[int, ...], chunks: list[Any]) -> Tensor:
        """A call of the auxiliary branch; leaves its views for the concept's conditionings `chunks`."""
        dbim, words = self.patch.dbim, self.patch.plan.tokens.auxiliary
        views: Views = {}
        rule = keeping_rule(views, dbim.shares, rows, words, dbim.token_sharpness, call.x.device)
        x0 = self.run_ruled(executor, call, rule)
        self.views.keep(views, chunks, tuple(call.x.shape[-2:]))
        return x0

    def blending(self, executor: Any, call: ModelCall, rows: tuple[int, ...], chunks: list[Any]) -> Tensor:
        """A call of the concept branch with the auxiliary's views blended into these rows."""
        shown, size = tuple(call.x.shape[-2:]), len(rows) // len(chunks)
        kept = self.views.take(chunks, shown)
        if any(view.out.shape[0] != len(rows) for view in kept.values()):
            raise BadSettings(
                f"another node runs {len(rows)} rows of the model where the auxiliary branch has others",
                "the same rows in both branches are expected",
                "take that node off this model, or sample without DCI",
            )
        places = self.auxiliary.areas if self.auxiliary is not None else {}
        areas = [places.get(chunk) for chunk in chunks for _ in range(size)]
        dbim = replace(self.patch.dbim, region=region_for(self.patch.dbim.region, areas, self.record.size, shown))
        branches = BranchRows(rows, tuple(range(len(rows))))
        rule = dbim_rule(dbim, branches, self.patch.plan.tokens, call.x.device, self.record.see, kept, shown)
        x0 = self.run_ruled(executor, call, rule)
        self.record.file(sigma_of(call.t))
        return x0

    def run_ruled(self, executor: Any, call: ModelCall, rule: AttentionRule | None) -> Tensor:
        """The call with a rule in the layers in which DBIM has a share; several concepts are kept apart in all."""
        apart = self.apart_rule(call, rule or AttentionCall.plain)
        if rule is None and apart is None:
            return call.run(executor)
        size = (int(call.x.shape[-2]), int(call.x.shape[-1]))
        layers, chosen = ruled_layers(self.patch), apart or rule or AttentionCall.plain
        with projections_shown(self.patch, executor.class_obj.diffusion_model):
            options = with_attention_rule(call.options, layers, chosen, executor.class_obj, size)
            return call.with_options(options).run(executor)

    def apart_rule(self, call: ModelCall, rule: AttentionRule) -> AttentionRule | None:
        """The rule in which several concepts of this call keep apart; None where there are none."""
        uuids, num_rows = call.options.get("uuids") or [], call.x.shape[0]
        if self.patch.together is None or self.auxiliary is None or not uuids or num_rows % len(uuids):
            return None
        twins, size = self.auxiliary.twins, num_rows // len(uuids)
        mine = set(twins) if self.is_auxiliary else set(twins.values())
        rows = tuple(i * size + row for i, uuid in enumerate(uuids) if uuid in mine for row in range(size))
        areas = [self.auxiliary.areas.get(twins.get(uuids[row // size], uuids[row // size])) for row in rows]
        branches = BranchRows((), rows) if self.is_auxiliary else BranchRows(rows, ())
        return apart_rule(self.patch, branches, areas, self.record.size, tuple(call.x.shape[-2:]), call.x.device, rule)
