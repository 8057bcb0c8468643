"""The group norm of retention times its gate, swish(g) * y / rms(y), one launch forwards and one backwards (Eq. 8).

As operations of torch it takes five launches forwards and eight backwards, each of which reads and writes arrays as large as
the outputs. What it needs forwards is two arrays read and one written; backwards, from the gradient d of the result,

    n = y / rms(y),  s = g sigmoid(g)
    dg = d n (sigmoid(g) + s (1 - sigmoid(g))),   dy = (d s - n mean(d s n)) / rms(y)

three read and two written.
"""

import torch
import triton
import triton.language as tl

from refimpl.layers import gated_norm

from .triton_checks import traced

NUMBERS = 2048  # of y in a program, which holds one row at least


@triton.jit
def _read(y, gate, eps, rows, V: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    place, there = row[:, None] * V + column[None, :], (row < rows)[:, None] & (column < V)[None, :]
    value, g = tl.load(y + place, there, 0.0).to(tl.float32), tl.load(gate + place, there, 0.0).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(value * value, 1) / V + eps)[:, None]
    return place, there, value * inverse, inverse, g, 1.0 / (1.0 + tl.exp(-g))


@triton.jit(do_not_specialize=["rows"])
def _gated_norm_kernel(
    y, gate, out, rows, eps, V: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """out (rows, V) of y and gate (rows, V), contiguous: a row is a head of a token."""
    place, there, normed, _, g, sigmoid = _read(y, gate, eps, rows, V, ROWS, COLUMNS)
    tl.store(out + place, (normed * g * sigmoid).to(out.dtype.element_ty), there)


@triton.jit(do_not_specialize=["rows"])
def _gradients_kernel(
    grad, y, gate, dy, dgate, rows, eps, V: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """dy and dgate (rows, V) of the gradient of out, all as in `_gated_norm_kernel`."""
    place, there, normed, inverse, g, sigmoid = _read(y, gate, eps, rows, V, ROWS, COLUMNS)
    d, swish = tl.load(grad + place, there, 0.0).to(tl.float32), g * sigmoid
    slope = sigmoid + swish * (1.0 - sigmoid)
    tl.store(dgate + place, (d * normed * slope).to(dgate.dtype.element_ty), there)
    d *= swish
    mean = tl.sum(d * normed, 1)[:, None] / V
    tl.store(dy + place, ((d - normed * mean) * inverse).to(dy.dtype.element_ty), there)


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, gate, eps):
        ctx.save_for_backward(y, gate)
        ctx.eps = eps
        out = torch.empty_like(gate)
        _launch(_gated_norm_kernel, y.shape[3], y, gate, out, eps=eps)
        return out

    @staticmethod
    def backward(ctx, grad):
        y, gate = ctx.saved_tensors
        if torch.is_grad_enabled() or traced(grad):  # for a gradient of the gradient, and for torch.func
            with torch.enable_grad():
                out = gated_norm(y, gate, eps=ctx.eps)
            asked = [x for x, wanted in zip((y, gate), ctx.needs_input_grad, strict=False) if wanted]
            found = iter(torch.autograd.grad(out, asked, grad, create_graph=torch.is_grad_enabled()))
            return *(next(found) if wanted else None for wanted in ctx.needs_input_grad[:2]), None
        dy, dgate = torch.empty_like(y), torch.empty_like(gate)
        _launch(_gradients_kernel, y.shape[3], grad.contiguous(), y, gate, dy, dgate, eps=ctx.eps)
        return dy, dgate, None


def gated_norm_triton(y, gate, *, eps):
    """`refimpl.layers.gated_norm` on a GPU: computed in float32 and rounded once, with gradients.

    Args:
        y: (B, H, T, V) bfloat16, float16 or float32; copied unless it lies in memory as (B, T, H, V).
        gate: (B, T, H V) in y's dtype.
        eps: added to the mean square.

    Returns:
        (B, T, H V) in y's dtype.
    """
    y = y.transpose(1, 2).contiguous().transpose(1, 2)
    return _GatedNorm.apply(y, gate.contiguous(), eps)


def _launch(kernel, width, *arrays, eps):
    columns = triton.next_power_of_2(width)
    rows, each = arrays[0].numel() // width, max(1, NUMBERS // columns)
    with torch.cuda.device_of(arrays[0]):  # Triton launches on the current device
        kernel[(triton.cdiv(rows, each),)](*arrays, rows, eps, V=width, ROWS=each, COLUMNS=columns, num_warps=4)
