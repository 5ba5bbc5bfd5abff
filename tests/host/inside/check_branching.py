"""The dual branch on the host's own sampling: off is off, an effect where there should be one, nothing left behind."""

from __future__ import annotations

from typing import Any

import torch
from lab import apply, conditioning, counting_rows, distance, plan, sample, small_model, text

NEGATIVE = conditioning(text(3))


def made(length: int = 77) -> tuple[Any, Any, Any]:
    """(model, plan, the pair's conditioning)."""
    pair = plan(text(2))
    return small_model(), pair, conditioning(text(1), pair)


def test_a_closed_window_changes_nothing() -> None:
    model, pair, positive = made()
    off, _ = apply(model, pair, window=0.0)
    assert torch.equal(sample(off, positive, NEGATIVE), sample(model, positive, NEGATIVE))


def test_layers_without_a_share_change_nothing() -> None:
    model, pair, positive = made()
    layers = pack_layers("all:0")
    off, _ = apply(model, pair, window=0.5, layers=layers)
    assert not off.wrappers.get("outer_sample")
    assert torch.equal(sample(off, positive, NEGATIVE), sample(model, positive, NEGATIVE))


def pack_layers(words: str) -> Any:
    """A layer mask of the pack."""
    from lab import PACK

    return PACK["dci_core.attention.layers"].LayerMask(words)


def test_dci_changes_the_picture_and_every_guidance_does_so_differently() -> None:
    model, pair, positive = made()
    plain = sample(model, positive, NEGATIVE)
    patched = [apply(model, pair, window=0.5, guidance=mode)[0] for mode in ("shared", "separate", "aligned")]
    modes = [sample(each, positive, NEGATIVE) for each in patched]
    assert all(distance(x, plain) > 1e-3 for x in modes)
    assert min(distance(modes[0], modes[1]), distance(modes[1], modes[2]), distance(modes[0], modes[2])) > 1e-4


def test_an_auxiliary_that_shares_nothing_leaves_the_concept_alone() -> None:
    model, pair, positive = made()
    shy, _ = apply(model, pair, window=0.5, guidance="separate", fixed_weight=1.0)
    assert distance(sample(shy, positive, NEGATIVE), sample(model, positive, NEGATIVE)) < 1e-5


def test_rows_that_need_not_run_do_not_reach_the_unet() -> None:
    model, pair, positive = made()
    for guidance, inside in (("shared", 3), ("separate", 4), ("aligned", 4)):
        patched, rows = counting_rows(apply(model, pair, window=0.3, guidance=guidance)[0])
        sample(patched, positive, NEGATIVE, steps=10)
        assert rows == [inside] * 3 + [2] * 7, (guidance, rows)


def test_a_batch_of_two_counts_double_and_cfg_one_runs_no_negative() -> None:
    model, pair, positive = made()
    patched, rows = counting_rows(apply(model, pair, window=0.3)[0])
    sample(patched, positive, NEGATIVE, steps=10, shape=(2, 4, 16, 16))
    assert rows == [6] * 3 + [4] * 7
    rows.clear()
    sample(patched, positive, NEGATIVE, steps=10, cfg=1.0)
    assert rows == [2] * 3 + [1] * 7


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    import comfy.sample

    model, pair, positive = made()
    patched, _ = apply(model, pair, window=0.5, guidance="aligned")
    both = sample(patched, positive, NEGATIVE, shape=(2, 4, 16, 16))
    noise = comfy.sample.prepare_noise(torch.zeros(2, 4, 16, 16), 5)[1:]
    second = comfy.sample.sample(
        patched,
        noise,
        6,
        6.0,
        "euler",
        "normal",
        positive,
        NEGATIVE,
        torch.zeros(1, 4, 16, 16),
        disable_pbar=True,
        seed=5,
    )
    assert distance(both[1:], second) < 1e-5


def test_every_layer_fires_and_is_written_down_at_every_open_step() -> None:
    model, pair, positive = made()
    patched, record = apply(model, pair, window=0.3)
    sample(patched, positive, NEGATIVE, steps=10)
    assert len({layer for _, layer in record.weights}) == 10
    assert len({sigma for sigma, _ in record.weights}) == 3
    assert all(float(w.min()) >= 0 and float(w.max()) <= 1 for w in record.weights.values())
    assert {tuple(w.shape[1:]) for w in record.weights.values()} == {(16, 16), (8, 8), (4, 4)}
    assert record.auxiliary is not None and record.auxiliary.shape == (1, 4, 16, 16)


def test_only_layers_with_a_share_act() -> None:
    model, pair, positive = made()
    patched, record = apply(model, pair, window=0.3, layers=pack_layers("mid:0.5 out0"))
    sample(patched, positive, NEGATIVE)
    assert {tuple(layer) for _, layer in record.weights} == {("middle", 0, 0), ("output", 0, 0)}


def test_the_same_seed_gives_the_same_bits_and_nothing_is_left_on_the_model() -> None:
    model, pair, positive = made()
    before = sample(model, positive, NEGATIVE)
    patched, _ = apply(model, pair, window=0.5)
    first, second = (sample(patched, positive, NEGATIVE) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(sample(model, positive, NEGATIVE), before)
    assert not model.wrappers and not model.model_options["transformer_options"]


def test_our_node_twice_is_our_node_once() -> None:
    model, pair, positive = made()
    once, _ = apply(model, pair, window=0.5)
    twice, _ = apply(once, pair, window=0.5)
    assert torch.equal(sample(once, positive, NEGATIVE), sample(twice, positive, NEGATIVE))


def test_a_window_of_zero_on_a_patched_model_takes_dci_off_again() -> None:
    model, pair, positive = made()
    on, _ = apply(model, pair, window=0.5)
    off, _ = apply(on, pair, window=0.0)
    assert torch.equal(sample(off, positive, NEGATIVE), sample(model, positive, NEGATIVE))


def test_a_run_that_starts_below_the_window_is_the_plain_run() -> None:
    model, pair, positive = made()
    patched, _ = apply(model, pair, window=0.1)
    latent = text(9, 16, 64).reshape(1, 4, 16, 16)
    args = {"latent": latent, "denoise": 0.5}
    assert torch.equal(sample(patched, positive, NEGATIVE, **args), sample(model, positive, NEGATIVE, **args))


def test_prompts_of_unequal_length_give_what_equal_ones_would() -> None:
    model = small_model()
    rows = text(1)
    once, long = plan(text(2)), text(2).repeat(1, 2, 1)
    short_run = sample(apply(model, once, window=0.5)[0], conditioning(rows, once), NEGATIVE)
    twice = plan(long)
    object.__setattr__(twice.tokens.auxiliary, "length", 77)
    assert distance(sample(apply(model, twice, window=0.5)[0], conditioning(rows, twice), NEGATIVE), short_run) < 1e-4
    negative = conditioning(text(3).repeat(1, 2, 1))
    assert distance(sample(apply(model, once, window=0.5)[0], conditioning(rows, once), negative), short_run) < 1e-4


def test_conds_that_memory_splits_give_the_same_picture() -> None:
    model, pair, positive = made()
    for guidance in ("shared", "separate"):
        patched, _ = apply(model, pair, window=0.5, guidance=guidance)
        whole = sample(patched, positive, NEGATIVE)
        split = patched.clone()
        split, rows = counting_rows(split)
        kept = type(patched.model).memory_required
        type(patched.model).memory_required = lambda self, *args, **kwargs: 1e30
        try:
            assert distance(sample(split, positive, NEGATIVE), whole) < 1e-5
        finally:
            type(patched.model).memory_required = kept
        assert max(rows) == 2, rows


def test_a_conditioning_that_is_not_the_pairs_is_refused_in_one_sentence() -> None:
    model, pair, _ = made()
    patched, _ = apply(model, pair, window=0.5)
    try:
        sample(patched, conditioning(text(1)), NEGATIVE)
    except Exception as error:
        assert "DCI Prompt Pair" in str(error)
    else:
        raise AssertionError("no error")


def test_a_step_callback_sees_the_concept_alone() -> None:
    model, pair, positive = made()
    seen: list[tuple[int, ...]] = []
    patched, _ = apply(model, pair, window=0.5)
    sample(patched, positive, NEGATIVE, callback=lambda step, x0, x, total: seen.append((*x0.shape, *x.shape)))
    assert seen == [(1, 4, 16, 16, 1, 4, 16, 16)] * 6


def test_a_mask_of_ones_is_no_mask_and_a_mask_of_zeros_keeps_the_picture() -> None:
    model, pair, positive = made()
    patched, _ = apply(model, pair, window=0.5)
    latent = text(9, 16, 64).reshape(1, 4, 16, 16)
    whole = sample(patched, positive, NEGATIVE, latent=latent)
    ones = sample(patched, positive, NEGATIVE, latent=latent, mask=torch.ones(1, 1, 16, 16))
    zeros = sample(patched, positive, NEGATIVE, latent=latent, mask=torch.zeros(1, 1, 16, 16))
    assert distance(ones, whole) < 1e-5
    assert distance(zeros, latent) < 1e-4


def test_each_picture_of_a_batch_keeps_its_own_mask() -> None:
    model, pair, positive = made()
    patched, _ = apply(model, pair, window=0.5)
    latent = text(9, 32, 64).reshape(2, 4, 16, 16)
    mask = torch.stack([torch.ones(1, 16, 16), torch.zeros(1, 16, 16)])
    out = sample(patched, positive, NEGATIVE, latent=latent, mask=mask)
    assert distance(out[1], latent[1]) < 1e-4 < distance(out[0], latent[0])


def test_odd_sizes_work() -> None:
    model, pair, positive = made()
    patched, record = apply(model, pair, window=0.5)
    assert sample(patched, positive, NEGATIVE, shape=(1, 4, 13, 19)).isfinite().all()
    assert (13, 19) in {tuple(w.shape[1:]) for w in record.weights.values()}


def test_a_region_of_zeros_leaves_the_concept_to_its_own_attention() -> None:
    model, pair, positive = made()
    args = {"window": 0.5, "guidance": "separate"}
    nowhere, _ = apply(model, pair, region=torch.zeros(16, 16), **args)
    everywhere, _ = apply(model, pair, region=torch.ones(16, 16), **args)
    plain = sample(model, positive, NEGATIVE)
    assert distance(sample(nowhere, positive, NEGATIVE), plain) < 1e-5
    assert torch.equal(
        sample(everywhere, positive, NEGATIVE), sample(apply(model, pair, **args)[0], positive, NEGATIVE)
    )


def test_tags_of_rows_are_plain_numbers_with_the_area_that_each_row_shows() -> None:
    from lab import PACK

    both = PACK["nodes.host.dci.tags"].tags_of_kind(1)
    whole, part = both.process_cond(4, area=None), both.process_cond(batch_size=2, area=[16, 8, 0, 8])
    assert whole.can_concat(part) and not whole.can_concat(object())
    tags = whole.concat([part])
    assert [tag.branch for tag in tags] == [1, 2, 1, 2, 1, 2]
    assert [tag.area for tag in tags] == [None] * 4 + [(16, 8, 0, 8)] * 2
    assert all(type(number) is int for tag in tags for number in tag[:2])
