"""Sequences of different lengths in one call, padded or packed. Each gets what it gets alone: outputs, state, gradients.

    lengths     (B,)    how many tokens of each row are real, integers in [0, T]
    padding     where the others stand: "right", behind the real ones, or "left", before them
    cu_seqlens  (N + 1,)  instead, for B = 1: N sequences lie one behind another, and sequence s is the tokens
                        cu_seqlens[s] ... cu_seqlens[s + 1] - 1; from 0 to T, integers that do not fall
    max_length  the longest of them or more, an int. It is read off cu_seqlens unless that is on a device or in a trace

With cu_seqlens, states are (N, H, K, V). What stands at padding is not read, may be NaN, and has a gradient of exactly 0;
outputs there are 0. An attention mask (B, T) of 0 and 1 is lengths = its sums over T.

How: tokens are moved so that all sequences end together, with zeros before the shorter ones. Zeros leave a state of zeros as
it is, so any retention that starts from nothing ends in the state after the last token of each. Retention is linear in
the state before, which adds gamma^n q_n S_0 to output n and gamma^length S_0 to the last state (Eq. 6, arXiv:2307.08621v4).
Time and memory are those of a batch of N sequences as long as the longest.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from array_api_compat import array_namespace

from .arrays import Array, ArrayT, Retention
from .checks import (
    accumulation_dtype,
    check_arrays,
    check_numpy,
    check_retention,
    check_shape,
    check_state,
)
from .decay import carry, in_two_parts
from .libraries import without_autocast
from .sequences import Sequences, none_given, sequences_in

R = TypeVar("R")


class RetentionOfLengths(Protocol):
    """A retention under the contract that also takes sequences of different lengths."""

    def __call__(
        self,
        q: ArrayT,
        k: ArrayT,
        v: ArrayT,
        gamma: Array,
        state: ArrayT | None = None,
        *,
        lengths: Array | None = None,
        cu_seqlens: Array | None = None,
        max_length: int | None = None,
        padding: str = "right",
        **how: Any,
    ) -> tuple[ArrayT, ArrayT]:
        """As the contract in `refimpl.retention`; how: the retention's own keywords, such as chunk_size."""


def with_lengths(retention: Retention) -> RetentionOfLengths:
    """Give a retention the keywords above; it is any function under the contract of `refimpl.retention`.

    Raises TypeError or ValueError for lengths, cu_seqlens, max_length or padding that are not as above.

    >>> import numpy as np
    >>> from refimpl import retention_parallel
    >>> one = np.ones((2, 1, 3, 1))
    >>> out, state = retention_parallel(one, one, one, np.asarray([0.5]), lengths=np.asarray([3, 1]))
    >>> out[..., 0].tolist(), state.ravel().tolist()
    ([[[1.0, 1.5, 1.75]], [[1.0, 0.0, 0.0]]], [1.75, 1.0])
    """
    return _with_keywords(retention, each_alone)


def with_lengths_backward(retention: Callable[..., R]) -> Callable[..., R]:
    """The same for a retention under the contract of `refimpl.backward`."""
    return _with_keywords(retention, each_alone_backward)


def _with_keywords(function: Callable[..., Any], alone: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def call(
        q: Any, k: Any, v: Any, gamma: Any, *rest: Any,
        lengths: Any = None, cu_seqlens: Any = None, max_length: Any = None, padding: Any = "right", **how: Any,
    ) -> Any:  # fmt: skip
        if none_given(lengths, cu_seqlens, max_length, padding):
            return function(q, k, v, gamma, *rest, **how)
        check_retention(q, k, v, gamma)
        sequences = sequences_in("q", q, (q.shape[0], q.shape[2]), lengths, cu_seqlens, max_length, padding)
        return alone(q, k, v, gamma, *rest, retention=function, sequences=sequences, **how)

    signature, own = inspect.signature(function), inspect.signature(call, follow_wrapped=False).parameters
    added = [own[name] for name in ("lengths", "cu_seqlens", "max_length", "padding")]
    call.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    return call


def each_alone(
    q: Any, k: Any, v: Any, gamma: Any, state: Any = None,
    *, retention: Retention, sequences: Sequences, keep_values: bool = False, **how: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """The retention of each sequence in q, k, v (B, H, T, ·), which have been checked; state (N, H, K, V).

    keep_values: outputs at padding are v, and not 0, which a norm of eps 0 could not divide by.
    """
    _check_state(q, v, state, sequences)
    padding = v if keep_values else None
    q, k, v = (sequences.together(x) for x in (q, k, v))
    out, after = retention(q, k, v, gamma, **how)
    if state is not None:
        out, after = _with_state(q, out, after, gamma, state, sequences)
    return sequences.back(out, padding), after


def each_alone_backward(
    q: Any, k: Any, v: Any, gamma: Any, grad_out: Any, state: Any = None, grad_state: Any = None,
    *, retention: Callable[..., Any], sequences: Sequences, keep_values: bool = False, **how: Any,
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    """The gradients of `each_alone`, by a retention under the contract in `refimpl.backward`; states (N, H, K, V)."""
    _check_state(q, v, state, sequences)
    check_numpy(grad_out=grad_out)
    check_shape("grad_out", grad_out, v.shape, "that of v")
    padding = grad_out if keep_values else None
    q, k, v, grad_out = (sequences.together(x) for x in (q, k, v, grad_out))
    dq, dk, dv, _ = retention(q, k, v, gamma, grad_out, None, grad_state, **how)
    xi, whole = _state_decays(q, gamma, sequences)
    grad_cross = grad_out * xi
    if state is not None:
        dq = (dq + grad_cross @ state.mT).astype(q.dtype, copy=False)
    dstate = carry(whole, 0.0 if grad_state is None else grad_state, q.mT @ grad_cross)
    return sequences.back(dq), sequences.back(dk), sequences.back(dv, padding), dstate


@without_autocast
def _with_state(q: Any, out: Any, after: Any, gamma: Any, state: Any, sequences: Sequences) -> tuple[Any, Any]:
    """Add what the state before gives to the outputs and the state."""
    xp = array_namespace(q)
    xi, whole = _state_decays(q, gamma, sequences)
    cross = (xp.astype(q, state.dtype, copy=False) @ state) * xi
    return xp.astype(out + cross, out.dtype, copy=False), carry(whole, state, after)


def _state_decays(q: Any, gamma: Any, sequences: Sequences) -> tuple[Any, Any]:
    """gamma^n (N, H, M, 1) for token n = 1, 2, ... of each sequence, and gamma^length (N, H, 1, 1) in two parts."""
    xp = array_namespace(gamma)
    dtype, decay = accumulation_dtype(xp, q.dtype), xp.astype(gamma, xp.float64)
    n = xp.astype(xp.clip(sequences.aligned + 1, 0, None), xp.float64)  # no negative powers, which overflow
    xi = xp.astype(decay[:, None] ** n[:, None, :], dtype)[..., None]
    return xi, in_two_parts(decay ** xp.astype(sequences.lengths, xp.float64)[:, None], dtype)


def _check_state(q: Any, v: Any, state: Any, sequences: Sequences) -> None:
    if state is not None:
        check_arrays(q=q, state=state)
        check_state("state", state, (sequences.lengths.shape[0], q.shape[1], q.shape[3], v.shape[3]), q.dtype)
