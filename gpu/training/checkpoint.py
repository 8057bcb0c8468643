"""What a run leaves on disk to go on from: weights, the moments of AdamW and the progression, in one file.

One file, written beside its place and then renamed: whenever the run is killed, the file is that of one step. It holds
whole tensors however many processes share them out, so a run may go on with another number of processes.
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
    """The settings of a run, how far it had come, the fingerprint of its text, and its tensors by name."""

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
        for kind, part in {
            "weight": weight.detach(),
            **{each: optimizer.state[weight][each] for each in MOMENTS},
        }.items():
            part = whole(part)
            if is_first():
                tensors[f"{kind}.{name}"] = part.cpu().contiguous()
    return tensors


def save_checkpoint(out, config, progression, text, tensors):
    """Write `out`/checkpoint.safetensors, whole or not at all; text: a fingerprint of what the run learns from."""
    metadata = {
        "config": json.dumps(dataclasses.asdict(config)),
        "progression": progression.to_json(),
        "text": text,
    }
    write_atomically(Path(out) / NAME, safetensors.torch.save(tensors, metadata))


def load_checkpoint(out):
    """Read what `save_checkpoint` wrote, or None if there is nothing; ValueError for a file of something else."""
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

    Every process must call it; those of the first are taken.
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
