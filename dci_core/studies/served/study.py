"""Study B on a real checkpoint: what is drawn, in which order, and what is kept of it.

From one checkpoint of ICO per subject, DCI and every plain dial get four settings each, the same prompts and the same
noise; likeness is DINO's (CLIP-I's where there is no DINO), following CLIP-T's.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ...files import write_bytes
from ...pictures.reference import open_rgb
from ...score.scores import Judges, References, look_at_references, score_pictures
from ...text.stand_ins import AUTO, stand_in_for
from ...text.tokens import PLACEHOLDER
from ..dci.dials import PROMPT_WEIGHTS, STRENGTHS, SWAP_WINDOWS, WINDOWS
from ..dci.ground import hash_of
from ..dci.store import Store
from .client import Server
from .datasets import Subject
from .graphs import Base, Drawing, concept_name, drawing_graph, picture_folder, training_graph

NODES = ("ICOLoadPictures", "ICOTrainConcept", "ICOSaveConcept", "DCIPromptPair", "DCIDualBranchSampler")
CFG_FACTORS = (0.5, 0.75, 1.5, 2.0)
EARLIER = (0.25, 0.44, 0.63, 0.81)  # of the steps: the checkpoint dial


@dataclass(frozen=True)
class Setting:
    """A drawing under the name it has in the report; share: of the training steps, 1 is the dials' own checkpoint."""

    dial: str
    name: str
    drawing: Drawing = Drawing()
    share: float = 1.0


SETTINGS = (
    Setting("plain", "plain"),
    *(Setting("dci", f"window {w:g}", Drawing(window=w)) for w in WINDOWS),
    *(Setting("strength_dial", f"concept strength {s:g}", Drawing(concept_strength=s)) for s in STRENGTHS),
    *(Setting("cfg_dial", f"CFG x {c:g}", Drawing(cfg_factor=c)) for c in CFG_FACTORS),
    *(Setting("prompt_weight_dial", f"prompt weight {w:g}", Drawing(prompt_weight=w)) for w in PROMPT_WEIGHTS),
    *(Setting("checkpoint_dial", f"{s:.0%} of the steps", share=s) for s in EARLIER),
    *(Setting("prompt_swap_dial", f"swap {w:g}", Drawing(swap_window=w)) for w in SWAP_WINDOWS),
)


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    steps      of the dials' own checkpoint
    auxiliary  noun of DCI's second branch
    """

    base: Base
    subjects: Sequence[Subject]
    seeds: tuple[int, ...]
    steps: int
    auxiliary: str

    def about(self, judges: Judges) -> dict[str, Any]:
        """What a resumed study must share with this one."""
        names = {
            kind: None if one is None else one.name for kind, one in (("clip", judges.clip), ("dino", judges.dino))
        }
        subjects = {one.name: list(one.prompts) for one in self.subjects}
        own = {"seeds": list(self.seeds), "steps": self.steps, "auxiliary": self.auxiliary}
        return {"base": asdict(self.base), "subjects": subjects, **own, **names}

    def steps_of(self, setting: Setting) -> int:
        """Training steps of a setting's checkpoint."""
        return max(1, round(self.steps * setting.share))

    def auxiliary_of(self, subject: Subject) -> str:
        """The auxiliary noun, never the subject's own."""
        asked = AUTO if self.auxiliary == subject.noun else self.auxiliary
        return stand_in_for(asked, subject.noun, " ".join(subject.prompts))

    def key(self, subject: Subject, setting: Setting) -> str:
        """The cell's name in the store."""
        return hash_of(subject.name, asdict(setting))

    def left(self, store: Store) -> int:
        """Cells without a result."""
        return sum(self.key(subject, one) not in store.results for subject in self.subjects for one in SETTINGS)

    @property
    def cells(self) -> int:
        """Subjects times settings."""
        return len(self.subjects) * len(SETTINGS)


@dataclass(frozen=True)
class Bench:
    """What the work is done with; `folder` takes the pictures."""

    server: Server
    judges: Judges
    store: Store
    folder: Path

    def widgets(self) -> dict[str, dict[str, Any]]:
        """The nodes' own defaults."""
        return {name: self.server.defaults(name) for name in NODES}


def carry_out(plan: Plan, bench: Bench, say: Callable[[str], object]) -> Iterator[None]:
    """Does what is left, subject by subject; yields after each cell. Stopped at any time, finished cells stay."""
    widgets = bench.widgets()
    for subject in plan.subjects:
        left = [one for one in SETTINGS if plan.key(subject, one) not in bench.store.results]
        if not left:
            continue
        say(f"{subject.name}: {len(left)} of {len(SETTINGS)} settings are left")
        for picture in subject.pictures:
            bench.server.upload(picture, picture_folder(subject))
        files = train(plan, bench.server, subject, sorted({plan.steps_of(one) for one in left}), widgets)
        real = look_at_references(bench.judges, [open_rgb(path) for path in subject.pictures])
        for setting in left:
            numbers = draw(plan, bench, subject, setting, files[plan.steps_of(setting)], real, widgets)
            bench.store.keep(plan.key(subject, setting), numbers)
            yield


def train(
    plan: Plan, server: Server, subject: Subject, steps: Sequence[int], widgets: Mapping[str, Mapping[str, Any]]
) -> dict[int, str]:
    """The concept files of these checkpoints, as the loader lists them; rising, so that each goes on from the last."""
    for count in steps:
        server.run(training_graph(plan.base, subject, count, widgets))
    return {count: server.listed("ICOLoadConcept", "concept_name", concept_name(subject, count)) for count in steps}


def draw(
    plan: Plan,
    bench: Bench,
    subject: Subject,
    setting: Setting,
    file: str,
    real: References,
    widgets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Per picture [prompts][seeds] each score, and the seconds; the pictures stand in the study's folder."""
    started = time.perf_counter()
    auxiliary = plan.auxiliary_of(subject)
    graph = drawing_graph(plan.base, subject, file, setting.drawing, subject.prompts, plan.seeds, auxiliary, widgets)
    found = saved_pictures(bench.server, bench.server.run(graph))
    seconds = time.perf_counter() - started
    order = [(i, seed) for i in range(len(subject.prompts)) for seed in plan.seeds]
    images = []
    for i, seed in order:
        data = found[f"draw-{i}-{seed}"]
        write_picture(bench.folder / subject.name / setting.name / f"{i:02d}-{seed}.png", data)
        images.append(Image.open(io.BytesIO(data)).convert("RGB"))
    texts = [subject.prompts[i].replace(PLACEHOLDER, subject.noun) for i, _ in order]
    scores = score_pictures(bench.judges, real, images, texts)
    width = len(plan.seeds)
    numbers: dict[str, Any] = {
        name: [list(score.values[i : i + width]) for i in range(0, len(order), width)] for name, score in scores.items()
    }
    return {**numbers, "seconds": round(seconds, 2), "most_bytes": bench.server.most_bytes}


def saved_pictures(server: Server, outputs: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """The saved pictures' files, by the start of their names."""
    images = [image for output in outputs for image in output.get("images", ()) if image["type"] == "output"]
    return {image["filename"].rsplit("_", 2)[0]: server.picture(image) for image in images}  # NAME_00001_.png


def write_picture(path: Path, data: bytes) -> None:
    """The file stands in its folder; raises NotSaved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
