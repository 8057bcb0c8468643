"""Broken kernels: mistakes that kernels make, each of which the contract must catch.

A mistake takes a right retention and returns one that is wrong in this way alone. MISTAKES holds all of them.
"""

import functools

from array_api_compat import array_namespace

MISTAKES = []


def _mistake(broken):
    """Turn broken(retention, q, k, v, gamma, state) into a function of a retention, and list it in MISTAKES."""

    @functools.wraps(broken)
    def mistake(retention):
        return lambda q, k, v, gamma, state=None: broken(retention, q, k, v, gamma, state)

    MISTAKES.append(mistake)
    return mistake


def _by_head(gamma, x):
    """Gamma in x's dtype, to be multiplied with x (B, H, ..., ...)."""
    xp = array_namespace(gamma)
    return xp.astype(gamma, x.dtype)[:, None, None]


def _past(retention, q, k, v, gamma, state):
    """What is read from the state before the first token, and what is left of this state at the end."""
    return retention(q, k, 0 * v, gamma, state)


# ---------------------------------------------------------------- the decay


@_mistake
def forgets_nothing(retention, q, k, v, gamma, state):
    """Gamma is taken for 1."""
    return retention(q, k, v, gamma**0, state)


@_mistake
def forgets_everything(retention, q, k, v, gamma, state):
    """Each token sees itself alone."""
    xp = array_namespace(q)
    _, state = retention(q, k, v, gamma, state)
    return xp.sum(q * k, axis=-1, keepdims=True) * v, state


@_mistake
def decays_every_head_like_the_first(retention, q, k, v, gamma, state):
    """The decay of head 0 is taken for all heads."""
    return retention(q, k, v, gamma[:1] + 0 * gamma, state)


@_mistake
def decays_after_reading(retention, q, k, v, gamma, state):
    """o_n = q_n (S_(n-1) + k_n v_n) and S_n = gamma (S_(n-1) + k_n v_n): the state returned has one decay too many."""
    out, state = retention(q, k, v, gamma, state if state is None else state / _by_head(gamma, state))
    return out, state * _by_head(gamma, state)


@_mistake
def decays_the_new_token(retention, q, k, v, gamma, state):
    """S_n = gamma (S_(n-1) + k_n v_n), o_n = q_n S_n."""
    return retention(q, k * _by_head(gamma, k), v, gamma, state)


@_mistake
def misses_zeta(retention, q, k, v, gamma, state):
    """Tokens enter the state undecayed, as in the paper's pseudocode; what comes out is right."""
    out, _ = retention(q, k, v, gamma, state)
    _, kept = _past(retention, q, k, v, gamma, state)
    return out, kept + retention(q, k, v, gamma**0)[1]


@_mistake
def misses_xi(retention, q, k, v, gamma, state):
    """The state before the call is read undecayed."""
    out, after = retention(q, k, v, gamma)
    if state is not None:
        out = out + _past(retention, q, k, v, gamma**0, state)[0]
        after = after + _past(retention, q, k, v, gamma, state)[1]
    return out, after


@_mistake
def carries_the_state_undecayed(retention, q, k, v, gamma, state):
    """The state before the call enters the state after it as it was."""
    out, _ = retention(q, k, v, gamma, state)
    _, written = retention(q, k, v, gamma)
    return out, written if state is None else written + state


@_mistake
def decays_in_float32(retention, q, k, v, gamma, state):
    """Gamma is rounded to float32, which costs 2e-6 of the answer after 257 tokens."""
    xp = array_namespace(gamma)
    return retention(q, k, v, xp.astype(xp.astype(gamma, xp.float32), xp.float64), state)


# ---------------------------------------------------------------- what is read


@_mistake
def reads_before_it_writes(retention, q, k, v, gamma, state):
    """The mask is strict: token n does not see itself."""
    out, state = retention(q, k, v, gamma, state)
    return out - array_namespace(q).sum(q * k, axis=-1, keepdims=True) * v, state


@_mistake
def sees_the_next_token(retention, q, k, v, gamma, state):
    """The mask is one diagonal too wide."""
    out, state = retention(q, k, v, gamma, state)
    xp = array_namespace(q)
    ahead = [xp.concat([x[:, :, 1:], 0 * x[:, :, :1]], axis=2) for x in (k, v)]
    return out + xp.sum(q * ahead[0], axis=-1, keepdims=True) * ahead[1], state


@_mistake
def swaps_queries_and_keys(retention, q, k, v, gamma, state):
    """Scores are k_n . q_m; the state is that of the keys."""
    return retention(k, q, v, gamma, state)[0], retention(q, k, v, gamma, state)[1]


@_mistake
def scales_the_queries(retention, q, k, v, gamma, state):
    """The kernel divides by sqrt(K), which the caller has done."""
    return retention(q * q.shape[3] ** -0.5, k, v, gamma, state)


# ---------------------------------------------------------------- chunks and lengths


@_mistake
def drops_the_ragged_tail(retention, q, k, v, gamma, state):
    """Tokens after the last whole chunk of 16 give zero and are not written."""
    whole = q.shape[2] // 16 * 16
    out, state = retention(q[:, :, :whole], k[:, :, :whole], v[:, :, :whole], gamma, state)
    return array_namespace(q).concat([out, 0 * v[:, :, whole:]], axis=2), state


@_mistake
def pads_the_tail_with_decays(retention, q, k, v, gamma, state):
    """The state decays over the padding of the last chunk of 16 tokens."""
    out, state = retention(q, k, v, gamma, state)
    return out, state * _by_head(gamma ** (-q.shape[2] % 16), state)


@_mistake
def forgets_between_chunks(retention, q, k, v, gamma, state):
    """Every chunk of 16 tokens begins with an empty state, also the first."""
    xp, outs = array_namespace(q), [v[:, :, :0]]
    _, after = retention(q, k, v, gamma, state)
    for start in range(0, q.shape[2], 16):
        outs.append(retention(*(x[:, :, start : start + 16] for x in (q, k, v)), gamma)[0])
    return xp.concat(outs, axis=2), after


@_mistake
def stops_at_token_512(retention, q, k, v, gamma, state):
    """Outputs after token 512 are zero."""
    out, state = retention(q, k, v, gamma, state)
    return array_namespace(q).concat([out[:, :, :512], 0 * out[:, :, 512:]], axis=2), state


@_mistake
def multiplies_by_inverse_decays(retention, q, k, v, gamma, state):
    """gamma^(n-m) as gamma^n gamma^-m in float32, which overflows: every output after that is lost."""
    xp = array_namespace(q)
    inverse = xp.astype(gamma, xp.float32)[:, None] ** -xp.arange(q.shape[2], dtype=xp.float32)
    out, state = retention(q, k, v, gamma, state)
    return xp.where(xp.isfinite(inverse)[:, :, None], out, xp.zeros_like(out)), state


# ---------------------------------------------------------------- states, buffers, dtypes, gradients


@_mistake
def ignores_the_state(retention, q, k, v, gamma, state):
    """Every call begins with an empty state."""
    return retention(q, k, v, gamma)


@_mistake
def transposes_the_state(retention, q, k, v, gamma, state):
    """The state returned is (B, H, V, K)."""
    out, state = retention(q, k, v, gamma, state)
    return out, array_namespace(q).permute_dims(state, (0, 1, 3, 2))


@_mistake
def overwrites_the_state_given(retention, q, k, v, gamma, state):
    """The state after the call is written into the caller's array."""
    out, after = retention(q, k, v, gamma, state)
    if state is not None:
        state[...] = after
    return out, after


@_mistake
def hands_back_the_state_given(retention, q, k, v, gamma, state):
    """Without a token, the caller's own array comes back and not a copy."""
    out, after = retention(q, k, v, gamma, state)
    return out, after if state is None or q.shape[2] else state


def returns_one_buffer(retention):
    """The state of every call is returned in one array, which the next call of this shape overwrites."""
    buffers = {}

    def broken(q, k, v, gamma, state=None):
        out, after = retention(q, k, v, gamma, state)
        buffer = buffers.setdefault((after.shape, after.dtype), after)
        buffer[...] = after
        return out, buffer

    return broken


MISTAKES.append(returns_one_buffer)


@_mistake
def keeps_the_state_in_the_input_dtype(retention, q, k, v, gamma, state):
    """A half model gets a half state."""
    out, state = retention(q, k, v, gamma, state)
    return out, array_namespace(q).astype(state, q.dtype)


@_mistake
def returns_a_wide_output(retention, q, k, v, gamma, state):
    """The output of narrow inputs comes in float64."""
    out, state = retention(q, k, v, gamma, state)
    xp = array_namespace(q)
    return xp.astype(out, xp.float64), state


@_mistake
def accumulates_in_halves(retention, q, k, v, gamma, state):
    """Narrow results are rounded to float16 on the way."""
    xp = array_namespace(q)
    out, state = retention(q, k, v, gamma, state)
    if q.dtype == xp.float64:
        return out, state
    return tuple(xp.astype(xp.astype(x, xp.float16), x.dtype) for x in (out, state))


@_mistake
def cuts_gradients_between_chunks(retention, q, k, v, gamma, state):
    """The state handed on after 64 tokens is a constant to autograd; on a library without autograd nothing is wrong."""
    first, rest = ([x[:, :, part] for x in (q, k, v)] for part in (slice(64), slice(64, None)))
    out, state = retention(*first, gamma, state)
    if q.shape[2] <= 64:
        return out, state
    later, state = retention(*rest, gamma, state.detach() if hasattr(state, "detach") else state)
    return array_namespace(q).concat([out, later], axis=2), state
