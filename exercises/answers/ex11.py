"""Exercise 11: a kernel in plain loops (Eq. 7, arXiv:2307.08621v4), the tokens that a machine writes a second, the best chunk."""

from typing import NamedTuple

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import one_head
from .recurring import float32_arrays, keeps_arguments, swaps

RETURNS = ("out", "state")
EXACT = {"tolerance": 1e-12}


# Solutions.


def retention_kernel(q, k, v, gamma, state, chunk_size):
    """Eq. 7 in loops over numbers: q, k (T, K), v (T, V), state (K, V) -> (out (T, V), state (K, V))."""
    time, key_dim = q.shape
    value_dim, longest = v.shape[1], min(chunk_size, time)
    out, carried, power = np.zeros(v.shape, v.dtype), state.copy(), np.ones(longest + 1, v.dtype)
    for n in range(1, longest + 1):
        power[n] = gamma**n  # a table: in the innermost loop a power would cost more than all else
    for start in range(0, time, chunk_size):
        end = min(start + chunk_size, time)
        for n in range(start, end):
            for i in range(key_dim):
                reading = power[n + 1 - start] * q[n, i]
                for j in range(value_dim):
                    out[n, j] += reading * carried[i, j]
            for m in range(start, n + 1):
                score = 0.0
                for i in range(key_dim):
                    score += q[n, i] * k[m, i]
                weight = power[n - m] * score
                for j in range(value_dim):
                    out[n, j] += weight * v[m, j]
        for i in range(key_dim):
            for j in range(value_dim):
                carried[i, j] *= power[end - start]
            for m in range(start, end):
                kept = power[end - 1 - m] * k[m, i]
                for j in range(value_dim):
                    carried[i, j] += kept * v[m, j]
    return out, carried


def decode_rate(batch, weights, state, bits, peak, bandwidth):
    """Tokens a second of B texts together, batch (N,), bits (2,) -> rate (N,), limit (2,): by memory, by arithmetic."""
    of_weight, of_state = bits / 8
    computing = batch * (2 * weights + 5 * state) / peak
    moving = (weights * of_weight + batch * 2 * state * of_state) / bandwidth
    limit = np.array([bandwidth / (2 * state * of_state), peak / (2 * weights + 5 * state)])
    return batch / np.maximum(computing, moving), limit


def best_chunk(time, per_chunk, per_score):
    """The cheapest chunk size for each length, time (N,) -> size (N,), cost (N,)."""
    return _cheapest(time, per_chunk, per_score)


def _triangle(c):
    return c * (c + 1) / 2


def _cut(length, size, one):
    whole, rest = divmod(length, size)
    return whole * one(size) + (one(rest) if rest else 0.0)


def _cheapest(
    time, per_chunk, per_score, *, scores=_triangle, total=_cut, among=lambda T: range(1, T + 1), last=False, shown=None
):
    """The cheapest size by another count of scores, another total, or among other sizes; `shown` changes the cost."""
    sizes, costs = [], []
    for length in time.astype(int).tolist():
        table = {C: total(length, C, lambda c: per_chunk + per_score * scores(c)) for C in among(length)}
        least = min(table.values())
        cheapest = [C for C, cost in table.items() if cost == least]
        sizes.append(float(cheapest[-1 if last else 0]))
        costs.append(shown(least, length) if shown else least)
    return np.array(sizes), np.array(costs)


# Wrong answers, each one change away from the solution.


def _kernel_with(
    *,
    read=lambda gamma, j, start: gamma**j,
    seen=lambda gamma, lag: gamma ** np.maximum(lag, 0) * (lag >= 0),
    left=lambda gamma, j, c, size: gamma ** (c - j),
    whole=lambda gamma, c, size: gamma**c,
    reads=lambda before, after, first: before,
    begins=lambda state, first: state,
    tokens=lambda time, size: time,
):
    """The chunkwise form with another decay.

    read, left: of token j in a chunk of c tokens, when it reads the state and when it stays in it. whole: of the state over
    a chunk. seen: of a score. reads: the state that outputs use, of the one before the chunk, after it and of the text.
    begins: the state before a chunk, of what was handed on and of the text's first. tokens: how many are read.
    """

    def kernel(q, k, v, gamma, state, chunk_size):
        out, first = np.zeros(v.shape), state
        for start in range(0, tokens(len(q), chunk_size), chunk_size):
            rows = slice(start, start + chunk_size)
            before, c = begins(state, first), len(q[rows])
            j = np.arange(1, c + 1)[:, None]
            state = k[rows].T @ (left(gamma, j, c, chunk_size) * v[rows]) + whole(gamma, c, chunk_size) * before
            used = reads(before, state, first)
            out[rows] = (q[rows] @ k[rows].T * seen(gamma, j - j.T)) @ v[rows] + read(gamma, j, start) * (
                q[rows] @ used
            )
        return out, state + 0.0

    return kernel


def _changes_the_state(q, k, v, gamma, state, chunk_size):
    out, after = retention_kernel(q, k, v, gamma, state, chunk_size)
    state[...] = after
    return out, state


class _Decoding(NamedTuple):
    """The arguments of `decode_rate`."""

    batch: np.ndarray
    weights: float
    state: float
    bits: np.ndarray
    peak: float
    bandwidth: float


def _rate_with(
    *,
    bits=lambda bits: bits / 8,
    flops=lambda a: 2 * a.weights + 5 * a.state,
    texts_of_weights=lambda batch: 1,
    texts_of_states=lambda batch: batch,
    passes=2,
    both=np.maximum,
    shown=lambda batch, seconds: batch / seconds,
    limit=lambda memory, arithmetic: np.array([memory, arithmetic]),
    weights_in_limit=0,
    passes_in_rate=None,
    flops_in_limit=None,
):
    """The rate with another count; passes: how often a state is moved, in the rate passes_in_rate; both: of computing and moving.

    flops_in_limit: of a token, in the limit by arithmetic, where they differ.
    """

    def rate(*arguments):
        a = _Decoding(*arguments)
        of_weight, of_state = bits(a.bits)
        computing = a.batch * flops(a) / a.peak
        moved = (
            texts_of_weights(a.batch) * a.weights * of_weight
            + texts_of_states(a.batch) * (passes_in_rate or passes) * a.state * of_state
        )
        memory = a.bandwidth / (passes * a.state * of_state + weights_in_limit * a.weights * of_weight)
        return shown(a.batch, both(computing, moved / a.bandwidth)), limit(
            memory, a.peak / (flops_in_limit or flops)(a)
        )

    return rate


def _by_the_root(time, per_chunk, per_score):
    root = max(round(float(np.sqrt(2 * per_chunk / per_score))), 1)
    return _cheapest(time, per_chunk, per_score, among=lambda T: [min(root, T)])


# Checks.


def _one(*sizes, gamma=0.5, chunk_size=2, **more):
    return one_head(*sizes, gamma, **more) | {"chunk_size": chunk_size}


def _decoding(*batch, weights=1000.0, state=50.0, bits=(16.0, 32.0), peak=1e6, bandwidth=1e5):
    machine = {"bits": np.array(bits), "peak": peak, "bandwidth": bandwidth}
    return {"batch": np.array(batch), "weights": weights, "state": state} | machine


def _lengths(*time, per_chunk, per_score):
    return {"time": np.array(time, dtype=float), "per_chunk": per_chunk, "per_score": per_score}


BY_HAND = {
    "q": np.array([[1.0], [1.0], [1.0]]),
    "k": np.array([[1.0], [1.0], [1.0]]),
    "v": np.array([[4.0], [8.0], [2.0]]),
    "gamma": 0.5,
    "state": np.array([[8.0]]),
    "chunk_size": 2,
}

KERNEL = problem(
    retention_kernel,
    RETURNS,
    visible={
        "three tokens in chunks of two, at gamma = 1/2": (
            BY_HAND,
            "by hand: S is 8, 8, 12, 8, and with q = 1 the outputs are the last three of these",
        ),
        "six tokens in chunks of three": (
            _one(2, 3, 6, gamma=0.75, chunk_size=3),
            "token j of a chunk reads gamma^j of the state before it and leaves gamma^(c-j) of its own write",
        ),
        "seven tokens in chunks of three, K and V differ": (
            _one(3, 2, 7, gamma=0.75, chunk_size=3),
            "the last chunk has one token: all its decays are those of its own length, c = 1",
        ),
        "a chunk longer than the text": (
            _one(2, 2, 3, gamma=0.9, chunk_size=8),
            "with T = 3 and chunk_size = 8 there is one chunk, of c = 3 tokens",
        ),
        "no token at all (T = 0)": (
            _one(3, 2, 0, chunk_size=4),
            "with T = 0 there is no chunk: out has shape (0, V), and the state is a copy of the one passed in",
        ),
        **keeps_arguments(_one(3, 3, 6, gamma=0.75, chunk_size=4), hint="begin with state.copy(), and write into that"),
    },
    hidden={
        "many chunks": (_one(2, 4, 23, gamma=0.9, chunk_size=4), "try T = 23 and chunk_size = 4"),
        "chunks of one token": (_one(3, 4, 5, gamma=0.6, chunk_size=1), "try chunk_size = 1: it is the recurrent form"),
        "a memory that never fades": (_one(2, 3, 6, gamma=1.0, chunk_size=4), "gamma = 1 is allowed"),
        "a fast decay over a long chunk": (
            _one(2, 2, 40, gamma=0.01, chunk_size=40),
            "try gamma = 0.01 and T = 40: take gamma to the power n - m, never a quotient of two powers",
        ),
        **float32_arrays(_one(4, 3, 30, gamma=0.9, dtype=np.float32, chunk_size=16)),
    },
    wrong_answers={
        "reads one step too near": (
            _kernel_with(read=lambda gamma, j, start: gamma ** (j - 1)),
            "the first token of a chunk reads the state before it unfaded: it fades first, so gamma^j with j from 1",
        ),
        "reads unfaded": (
            _kernel_with(read=lambda gamma, j, start: 1.0),
            "each token of a chunk reads the state before the chunk unfaded: token j sees gamma^j of it",
        ),
        "reads what has faded": (
            _kernel_with(read=lambda gamma, j, start: gamma ** (j + len(j))),
            "your outputs read the state after it has faded by gamma^c: first all outputs, then the state",
        ),
        "counts from the start of the text": (
            _kernel_with(read=lambda gamma, j, start: gamma ** (start + j)),
            "the state before a chunk fades by the place in the text: count j from the start of the chunk",
        ),
        "reads the state after": (
            _kernel_with(reads=lambda before, after, first: after),
            "your outputs read the state after the chunk: read the one before it, its own tokens are in the scores",
        ),
        "reads the first state": (
            _kernel_with(reads=lambda before, after, first: first),
            "every chunk reads the state passed in: each has a state of its own before it",
        ),
        "begins anew": (
            _kernel_with(begins=lambda state, first: first),
            "every chunk begins with the state passed in: hand the state on from chunk to chunk",
        ),
        "scores unfaded": (
            _kernel_with(seen=lambda gamma, lag: 1.0 * (lag >= 0)),
            "your scores do not fade: the score of tokens n and m takes gamma^(n-m)",
        ),
        "scores of the future": (
            _kernel_with(seen=lambda gamma, lag: gamma ** np.abs(lag)),
            "a token sees later ones of its chunk: m runs from the start of the chunk to n",
        ),
        "leaves itself out": (
            _kernel_with(seen=lambda gamma, lag: gamma ** np.maximum(lag, 0) * (lag > 0)),
            "a token does not see itself: m runs to n, with n itself, where gamma^0 = 1",
        ),
        "leaves unfaded": (
            _kernel_with(left=lambda gamma, j, c, size: 1.0),
            "the chunk's writes stay unfaded in the state: token j leaves gamma^(c-j) of its own",
        ),
        "leaves one step too little": (
            _kernel_with(left=lambda gamma, j, c, size: gamma ** (c - j + 1)),
            "the chunk's writes fade once too often: the last token has just been written, gamma^0 = 1",
        ),
        "leaves what a full chunk would": (
            _kernel_with(left=lambda gamma, j, c, size: gamma ** (size - j)),
            "writes fade by gamma^(chunk_size - j): a shorter last chunk has its own length c",
        ),
        "a full chunk for the state": (
            _kernel_with(whole=lambda gamma, c, size: gamma**size),
            "the state fades by gamma^chunk_size: a shorter last chunk has its own length c",
        ),
        "a full chunk for both": (
            _kernel_with(left=lambda gamma, j, c, size: gamma ** (size - j), whole=lambda gamma, c, size: gamma**size),
            "state and writes fade by chunk_size: a shorter last chunk has its own length c in both",
        ),
        "one token for the state": (
            _kernel_with(whole=lambda gamma, c, size: gamma),
            "the state fades by gamma over a chunk: c tokens pass, so by gamma^c",
        ),
        "the state unfaded": (
            _kernel_with(whole=lambda gamma, c, size: 1.0),
            "the state does not fade over a chunk: it takes gamma^c",
        ),
        "the state is lost": (
            _kernel_with(whole=lambda gamma, c, size: 0.0),
            "the state holds the last chunk alone: add gamma^c of the state before",
        ),
        "drops the last chunk": (
            _kernel_with(tokens=lambda time, size: time // size * size),
            "the tokens after the last full chunk are left out: end = min(start + chunk_size, T)",
        ),
        "changes the state passed in": (
            _changes_the_state,
            "you changed the caller's state: begin with state.copy(), the caller may still need the old one",
        ),
        **swaps(retention_kernel, "out", "state"),
    },
)

RATE = problem(
    decode_rate,
    ("rate", "limit"),
    visible={
        "a model small enough to count by hand": (
            _decoding(1.0, 2.0),
            "by hand: 2,250 FLOPs a text take 2.25 ms; 2,000 + 400 bytes take 24 ms, with two texts 28 ms",
            EXACT,
        ),
        "from one text to very many": (
            _decoding(1.0, 8.0, 64.0, 512.0, 4096.0, weights=5000.0, state=300.0, bandwidth=4e5),
            "the weights are read once for all texts, each state is read and written",
            EXACT,
        ),
        "a machine with slow arithmetic": (
            _decoding(1.0, 4.0, 16.0, 256.0, weights=300.0, state=80.0, bits=(8.0, 16.0), peak=2e4, bandwidth=1e5),
            "the slower of computing and moving decides, for each batch anew",
            EXACT,
        ),
        **keeps_arguments(_decoding(1.0, 3.0), hint="build new arrays; *= and /= write into the caller's"),
    },
    hidden={
        "large states": (
            _decoding(1.0, 10.0, 100.0, weights=64.0, state=4096.0, bits=(32.0, 32.0)),
            "try states larger than the weights",
            EXACT,
        ),
        "sizes of real models": (
            _decoding(1.0, 32.0, 1024.0, weights=7e9, state=1e8, bits=(4.0, 16.0), peak=4e14, bandwidth=2e12),
            "try 7e9 weights of 4 bits",
            EXACT,
        ),
    },
    wrong_answers={
        "weights for each text": (
            _rate_with(texts_of_weights=lambda batch: batch),
            "you read the weights once for each text: one pass over them serves the whole batch",
        ),
        "one state": (
            _rate_with(texts_of_states=lambda batch: 1),
            "you moved a single state: each of the B texts has its own",
        ),
        "states read only": (
            _rate_with(passes=1),
            "you moved each state once: it is read and written back",
        ),
        "states read only, in the rate": (
            _rate_with(passes_in_rate=1),
            "your rate moves each state once: it is read and written back, as in your limit",
        ),
        "states read only, in the limit": (
            _rate_with(passes=1, passes_in_rate=2),
            "your limit moves each state once: it is read and written back, as in your rate",
        ),
        "one FLOP a weight": (
            _rate_with(flops=lambda a: a.weights + 5 * a.state),
            "you counted one FLOP a weight: a multiplication and an addition are two",
        ),
        "no FLOPs for the state": (
            _rate_with(flops=lambda a: 2 * a.weights),
            "you left out the state's arithmetic: 5 FLOPs a number",
        ),
        "two FLOPs for the state": (
            _rate_with(flops=lambda a: 2 * (a.weights + a.state)),
            "you counted 2 FLOPs a number of the state: the decay takes 1, the write 2, the read 2",
        ),
        "four FLOPs for the state": (
            _rate_with(flops=lambda a: 2 * a.weights + 4 * a.state),
            "you counted 4 FLOPs a number of the state: the decay takes one more",
        ),
        "one after the other": (
            _rate_with(both=np.add),
            "you added computing and moving: the machine does both at once, so take the longer",
        ),
        "the faster decides": (
            _rate_with(both=np.minimum),
            "you took the shorter of computing and moving: the longer decides",
        ),
        "memory always": (
            _rate_with(both=lambda computing, moving: moving),
            "you took memory always: where computing takes longer, it decides",
        ),
        "arithmetic always": (
            _rate_with(both=lambda computing, moving: computing),
            "you took arithmetic always: where moving takes longer, it decides",
        ),
        "the rate of one text": (
            _rate_with(shown=lambda batch, seconds: 1 / seconds),
            "your rate is that of one text: the B texts together write B tokens a step",
        ),
        "seconds": (
            _rate_with(shown=lambda batch, seconds: seconds),
            "you returned the seconds of a step: the rate is B tokens divided by them",
        ),
        "seconds a token": (
            _rate_with(shown=lambda batch, seconds: seconds / batch),
            "you returned the seconds of a token: the rate is its inverse",
        ),
        "bits for bytes": (
            _rate_with(bits=lambda bits: bits),
            "you moved bits: the bandwidth is in bytes, of 8 bits",
        ),
        "bits exchanged": (
            _rate_with(bits=lambda bits: bits[::-1] / 8),
            "you exchanged bits: bits[0] is for a weight, bits[1] for a number of the state",
        ),
        "limits exchanged": (
            _rate_with(limit=lambda memory, arithmetic: np.array([arithmetic, memory])),
            "you exchanged the limits: memory's first, then that of arithmetic",
        ),
        "weights in the limit": (
            _rate_with(weights_in_limit=1),
            "your limit by memory still holds the weights: shared by ever more texts, their part goes to zero",
        ),
        "no states in the limit": (
            _rate_with(flops_in_limit=lambda a: 2 * a.weights),
            "your limit by arithmetic leaves out the state's 5 FLOPs a number, which your rate counts",
        ),
        "one limit": (
            _rate_with(limit=lambda memory, arithmetic: np.full(2, min(memory, arithmetic))),
            "you returned the smaller limit twice: limit[0] is memory's, limit[1] that of arithmetic",
        ),
        **swaps(decode_rate, "rate", "limit"),
    },
)

CHUNK = problem(
    best_chunk,
    ("size", "cost"),
    visible={
        "six tokens, by hand": (
            _lengths(6, per_chunk=6.0, per_score=1.0),
            "for C = 1 to 6 the costs are 42, 27, 24, 25, 28, 27",
            EXACT,
        ),
        "short texts, with a tie": (
            _lengths(1, 2, 3, 4, 5, 7, 9, per_chunk=2.0, per_score=1.0),
            "with T = 3 chunks of 2 and of 3 cost 8 both: take the smaller",
            EXACT,
        ),
        "lengths that no square root fits": (
            _lengths(10, 13, 17, 22, 29, 31, 41, 64, 97, per_chunk=20.0, per_score=0.25),
            "a last chunk of few tokens still costs per_chunk: try every C from 1 to T",
            EXACT,
        ),
        **keeps_arguments(_lengths(5, 6, 7, per_chunk=4.0, per_score=0.5), hint="build new arrays"),
    },
    hidden={
        "chunks that cost nothing": (
            _lengths(1, 2, 9, 30, per_chunk=0.0, per_score=1.0),
            "try per_chunk = 0: then chunks of one token are best",
            EXACT,
        ),
        "scores that cost nothing": (
            _lengths(1, 2, 9, 30, per_chunk=3.0, per_score=0.0),
            "try per_score = 0: then one chunk is best, of T tokens",
            EXACT,
        ),
        "longer texts": (
            _lengths(100, 150, 211, 256, per_chunk=64.0, per_score=0.125),
            "try T = 211",
            EXACT,
        ),
    },
    wrong_answers={
        "the square root": (
            _by_the_root,
            "you took the square root of 2 per_chunk / per_score: it ignores the last chunk, so try every C",
        ),
        "parts of chunks": (
            lambda *a: _cheapest(*a, total=lambda T, C, one: T / C * one(C)),
            "you counted T / C chunks, a fraction: the last chunk is shorter and costs per_chunk in full",
        ),
        "a full last chunk": (
            lambda *a: _cheapest(*a, total=lambda T, C, one: -(-T // C) * one(C)),
            "you filled up the last chunk: it has fewer tokens, and fewer scores",
        ),
        "no last chunk": (
            lambda *a: _cheapest(*a, total=lambda T, C, one: T // C * one(C)),
            "you left out the shorter last chunk: its tokens must be computed too",
        ),
        "a free start for the last chunk": (
            lambda time, a, s: _cheapest(time, a, s, total=lambda T, C, one: T // C * one(C) + s * _triangle(T % C)),
            "your shorter last chunk costs its scores alone: it costs per_chunk as well",
        ),
        "the larger of two": (
            lambda *a: _cheapest(*a, last=True),
            "where two sizes cost the same you took the larger: take the smaller",
        ),
        "all scores": (
            lambda *a: _cheapest(*a, scores=lambda c: c**2),
            "you counted c^2 scores: those on and below the diagonal are c (c + 1) / 2",
        ),
        "no diagonal": (
            lambda *a: _cheapest(*a, scores=lambda c: c * (c - 1) / 2),
            "you counted the scores below the diagonal: a token sees itself too, c (c + 1) / 2",
        ),
        "half of the square": (
            lambda *a: _cheapest(*a, scores=lambda c: c**2 / 2),
            "you counted c^2 / 2 scores: with the diagonal they are c (c + 1) / 2",
        ),
        "half of the square in full chunks": (
            lambda time, a, s: _cheapest(time, a, s, total=lambda T, C, one: _cut(T, C, one) - s * (T // C) * C / 2),
            "you counted C^2 / 2 scores in a full chunk: with the diagonal they are C (C + 1) / 2, as in the last one",
        ),
        "powers of two": (
            lambda *a: _cheapest(*a, among=lambda T: [2**x for x in range(T.bit_length())]),
            "you tried powers of two alone: any C from 1 to T is allowed",
        ),
        "divisors": (
            lambda *a: _cheapest(*a, among=lambda T: [C for C in range(1, T + 1) if T % C == 0]),
            "you tried divisors of T alone: C need not divide T",
        ),
        "never one chunk": (
            lambda *a: _cheapest(*a, among=lambda T: range(1, max(T, 2))),
            "you left out C = T: one chunk may be the best",
        ),
        "the cost of a token": (
            lambda *a: _cheapest(*a, shown=lambda cost, length: cost / length),
            "you returned the cost of a token: cost is that of the whole text",
        ),
        **swaps(best_chunk, "size", "cost"),
    },
)

EXERCISE = Exercise("ex11", "A kernel under the contract", (KERNEL, RATE, CHUNK))
