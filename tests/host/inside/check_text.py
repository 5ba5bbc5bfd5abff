"""Text that other nodes encode or change: how they ask the tokenizer, what they append, zero, average."""

from __future__ import annotations

from typing import Any

import torch
from check_tiny import PROMPT, concept, worlds
from lab import PACK, apply, conditioning, distance, plan, sample, small_model, text

NEGATIVE = conditioning(text(3))


def knowing() -> Any:
    """The tiny world's CLIP that knows the concept."""
    _, model, clip = worlds()
    return PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)[1]


def words() -> Any:
    """Its word tokenizer."""
    return knowing().tokenizer.clip_l.tokenizer


def refusal(function: Any, *args: Any, **kwargs: Any) -> str:
    """The sentence with which this is refused."""
    try:
        function(*args, **kwargs)
    except PACK["dci_core.errors"].PackError as error:
        return str(error)
    raise AssertionError("no error")


def test_the_tokenizer_answers_in_every_way_that_it_is_asked() -> None:
    asked = words()
    one = asked(PROMPT)["input_ids"]
    assert asked([PROMPT, "a fish"])["input_ids"] == [one, asked("a fish")["input_ids"]]
    bare = asked([PROMPT], truncation=False, add_special_tokens=False)["input_ids"][0]
    assert bare == one[1:-1] and asked.encode(PROMPT) == one
    plain = worlds()[2].tokenizer.clip_l.tokenizer
    one = plain("a fish in snow")["input_ids"]
    assert plain(["a fish in snow", ""])["input_ids"] == [one, [one[0], one[-1]]]
    assert plain("a fish in snow", add_special_tokens=False)["input_ids"] == one[1:-1]
    assert plain("a fish in snow", truncation=True, max_length=4)["input_ids"] == [*one[:3], one[-1]]
    for kwargs in ({}, {"add_special_tokens": False}, {"truncation": True, "max_length": 3}):
        assert asked("a fish in snow", **kwargs)["input_ids"] == plain("a fish in snow", **kwargs)["input_ids"]
    assert "return_tensors" in refusal(asked, PROMPT, return_tensors="pt")


def test_a_vector_among_ids_is_another_token_to_whoever_compares() -> None:
    ids = words()(PROMPT)["input_ids"]
    vectors = [token for token in ids if not isinstance(token, int)]
    assert len(vectors) == 2 and all(vector != 7 and vector == vector for vector in vectors)
    assert ids.index(ids[-1]) == len(ids) - 1 and ids.count(vectors[1]) == 1 and len({*vectors}) == 2
    assert type(vectors[0] + 1) is torch.Tensor and torch.stack(vectors).shape == (2, 128)


def test_every_case_of_every_alphabet_is_the_trigger_or_an_ordinary_word() -> None:
    from dataclasses import replace

    _, model, clip = worlds()
    for trigger, same, other in (
        ("mini", "M\u0130N\u0130", "minii"),
        ("\u00dcsk", "\u00fcSK", "usk"),
        ("zk", "Z\u212a", "zq"),
    ):
        known = replace(concept(), trigger=trigger)
        clip_of = PACK["nodes.host.concept.apply"].with_concept(model, clip, known, 1.0)[1]
        asked = clip_of.tokenizer.clip_l.tokenizer
        for word, count in ((trigger, 2), (trigger.upper(), 2), (same, 2), (other, 0)):
            found = [token for token in asked(f"a {word} fish")["input_ids"] if not isinstance(token, int)]
            assert len(found) == count, (trigger, word, len(found))
        assert clip_of.encode_from_tokens(clip_of.tokenize(f"a {same} fish")).isfinite().all()


def test_the_trigger_as_auxiliary_noun_gets_one_sentence() -> None:
    pairs = PACK["nodes.host.dci.pairs"]
    assert "zorp" in refusal(pairs.make_pair, knowing(), concept(), PROMPT, "zorp")
    assert "zorp" in refusal(pairs.make_pair, knowing(), concept(), PROMPT, "zorp fish")


def encoded_by_web_ui_rules(clip: Any, prompt: str) -> Any:
    """The prompt as nodes encode it that cut and pad chunks of 75 words themselves and look for commas on the way."""
    own = clip.tokenizer.clip_l
    comma, room = own.tokenizer.get_vocab().get(",</w>"), own.max_length - 2
    found = own.tokenizer([prompt], truncation=False, add_special_tokens=False)["input_ids"][0]
    last_comma, chunks, chunk = -1, [], []
    for token in found:
        if token == comma:
            last_comma = len(chunk)
        chunk.append(token)
        if len(chunk) == room:
            chunks.append(chunk)
            chunk = []
    chunks += [chunk] if chunk or not chunks else []
    rows = []
    for one in chunks:
        padded = [own.start_token, *one, own.end_token]
        rows.append([(token, 1.0) for token in padded + [own.end_token] * (own.max_length - len(padded))])
    assert last_comma == found.index(comma)
    return clip.encode_from_tokens({"l": rows})


def test_a_node_that_cuts_the_words_itself_reads_the_concept() -> None:
    clip, prompt = knowing(), "a zorp fish, in the snow"
    stock = clip.encode_from_tokens(clip.tokenize(prompt))
    assert distance(encoded_by_web_ui_rules(clip, prompt), stock) < 1e-5


def made() -> tuple[Any, Any, Any]:
    """(model, plan that knows the concept's own text, that text's conditioning)."""
    from dataclasses import replace

    pair = replace(plan(text(2)), own=(text(1),))
    return small_model(), pair, conditioning(text(1), pair)


def auxiliary_of(positive: Any, guidance: str = "separate", guest: Any = lambda model: model) -> tuple[Any, Any]:
    """(the auxiliary's last estimate, the record) of a run with this conditioning."""
    model, pair, _ = made()
    patched, record = apply(guest(model), pair, window=1.0, guidance=guidance)
    assert sample(patched, positive, NEGATIVE, steps=3).isfinite().all()
    return record.final_auxiliary, record


def with_idle_patch(model: Any) -> Any:
    """A guest that changes nothing, so that the auxiliary runs in calls of its own."""
    clone = model.clone()
    clone.set_model_attn2_output_patch(lambda out, extra: out)
    return clone


def test_what_is_appended_to_the_pair_is_appended_to_both_prompts() -> None:
    from dataclasses import replace

    import nodes

    _, pair, positive = made()
    style = text(4)
    longer = nodes.ConditioningConcat().concat(positive, conditioning(style))[0]
    for guest in (lambda model: model, with_idle_patch):
        both, record = auxiliary_of(longer, guest=guest)
        wide = replace(pair, hidden=torch.cat([pair.hidden, style], dim=1))
        patched, other = apply(guest(small_model()), wide, window=1.0, guidance="separate")
        sample(patched, positive, NEGATIVE, steps=3)
        assert not record.warnings and distance(both, other.final_auxiliary) < 2e-5
        assert distance(both, auxiliary_of(positive, guest=guest)[0]) > 1e-3


def test_what_is_zeroed_is_zero_in_both_prompts() -> None:
    import nodes

    _, pair, positive = made()
    zero = nodes.ConditioningZeroOut().zero_out(positive)[0]
    conds = PACK["nodes.host.dci.conds"]
    assert not conds.auxiliary_text({"cross_attn": zero[0][0]}, pair)["cross_attn"].any()
    assert not auxiliary_of(zero)[1].warnings


def test_what_is_averaged_or_scaled_is_told() -> None:
    import nodes

    _, _, positive = made()
    mixed = nodes.ConditioningAverage().addWeighted(positive, conditioning(text(4)), 0.7)[0]
    for guest in (lambda model: model, with_idle_patch):
        warnings = auxiliary_of(mixed, guest=guest)[1].warnings
        assert any("averaged" in sentence for sentence in warnings), warnings
        assert not auxiliary_of(positive, guest=guest)[1].warnings


def test_texts_of_unlike_length_draw_what_they_draw_apart() -> None:
    """78 tokens beside 77 would need 6006 in one call: the auxiliary runs in calls of its own."""
    _, _, positive = made()
    odd = [[torch.cat([positive[0][0], text(4)[:, :1]], dim=1), dict(positive[0][1])]]
    beside = PACK["nodes.host.dci.conds"]
    for guidance in ("shared", "separate", "aligned"):
        model = small_model()
        pair = plan(text(2, 40))
        run = {"steps": 3, "shape": (2, 4, 16, 16)}
        patched, record = apply(model, pair, window=1.0, guidance=guidance)
        mine = sample(patched, conditioning(text(1), pair), NEGATIVE, **run)
        assert any("40" in guest and "77" in guest for guest in record.guests), record.guests
        kept, beside.MOST_REPEATS = beside.MOST_REPEATS, 10**6
        try:
            patched, record = apply(model, pair, window=1.0, guidance=guidance)
            whole = sample(patched, conditioning(text(1), pair), NEGATIVE, **run)
        finally:
            beside.MOST_REPEATS = kept
        assert not record.guests and distance(mine, whole) < 2e-5, guidance
    assert auxiliary_of(odd)[0].isfinite().all()


def test_a_picture_does_not_depend_on_its_batch() -> None:
    import comfy.sample
    import nodes

    model, pair, positive = made()
    whole = {"samples": torch.zeros(3, 4, 16, 16)}
    third = nodes.LatentFromBatch().frombatch(whole, 2, 1)[0]
    again = nodes.RepeatLatentBatch().repeat(third, 2)[0]
    for guidance in ("shared", "separate", "aligned"):

        def drawn(latent: Any, guidance: str = guidance) -> Any:
            patched, _ = apply(model, pair, window=0.5, guidance=guidance)
            noise = comfy.sample.prepare_noise(latent["samples"], 5, latent.get("batch_index"))
            return comfy.sample.sample(
                patched, noise, 4, 6.0, "euler", "normal", positive, NEGATIVE, latent["samples"], disable_pbar=True,
                seed=5,
            )  # fmt: skip

        batch = drawn(whole)
        assert distance(drawn(third), batch[2:]) < 2e-5, guidance
        assert distance(drawn(again)[:1], batch[2:]) < 2e-5, guidance
        fixed = drawn({"samples": whole["samples"], "batch_index": [0, 0, 0]})
        assert distance(fixed, batch[:1].expand_as(fixed)) < 2e-5, guidance
