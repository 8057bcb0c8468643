"""Exercise 6: the chunkwise form of one head, its state without zeta, and pieces read apart (Eq. 7, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import one_head, small_numbers
from .recurring import asks_whether_true, float32_arrays, keeps_arguments, mapped, swaps, writes_in_place

RETURNS = ("out", "state")


# Solutions.


def retention_chunk(q, k, v, gamma, state):
    """Eq. 7 for one chunk of c tokens: q, k (c, K), v (c, V), state (K, V) -> (out (c, V), state (K, V))."""
    c = len(q)
    j = np.arange(1, c + 1)[:, None]
    lag = j - j.T
    mask = np.where(lag >= 0, gamma ** np.maximum(lag, 0), 0.0)
    xi, zeta = gamma**j, gamma ** (c - j)
    out = ((q @ k.T) * mask) @ v + xi * (q @ state)
    return out, k.T @ (zeta * v) + gamma**c * state


def retention_chunks(q, k, v, gamma, state, chunk_size):
    """`retention_chunk` over q, k (T, K), v (T, V), state (K, V) or None -> (out (T, V), state (K, V))."""
    if state is None:
        state = np.zeros((q.shape[1], v.shape[1]), dtype=v.dtype)
    out = np.zeros(v.shape, dtype=v.dtype)
    for start in range(0, len(q), chunk_size):
        chunk = slice(start, start + chunk_size)
        out[chunk], state = retention_chunk(q[chunk], k[chunk], v[chunk], gamma, state)
    return out, state


def state_weights(gamma, time, chunk_size):
    """Weights of tokens 0 ... T-1 in the state after T tokens -> (with_zeta (T,), without_zeta (T,))."""
    token = np.arange(time)
    end = np.minimum((token // chunk_size + 1) * chunk_size, time)  # of the token's chunk
    return gamma ** (time - 1 - token), gamma ** (time - end)


def join_pieces(states, lengths, gamma, state):
    """The states (N, K, V) that pieces of lengths (N,) leave from zero, state (K, V) -> (before (N, K, V), after (K, V))."""
    before = np.zeros(states.shape)
    for i, length in enumerate(lengths):
        before[i] = state
        state = gamma**length * state + states[i]
    return before, state


# Wrong answers, each one change away from the solution.


def _chunk_with(
    *,
    mask=lambda gamma, lag: np.where(lag >= 0, gamma ** abs(lag), 0.0),
    xi=lambda gamma, j: gamma**j,
    zeta=lambda gamma, j, c: gamma ** (c - j),
    whole=lambda gamma, c: gamma**c,
    reads=lambda before, after: before,
):
    """The chunk with another table of decays, or another state to read."""

    def chunk(q, k, v, gamma, state):
        c = len(q)
        j = np.arange(1, c + 1)[:, None]
        after = k.T @ (zeta(gamma, j, c) * v) + whole(gamma, c) * state
        return ((q @ k.T) * mask(gamma, j - j.T)) @ v + xi(gamma, j) * (q @ reads(state, after)), after

    return chunk


def _writes_values_times_keys(q, k, v, gamma, state):
    out, after = retention_chunk(q, k, v, gamma, state)
    faded = gamma ** len(q) * state
    return out, (after - faded).T + faded


def _loop_with(chunk_of=lambda start, chunk_size: retention_chunk, *, hand_on=True):
    """The loop around another chunk, or around one that always starts from the first state.

    chunk_of: a function of start and chunk_size that returns the chunk to use.
    """

    def loop(q, k, v, gamma, state, chunk_size):
        state = first = np.zeros((q.shape[1], v.shape[1])) if state is None else state
        out = np.zeros(v.shape)
        for start in range(0, len(q), chunk_size):
            one, chunk = slice(start, start + chunk_size), chunk_of(start, chunk_size)
            out[one], state = chunk(q[one], k[one], v[one], gamma, state if hand_on else first)
        return out, state

    return loop


def _drops_the_tail(q, k, v, gamma, state, chunk_size):
    full, out = len(q) // chunk_size * chunk_size, np.zeros(v.shape)
    out[:full], state = retention_chunks(q[:full], k[:full], v[:full], gamma, state, chunk_size)
    return out, state


def _from_zeros(q, k, v, gamma, state, chunk_size):
    zeros = np.zeros((q.shape[1], v.shape[1]))
    out, after = _loop_with(hand_on=False)(q, k, v, gamma, zeros, chunk_size)
    return out, after if len(q) or state is None else state


def _range_to_the_last_token(q, k, v, gamma, state, chunk_size):
    missing = len(q) % chunk_size == 1 % chunk_size  # the last chunk is a single token
    read = len(q) - 1 if missing and len(q) else len(q)
    out = np.zeros(v.shape)
    out[:read], after = retention_chunks(q[:read], k[:read], v[:read], gamma, state, chunk_size)
    return out, after


def _loses_the_new_state(q, k, v, gamma, state, chunk_size):
    start = np.zeros((q.shape[1], v.shape[1])) if state is None else state
    return _loop_with(hand_on=False)(q, k, v, gamma, state, chunk_size)[0], start


def _returns_too_early(q, k, v, gamma, state, chunk_size):
    start = max(len(q) - 1, 0) // chunk_size * chunk_size  # of the last chunk
    before = retention_chunks(q[:start], k[:start], v[:start], gamma, state, chunk_size)[1]
    return retention_chunks(q, k, v, gamma, state, chunk_size)[0], before


def _joins_with(*, lengths=lambda lengths: lengths, add=lambda faded, own, length, gamma: faded + own, shift=0):
    """The pieces joined with other lengths, another sum, or the states of `shift` pieces later."""

    def join(states, of_pieces, gamma, state):
        seen = [state]
        for own, length in zip(states, lengths(of_pieces), strict=True):
            seen.append(add(gamma**length * seen[-1], own, length, gamma))
        return np.array(seen[shift : len(states) + shift]).reshape(states.shape), np.array(seen[-1])

    return join


def _joins_backwards(states, lengths, gamma, state):
    before, after = join_pieces(states[::-1], lengths[::-1], gamma, state)
    return before[::-1].copy(), after


def _keeps_one_array(states, lengths, gamma, state):
    state[...] = join_pieces(states, lengths, gamma, state)[1]
    return np.array([state for _ in states]), state


def _fills_with_values_times_keys(q, k, v, gamma, state):
    out, after = retention_chunk(q, k, v, gamma, state)
    new = np.zeros(state.shape)
    new[...] = (after - gamma ** len(q) * state).T
    return out, new + gamma ** len(q) * state


def _values_wide(q, k, v, gamma, state, chunk_size):
    start = np.zeros((v.shape[1], q.shape[1])) if state is None else state
    return retention_chunks(q, k, v, gamma, start, chunk_size)


def _out_like_queries(q, k, v, gamma, state, chunk_size):
    out, (right, after) = np.zeros(q.shape), retention_chunks(q, k, v, gamma, state, chunk_size)
    for start in range(0, len(q), chunk_size):
        chunk = slice(start, start + chunk_size)
        out[chunk] = right[chunk]  # NumPy refuses, unless K = V or V = 1
    return out, after


def _chunks_as_a_list(together):
    """The loop with `out` made of a list of chunks by `together`."""

    def loop(q, k, v, gamma, state, chunk_size):
        out, after = retention_chunks(q, k, v, gamma, state, chunk_size)
        return together([out[start : start + chunk_size] for start in range(0, len(q), chunk_size)]), after

    return loop


def _pieces_as_a_list(together):
    """The pieces joined with `before` made of a list of states by `together`."""

    def join(states, lengths, gamma, state):
        before, after = join_pieces(states, lengths, gamma, state)
        return together(list(before)), after

    return join


def _takes_piece(at, of=lambda lengths: lengths):
    """The pieces joined by code that takes number `at` of an array or a list, which fails where there is no piece."""

    def join(states, lengths, gamma, state):
        of(lengths)[at]
        return join_pieces(states, lengths, gamma, state)

    return join


def _fades_the_new(states, lengths, gamma, state):
    faded = states * gamma ** lengths[:, None, None]
    return join_pieces(faded, 0 * lengths, gamma, state)


def _weights_with(*, with_zeta=None, without_zeta=None):
    """The weights with another power of gamma: functions of token, time and chunk_size."""

    def weights(gamma, time, chunk_size):
        right = state_weights(gamma, time, chunk_size)
        changed = (with_zeta, without_zeta)
        token = np.arange(time)
        return tuple(
            gamma ** (change(token, time, chunk_size)) if change else answer
            for change, answer in zip(changed, right, strict=True)
        )

    return weights


def _end(token, time, chunk_size):
    """The end of each token's chunk: the number of tokens up to it."""
    return np.minimum((token // chunk_size + 1) * chunk_size, time)


def _later_chunks(token, time, chunk_size):
    return (time - 1) // chunk_size - token // chunk_size


CHUNK_MISTAKES = {
    "no xi": (
        _chunk_with(xi=lambda gamma, j: 1.0),
        "you forgot xi: token j sees the state before the chunk faded by gamma^j, because it is j tokens away",
    ),
    "gamma^c on every row for xi": (
        _chunk_with(xi=lambda gamma, j: gamma ** len(j)),
        "you faded the state by gamma^c for every token: that is its fading over the whole chunk, token j sees gamma^j of it",
    ),
    "gamma on every row for xi": (
        _chunk_with(xi=lambda gamma, j: gamma),
        "you faded the state by gamma for every token: that is right for the first token alone, token j sees gamma^j of it",
    ),
    "zeta for xi": (
        _chunk_with(xi=lambda gamma, j: gamma ** (len(j) - j)),
        "you used zeta where xi belongs: gamma^(c-j) fades what token j writes, xi_j = gamma^j what it reads of the state",
    ),
    "xi and zeta swapped": (
        _chunk_with(xi=lambda gamma, j: gamma ** (len(j) - j), zeta=lambda gamma, j, c: gamma**j),
        "you swapped xi and zeta: xi_j = gamma^j fades what token j reads of the state, zeta_j = gamma^(c-j) what it writes",
    ),
    "xi for zeta": (
        _chunk_with(zeta=lambda gamma, j, c: gamma**j),
        "you used xi where zeta belongs: gamma^j is what is left of the old state, zeta_j = gamma^(c-j) of token j",
    ),
    "gamma^c for zeta": (
        _chunk_with(zeta=lambda gamma, j, c: gamma**c),
        "you faded every write by gamma^c: that is for the old state, token j has faded by zeta_j = gamma^(c-j) at the end",
    ),
    "masks after the power": (
        _chunk_with(mask=lambda gamma, lag: np.tril(gamma ** lag.astype(float))),
        "your power overflows above the diagonal: set j - m to 0 where it is negative, then take the power, then mask",
    ),
    "a mask of minus infinity": (
        _chunk_with(mask=lambda gamma, lag: np.where(lag >= 0, gamma ** abs(lag), -np.inf)),
        "you filled the future with -inf, as before a softmax: the scores are multiplied by D, so the future gets 0",
    ),
    "no mask": (
        _chunk_with(mask=lambda gamma, lag: 1.0),
        "you left out D: multiply q k^T by the decay mask, gamma^(j-m) for j >= m and 0 for j < m",
    ),
    "counts from 0": (
        _chunk_with(xi=lambda gamma, j: gamma ** (j - 1), zeta=lambda gamma, j, c: gamma ** (c - j + 1)),
        "xi and zeta are off by one: j counts from 1, so xi starts with gamma and zeta ends with 1",
    ),
    "decays along the channels": (
        _chunk_with(xi=lambda gamma, j: gamma ** j[:, 0], zeta=lambda gamma, j, c: gamma ** (c - j[:, 0])),
        "your decays run along the channels: xi and zeta have an entry per token, give them shape (c, 1)",
    ),
    "no zeta": (
        _chunk_with(zeta=lambda gamma, j, c: 1.0),
        "you left out zeta, as the paper's pseudocode does: token j fades by gamma^(c-j) before the chunk ends",
    ),
    "zeta one too far": (
        _chunk_with(zeta=lambda gamma, j, c: gamma ** (c - j + 1)),
        "your zeta is off by one: zeta_j = gamma^(c-j) ends with 1, since the last token has not faded yet",
    ),
    "zeta one too near": (
        _chunk_with(zeta=lambda gamma, j, c: gamma ** (c - j - 1.0)),
        "your zeta is one step too near: zeta_j = gamma^(c-j) with j from 1 to c, so it ends with 1, never above",
    ),
    "xi one too far": (
        _chunk_with(xi=lambda gamma, j: gamma ** (j + 1)),
        "your xi is one step too far: the first token of the chunk sees the state faded once, xi_1 = gamma",
    ),
    "the mask transposed": (
        _chunk_with(mask=lambda gamma, lag: np.triu(gamma ** abs(lag))),
        "your mask is transposed: rows are queries j, columns keys m, and with j a column the lag j - m is j - j.T",
    ),
    "zeta twice": (
        _chunk_with(zeta=lambda gamma, j, c: gamma ** (2 * (c - j))),
        "you faded keys and values by zeta, so each write by its square: multiply only one of them",
    ),
    "a mask one step too old": (
        _chunk_with(mask=lambda gamma, lag: np.where(lag >= 0, gamma ** (abs(lag) + 1), 0.0)),
        "your mask is one step too old: a token sees itself with the weight gamma^0 = 1",
    ),
    "zeta in reverse": (
        _chunk_with(zeta=lambda gamma, j, c: gamma ** (j - 1)),
        "your zeta runs backwards: the first token of the chunk fades most, zeta_1 = gamma^(c-1)",
    ),
    "xi one too near": (
        _chunk_with(xi=lambda gamma, j: gamma ** (j - 1)),
        "your xi is off by one: xi_1 = gamma, because the state before the chunk fades once before its first token",
    ),
    "gamma for gamma^c": (
        _chunk_with(whole=lambda gamma, c: gamma),
        "you faded the old state by gamma: c tokens pass in a chunk, so it fades by gamma^c",
    ),
    "gamma^(c-1) for gamma^c": (
        _chunk_with(whole=lambda gamma, c: gamma ** (c - 1)),
        "you faded the old state one step too little, by gamma^(c-1): c tokens pass in a chunk, so it fades by gamma^c",
    ),
    "the old state does not fade": (
        _chunk_with(whole=lambda gamma, c: 1.0),
        "you carry the old state over unfaded: c tokens pass in a chunk, so it fades by gamma^c",
    ),
    "reads the new state": (
        _chunk_with(reads=lambda before, after: after),
        "you read the state after the chunk: a query reads the state before it, the chunk's own tokens come through the mask",
    ),
    "never reads the state": (
        _chunk_with(reads=lambda before, after: 0.0 * before),
        "out lacks what came before the chunk: add Q S, row j times xi_j, with the state passed in",
    ),
    "strict mask": (
        _chunk_with(mask=lambda gamma, lag: np.where(lag > 0, gamma ** abs(lag), 0.0)),
        "your mask leaves out the diagonal: a token sees itself, with weight gamma^0 = 1",
    ),
    "a mask that does not fade": (
        _chunk_with(mask=lambda gamma, lag: np.where(lag >= 0, 1.0, 0.0)),
        "your mask is causal but does not fade: D_jm = gamma^(j-m) for j >= m",
    ),
    "a mask that sees the future": (
        _chunk_with(mask=lambda gamma, lag: gamma ** abs(lag)),
        "your mask lets a token see later ones: D_jm = 0 for j < m",
    ),
    "writes values times keys": (
        _writes_values_times_keys,
        "your writes are transposed, (V, K): the state is (K, V), so the keys come first, K^T V",
    ),
    "copies values times keys into the state": (
        _fills_with_values_times_keys,
        "you fill a state of (K, V) with V^T K, which is (V, K): the keys come first, K^T V",
    ),
    **writes_in_place(retention_chunk),
}


# Checks.


def _counting(time, state, **more):
    """Values 1, 2, 3 ... with keys and queries of 1: the state can be worked out in the head."""
    ones = np.ones((time, 1))
    return {"q": ones, "k": ones, "v": np.cumsum(ones, axis=0), "gamma": 0.5, "state": state} | more


def _empty(time):
    """Tokens that neither write nor read, in a fast head: only inf and NaN show."""
    return {name: np.zeros((time, 1)) for name in "qkv"} | {"gamma": 1e-3, "state": np.zeros((1, 1))}


def _pieces(*lengths, gamma, states=None, state=None):
    """What pieces of these lengths left, drawn at random unless given, with K = 2 and V = 3."""
    drawn = small_numbers(np.random.default_rng([9, *lengths]), len(lengths) + 1, 2, 3)
    states, state = (drawn[1:], drawn[0]) if states is None else (states, state)
    return {"states": states, "lengths": np.array(lengths, dtype=float), "gamma": gamma, "state": state}


CHUNK = problem(
    retention_chunk,
    RETURNS,
    visible={
        "values 1 and 2 at gamma = 1/2, after a state of 4": (
            _counting(2, np.array([[4.0]])),
            "by hand: S_1 = 4/2 + 1 = 3 and S_2 = 3/2 + 2 = 7/2; out is 3 and 7/2, state 7/2",
        ),
        "three tokens after a state (K = V = 2)": (
            one_head(2, 2, 3),
            "Q S adds gamma^j of itself to row j of out; k_j^T v_j adds gamma^(c-j) of itself to the state",
        ),
        "four tokens after a state (K = 2, V = 3)": (
            one_head(2, 3, 4, gamma=0.75),
            "out needs D and xi, state needs zeta and gamma^c; all four are powers of gamma",
        ),
        "110 empty tokens at gamma = 1e-3": (
            _empty(110),
            "all is 0 here, but 1e-3 ** -109 overflows: set j - m to 0 where j < m, then take the power",
        ),
        "a chunk of one token at gamma = 1": (
            one_head(2, 2, 1, gamma=1.0),
            "at gamma = 1 nothing fades: the new state is the old one plus k^T v, and out is q times the new one",
        ),
        **keeps_arguments(one_head(3, 3, 3, gamma=0.75)),
    },
    hidden={
        "a longer chunk": (one_head(2, 3, 12, gamma=0.9), "try c = 12 at gamma = 0.9"),
        "keys wider than values": (one_head(5, 2, 4, gamma=0.9), "try K = 5, V = 2, and look at the shapes"),
        **float32_arrays(one_head(4, 3, 16, gamma=0.9, dtype=np.float32)),
    },
    wrong_answers={**CHUNK_MISTAKES, **swaps(retention_chunk, "out", "state")},
)

CHUNKS = problem(
    retention_chunks,
    RETURNS,
    visible={
        "values 1 to 6 in chunks of three at gamma = 1/2, from None": (
            _counting(6, None, chunk_size=3),
            "by hand, token by token: out is 1, 5/2, 17/4, 49/8, 129/16, 321/32, and the state is 321/32",
        ),
        "five tokens in chunks of two, after a state": (
            one_head(2, 3, 5, gamma=0.75, chunk_size=2),  # not 1/2, where one step too little is twice the state
            "the last chunk holds one token: it fades by its own length, c = 1",
        ),
        "a chunk longer than the sequence, after a state": (
            one_head(2, 2, 3, chunk_size=8),
            "with chunk_size = 8 and T = 3 there is one chunk, of c = 3 tokens",
        ),
        "112 empty tokens in chunks of 110 at gamma = 1e-3": (
            _empty(112) | {"chunk_size": 110},
            "all is 0 here, but 1e-3 ** -109 overflows: no exponent may be negative",
        ),
        "no token at all, from None (T = 0)": (
            one_head(2, 3, 0, state=False, chunk_size=4),
            "out has shape (0, V), the state is zeros of shape (K, V): make both before the loop",
        ),
        **keeps_arguments(one_head(3, 3, 6, gamma=0.75, chunk_size=4)),
    },
    hidden={
        "chunks of a single token that never fade": (
            one_head(2, 3, 5, gamma=1.0, chunk_size=1),
            "try chunk_size = 1 and gamma = 1: that is the recurrent form, and nothing may divide by 1 - gamma",
        ),
        "a single token": (
            one_head(3, 2, 1, gamma=1.0, chunk_size=3),
            "try T = 1 with a longer chunk_size, after a state",
        ),
        "chunks of four": (one_head(2, 2, 13, gamma=0.9, chunk_size=4), "try T = 13, chunk_size = 4 and gamma = 0.9"),
        "no token at all, after a state": (
            one_head(3, 2, 0, chunk_size=3),
            "without a token, return the state unchanged",
        ),
        **float32_arrays(
            one_head(4, 3, 50, gamma=0.9, state=False, dtype=np.float32, chunk_size=16), "float32 arrays, from None"
        ),
    },
    wrong_answers={
        **mapped(lambda step: _loop_with(lambda *_, chunk=step: chunk), CHUNK_MISTAKES),
        "xi from the start of the sequence": (
            _loop_with(lambda start, chunk_size: _chunk_with(xi=lambda gamma, j: gamma ** (start + j))),
            "your xi counts from the start of the sequence: j starts at 1 in every chunk",
        ),
        "the tail as a full chunk": (
            _loop_with(
                lambda start, chunk_size: _chunk_with(
                    zeta=lambda gamma, j, c: gamma ** (chunk_size - j), whole=lambda gamma, c: gamma**chunk_size
                )
            ),
            "you fade the short last chunk as if it had chunk_size tokens: use its own length c in zeta and gamma^c",
        ),
        "the old state fades by chunk_size": (
            _loop_with(lambda start, chunk_size: _chunk_with(whole=lambda gamma, c: gamma**chunk_size)),
            "before the short last chunk the old state fades by gamma^c, c its own length, not gamma^chunk_size",
        ),
        "the end of xi in the tail": (
            _loop_with(lambda start, chunk_size: _chunk_with(xi=lambda gamma, j: gamma ** (chunk_size - len(j) + j))),
            "in the short last chunk you took the last numbers of xi: xi counts from the start of the chunk, so take the first",
        ),
        "adds the old state twice": (
            _loop_with(lambda *_: _chunk_with(whole=lambda gamma, c: 2 * gamma**c)),
            "you added the old state twice: your chunk returns a state that holds gamma^c of the old one already",
        ),
        "drops the tail": (
            _drops_the_tail,
            "you dropped the last tokens: a last chunk shorter than chunk_size counts too",
        ),
        "never hands the state on": (
            _loop_with(hand_on=False),
            "you start every chunk from the same state: hand the state of each chunk on to the next",
        ),
        "starts every chunk from zeros": (
            _from_zeros,
            "you start every chunk from zeros: hand the state of each chunk on to the next, and the caller's to the first",
        ),
        "a range that ends at T - 1": (
            _range_to_the_last_token,
            "your range ends at T - 1, so a chunk that begins with the last token is missing: range(0, T, chunk_size)",
        ),
        "loses the new state": (
            _loses_the_new_state,
            "you drop the state that a chunk returns: give it the name `state`, so that the next chunk and the caller get it",
        ),
        **asks_whether_true(retention_chunks),
        "zeros of shape (V, K) for None": (
            _values_wide,
            "for None you made zeros of shape (V, K): the state is (K, V), as wide as q and then as wide as v",
        ),
        "out like q": (
            _out_like_queries,
            "you made out like q, (T, K): its rows are as wide as those of v, (T, V)",
        ),
        "joins a list of chunks": (
            _chunks_as_a_list(np.concatenate),
            "with no token there is no chunk, and NumPy joins no empty list: make out, (T, V), before the loop",
        ),
        "an empty list of chunks": (
            _chunks_as_a_list(lambda chunks: np.concatenate(chunks) if chunks else np.array([])),
            "with no token your list of chunks is empty, and np.array([]) has shape (0,): make out, (T, V), before the loop",
        ),
        "ignores the state": (
            lambda q, k, v, gamma, state, size: retention_chunks(q, k, v, gamma, None, size),
            "you ignored the state passed in: only None means zero",
        ),
        "returns the state too early": (
            _returns_too_early,
            "you returned the state of one chunk too early: return the state after the last chunk",
        ),
        **swaps(retention_chunks, "out", "state"),
    },
)

WEIGHTS = problem(
    state_weights,
    ("with_zeta", "without_zeta"),
    visible={
        "six tokens in chunks of three at gamma = 1/2": (
            {"gamma": 0.5, "time": 6, "chunk_size": 3},
            "by hand: with zeta 1/32, 1/16 ... 1; without it a chunk fades as a whole: 1/8, 1/8, 1/8, 1, 1, 1",
        ),
        "five tokens in chunks of two at gamma = 1/2": (
            {"gamma": 0.5, "time": 5, "chunk_size": 2},
            "the last chunk holds one token, so the chunk before it fades by gamma once",
        ),
        "eight tokens in chunks of three at gamma = 0.9": (
            {"gamma": 0.9, "time": 8, "chunk_size": 3},
            "without zeta a token fades only by the tokens of the chunks after its own",
        ),
        "no token at all (T = 0)": (
            {"gamma": 0.5, "time": 0, "chunk_size": 4},
            "with T = 0 both arrays have shape (0,) and dtype float64",
        ),
    },
    hidden={
        "many chunks": (
            {"gamma": 0.75, "time": 11, "chunk_size": 2},
            "try T = 11 and chunk_size = 2: each chunk fades by the tokens of all chunks after it",
        ),
        "one chunk, longer than the sequence": (
            {"gamma": 0.5, "time": 3, "chunk_size": 8},
            "try T = 3 and chunk_size = 8: no chunk follows, so without zeta nothing fades",
        ),
        "a memory that never fades": (
            {"gamma": 1.0, "time": 6, "chunk_size": 4},
            "gamma = 1 is allowed: every token counts in full",
        ),
        "a long sequence that fades fast": (
            {"gamma": 1e-3, "time": 1000, "chunk_size": 64},
            "try T = 1000 and gamma = 1e-3: no power of gamma may have a negative exponent",
        ),
    },
    wrong_answers={
        "all one step older": (
            _weights_with(with_zeta=lambda token, time, chunk_size: time - token),
            "with_zeta is off by one: the last token has just been written, with weight gamma^0 = 1",
        ),
        "oldest first": (
            _weights_with(with_zeta=lambda token, time, chunk_size: token),
            "with_zeta runs backwards: the first token is the oldest and has faded most",
        ),
        "chunks do not fade": (
            _weights_with(without_zeta=lambda token, time, chunk_size: 0 * token),
            "gamma^c S_t is still there without zeta: each later chunk fades all that came before it",
        ),
        "gamma for gamma^c": (
            _weights_with(without_zeta=_later_chunks),
            "you fade by gamma per later chunk: a later chunk of c tokens fades what came before it by gamma^c",
        ),
        "one token too few": (
            _weights_with(without_zeta=lambda token, time, size: np.maximum(time - 1 - _end(token, time, size), 0)),
            "without_zeta is one step too near: all T - end tokens after the end of the chunk fade it, the last one too",
        ),
        "one token too many": (
            _weights_with(without_zeta=lambda token, time, size: time + 1 - _end(token, time, size)),
            "without_zeta is one step too far: a chunk's last token has just been written when the chunk ends",
        ),
        "chunks counted from the end": (
            _weights_with(without_zeta=lambda token, time, size: (time - 1 - token) // size * size),
            "you counted chunks back from the last token: they are counted from the first, so only the last one is short",
        ),
        "the first token in the chunk before": (
            _weights_with(without_zeta=lambda token, time, size: time - np.minimum(-(-token // size) * size, time)),
            "the first token of each chunk falls into the chunk before: counted from 0, token t's chunk ends at (t // C + 1) C",
        ),
        "the end beyond T": (
            _weights_with(without_zeta=lambda token, time, size: time - (token // size + 1) * size),
            "the end of your last chunk lies beyond T, which gives a negative exponent: a chunk ends at T at the latest",
        ),
        "zeta of its own chunk alone": (
            _weights_with(with_zeta=lambda token, time, size: _end(token, time, size) - 1 - token),
            "with_zeta stops at the end of the token's own chunk: later chunks fade it too, by gamma^c each",
        ),
        "the tail as a full chunk": (
            _weights_with(without_zeta=lambda token, time, size: size * _later_chunks(token, time, size)),
            "you fade by gamma^chunk_size for the short last chunk too: it has c tokens, so it fades by gamma^c",
        ),
        "fades by its own chunk": (
            _weights_with(without_zeta=lambda token, time, size: time - token // size * size),
            "without zeta a token is not faded by its own chunk: count only the tokens of later chunks",
        ),
        **swaps(state_weights, "with_zeta", "without_zeta"),
    },
)

PIECES = problem(
    join_pieces,
    ("before", "after"),
    visible={
        "pieces of 3 and 2 tokens at gamma = 1/2": (
            _pieces(3, 2, gamma=0.5, states=np.array([[[3.0]], [[5.0]]]), state=np.array([[8.0]])),
            "by hand: before is 8, then 8/8 + 3 = 4; after is 4/4 + 5 = 6",
        ),
        "pieces of 3, 1 and 2 tokens": (
            _pieces(3, 1, 2, gamma=0.9),
            "what a piece starts from fades once for each token of that piece, and then its own state is added",
        ),
        "a piece without a token": (_pieces(2, 0, 3, gamma=0.75), "a piece of 0 tokens fades nothing: gamma^0 = 1"),
        "no piece at all (N = 0)": (
            _pieces(gamma=0.5),
            "with N = 0 before has shape (0, K, V), and after is the state passed in",
        ),
        **keeps_arguments(_pieces(2, 3, 1, gamma=0.5)),
    },
    hidden={
        "many pieces": (_pieces(5, 1, 2, 7, 3, gamma=0.9), "try five pieces of lengths 5, 1, 2, 7 and 3"),
        "pieces of one length": (
            _pieces(4, 4, 4, 4, gamma=0.75),
            "try equal lengths: those are the chunks of problem 2",
        ),
        "a memory that never fades": (_pieces(1, 3, 2, gamma=1.0), "gamma = 1 is allowed: the states add up"),
        "long pieces that fade fast": (
            _pieces(500, 2, 700, 1, gamma=1e-2),
            "try a piece of 500 tokens at gamma = 0.01: no power of gamma may have a negative exponent",
        ),
    },
    wrong_answers={
        "keeps one array": (
            _keeps_one_array,
            "you changed one array in place, so before holds the last state N times: make a new state for each piece",
        ),
        "one piece too late": (
            _joins_with(shift=1),
            "before is one piece too late: piece i starts from what the pieces before it left, not from its own",
        ),
        "the states as they came": (
            lambda states, lengths, gamma, state: (states + 0.0, join_pieces(states, lengths, gamma, state)[1]),
            "before holds what each piece left itself: a piece starts from what all pieces before it left, faded",
        ),
        "the length of the next piece": (
            _joins_with(lengths=lambda lengths: np.append(lengths[1:], lengths[-1:])),
            "you faded by the length of the wrong piece: a piece fades what it starts from by its own length",
        ),
        "the length of the piece before": (
            _joins_with(lengths=lambda lengths: np.append(0.0, lengths)[: len(lengths)]),
            "you faded by the length of the piece before: a piece fades what it starts from by its own length",
        ),
        "the last length for the first piece": (
            _joins_with(lengths=lambda lengths: np.roll(lengths, 1)),
            "you took lengths[i - 1], which is the last one for the first piece: what piece i starts from fades by lengths[i]",
        ),
        "the last length only for later pieces": (
            _joins_with(lengths=lambda lengths: np.append(lengths[:1], lengths)[: len(lengths)]),
            "you took lengths[i - 1] from the second piece on: what piece i starts from fades by lengths[i] to become the next",
        ),
        "a list where there is no piece": (
            _pieces_as_a_list(np.array),
            "with no piece your list is empty, and np.array([]) has shape (0,): make before, (N, K, V), ahead of the loop",
        ),
        "stacks a list": (
            _pieces_as_a_list(np.stack),
            "with no piece your list is empty, which np.stack refuses: make before, (N, K, V), ahead of the loop",
        ),
        "the last of no pieces": (
            _takes_piece(-1),
            "with no piece there is none at index -1: N may be 0, and after is then the state passed in",
        ),
        "the first of no pieces": (
            _takes_piece(0),
            "with no piece there is none at index 0: N may be 0, and before is then empty, (0, K, V)",
        ),
        "the last of an empty list": (
            _takes_piece(-1, of=list),
            "with no piece your list is empty and has no last entry: N may be 0, and after is then the state passed in",
        ),
        "the length of all pieces so far": (
            _joins_with(lengths=np.cumsum),
            "you faded by the lengths of all pieces so far: what piece i starts from fades by lengths[i] alone",
        ),
        "one token too few in a piece": (
            _joins_with(lengths=lambda lengths: lengths - 1.0),
            "you faded one step too little: a piece of c tokens fades what it starts from by gamma^c, not gamma^(c-1)",
        ),
        "the last piece first": (
            _joins_backwards,
            "your loop begins with the last piece: the text begins with the first, which starts from the state passed in",
        ),
        "gamma for gamma^length": (
            _joins_with(lengths=lambda lengths: np.ones(len(lengths))),
            "you fade by gamma a piece: a piece of c tokens fades what it starts from by gamma^c",
        ),
        "nothing fades": (
            _joins_with(lengths=lambda lengths: 0 * lengths),
            "you added the states as they are: a piece of c tokens fades what it starts from by gamma^c",
        ),
        "fades the wrong state": (
            _fades_the_new,
            "you faded what the piece left and not what came before it: the piece's own state has faded inside it already",
        ),
        "fades the piece's own state": (
            _joins_with(add=lambda faded, own, length, gamma: faded + gamma**length * own),
            "you faded the piece's own state too: it has faded inside the piece already, so add it as it is",
        ),
        "the first length for all": (
            _joins_with(lengths=lambda lengths: lengths[:1].repeat(len(lengths))),
            "you used the first length for all pieces: each piece has a length of its own",
        ),
        "ignores the state": (
            lambda states, lengths, gamma, state: join_pieces(states, lengths, gamma, 0.0 * state),
            "you ignored the state passed in: the first piece starts from it, and it fades through all pieces",
        ),
        "after one piece too early": (
            lambda states, lengths, gamma, state: (
                join_pieces(states, lengths, gamma, state)[0],
                join_pieces(states[:-1], lengths[:-1], gamma, state)[1],
            ),
            "after is one piece too early: it also holds what the last piece left",
        ),
        **swaps(join_pieces, "before", "after"),
    },
)

EXERCISE = Exercise("ex06", "Retention, chunk by chunk", (CHUNK, CHUNKS, WEIGHTS, PIECES))
