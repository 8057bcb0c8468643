"""Numbers for the inputs of checks: small and rounded, so that a message can be followed by hand."""

import numpy as np


def small_numbers(random, *shape, dtype=np.float64):
    """Return an array of numbers 0.1, 0.2 ... 1.9 of either sign, drawn from the generator `random`.

    >>> small_numbers(np.random.default_rng(0), 3)
    array([-1.7, -1.3, -1. ])
    """
    return (random.integers(1, 20, shape) / 10 * random.choice([-1.0, 1.0], shape)).astype(dtype)
