"""One head, for tests of the solutions: random arguments, the package's forms on them, and a comparison."""

import numpy as np


def draw(time, key_dim=3, value_dim=5, gamma=0.9):
    """Return q, k, v, gamma and a state; the same for the same time."""
    random = np.random.default_rng(time)
    shapes = (time, key_dim), (time, key_dim), (time, value_dim), (key_dim, value_dim)
    q, k, v, state = (random.standard_normal(shape) for shape in shapes)
    return q, k, v, gamma, state


def of_package(form, q, k, v, gamma, state, **more):
    """Return (out, state) of a form of the package, which takes batches of heads; gamma a number or (T, K)."""
    state = None if state is None else state[None, None]
    gamma = np.array([gamma]) if np.ndim(gamma) == 0 else gamma[None, None]
    out, state = form(*(x[None, None] for x in (q, k, v)), gamma, state, **more)
    return out[0, 0], state[0, 0]


def assert_close(got, wanted, tolerance=1e-12):
    """Compare arrays, or tuples of arrays; the tolerance is absolute."""
    if isinstance(wanted, tuple):
        for one, other in zip(got, wanted, strict=True):
            assert_close(one, other, tolerance)
    else:
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance)
