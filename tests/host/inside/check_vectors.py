"""The released dual-branch run on SD 1.5's shape, reproduced by the pack through the stock guider and sampler.

Needs the random checkpoint that the numbers were made with, as models/checkpoints/random_sd15.safetensors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lab import PACK, conditioning, counting_rows, distance
from marks import Absent, slow

CHECKPOINT = "random_sd15.safetensors"
VECTORS = "pipeline_sd15_256_shared.safetensors"


def released() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(case, tensors) of the released run."""
    from safetensors import safe_open

    with safe_open(str(Path(__file__).parents[2] / "golden" / VECTORS), "pt") as file:
        return json.loads(file.metadata()["case"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def checkpoint() -> Any:
    """The random SD 1.5, through the stock loader."""
    import folder_paths
    import nodes

    if folder_paths.get_full_path("checkpoints", CHECKPOINT) is None:
        raise Absent(f"no {CHECKPOINT} in models/checkpoints")
    return nodes.CheckpointLoaderSimple().load_checkpoint(CHECKPOINT)[0]


@slow
def test_the_pack_gives_the_released_latents() -> None:
    import comfy.samplers

    case, given = released()
    model = checkpoint()
    tokens = PACK["dci_core.text.tokens"]
    sides = [
        tokens.TokenSet(tuple(i + 1 for i in case[f"{side}_indices"]), tuple(range(1, case[f"length_{side}"] + 1)), 77)
        for side in ("concept", "aux")
    ]
    plans = PACK["nodes.host.dci.plan"]
    plan = plans.DciPlan("lab", given["aa"], None, tokens.PairTokens(*sides))
    settings = PACK["dci_core.dci.branches"].DciSettings(
        window=case["agg"], strength=case["lam"], guidance="shared", gain="reference"
    )
    dbim = settings.dbim(PACK["dci_core.families.table"].find_family("sd15"))
    branching = PACK["nodes.host.dci.branching"]
    patched, record = branching.with_dci(model, plans.DciPatch(plan, settings, dbim))
    patched, rows = counting_rows(patched)

    sampling = model.get_model_object("model_sampling")
    sigmas = torch.stack([sampling.sigma(torch.tensor(float(t))) for t in [*case["timesteps"], 0]])
    to_noise = (1 + sigmas[0] ** 2).sqrt() / sigmas[0]  # the host scales start noise by sigma
    other = given["y_T"] * to_noise
    branching.start_noise = lambda noise, seed, own_seed: other

    guider = comfy.samplers.CFGGuider(patched)
    guider.set_conds(conditioning(given["cc"], plan), conditioning(given["un"]))
    guider.set_cfg(case["scale"])
    latents: list[torch.Tensor] = []
    last = guider.sample(
        given["x_T"] * to_noise,
        torch.zeros_like(given["x_T"]),
        comfy.samplers.sampler_object("euler"),
        sigmas,
        callback=lambda step, x0, x, total: latents.append(x.clone()),
        disable_pbar=True,
        seed=1,
    )
    scale = model.model.latent_format.scale_factor
    latents = [*latents[1:], last * scale]
    errors = [
        distance(x / (1 + s**2).sqrt(), wanted) for x, s, wanted in zip(latents, sigmas[1:], given["x"], strict=True)
    ]
    aux_error = distance(record.final_auxiliary * scale / (1 + sigmas[3] ** 2).sqrt(), given["y"][-1])
    print("MEASURED", {"latents": max(errors), "auxiliary": aux_error, "rows": rows})
    assert max(errors) < 1e-4, errors
    assert aux_error < 1e-4, aux_error
    assert rows == [3, 3, 3] + [2] * 7
    assert len({layer for _, layer in record.weights}) == 16
