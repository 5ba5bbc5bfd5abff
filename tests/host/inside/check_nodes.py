"""The nodes as the host shows them."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from check_tiny import AUXILIARY, NOUN, PROMPT, concept, worlds
from lab import PACK
from marks import Absent, slow

IDS = {
    "ICOTrainConcept": "ICO Train Concept",
    "ICOLoadPictures": "Load ICO Pictures",
    "ICOLoadConcept": "Load ICO Concept",
    "ICOApplyConcept": "Apply ICO Concept",
    "ICOSaveConcept": "Save ICO Concept",
    "ICOExportConcept": "Export ICO Concept",
    "DCIPromptPair": "DCI Prompt Pair",
    "DCIDualBranchSampler": "DCI Dual-Branch Sampler",
    "DCIApply": "Apply DCI",
    "DBIMLayerMask": "DBIM Layer Mask",
    "DBIMPreview": "DBIM Preview",
    "DCILoadTinyWorld": "Load Tiny World",
    "DCIConceptScore": "Concept Score",
    "DCISweep": "DCI Sweep",
    "DynaIPLoadAdapter": "Load DynaIP Adapter",
    "DynaIPApply": "Apply DynaIP",
    "DynaIPPreview": "DynaIP Preview",
}


def listed() -> dict[str, Any]:
    """Our node classes, as the host registered them."""
    import nodes

    return {name: nodes.NODE_CLASS_MAPPINGS[name] for name in IDS}


def outputs(name: str, **values: Any) -> tuple[Any, ...]:
    """What a node gives."""
    return tuple(listed()[name].execute(**values).args)


def test_every_node_has_its_name_for_ever() -> None:
    assert {name: node.GET_SCHEMA().display_name for name, node in listed().items()} == IDS
    shelves = {node.GET_SCHEMA().category for node in listed().values()}
    assert {shelf.partition("/")[0] for shelf in shelves} == {"ICO + DCI"} and len(shelves) >= 5


def test_the_node_id_is_a_literal_in_the_source() -> None:
    folder = Path(PACK["nodes"].__file__).parent
    source = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*_nodes.py"))
    assert set(re.findall(r'node_id="(\w+)"', source)) == set(IDS)


def test_every_node_every_input_and_every_output_is_explained() -> None:
    for name, node in listed().items():
        schema = node.GET_SCHEMA()
        assert len(schema.description) > 20, name
        assert all(len(entry.tooltip or "") > 10 for entry in [*schema.inputs, *schema.outputs]), name


def test_search_words_of_the_field_find_the_nodes() -> None:
    schemas = {name: node.GET_SCHEMA() for name, node in listed().items()}
    if not hasattr(schemas["ICOTrainConcept"], "search_aliases"):
        raise Absent("this host's nodes have no search words")
    words = {name: {word.lower() for word in schema.search_aliases} for name, schema in schemas.items()}
    for word in ("personalization", "subject", "lora training", "custom diffusion", "textual inversion", "identity"):
        assert word in words["ICOTrainConcept"], word
    assert all(words.values()), [name for name, own in words.items() if not own]


def test_no_text_is_rewritten_by_the_page() -> None:
    for node in listed().values():
        groups = node.INPUT_TYPES()
        for name, (kind, *options) in (
            item for group in ("required", "optional") for item in groups.get(group, {}).items()
        ):
            if kind == "STRING" and not options[0].get("forceInput"):
                assert options[0].get("dynamicPrompts") is False, name


@slow
def test_loading_the_pack_takes_under_a_second() -> None:
    """Of processor time on a machine of its own: a throttled one decides this by its clock, so it is no quick check."""
    import lab

    print("MEASURED", {"load_seconds": lab.LOAD_SECONDS})
    assert 0 < lab.LOAD_SECONDS < 1


def test_the_host_can_describe_every_node_to_the_page() -> None:
    import json

    for node in listed().values():
        info = node.GET_NODE_INFO_V1() if hasattr(node, "GET_NODE_INFO_V1") else node.INPUT_TYPES()
        json.dumps(info, default=str)


def knowing() -> tuple[Any, Any]:
    """The tiny world's MODEL and CLIP with the random concept."""
    _, model, clip = worlds()
    return PACK["nodes.host.concept.apply"].with_concept(model, clip, concept(), 1.0)


def dci(**changes: Any) -> dict[str, Any]:
    """The DCI widgets."""
    return {"window": 0.5, "strength": 1.0, "guidance": "aligned", "gain": "scaled", "hints": "both", **changes}


def test_a_stand_in_is_chosen_by_itself_and_shown() -> None:
    _, clip = knowing()
    pair = {"clip": clip, "concept": concept(), "prompt": PROMPT}
    _, plan, found = outputs("DCIPromptPair", **pair, auxiliary_noun="auto")
    assert plan.texts[1] == "a cat in the snow" and '"cat" at tokens' in found
    assert plan.tokens == outputs("DCIPromptPair", **pair, auxiliary_noun="cat")[1].tokens
    other = outputs("DCIPromptPair", **{**pair, "prompt": f"{PROMPT} next to a cat"}, auxiliary_noun="auto")[1]
    assert other.texts[1] == "a star in the snow next to a cat"
    assert listed()["DCIPromptPair"].INPUT_TYPES()["required"]["auxiliary_noun"][1]["default"] == "auto"


def test_the_one_node_form_and_the_patch_with_ksampler_are_one() -> None:
    import nodes

    model, clip = knowing()
    positive, plan, found = outputs(
        "DCIPromptPair", clip=clip, concept=concept(), prompt=PROMPT, auxiliary_noun=AUXILIARY
    )
    assert "zorp fish" in found and AUXILIARY in found
    negative = nodes.CLIPTextEncode().encode(clip, "")[0]
    empty = nodes.EmptyLatentImage().generate(128, 128, 1)[0]
    patched, record = outputs("DCIApply", model=model, plan=plan, **dci())
    common = (positive, negative, empty)
    stock = nodes.KSampler().sample(patched, 7, 4, 3.0, "euler", "normal", *common)[0]["samples"]
    how = {"seed": 7, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    one, auxiliary, own = outputs(
        "DCIDualBranchSampler",
        model=model,
        plan=plan,
        positive=positive,
        negative=negative,
        latent_image=empty,
        **how,
        **dci(),
    )
    assert torch.equal(stock, one["samples"])
    assert auxiliary["samples"].shape == stock.shape and not torch.equal(auxiliary["samples"], stock)
    plain = nodes.KSampler().sample(model, 7, 4, 3.0, "euler", "normal", *common)[0]["samples"]
    assert not torch.equal(plain, stock)
    for kept in (record, own):
        (picture,) = outputs("DBIMPreview", record=kept, latent=one, cell=16)
        assert picture.shape[1] == 16 * 10 and float(picture.max()) <= 1


def test_a_shifted_strength_acts_from_the_widget_and_is_the_scaled_one_at_strength_one() -> None:
    import nodes

    model, clip = knowing()
    positive, plan, _ = outputs("DCIPromptPair", clip=clip, concept=concept(), prompt=PROMPT, auxiliary_noun=AUXILIARY)
    common = positive, nodes.CLIPTextEncode().encode(clip, "")[0], nodes.EmptyLatentImage().generate(128, 128, 1)[0]

    def drawn(gain: str, strength: float) -> torch.Tensor:
        patched, _ = outputs("DCIApply", model=model, plan=plan, **dci(gain=gain, strength=strength))
        return nodes.KSampler().sample(patched, 7, 4, 3.0, "euler", "normal", *common)[0]["samples"]

    torch.testing.assert_close(drawn("shifted", 1.0), drawn("scaled", 1.0), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(drawn("shifted", 2.0), drawn("scaled", 2.0), rtol=1e-3, atol=1e-3)


def test_layers_off_is_the_model_as_it_was() -> None:
    import nodes

    model, clip = knowing()
    positive, plan, _ = outputs("DCIPromptPair", clip=clip, concept=concept(), prompt=PROMPT, auxiliary_noun=AUXILIARY)
    negative = nodes.CLIPTextEncode().encode(clip, "")[0]
    empty = nodes.EmptyLatentImage().generate(128, 128, 1)[0]
    (layers,) = outputs("DBIMLayerMask", preset="custom", text="all:0")
    off, _ = outputs("DCIApply", model=model, plan=plan, layers=layers, **dci())
    runs = [
        nodes.KSampler().sample(m, 7, 3, 3.0, "euler", "normal", positive, negative, empty)[0] for m in (off, model)
    ]
    assert torch.equal(runs[0]["samples"], runs[1]["samples"])


def test_the_trigger_works_in_the_stock_text_encode() -> None:
    import nodes

    _, clip = knowing()
    positive, *_ = outputs("DCIPromptPair", clip=clip, concept=concept(), prompt=PROMPT, auxiliary_noun=AUXILIARY)
    assert torch.equal(nodes.CLIPTextEncode().encode(clip, PROMPT)[0][0][0], positive[0][0])


def refused(words: str, run: Any) -> None:
    """Asserts that this is refused with a sentence that holds these words."""
    from execution import full_type_name

    try:
        run()
    except PACK["dci_core.errors"].PackError as error:
        assert words in str(error), error
        assert full_type_name(type(error)) == f"ico_dci.{type(error).__name__}"  # as the page's report has it
    else:
        raise AssertionError("no error")


def test_bad_input_gets_one_sentence() -> None:
    model, clip = knowing()
    _, plan, _ = outputs("DCIPromptPair", clip=clip, concept=concept(), prompt=PROMPT, auxiliary_noun=AUXILIARY)
    (layers,) = outputs("DBIMLayerMask", preset="custom", text="in99")
    refused("names no cross-attention", lambda: outputs("DCIApply", model=model, plan=plan, layers=layers, **dci()))
    refused("window", lambda: outputs("DCIApply", model=model, plan=plan, **dci(window=2.0)))
    for name in ("../x", "/x", "a/../../x", "c:x", ""):
        refused("file name", lambda name=name: outputs("ICOSaveConcept", concept=concept(), filename=name))
    refused(
        "no concept",
        lambda: outputs("ICOLoadConcept", base_model=model, base_clip=clip, concept_name="../x", strength=1.0),
    )
    assert NOUN in concept().phrase


def test_a_concept_of_the_graph_is_applied_as_its_file_would_be_and_behind_another() -> None:
    import nodes

    _, model, clip = worlds()
    one, other = concept(), replace(concept(), trigger="our", noun="bird")
    applied = outputs("ICOApplyConcept", base_model=model, base_clip=clip, concept=one, strength=1.0)
    assert applied[2] == one.phrase
    both = outputs("ICOApplyConcept", base_model=applied[0], base_clip=applied[1], concept=other, strength=0.5)
    half = outputs("ICOApplyConcept", base_model=model, base_clip=clip, concept=other, strength=0.5)

    def drawn(knows: Any, clip: Any, words: str) -> Any:
        text = nodes.CLIPTextEncode().encode(clip, words)[0]
        empty = nodes.EmptyLatentImage().generate(128, 128, 1)[0]
        return nodes.KSampler().sample(knows, 7, 2, 3.0, "euler", "normal", text, text, empty)[0]["samples"]

    assert torch.equal(drawn(*applied[:2], PROMPT), drawn(*knowing(), PROMPT))
    words = f"a {one.phrase} next to our bird"
    by_both = drawn(*both[:2], words)
    assert not torch.equal(by_both, drawn(applied[0], both[1], words))
    assert not torch.equal(by_both, drawn(half[0], both[1], words))
    twice = {"base_model": applied[0], "base_clip": applied[1], "concept": one, "strength": 1.0}
    refused("two concepts have the trigger", lambda: outputs("ICOApplyConcept", **twice))


def test_no_file_of_another_thing_is_replaced_and_what_is_reported_loads_by_that_name() -> None:
    import folder_paths
    from check_graph import folders_for_exports
    from check_training import in_new_folder

    other, mine = replace(concept(), noun="bird"), concept()

    def listed_now(name: str) -> list[str]:
        folder_paths.filename_list_cache.pop(name, None)
        return folder_paths.get_filename_list(name)

    def check(folder: Path) -> None:
        (first,) = outputs("ICOSaveConcept", concept=mine, filename="animals/rex")
        (again,) = outputs("ICOSaveConcept", concept=mine, filename=" animals\\rex.safetensors ")
        (second,) = outputs("ICOSaveConcept", concept=other, filename="animals/rex")
        assert first == again != second and sorted(listed_now("ico_concepts")) == sorted([first, second])
        load, model_and_clip = PACK["nodes.host.folders"].concept_path, worlds()[1:]
        given = dict(zip(("base_model", "base_clip"), model_and_clip, strict=True), strength=1.0)
        for name, noun in ((first, NOUN), (second, "bird")):
            assert outputs("ICOLoadConcept", concept_name=name, **given)[2].noun == noun
        (replaced,) = outputs("ICOSaveConcept", concept=other, filename="animals/rex", overwrite=True)
        assert replaced == first and PACK["dci_core.concept.file"].load_concept(load(first)).noun == "bird"

        theirs = folder / "loras" / "rex 1.safetensors"
        theirs.parent.mkdir()
        theirs.write_bytes(b"a LoRA of theirs")
        lora, embedding = outputs("ICOExportConcept", concept=mine, filename="rex 1", rank=2)
        assert theirs.read_bytes() == b"a LoRA of theirs"
        assert (lora, embedding) == ("rex 1_00002_.safetensors", "rex_1_00002_.safetensors")
        assert (lora, embedding) == outputs("ICOExportConcept", concept=mine, filename="rex 1", rank=4)
        assert lora in listed_now("loras") and embedding in listed_now("embeddings")

    with tempfile.TemporaryDirectory() as exports, folders_for_exports(Path(exports)):
        in_new_folder(lambda folder: check(Path(exports)))
