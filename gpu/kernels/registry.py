"""The retentions that a run can name, and the decode step that goes with each."""

import functools
from importlib import import_module
from importlib.util import find_spec

import torch

from refimpl import retention_chunkwise, retention_parallel, retention_step

FLA = "flash-linear-attention"


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


def fla(name):
    """A function of flash-linear-attention under the contract, without a gradient for gamma.

    Its axes are (B, T, H, width), its decays log(gamma), and chunks of its own choice.
    """
    if not find_spec("fla"):
        raise ValueError("retention must not be 'fla' where flash-linear-attention is not installed")
    kernel = getattr(import_module("fla.ops.simple_gla"), name)

    def retention(q, k, v, gamma, state=None):
        rows = (x.transpose(1, 2) for x in (q, k, v))
        out, after = kernel(*rows, g_gamma=gamma.log().float(), scale=1.0, initial_state=state, output_final_state=True)
        return out.transpose(1, 2), after

    return retention


# Each takes a chunk size and returns a function under the contract of `refimpl.retention`.
RETENTIONS = {
    "parallel": lambda chunk_size: retention_parallel,
    "chunkwise": lambda chunk_size: functools.partial(retention_chunkwise, chunk_size=chunk_size),
    "triton": fused,
    "fla": lambda chunk_size: fla("chunk_simple_gla"),
}


def step_of(retention):
    """The decode step for a name of `RETENTIONS`."""
    if retention == "fla":
        return fla("fused_recurrent_simple_gla")
    return fused_step if retention == "triton" else retention_step


def has_fused(device):
    """Whether the fused kernels run on a device: an NVIDIA GPU with Triton beside torch."""
    return torch.device(device).type == "cuda" and torch.version.cuda is not None and find_spec("triton") is not None


def has_fla(device):
    """Whether flash-linear-attention runs on a device: an NVIDIA GPU, and it is installed."""
    return has_fused(device) and find_spec("fla") is not None
