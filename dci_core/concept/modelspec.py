"""Metadata that hosts show of a model file. Source: Stability AI's ModelSpec 1.0.0 (`modelspec.*`)."""

from __future__ import annotations

from ..families.table import find_family
from .learned import Concept

VERSION = "1.0.0"
ARCHITECTURES = {
    "tiny": "ico-dci-tiny-v1",
    "tiny_flow": "ico-dci-tiny-flow-v1",
    "sd15": "stable-diffusion-v1",
    "sd15_v": "stable-diffusion-v1",
    "sd21_base": "stable-diffusion-v2-512",
    "sd21": "stable-diffusion-v2-768-v",
    "sdxl": "stable-diffusion-xl-v1-base",
    "sdxl_v": "stable-diffusion-xl-v1-base",
    "anima": "anima",
    "flux": "flux-1-dev",
    "chroma": "chroma",
    "flux2_klein_4b": "flux-2-klein-4b",
    "flux2_klein_9b": "flux-2-klein-9b",
    "z_image": "z-image",
    "qwen_image": "qwen-image",
    "krea2": "krea-2",
    "sd3_medium": "stable-diffusion-v3-medium",
    "sd35_medium": "stable-diffusion-v3.5-medium",
    "sd35_large": "stable-diffusion-v3.5-large",
}
MOST_CHARACTERS = 500  # of one text
PREDICTIONS = {"eps": "epsilon", "v": "v"}  # ModelSpec has no word for flows
WHAT = {  # a file's kind, and what it is for
    "ico-concept": "A concept of ICO + DCI",
    "lora": "A concept of ICO + DCI as a LoRA, which needs the embedding that was written with it",
    "textual-inversion": "A concept of ICO + DCI as an embedding, which needs the LoRA that was written with it",
}


def model_spec(concept: Concept, kind: str = "ico-concept", phrase: str | None = None) -> dict[str, str]:
    """A concept's ModelSpec as strings: architecture, title, description, trigger, date and picture.

    kind    a key of WHAT
    phrase  what to write in a prompt; None: trigger and noun
    """
    family, steps = find_family(concept.family), concept.about.loss.get("steps")
    phrase = concept.phrase if phrase is None else phrase
    learned = f", learned in {steps:.0f} steps" if steps else ""
    found = {
        "sai_model_spec": VERSION,
        "architecture": f"{ARCHITECTURES.get(family.name, family.name)}/{kind}",
        "implementation": "ico-dci" if kind == "ico-concept" else "sgm",
        "title": concept.phrase,
        "description": f"{WHAT[kind]}: one {concept.noun}{learned}. Write in prompts: {phrase}",
        "trigger_phrase": phrase,
        "resolution": f"{family.picture_size}x{family.picture_size}",
        "prediction_type": PREDICTIONS.get(concept.about.prediction, ""),
        "tags": f"{concept.noun}, ico-dci",
    }
    return {
        f"modelspec.{name}": text[:MOST_CHARACTERS] for name, text in found.items() if text
    } | concept.cover.metadata()
