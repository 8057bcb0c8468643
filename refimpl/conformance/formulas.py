"""Wrong retentions: what a kernel gives that makes one of the mistakes that kernels make, in float64.

Each takes a problem, and a chunk size where it computes in chunks, and returns (out, state). A kernel whose wrong results
are those of a formula makes its mistake. NAMES of mistakes are short; the sentence says what to look for.
"""

import functools

import numpy as np

from ..retention import retention_chunkwise
from .problems import NAMES, Problem

CHUNKS = (64, 16, 32, 128, 8, 256, 4, 48, 96, 100, 192)


def chunkwise(case, size, *, mask=None, xi=None, zeta=None, whole=None, reads_itself=False, swaps=False):
    """Eq. 7 with chunks of `size`; a table is a function of gamma (H, 1), the tokens j = 1 ... c, c and size."""
    q, k, v, gamma, state = case.inputs
    g, outs = gamma[:, None], [v[:, :, :0]]
    state = np.zeros((*q.shape[:2], q.shape[3], v.shape[3])) if state is None else state

    @functools.cache  # all chunks but the last are as long
    def tables(c):
        j = np.arange(1.0, c + 1)[None]
        lag = np.arange(c)[:, None] - np.arange(c)[None, :]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return (
                np.where(lag >= 0, g[..., None] ** np.maximum(lag, 0), 0.0)
                if mask is None
                else mask(g[..., None], lag),
                (g**j if xi is None else xi(g, j, c, size))[..., None],
                (g ** (c - j) if zeta is None else zeta(g, j, c, size))[..., None],
                (g**c if whole is None else whole(g, j[:, :1], c, size))[..., None],
            )

    for start in range(0, case.time, size):
        a, b, x = (y[:, :, start : start + size] for y in (q, k, v))
        inside, read, left, kept = tables(a.shape[2])
        with np.errstate(over="ignore", invalid="ignore"):
            after = kept * state + b.mT @ (x * left)
            scores = b @ a.mT if swaps else a @ b.mT
            outs.append((scores * inside) @ x + (a @ (after if reads_itself else state)) * read)
        state = after
    return np.concatenate(outs, axis=2), state


def _one(g, j, c, size):
    return 1.0 + 0 * g * j


def _none(g, j, c, size):
    return 0.0 * g * j


TAIL = "wrong chunk length in the tail"
TABLES = [  # (name, sentence, the tables that are wrong)
    ("missing zeta", "tokens enter the state undecayed: V must be multiplied by zeta_j = gamma^(c-j)", {"zeta": _one}),
    ("missing xi", "the state before a chunk is read undecayed: Q S must be multiplied by xi_j = gamma^j", {"xi": _one}),
    (TAIL, "the last, shorter chunk decays as if it were whole: take its own length c", {
        "zeta": lambda g, j, c, size: g ** (size - j), "whole": lambda g, j, c, size: g**size,
    }),
    (TAIL, "zeta of the last, shorter chunk is that of a whole one: take its own length c", {
        "zeta": lambda g, j, c, size: g ** (size - j),
    }),
    (TAIL, "the last, shorter chunk decays the state as a whole one does", {
        "whole": lambda g, j, c, size: g**size,
    }),
    ("state lost between chunks", "every chunk begins with an empty state, and leaves its own alone", {
        "xi": _none, "whole": _none,
    }),
    ("state lost between chunks", "no chunk reads the state before it", {"xi": _none}),
    ("state lost between chunks", "the state after a chunk is that of the chunk alone: S = K^T V + gamma^C S", {
        "whole": _none,
    }),
    ("state carried undecayed", "the state before a chunk is added undecayed: it must be multiplied by gamma^c", {"whole": _one}),
    ("decay after reading", "xi starts at gamma^0: the state is read before it decays, want xi_j = gamma^j", {
        "xi": lambda g, j, c, size: g ** (j - 1),
    }),
    ("one decay too many", "xi starts at gamma^2, want xi_j = gamma^j", {"xi": lambda g, j, c, size: g ** (j + 1)}),
    ("one decay too many", "zeta ends at gamma^1: the last token of a chunk must enter the state undecayed", {
        "zeta": lambda g, j, c, size: g ** (c - j + 1),
    }),
    ("one decay too few", "zeta ends at gamma^-1: the last token of a chunk must enter the state undecayed", {
        "zeta": lambda g, j, c, size: g ** (c - j - 1),
    }),
    ("zeta in reverse", "zeta decays the newest token most: want zeta_j = gamma^(c-j)", {"zeta": lambda g, j, c, size: g**j}),
    ("zeta in reverse", "zeta decays the newest token most: want zeta_j = gamma^(c-j)", {
        "zeta": lambda g, j, c, size: g ** (j - 1),
    }),
    ("not causal", "scores inside a chunk are not masked: token n sees later ones", {
        "mask": lambda g, lag: g ** np.abs(lag),
    }),
    ("missing decay in the mask", "scores inside a chunk are masked, but not decayed by gamma^(n-m)", {
        "mask": lambda g, lag: np.where(lag >= 0, 1.0 + 0 * g, 0.0),
    }),
    ("strict mask", "token n does not see itself: the diagonal belongs to the mask", {
        "mask": lambda g, lag: np.where(lag > 0, g ** np.maximum(lag, 0), 0.0),
    }),
    ("one decay too many", "the mask decays by gamma^(n-m+1), want gamma^(n-m)", {
        "mask": lambda g, lag: np.where(lag >= 0, g ** np.maximum(lag + 1, 0), 0.0),
    }),
    ("reads the state after itself", "a chunk reads the state that holds it already: R_i in place of R_(i-1)", {
        "reads_itself": True,
    }),
    ("q and k swapped", "scores inside a chunk are k_n . q_m, want q_n . k_m", {"swaps": True}),
]  # fmt: skip


WITHIN = {"mask", "swaps", "reads_itself"}  # these show in a whole chunk; the others in the first tokens after one


def _with(case, **changes):
    return Problem(**dict(zip(NAMES, case.inputs, strict=True)) | changes)


def _retention(case, **changes):
    return retention_chunkwise(*_with(case, **changes).inputs)


def _state_of(case):
    return np.zeros((*case.q.shape[:2], case.q.shape[3], case.v.shape[3])) if case.state is None else case.state


def _itself(case):
    """What each token reads of itself."""
    return np.sum(case.q * case.k, axis=-1, keepdims=True) * case.v


def _first(case, axis, *names):
    """The first along an axis for all of them."""
    changes = {}
    for name in names:
        x = getattr(case, name)
        if x is None:
            return None
        changes[name] = np.repeat(x.take([0], axis), x.shape[axis], axis)
    return _retention(case, **changes)


def _sees_next(case):
    out, state = case.reference
    k, v = (np.concatenate([x[:, :, 1:], 0 * x[:, :, :1]], axis=2) for x in (case.k, case.v))
    return out + np.sum(case.q * k, axis=-1, keepdims=True) * v, state


def _after_reading(case):
    """o_n = q_n (S_(n-1) + k_n v_n), S_n = gamma (S_(n-1) + k_n v_n)."""
    g = case.gamma[:, None, None]
    out, state = _retention(case, state=_state_of(case) / g)
    return out, state * g


def _before_writing(case):
    """o_n = q_n S_(n-1): the state is read before the token is written to it."""
    out, state = case.reference
    return (out - _itself(case)) / case.gamma[:, None, None], state


def _reversed(case):
    out, state = _retention(case, **{name: getattr(case, name)[:, :, ::-1] for name in "qkv"})
    return out[:, :, ::-1], state


def _rounded(case, dtype):
    return _retention(case, gamma=np.clip(case.gamma.astype(dtype).astype(np.float64), 1e-300, 1.0))


def _bfloat16(x):
    """The nearest numbers of 8 binary digits."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(fraction * 256) / 256, exponent)


def _normalised(case):
    lag = np.arange(1, case.time + 1)
    g = case.gamma[:, None]
    sums = np.cumsum(g ** (lag - 1), axis=1)
    return case.reference[0] / np.sqrt(sums)[..., None], case.reference[1]


def _last_keys(case, tile):
    key_dim = case.q.shape[3]
    if key_dim <= tile:
        return None
    return _retention(case, q=case.q * (np.arange(key_dim) >= (key_dim - 1) // tile * tile))


def _without_keys(case, first):
    if case.q.shape[3] <= first:
        return None
    return _retention(case, q=case.q * (np.arange(case.q.shape[3]) < first))


INPUTS = [  # (name, sentence, a function of the problem)
    ("initial state ignored", "the state given is not read: every call begins with zeros",
     lambda p: _retention(p, state=None)),
    ("initial state ignored", "the state given is read, but the state returned knows nothing of it",
     lambda p: (p.reference[0], _retention(p, state=None)[1])),
    ("gamma ignored", "gamma is taken for 1: nothing decays", lambda p: _retention(p, gamma=p.gamma**0)),
    ("gamma ignored", "the decays are 1 - 2^(-5-h), whatever gamma says",
     lambda p: _retention(p, gamma=1 - 2.0 ** (-5 - np.arange(len(p.gamma))))),
    ("sees itself alone", "each token sees itself alone",
     lambda p: (_itself(p), p.reference[1])),
    ("sees itself alone", "each token sees itself alone, and the state holds the last alone",
     lambda p: (_itself(p), p.k[:, :, -1:].mT @ p.v[:, :, -1:]) if p.time else None),
    ("decay after reading", "S is decayed after it is read: want S_n = gamma S_(n-1) + k_n v_n, then o_n = q_n S_n",
     _after_reading),
    ("reads before it writes", "o_n = q_n S_(n-1): the token must be written before the state is read", _before_writing),
    ("strict mask", "token n does not see itself: the diagonal belongs to the mask",
     lambda p: (p.reference[0] - _itself(p), p.reference[1])),
    ("decays the new token", "S_n = gamma (S_(n-1) + k_n v_n): the new token must enter undecayed",
     lambda p: _retention(p, k=p.k * p.gamma[:, None, None])),
    ("one head's decay for all", "the decay of head 0 is taken for all heads", lambda p: _first(p, 0, "gamma")),
    ("heads mixed", "each head takes the decay of the head before it",
     lambda p: _retention(p, gamma=np.roll(p.gamma, 1))),
    ("heads mixed", "each head takes the decay of the head after it",
     lambda p: _retention(p, gamma=np.roll(p.gamma, -1))),
    ("heads mixed", "the decays are taken in reverse: that of the last head for the first",
     lambda p: _retention(p, gamma=p.gamma[::-1].copy())),
    ("heads mixed", "every head is computed from head 0", lambda p: _first(p, 1, "q", "k", "v")),
    ("heads mixed", "every head reads the keys and values of head 0", lambda p: _first(p, 1, "k", "v")),
    ("heads mixed", "every head starts with the state of head 0", lambda p: _first(p, 1, "state")),
    ("batches mixed", "every sequence is computed from sequence 0", lambda p: _first(p, 0, "q", "k", "v")),
    ("batches mixed", "every sequence starts with the state of sequence 0", lambda p: _first(p, 0, "state")),
    ("q and k swapped", "scores are k_n . q_m, want q_n . k_m", lambda p: (_retention(p, q=p.k, k=p.q)[0], p.reference[1])),
    ("q and k swapped", "q is written to the state and k reads it", lambda p: _retention(p, q=p.k, k=p.q)),
    ("state transposed", "the state is (B, H, V, K), want (B, H, K, V)",
     lambda p: (p.reference[0], p.reference[1].mT.reshape(p.reference[1].shape))),
    ("state transposed", "the state given is read as (B, H, V, K), want (B, H, K, V)",
     lambda p: None if p.state is None else _retention(p, state=p.state.mT.reshape(p.state.shape))),
    ("not causal", "token n sees token n + 1: the mask is one diagonal too wide", _sees_next),
    ("not causal", "the whole text is seen, later tokens too",
     lambda p: (chunkwise(p, max(p.time, 1), mask=lambda g, lag: g ** np.abs(lag))[0], p.reference[1])),
    ("time reversed", "the sum runs over later tokens in place of earlier ones", _reversed),
    *(
        ("gamma to another power", f"decays are gamma^({words} (n-m)), want gamma^(n-m)",
         lambda p, power=power: _retention(p, gamma=p.gamma**power))
        for words, power in (("2", 2), ("1/2", 0.5), ("ln 2", np.log(2)), ("1/ln 2", 1 / np.log(2)))
    ),
    ("scores normalised", "scores are divided by the square root of the sum of their decays, which is the caller's to do",
     _normalised),
    ("state not written", "the state returned is the one given", lambda p: (p.reference[0], _state_of(p))),
    ("state not written", "the last token is not in the state returned",
     lambda p: (p.reference[0], p.tokens(0, p.time - 1, p.state).reference[1]) if p.time else None),
    ("decays in float32", "gamma is rounded to float32 on the way", lambda p: _rounded(p, np.float32)),
    ("decays in halves", "gamma is rounded to float16 on the way: 1 - 2^-12 is 1 there", lambda p: _rounded(p, np.float16)),
    ("decays in halves", "gamma is rounded to bfloat16 on the way: 1 - 2^-9 is 1 there",
     lambda p: _retention(p, gamma=np.clip(_bfloat16(p.gamma), 1e-300, 1.0))),
    *(
        ("tile edge", f"key channels from {edge} on are left out", lambda p, edge=edge: _without_keys(p, edge))
        for edge in (16, 32, 64, 128, 256, 512)
    ),
    *(
        ("tile edge", f"of the key channels only the last tile of {tile} counts", lambda p, tile=tile: _last_keys(p, tile))
        for tile in (16, 32, 64, 128, 256)
    ),
    *(
        ("tile edge", f"key channels after the last whole {tile} are left out",
         lambda p, tile=tile: _without_keys(p, p.q.shape[3] // tile * tile))
        for tile in (4, 8, 16, 32, 64)
    ),
]  # fmt: skip


def formulas(case, sizes):
    """((name, sentence), beginning, results) of every mistake, the usual ones first, with chunks of each of the sizes.

    results() is (out, state). beginning() is what out of the first sequence begins with, up to a token that shows most
    mistakes at less cost, or beginning is None. Both are computed once, when they are asked for.
    """
    for name, sentence, function in INPUTS:
        results = function(case)
        if results is not None:
            yield (name, sentence), None, functools.partial(tuple, results)
    for size in sizes:
        one, more = (_beginning(case, size + tokens) for tokens in (0, 8))
        for name, sentence, tables in TABLES:
            first = one if tables.keys() & WITHIN else more
            beginning = first and functools.cache(functools.partial(_out, first, size, **tables))
            if name == TAIL:  # it shows in the state alone
                beginning = functools.partial(case.reference[0].__getitem__, slice(1))
            results = functools.cache(functools.partial(chunkwise, case, size, **tables))
            yield (name, f"{sentence} (chunks of {size})"), beginning, results


def _beginning(case, tokens):
    """The first tokens of the first sequence, or None if that is most of the problem."""
    if 2 * tokens > case.time * len(case.q):
        return None
    state = None if case.state is None else case.state[:1]
    return _with(case, state=state, **{name: getattr(case, name)[:1, :, :tokens] for name in "qkv"})


def _out(*arguments, **tables):
    return chunkwise(*arguments, **tables)[0]
