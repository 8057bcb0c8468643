"""Sequence parallelism: each process holds a slice of the tokens, and passes one state to the next process.

Slices compose: after A and then B the state is S_AB = gamma^|B| S_A + S_B (Eq. 7 with one chunk a slice). So a process
first computes the state that its own tokens write, without the others. A scan gives the states before the slices, and each
slice then runs as any retention from a state. Each process sends B H K V numbers a layer, however long the slices are; keys,
values and scores stay where they are. The gradient of the scan is the same scan from the last process to the first.

The scan is a chain of sends, not an all_gather. Each process sends one state; with an all_gather each of W processes would
receive W - 1 states, and all would wait for the slowest at every layer. In the chain the first process starts its next layer
at once, so the wait for W - 1 hops occurs once a pass, and not at every layer.
"""

import torch
import torch.distributed as dist

from refimpl import State, retention_chunkwise
from refimpl.checks import accumulation_dtype, check_retention
from refimpl.decay import chunk_decays_of, in_two_parts


def retention_sequence_parallel(q, k, v, gamma, state=None, *, group=None, retention=retention_chunkwise):
    """Retention of a sequence whose tokens are split over the processes of a group, in the order of their ranks.

    Every process calls it with its own contiguous slice of q, k, v. Slices may differ in length and be empty; B, H, K, V,
    the dtype and gamma must be the same. If one process runs a backward pass, all must: one whose outputs are in no loss
    multiplies them by 0.

    Args:
        q, k, v, gamma: as in the contract of `refimpl.retention`, T being the length of this slice.
        state: the state before the whole sequence, on the first process only; None on the others.
        group: a process group, by default that of all processes.
        retention: the form that computes the slice, under the contract.

    Returns:
        out (B, H, T, V) of this slice and the state after its last token; on the last process that is the state
        after the whole sequence.

    Raises:
        TypeError, ValueError: as every retention; ValueError for a state on a process other than the first.
    """
    xp = check_retention(q, k, v, gamma, state)
    rank = dist.get_rank(group)
    if state is not None and rank > 0:
        raise ValueError(f"state must be None on every process but the first of the group, got one on process {rank}")
    dtype = accumulation_dtype(xp, q.dtype)
    _, zeta, whole = chunk_decays_of(gamma.double(), q.shape[2])
    written = k.to(dtype).mT @ (v.to(dtype) * zeta.to(dtype)[:, :, None])
    before = _state_before(written, state, in_two_parts(whole, dtype), group)
    return retention(q, k, v, gamma, before)


def own_slice(tokens, config, group=None):
    """This process's part of tokens (B, T), and the `State` to start a model of `config` from on it.

    The parts are as even as T allows. If the targets are cut the same way, each process has the loss of its own part.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    start, stop = (tokens.shape[1] * r // size for r in (rank, rank + 1))
    return tokens[:, start:stop], State(start, (None,) * config.num_layers)


@torch.compiler.disable  # waiting for another process cannot be part of a compiled graph
def _state_before(written, state, decay, group):
    return _StateBefore.apply(written, state, decay, group)


class _StateBefore(torch.autograd.Function):
    """The state before each slice, from the states that the slices write alone and the state before all of them."""

    @staticmethod
    def forward(ctx, written, state, decay, group):
        ctx.decay, ctx.group, ctx.resumed = decay, group, state is not None
        before, _ = _scan(written, state, decay, group, direction=1)
        return before.clone() if ctx.resumed else before  # autograd does not allow an input as an output

    @staticmethod
    def backward(ctx, grad_before):
        # The gradient of the state after this slice is that of what the slice writes. Decayed, plus this slice's own
        # gradient, it is that of the state before it.
        grad_after, passed_on = _scan(grad_before, None, ctx.decay, ctx.group, direction=-1)
        return grad_after, passed_on if ctx.resumed else None, None, None


def _scan(own, carried, decay, group, direction):
    """Receive a state from the neighbour behind, send decay * state + own to the one ahead; returns both.

    carried: what the first process uses instead of a neighbour's state, None for zero.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    behind, ahead = rank - direction, rank + direction
    if 0 <= behind < size:
        carried = own.new_empty(own.shape)
        dist.recv(carried, group=group, group_src=behind)
    elif carried is None:
        carried = own.new_zeros(own.shape)
    high, low = decay
    passed_on = high * carried + (low * carried + own)
    if 0 <= ahead < size:
        dist.send(passed_on.contiguous(), group=group, group_dst=ahead)
    return carried, passed_on
