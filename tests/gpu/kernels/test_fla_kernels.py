"""flash-linear-attention's kernels keep the contract in what they are made for, on a GPU; they are somebody else's."""

from importlib.util import find_spec

import pytest
import torch
from backends import name_of

from gpu.kernels import fla
from refimpl.conformance import contract
from refimpl.conformance.kernel import Kernel
from refimpl.conformance.libraries import library

pytestmark = [
    pytest.mark.skipif(
        not (torch.cuda.is_available() and find_spec("fla")), reason="needs an NVIDIA GPU and flash-linear-attention"
    ),
    # Its import misses flash attention, and compiles a function with what torch itself no longer recommends.
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:Flash Attention:ImportWarning"),
]
# Products in TF32 and bfloat16, in chunks of 64 tokens, at whose end float32 must still hold a decay; sizes are left to
# callers to get right.
DECLARED = {
    "gradients": ("q", "k", "v", "state"),
    "widths": ((64, 64), (64, 128), (128, 128)),
    "empty": False,
    "nan_reach": 63,
    "smallest_gamma": 0.5,
    "refusals": "none",
    "tolerances": {"float32": 5e-3, "bfloat16": 2e-2},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("check", contract.CHECKS, ids=name_of)
def test_chunkwise_kernel_keeps_the_contract(check, dtype):
    kernel = Kernel(fla.chunkwise(64), library("torch", "cuda"), **DECLARED)
    if contract.CHECKS[check].declared(kernel) is None:
        check(kernel, dtype)
