"""One auxiliary for a batch, and its work replayed across queues, in the host's own sampling."""

from __future__ import annotations

from typing import Any

import torch
from lab import PACK, conditioning, distance, plan, sample, small_model, text
from torch import Tensor

NEGATIVE = conditioning(text(3))
FOUR = (4, 4, 16, 16)


def made() -> tuple[Any, Any, Any]:
    """(model, plan, the pair's conditioning)."""
    pair = plan(text(2))
    return small_model(), pair, conditioning(text(1), pair)


def apply(model: Any, pair: Any, replays: bool = False, **settings: Any) -> Any:
    """The model with DCI in separate guidance."""
    chosen = PACK["dci_core.dci.branches"].DciSettings(**{"window": 0.5, "guidance": "separate", **settings})
    dbim = chosen.dbim(PACK["dci_core.families.table"].find_family("tiny"))
    patch = PACK["nodes.host.dci.plan"].DciPatch(pair, chosen, dbim, replays=replays)
    return PACK["nodes.host.dci.branching"].with_dci(model, patch)


def rows_of(model: Any) -> list[int]:
    """Rows that reach this model's U-Net from now on; nothing is put in its options."""
    rows: list[int] = []
    model.model.diffusion_model.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0]))
    return rows


def replay() -> Any:
    """The pack's own, emptied."""
    kept = PACK["nodes.host.dci.replaying"].REPLAY
    kept.clear()
    return kept


def test_a_batch_of_four_with_one_auxiliary_runs_two_rows_more() -> None:
    model, pair, positive = made()
    rows = rows_of(model)
    sample(apply(model, pair, window=0.3, one_auxiliary=True)[0], positive, NEGATIVE, steps=10, shape=FOUR)
    assert rows == [10] * 3 + [8] * 7, rows


def test_one_auxiliary_gives_the_first_picture_what_its_own_gave_and_the_others_something_else() -> None:
    model, pair, positive = made()
    each = sample(apply(model, pair)[0], positive, NEGATIVE, shape=FOUR)
    patched, record = apply(model, pair, one_auxiliary=True)
    one = sample(patched, positive, NEGATIVE, shape=FOUR)
    assert distance(one[:1], each[:1]) < 1e-5 and distance(one[1:], each[1:]) > 1e-3
    assert torch.equal(record.auxiliary[0], record.auxiliary[3])


def test_one_auxiliary_stays_one_with_fresh_noise_masks_and_split_conds() -> None:
    model, pair, positive = made()
    latent = text(9, 64, 64).reshape(*FOUR)
    mask = (torch.arange(4 * 256).reshape(4, 1, 16, 16) % 7 > 2).float()
    args = {"latent": latent, "mask": mask, "sampler": "euler_ancestral", "shape": FOUR}
    patched, record = apply(model, pair, one_auxiliary=True)
    whole = sample(patched, positive, NEGATIVE, **args)
    assert torch.equal(record.auxiliary[0], record.auxiliary[3])
    kept = type(model.model).memory_required
    type(model.model).memory_required = lambda self, *args, **kwargs: 1e30
    try:
        assert distance(sample(patched, positive, NEGATIVE, **args), whole) < 1e-5
    finally:
        type(model.model).memory_required = kept


def test_a_replayed_queue_is_the_same_bit_for_bit_and_runs_no_auxiliary_row() -> None:
    for guidance, sampler in (("separate", "euler"), ("aligned", "dpmpp_2m"), ("separate", "dpmpp_sde")):
        model, pair, positive = made()
        kept, rows = replay(), rows_of(model)

        def queue(model: Any = model, pair: Any = pair, positive: Any = positive, sampler: str = sampler) -> Tensor:
            patched, _ = apply(model, pair, replays=True, guidance=guidance)  # noqa: B023
            return sample(patched, positive, NEGATIVE, sampler=sampler)

        first, calls = queue(), list(rows)
        rows.clear()
        again = queue()
        assert torch.equal(first, again) and kept.hits == len(kept) > 0
        assert calls.count(2) == len(calls) == len(rows) + kept.hits and set(rows) == {2}
        unkept = sample(apply(model, pair, guidance=guidance)[0], positive, NEGATIVE, sampler=sampler)
        assert distance(first, unkept) < 1e-4


def test_a_sweep_over_strengths_and_seeds_pays_once_for_its_auxiliary() -> None:
    model, pair, positive = made()
    kept = replay()
    fixed = {"replays": True, "auxiliary_seed": 77}
    swept = [
        sample(apply(model, pair, strength=strength, **fixed)[0], positive, NEGATIVE, seed=seed)
        for strength, seed in ((0.5, 5), (2.0, 5), (2.0, 6))
    ]
    assert kept.hits == 2 * len(kept) > 0
    replay()
    fresh = sample(apply(model, pair, strength=2.0, **fixed)[0], positive, NEGATIVE, seed=6)
    assert torch.equal(fresh, swept[2])
    assert min(distance(swept[0], swept[1]), distance(swept[1], swept[2])) > 1e-3


def test_other_weights_negatives_and_noise_are_never_replayed_for() -> None:
    model, pair, positive = made()
    changed = model.clone()
    key = next(key for key in changed.model_state_dict() if key.endswith("attn2.to_v.weight"))
    changed.add_patches({key: ("diff", (torch.ones_like(changed.model_state_dict()[key]),))})
    for other, negative, seed in ((changed, NEGATIVE, 5), (model, conditioning(text(4)), 5), (model, NEGATIVE, 6)):
        kept = replay()
        sample(apply(model, pair, replays=True)[0], positive, NEGATIVE)
        after = sample(apply(other, pair, replays=True)[0], positive, negative, seed=seed)
        assert kept.hits == 0
        replay()
        assert torch.equal(sample(apply(other, pair, replays=True)[0], positive, negative, seed=seed), after)


def test_attention_of_another_pack_switches_the_replay_off() -> None:
    model, pair, positive = made()
    kept = replay()
    patched, _ = apply(model, pair, replays=True)
    patched.set_model_attn2_output_patch(lambda n, extra: n * 0.9)
    sample(patched, positive, NEGATIVE)
    assert len(kept) == 0


def test_a_replay_minds_what_wraps_a_model_call_but_not_what_wraps_a_run() -> None:
    model, pair, positive = made()

    def wrapped(kind: str) -> Any:
        clone = model.clone()
        clone.add_wrapper_with_key(kind, "lab", lambda executor, *args, **kwargs: executor(*args, **kwargs))
        return apply(clone, pair, replays=True)[0]

    for kind, is_replayed in (("outer_sample", True), ("apply_model", False)):
        kept = replay()
        for _ in range(2):
            sample(wrapped(kind), positive, NEGATIVE)
        assert (kept.hits > 0) == is_replayed, kind


def test_the_node_takes_the_new_inputs_and_old_workflows_leave_them_out() -> None:
    import nodes

    model, pair, positive = made()
    dci = {"window": 0.5, "strength": 1.0, "guidance": "separate", "gain": "scaled", "hints": "both"}
    node, kept = nodes.NODE_CLASS_MAPPINGS["DCIApply"], replay()
    fields = PACK["nodes.dci_fields"]
    plain = fields.patched.__globals__["with_dci"]
    assert node is not None and plain is PACK["nodes.host.dci.branching"].with_dci
    before = fields.patched.__globals__["family_of"]
    fields.patched.__globals__["family_of"] = lambda model: PACK["dci_core.families.table"].find_family("tiny")
    try:
        old, _ = fields.patched(model, pair, dci)
        new, _ = fields.patched(model, pair, {**dci, "one_auxiliary": True, "auxiliary_seed": 7, "replay": True})
    finally:
        fields.patched.__globals__["family_of"] = before
    sample(old, positive, NEGATIVE)
    assert len(kept) == 0
    sample(new, positive, NEGATIVE)
    assert len(kept) > 0
