"""Nodes that load, apply, save and export concepts."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..dci_core.concept.exports import export_embedding, export_lora
from ..dci_core.concept.file import load_concept, save_concept
from ..dci_core.families.table import find_family
from ..dci_core.names import for_prompts
from . import node_ui, sockets
from .fields import schema, text, widget
from .host import folders
from .host.concept.apply import with_concept
from .node_output import node_output


def overwrite() -> Any:
    """What becomes of a file that is somebody else's; it came later, so it stands last."""
    return widget(
        io.Boolean,
        "overwrite",
        default=False,
        optional=True,
        advanced=True,
        tooltip="Off: a file of something else stays, and the name is counted up. On: it is replaced.",
    )


def strength() -> Any:
    """How much of the weight changes a model takes."""
    return widget(
        io.Float,
        "strength",
        default=1.0,
        min=-10.0,
        max=10.0,
        step=0.01,
        tooltip="Of the weight changes: 1 as trained, 0 the words alone.",
    )


def taught() -> list[Any]:
    """What knows the concept."""
    return [
        io.Model.Output("model", display_name="model", tooltip="The model that knows the concept."),
        io.Clip.Output("clip", display_name="clip", tooltip="The CLIP that knows the trigger."),
    ]


def trigger() -> Any:
    """How to ask for it."""
    return io.String.Output("trigger", display_name="trigger", tooltip="Trigger and noun, as a prompt needs them.")


class ICOLoadConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "concept",
            node_id="ICOLoadConcept",
            display_name="Load ICO Concept",
            description="Teaches a model and its CLIP a saved concept; its trigger then works in every prompt node. "
            "Several can follow each other.",
            search_aliases=["load concept", "personalization", "subject", "identity", "custom diffusion"],
            inputs=[
                io.Model.Input("base_model", tooltip="The model that the concept was trained on, or one close to it."),
                io.Clip.Input("base_clip", tooltip="The CLIP of the same checkpoint."),
                widget(
                    io.Combo,
                    "concept_name",
                    options=folders.concept_names(),
                    tooltip="A file in models/ico_concepts.",
                ),
                strength(),
            ],
            outputs=[
                *taught(),
                sockets.Concept.Output("concept", display_name="concept", tooltip="For DCI Prompt Pair and Export."),
                trigger(),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, concept_name: str = "", **inputs: Any) -> str:
        return folders.stamp(concept_name)

    @classmethod
    def execute(cls, base_model: Any, base_clip: Any, concept_name: str, strength: float) -> io.NodeOutput:
        concept = load_concept(folders.concept_path(concept_name))
        told = node_ui.loaded(concept, concept_name)
        return node_output(*with_concept(base_model, base_clip, concept, strength), concept, concept.phrase, ui=told)


class ICOApplyConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "concept",
            node_id="ICOApplyConcept",
            display_name="Apply ICO Concept",
            description="Teaches a model and its CLIP a concept that is already in the graph, behind ICO Train Concept "
            "or Load ICO Concept: a second one for the same picture, another strength, or a fine-tune of its model.",
            search_aliases=["apply concept", "stack concepts", "two concepts", "subject", "identity"],
            inputs=[
                io.Model.Input(
                    "base_model",
                    tooltip="The model that the concept was trained on, or one close to it; "
                    "it may know other concepts.",
                ),
                io.Clip.Input("base_clip", tooltip="The CLIP of the same checkpoint, or of the same other concepts."),
                sockets.Concept.Input("concept", tooltip="Of ICO Train Concept or Load ICO Concept."),
                strength(),
            ],
            outputs=[*taught(), trigger()],
        )

    @classmethod
    def execute(cls, base_model: Any, base_clip: Any, concept: Any, strength: float) -> io.NodeOutput:
        told = node_ui.loaded(concept, concept.trigger)
        return node_output(*with_concept(base_model, base_clip, concept, strength), concept.phrase, ui=told)


class ICOSaveConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "concept",
            node_id="ICOSaveConcept",
            display_name="Save ICO Concept",
            description="Writes a concept to models/ico_concepts, from where Load ICO Concept takes it.",
            search_aliases=["save concept", "personalization"],
            is_output_node=True,
            inputs=[
                sockets.Concept.Input("concept", tooltip="A trained concept."),
                text(
                    "filename", default="my_concept", tooltip="Name without ending; sub/name puts it in a sub-folder."
                ),
                overwrite(),
            ],
            outputs=[
                io.String.Output("saved_as", display_name="saved as", tooltip="The name that Load ICO Concept lists.")
            ],
        )

    @classmethod
    def execute(cls, concept: Any, filename: str, overwrite: bool = False) -> io.NodeOutput:
        (path,) = folders.free_for(concept, [folders.new_path(filename)], overwrite)
        save_concept(concept, path)
        return node_output(folders.listed_as(path), ui=node_ui.written(folders.shown(path)))


class ICOExportConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "concept",
            node_id="ICOExportConcept",
            display_name="Export ICO Concept",
            description="Writes a concept as a plain LoRA and a plain embedding, for people without this pack: load "
            "the LoRA and write embedding:NAME before the noun.",
            search_aliases=["save lora", "export lora", "embedding", "textual inversion"],
            is_output_node=True,
            inputs=[
                sockets.Concept.Input("concept", tooltip="A trained concept."),
                text("filename", default="my_concept", tooltip="Name of both files, without ending."),
                widget(
                    io.Int,
                    "rank",
                    default=16,
                    min=1,
                    max=768,
                    tooltip="Size of the LoRA; larger loses less, 16 is plenty.",
                ),
                overwrite(),
            ],
            outputs=[
                io.String.Output("lora", display_name="lora", tooltip="The name that the LoRA loader lists."),
                io.String.Output("embedding", display_name="embedding", tooltip="Write embedding:NAME in a prompt."),
            ],
        )

    @classmethod
    def execute(cls, concept: Any, filename: str, rank: int, overwrite: bool = False) -> io.NodeOutput:
        loras, embeddings = folders.lora_folder(), folders.embedding_folder()
        wanted = [folders.new_path(filename, loras), folders.new_path(for_prompts(filename), embeddings)]
        lora, embedding = folders.free_for(concept, wanted, overwrite)
        words = embedding.relative_to(embeddings).with_suffix("").as_posix()
        phrase = f"embedding:{words} {concept.noun}"
        if not find_family(concept.family).takes_embeddings:
            export_lora(concept, lora, rank=rank)
            how = "no stock text encode of this family takes an embedding file: Load ICO Concept draws the trigger"
            return node_output(folders.listed_as(lora, loras), "", ui=node_ui.written(folders.shown(lora), how=how))
        export_lora(concept, lora, rank=rank, phrase=phrase)
        export_embedding(concept, embedding, phrase=phrase)
        told = node_ui.written(
            folders.shown(lora),
            folders.shown(embedding),
            how=f'load the LoRA and write "{phrase}"',
        )
        return node_output(folders.listed_as(lora, loras), folders.listed_as(embedding, embeddings), ui=told)


NODES: list[type[io.ComfyNode]] = [ICOLoadConcept, ICOApplyConcept, ICOSaveConcept, ICOExportConcept]
