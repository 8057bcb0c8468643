"""What broken kernels are made of: a `Mistake` takes a right retention and returns one that is wrong in this way alone."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from array_api_compat import array_namespace


@dataclass(frozen=True)
class Mistake:
    """A function of a right retention that returns a broken one; `name` is that of the diagnosis."""

    broken: Callable
    name: str
    library: str
    dtype: str

    @property
    def __name__(self):
        return self.broken.__name__

    def __call__(self, retention):
        """The broken retention."""
        return self.broken(retention)


MISTAKES: list[Mistake] = []


def kernel(name, library="numpy", dtype="float64"):
    """List a function of a retention, which returns a broken one, in MISTAKES."""

    def add(broken):
        MISTAKES.append(Mistake(broken, name, library, dtype))
        return broken

    return add


def mistake(name, library="numpy", dtype="float64"):
    """As `kernel`, for broken(retention, q, k, v, gamma, state)."""

    def add(broken):
        @functools.wraps(broken)
        def with_retention(retention):
            return lambda q, k, v, gamma, state=None: broken(retention, q, k, v, gamma, state)

        return kernel(name, library, dtype)(with_retention)

    return add


def by_head(gamma, x):
    """Gamma in x's dtype, to be multiplied with x (B, H, ..., ...)."""
    xp = array_namespace(gamma)
    return xp.astype(gamma, x.dtype)[:, None, None]


def past(retention, q, k, v, gamma, state):
    """What is read from the state before the first token, and what is left of this state at the end."""
    return retention(q, k, 0 * v, gamma, state)


def itself(q, k, v):
    """What each token reads of itself."""
    return array_namespace(q).sum(q * k, axis=-1, keepdims=True) * v


def tokens(start, stop, *arrays):
    """The tokens start ... stop of arrays (B, H, T, N)."""
    return [x[:, :, start:stop] for x in arrays]


def zero(x, axis, first):
    """x with zeros from the index `first` of an axis on."""
    kept = [slice(None)] * 4
    kept[axis] = slice(first, None)
    x = 1 * x
    x[tuple(kept)] = 0
    return x


def constant(x):
    """x as autograd sees a constant."""
    return x.detach()


def with_gradient(x, change):
    """x, whose gradient is changed on its way back."""
    x = 1 * x
    if x.requires_grad:
        x.register_hook(change)
    return x
