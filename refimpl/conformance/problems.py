"""Problems for a retention, and what is right: results and gradients in float64, confirmed by the oracle."""

import functools
from dataclasses import dataclass

import numpy as np

from ..backward import retention_parallel_backward
from ..oracle import retention_oracle
from ..retention import retention_recurrent
from .libraries import NUMPY

NAMES = ("q", "k", "v", "gamma", "state")
# 1, fast, slow, very fast, two that no float32 holds, and very slow: a kernel treats each of them in its own way.
MIXED = (1.0, 0.5, 1 - 2.0**-12, 1e-3, 0.9991, 0.97, 1 - 2.0**-20)


def mixed(heads):
    """A gamma for each head, from MIXED, over and over."""
    return tuple(MIXED[h % len(MIXED)] for h in range(heads))


@dataclass(frozen=True, eq=False)
class Problem:
    """Inputs of a retention, as float64 NumPy arrays, and what is right for them."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    gamma: np.ndarray
    state: np.ndarray | None

    @functools.cached_property
    def answer(self):
        """(out, state) by the oracle's literal loops."""
        return retention_oracle(*self.inputs)

    @functools.cached_property
    def reference(self):
        """(out, state) by the recurrence in float64, once the oracle has confirmed it."""
        _confirm()
        return retention_recurrent(*self.inputs)

    @property
    def inputs(self):
        """(q, k, v, gamma, state)."""
        return self.q, self.k, self.v, self.gamma, self.state

    @property
    def time(self):
        """T, the number of tokens."""
        return self.q.shape[2]

    def __str__(self):
        batch, heads, time, key_dim = self.q.shape
        start = "no state" if self.state is None else "a state"
        return f"B {batch} H {heads} T {time} K {key_dim} V {self.v.shape[3]}, {start}"

    def arrays(self, library=NUMPY, dtype="float64", gamma_dtype="float64"):
        """Copies of (q, k, v, gamma, state) in a library; the state is never a half."""
        wide = "float64" if dtype == "float64" else "float32"
        state = None if self.state is None else library.asarray(self.state.copy(), wide)
        qkv = (library.asarray(x.copy(), dtype) for x in (self.q, self.k, self.v))
        return *qkv, library.asarray(self.gamma.copy(), gamma_dtype), state

    def rounded(self, library, dtype, gamma_dtype="float64"):
        """The problem that remains when its arrays have been rounded to these dtypes."""
        arrays = self.arrays(library, dtype, gamma_dtype)
        return Problem(*(None if x is None else library.to_numpy(x) for x in arrays))

    def part(self, arrays, start, stop):
        """q, k, v of tokens start ... stop, of arrays (q, k, v, ...)."""
        return tuple(x[:, :, start:stop, :] for x in arrays[:3])

    def tokens(self, start, stop, state=None):
        """The problem of the tokens start ... stop, from another state."""
        return Problem(*self.part(self.inputs, start, stop), self.gamma, state)

    def _filled(self, *grads):
        return [np.zeros(x.shape) if grad is None else grad for grad, x in zip(grads, self.reference, strict=True)]

    def gradients(self, grad_out, grad_state):
        """{argument: gradient of sum(out * grad_out) + sum(state * grad_state)}; a gradient of None counts as zero."""
        grad_out, grad_state = self._filled(grad_out, grad_state)
        dq, dk, dv, dstate = retention_parallel_backward(*self.inputs[:4], grad_out, self.state, grad_state)
        terms = self.gamma_terms(grad_out, grad_state)
        return {"q": dq, "k": dk, "v": dv, "gamma": sum(terms.values()), "state": dstate}

    def gamma_terms(self, grad_out, grad_state):
        """The gradient of gamma (H,) in parts: by what is read, and by what is left, of tokens and of the state before."""
        grad_out, grad_state = self._filled(grad_out, grad_state)
        time, gamma = self.time, self.gamma[:, None]
        lag = np.arange(time)[:, None] - np.arange(time)[None, :]
        slope = lambda n: np.where(n > 0, n * gamma[..., None] ** np.maximum(n - 1, 0), 0.0)  # noqa: E731
        read = (self.q @ self.k.mT) * (grad_out @ self.v.mT) * slope(lag)
        terms = {"tokens read": np.sum(read, axis=(0, 2, 3))}
        left = np.sum((self.k @ grad_state) * self.v, axis=3) * slope(np.arange(time - 1, -1, -1)[None])[:, 0]
        terms["tokens left"] = np.sum(left, axis=(0, 2))
        if self.state is not None:
            kept = np.sum((self.q @ self.state) * grad_out, axis=3) * slope(np.arange(1, time + 1)[None])[:, 0]
            terms["state read"] = np.sum(kept, axis=(0, 2))
            whole = time * self.gamma ** max(time - 1, 0)
            terms["state left"] = whole * np.sum(self.state * grad_state, axis=(0, 2, 3))
        return terms


@functools.lru_cache(maxsize=256)
def problem(batch, heads, time, key_dim, value_dim, seed=0, gamma=None, with_state=True):
    """A seeded problem; gamma defaults to 1 - 2**(-5 - h), whose head 0 forgets fastest."""
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, batch, heads, time, key_dim))
    v = rng.standard_normal((batch, heads, time, value_dim))
    state = rng.standard_normal((batch, heads, key_dim, value_dim)) if with_state else None
    return Problem(q, k, v, np.array(gamma or [1 - 2.0 ** (-5 - h) for h in range(heads)]), state)


FULL = functools.partial(problem, 2, 4, 257, 16, 24)  # large enough for every chunk size
SMALL = functools.partial(problem, 2, 3, 19, 4, 6)


@functools.cache
def _confirm():
    """Compare the recurrence with the oracle, once: what is compared with it later is compared with the oracle."""
    for case in (
        SMALL(gamma=mixed(3)),
        SMALL(with_state=False),
        problem(1, 2, 0, 3, 2),
        problem(1, len(MIXED), 70, 2, 3, gamma=MIXED),
    ):
        for got, want in zip(retention_recurrent(*case.inputs), case.answer, strict=True):
            if not np.max(np.abs(got - want), initial=0.0) <= 1e-11:
                raise RuntimeError(
                    f"refimpl.retention_recurrent differs from the oracle at {case}: is refimpl changed?"
                )
