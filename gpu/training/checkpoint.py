"""What a run on torch keeps in its checkpoint: weights and the moments of AdamW.

The tensors are whole, also if several processes share them, so a run may continue with another number of processes.
"""

import torch

from refimpl.training import checkpoint

from ..parallel.processes import is_first, spread, whole
from .config import RunConfig

NAME = checkpoint.NAME
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def gather(parameters, optimizer):
    """{name: NumPy array} of weights and moments for `save_checkpoint`, on the first process; {} elsewhere.

    parameters: {name: parameter} as the optimiser has them. Every process must call it.
    """
    tensors = {}
    for name, weight in parameters.items():
        moments = {moment: optimizer.state[weight][moment] for moment in MOMENTS}
        for kind, part in {"weight": weight.detach(), **moments}.items():
            part = whole(part)
            if is_first():
                tensors[f"{kind}.{name}"] = part.cpu().contiguous().numpy()
    return tensors


def load_checkpoint(out):
    """The `Checkpoint` in a folder, None if there is none; ValueError for a file that is not a checkpoint."""
    return checkpoint.load_checkpoint(out, RunConfig)


def load_tensors(out, parameters):
    """The tensors of the checkpoint in a folder, for `restore`; ValueError names one that does not fit parameters."""
    wanted = {f"weight.{name}": (weight.shape, "float32") for name, weight in parameters.items()}
    for moment in MOMENTS:
        shapes = {name: () if moment == "step" else weight.shape for name, weight in parameters.items()}
        wanted |= {f"{moment}.{name}": (shape, "float32") for name, shape in shapes.items()}
    return checkpoint.load_tensors(out, RunConfig, wanted)


@torch.no_grad()
def restore(tensors, parameters, optimizer):
    """Put a checkpoint's arrays into parameters, as for `gather`, and their optimiser, bit for bit.

    Every process must call it; the arrays of the first process are used.
    """
    tensors = {name: torch.from_numpy(array) for name, array in tensors.items()}
    state = {}
    for number, (name, weight) in enumerate(parameters.items()):
        weight.copy_(spread(tensors.get(f"weight.{name}"), weight))
        count = torch.empty((), device=weight.device)
        state[number] = {
            moment: spread(tensors.get(f"{moment}.{name}"), count if moment == "step" else weight) for moment in MOMENTS
        }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
