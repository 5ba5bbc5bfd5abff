"""Progress of a training: the bar, and now and then what the concept looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ....dci_core.ico.data import TrainingData
from ....dci_core.ico.state import TrainState, generator_for, lay_out_all, possible_captions
from ....dci_core.ico.train import StepReport
from ....dci_core.noise.schedule import place_in
from ....dci_core.pictures.thumbnails import image_of
from ..page.live import CURRENT
from .model import HostModel
from .samples import Samples

TIMESTEP = 700  # noise from which the preview's picture is guessed: most of the look, little of the original
MAX_PX = 256


class Preview:
    """Shows each step, and every few steps the model's guess at the first picture under heavy noise."""

    def __init__(self, host: HostModel, data: TrainingData, state: TrainState, every: int) -> None:
        from comfy.utils import ProgressBar

        self.host, self.data, self.state, self.every = host, data, state, every
        self.bar = ProgressBar(state.settings.steps)
        self.painter = painter_of(host)
        self.live = CURRENT.get()
        if self.live is not None:
            self.live.begin(state.losses, state.settings.steps)

    def show(self, report: StepReport, more: float = 0.0) -> None:
        """Moves the bar, with a picture where one is due; more: seconds that are to come beside the steps."""
        due = self.painter is not None and self.every and report.step % self.every == 0
        picture = self.picture() if due else None
        self.bar.update_absolute(report.step, report.steps, picture)
        if self.live is not None:
            self.live.step(report, picture, more)

    def show_samples(self, samples: Samples, drawn: Sequence[Tensor]) -> None:
        """Shows a round of samples on the node: as the VAE decoded them, else as quickly painted."""
        step, pictures = self.state.step, list[Any]()
        for number, latent in enumerate(drawn):
            found = samples.pictures.get((step, number))
            if found is not None or self.painter is not None:
                pictures.append(image_of(found) if found is not None else self.painted(latent[None])[1])
        if self.live is not None and len(pictures) == len(samples.prompts):
            self.live.sampled(step, samples.prompts, pictures)

    @torch.no_grad()
    def picture(self) -> Any:
        """The guess, as the host sends previews to the page."""
        state = self.state
        captions = possible_captions(self.data, state.settings)[0]
        layout = lay_out_all(self.host, captions[0], state.noun, state.settings)
        text = self.host.encode(*state.learned.text.rows([0], [layout]))
        clean = self.data.latents[:1, 0].float()
        noise = torch.randn(clean.shape, generator=generator_for(state.settings.seed, "preview")).to(clean)
        sigmas = self.host.sigmas()
        sigma = sigmas[[place_in(TIMESTEP, len(sigmas))]].to(clean)
        x = state.noise_process(sigmas).noised(clean, sigma, noise)
        return self.painted(self.host.denoise(x, sigma, text, state.learned.deltas.rule()))

    @torch.no_grad()
    def painted(self, latents: Tensor) -> Any:
        """The first of latents [b c h w] as (kind, picture, size)."""
        assert self.painter is not None
        picture = self.painter.decode_latent_to_preview_image("JPEG", latents)
        return picture if len(picture) == 3 else ("JPEG", picture, MAX_PX)


def painter_of(host: HostModel) -> Any:
    """What paints a latent: as the user has set it for samplers, else the quickest; None where it cannot be painted."""
    from latent_preview import Latent2RGBPreviewer, get_previewer

    form = host.model.model.latent_format
    chosen = get_previewer(host.model.load_device, form)
    if chosen is None and form.latent_rgb_factors is not None:
        return Latent2RGBPreviewer(form.latent_rgb_factors, form.latent_rgb_factors_bias)
    return chosen
