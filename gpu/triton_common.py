"""What the Triton kernels share: reading, multiplying and writing tiles, powers of gamma, and where arrays lie.

A tile is a block of rows and columns of a matrix, held in the registers of the threads of one program.
"""

import torch
import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)  # TRITON_INTERPRET=1: kernels run in NumPy, on the CPU


@triton.jit
def load(x, start, rows, columns, stride, height, width):
    """Rows start + rows of x (height, width), and these columns of them; zero outside."""
    inside = (start + rows < height)[:, None] & (columns < width)[None, :]
    offsets = rows[:, None] * stride + columns[None, :]
    return tl.load(x + start * tl.cast(stride, tl.int64) + offsets, mask=inside, other=0.0)


@triton.jit
def store(x, tile, start, rows, columns, stride, height, width):
    """Write a tile to the place that `load` with these arguments reads, in the dtype of x."""
    inside = (start + rows < height)[:, None] & (columns < width)[None, :]
    offsets = rows[:, None] * stride + columns[None, :]
    tl.store(x + start * tl.cast(stride, tl.int64) + offsets, tile.to(x.dtype.element_ty), mask=inside)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """acc + a @ b, summed in float32; of halves every product is exact there."""
    if INTERPRETED:  # which multiplies bfloat16 as if it were integers
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def head_of(x, bh, heads, stride_batch, stride_head):
    """Where the (T, width) matrix of one batch and head begins."""
    bh = tl.cast(bh, tl.int64)
    return x + (bh // heads) * stride_batch + (bh % heads) * stride_head


@triton.jit
def log2_decay(gamma, head):
    """log2(gamma) of a head, float64."""
    return tl.log2(tl.load(gamma + head).to(tl.float64))


@triton.jit
def power_less_one(log2_gamma, exponent):
    """gamma^exponent - 1, which float32 holds to 6e-8 of itself where gamma^exponent is close to 1."""
    return (tl.exp2(log2_gamma * exponent) - 1.0).to(tl.float32)


def power_of_two(n):
    """The least power of two that is at least n and at least 16, the narrowest product of a tensor core."""
    return max(16, triton.next_power_of_2(n))


def strides_of(*arrays):
    """The strides of batch, head and time of each (B, H, T, width), in a row, as kernels take them."""
    return [stride for array in arrays for stride in array.stride()[:3]]


def with_rows(*arrays):
    """The arrays, copied where the numbers of a row do not lie side by side."""
    return [array if array.stride(3) == 1 or array.shape[3] == 1 else array.contiguous() for array in arrays]


def token_major(x, width):
    """An empty (B, H, T, width) like x that lies in memory as (B, T, H, width), which merges heads without a copy."""
    batch, heads, time, _ = x.shape
    return x.new_empty((batch, time, heads, width)).transpose(1, 2)


def precision_of(x):
    """How products of x are computed: float32 in full, and not in the ten bits of TF32; halves as they are."""
    return "ieee" if x.dtype == torch.float32 else "tf32"


def packed(state):
    """A state as kernels read it, contiguous, or None."""
    return None if state is None else state.contiguous()


def state_like(q, v):
    """An empty state (B, H, K, V), float32."""
    return q.new_empty((*q.shape[:2], q.shape[3], v.shape[3]), dtype=torch.float32)
