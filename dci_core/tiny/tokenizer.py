"""The small world's BPE tokenizer, in CLIP's form: lower case, "</w>" at a word's end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from ..errors import PromptTooLong

FOLDER = Path(__file__).parent / "weights" / "tokenizer"
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77
WORDS = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def _in_clip_form(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(WORDS, behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_tokenizer(words: Sequence[str], in_two: Sequence[str], folder: Path = FOLDER) -> None:
    """Writes vocab.json and merges.txt: one entry a word, but for words in_two, which keep two pieces."""
    tokenizer = _in_clip_form(models.BPE(end_of_word_suffix="</w>"))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(words, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]["merges"]
    merges = [pair for pair in map(tuple, learnt) if "".join(pair) not in {word + "</w>" for word in in_two}]
    entries = [*alphabet, *(letter + "</w>" for letter in alphabet), *map("".join, merges), BEGIN, END]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {entry: place for place, entry in enumerate(dict.fromkeys(entries))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")


@lru_cache(maxsize=1)
def load_tokenizer(folder: Path = FOLDER) -> Tokenizer:
    """The tokenizer that ships with the world."""
    vocabulary, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    return _in_clip_form(
        models.BPE.from_file(vocabulary, merges, unk_token=END, end_of_word_suffix="</w>", continuing_subword_prefix="")
    )


@lru_cache(maxsize=1)
def marks() -> tuple[int, int]:
    """Ids of the begin and the end mark."""
    entries = load_tokenizer().get_vocab()
    return entries[BEGIN], entries[END]


def frame(ids: Sequence[int], begin: int, end: int, length: int = LENGTH) -> Tensor:
    """[length] ids with the begin mark, the end mark and, as in SD 1.x, end marks as padding."""
    if len(ids) > length - 2:
        raise PromptTooLong(f"the prompt has {len(ids)} tokens", f"at most {length - 2} fit", "shorten it")
    return torch.tensor([begin, *ids] + [end] * (length - 1 - len(ids)))
