"""What tests hand to refimpl: array libraries, small models, parameters on a library, arrays in an odd layout."""

import array_api_strict
import numpy as np
import torch

from refimpl import RetNetConfig, init_params
from refimpl.conformance.contract import NUMPY, Backend
from refimpl.tree import map_tree

TORCH = Backend("torch", torch)
STRICT = Backend("array-api-strict", array_api_strict)
BACKENDS = (NUMPY, TORCH, STRICT)


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
