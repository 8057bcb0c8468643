"""flash-linear-attention's kernels keep the contract in what they are made for, on a GPU; they are somebody else's."""

from importlib.util import find_spec

import pytest
import torch
from backends import name_of

from gpu.kernels import fla
from refimpl.conformance import contract
from refimpl.conformance.kernel import Kernel
from refimpl.conformance.libraries import library

pytestmark = pytest.mark.skipif(
    not (torch.cuda.is_available() and find_spec("fla")), reason="needs an NVIDIA GPU and flash-linear-attention"
)
# Products in TF32 and bfloat16, in chunks of 64 tokens; sizes are left to callers to get right.
DECLARED = {
    "gradients": ("q", "k", "v", "state"),
    "widths": ((64, 64), (64, 128), (128, 128)),
    "empty": False,
    "nan_reach": 63,
    "refusals": "none",
    "tolerances": {"float32": 3e-3, "bfloat16": 2e-2},
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("check", contract.CHECKS, ids=name_of)
def test_chunkwise_kernel_keeps_the_contract(check, dtype):
    kernel = Kernel(fla.chunkwise(64), library("torch", "cuda"), **DECLARED)
    if contract.CHECKS[check].declared(kernel) is None:
        check(kernel, dtype)
