"""The rotation of queries and keys with their scale, one launch for an array and one for its gradient (Eq. 4 and 8).

As operations of torch it takes ten launches and as many arrays as large as x. It needs one array read and one written:
e^(i n theta) of arXiv:2307.08621v4 turns two channels that lie side by side.
"""

import torch
import triton
import triton.language as tl

from refimpl.layers import turn_and_scale

from . import triton_common as common
from .triton_checks import traced

NUMBERS = 2048  # of cos in a program, which turns all heads of its tokens, so that they are read once


@triton.jit(do_not_specialize=["T", "heads"])
def _turn_kernel(
    x, cos, sin, out, T, heads, batch_stride, head_stride, token_stride, out_head, out_token, phase_stride, scale,
    K: tl.constexpr, ROWS: tl.constexpr, PAIRS: tl.constexpr, BACK: tl.constexpr,
):  # fmt: skip
    """out (B, H, T, K) for x of that shape and of these strides; cos and sin (T, K / 2), or so for each sequence.

    PAIRS: K / 2 or the next power of two. BACK: by the opposite angles.
    """
    blocks = tl.cdiv(T, ROWS)
    b, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    token, pair, channel = block * ROWS + tl.arange(0, ROWS), tl.arange(0, PAIRS), tl.arange(0, 2 * PAIRS)
    there = (token < T)[:, None]
    place = b.to(tl.int64) * phase_stride + token.to(tl.int64)[:, None] * (K // 2) + pair[None, :]
    c = tl.load(cos + place, there & (2 * pair < K)[None, :], 0.0).to(tl.float32) * scale
    s = tl.load(sin + place, there & (2 * pair < K)[None, :], 0.0).to(tl.float32) * scale
    s = -s if BACK else s
    there = there & (channel < K)[None, :]
    start = b.to(tl.int64) * batch_stride + token.to(tl.int64)[:, None] * token_stride + channel[None, :]
    end = b.to(tl.int64) * T * heads * K + token.to(tl.int64)[:, None] * out_token + channel[None, :]
    for n in range(heads):
        head = tl.cast(n, tl.int64)
        tile = tl.load(x + start + head * head_stride, there, 0.0).to(tl.float32)
        even, odd = tl.split(tl.reshape(tile, (ROWS, PAIRS, 2)))
        turned = tl.reshape(tl.join(even * c - odd * s, even * s + odd * c), (ROWS, 2 * PAIRS))
        tl.store(out + end + head * out_head, turned.to(out.dtype.element_ty), there)


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, cos, sin, scale, back):
        ctx.save_for_backward(cos, sin)
        ctx.how = scale, back
        return _turned(x, cos, sin, scale, back)

    @staticmethod
    def backward(ctx, grad):
        (cos, sin), (scale, back) = ctx.saved_tensors, ctx.how
        if traced(grad):  # for torch.func
            dx = turn_and_scale(grad, cos, sin if back else -sin, scale)
        else:
            dx = _Turn.apply(grad, cos, sin, scale, not back)
        return dx, None, None, None, None


def turn_and_scale_triton(x, cos, sin, scale=1.0):
    """`refimpl.layers.turn_and_scale` on a GPU: computed in float32 and rounded once, with gradients of any order for x.

    Args:
        x: (B, H, T, K) bfloat16, float16 or float32, of any strides.
        cos, sin: (T, K / 2), or (B, 1, T, K / 2), float32; constants to automatic differentiation.
        scale: a number.

    Returns:
        (B, H, T, K) in x's dtype, contiguous; its gradient lies in memory as (B, T, H, K).
    """
    return _Turn.apply(x, cos, sin, scale, False)


def _turned(x, cos, sin, scale, back):
    (batch, heads, time, width), x = x.shape, x if x.stride(3) == 1 else x.contiguous()
    cos, sin = cos.contiguous(), sin.contiguous()
    # A gradient is merged with those of the other heads next, and what was turned is cut in chunks, without copies.
    out = common.token_major(x, width) if back else x.new_empty(x.shape)
    pairs = triton.next_power_of_2(width // 2)
    rows = max(1, NUMBERS // pairs)
    with torch.cuda.device_of(x):  # Triton launches on the current device
        _turn_kernel[(batch * common.blocks(time, rows),)](
            x, cos, sin, out, time, heads, *x.stride()[:3], *out.stride()[1:3],
            0 if cos.ndim == 2 or cos.shape[0] == 1 else time * (width // 2), scale,
            K=width, ROWS=rows, PAIRS=pairs, BACK=back, num_warps=4,
        )  # fmt: skip
    return out
