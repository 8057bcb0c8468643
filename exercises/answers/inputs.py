"""Inputs of checks: small and rounded numbers, so that a message can be followed by hand."""

import numpy as np


def small_numbers(random, *shape, dtype=np.float64):
    """Return an array of numbers 0.1, 0.2 ... 1.9 of either sign, drawn from the generator `random`.

    >>> small_numbers(np.random.default_rng(0), 3)
    array([-1.7, -1.3, -1. ])
    """
    return (random.integers(1, 20, shape) / 10 * random.choice([-1.0, 1.0], shape)).astype(dtype)


def one_head(key_dim, value_dim, time=None, gamma=0.5, *, state=True, dtype=np.float64, **more):
    """Return q, k (T, K), v (T, V), gamma and state (K, V) of one head, and `more`, by name; the same for the same sizes.

    time: T, or None for one token: q, k (K,), v (V,). state: False for None.
    """
    random = np.random.default_rng([key_dim, value_dim, time or 0])
    tokens = () if time is None else (time,)
    shapes = (*tokens, key_dim), (*tokens, key_dim), (*tokens, value_dim), (key_dim, value_dim)
    q, k, v, before = (small_numbers(random, *shape, dtype=dtype) for shape in shapes)
    return {"q": q, "k": k, "v": v, "gamma": gamma, "state": before if state else None} | more
