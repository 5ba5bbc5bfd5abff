"""What pictures score: the maths against naive formulas, encoders against the library's own forward."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch.nn.functional import cosine_similarity

from dci_core.errors import BadModel, BadPicture, BadSettings, PromptTooLong
from dci_core.intervals import interval
from dci_core.score.encoders import embed, load_clip, load_dino
from dci_core.score.folders import CLIP, DINO, folders_in
from dci_core.score.frontier import frontier
from dci_core.score.scores import (
    Judges,
    Score,
    among,
    look_at_references,
    mean_cosine,
    score_pictures,
    summed_up,
)

from ..encoder_folders import SIZE, clip_folder, dino_folder, vit_folder

PROMPTS = ["a dog in the snow", "a fish on the sofa", "a dog in the snow", "the fish"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one encoder of each kind in it."""
    root = tmp_path_factory.mktemp("encoders")
    clip_folder(root / "clip")
    dino_folder(root / "dino")
    vit_folder(root / "maker" / "vit")
    return root


def some_pictures(count: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    small = [Image.fromarray(rng.integers(0, 255, (5, 4, 3), dtype=np.uint8)) for _ in range(count)]
    return [picture.resize((48, 60), Image.Resampling.BICUBIC) for picture in small]


def random_unit(count: int, seed: int) -> torch.Tensor:
    vectors = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return vectors / vectors.norm(dim=1, keepdim=True)


def test_likeness_is_the_mean_cosine_over_all_references() -> None:
    pictures, references = random_unit(3, 0), random_unit(4, 1)
    naive = [sum(float(cosine_similarity(p, r, dim=0)) for r in references) / 4 for p in pictures]
    assert mean_cosine(pictures, references).tolist() == pytest.approx(naive, abs=1e-6)


def test_references_are_compared_with_each_other_and_never_with_themselves() -> None:
    references = random_unit(4, 1)
    pairs = [float(a @ b) for i, a in enumerate(references) for j, b in enumerate(references) if i != j]
    assert among(references) == pytest.approx(sum(pairs) / 12, abs=1e-6)
    assert among(references[:1].expand(3, -1)) == pytest.approx(1, abs=1e-6)


def test_pictures_are_the_references_themselves_exactly_when_likeness_is_one(folders: Path) -> None:
    judges = Judges(dino=load_dino(folders / "dino"))
    same, others = some_pictures(1) * 2, some_pictures(2, seed=9)
    real = look_at_references(judges, same)
    assert score_pictures(judges, real, same, ["x"] * 2)["dino"].value == pytest.approx(1, abs=1e-5)
    assert score_pictures(judges, real, others, ["x"] * 2)["dino"].value < 0.99


def test_clip_agrees_with_the_librarys_own_forward(folders: Path) -> None:
    images = some_pictures(4)
    clip = load_clip(folders / "clip")
    scores = score_pictures(Judges(clip=clip), look_at_references(Judges(clip=clip), images[:2]), images, PROMPTS)
    model = transformers.CLIPModel.from_pretrained(folders / "clip").eval()
    with torch.no_grad():
        inputs = {**clip.words(PROMPTS, padding=True, return_tensors="pt"), **prepared_by_hand(images)}
        out = model(**inputs)
    expected = (out.image_embeds * out.text_embeds).sum(1)  # both are unit vectors already
    assert scores["clip_t"].values == pytest.approx(expected.tolist(), abs=1e-5)
    assert scores["clip_i"].values == pytest.approx(
        (out.image_embeds @ out.image_embeds[:2].T).mean(1).tolist(), abs=1e-5
    )
    assert len(set(scores["clip_t"].values)) == 4


def prepared_by_hand(images: list[Image.Image]) -> dict[str, torch.Tensor]:
    """CLIP's preparation as its paper has it: shorter side resized, centre cut out, channels normalised."""
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    rows = []
    for image in images:
        scale = SIZE / min(image.size)
        whole = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (whole.width - SIZE) // 2, (whole.height - SIZE) // 2
        cut = torch.from_numpy(np.array(whole.crop((left, top, left + SIZE, top + SIZE)))).float() / 255
        rows.append(((cut - mean) / std).permute(2, 0, 1))
    return {"pixel_values": torch.stack(rows)}


def test_dino_is_the_class_token_of_either_generation(folders: Path) -> None:
    images = some_pictures(2)
    for folder, name in ((folders / "dino", "Dinov2Model"), (folders / "maker" / "vit", "ViTModel")):
        dino = load_dino(folder)
        assert type(dino.model).__name__ == name
        pixels = torch.as_tensor(dino.prepare(images=images, return_tensors="pt")["pixel_values"])
        with torch.no_grad():
            token = dino.model(pixel_values=pixels).last_hidden_state[:, 0]
        assert cosine_similarity(dino.pictures(images), token).tolist() == pytest.approx([1, 1], abs=1e-5)
        assert float(dino.pictures(images).norm(dim=1).sub(1).abs().max()) < 1e-5


def test_batches_change_nothing(folders: Path) -> None:
    dino, images, done = load_dino(folders / "dino"), some_pictures(19), []
    found = embed(dino.pictures, images, done.append)
    alone = torch.cat([dino.pictures([image]) for image in images])
    assert torch.allclose(found, alone, atol=1e-5) and done == [16, 3]


def test_nothing_touches_the_network(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: Any, **more: Any) -> None:
        raise AssertionError("the network was asked")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    load_clip(folders / "clip")
    load_dino(folders / "dino")
    with pytest.raises(BadModel, match="none is downloaded"):
        load_clip(Path("openai/clip-vit-base-patch32"))


def test_the_librarys_own_voice_is_as_it_was(folders: Path) -> None:
    tell = transformers.utils.logging
    before = tell.get_verbosity(), tell.is_progress_bar_enabled()
    load_dino(folders / "dino")
    assert (tell.get_verbosity(), tell.is_progress_bar_enabled()) == before


def test_folders_are_found_by_what_they_hold(folders: Path) -> None:
    assert [path.name for path in folders_in(folders, CLIP)] == ["clip"]
    assert [path.name for path in folders_in(folders, DINO)] == ["dino", "vit"]


def test_weights_that_are_not_all_there_are_refused(folders: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    whole = load_file(clip_folder(tmp_path / "clip") / "model.safetensors")
    del whole["visual_projection.weight"]
    save_file(whole, tmp_path / "clip" / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadModel, match=r"lack visual_projection\.weight"):
        load_clip(tmp_path / "clip")


def test_damaged_weights_get_one_sentence(tmp_path: Path) -> None:
    (dino_folder(tmp_path / "dino") / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0broken")
    with pytest.raises(BadModel, match='"dino" cannot be loaded'):
        load_dino(tmp_path / "dino")


def test_pickled_weights_are_never_opened(tmp_path: Path) -> None:
    folder = dino_folder(tmp_path / "dino")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadModel, match="no safetensors weights"):
        load_dino(folder)


def test_a_processor_of_another_size_gets_one_sentence(tmp_path: Path) -> None:
    folder = vit_folder(tmp_path / "vit")
    config = folder / "preprocessor_config.json"
    config.write_text(config.read_text().replace(f'"height": {SIZE}', '"height": 40'))
    with pytest.raises(BadModel, match="does not take its pictures"):
        load_dino(folder).pictures(some_pictures(1))


def test_a_prompt_that_does_not_fit_is_refused_rather_than_cut(folders: Path) -> None:
    clip = load_clip(folders / "clip")
    assert clip.texts(["dog " * 75]).shape == (1, 16)
    with pytest.raises(PromptTooLong, match="76 tokens; at most 75 fit"):
        clip.texts(["dog " * 76])


def test_one_reference_and_no_encoder_are_refused(folders: Path) -> None:
    with pytest.raises(BadPicture, match="1 reference picture came; at least 2"):
        look_at_references(Judges(dino=load_dino(folders / "dino")), some_pictures(1))
    with pytest.raises(BadSettings, match="no encoder"):
        Judges()


def test_pictures_of_one_prompt_are_drawn_again_together() -> None:
    values, groups = [0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"]
    assert interval(values, groups) == (0, 1)  # either prompt alone may come up
    low, high = interval(values * 20, range(80))
    assert 0.35 < low < 0.5 < high < 0.65


def test_uneven_groups_weigh_as_many_pictures_as_they_have() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(30), rng.integers(1, 6, 30))
    values = rng.normal(0.5, 0.1, 30)[groups]
    low, high = interval(values.tolist(), groups.tolist())
    assert low < values.mean() < high and high - low < 0.15


def test_one_picture_has_no_interval_and_one_prompt_counts_its_pictures() -> None:
    alone = summed_up([0.3], ["x"])
    assert (alone.low, alone.high) == (None, None) and alone.facts()["value"] == 0.3
    several = summed_up([0.1, 0.2, 0.3, 0.4], ["x"] * 4)
    assert several.low is not None and several.low < several.value < (several.high or 0)


def point(following: float, likeness: float) -> dict[str, Score]:
    return {name: Score((value,), value, None, None) for name, value in (("clip_t", following), ("dino", likeness))} | {
        "clip_i": Score((0.0,), 0.0, None, None)
    }


def test_the_frontier_holds_what_nothing_beats() -> None:
    settings = {"high": point(0.3, 0.5), "wide": point(0.2, 0.8), "worse": point(0.2, 0.5), "twin": point(0.3, 0.5)}
    assert frontier(settings) == ["high", "wide", "twin"]
    assert frontier({"half": {"dino": Score((1.0,), 1.0, None, None)}}) == []
