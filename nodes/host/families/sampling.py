"""What a MODEL's sampling object says: what the network gives, how noise is counted, and its own clock."""

from __future__ import annotations

import math
from typing import Any

import torch

from ....dci_core.dci.stability import spring_share
from ....dci_core.errors import BadModel
from ....dci_core.noise.process import FLOW
from ....dci_core.noise.schedule import TRAINING_STEPS

IMAGE_TO_IMAGE = "img_to_img"
KINDS = (  # by the names of the host's classes, those that inherit from others first
    (IMAGE_TO_IMAGE, {"IMG_TO_IMG", "IMG_TO_IMG_FLOW"}),
    ("x0", {"X0"}),
    ("lcm", {"LCM"}),
    (FLOW, {"CONST"}),
    ("cosmos", {"COSMOS_RFLOW"}),
    ("edm", {"EDM"}),
    ("v", {"V_PREDICTION"}),
    ("eps", {"EPS"}),
)
TABLE, NO_TABLE = "ModelSamplingDiscrete", {"ModelSamplingDiscreteEDM", "StableCascadeSampling"}


def kind_of(sampling: Any) -> str:
    """What the network gives: one of KINDS; "unknown" where another pack brings a class of its own."""
    names = class_names(sampling)
    return next((kind for kind, classes in KINDS if names & classes), "unknown")


def class_names(sampling: Any) -> set[str]:
    """Names of the object's class and of all that it inherits from."""
    return {kind.__name__ for kind in type(sampling).__mro__}


def level_at(sampling: Any, timestep: float) -> float:
    """Noise at a timestep, 0 to 1000 (pure noise), by the object's own clock; raises BadModel where it has none.

    Discrete schedules are asked for the timestep, all others for the share of their own time.
    """
    kind, names = kind_of(sampling), class_names(sampling)
    if kind == IMAGE_TO_IMAGE:
        raise BadModel(
            "the model's sampling is img_to_img, which removes no noise",
            "one that goes from noise to a picture is expected, so that DCI has a window",
            "take the sampling node off this model, or sample without DCI",
        )
    if TABLE in names and not names & NO_TABLE:
        level = float(sampling.sigma(torch.tensor(timestep)))
    else:
        level = float(sampling.percent_to_sigma(1 - timestep / TRAINING_STEPS))
    if not math.isfinite(level):
        level = level_in(sampling.sigmas, timestep / TRAINING_STEPS)
    if not math.isfinite(level):
        raise BadModel(
            f"the model's sampling object ({type(sampling).__name__}) gives noise {level} at timestep {timestep:g}",
            "a finite level is expected, so that DCI has a window",
            "take the sampling node off this model, or sample without DCI",
        )
    return level


def shift_of(sampling: Any) -> float:
    """How far a flow's times are shifted towards noise, as a factor of the odds."""
    shift = float(sampling.shift)
    return math.exp(shift) if "ModelSamplingFlux" in class_names(sampling) else shift


def level_in(sigmas: torch.Tensor, share: float) -> float:
    """Noise at a share of a table of rising levels, in log sigma between them."""
    logs, place = sigmas.double().log(), share * (len(sigmas) - 1)
    low = min(int(place), len(sigmas) - 1)
    return float(torch.lerp(logs[low], logs[min(low + 1, len(sigmas) - 1)], place - low).exp())


def ratio_of(sampling: Any, level: float) -> float:
    """Noise against the spread of the latents that the model was made for (EDM's sigma_data)."""
    return level / float(getattr(sampling, "sigma_data", 1.0))


def borrowed_share(sampling: Any, level: float) -> float:
    """How far an estimate x0 borrowed from another latent moves with the latent: `spring_share`, and all the way in a
    flow, where both share the velocity.
    """
    return 1.0 if kind_of(sampling) == FLOW else spring_share(ratio_of(sampling, level))
