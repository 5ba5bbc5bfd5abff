"""The tiny world in the host's classes against the core's own: text, pictures, concepts, and whole runs."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from lab import PACK, distance, sample

PROMPT, NOUN, AUXILIARY = "a zorp fish in the snow", "fish", "house"


@cache
def worlds() -> tuple[Any, Any, Any]:
    """(the core's random tiny model, the host's MODEL and CLIP with the same weights)."""
    tiny = PACK["nodes.host.tiny.unet"]
    core = PACK["dci_core.tiny.model"].TinyModel.random(0)
    liven(core)
    return core, tiny.host_model(core), tiny.host_clip(core)


def liven(core: Any) -> None:
    """Weights large enough that text and attention show in the picture."""
    generator = torch.Generator().manual_seed(3)
    for parameter in core.text.parameters():
        parameter.copy_(parameter.half())  # the host keeps a text encoder in half precision, as the shipped weights are
    for parameter in core.unet.parameters():
        if parameter.ndim > 1:
            fan = parameter[0].numel()
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan**-0.5)


@cache
def concept() -> Any:
    """A concept of random weights, rank 2, with two modifier tokens."""
    deltas, names = PACK["dci_core.concept.deltas"], PACK["dci_core.concept.learned"]
    core = worlds()[0]
    source = torch.Generator().manual_seed(4)

    def change(inner: int, context: int) -> Any:
        up, down = torch.randn(inner, 2, generator=source), torch.randn(2, context, generator=source)
        return deltas.Delta(up * 0.05, down * 0.05)

    changes = {layer: deltas.LayerDelta(change(*shape), change(*shape)) for layer, shape in core.kv_shapes().items()}
    tokens = {"clip_l": torch.randn(2, 128, generator=source) * 0.1}
    return names.Concept("tiny", "zorp", NOUN, tokens, changes)


def core_prompts() -> Any:
    """The pair in the core's own terms, with the concept on the model: (model, prompts)."""
    tokens, prompts, apply = PACK["dci_core.text.tokens"], PACK["dci_core.text.prompts"], PACK["dci_core.concept.apply"]
    model = apply.apply_concept(worlds()[0], concept())
    words = model.encoders["clip_l"]

    def encode(text: str) -> Any:
        ids = words.frame(words.tokenize(text))[None]
        end = torch.tensor([1 + len(words.tokenize(text))])
        return model.encode({"clip_l": words.embed(ids)}, {"clip_l": end})

    ids, other = words.tokenize(PROMPT), words.tokenize(f"a {AUXILIARY} in the snow")
    places = range(1, 3 + len(words.tokenize(NOUN)))
    stand_in = range(1, 1 + len(words.tokenize(AUXILIARY)))
    pair = tokens.PairTokens(
        tokens.TokenSet.from_places(list(places), len(ids)), tokens.TokenSet.from_places(list(stand_in), len(other))
    )
    return model, prompts.Prompts(encode(PROMPT), encode(""), encode(f"a {AUXILIARY} in the snow"), pair)


@cache
def host_parts() -> tuple[Any, Any, Any, Any]:
    """(MODEL with the concept, positive, plan, negative) by the pack's own means."""
    _, model, clip = worlds()
    model, clip = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)
    positive, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(clip, concept(), PROMPT, AUXILIARY)
    return model, positive, plan, clip.encode_from_tokens_scheduled(clip.tokenize(""))


def test_the_hosts_text_encoder_reads_as_the_cores_does() -> None:
    _, prompts = core_prompts()
    _, positive, plan, negative = host_parts()
    assert distance(positive[0][0], prompts.concept.hidden) < 1e-5
    assert distance(plan.hidden, prompts.auxiliary.hidden) < 1e-5
    assert distance(negative[0][0], prompts.empty.hidden) < 1e-5
    assert distance(positive[0][0], negative[0][0]) > 1e-2


def test_the_pair_finds_the_tokens_that_the_core_finds() -> None:
    _, prompts = core_prompts()
    assert host_parts()[2].tokens == prompts.tokens


def test_one_step_of_the_hosts_unet_is_the_cores() -> None:
    core, model, _ = worlds()
    noisy = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1)) * 5
    sigma, hidden = torch.tensor([4.0, 0.7]), torch.randn(2, 77, 128, generator=torch.Generator().manual_seed(2))
    mine = core.denoise(noisy, sigma, PACK["dci_core.model"].Text(hidden))
    assert distance(model.model.apply_model(noisy, sigma, c_crossattn=hidden), mine) < 1e-5


def test_plain_runs_agree() -> None:
    model, prompts = core_prompts()
    sampling = PACK["dci_core.dci.run"]
    how = sampling.SampleSettings(num_steps=20, cfg=6.0, sampler="euler")
    mine = sampling.sample_latents(model, prompts, seeds=[5], settings=how).concept
    patched, positive, _, negative = host_parts()
    theirs = sample(patched, positive, negative, steps=20, shape=(1, 8, 16, 16))
    assert distance(theirs, mine) < 1e-3


def agree(guidance: str, sampler: str = "euler") -> None:
    """Asserts that 20 steps with DCI agree between host and core, and differ from the plain run."""
    model, prompts = core_prompts()
    sampling, branches = PACK["dci_core.dci.run"], PACK["dci_core.dci.branches"]
    how = sampling.SampleSettings(num_steps=20, cfg=3.0, sampler=sampler)
    dci = branches.DciSettings(window=0.5, strength=1.2, guidance=guidance)
    mine = sampling.sample_latents(model, prompts, seeds=[5], settings=how, dci=dci).concept
    plain, positive, plan, negative = host_parts()
    dbim = dci.dbim(PACK["dci_core.families.table"].find_family("tiny"))
    patch = PACK["nodes.host.dci.plan"].DciPatch(plan, dci, dbim)
    patched, _ = PACK["nodes.host.dci.branching"].with_dci(plain, patch)
    args = {"steps": 20, "cfg": 3.0, "shape": (1, 8, 16, 16), "sampler": sampler}
    theirs, off = sample(patched, positive, negative, **args), sample(plain, positive, negative, **args)
    print("MEASURED", {guidance: distance(theirs, mine), "effect": distance(off, mine)})
    assert distance(theirs, mine) < 1e-3
    assert distance(off, mine) > 1e-2


def test_shared_runs_agree() -> None:
    agree("shared")


def test_separate_runs_agree() -> None:
    agree("separate")


def test_aligned_runs_agree() -> None:
    agree("aligned")


def test_ddim_runs_agree() -> None:
    for guidance in ("shared", "separate", "aligned"):
        agree(guidance, "ddim")


def test_a_concept_of_strength_zero_leaves_the_weights_alone() -> None:
    _, model, clip = worlds()
    off, knows = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 0.0)
    assert not off.patches
    words = clip.encode_from_tokens_scheduled(clip.tokenize("a fish"))
    assert torch.equal(words[0][0], knows.encode_from_tokens_scheduled(knows.tokenize("a fish"))[0][0])
    args = {"steps": 4, "shape": (1, 8, 16, 16)}
    assert torch.equal(sample(off, words, words, **args), sample(model, words, words, **args))


def test_the_trigger_never_leaks_into_the_clip_it_came_from() -> None:
    _, _, clip = worlds()
    before = clip.tokenize(PROMPT)
    host_parts()
    assert clip.tokenize(PROMPT) == before
    assert all(isinstance(token, int) for row in before["l"] for token, _ in row)


def test_a_weighted_trigger_keeps_its_weight_and_its_place() -> None:
    _, model, clip = worlds()
    _, clip = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)
    _, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(clip, concept(), "a (zorp fish:1.3) in the snow", AUXILIARY)
    assert plan.tokens == host_parts()[2].tokens
    assert {weight for _, weight in clip.tokenize("a (zorp fish:1.3)")["l"][0]} == {1.0, 1.3}


def test_a_prompt_of_two_chunks_is_found_in_the_second() -> None:
    _, model, clip = worlds()
    _, clip = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)
    long = "the " * 80 + PROMPT
    positive, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(clip, concept(), long, AUXILIARY)
    assert positive[0][0].shape[1] == plan.tokens.concept.length == 154
    assert min(plan.tokens.concept.span) > 77 and 77 not in plan.tokens.concept.real


def test_a_prompt_of_two_chunks_draws_with_an_effect() -> None:
    _, model, clip = worlds()
    model, clip = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)
    positive, plan, _ = PACK["nodes.host.dci.pairs"].make_pair(clip, concept(), "the " * 80 + PROMPT, AUXILIARY)
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    dci = PACK["dci_core.dci.branches"].DciSettings(window=0.5)
    patch = PACK["nodes.host.dci.plan"].DciPatch(
        plan, dci, dci.dbim(PACK["dci_core.families.table"].find_family("tiny"))
    )
    patched, record = PACK["nodes.host.dci.branching"].with_dci(model, patch)
    args = {"steps": 3, "shape": (1, 8, 16, 16)}
    drawn, off = sample(patched, positive, negative, **args), sample(model, positive, negative, **args)
    assert drawn.isfinite().all() and record.weights and distance(drawn, off) > 1e-3


def refused(words: str, *args: Any) -> None:
    """Asserts that this pair is refused with a sentence that holds these words."""
    _, model, clip = worlds()
    _, knows = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)
    try:
        PACK["nodes.host.dci.pairs"].make_pair(knows, concept(), *args)
    except PACK["dci_core.errors"].PackError as error:
        assert words in str(error), error
    else:
        raise AssertionError("no error")


def test_bad_pairs_get_one_sentence() -> None:
    refused("zorp fish", "a fish in the snow", AUXILIARY)
    refused("own class", PROMPT, "fish")
    refused("'house' is not in the prompt", PROMPT, "house", "a tree in the snow")


def test_two_concepts_with_one_trigger_are_refused_and_with_two_are_chained() -> None:
    from dataclasses import replace

    _, model, clip = worlds()
    concepts = PACK["nodes.host.concept.apply"]
    once = concepts.with_concept(model, clip, concept(), 1.0)
    second = replace(concept(), trigger="blim")
    _, both = concepts.with_concept(*once, second, 1.0)
    assert sum(not isinstance(t, int) for t, _ in both.tokenize("a zorp fish and a blim fish")["l"][0]) == 4
    try:
        concepts.with_concept(*once, concept(), 1.0)
    except PACK["dci_core.errors"].BadConcept as error:
        assert "zorp" in str(error)
    else:
        raise AssertionError("no error")


def test_a_concept_of_another_family_is_refused() -> None:
    from dataclasses import replace

    _, model, clip = worlds()
    try:
        PACK["nodes.host.concept.apply"].with_concept(model, clip, replace(concept(), family="sd15"), 1.0)
    except PACK["dci_core.errors"].BadConcept as error:
        assert "sd15" in str(error) and "tiny" in str(error)
    else:
        raise AssertionError("no error")


def test_host_and_core_know_a_base_model_by_the_same_hash() -> None:
    core, model, clip = worlds()
    family = PACK["dci_core.families.table"].find_family("tiny")
    own = PACK["dci_core.concept.base_hash"].hash_base(dict(core.unet.named_parameters()), family.layers)
    identity = PACK["nodes.host.concept.identity"]
    changed, _ = PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)
    assert identity.base_hash(model, family) == identity.base_hash(changed, family) == own
    assert identity.patches_hash(model) != identity.patches_hash(changed)


def test_previews_of_the_tiny_world_have_a_colour_for_each_channel() -> None:
    _, model, _ = worlds()
    PACK["nodes.host.tiny.unet"].give_previews(model, PACK["dci_core.tiny.codec"].Codec().eval())
    form = model.model.latent_format
    assert torch.tensor(form.latent_rgb_factors).shape == (8, 3) and len(form.latent_rgb_factors_bias) == 3
