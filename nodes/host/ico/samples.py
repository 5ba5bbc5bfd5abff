"""Pictures of a running training at fixed steps, prompts and seed, so that the best step can be picked.

Their latents are kept beside the training. Each is decoded and written as soon as it is drawn where the VAE fits beside
what is being trained; else when the training is over, since the VAE would push it out. At each of these steps the
concept is kept too, where a training of so many steps finds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....dci_core.errors import NotSaved, PackError
from ....dci_core.files import read_tensors, write_tensors
from ....dci_core.fingerprint import short_hash
from ....dci_core.ico.estimate import rounds_left
from ....dci_core.ico.samples import COVER_PROMPT, SAMPLING, draw_sample
from ....dci_core.ico.state import TrainState
from ....dci_core.ico.train import StepReport
from ....dci_core.names import as_part
from ....dci_core.pictures.saving import save_image
from ....dci_core.pictures.thumbnails import image_of
from ..folders import prepared
from ..page.live import note
from .covers import stop_if_asked
from .model import HostModel

ENDING = ".samples"
FOLDER = "ico_dci"  # in the host's output folder
Place = tuple[int, int]  # finished steps, number of the prompt
Develop = Callable[[Tensor], Tensor | None]  # pictures [b h w 3] of latents, or None where that must wait
UNITS_OF_A_STEP = 2  # a row's forward and backward pass, in forward passes


@dataclass
class Samples:
    """What is drawn while a training runs.

    every              steps between two rounds; 0: none
    prompts            with `{concept}` once in each
    latents, pictures  what was drawn, by place; pictures come as soon as the VAE may decode
    folder             of the files, in the host's output folder
    seconds            each round of this run took
    written            places whose files are there
    """

    every: int = 0
    prompts: Sequence[str] = (COVER_PROMPT,)
    latents: dict[Place, Tensor] = field(default_factory=dict)
    pictures: dict[Place, Tensor] = field(default_factory=dict)
    folder: str = ""
    seconds: list[float] = field(default_factory=list)
    written: set[Place] = field(default_factory=set)

    def file(self, training: Path, trigger: str, key: str) -> Path:
        """Where the latents of this training and these prompts lie."""
        mine = short_hash([repr(tuple(self.prompts)).encode()])
        self.folder = f"{as_part(trigger)}-{short_hash([(key + mine).encode()])[:8]}"
        return training.with_name(f"{as_part(trigger)}-{key}-{mine}{ENDING}")

    def load(self, path: Path, steps: int) -> None:
        """Takes the latents that are kept, of no more than so many steps; none where there are none."""
        if not self.every or not path.is_file():
            return
        try:
            kept, _ = read_tensors(path, "samples file")
            found = {place_of(name): latent for name, latent in kept.items()}
        except (PackError, ValueError) as error:
            note(f"the samples of earlier steps cannot be read and are left out: {error}")
            return
        self.latents |= {place: latent for place, latent in found.items() if place[0] <= steps}

    def is_due(self, step: int, steps: int) -> bool:
        """Whether a round belongs behind this step."""
        return bool(self.every) and (step % self.every == 0 or step == steps)

    def seconds_left(self, report: StepReport, rows: int) -> float:
        """Time for the rounds behind this step and later ones, by those so far; before the first by a step's time.

        rows  of a training step
        """
        rounds = rounds_left(self.every, report.step, report.steps)
        if self.seconds:
            return rounds * sum(self.seconds) / len(self.seconds)
        passes = 2 * SAMPLING.num_steps * len(self.prompts)  # with and without the prompt
        return rounds * passes * report.seconds / (UNITS_OF_A_STEP * rows)

    def draw(
        self, host: HostModel, state: TrainState, shape: Sequence[int], path: Path, develop: Develop
    ) -> list[Tensor]:
        """One round: a latent for each prompt, always from the same noise, and its picture where it can be had now.

        Returns the latents [c h w]; a round that fails is told and left out.
        """
        started, drawn = time.perf_counter(), list[Tensor]()
        try:
            with torch.inference_mode(False):
                for number, prompt in enumerate(self.prompts):
                    latent = draw_sample(host, state, prompt, shape=shape, sigmas=host.sigmas(), on_step=stop_if_asked)
                    drawn.append(latent[0])
                    self.latents[state.step, number] = latent[0].half().cpu()
            named = {f"{step}.{number}": latent for (step, number), latent in self.latents.items()}
            write_tensors(path, named, {"format": "ico-dci samples"})
            self.decode(develop, [(state.step, number) for number in range(len(drawn))])
            self.write()
        except (PackError, RuntimeError) as error:
            note(f"the samples of step {state.step} are not kept: {error}")
        self.seconds.append(time.perf_counter() - started)
        return drawn

    def decode(self, develop: Develop, places: Sequence[Place] | None = None) -> None:
        """The latents of these places, else of all rounds, as pictures; what is there is not made again."""
        last = max((step for step, _ in self.latents), default=0)
        due = [place for place in sorted(self.latents) if place[0] % self.every == 0 or place[0] == last]
        try:
            for place in due if places is None else places:
                if place not in self.pictures and (found := develop(self.latents[place][None])) is not None:
                    (self.pictures[place],) = found
        except RuntimeError as error:  # out of memory too; the concept counts for more
            note(f"the samples cannot be decoded: {error}")

    def batch(self) -> Tensor | None:
        """All pictures [b h w 3], a row of prompts for each step; None where there is none."""
        return torch.stack([self.pictures[place] for place in sorted(self.pictures)]) if self.pictures else None

    def write(self) -> list[Mapping[str, str]]:
        """The pictures as PNG files, named by step and prompt; how the host's `/view` names them."""
        import folder_paths

        place = Path(folder_paths.get_output_directory()) / FOLDER / self.folder
        written: list[Mapping[str, str]] = []
        if not self.pictures:
            return written
        try:
            for (step, number), picture in sorted(self.pictures.items()):
                name = f"step_{step:05}_prompt_{number + 1}.png"
                if (step, number) not in self.written:
                    save_image(image_of(picture), prepared(place / name))
                    self.written.add((step, number))
                written.append({"filename": name, "subfolder": f"{FOLDER}/{self.folder}", "type": "output"})
        except NotSaved as error:
            note(f"these samples are on the node and not among the files: {error}")
        return written


def no_picture() -> Any:
    """What an output gives that has no picture: nodes behind it do not run."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return ExecutionBlocker(None)


def place_of(name: str) -> Place:
    """(step, prompt) of a latent's name; raises ValueError."""
    step, _, number = name.partition(".")
    return int(step), int(number)
