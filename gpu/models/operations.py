"""torch's own operations for the layers of `refimpl.layers`: they use fewer kernels and keep less for the gradients.

Under torch.autocast a norm returns autocast's dtype, in which the products that follow are computed. On a GPU with Triton the
rotation, and the group norm with its gate, are kernels of ours. torch.compile makes its own.
"""

import contextlib
import math

import torch
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from refimpl import layers
from refimpl.checks import accumulation_dtype
from refimpl.layers import Operations

from ..kernels.registry import has_fused

WIDEST = 4096  # channels of a head that a program of the kernels holds
LARGE = 2**24  # `recomputed` saves memory for arrays of more numbers than this


def rms_norm(x, weight=None, *, eps=1e-6):
    """`refimpl.layers.rms_norm` by torch's own: on a GPU one kernel, which keeps x and one number a row for its gradient.

    Under torch.autocast a float32 result is rounded to autocast's dtype here. Otherwise each product would make and keep its
    own rounded copy.
    """
    kind = x.device.type
    narrow = torch.get_autocast_dtype(kind) if kind != "meta" and torch.is_autocast_enabled(kind) else None
    # Autocast would widen halves in memory; the kernel does so in registers. It needs a weight of the same dtype.
    halves = x.dtype != accumulation_dtype(torch, x.dtype)
    with torch.autocast(kind, enabled=False) if narrow and halves else contextlib.nullcontext():
        fits = weight is None or weight.dtype == x.dtype
        normed = F.rms_norm(x, x.shape[-1:], weight if fits else None, eps)
        normed = normed if fits else normed * weight
    return normed.to(narrow) if narrow and normed.dtype == torch.float32 else normed


def linears(x, *weights):
    """`refimpl.layers.linears`; in a compiled step of training by one product with the weights side by side.

    Its gradient is one product as well, and nothing is added. For arrays that are not kept: each result is a view of them
    all. Where no gradient is wanted, as in decoding, the weights would be copied for a few tokens.
    """
    if not (torch.compiler.is_compiling() and torch.is_grad_enabled()):
        return layers.linears(x, *weights)
    return layers.linear(x, torch.cat(weights, dim=1)).split([weight.shape[1] for weight in weights], dim=-1)


def turn_and_scale(x, cos, sin, scale=1.0):
    """`refimpl.layers.turn_and_scale`, on a GPU in one launch."""
    if not _ours(x, cos, sin):
        return layers.turn_and_scale(x, cos, sin, scale)
    from ..kernels.triton_turn import turn_and_scale_triton  # here, because Triton is not installed everywhere

    return turn_and_scale_triton(x, cos, sin, scale)


def gated_norm(y, gate, *, eps):
    """`refimpl.layers.gated_norm`, on a GPU in one launch."""
    if y.dtype != gate.dtype or not _ours(y, gate):
        return layers.gated_norm(y, gate, eps=eps, rms_norm=rms_norm, swish=F.silu)
    from ..kernels.triton_gated_norm import gated_norm_triton

    return gated_norm_triton(y, gate, eps=eps)


def _ours(*arrays):
    """True if our kernels can compute with these arrays, the first of which is (B, H, T, width)."""
    x = arrays[0]
    if not x.is_cuda or torch.compiler.is_compiling() or not has_fused(x.device):
        return False
    from ..kernels.triton_checks import traced

    fits = x.dtype != torch.float64 and x.numel() > 0 and x.shape[3] <= WIDEST
    return fits and not traced(*arrays) and forward_ad._current_level < 0


def gelu(x):
    """`refimpl.layers.gelu` by torch's error function. torch's own gelu rounds differently, which would change old runs."""
    return 0.5 * x * (1.0 + torch.erf(x * 0.5**0.5))


def recomputed(function, *arrays):
    """function(*arrays); autograd keeps only the arrays and computes the rest again.

    Only if the first array is large: for small ones, launching the kernels again would cost more than it saves.
    """
    if torch.is_grad_enabled() and math.prod(arrays[0].shape) > LARGE:  # without, a traced shape may stay free
        return checkpoint(function, *arrays, use_reentrant=False, preserve_rng_state=False)
    return function(*arrays)


TORCH = Operations(
    linears=linears,
    rms_norm=rms_norm,
    swish=F.silu,  # keeps only x for the gradient
    gelu=gelu,
    embed=lambda weight, tokens: F.embedding(tokens, weight),  # index_select adds gradients of one token row by row
    turn_and_scale=turn_and_scale,
    gated_norm=gated_norm,
    stop_gradient=torch.Tensor.detach,
    recomputed=recomputed,
)
