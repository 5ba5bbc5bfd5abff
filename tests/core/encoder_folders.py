"""Folders with small encoders of the real classes and random weights, saved as `transformers` saves them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

SIZE = 32  # px, what the processors cut pictures to
WORDS = ("dog", "fish", "snow", "in", "a", "the", "on", "sofa")


def clip_folder(folder: Path, seed: int = 0) -> Path:
    """A CLIPModel with tokenizer and image processor."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    marks = save_words(folder)
    text = {**sizes, "vocab_size": marks["count"], "bos_token_id": marks["begin"], "eos_token_id": marks["end"]}
    vision = {**sizes, "image_size": SIZE, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    livened(transformers.CLIPModel(config)).save_pretrained(folder)
    save_processor(folder, "CLIPImageProcessor", {"shortest_edge": SIZE})
    return folder


def dino_folder(folder: Path, seed: int = 1) -> Path:
    """A Dinov2Model with image processor."""
    torch.manual_seed(seed)
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=SIZE, patch_size=8
    )
    livened(transformers.Dinov2Model(config)).save_pretrained(folder)
    save_processor(folder, "BitImageProcessor", {"shortest_edge": SIZE})
    return folder


def vit_folder(folder: Path, seed: int = 2) -> Path:
    """A ViTModel without pooler, as the first DINO is published, with image processor."""
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=SIZE, patch_size=8
    )
    livened(transformers.ViTModel(config, add_pooling_layer=False)).save_pretrained(folder)
    save_processor(folder, "ViTImageProcessor", {"height": SIZE, "width": SIZE})
    return folder


def livened(model: torch.nn.Module) -> torch.nn.Module:
    """The model with weights large enough that pictures and words show in its vectors."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) * parameter[0].numel() ** -0.5)
    return model


def save_words(folder: Path) -> dict[str, int]:
    """CLIP's own tokenizer with letters and a few words; numbers of the marks and of all entries."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(33, 127)]
    merges, whole = [], []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts[:2] = [parts[0] + parts[1]]
            whole.append(parts[0])
    entries = [*letters, *(f"{letter}</w>" for letter in letters), *whole, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {entry: i for i, entry in enumerate(dict.fromkeys(entries))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *dict.fromkeys(merges)]) + "\n", encoding="utf-8")
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    marks |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **marks}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(marks), encoding="utf-8")
    begin, end = (vocabulary[marks[name]] for name in ("bos_token", "eos_token"))
    return {"begin": begin, "end": end, "count": len(vocabulary)}


def save_processor(folder: Path, name: str, size: dict[str, int]) -> None:
    """preprocessor_config.json as published models have it."""
    config = {
        "image_processor_type": name,
        "do_resize": True,
        "size": size,
        "resample": 3,
        "do_center_crop": "shortest_edge" in size,
        "crop_size": {"height": SIZE, "width": SIZE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(config), encoding="utf-8")
