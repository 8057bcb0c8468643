"""Sequence parallelism: each process holds a slice of the tokens, and one state crosses from each to the next.

Slices compose: after A and then B the state is S_AB = gamma^|B| S_A + S_B (Eq. 7 with one chunk a slice). So a process
computes what its own tokens write, which needs nobody; the states before the slices follow one another by a scan; and
each slice then runs as any retention does from a state. What crosses is B H K V numbers a layer, however long the
slices; keys, values and scores stay where they are. The gradient of the scan is the same scan from the last to the first.

The scan is a ring of sends, not an all_gather. Each process sends one state, where an all_gather brings each of W
processes W - 1 of them and makes all wait for the slowest at every layer. In the ring the first process goes on to its
next layer at once, so the W - 1 hops are waited for once a pass, and not at every layer.
"""

import torch
import torch.distributed as dist

from refimpl import State, retention_chunkwise
from refimpl.checks import accumulation_dtype, check_retention
from refimpl.decay import chunk_decays_of, in_two_parts


def retention_sequence_parallel(q, k, v, gamma, state=None, *, group=None, retention=retention_chunkwise):
    """Retention of a sequence whose tokens are split over the processes of a group, in the order of their ranks.

    Every process calls it, with its own contiguous slice of q, k, v; slices may differ in length and be empty, B, H, K,
    V, the dtype and gamma may not differ. Where one process runs a backward pass, all must: one whose outputs are in no
    loss multiplies them by 0.

    Args:
        q, k, v, gamma: as in the contract of `refimpl.retention`, T being the length of this slice.
        state: what came before the whole sequence, on the first process alone; None elsewhere.
        group: a process group, by default that of all processes.
        retention: the form that computes the slice, under the contract.

    Returns:
        out (B, H, T, V) of this slice and the state after its last token; on the last process that is the state
        after the whole sequence.

    Raises:
        TypeError, ValueError: as every retention; ValueError for a state on another process than the first.
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

    The parts are as even as T allows. With the targets cut alike, each process has the loss of its own part.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    start, stop = (tokens.shape[1] * r // size for r in (rank, rank + 1))
    return tokens[:, start:stop], State(start, (None,) * config.num_layers)


@torch.compiler.disable  # what a process waits for is no part of a graph; what it computes before and after is
def _state_before(written, state, decay, group):
    return _StateBefore.apply(written, state, decay, group)


class _StateBefore(torch.autograd.Function):
    """The state before each slice, from the states that the slices write by themselves and the one before them all."""

    @staticmethod
    def forward(ctx, written, state, decay, group):
        ctx.decay, ctx.group, ctx.resumed = decay, group, state is not None
        before, _ = _scan(written, state, decay, group, direction=1)
        return before.clone() if ctx.resumed else before  # an input must not come out as it is

    @staticmethod
    def backward(ctx, grad_before):
        # What later slices ask of the state after this one is asked of what this one writes ...
        grad_after, passed_on = _scan(grad_before, None, ctx.decay, ctx.group, direction=-1)
        # ... and, decayed, together with what this slice asks, of the state before it.
        return grad_after, passed_on if ctx.resumed else None, None, None


def _scan(own, carried, decay, group, direction):
    """Receive a state from the neighbour behind, send decay * state + own to the one ahead; returns both.

    carried: what the first in line has in place of a neighbour's, None for zero.
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
