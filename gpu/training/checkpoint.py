"""The checkpoint of a run: weights, the moments of AdamW and the progression, in one file.

It is written atomically, so whenever a run is killed the file is that of one step. Its tensors are whole, also if several
processes share them, so a run may continue with another number of processes.
"""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch

from refimpl.files import write_atomically
from refimpl.training.loop import Progression

from ..parallel.processes import is_first, spread, whole
from .config import RunConfig

NAME = "checkpoint.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Checkpoint(NamedTuple):
    """The settings of a run, its progression, the fingerprint of its text, and its tensors by name."""

    config: RunConfig
    progression: Progression
    text: str
    tensors: dict


def gather(parameters, optimizer):
    """{name: CPU tensor} of weights and moments for `save_checkpoint`, on the first process; {} elsewhere.

    parameters: {name: parameter} as the optimiser has them. Every process must call it.
    """
    tensors = {}
    for name, weight in parameters.items():
        moments = {moment: optimizer.state[weight][moment] for moment in MOMENTS}
        for kind, part in {"weight": weight.detach(), **moments}.items():
            part = whole(part)
            if is_first():
                tensors[f"{kind}.{name}"] = part.cpu().contiguous()
    return tensors


def save_checkpoint(out, config, progression, text, tensors):
    """Write `out`/checkpoint.safetensors, whole or not at all; text: a fingerprint of what the run learns from."""
    config = json.dumps(dataclasses.asdict(config))
    metadata = {"config": config, "progression": progression.to_json(), "text": text}
    write_atomically(Path(out) / NAME, safetensors.torch.save(tensors, metadata))


def load_checkpoint(out):
    """The `Checkpoint` in a folder, None if there is none; ValueError for a file that is not a checkpoint."""
    path = Path(out) / NAME
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = RunConfig(**json.loads(metadata["config"]))
        return Checkpoint(config, Progression.from_json(metadata["progression"]), metadata["text"], tensors)
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"resume: {str(path)!r} is no checkpoint: {error!r}") from None


@torch.no_grad()
def restore(tensors, parameters, optimizer):
    """Put a checkpoint's tensors into parameters, as for `gather`, and their optimiser, bit for bit.

    Every process must call it; the tensors of the first process are used.
    """
    state = {}
    for number, (name, weight) in enumerate(parameters.items()):
        weight.copy_(spread(tensors.get(f"weight.{name}"), weight))
        count = torch.empty((), device=weight.device)
        state[number] = {
            moment: spread(tensors.get(f"{moment}.{name}"), count if moment == "step" else weight) for moment in MOMENTS
        }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
