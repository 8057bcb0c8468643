"""Replay decoding: the state is written every L steps and not at every one, and the last tokens can be taken back.

A step reads the state and writes it, which for large batches is all that it costs. gamma is fixed, so S_(n-r), the state of r
tokens ago, serves on as it is, beside the keys and values of the r tokens since:

    o_n = gamma^r q_n S_(n-r) + sum over these tokens m, the n-th included, of gamma^(n-m) (q_n . k_m) v_m

That is Eq. 7 (arXiv:2307.08621v4) for one chunk that grows by the tokens of each call. The kept tokens are written into the
state when there would be more than L of them. Until then a token is taken back by leaving out its key and value: so a model
reads several drafted tokens at once, and those that it does not accept leave no trace.

    B batch, H heads, T time, K key_dim, V value_dim, R kept tokens
"""

from typing import Any, NamedTuple

from array_api_compat import array_namespace, device, is_array_api_obj

from .arrays import Array, ArrayT
from .checks import (
    accumulation_dtype,
    check_arrays,
    check_gamma,
    check_integer,
    check_integers,
    check_retention,
    check_shape,
    check_state,
)
from .decay import carry, chunk_decays_of, decay_mask_of, in_two_parts
from .libraries import check_values, without_autocast
from .model import State

LENGTH = 16


class ReplayState(NamedTuple):
    """What is left of the past: a state, and the tokens that came after it. All fields are arrays, or None.

    state  (B, H, K, V)  as in the contract of `refimpl.retention`: float64 for float64 inputs, float32 for narrower ones
    k      (B, H, R, K)  of the dtype of the inputs, like v
    v      (B, H, R, V)
    kept   (B,)          integers: of each sequence only the last of the R tokens, and zeros before them; None: all R
    """

    state: Any
    k: Any
    v: Any
    kept: Any = None


@without_autocast
def retention_replay(
    q: ArrayT, k: ArrayT, v: ArrayT, gamma: Array, state: Any = None, *, length: int = LENGTH
) -> tuple[ArrayT, ReplayState]:
    """T tokens after a state and up to L kept ones (Eq. 7 for the chunk that both make): any T, best a few.

    Before tokens for which there is no room, those that are kept are written into the state. So the last min(T, L) tokens
    of a call are always kept, and `drop_last` takes them back. More than L tokens are read L at a time.

    state: the `ReplayState` that a call returned; or a state (B, H, K, V) of any form, None meaning zero.
    length: L, the most tokens that are kept, at least 1; it may change from call to call.

    The state returned shares arrays with the given one; neither is changed.
    Shapes, dtypes and errors: the contract in `refimpl.retention`.

    >>> import numpy as np
    >>> one = np.ones((1, 1, 3, 1))
    >>> out, state = retention_replay(one, one, one, np.asarray([0.5]))
    >>> out.ravel(), state.state.ravel(), state.k.shape[2]
    (array([1.  , 1.5 , 1.75]), array([0.]), 3)
    >>> plain_state(drop_last(state, 1), np.asarray([0.5])).ravel()
    array([1.5])
    """
    length = check_integer("length", length, minimum=1)
    if isinstance(state, ReplayState):
        _check_replay(state)
        xp = check_retention(q, k, v, gamma, state.state)
        if state.k.dtype != q.dtype:
            raise TypeError(f"state.k must have dtype {q.dtype} like q, got {state.k.dtype}")
    else:
        xp = check_retention(q, k, v, gamma, state)
        if state is None:
            shape = (*q.shape[:2], q.shape[3], v.shape[3])
            state = xp.zeros(shape, dtype=accumulation_dtype(xp, q.dtype), device=device(q))
        state = ReplayState(state, k[:, :, :0, :], v[:, :, :0, :])
    gamma, time, outs = xp.astype(gamma, xp.float64), q.shape[2], [v[:, :, :0, :]]
    for end in range(time - (time - 1) // length * length, time + 1, length):
        tokens = (slice(None), slice(None), slice(max(end - length, 0), end), slice(None))
        out, state = _read(q[tokens], k[tokens], v[tokens], gamma, state, length)
        outs.append(out)
    return xp.concat(outs, axis=2), state


@without_autocast
def plain_state(state: ReplayState, gamma: Array) -> Any:
    """The state after the last token, (B, H, K, V), a new array, from which any form goes on.

    gamma (H,): as in the contract of `refimpl.retention`. TypeError or ValueError if an argument is not as above.
    """
    xp = _check_replay(state)
    check_arrays(state=state.state, gamma=gamma)
    check_gamma(gamma)
    check_shape("gamma", gamma, (state.state.shape[1],), "one decay for each head of state")
    after = _written(state, xp.astype(gamma, xp.float64)).state
    return 1.0 * after if after is state.state else after


def drop_last(state: ReplayState, count: int | Array) -> ReplayState:
    """The state as it was before the last tokens were read; only kept tokens can be taken back.

    count: how many, from 0 to R; or integers (B,), one for each sequence.

    TypeError, ValueError: an argument is not as above.
    """
    xp, (batch, _, slots, _) = _check_replay(state), state.k.shape
    if is_array_api_obj(count):
        check_integers("count", count, state.k, (batch,), "one for each sequence", "an integer or an array of integers")
    else:
        count = check_integer("count", count, minimum=0)
    most = slots if state.kept is None else state.kept
    left = most - count
    if isinstance(left, int) and left < 0:
        raise ValueError(f"count must be at most {slots}, the number of tokens that are kept, got {count}")
    if not isinstance(left, int):
        wanted = "count must lie between 0 and the number of tokens that are kept of each sequence"
        check_values(left, lambda left: (left >= 0) & (left <= most), wanted, lambda: f"{count} of {most}")
    if isinstance(count, int):
        last = (slice(None), slice(None), slice(0, slots - count), slice(None))
        return ReplayState(state.state, state.k[last], state.v[last], None if state.kept is None else left)
    # Rows move to the right, so that all end together and the lags between tokens are the same in all.
    source = xp.arange(slots, device=device(state.k)) - count[:, None]
    real, source = (source >= 0)[:, None, :, None], xp.clip(source, 0, None)[:, None, :, None]

    def moved(x: Any) -> Any:
        rows = xp.broadcast_to(source, x.shape)
        return xp.where(real, xp.take_along_axis(x, rows, axis=2), xp.zeros((), dtype=x.dtype, device=device(x)))

    return ReplayState(state.state, moved(state.k), moved(state.v), left)


def drop_tokens(state: State, count: int | Array) -> State:
    """A model's `State` as it was before its last tokens: `drop_last` in each layer, for a model run by `retention_replay`.

    count: an integer, or integers (B,). TypeError or ValueError for another, or for a layer that keeps no tokens.

    >>> import numpy as np
    >>> from refimpl import RetNetConfig, forward, init_params
    >>> config = RetNetConfig(vocab_size=5, dim=8, num_layers=1, num_heads=2)
    >>> _, state = forward(init_params(config), np.array([[1, 2, 3]]), config, retention=retention_replay)
    >>> drop_tokens(state, 2).position
    1
    """
    return State(state.position - count, tuple(drop_last(layer, count) for layer in state.layers))


class Traffic(NamedTuple):
    """Bytes that a call moves, on average: what it reads and what it writes."""

    read: float
    written: float


def replay_traffic(
    key_dim: int,
    value_dim: int,
    length: int | None = None,
    *,
    tokens: int = 1,
    itemsize: int = 4,
    state_itemsize: int = 4,
) -> Traffic:
    """The bytes of a call of some tokens for one head of one sequence, if each number moves once; on average over calls.

    With r tokens kept before it, a call reads q, k, v, the state and r keys and values; it writes out and its own keys
    and values. Every L // tokens calls the state is written too.

    Args:
        key_dim, value_dim: K and V.
        length: L of `retention_replay`; None for a form that writes its state at each call, such as `retention_step`.
        tokens: of a call, from 1 to length.
        itemsize, state_itemsize: bytes of a number of q, k, v and out, and of the state.

    Returns:
        `Traffic`, in bytes.

    Raises:
        TypeError, ValueError: an argument is not as above.

    >>> replay_traffic(256, 512)
    Traffic(read=528384.0, written=526336.0)
    >>> replay_traffic(256, 512, 16)
    Traffic(read=554496.0, written=37888.0)
    """
    sizes = {"key_dim": key_dim, "value_dim": value_dim, "tokens": tokens, "itemsize": itemsize}
    for name, value in sizes.items() | {("state_itemsize", state_itemsize)}:
        check_integer(name, value, minimum=1)
    whole, token = state_itemsize * key_dim * value_dim, itemsize * (key_dim + value_dim)
    read, written = whole + tokens * (token + itemsize * key_dim), tokens * itemsize * value_dim
    if length is None:
        return Traffic(float(read), float(written + whole))
    if check_integer("length", length, minimum=1) < tokens:
        raise ValueError(f"length must be at least tokens = {tokens}, got {length}")
    calls = length // tokens  # from one writing of the state to the next, with 1, 2, ... calls' tokens kept before them
    return Traffic(read + token * tokens * (calls + 1) / 2, written + token * tokens + whole / calls)


# ---------------------------------------------------------------- for arguments that have been checked; gamma in float64


def _read(q: Any, k: Any, v: Any, gamma: Any, state: ReplayState, length: int) -> tuple[Any, ReplayState]:
    """The outputs of at most L tokens, and the state that keeps them."""
    xp, time = array_namespace(q), q.shape[2]
    if state.k.shape[2] + time > length:
        state = _written(state, gamma)
    slots, dtype = state.k.shape[2], state.state.dtype
    state = ReplayState(
        state.state, xp.concat([state.k, k], axis=2), xp.concat([state.v, v], axis=2),
        None if state.kept is None else state.kept + time,
    )  # fmt: skip
    mask = decay_mask_of(gamma, slots + time, slice(slots, None), dtype=dtype)
    after = (
        slots if state.kept is None else (state.kept - time)[:, None, None]
    )  # tokens between the state and the first
    lag = xp.astype(after + xp.arange(1, time + 1, device=device(gamma)), xp.float64)
    xi = xp.astype(gamma[:, None] ** lag, dtype)[..., None]
    q, keys, values = (xp.astype(x, dtype, copy=False) for x in (q, state.k, state.v))
    out = ((q @ keys.mT) * mask) @ values + (q @ state.state) * xi
    return xp.astype(out, v.dtype, copy=False), state


def _written(state: ReplayState, gamma: Any) -> ReplayState:
    """All kept tokens written into the state: the end of a chunk."""
    xp, slots, dtype = array_namespace(state.state), state.k.shape[2], state.state.dtype
    if slots == 0:
        return state
    _, zeta, whole = chunk_decays_of(gamma, slots)
    if state.kept is not None:
        whole = gamma ** xp.astype(state.kept, xp.float64)[:, None]
    keys, values = (xp.astype(x, dtype, copy=False) for x in (state.k, state.v))
    new = keys.mT @ (values * xp.astype(zeta, dtype)[:, :, None])
    after = carry(in_two_parts(whole, dtype), state.state, new)
    return ReplayState(after, state.k[:, :, :0, :], state.v[:, :, :0, :])


def _check_replay(state: Any) -> Any:
    """Check a `ReplayState` by itself and return its namespace."""
    if not isinstance(state, ReplayState):
        raise TypeError(f"state must be a ReplayState that retention_replay returned, got {type(state).__name__}")
    xp = check_arrays(**{"state.k": state.k, "state.v": state.v, "state.state": state.state})
    if state.state.ndim != 4:
        raise ValueError(
            f"state.state must have 4 axes (batch, heads, key_dim, value_dim), got shape {tuple(state.state.shape)}"
        )
    batch, heads, key_dim, value_dim = state.state.shape
    kept = (batch, heads, *state.k.shape[2:3])
    check_shape("state.k", state.k, (*kept, key_dim), "batch, heads, kept tokens, key_dim")
    check_shape("state.v", state.v, (*kept, value_dim), "that of state.k, but for value_dim")
    if state.v.dtype != state.k.dtype:
        raise TypeError(f"state.v must have dtype {state.k.dtype} like state.k, got {state.v.dtype}")
    check_state("state.state", state.state, state.state.shape, state.k.dtype)
    if state.kept is not None:
        check_integers("state.kept", state.kept, state.k, (batch,), "one for each sequence")
    return xp
