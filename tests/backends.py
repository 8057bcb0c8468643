"""What tests hand to refimpl: array libraries, small models, parameters on a library, arrays in an odd layout."""

import array_api_strict
import numpy as np

from refimpl import RetNetConfig, init_params
from refimpl.conformance import contract, gradients
from refimpl.conformance.comparison import PRECISION
from refimpl.conformance.kernel import Kernel
from refimpl.conformance.libraries import NUMPY, Library, library
from refimpl.tree import map_tree

TORCH = library("torch")
STRICT = Library("array-api-strict", array_api_strict)
BACKENDS = (NUMPY, TORCH, STRICT)
DTYPES = {
    NUMPY: ("float64", "float32", "float16"),
    TORCH: ("float64", "float32", "bfloat16", "float16"),
    STRICT: ("float64", "float32"),
}
# What a dtype can change: results' dtypes, rounding, range. Narrower numbers are computed by the same lines as float64.
OF_DTYPES = {
    contract.keeps_dtypes, contract.equals_oracle, contract.single_token, contract.empty_sequence_keeps_state,
    contract.holds_for_slow_heads, contract.holds_for_long_texts, contract.chains, gradients.gradients_are_right,
}  # fmt: skip


def dtypes_of(check, library):
    """The dtypes in which a form of refimpl is put before a check: of those that no dtype changes, in float64 alone."""
    return DTYPES[library] if check in OF_DTYPES else ("float64",)


def name_of(x):
    """The name of a function or a library, for the names of tests."""
    return getattr(x, "__name__", getattr(x, "name", None))


def kernel_of(form, name, library=NUMPY, slack=3, **options):
    """A form of ours, by its name in `forms`, as a kernel: all refusals, and the precision of float32, times a slack.

    Few numbers may be further off than many are on average.
    """
    chunk = int(name.partition("C=")[2] or 0)
    ours = {
        "gradients": library.differentiates,
        "tolerances": {dtype: slack * x for dtype, x in (PRECISION | {"state": PRECISION["float32"]}).items()},
        "refusals": "none" if name == "step" else "all",  # which is a scan that takes its arguments apart
        "nan_reach": 10**6 if name == "parallel" else max(chunk - 1, 0),  # a NaN survives a product with a mask
    }
    return Kernel(form, library, **ours | options)


def small_model(dtype=np.float64, seed=0, **options):
    """(params, config) of two layers of two heads over 13 tokens, but for the options."""
    config = RetNetConfig(**{"vocab_size": 13, "dim": 24, "num_layers": 2, "num_heads": 2} | options)
    return init_params(config, seed, dtype), config


def on(backend, params):
    """Parameters, a nest of NumPy arrays, on another library."""
    return map_tree(lambda _, array: backend.asarray(array), params)


def uncontiguous(x):
    """Equal to x, with no axis contiguous and, if there are several, one running backwards."""
    if x.ndim == 1:
        y = np.repeat(x, 2)[::2]
    else:
        spread = np.repeat(np.repeat(x, 2, axis=-1)[::-1].swapaxes(0, -1), 3, axis=1)
        y = spread[:, ::3].swapaxes(0, -1)[::-1, ..., ::2]
    assert np.array_equal(x, y)
    assert not y.flags.c_contiguous
    return y
