"""What hosts show of a file without reading its tensors: ModelSpec, a picture within limits, facts of a folder."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dci_core.concept.cover import MOST_BYTES, THUMBNAIL, Cover, made_now, read_cover
from dci_core.concept.exports import export_embedding, export_lora
from dci_core.concept.file import load_concept, save_concept
from dci_core.concept.learned import Provenance, concept_hash
from dci_core.concept.listing import facts_of, list_concepts, names_in, picture_of
from dci_core.concept.modelspec import ARCHITECTURES
from dci_core.families.table import FAMILIES
from dci_core.files import read_header
from dci_core.pictures.thumbnails import COVER_PX, image_of, small_jpeg

from .test_exports import made

PICTURE = small_jpeg(image_of(torch.rand(300, 200, 3, generator=torch.Generator().manual_seed(1))))
CONCEPT = replace(made(), about=Provenance(loss={"steps": 40.0, "mean_of_last": 0.1}), cover=made_now(PICTURE))


def metadata(path: Path) -> dict[str, str]:
    return dict(read_header(path)["__metadata__"])


def test_a_concept_comes_back_with_its_picture_and_date(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_concept(CONCEPT, path)
    assert load_concept(path).cover == CONCEPT.cover and CONCEPT.cover.date.endswith("Z")
    assert picture_of(path) == ("image/jpeg", PICTURE)
    save_concept(load_concept(path), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_picture_is_no_part_of_the_concept_itself() -> None:
    assert concept_hash(CONCEPT) == concept_hash(replace(CONCEPT, cover=Cover()))


@pytest.mark.parametrize("kind", ["ico-concept", "lora", "textual-inversion"])
def test_every_file_says_what_it_is_in_modelspec(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.safetensors"
    phrase = "sks fish" if kind == "ico-concept" else "embedding:x fish"
    if kind == "ico-concept":
        save_concept(CONCEPT, path)
    elif kind == "lora":
        export_lora(CONCEPT, path, phrase=phrase)
    else:
        export_embedding(CONCEPT, path, phrase=phrase)
    found = metadata(path)
    assert found["modelspec.sai_model_spec"] == "1.0.0"
    assert found["modelspec.architecture"] == f"ico-dci-tiny-v1/{kind}"
    assert (found["modelspec.title"], found["modelspec.trigger_phrase"]) == ("sks fish", phrase)
    assert "40 steps" in found["modelspec.description"] and phrase in found["modelspec.description"]
    assert found["modelspec.date"] == CONCEPT.cover.date
    assert base64.b64decode(found[THUMBNAIL].partition(",")[2]) == PICTURE
    assert path.read_bytes()[8 : 8 + 1].startswith(b"{") and int.from_bytes(path.read_bytes()[:8], "little") < 1 << 20
    assert safetensors.torch.load_file(path)


def test_every_family_has_an_architecture() -> None:
    assert set(ARCHITECTURES) == set(FAMILIES)


def test_pictures_of_another_kind_or_size_stay_out() -> None:
    for picture in (b"", b"<svg onload=alert(1)>", PICTURE + bytes(MOST_BYTES)):
        assert THUMBNAIL not in Cover(picture).metadata()
    held = base64.b64encode(PICTURE).decode()
    assert read_cover({THUMBNAIL: f"data:image/jpeg;base64,{held}"}).picture == PICTURE
    for text in (
        f"data:image/svg+xml;base64,{held}", f"data:image/png;base64,{held}", "data:image/jpeg;base64,***",
        "https://example.org/x.jpg", f"data:image/jpeg;base64,{'A' * (2 * MOST_BYTES)}",
    ):  # fmt: skip
        assert read_cover({THUMBNAIL: text, "modelspec.date": "<b>"}) == Cover()


def test_a_cover_is_small() -> None:
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(PICTURE)) as picture:
        assert max(picture.size) == COVER_PX and len(PICTURE) < MOST_BYTES


def test_a_folder_is_listed_by_its_headers_and_foreign_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    save_concept(CONCEPT, tmp_path / "sub" / "x.safetensors")
    export_lora(CONCEPT, tmp_path / "lora.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"\xff" * 64)
    (only,) = list_concepts(names_in(tmp_path), lambda name: tmp_path / name)
    assert only["name"] == "sub/x.safetensors" and only["picture"] and only["steps"] == 40
    assert (only["trigger"], only["noun"], only["family"]) == ("sks", "fish", "tiny")
    assert json.loads(json.dumps(only)) == only and facts_of(tmp_path / "gone.safetensors") is None
