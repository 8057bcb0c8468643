"""The family of retention: other ways for a head to use its past, each in a parallel and a recurrent form.

All but softmax attention are one recurrence,

    S_n = G_n * S_(n-1) + k_n^T v_n,    o_n = q_n S_n,

and differ in what the decay G_n may depend on:

    member              G_n                                         published as
    linear attention    1                                           Transformers are RNNs, arXiv:2006.16236
    retention           gamma, one scalar a head                    RetNet, arXiv:2307.08621v4, in retention.py
    gated retention     one scalar a token and head                 RetNet-3, arXiv:2405.05254; Mamba-2, 2405.21060
    GLA                 one number a token, head and key channel    Gated Linear Attention, arXiv:2312.06635
    RWKV-6              as GLA, but o_n reads S_(n-1) and a bonus   Finch, arXiv:2404.05892
    diagonal SSM        one complex number a head and key channel,  S4D, arXiv:2206.11893
                        the same for all tokens, as q and k are
    softmax attention   no finite state: it keeps every k and v     Transformer, arXiv:1706.03762

Each is (q, k, v, its gates, state=None) -> (out, state), for NumPy arrays and otherwise by the contract in
`refimpl.retention`. Gates are float32 or float64 in (0, 1]. Nothing is scaled, rotated or passed through a feature map
here: that is done to q and k before.
"""

from typing import Any

import numpy as np

from .checks import (
    accumulation_dtype,
    check_arrays,
    check_integer,
    check_numpy,
    check_one_token,
    check_shape,
    check_tokens,
)


def costs(time: int, key_dim: int, value_dim: int) -> dict[str, tuple[int, int]]:
    """How many numbers a head keeps after token number `time`, and how many multiplications that token costs.

    Args:
        time: tokens so far, including the last one, at least 1.
        key_dim, value_dim: K and V, at least 1.

    Returns:
        {member: (numbers kept, multiplications)} a head, for the recurrent forms here. A complex number counts as two
        numbers, a product of two as four multiplications. Softmax attention also takes `time` exponentials.

    Raises:
        TypeError, ValueError: an argument is not an integer of at least 1.

    >>> costs(1000, 64, 64)["softmax_attention"], costs(1000, 64, 64)["gated_retention"]
    ((128000, 128000), (4096, 12288))
    """
    sizes = {"time": time, "key_dim": key_dim, "value_dim": value_dim}
    time, key_dim, value_dim = (check_integer(name, size, minimum=1) for name, size in sizes.items())
    cells, cache = key_dim * value_dim, time * (key_dim + value_dim)
    return {
        "softmax_attention": (cache, cache),  # q . k and weight * v, for every token so far
        "linear_attention": (cells, 2 * cells),  # write and read
        "retention": (cells, 3 * cells),  # decay, write and read
        "gated_retention": (cells, 3 * cells),
        "gla": (cells, 3 * cells),
        "rwkv": (cells, 4 * cells),  # and the bonus
        "diagonal_ssm": (2 * cells, 10 * cells),  # decay 4, write 2 (v is real), read 4
    }


# ---------------------------------------------------------------- softmax attention


def softmax_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, state: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """All tokens at once: O = softmax(Q K^T, its future masked) V (arXiv:1706.03762, Eq. 1; scale q by K^(-1/2) before).

    q, k (B, H, T, K), v (B, H, T, V). The state is the cache itself: keys (B, H, P, K) and values (B, H, P, V) of the P
    tokens before, None for none. Returns out (B, H, T, V) and the pair for P + T tokens. O(T (P + T)) time and memory.

    >>> k, v = np.log([1.0, 3.0]).reshape(1, 1, 2, 1), np.array([1.0, 5.0]).reshape(1, 1, 2, 1)
    >>> softmax_attention(np.ones((1, 1, 2, 1)), k, v)[0].ravel()   # weights 1, then 1/4 and 3/4
    array([1., 4.])
    """
    q, keys, values, dtype = _prepare_cache(q, k, v, state)
    time, total = q.shape[2], keys.shape[2]
    visible = np.tril(np.ones((time, total), dtype=bool), k=total - time)  # every token sees the cache
    out = _softmax(np.where(visible, q @ keys.mT, -np.inf)) @ values
    return out.astype(dtype, copy=False), (keys, values)


def softmax_attention_step(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, state: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """One token: append k and v to the cache, then o = softmax(q K^T) V over all of it; T must be 1, or ValueError.

    Arguments and results are those of `softmax_attention`. Each token costs more than the one before: O(P).

    >>> one = np.ones((1, 1, 1, 1))
    >>> out, (keys, values) = softmax_attention_step(one, one, 5 * one, (one, one))
    >>> out.ravel(), keys.shape
    (array([3.]), (1, 1, 2, 1))
    """
    q, keys, values, dtype = _prepare_cache(q, k, v, state)
    check_one_token(q)
    out = _softmax(q @ keys.mT) @ values
    return out.astype(dtype, copy=False), (keys, values)


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax of the last axis. The largest score of a row becomes 0, so no exponential overflows."""
    # `initial` is for rows without a score, when there is neither a token nor a past.
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-np.inf))
    return weights / weights.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------- linear attention: G_n = 1


def linear_attention_parallel(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All tokens at once: O = (Q K^T, its future zero) V + Q S_0 (arXiv:2006.16236).

    There is no normaliser: append a column of ones to v, and divide the other columns of out by the last one.

    q, k (B, H, T, K), v (B, H, T, V), state (B, H, K, V). O(T^2).

    >>> one = np.ones((1, 1, 3, 1))
    >>> linear_attention_parallel(one, one, one)[0].ravel()
    array([1., 2., 3.])
    """
    q, k, v, state, dtype = _prepare(q, k, v, state)
    out = np.tril(q @ k.mT) @ v + q @ state
    return out.astype(dtype, copy=False), k.mT @ v + state


def linear_attention_recurrent(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Token by token: S_n = S_(n-1) + k_n^T v_n, o_n = q_n S_n (arXiv:2006.16236).

    Arguments and results are those of `linear_attention_parallel`. O(T).
    """
    q, k, v, state, dtype = _prepare(q, k, v, state)
    out, state = _recurrence(q, k, v, None, state)
    return out.astype(dtype, copy=False), state


# ---------------------------------------------------------------- gated retention: G_n a scalar


def gated_retention_parallel(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gate: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All tokens at once: O = (Q K^T * D) V, D_nm = gate_(m+1) ... gate_n for n >= m, else 0.

    RetNet-3 (arXiv:2405.05254) and the SSD of Mamba-2 (arXiv:2405.21060), where D is called 1-semiseparable. As in
    Eq. 7 of arXiv:2307.08621v4, a state before adds (Q S_0) * xi, xi_n = gate_1 ... gate_n.

    q, k (B, H, T, K), v (B, H, T, V), gate (B, H, T), state (B, H, K, V). O(T^2).

    >>> one = np.ones((1, 1, 3, 1))
    >>> gated_retention_parallel(one, one, one, np.array([[[0.125, 0.5, 0.25]]]))[0].ravel()
    array([1.   , 1.5  , 1.375])
    """
    q, k, v, state, dtype = _prepare(q, k, v, state)
    _check_gate(gate, q.shape[:3], "batch, heads and time of q")
    kept = _kept(gate).astype(q.dtype, copy=False)  # (B, H, 1 + T, 1 + T)
    mask, xi, zeta, whole = kept[..., 1:, 1:], kept[..., 1:, :1], kept[..., -1:, 1:].mT, kept[..., -1:, :1]
    out = ((q @ k.mT) * mask) @ v + (q @ state) * xi
    return out.astype(dtype, copy=False), k.mT @ (v * zeta) + whole * state


def gated_retention_recurrent(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gate: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Token by token: S_n = gate_n S_(n-1) + k_n^T v_n, o_n = q_n S_n (arXiv:2405.05254, 2405.21060).

    Arguments and results are those of `gated_retention_parallel`. O(T).
    """
    q, k, v, state, dtype = _prepare(q, k, v, state)
    _check_gate(gate, q.shape[:3], "batch, heads and time of q")
    out, state = _recurrence(q, k, v, gate[..., None], state)
    return out.astype(dtype, copy=False), state


# ---------------------------------------------------------------- GLA: G_n a vector over K


def gla_parallel(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gate: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All tokens at once: gated retention in every key channel c, with a mask D^c of its own (arXiv:2312.06635).

    Scores P_nm = sum over c of q_nc k_mc D^c_nm, D^c_nm = gate_(m+1)c ... gate_nc for n >= m, else 0; then O = P V.
    The paper factors D into a product for n and a quotient for m, so that P is one matrix product; the quotient
    overflows, so it needs logarithms and short chunks. Here nothing is divided, at O(T^2 K) time and memory.

    q, k, gate (B, H, T, K), v (B, H, T, V), state (B, H, K, V).

    >>> one, gate = np.ones((1, 1, 2, 2)), np.array([[[[0.125, 0.125], [0.5, 0.25]]]])
    >>> gla_parallel(one, one, one[..., :1], gate)[0].ravel()   # then 1/2 + 1/4 of the first token is left
    array([2.  , 2.75])
    """
    q, k, v, state, dtype = _prepare(q, k, v, state)
    _check_gate(gate, q.shape, "that of q")
    kept = _kept(gate.mT).astype(q.dtype, copy=False)  # (B, H, K, 1 + T, 1 + T)
    xi = kept[..., 1:, 0].mT  # (B, H, T, K)
    out = _channel_scores(q, k, kept[..., 1:, 1:]) @ v + (q * xi) @ state
    return out.astype(dtype, copy=False), _channel_state(k, v, kept, state)


def gla_recurrent(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gate: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Token by token: S_n = diag(gate_n) S_(n-1) + k_n^T v_n, o_n = q_n S_n (arXiv:2312.06635).

    Arguments and results are those of `gla_parallel`. O(T).
    """
    q, k, v, state, dtype = _prepare(q, k, v, state)
    _check_gate(gate, q.shape, "that of q")
    out, state = _recurrence(q, k, v, gate, state)
    return out.astype(dtype, copy=False), state


# ---------------------------------------------------------------- RWKV-6: read before the write, plus a bonus


def rwkv_parallel(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gate: np.ndarray, bonus: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All tokens at once: GLA in which token n sees the state before itself, and itself only through the bonus.

    RWKV-6, "Finch" (arXiv:2404.05892), where q is r, gate w and bonus u; a gate constant in time is RWKV-5, "Eagle".
    Scores P_nm = sum over c of q_nc k_mc gate_(m+1)c ... gate_(n-1)c for n > m, and P_nn = sum over c of
    q_nc bonus_c k_nc; then O = P V. With a constant gate gamma and bonus 1 / gamma, gamma O is retention.

    q, k, gate (B, H, T, K), v (B, H, T, V), bonus (H, K) real floating, state (B, H, K, V). O(T^2 K).

    >>> one, gate = np.ones((1, 1, 3, 1)), np.array([0.125, 0.25, 0.5]).reshape(1, 1, 3, 1)
    >>> rwkv_parallel(one, one, one, gate, np.array([[3.0]]))[0].ravel()
    array([3.  , 4.  , 4.25])
    """
    q, k, v, state, dtype = _prepare(q, k, v, state)
    _check_gate(gate, q.shape, "that of q")
    bonus = _prepare_bonus(bonus, q)
    kept = _kept(gate.mT).astype(q.dtype, copy=False)  # (B, H, K, 1 + T, 1 + T)
    kept_before = kept[..., :-1, :]  # token n reads the state after token n - 1
    itself = np.sum(q * bonus[:, None, :] * k, axis=-1)  # (B, H, T)
    scores = _channel_scores(q, k, kept_before[..., 1:]) + itself[..., None] * np.eye(q.shape[2], dtype=q.dtype)
    out = scores @ v + (q * kept_before[..., 0].mT) @ state
    return out.astype(dtype, copy=False), _channel_state(k, v, kept, state)


def rwkv_recurrent(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gate: np.ndarray, bonus: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Token by token: o_n = q_n (S_(n-1) + diag(bonus) k_n^T v_n), S_n = diag(gate_n) S_(n-1) + k_n^T v_n.

    Arguments and results are those of `rwkv_parallel` (RWKV-6, arXiv:2404.05892). O(T).
    """
    q, k, v, state, dtype = _prepare(q, k, v, state)
    _check_gate(gate, q.shape, "that of q")
    out, state = _recurrence(q, k, v, gate, state, _prepare_bonus(bonus, q))
    return out.astype(dtype, copy=False), state


# ---------------------------------------------------------------- diagonal SSM: q, k and G the same at all times


def discretise(a: np.ndarray, b: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gate and k of a diagonal SSM that samples x' = a x + b v(t), v held still between samples (arXiv:2206.11893).

    Zero-order hold: gate = exp(step a), k = (exp(step a) - 1) / a b, which tends to step b as a tends to 0.

    Args:
        a: (H, K) real floating or complex, with a real part of at most 0, so that nothing grows.
        b: (H, K) real floating or complex.
        step: (H,) real floating, positive.

    Returns:
        gate, k: (H, K) complex128.

    Raises:
        TypeError, ValueError: an argument is not as above.

    >>> gate, k = discretise(np.array([[-1.0, 0.0]]), np.array([[3.0, 3.0]]), np.log([2.0]))
    >>> gate.real, (k.real / 3).round(4)
    (array([[0.5, 1. ]]), array([[0.5   , 0.6931]]))
    """
    for name, array in (("a", a), ("b", b)):
        _check_complex(name, array)
    check_shape("b", b, a.shape, "that of a")
    check_numpy(step=step)
    check_arrays(step=step)
    check_shape("step", step, a.shape[:1], "one step for each head of a")
    growing, standing = a[~(a.real <= 0)], step[~(step > 0)]
    if growing.size:
        raise ValueError(f"a must have a real part of at most 0, got {growing[0]:g}")
    if standing.size:
        raise ValueError(f"step must be positive, got {standing[0]:g}")
    a, step = a.astype(np.complex128), step[:, None]
    # expm1, because exp(x) - 1 loses its digits where x is small. Where a = 0, the limit is used and nothing is divided.
    hold = np.divide(np.expm1(step * a), a, out=step + 0 * a, where=a != 0)
    return np.exp(step * a), hold * b


def diagonal_ssm_parallel(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gate: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """All tokens at once: each channel of v convolved with the kernel Re(sum over c of q_c gate_c^l k_c), by FFT.

    S4D (arXiv:2206.11893), where q is C, k is B and gate is A, discretised (`discretise`). The real part is taken of all
    K channels, and the paper's factor 2 for conjugate pairs belongs into q. This is a convolution because q, k and gate
    are the same for all tokens. With every gate gamma e^(i theta) it is retention of rotated constants.

    q, k, gate (H, K) real floating or complex, gate of modulus in (0, 1]; v (B, H, T, V) real floating; state
    (B, H, K, V) complex128 for float64 v, complex64 for all narrower. O(T log T) time for the FFT, O(T K) for the kernel.
    Rounding errors are in proportion to the largest number of the whole line, not to each number.

    >>> impulse, turn = np.eye(1, 4)[:, None, :, None], np.array([[0.5j]])   # a quarter turn a token, and halved
    >>> diagonal_ssm_parallel(np.ones((1, 1)), np.ones((1, 1)), impulse, turn)[0].ravel().round(9) + 0.0
    array([ 1.  ,  0.  , -0.25,  0.  ])
    """
    q, k, v, state, dtype = _prepare_ssm(q, k, v, gate, state)
    time = v.shape[2]
    lags = np.arange(time + 1)
    powers = np.exp(np.log(gate.astype(np.complex128))[..., None] * lags).astype(q.dtype)  # (H, K, T + 1)
    kernel = ((q * k)[:, None, :] @ powers[..., :time]).real  # (H, 1, T)
    padded = 2 * time + 1  # the FFT convolves on a circle: zeros keep the end from reaching the start
    spectrum = np.fft.rfft(kernel.mT, padded, axis=1) * np.fft.rfft(v, padded, axis=2)
    out = np.fft.irfft(spectrum, padded, axis=2)[:, :, :time]
    out = out + ((q[..., None] * powers[..., 1:]).mT @ state).real
    state = (k[..., None] * powers[..., :time][..., ::-1]) @ v + powers[..., time:] * state
    return out.astype(dtype, copy=False), state


def diagonal_ssm_recurrent(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, gate: np.ndarray, state: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Token by token: S_n = diag(gate) S_(n-1) + k^T v_n, o_n = Re(q S_n) (arXiv:2206.11893).

    Arguments and results are those of `diagonal_ssm_parallel`. O(T K).
    """
    q, k, v, state, dtype = _prepare_ssm(q, k, v, gate, state)
    all_tokens = (*v.shape[:3], q.shape[1])
    q, k, gate = (np.broadcast_to(x[:, None, :], all_tokens) for x in (q, k, gate))
    out, state = _recurrence(q, k, v, gate, state)
    return out.real.astype(dtype, copy=False), state


# ---------------------------------------------------------------- shared by several members


def _recurrence(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    gate: np.ndarray | None,
    state: np.ndarray,
    bonus: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """S_n = gate_n * S_(n-1) + k_n^T v_n; o_n = q_n S_n or, with a bonus (H, K), q_n (S_(n-1) + bonus * k_n^T v_n).

    gate (B, H, T, K), (B, H, T, 1) or None for 1.
    """
    out = np.empty(v.shape, q.dtype)
    for n in range(v.shape[2]):
        token = (slice(None), slice(None), slice(n, n + 1))
        new, before = k[token].mT @ v[token], state
        state = new + (before if gate is None else gate[token].astype(q.dtype, copy=False).mT * before)
        seen = state if bonus is None else before + bonus[:, :, None] * new
        out[token] = q[token] @ seen
    return out, state


def _kept(gate: np.ndarray) -> np.ndarray:
    """The share of the state after token m that is left after token n: gate_(m+1) ... gate_n, and 0 for n < m.

    gate (..., T) gives (..., 1 + T, 1 + T) in float64; n and m count from 0, which is before the first token. Each
    product is the exponential of its own sum of logarithms. Differences of one running sum would lose the digits of
    small sums, and quotients of one running product would overflow.

    >>> _kept(np.array([0.5, 0.25]))
    array([[1.   , 0.   , 0.   ],
           [0.5  , 1.   , 0.   ],
           [0.125, 0.25 , 1.   ]])
    """
    rows = 1 + gate.shape[-1]
    logs = np.zeros((*gate.shape[:-1], rows, 1))
    logs[..., 1:, 0] = np.log(gate, dtype=np.float64)
    # Row n holds log gate_n up to column n - 1, so that down column m the sum runs over m + 1 ... n.
    sums = np.cumsum(np.tril(np.broadcast_to(logs, (*gate.shape[:-1], rows, rows)), -1), axis=-2)
    return np.tril(np.exp(sums))  # the sums above the diagonal are 0, so nothing overflows there


def _channel_scores(q: np.ndarray, k: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Sum over channels c of q_nc k_mc kept^c_nm: q, k (B, H, T, K) and kept (B, H, K, T, T) give (B, H, T, T)."""
    return np.sum(q.mT[..., :, None] * k.mT[..., None, :] * kept, axis=2)


def _channel_state(k: np.ndarray, v: np.ndarray, kept: np.ndarray, state: np.ndarray) -> np.ndarray:
    """The state after the last token, each channel of k and of the state before decayed by its own gates."""
    zeta, whole = kept[..., -1, 1:].mT, kept[..., -1, 0]  # (B, H, T, K), (B, H, K)
    return (k * zeta).mT @ v + whole[..., None] * state


# ---------------------------------------------------------------- checks


def _prepare(q: np.ndarray, k: np.ndarray, v: np.ndarray, state: Any) -> tuple[Any, ...]:
    """Check, cast to the accumulation dtype, copy the state or make it zero; also return the dtype of out."""
    check_numpy(q=q, k=k, v=v, state=state)
    check_tokens(q, k, v, state)
    wide = accumulation_dtype(np, v.dtype)
    state = np.zeros((*q.shape[:2], q.shape[3], v.shape[3]), wide) if state is None else state.copy()
    return *(x.astype(wide, copy=False) for x in (q, k, v)), state, v.dtype


def _prepare_cache(q: np.ndarray, k: np.ndarray, v: np.ndarray, state: Any) -> tuple[Any, ...]:
    """Check and cast as `_prepare`; return q, all keys, all values (those of the state first), the dtype of out."""
    q, k, v, _, dtype = _prepare(q, k, v, None)
    if state is None:
        state = (k[:, :, :0], v[:, :, :0])
    elif not (isinstance(state, tuple) and len(state) == 2):
        raise TypeError(f"state must be a pair (keys, values) or None, got {type(state).__name__}")
    check_numpy(keys=state[0], values=state[1])
    past = state[0].shape[2] if state[0].ndim == 4 else "past"
    for name, cached, new in (("keys", state[0], k), ("values", state[1], v)):
        check_shape(name, cached, (*q.shape[:2], past, new.shape[3]), "the tokens before, else as q and v")
        if cached.dtype != q.dtype:
            raise TypeError(f"{name} must have dtype {q.dtype} when q is {dtype}, got {cached.dtype}")
    return q, np.concatenate([state[0], k], axis=2), np.concatenate([state[1], v], axis=2), dtype


def _prepare_ssm(q: np.ndarray, k: np.ndarray, v: np.ndarray, gate: np.ndarray, state: Any) -> tuple[Any, ...]:
    """Check, cast q and k to complex, copy the state or make it zero; also return the dtype of out."""
    check_numpy(v=v)
    check_arrays(v=v)
    if v.ndim != 4:
        raise ValueError(f"v must have 4 axes (batch, heads, time, value_dim), got shape {v.shape}")
    for name, array in (("q", q), ("k", k), ("gate", gate)):
        _check_complex(name, array)
        check_shape(name, array, (v.shape[1], q.shape[1]), "heads of v, key_dim of q: the same for all tokens")
    real = accumulation_dtype(np, v.dtype)
    wide = np.result_type(real, np.complex64)
    # The modulus of e^(i theta) is 1 only up to rounding.
    _check_range("gate", np.abs(gate), 1 + 4 * np.finfo(gate.dtype).eps, "have modulus")
    shape = (*v.shape[:2], q.shape[1], v.shape[3])
    if state is None:
        state = np.zeros(shape, wide)
    check_numpy(state=state)
    check_shape("state", state, shape, "batch, heads, key_dim, value_dim")
    if state.dtype != wide:
        raise TypeError(f"state must have dtype {wide} when v is {v.dtype}, got {state.dtype}")
    return q.astype(wide), k.astype(wide), v.astype(real, copy=False), state.copy(), v.dtype


def _prepare_bonus(bonus: np.ndarray, q: np.ndarray) -> np.ndarray:
    check_arrays(q=q, bonus=bonus)
    check_shape("bonus", bonus, (q.shape[1], q.shape[3]), "heads and key_dim of q")
    return bonus.astype(q.dtype, copy=False)


def _check_gate(gate: np.ndarray, shape: tuple[int, ...], meaning: str) -> None:
    """Demand a float32 or float64 gate of the exact shape, all of it in (0, 1]."""
    check_numpy(gate=gate)
    check_shape("gate", gate, shape, meaning)
    if gate.dtype not in (np.float32, np.float64):
        raise TypeError(f"gate must be float32 or float64, got {gate.dtype}")  # halves round slow decays to none
    _check_range("gate", gate, 1.0, "lie")


def _check_range(name: str, values: np.ndarray, highest: float, verb: str) -> None:
    outside = np.argwhere(~((values > 0) & (values <= highest)))  # so that NaN is outside
    if len(outside):
        at = tuple(outside[0].tolist())
        raise ValueError(f"{name} must {verb} in (0, 1], got {values[at]:g} at index {at}")


def _check_complex(name: str, array: np.ndarray) -> None:
    check_numpy(**{name: array})
    if array.dtype.kind not in "fc":
        raise TypeError(f"{name} must have a real floating or complex dtype, got {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name} must have 2 axes (heads, key_dim), got shape {array.shape}")
