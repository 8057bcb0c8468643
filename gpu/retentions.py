"""The retentions that a run can name, and the decode step that goes with each."""

import functools
from importlib.util import find_spec

import torch

from refimpl import retention_chunkwise, retention_parallel, retention_step


def fused(chunk_size):
    """`retention_chunkwise_triton` with chunks of its own choice; imported when asked for, as Triton is not everywhere."""
    from .triton_retention import retention_chunkwise_triton

    return retention_chunkwise_triton


def fused_step(q, k, v, gamma, state=None):
    """`retention_step_triton`, which writes the new state over the one it is given; for decoding: it has no gradient."""
    if state is None:
        from .triton_retention import retention_step_triton

        return retention_step_triton(q, k, v, gamma)
    return _step_in_place(q, k, v, gamma, state), state


@torch.library.custom_op("retnet::step", mutates_args=("state",))  # so that a compiler need not look inside
def _step_in_place(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gamma: torch.Tensor, state: torch.Tensor
) -> torch.Tensor:
    from .triton_retention import retention_step_triton

    return retention_step_triton(q, k, v, gamma, state, out_state=state)[0]


@_step_in_place.register_fake
def _(q, k, v, gamma, state):
    return torch.empty_like(v, memory_format=torch.contiguous_format)


# Each takes a chunk size and returns a function under the contract of `refimpl.retention`.
RETENTIONS = {
    "parallel": lambda chunk_size: retention_parallel,
    "chunkwise": lambda chunk_size: functools.partial(retention_chunkwise, chunk_size=chunk_size),
    "triton": fused,
}


def step_of(retention):
    """The decode step for a name of `RETENTIONS`."""
    return fused_step if retention == "triton" else retention_step


def has_fused(device):
    """Whether the fused kernels run on a device: an NVIDIA GPU with Triton beside torch."""
    return torch.device(device).type == "cuda" and torch.version.cuda is not None and find_spec("triton") is not None
