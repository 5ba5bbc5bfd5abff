"""FLUX.1's published folder in small: the same files and classes, few numbers, random."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from dci_core.families.mmdit import MmditFamily
from dci_core.flux.layers import FluxParams
from dci_core.flux.transformer import MMDiT

THIN = MmditFamily("flux", 64, 2, {"double": 1, "single": 2})
PARAMS = FluxParams(
    channels=4, text_width=24, vector_width=32, width=64, heads=2, double_blocks=1, single_blocks=2, axes=(4, 14, 14)
)
WORDS = ["<pad>", "<end>", "<unknown>", "a", "red", "fish", "cat", "in", "the", "snow", "at", "night"]
SIDE = 32  # pixels of a picture
SMALL = ["--token-width", "16", "--expert-width", "16", "--expert-heads", "2", "--expert-depth", "1",
         "--tokens", "2", "--router-width", "8"]  # fmt: skip


def write_thin_flux(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """(the published folder, a CLIP model's folder) of random weights."""
    from diffusers import AutoencoderKL
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPVisionConfig,
        CLIPVisionModel,
        PreTrainedTokenizerFast,
        T5Config,
        T5EncoderModel,
    )

    base, clip = folder / "FLUX.1-dev", folder / "clip"
    end = WORDS.index("<end>")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for name in ("tokenizer", "tokenizer_2"):
            words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unknown>"))
            words.pre_tokenizer = Whitespace()
            words.post_processor = TemplateProcessing(single="$A <end>", special_tokens=[("<end>", end)])
            made = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>")
            made.save_pretrained(str(base / name))
        text = CLIPTextConfig(
            vocab_size=len(WORDS), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            eos_token_id=end, bos_token_id=end, pad_token_id=0,
        )  # fmt: skip
        CLIPTextModel(text).save_pretrained(str(base / "text_encoder"))
        t5 = T5Config(vocab_size=len(WORDS), d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0)
        T5EncoderModel(t5).save_pretrained(str(base / "text_encoder_2"))
        codec = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=SIDE,
            scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
        )  # fmt: skip
        codec.save_pretrained(str(base / "vae"))
        vision = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=SIDE,
            patch_size=8,
        )
        CLIPVisionModel(vision).save_pretrained(str(clip))
        save_file(MMDiT(PARAMS).state_dict(), base / "flux1-dev.safetensors")
    return base, clip
