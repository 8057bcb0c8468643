"""What the Triton kernels share: reading, multiplying and writing tiles, powers of gamma, and where arrays lie.

A tile is a block of rows and columns of a matrix, held in the registers of the threads of one program.
"""

import functools
import threading

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)  # TRITON_INTERPRET=1: kernels run in NumPy, on the CPU


@triton.jit
def load(x, i, j, row, column):
    """The tile of x[i, j] that begins at row, column: x is the descriptor of an array of four axes. Zero outside."""
    tile = x.load([i, j, row, column])
    return tl.reshape(tile, (tile.shape[2], tile.shape[3]))


@triton.jit
def store(x, tile, i, j, row, column):
    """Write a tile to the place that `load` reads; nothing is written outside of x."""
    x.store([i, j, row, column], tl.reshape(tile.to(x.dtype), (1, 1, tile.shape[0], tile.shape[1])))


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """acc + a @ b, or a @ b where acc is None, summed in float32, in which products of halves are exact."""
    if INTERPRETED:  # the interpreter multiplies bfloat16 as if it were integers
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision=PRECISION)


@triton.jit
def log2_decay(gamma, head):
    """log2(gamma) of a head, float64."""
    return tl.log2(tl.load(gamma + head).to(tl.float64))


@triton.jit
def log2_decay_32(gamma, head):
    """log2(gamma) of a head, float32, to a few units of its last place: near gamma = 1 by the difference, which float32 holds.

    For kernels that need it at each tile, where a float64 logarithm would take time and registers.
    """
    whole = tl.load(gamma + head).to(tl.float64)
    less_one = (whole - 1.0).to(tl.float32)
    rounded = 1.0 + less_one
    lost = less_one / tl.where(rounded == 1.0, 1.0, rounded - 1.0)  # what the sum has rounded away
    near = tl.where(rounded == 1.0, less_one, tl.log(tl.maximum(rounded, 0.25)) * lost) * 1.4426950408889634
    return tl.where(less_one > -0.5, near, tl.log2(tl.maximum(whole.to(tl.float32), 1.2e-38)))


@triton.jit
def power_less_one(log2_gamma, exponent):
    """gamma^exponent - 1: near gamma^exponent = 1, float32 holds this difference to a relative 6e-8."""
    return (tl.exp2(log2_gamma * exponent) - 1.0).to(tl.float32)


def bind(device):
    """Give this thread the context of a GPU: descriptors need it, and a new thread of autograd has none."""
    if device.type == "cuda" and device not in vars(_bound):
        torch.zeros(1, device=device)  # the first launch creates it
        vars(_bound)[device] = True


_bound = threading.local()


@functools.cache
def multiprocessors(device):
    """How many multiprocessors a GPU has."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


@triton.jit
def step_decays(log2_gamma, T, STEP: tl.constexpr):
    """For T tokens in steps of STEP: how many steps, the tokens of the last, and gamma^tokens - 1 of a step and of the last."""
    steps = tl.cdiv(T, STEP)
    last = T - (steps - 1) * STEP
    return steps, last, power_less_one(log2_gamma, STEP), power_less_one(log2_gamma, last)


def power_of_two(n):
    """The least power of two that is at least n, and at least 64: narrower tiles would be no faster."""
    return max(64, 1 << (n - 1).bit_length())


def blocks(n, size):
    """How many blocks of a size cover n; triton.cdiv takes some microseconds, which add up in front of a launch."""
    return -(-n // size)


def descriptor(x, height, width):
    """The descriptor by which a GPU's copy engine reads tiles, height x width, of the last two axes of x; None for None."""
    if x is None:
        return None
    strides = [stride if size > 1 else 16 for size, stride in zip(x.shape[:3], x.stride(), strict=False)]
    return described(x, x.shape, [*strides, 1], [1, 1, height, width])


def described(base, shape, strides, block_shape):
    """A `TensorDescriptor` without Triton's checks, which `readable` has made and which cost time."""
    made = TensorDescriptor.__new__(TensorDescriptor)
    made.base, made.shape, made.strides, made.block_shape = base, shape, strides, block_shape
    return made


def readable(x):
    """x, copied unless kernels can read it: as it is if it has one axis, and contiguous; else by the copy engine.

    That needs contiguous rows that start at multiples of 16 bytes.
    """
    if x is None:
        return None
    x = x.resolve_neg()
    if x.ndim == 1:
        return x.contiguous()
    strides = [stride * x.itemsize for size, stride in zip(x.shape[:3], x.stride(), strict=False) if size > 1]
    good = x.stride(3) == 1 and x.data_ptr() % 16 == 0 and all(s > 0 and s % 16 == 0 for s in strides)
    return x if good else x.clone(memory_format=torch.contiguous_format)


def token_major(x, width):
    """An empty (B, H, T, width) like x that lies in memory as (B, T, H, width), which merges heads without a copy."""
    batch, heads, time, _ = x.shape
    return x.new_empty_strided((batch, heads, time, width), (time * heads * width, width, heads * width, 1))


def precision_of(x):
    """How products of x are computed: float32 in full, and not in the ten bits of TF32; halves as they are."""
    return "ieee" if x.dtype == torch.float32 else "tf32"


def state_like(q, v):
    """An empty state (B, H, K, V), float32."""
    return q.new_empty((*q.shape[:2], q.shape[3], v.shape[3]), dtype=torch.float32)
