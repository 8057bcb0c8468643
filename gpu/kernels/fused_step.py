"""The fused decode step as an operation of torch, retnet::step, so that torch.compile does not trace into it."""

import torch


def fused_step(q, k, v, gamma, state=None):
    """`retention_step_triton` for decoding: it writes the new state over the given one, and has no gradient."""
    if state is None:
        from .triton_retention import retention_step_triton  # here, because Triton is not installed everywhere

        return retention_step_triton(q, k, v, gamma)
    return _step_in_place(q, k, v, gamma, state), state


@torch.library.custom_op("retnet::step", mutates_args=("state",))
def _step_in_place(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gamma: torch.Tensor, state: torch.Tensor
) -> torch.Tensor:
    from .triton_retention import retention_step_triton

    return retention_step_triton(q, k, v, gamma, state, out_state=state)[0]


@_step_in_place.register_fake
def _(q, k, v, gamma, state):
    return torch.empty_like(v, memory_format=torch.contiguous_format)
