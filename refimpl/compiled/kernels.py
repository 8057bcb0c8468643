"""Compiled counterparts of the retentions and their gradients: the same contract, the same numbers, for NumPy arrays.

Numba compiles each function on its first call and keeps the machine code on disk. Heads are shared out to threads. Memory
beyond inputs and outputs does not grow with T, except that halves and non-contiguous arrays are copied once.
Equations: arXiv:2307.08621v4.

The gradient of a retention is a retention: with G = dL/dO, dQ is the retention of (G, V, K), and dV and dK are those of
(K, Q, G) and (V, G, Q), run backwards in time. So the gradients below are made of the parts of the forward pass.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backward import Gradients, in_dtype, prepare_backward
from ..checks import check_integer, check_numpy, check_one_token
from ..decay import carry, chunk_decays_of, in_two_parts
from ..lengths import with_lengths, with_lengths_backward
from ..retention import prepare
from .heads import chunkwise_backward_heads, chunkwise_heads, recurrent_heads
from .threads import over_heads

LINE = 64  # bytes of a cache line


@with_lengths
def retention_recurrent_numba(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gamma: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Token by token (Eq. 6): `refimpl.retention_recurrent`, compiled.

    O(T) time, O(1) memory beyond inputs and outputs.

    Shapes, dtypes and errors: the contract in `refimpl.retention`, for NumPy arrays.

    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_recurrent_numba(one, one, one, np.asarray([0.5]))[0].ravel()
    array([1.  , 1.5 , 1.75])
    """
    q, k, v, state, dtype = _prepare_numpy(q, k, v, gamma, state)
    out, state = _recurrent(q, k, v, gamma, state)
    return out.astype(dtype, copy=False), state


def retention_step_numba(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gamma: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """One token (Eq. 6): `refimpl.retention_step`, compiled. T must be 1, or ValueError.

    Shapes, dtypes and errors: the contract in `refimpl.retention`, for NumPy arrays.

    >>> one = np.ones((1, 1, 1, 1))
    >>> out, state = retention_step_numba(one, one, one, np.asarray([0.5]), state=one)
    >>> out.ravel(), state.ravel()
    (array([1.5]), array([1.5]))
    """
    q, k, v, state, dtype = _prepare_numpy(q, k, v, gamma, state)
    check_one_token(q)
    out, state = _recurrent(q, k, v, gamma, state)
    return out.astype(dtype, copy=False), state


@with_lengths
def retention_chunkwise_numba(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    gamma: np.ndarray,
    state: np.ndarray | None = None,
    *,
    chunk_size: int = 64,
) -> tuple[np.ndarray, np.ndarray]:
    """Parallel inside chunks of C tokens, recurrent from chunk to chunk (Eq. 7): `refimpl.retention_chunkwise`, compiled.

    H T (2 C (K + V) + 4 K V) floating-point operations, less about H T C (K + V) above the diagonal of the scores, which
    are skipped. chunk_size: an integer of at least 1; it need not divide T.

    Shapes, dtypes and errors: the contract in `refimpl.retention`, for NumPy arrays.

    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_chunkwise_numba(one, one, one, np.asarray([0.5]), chunk_size=2)[0].ravel()
    array([1.  , 1.5 , 1.75])
    """
    q, k, v, state, dtype = _prepare_numpy(q, k, v, gamma, state)
    out, state = _chunkwise(q, k, v, gamma, state, check_integer("chunk_size", chunk_size, minimum=1))
    return out.astype(dtype, copy=False), state


@with_lengths_backward
def retention_recurrent_backward_numba(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    gamma: np.ndarray,
    grad_out: np.ndarray,
    state: np.ndarray | None = None,
    grad_state: np.ndarray | None = None,
) -> Gradients:
    """Gradients of the recurrent form, token by token: forwards for dq, backwards for dk and dv.

    S_n = gamma S_(n-1) + k_n^T v_n, dq_n = G_n S_n^T; R_n = gamma R_(n+1) + q_n^T G_n, dk_n = v_n R_n^T, dv_n = k_n R_n,
    where gamma R_(T+1) stands for dL/dS_T; dL/dS_0 = gamma R_1 (the transpose of Eq. 6).

    Shapes, dtypes and errors: the contract in `refimpl.backward`.

    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_recurrent_backward_numba(one, one, one, np.asarray([0.5]), one)[2].ravel()
    array([1.75, 1.5 , 1.  ])
    """
    q, k, v, grad_out, state, grad_state, dtype = _prepare_numpy_backward(q, k, v, gamma, grad_out, state, grad_state)
    dq, _ = _recurrent(grad_out, v, k, gamma, state.mT)
    dk, _ = _recurrent(v, grad_out, q, gamma, grad_state.mT, backwards=True)
    dv, dstate = _recurrent(k, q, grad_out, gamma, grad_state, backwards=True)
    return *in_dtype(dtype, dq, dk, dv), dstate


@with_lengths_backward
def retention_chunkwise_backward_numba(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    gamma: np.ndarray,
    grad_out: np.ndarray,
    state: np.ndarray | None = None,
    grad_state: np.ndarray | None = None,
    *,
    chunk_size: int = 64,
) -> Gradients:
    """Gradients of the chunkwise form: both recurrences of the recurrent form run once a chunk.

    With W = (G V^T) * D and A = (Q K^T) * D in a chunk, S the state before it and R what comes back from after it:
    dQ = W K + (G S^T) * xi, dK = W^T Q + (V R^T) * zeta, dV = A^T G + (K R) * zeta and, for the chunk before,
    gamma^c R + (Q * xi)^T G (the transpose of Eq. 7).

    chunk_size: as in `retention_chunkwise_numba`. Shapes, dtypes and errors: the contract in `refimpl.backward`.

    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_chunkwise_backward_numba(one, one, one, np.asarray([0.5]), one, chunk_size=2)[2].ravel()
    array([1.75, 1.5 , 1.  ])
    """
    q, k, v, grad_out, state, grad_state, dtype = _prepare_numpy_backward(q, k, v, gamma, grad_out, state, grad_state)
    chunk_size = check_integer("chunk_size", chunk_size, minimum=1)
    dq, _ = _chunkwise(grad_out, v, k, gamma, state.mT, chunk_size)
    dk, dv, dstate = np.empty(k.shape, k.dtype), np.empty(v.shape, v.dtype), grad_state.copy()
    for length, first, count in reversed(_spans(q.shape[2], chunk_size)):
        tables = _tables(gamma, length, q.dtype)
        _share(chunkwise_backward_heads, q, k, v, grad_out, dk, dv, dstate, *tables, first, count)
    return *in_dtype(dtype, dq, dk, dv), dstate


# ---------------------------------------------------------------- between the public functions and the loops


def _prepare_numpy(q: Any, k: Any, v: Any, gamma: Any, state: Any) -> tuple[Any, Any, Any, Any, Any]:
    """`retention.prepare`, which checks and casts, for NumPy arrays."""
    q, k, v, state, dtype = prepare(q, k, v, gamma, state)
    check_numpy(q=q)  # the others are of the same library
    return *map(np.ascontiguousarray, (q, k, v)), state, dtype


def _prepare_numpy_backward(*arguments: Any) -> tuple[Any, ...]:
    """`backward.prepare_backward`, which checks and casts."""
    q, k, v, grad_out, state, grad_state, dtype = prepare_backward(*arguments)
    return *map(np.ascontiguousarray, (q, k, v, grad_out)), state, grad_state, dtype


def _spans(time: int, chunk_size: int) -> list[tuple[int, int, int]]:
    """(chunk length c, first token, number of chunks) of the whole chunks and of the shorter last one, if any."""
    whole, ragged = divmod(time, chunk_size)
    spans = (chunk_size, 0, whole), (ragged, whole * chunk_size, 1)
    return [span for span in spans if span[0] and span[2]]


def _tables(gamma: np.ndarray, length: int, dtype: Any) -> tuple[Any, ...]:
    """xi, zeta (H, c) and gamma^c, in two parts (H,) each, in dtype."""
    xi, zeta, whole = chunk_decays_of(gamma.astype(np.float64), length)
    return xi.astype(dtype), zeta.astype(dtype), *(part.ravel() for part in in_two_parts(whole, dtype))


def _recurrent(q: Any, k: Any, v: Any, gamma: Any, state: Any, backwards: bool = False) -> tuple[Any, Any]:
    """Eq. 6. Backwards in time, the state decays after each token and not before it."""
    decay = in_two_parts(gamma, q.dtype)
    high, low = (part.ravel() for part in decay)
    first = (np.ones_like(high), np.zeros_like(low)) if backwards else (high, low)
    empty = _from_a_line if q.shape[2] > 1 else np.empty  # one step goes over each once, and would win nothing
    out, end = empty(v.shape, v.dtype), empty(state.shape, state.dtype)
    _share(recurrent_heads, q, k, v, np.ascontiguousarray(state), end, out, *first, high, low, backwards)
    return out, carry(decay, end, 0.0) if backwards and q.shape[2] else end


def _from_a_line(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """np.empty, from the start of a cache line: NumPy's begins at any 16 bytes, and vectors across two lines take twice as long."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape)


def _chunkwise(q: Any, k: Any, v: Any, gamma: Any, state: Any, chunk_size: int) -> tuple[Any, Any]:
    """Eq. 7, first for the whole chunks and then for the shorter last one."""
    out, state = np.empty(v.shape, v.dtype), np.array(state, order="C")
    for length, first, count in _spans(q.shape[2], chunk_size):
        tables = _tables(gamma, length, q.dtype)
        _share(chunkwise_heads, q, k, v, state, out, *tables, first, count)
    return out, state


def _share(loop: Callable[..., None], q: Any, k: Any, v: Any, *arguments: Any) -> None:
    """Run a loop over the B H heads, shared out to threads."""
    over_heads(loop, q.shape[0] * q.shape[1], 2 * q.size * v.shape[3], q, k, v, *arguments)
