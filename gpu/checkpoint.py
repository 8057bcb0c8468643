"""What a run leaves on disk to go on from: weights, the moments of AdamW and the progression, in one file.

One file, written beside its place and then renamed: whenever the run is killed, the file is that of one step.
"""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch

from refimpl.files import write_atomically
from refimpl.loop import Progression

from .config import RunConfig

NAME = "checkpoint.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Checkpoint(NamedTuple):
    """The settings of a run, how far it had come, the fingerprint of its text, and its tensors by name."""

    config: RunConfig
    progression: Progression
    text: str
    tensors: dict


def save_checkpoint(out, config, progression, text, model, optimizer):
    """Write `out`/checkpoint.safetensors, whole or not at all; text: a fingerprint of what the run learns from."""
    tensors = {}
    for name, weight in model.named_parameters():
        tensors[f"weight.{name}"] = weight.detach()
        tensors |= {f"{moment}.{name}": optimizer.state[weight][moment] for moment in MOMENTS}
    metadata = {
        "config": json.dumps(dataclasses.asdict(config)),
        "progression": progression.to_json(),
        "text": text,
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
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
def restore(tensors, model, optimizer):
    """Put a checkpoint's tensors into a model and its optimiser, bit for bit."""
    state = {}
    for number, (name, weight) in enumerate(model.named_parameters()):
        weight.copy_(tensors[f"weight.{name}"])
        state[number] = {moment: tensors[f"{moment}.{name}"] for moment in MOMENTS}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
