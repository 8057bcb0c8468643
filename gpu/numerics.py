"""How a run computes: its precision, its reproducibility, what happens around each layer, and CUDA graphs."""

import functools
import operator
import os
import warnings
from contextlib import contextmanager, nullcontext

import torch
from torch.utils.checkpoint import checkpoint

from refimpl import libraries


@contextmanager
def numerics(config, device):
    """Within, a GPU uses the kernels that a `RunConfig` asks for; torch's own settings are restored afterwards.

    deterministic: only kernels that give the same bits in every run, as those of a CPU always do. bfloat16: float32
    products may use TF32, which represents a bfloat16 exactly. Retention multiplies in float32, so it gains speed by this.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")  # of array_api_compat
        if torch.device(device).type != "cuda":
            yield
            return
        precision = torch.get_float32_matmul_precision()
        if config.precision == "bfloat16":
            torch.set_float32_matmul_precision("high")
        if config.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it before its first product
        try:
            # Filling new memory is a safeguard that costs a pass over all memory.
            with deterministic_algorithms(fill=False) if config.deterministic else nullcontext():
                yield
        finally:
            torch.set_float32_matmul_precision(precision)


@contextmanager
def deterministic_algorithms(*, fill, warn_only=False):
    """Within, torch uses deterministic algorithms only, or warns of others; fill: it fills new memory with NaN."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    torch.utils.deterministic.fill_uninitialized_memory = fill
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = fills


def share(apart, largest):
    """A difference as a share of the largest number compared, floats; where all are 0 the difference itself."""
    return apart / (largest or 1.0)


def autocast(config, device):
    """The context of a forward pass: bfloat16 matrix products over float32 parameters, or nothing."""
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def check_compiler(device):
    """Require that torch.compile works on a device: a ValueError says what it lacks. It compiles one addition to see.

    Nothing less shows it: a compiler may be missing, lack its headers, or have no folder to write to.
    """
    one = torch.ones(1, device=device)
    try:
        torch.compile(lambda x: x + 1)(one)
    except Exception as error:  # of dynamo, the compiler behind it or the system
        (reason, *_) = [line for line in f"{error}".splitlines() if line] or [type(error).__name__]
        raise ValueError(
            f"compile must be False here (--no-compile): torch.compile does not work on {device}: {reason}; it needs a C++ "
            "compiler, such as the package g++ or CXX to name another, and on a GPU Triton too"
        ) from None


# One function for each retention, because torch.compile compiles every new function again.
without_autocast = functools.cache(libraries.without_autocast)


def layer_caller(config, backend="inductor"):
    """A function that calls the layers of a model, as operator.call does: compiled, recomputing, both or neither.

    The layers are alike, so one compiled graph serves them all. backend: of torch.compile.
    """
    caller = torch.compile(_call, backend=backend) if config.compile else operator.call
    if config.recompute:  # no model draws random numbers, so no generator needs restoring
        caller = functools.partial(checkpoint, caller, use_reentrant=False, preserve_rng_state=False)
    return caller


def _call(layer, *args, **kwargs):
    return layer(*args, **kwargs)  # the compiler needs a Python function, which operator.call is not


def record(call, device):
    """Record `call` as a CUDA graph; returns the graph and the result of `call`, which each replay overwrites."""
    with torch.cuda.device(device):  # streams and graphs are those of the current device
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # libraries allocate at their first calls, which is not allowed while recording
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call()
    return graph, result
