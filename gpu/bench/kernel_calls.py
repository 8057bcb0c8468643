"""How a kernel is called when it is measured alone: retentions under the contract or in their own layout, and attention.

All arrays are bfloat16 and (B, T, H, width) in memory, as in a model. No candidate needs a copy: our kernels and attention
read the transposed view, flash-linear-attention has these axes in this order. mlstm_kernels get (B, H, T, width), for they
would copy anything else. Kernels of other projects are first checked against the reference.

A call takes at least as long as Python needs to launch it. Where that may be longer than the kernels themselves, a second
row has the same call as a CUDA graph, gradients included. Gradients are computed in the calling thread: waking torch's own
threads costs a model once, but would cost each call here.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from refimpl import head_decays, retention_chunkwise
from refimpl.replay import ReplayState

from ..kernels.peers import PEERS
from ..kernels.registry import RETENTIONS, has_flash
from .graph import Recorded
from .kernel_floor import FORWARD
from .rows import ATTENTION_LABELS
from .timing import LeftOutError, Work, host_seconds

HEAD_DIM = 128  # of attention, which has as many channels as retention has keys: H K
CHUNK_SIZE = 256  # of retentions that take one
STEPS = 20  # decode steps in one call
CHECKED = 1024  # tokens of the sequence that a peer is checked with
AGREES = 2e-2  # relative RMS difference of a peer's bfloat16 output and gradients from the reference's


class Kernel(NamedTuple):
    """A kernel to measure.

    identity: fields of its rows. make: takes a `Shape`, T, tokens in total, a device, and True for a CUDA graph; returns a
    function of q, k and v, these arrays, and the gradient of its result. available: of T and a device, True if it runs there
    and is fast enough to measure. graphs: True if it is measured as a CUDA graph too.
    """

    identity: dict
    make: Callable
    available: Callable
    graphs: bool = True


def inputs(shape, time, tokens, device="cuda"):
    """q, k, v and a gradient of out as a model has them, (B, T, H, width) in memory, bfloat16, seeded; and gamma."""
    heads, key_dim, value_dim = shape
    draw = torch.Generator(device).manual_seed(0)
    shapes = ((tokens // time, time, heads, width) for width in (key_dim, key_dim, value_dim, value_dim))
    normal = functools.partial(torch.randn, dtype=torch.bfloat16, device=device, generator=draw)
    q, k, v, grad = (normal(shape).transpose(1, 2) for shape in shapes)
    return q * key_dim**-0.5, k, v, grad, head_decays(heads, xp=torch, device=device)


def retention(name, shape, time, tokens, device, cuda_graph=False):
    """What a `Kernel`'s `make` returns, of a name of `RETENTIONS`."""
    row, (*leaves, grad, gamma) = RETENTIONS[name], inputs(shape, time, tokens, device)
    if row.native:  # it has its own decays, and axes (B, T, H, width)
        *leaves, grad = (x.transpose(1, 2) for x in (*leaves, grad))
        return row.native(shape.heads, device, cuda_graph), leaves, grad
    function = row(CHUNK_SIZE)
    return lambda q, k, v: function(q, k, v, gamma)[0], leaves, grad


def peer(name, shape, time, tokens, device, cuda_graph=False):
    """The same for a name of `PEERS`, in its own layout, after it was checked."""
    check_peer(name, shape, device)
    function, leaves, grad, _ = peer_call(name, shape, time, tokens, device)
    return function, leaves, grad


def peer_call(name, shape, time, tokens, device):
    """A peer's function, its arrays, the gradient of its result, and all arrays under the contract with gamma."""
    row, contract = PEERS[name], inputs(shape, time, tokens, device)
    if row.widest is not None and shape.key_dim > row.widest:
        raise LeftOutError(f"heads have {shape.key_dim} key channels, more than {row.widest}")
    q, k, v, grad, gamma = contract
    if row.scaled:
        q = q * shape.key_dim**0.5
    *leaves, grad = (x.transpose(1, 2) if row.time_first else x.contiguous() for x in (q, k, v, grad))
    return row.make(gamma, tokens // time, time), leaves, grad, contract


@functools.cache
def check_peer(name, shape, device):
    """Raise ArithmeticError unless a peer's output and gradients are those of retention, at one sequence of `CHECKED` tokens."""
    function, leaves, grad, (*arrays, grad_out, gamma) = peer_call(name, shape, CHECKED, CHECKED, device)
    leaves = [x.detach().requires_grad_() for x in leaves]
    out = function(*leaves)
    got = [out, *torch.autograd.grad(out, leaves, grad)]
    if PEERS[name].time_first:
        got = [x.transpose(1, 2) for x in got]
    wide = [x.float().requires_grad_() for x in arrays]
    want_out, _ = retention_chunkwise(*wide, gamma, chunk_size=CHUNK_SIZE)
    want = [want_out, *torch.autograd.grad(want_out, wide, grad_out.float())]
    factors = [1.0, shape.key_dim**-0.5 if PEERS[name].scaled else 1.0, 1.0, 1.0]
    for what, x, y, factor in zip(("out", "dq", "dk", "dv"), got, want, factors, strict=True):
        off = ((x.float() - y * factor).norm() / (y * factor).norm()).item()
        if not off <= AGREES:
            raise ArithmeticError(
                f"{what} of {PEERS[name].label} is off by {off:.1e} of retention's, more than {AGREES:g}"
            )


def attention(backend, shape, time, tokens, device, cuda_graph=False):
    """The same for causal attention over H K channels, in heads of `HEAD_DIM`."""
    sizes = 4, tokens // time, time, attention_heads(shape), HEAD_DIM
    *leaves, grad = torch.randn(sizes, dtype=torch.bfloat16, device=device).transpose(2, 3)

    def call(q, k, v):
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return call, leaves, grad


def attention_heads(shape):
    """Heads of attention over H K channels.

    >>> from gpu.bench.kernel_floor import SHAPES
    >>> attention_heads(SHAPES["large"]), attention_heads(SHAPES["small"])
    (32, 4)
    """
    return shape.heads * shape.key_dim // HEAD_DIM


def retention_kernel(name):
    """The `Kernel` of a name of `RETENTIONS`."""
    row = RETENTIONS[name]
    return Kernel(
        {"retention": name, "chunk_size": CHUNK_SIZE if row.chunked else None},
        functools.partial(retention, name),
        lambda time, device: row.available(device) and time <= (row.longest_alone or time),
        graphs=row.fused,
    )


def attention_kernel(name, backend):
    """The `Kernel` of one of torch's backends."""
    available = lambda time, device: has_flash(device)  # noqa: E731
    return Kernel({"attention": name}, functools.partial(attention, backend), available)


def peer_kernel(name):
    """The `Kernel` of a name of `PEERS`; each takes lengths that are a multiple of its chunk."""
    return Kernel(
        {"peer": name},
        functools.partial(peer, name),
        lambda time, device: PEERS[name].available(device) and time % 128 == 0,
    )


BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
ATTENTION = {ATTENTION_LABELS[name]: attention_kernel(name, backend) for name, backend in BACKENDS.items()}
# By label, as the rows of the kernel ladder are.
KERNELS = (
    {row.kernel_label: retention_kernel(name) for name, row in RETENTIONS.items() if row.kernel_label}
    | {row.label: peer_kernel(name) for name, row in PEERS.items()}
    | ATTENTION
)


def kernels_here(time, device):
    """Names of `KERNELS` that are measured at a length on a device."""
    return [name for name, kernel in KERNELS.items() if kernel.available(time, device)]


def work_of(call, tokens, cuda_graph, device):
    """The `Work` of a call that handles `tokens`; launched from Python, or as a CUDA graph, which cannot copy from the host.

    host_seconds, of the row: what a call from Python takes the CPU.
    """
    if cuda_graph:
        recorded = Recorded(call, device)
        return Work(lambda: recorded.graph.replay(), tokens, {})  # keeps the call alive, whose inputs the graph reads
    return Work(call, tokens, {"host_seconds": host_seconds(call, device)})


def kernel_work(name, what, shape, time, tokens, device, *, cuda_graph=False):
    """The `Work` of a name of `KERNELS`, `FORWARD` or `BOTH`; its call returns the output, or the three gradients."""
    function, leaves, grad = KERNELS[name].make(shape, time, tokens, device, cuda_graph)
    leaves = [x.detach().requires_grad_(what != FORWARD) for x in leaves]

    def call():
        out = function(*leaves)
        if what == FORWARD:
            return (out,)
        with torch.autograd.set_multithreading_enabled(False):
            return torch.autograd.grad(out, leaves, grad)

    return work_of(call, grad.shape[0] * time, cuda_graph, device)


@torch.no_grad()
def step_work(name, shape, batch, cuda_graph, device, *, replay=None):
    """`STEPS` decode steps of a batch, one after another, of a name of `RETENTIONS` that has its own.

    replay: L of `refimpl.replay`; None for steps that write their state. The first step finds L tokens kept and writes them.
    """
    row, (heads, key_dim, value_dim) = RETENTIONS[name], shape
    draw = functools.partial(torch.randn, device=device, dtype=torch.bfloat16)
    q, k, v = (draw(batch, heads, 1, width) for width in (key_dim, key_dim, value_dim))
    gamma, state = head_decays(heads, xp=torch, device=device), draw(batch, heads, key_dim, value_dim).float()
    if replay:
        kept = (draw(batch, heads, replay, width) for width in (key_dim, value_dim))
        buffers, step = ReplayState(state, *kept), row.replay_step()

        @torch.no_grad()
        def replayed():
            for n in range(STEPS):
                step(q, k, v, gamma, buffers, (n - 1) % replay + 1)

        return work_of(replayed, STEPS * batch, cuda_graph, device)
    if row.native_step:
        q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
        advance = functools.partial(row.native_step(), q, k, v)
    else:
        step = row.step()
        advance = lambda state: step(q, k, v, gamma, state)[1]  # noqa: E731

    @torch.no_grad()
    def steps():
        after = state
        for _ in range(STEPS):
            after = advance(after)

    return work_of(steps, STEPS * batch, cuda_graph, device)
