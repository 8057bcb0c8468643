"""Sequence parallelism: each process holds a slice of the tokens, and what the slices write to the state is exchanged.

Slices compose: after A and then B the state is S_AB = gamma^|B| S_A + S_B (Eq. 7 with one chunk a slice). So a process first
computes the total, what its own tokens alone write to the state: T_r = K^T (V * zeta). One all_gather a layer hands every
total to every process. The state before slice r is the sum of the totals before it, each decayed by the slices between, and
from there a slice runs as any retention from a state. Keys, values and scores stay where they are.

The gradients take the same way back. What the later slices read of the state after slice r is R_r, the sum of their totals
(xi Q)^T G, decayed likewise. It is added to the gradient of that state before the retention's own backward pass, which so
gives the whole dq, dk and dv at once: nothing is corrected afterwards.

Why a process waits for the exchange, and does not meanwhile compute from a zero state. Each process sends B H K V float32
numbers. A slice computed from zero would need a second pass that adds xi (Q S): it reads Q and reads and writes O again,
B H T (K + 2 V) halves, and in the backward pass as much twice. With a link that moves 1 / L of what memory moves, the pass
takes longer than the exchange where T > 2 L K V / (K + 2 V): of heads of K = 128, V = 256, and L = 12 as between two GPUs on
NVLink, from 1,229 tokens a slice on. Slices are longer than that, or else there is no need to split a text.

The totals are what sequence parallelism costs: keys and values are read once more in a pass, (K + V) halves a token and
head where the retention moves 3 K + 4 V at least with its gradients. The fused kernel reads of fast heads only what a
float32 does not weigh as zero.
"""

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable

from refimpl import State, retention_chunkwise
from refimpl.checks import accumulation_dtype, check_retention
from refimpl.decay import carry, chunk_decays_of, in_two_parts

from ..kernels.registry import has_fused

HALVES = torch.bfloat16, torch.float16  # the fused kernel multiplies float32 without tensor cores; torch does it faster


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
    check_retention(q, k, v, gamma, state)
    rank = dist.get_rank(group)
    if state is not None and rank > 0:
        raise ValueError(f"state must be None on every process but the first of the group, got one on process {rank}")
    before = _state_before(k, v, gamma, state, group)
    return _read_later(*retention(q, k, v, gamma, state if rank == 0 else before), q, gamma, group)


def own_slice(tokens, config, group=None):
    """This process's part of tokens (B, T), and the `State` to start a model of `config` from on it.

    The parts are as even as T allows. If the targets are cut the same way, each process has the loss of its own part.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    start, stop = (tokens.shape[1] * r // size for r in (rank, rank + 1))
    return tokens[:, start:stop], State(start, (None,) * config.num_layers)


@torch.compiler.disable  # waiting for other processes cannot be part of a compiled graph
@torch.no_grad()  # the gradient is exchanged by `_ReadLater`
def _state_before(k, v, gamma, state, group):
    """The state before this slice, from what the slices before it write; None on the first process."""
    return exchange(written(k, v, gamma), state, gamma, k.shape[2], group)


@torch.compiler.disable
def _read_later(out, end, q, gamma, group):
    return _ReadLater.apply(out, end, q.detach(), gamma, group)


class _ReadLater(torch.autograd.Function):
    """out and the state after a slice as they are; the state's gradient gains what the later slices read of it."""

    @staticmethod
    def forward(ctx, out, end, q, gamma, group):
        ctx.save_for_backward(q, gamma)
        ctx.group = group
        return out.view_as(out), end.view_as(end)  # autograd does not allow an input as an output

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, grad_end):
        q, gamma = ctx.saved_tensors
        total = written(q, grad, gamma, reverse=True)
        later = exchange(total, grad_end, gamma, q.shape[2], ctx.group, reverse=True)
        return grad, grad_end if later is None else grad_end + later, None, None, None


def written(x, y, gamma, *, reverse=False):
    """What a slice alone writes to the state, K^T (V * zeta) of keys x and values y, (B, H, K, V) float32 or float64.

    reverse: (xi Q)^T G of queries x and gradients y, what the slice alone reads of the state before it.
    """
    if x.dtype in HALVES and has_fused(x.device):
        from ..kernels.triton_retention import state_written_triton  # it needs Triton

        return state_written_triton(x, y, gamma, reverse=reverse)
    dtype = accumulation_dtype(torch, x.dtype)
    xi, zeta, _ = chunk_decays_of(gamma.double(), x.shape[2])
    return x.to(dtype).mT @ (y.to(dtype) * (xi if reverse else zeta).to(dtype)[:, :, None])


def exchange(total, start, gamma, time, group=None, *, reverse=False):
    """The state before this slice, from the totals of all slices; with `reverse`, R, the gradient of the state after it.

    The message is the total and the decay of the slice, in two parts, because the others do not know its length.

    Args:
        total: (B, H, K, V), what `written` returns.
        start: the state before the whole sequence, on the first process, or None; with `reverse`, the gradient that this
            process itself has for the state after its slice. It is sent on with the total.
        time: the number of tokens of the slice.

    Returns:
        (B, H, K, V) as total; None on the first process, with `reverse` on the last.
    """
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    order = range(size - 1, rank, -1) if reverse else range(rank)
    if size == 1:
        return None
    decay = in_two_parts(gamma.double() ** time, total.dtype)
    if start is not None:
        total = carry(decay, start, total)
    message = torch.cat([x.flatten() for x in (total, *decay)])
    gathered = [torch.empty_like(message) for _ in range(size)]
    dist.all_gather(gathered, message, group=group)
    carried = None
    for other in order:
        parts = gathered[other].split([total.numel(), gamma.numel(), gamma.numel()])
        own, *decay = (x.view(y.shape) for x, y in zip(parts, (total, *decay), strict=True))
        carried = own if carried is None else carry(decay, carried, own)
    return carried
