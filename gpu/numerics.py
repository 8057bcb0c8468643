"""How a run computes: in which precision, whether to the bit, and what happens around each layer."""

import functools
import operator
import os
import warnings
from contextlib import contextmanager, nullcontext

import torch
from torch.utils.checkpoint import checkpoint


@contextmanager
def numerics(config, device):
    """Within, a GPU's kernels are those that a `RunConfig` asks for; torch's own settings come back afterwards.

    deterministic: only kernels that give the same bits again, as those of a CPU do anyway. bfloat16: float32 products
    may use TF32, which holds a bfloat16 exactly; retention needs them, for it multiplies in float32.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")  # of array_api_compat
        if torch.device(device).type == "cuda":
            with _cuda_numerics(config):
                yield
        else:
            yield


@contextmanager
def _cuda_numerics(config):
    before = torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first product
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a safeguard that costs a pass over all memory
    if config.precision == "bfloat16":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_float32_matmul_precision(before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fills


def autocast(config, device):
    """The context of a forward pass: bfloat16 matrix products over float32 parameters, or nothing."""
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


@functools.cache  # one function a retention: torch.compile compiles again for a new one
def without_autocast(retention):
    """The retention, in the dtypes of its contract: its products are summed in float32 and so is its state."""

    @functools.wraps(retention)
    def call(q, k, v, gamma, state=None):
        with torch.autocast(q.device.type, enabled=False):
            return retention(q, k, v, gamma, state)

    return call


def layer_caller(config, backend="inductor"):
    """What calls the layers of a model, as operator.call does: compiled, recomputing, both or neither.

    The layers are alike, so one compiled graph serves them all. backend: of torch.compile.
    """
    caller = torch.compile(_call, backend=backend) if config.compile else operator.call
    if config.recompute:  # nothing in a model draws random numbers, so there is no generator to wind back
        caller = functools.partial(checkpoint, caller, use_reentrant=False, preserve_rng_state=False)
    return caller


def _call(layer, *args, **kwargs):
    return layer(*args, **kwargs)  # operator.call is no Python function, which the compiler wants
