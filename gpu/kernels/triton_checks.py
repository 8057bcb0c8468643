"""What the fused kernels refuse. Looking costs the CPU more than a launch, so a kind of call is looked at once."""

import weakref

import torch

from refimpl.checks import check_gamma, check_retention
from refimpl.libraries import values_are_trusted

from . import triton_common as common

PLAIN = torch.Tensor, torch.nn.Parameter
MOST = 4096  # kinds of calls that are remembered; when there would be more, all are forgotten
_passed = set()  # the kinds of arguments that have passed
_looked_at = {}  # id of a gamma: a reference to it and its version when its values were looked at


def traced(*arrays):
    """True if a call must go through torch's operators: for a compiler, for torch.func, or for subclasses of a tensor."""
    if (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
    ):
        return True
    return any(type(x) not in PLAIN for x in arrays if x is not None)


def check_fused(q, k, v, gamma, state):
    """Check the contract, and raise for what these kernels cannot do. Returns what `kind_of` returns."""
    kind = kind_of(q, k, v, gamma, state)
    if kind in _passed and not gamma.requires_grad:
        _look_once(gamma)
        return kind
    check_retention(q, k, v, gamma, state)
    if not isinstance(q, torch.Tensor):
        raise TypeError(f"q must be a torch tensor, got {type(q).__name__}")
    if q.dtype == torch.float64:
        raise TypeError("q must be float32, bfloat16 or float16, got torch.float64, which retention_chunkwise computes")
    if q.device.type != "cuda" and not common.INTERPRETED:
        raise ValueError(
            f"q must be on a CUDA device, unless TRITON_INTERPRET=1 was set before the import, got device {q.device}"
        )
    if gamma.requires_grad:
        raise ValueError(
            "gamma must not require a gradient, which retention_chunkwise computes and these kernels do not"
        )
    if kind is not None:
        if len(_passed) >= MOST:
            _passed.clear()
        _passed.add(kind)
    return kind


def kind_of(*arrays):
    """What decides how tensors or None are computed with: shapes, strides, dtypes, ...; None if the call is traced."""
    if traced(*arrays):
        return None
    return tuple([None if x is None else (x.shape, x.stride(), x.dtype, x.device, x.is_neg()) for x in arrays])


def _look_once(gamma):
    """Check the values of gamma, on a GPU once a tensor and version: the assertion is five small launches."""
    if values_are_trusted():
        return
    if gamma.device.type == "cpu" or gamma.is_inference():  # NumPy may write to the one, the other counts no versions
        check_gamma(gamma)
        return
    key = id(gamma)
    known = _looked_at.get(key)
    if known is None or known[0]() is not gamma or known[1] != gamma._version:
        check_gamma(gamma)
        _looked_at[key] = weakref.ref(gamma, lambda _: _looked_at.pop(key, None)), gamma._version
