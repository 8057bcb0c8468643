"""Retention: one function of (q, k, v, gamma, state), in three forms that give the same numbers.

Calls chain: the state one returns is what the next goes on from, so any split of a sequence, each part in any form,
gives what one call gives. Everything is computed in float64 for float64 inputs and in float32 for all narrower ones.
Nothing is scaled, rotated or normalised here. The arrays may come from any array-API library, all from one and on one
device. B batch, H heads, T time, K key_dim, V value_dim. Equations: arXiv:2307.08621v4.
"""

from array_api_compat import array_namespace, device

from .checks import accumulation_dtype, check_integer, check_retention
from .decay import chunk_decays_of, decay_mask_of, in_two_parts


def retention_parallel(q, k, v, gamma, state=None):
    """All tokens at once: O = (Q K^T * D) V, D_nm = gamma^(n-m) for n >= m, else 0 (Eq. 5).

    A state before the first token adds (Q S) * xi, as in Eq. 7 with one chunk of T tokens. O(T^2) time and memory.

    q, k (B, H, T, K) and v (B, H, T, V) of one real floating dtype; gamma (H,) float32 or float64 in (0, 1]; state
    (B, H, K, V) or None for zero. Returns out (B, H, T, V) in v's dtype and the state after the last token, float64
    for float64 inputs and float32 for all narrower. Anything else: TypeError or ValueError naming the argument.

    >>> import numpy as np
    >>> one = np.ones((1, 1, 3, 1))
    >>> out, state = retention_parallel(one, one, one, np.asarray([0.5]))
    >>> out.ravel(), state.ravel()
    (array([1.  , 1.5 , 1.75]), array([1.75]))
    """
    q, k, v, state, dtype = _prepare(q, k, v, gamma, state)
    out, state = _chunk(q, k, v, _decays(gamma, q.shape[2], q.dtype), state)
    return _astype(out, dtype), state


def retention_step(q, k, v, gamma, state=None):
    """One token: S_n = gamma S_(n-1) + k_n^T v_n, o_n = q_n S_n (Eq. 6).

    T must be 1, or ValueError. O(1) in the length of the past.

    q, k (B, H, T, K) and v (B, H, T, V) of one real floating dtype; gamma (H,) float32 or float64 in (0, 1]; state
    (B, H, K, V) or None for zero. Returns out (B, H, T, V) in v's dtype and the state after the last token, float64
    for float64 inputs and float32 for all narrower. Anything else: TypeError or ValueError naming the argument.

    >>> import numpy as np
    >>> one = np.ones((1, 1, 1, 1))
    >>> out, state = retention_step(one, one, one, np.asarray([0.5]), state=one)
    >>> out.ravel(), state.ravel()
    (array([1.5]), array([1.5]))
    """
    q, k, v, state, dtype = _prepare(q, k, v, gamma, state)
    if q.shape[2] != 1:
        raise ValueError(f"q must hold one token (time = 1; take q[:, :, n : n + 1]), got time = {q.shape[2]}")
    out, state = _step(q, k, v, in_two_parts(gamma, q.dtype), state)
    return _astype(out, dtype), state


def retention_recurrent(q, k, v, gamma, state=None):
    """Token by token: `retention_step` over the time axis (Eq. 6).

    O(T) time, O(1) memory beyond inputs and outputs.

    q, k (B, H, T, K) and v (B, H, T, V) of one real floating dtype; gamma (H,) float32 or float64 in (0, 1]; state
    (B, H, K, V) or None for zero. Returns out (B, H, T, V) in v's dtype and the state after the last token, float64
    for float64 inputs and float32 for all narrower. Anything else: TypeError or ValueError naming the argument.

    >>> import numpy as np
    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_recurrent(one, one, one, np.asarray([0.5]))[0].ravel()
    array([1.  , 1.5 , 1.75])
    """
    q, k, v, state, dtype = _prepare(q, k, v, gamma, state)
    decay, outs = in_two_parts(gamma, q.dtype), [v[:, :, :0, :]]
    for n in range(q.shape[2]):
        token = (slice(None), slice(None), slice(n, n + 1), slice(None))
        out, state = _step(q[token], k[token], v[token], decay, state)
        outs.append(out)
    return _astype(array_namespace(*outs).concat(outs, axis=2), dtype), state


def retention_chunkwise(q, k, v, gamma, state=None, *, chunk_size=64):
    """Parallel inside chunks of C tokens, recurrent from chunk to chunk (Eq. 7).

    O_i = (Q_i K_i^T * D) V_i + (Q_i S_(i-1)) * xi, S_i = K_i^T (V_i * zeta) + gamma^C S_(i-1), with xi_j = gamma^j and
    zeta_j = gamma^(C-j). A last chunk of c < C tokens uses its own length c.
    O(T C) time, O(C^2) memory. chunk_size: an integer of at least 1, dividing T or not.

    q, k (B, H, T, K) and v (B, H, T, V) of one real floating dtype; gamma (H,) float32 or float64 in (0, 1]; state
    (B, H, K, V) or None for zero. Returns out (B, H, T, V) in v's dtype and the state after the last token, float64
    for float64 inputs and float32 for all narrower. Anything else: TypeError or ValueError naming the argument.

    >>> import numpy as np
    >>> one = np.ones((1, 1, 3, 1))
    >>> retention_chunkwise(one, one, one, np.asarray([0.5]), chunk_size=2)[0].ravel()
    array([1.  , 1.5 , 1.75])
    """
    q, k, v, state, dtype = _prepare(q, k, v, gamma, state)
    chunk_size = check_integer("chunk_size", chunk_size, minimum=1)
    decays, outs = {}, [v[:, :, :0, :]]
    for start in range(0, q.shape[2], chunk_size):
        length = min(chunk_size, q.shape[2] - start)
        if length not in decays:  # computed twice at most: for C and for the ragged tail
            decays[length] = _decays(gamma, length, q.dtype)
        chunk = (slice(None), slice(None), slice(start, start + length), slice(None))
        out, state = _chunk(q[chunk], k[chunk], v[chunk], decays[length], state)
        outs.append(out)
    return _astype(array_namespace(*outs).concat(outs, axis=2), dtype), state


def _step(q, k, v, decay, state):
    """Eq. 6 for one token; decay is gamma in two parts."""
    state = _carry(decay, state, k.mT @ v)
    return q @ state, state


def _chunk(q, k, v, decays, state):
    """Eq. 7 for one chunk; decays are those of `_decays` for its length."""
    mask, xi, zeta, whole = decays
    out = ((q @ k.mT) * mask) @ v + (q @ state) * xi
    return out, _carry(whole, state, k.mT @ (v * zeta))


def _carry(decay, state, written):
    """decay * state + written, decay in two parts."""
    high, low = decay
    return high * state + (low * state + written)


def _decays(gamma, length, dtype):
    """D (H, c, c), xi and zeta (H, c, 1) in dtype, and gamma^c in two parts."""
    xp = array_namespace(gamma)
    gamma = _astype(gamma, xp.float64)
    mask, (xi, zeta, whole) = decay_mask_of(gamma, length, dtype=dtype), chunk_decays_of(gamma, length)
    return mask, *(_astype(x, dtype)[:, :, None] for x in (xi, zeta)), in_two_parts(whole, dtype)


def _prepare(q, k, v, gamma, state):
    """Check, cast to the accumulation dtype, make an absent state zero; also return the dtype of out."""
    xp, dtype = check_retention(q, k, v, gamma, state), v.dtype
    q, k, v = (_astype(x, accumulation_dtype(xp, dtype)) for x in (q, k, v))
    if state is None:
        state = xp.zeros((*q.shape[:2], q.shape[3], v.shape[3]), dtype=q.dtype, device=device(q))
    elif q.shape[2] == 0:  # nothing will be added to it: what comes out must still be another array
        state = 1.0 * state
    return q, k, v, state, dtype


def _astype(x, dtype):
    return x if x.dtype == dtype else array_namespace(x).astype(x, dtype)
