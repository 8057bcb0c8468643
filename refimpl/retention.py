"""Retention in three forms that give the same numbers, and the contract that every retention keeps.

    (q, k, v, gamma, state=None) -> (out, state)

    q, k    (B, H, T, K)   of one real floating dtype, like v
    v, out  (B, H, T, V)   T may be 0
    gamma   (H,)           the decay of each head, float32 or float64, in (0, 1]
    state   (B, H, K, V)   float64 for float64 inputs, float32 for all narrower ones; None means zero

B batch, H heads, T time, K key_dim, V value_dim. All arrays come from one array-API library and are on one device.
The state returned is a new array: the state after the last token. Calls chain, so any split of a sequence, each part
in any form, gives what one call gives. Sums are computed in the dtype of the state. Nothing is scaled, rotated or
normalised here. Anything else raises a TypeError or ValueError that names the argument, what came and what is wanted.
The values of gamma are looked at where that costs nothing: `refimpl.libraries.check_values` says when.
All but the step take sequences of different lengths too, padded or packed: `refimpl.lengths` says how.

A NaN or an infinity in q spoils its own token's output; in k or v also all outputs after it and the state. Outputs before
it stay as they are in the recurrent form. The chunkwise form multiplies whole chunks, so it spoils the chunk from its first
token, and the parallel form all outputs: 0 * NaN is NaN.

Equations: arXiv:2307.08621v4.
"""

import os
from typing import Any

from array_api_compat import array_namespace, device

from .arrays import Array, ArrayT
from .checks import accumulation_dtype, check_integer, check_one_token, check_retention
from .decay import carry, chunk_decays_of, decay_mask_of, in_two_parts
from .lengths import with_lengths
from .libraries import is_compiling, is_on_host, without_autocast


@with_lengths
@without_autocast
def retention_parallel(
    q: ArrayT, k: ArrayT, v: ArrayT, gamma: Array, state: ArrayT | None = None
) -> tuple[ArrayT, ArrayT]:
    """All tokens at once: O = (Q K^T * D) V, D_nm = gamma^(n-m) for n >= m, else 0 (Eq. 5).

    A state before the first token adds (Q S) * xi, as in Eq. 7 with one chunk of T tokens. O(T^2) time and memory;
    MemoryError for a T whose scores are larger than the memory of the machine.
    Shapes, dtypes and errors: the contract in `refimpl.retention`.

    >>> import numpy as np
    >>> one = np.ones((1, 1, 3, 1))
    >>> out, state = retention_parallel(one, one, one, np.asarray([0.5]))
    >>> out.ravel(), state.ravel()
    (array([1.  , 1.5 , 1.75]), array([1.75]))
    """
    q, k, v, state, dtype = prepare(q, k, v, gamma, state)
    _check_memory(q)
    out, state = chunk_step(q, k, v, chunk_tables(gamma, q.shape[2], q.dtype), state)
    return _astype(out, dtype), state


@without_autocast
def retention_step(q: ArrayT, k: ArrayT, v: ArrayT, gamma: Array, state: ArrayT | None = None) -> tuple[ArrayT, ArrayT]:
    """One token: S_n = gamma S_(n-1) + k_n^T v_n, o_n = q_n S_n (Eq. 6).

    T must be 1, or ValueError. O(1) in the length of the past.
    Shapes, dtypes and errors: the contract in `refimpl.retention`.

    >>> import numpy as np
    >>> one = np.ones((1, 1, 1, 1))
    >>> out, state = retention_step(one, one, one, np.asarray([0.5]), state=one)
    >>> out.ravel(), state.ravel()
    (array([1.5]), array([1.5]))
    """
    q, k, v, state, dtype = prepare(q, k, v, gamma, state)
    check_one_token(q)
    out, state = token_step(q, k, v, in_two_parts(gamma, q.dtype), state)
    return _astype(out, dtype), state


@with_lengths
@without_autocast
def retention_recurrent(
    q: ArrayT, k: ArrayT, v: ArrayT, gamma: Array, state: ArrayT | None = None
) -> tuple[ArrayT, ArrayT]:
    """Token by token: `retention_step` over the time axis (Eq. 6).

    O(T) time, O(1) memory beyond inputs and outputs. Shapes, dtypes and errors: the contract in `refimpl.retention`.

    >>> import numpy as np
    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_recurrent(one, one, one, np.asarray([0.5]))[0].ravel()
    array([1.  , 1.5 , 1.75])
    """
    q, k, v, state, dtype = prepare(q, k, v, gamma, state)
    decay, outs = in_two_parts(gamma, q.dtype), [v[:, :, :0, :]]
    for n in range(q.shape[2]):
        token = (slice(None), slice(None), slice(n, n + 1), slice(None))
        out, state = token_step(q[token], k[token], v[token], decay, state)
        outs.append(out)
    return _astype(array_namespace(*outs).concat(outs, axis=2), dtype), state


@with_lengths
@without_autocast
def retention_chunkwise(
    q: ArrayT, k: ArrayT, v: ArrayT, gamma: Array, state: ArrayT | None = None, *, chunk_size: int = 64
) -> tuple[ArrayT, ArrayT]:
    """Parallel inside chunks of C tokens, recurrent from chunk to chunk (Eq. 7).

    O_i = (Q_i K_i^T * D) V_i + (Q_i S_(i-1)) * xi, S_i = K_i^T (V_i * zeta) + gamma^C S_(i-1), with xi_j = gamma^j and
    zeta_j = gamma^(C-j). A last chunk of c < C tokens uses its own length c. O(T C) time, O(C^2) memory.
    chunk_size: an integer of at least 1; it need not divide T.
    Shapes, dtypes and errors: the contract in `refimpl.retention`.

    >>> import numpy as np
    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_chunkwise(one, one, one, np.asarray([0.5]), chunk_size=2)[0].ravel()
    array([1.  , 1.5 , 1.75])
    """
    q, k, v, state, dtype = prepare(q, k, v, gamma, state)
    chunk_size = check_integer("chunk_size", chunk_size, minimum=1)
    tables: dict[int, Any] = {}
    outs = [v[:, :, :0, :]]
    for start in range(0, q.shape[2], chunk_size):
        length = min(chunk_size, q.shape[2] - start)
        if length not in tables:  # two lengths at most: C and that of the last chunk
            tables[length] = chunk_tables(gamma, length, q.dtype)
        chunk = (slice(None), slice(None), slice(start, start + length), slice(None))
        out, state = chunk_step(q[chunk], k[chunk], v[chunk], tables[length], state)
        outs.append(out)
    return _astype(array_namespace(*outs).concat(outs, axis=2), dtype), state


# ---------------------------------------------------------------- the steps, for arguments that `prepare` has checked


def token_step(q: Any, k: Any, v: Any, decay: tuple[Any, Any], state: Any) -> tuple[Any, Any]:
    """Eq. 6 for one token; decay is gamma in two parts."""
    # A column times a row: NumPy computes `@` of these in a slow loop of its own.
    state = carry(decay, state, k.mT * v)
    return q @ state, state


def chunk_step(q: Any, k: Any, v: Any, tables: tuple[Any, Any, Any, Any], state: Any) -> tuple[Any, Any]:
    """Eq. 7 for one chunk; tables are those of `chunk_tables` for its length."""
    mask, xi, zeta, whole = tables
    out = ((q @ k.mT) * mask) @ v + (q @ state) * xi
    return out, carry(whole, state, k.mT @ (v * zeta))


def chunk_tables(gamma: Any, length: int, dtype: Any) -> tuple[Any, Any, Any, Any]:
    """D (H, c, c), xi and zeta (H, c, 1) in dtype, and gamma^c in two parts, for a chunk of c = length tokens."""
    xp = array_namespace(gamma)
    gamma = _astype(gamma, xp.float64)
    mask, (xi, zeta, whole) = decay_mask_of(gamma, length, dtype=dtype), chunk_decays_of(gamma, length)
    return mask, *(_astype(x, dtype)[:, :, None] for x in (xi, zeta)), in_two_parts(whole, dtype)


def prepare(q: Any, k: Any, v: Any, gamma: Any, state: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Check the arguments by the contract; return q, k, v in the accumulation dtype, the state, and the dtype of out.

    A state of None becomes zeros.
    """
    xp, dtype = check_retention(q, k, v, gamma, state), v.dtype
    q, k, v = (_astype(x, accumulation_dtype(xp, dtype)) for x in (q, k, v))
    if state is None:
        state = xp.zeros((*q.shape[:2], q.shape[3], v.shape[3]), dtype=q.dtype, device=device(q))
    elif q.shape[2] == 0:  # no token makes a new state of it, and the caller's own must not be returned
        state = 1.0 * state
    return q, k, v, state, dtype


def _check_memory(q: Any) -> None:
    """Refuse a text whose scores the memory of the machine cannot hold. On a device its own library does so."""
    xp, (batch, heads, time, _) = array_namespace(q), q.shape
    if is_compiling(xp) or not is_on_host(q) or not hasattr(os, "sysconf"):
        return
    # Scores before and after D, D, and what D is copied by: lags and places, integers of 8 bytes.
    needed = time**2 * ((2 * batch * heads + heads) * (8 if q.dtype == xp.float64 else 4) + 16)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise MemoryError(
            f"q must be a shorter text for retention_parallel, got {time:,} tokens: its scores would take "
            f"{needed / 2**30:,.0f} GiB, and this machine has {memory / 2**30:,.0f} GiB; retention_chunkwise gives the same "
            "and holds one chunk"
        )


def _astype(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else array_namespace(x).astype(x, dtype)
