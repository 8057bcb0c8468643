"""Exercise 13: where a cache crosses a state, what a server writes, when to write a state, and layers of both kinds (Eq. 6)."""

from typing import NamedTuple

import numpy as np

from ..checking.core import Exercise, problem
from .recurring import counts_other_numbers, keeps_arguments, swaps

# Solutions.


def crossings(batch, weight_bytes, num_layers, num_heads, key_dim, value_dim, kv_heads, head_dim, bits):
    """The T at which both models keep, and move, as many bytes, batch (N,) -> kept (N,), moved (N,)."""
    of_state, of_cache = bits / 8
    more = weight_bytes[0] - weight_bytes[1]
    state = batch * num_layers * num_heads * key_dim * value_dim * of_state
    token = batch * num_layers * 2 * kv_heads * head_dim * of_cache
    return np.maximum((more + state) / token, 0.0), np.maximum((more + 2 * state) / token, 0.0)


def served(tokens, weights, weight_bits, memory, state_bytes, token_bytes, bandwidth, operations):
    """What a full server writes, tokens (N,) -> texts (2, N), rate (2, N): RetNet first, then the Transformer."""
    weight_bytes = weights * weight_bits / 8
    kept = np.array([0 * tokens + state_bytes, tokens * token_bytes])
    texts = np.maximum((memory - weight_bytes) // kept, 0.0)
    moved = weight_bytes + texts * kept * [[2.0], [1.0]]  # a state is written back
    return texts, texts / np.maximum(moved / bandwidth, 2 * weights * texts / operations)


def serving_periods(periods, heads, key_dim, value_dim, bits, weight_bytes, memory, bandwidth):
    """What a full server writes with states written every P tokens, periods (N,), memory (M,) -> rate (M, N), best (M,)."""
    of_state, of_kept = bits / 8
    state, token = heads * key_dim * value_dim * of_state, heads * (key_dim + value_dim) * of_kept
    texts = (memory[:, None] - weight_bytes) // (state + periods * token)
    moved = state * (1 + 1 / periods) + token * ((periods + 1) / 2 + 1)
    rate = texts * bandwidth / (weight_bytes + texts * moved)
    return rate, periods[np.argmax(rate, axis=1)]


def attention_layers(tokens, texts, memory, num_layers, state_bytes, token_bytes):
    """The most layers of attention among layers of retention that fit, tokens (N,) -> layers (N,), -1 if none do."""
    layers = np.arange(num_layers + 1.0)[:, None]
    kept = texts * ((num_layers - layers) * state_bytes + layers * token_bytes * tokens)
    return np.where(kept <= memory, layers, -1.0).max(axis=0)


# Wrong answers, each one change away from the solution.


class _Sizes(NamedTuple):
    """The arguments of `crossings`."""

    batch: np.ndarray
    weight_bytes: np.ndarray
    num_layers: int
    num_heads: int
    key_dim: int
    value_dim: int
    kv_heads: int
    head_dim: int
    bits: np.ndarray


def _crossings_with(
    *,
    more=lambda a: a.weight_bytes[0] - a.weight_bytes[1],
    state=lambda a: a.num_heads * a.key_dim * a.value_dim,
    token=lambda a: 2 * a.kv_heads * a.head_dim,
    texts=lambda a: a.batch,
    layers=lambda a: a.num_layers,
    bits=lambda bits: bits,
    copies=2,
    least=0.0,
):
    """The crossings with another factor; copies: how often a state moves in a step."""

    def both(*arguments):
        a = _Sizes(*arguments)
        of_state, of_cache = bits(a.bits) / 8
        held, one = (texts(a) * layers(a) * each for each in (state(a) * of_state, token(a) * of_cache))
        return tuple(np.maximum((more(a) + times * held) / one + 0 * a.batch, least) for times in (1, copies))

    return both


class _Server(NamedTuple):
    """The arguments of `served`."""

    tokens: np.ndarray
    weights: int
    weight_bits: int
    memory: float
    state_bytes: float
    token_bytes: float
    bandwidth: float
    operations: float


def _served_with(
    *,
    weight_bytes=lambda a: a.weights * a.weight_bits / 8,
    read=None,
    room=lambda a, weight_bytes: a.memory - weight_bytes,
    copies=(2.0, 1.0),
    whole=np.floor,
    least=0.0,
    arithmetic=lambda a, texts: 2 * a.weights * texts,
    longer=np.maximum,
    wanted=lambda texts: texts,
):
    """The server with another part.

    read: bytes of weights that a step reads, those that are kept if None. copies: how often a state, a cache, moves.
    wanted: how many tokens a step writes.
    """

    def server(*arguments):
        a = _Server(*arguments)
        kept = np.array([0 * a.tokens + a.state_bytes, a.tokens * a.token_bytes])
        texts = np.maximum(whole(room(a, weight_bytes(a)) / kept), least)
        moved = (read(a, texts) if read else weight_bytes(a)) + texts * kept * np.array(copies)[:, None]
        return texts, wanted(texts) / longer(moved / a.bandwidth, arithmetic(a, texts) / a.operations)

    return server


class _Replay(NamedTuple):
    """The arguments of `serving_periods`."""

    periods: np.ndarray
    heads: int
    key_dim: int
    value_dim: int
    bits: np.ndarray
    weight_bytes: float
    memory: np.ndarray
    bandwidth: float


def _periods_with(
    *,
    bits=lambda bits: bits / 8,
    state=lambda a: a.heads * a.key_dim * a.value_dim,
    token=lambda a: a.heads * (a.key_dim + a.value_dim),
    kept=lambda p: p,
    written=lambda p: 1 / p,
    read=lambda p: (p + 1) / 2,
    new=1,
    whole=np.floor,
    weights=lambda a: a.weight_bytes,
    best=lambda a, rate, moved: a.periods[np.argmax(rate, axis=1)],
):
    """The speed with another part, functions of P.

    kept: tokens that a text has room for. written: states that a step writes. read: kept tokens that it reads. new: tokens
    that it writes.
    """

    def rates(*arguments):
        a = _Replay(*arguments)
        of_state, of_kept = bits(a.bits)
        held, one = state(a) * of_state, token(a) * of_kept
        texts = whole((a.memory[:, None] - a.weight_bytes) / (held + kept(a.periods) * one))
        moved = held * (1 + written(a.periods)) + one * (read(a.periods) + new)
        rate = texts * a.bandwidth / (weights(a) + texts * moved)
        return rate, best(a, rate, moved)

    return rates


def _layers_with(*, kept=None, fits=np.less_equal, none=-1.0, pick=np.max):
    """The layers with another rule.

    kept: bytes of a text with so many layers of attention, of (layers, tokens, number, state_bytes, token_bytes).
    """

    def layers(tokens, texts, memory, num_layers, state_bytes, token_bytes):
        count = np.arange(num_layers + 1.0)[:, None]
        each = (num_layers - count) * state_bytes + count * token_bytes * tokens
        each = kept(count, tokens, num_layers, state_bytes, token_bytes) + 0 * tokens if kept else each
        return pick(np.where(fits(texts * each, memory), count, none), axis=0)

    return layers


def _layers_by_division(tokens, texts, memory, num_layers, state_bytes, token_bytes):
    room = memory / texts - num_layers * state_bytes
    with np.errstate(divide="ignore", invalid="ignore"):
        layers = np.floor(room / (token_bytes * tokens - state_bytes))
    return np.where(room < 0, -1.0, np.clip(layers, 0.0, num_layers))


def _layers_rounded(tokens, texts, memory, num_layers, state_bytes, token_bytes):
    whole = attention_layers(tokens, texts, memory, num_layers, state_bytes, token_bytes)
    room = memory / texts - num_layers * state_bytes
    step = token_bytes * tokens - state_bytes
    return np.where((step > 0) & (whole >= 0), np.minimum(room / np.where(step > 0, step, 1.0), num_layers), whole)


# Checks.


def _sizes(*batch, weight_bytes=(100.0, 100.0), bits=(32.0, 16.0), **more):
    small = {"num_layers": 2, "num_heads": 3, "key_dim": 4, "value_dim": 5, "kv_heads": 1, "head_dim": 6}
    first = {"batch": np.array(batch), "weight_bytes": np.array(weight_bytes)}
    return first | small | more | {"bits": np.array(bits)}


def _server(*tokens, **more):
    small = {"weights": 100, "weight_bits": 16, "memory": 1000.0, "state_bytes": 30.0, "token_bytes": 2.0}
    return {"tokens": np.array(tokens)} | small | {"bandwidth": 50.0, "operations": 1e6} | more


def _periods(*periods, memory=(10_000.0,), bits=(32.0, 16.0), bandwidth=2000.0, weight_bytes=500.0, **more):
    sizes = {"periods": np.array(periods), "heads": 3, "key_dim": 4, "value_dim": 6} | more
    last = {"bits": np.array(bits), "weight_bytes": weight_bytes, "memory": np.array(memory)}
    return sizes | last | {"bandwidth": bandwidth}


def _layers(*tokens, **more):
    small = {"texts": 2, "memory": 1000.0, "num_layers": 5, "state_bytes": 50.0, "token_bytes": 10.0}
    return {"tokens": np.array(tokens)} | small | more


CROSSINGS = problem(
    crossings,
    ("kept", "moved"),
    visible={
        "equal weights, one text": (
            _sizes(1.0),
            "by hand, one layer: a state of 60 numbers, 240 bytes; a token of 12 numbers, 24 bytes: 10 tokens, and 20 moved",
        ),
        "grouped heads, a cache of 8 bits": (
            _sizes(1.0, 3.0, num_heads=8, kv_heads=2, bits=(16.0, 8.0)),
            "keys and values have kv_heads heads of head_dim each; the state has num_heads heads",
        ),
        "weights that differ": (
            _sizes(1.0, 2.0, 10.0, weight_bytes=(1000.0, 400.0)),
            "RetNet's weights are 600 bytes larger here: one text must make up for it with its cache, ten share it",
        ),
        "a Transformer that is the larger from the start": (
            _sizes(1.0, 4.0, weight_bytes=(100.0, 900.0)),
            "where the Transformer keeps or moves more without any token, the answer is 0: no T is negative",
        ),
        **keeps_arguments(_sizes(2.0, 5.0), hint="build new arrays; *= and -= write into the caller's"),
    },
    hidden={
        "one layer of one head": (
            _sizes(7.0, weight_bytes=(64.0, 32.0), num_layers=1, num_heads=1, kv_heads=1, head_dim=9),
            "try a single layer with a single head",
        ),
        "a state of 8 bits and a cache of 4": (
            _sizes(2.0, 6.0, num_layers=3, num_heads=5, key_dim=7, kv_heads=5, bits=(8.0, 4.0)),
            "try bits of 8 and 4: a number of 4 bits takes half a byte",
        ),
        "models of real size": (
            _sizes(
                1.0,
                64.0,
                weight_bytes=(14.2e9, 13.9e9),
                num_layers=32,
                num_heads=16,
                key_dim=256,
                value_dim=512,
                kv_heads=8,
                head_dim=128,
            ),
            "try 32 layers with 16 heads of 256 x 512",
        ),
    },
    wrong_answers={
        "no weights": (
            _crossings_with(more=lambda a: 0),
            "you left out the weights: where they differ, the texts must make up for the difference",
        ),
        "weights the wrong way round": (
            _crossings_with(more=lambda a: a.weight_bytes[1] - a.weight_bytes[0]),
            "you exchanged the weights: what RetNet has more of them, the cache must grow to, so W_RetNet - W_Transformer",
        ),
        "one text": (
            _crossings_with(texts=lambda a: 1),
            "your T does not depend on B: all texts share the weights, and each has its own state and its own cache",
        ),
        "one layer": (
            _crossings_with(layers=lambda a: 1),
            "you counted one layer: each layer has its state or its cache, and the weights are those of all layers",
        ),
        "a state that moves once": (
            _crossings_with(copies=1),
            "moved takes the state once: a step reads it and writes it back",
        ),
        "twice the other crossing": (
            lambda *arguments: (kept := crossings(*arguments)[0], 2 * kept),
            "you doubled kept to get moved: only the state moves twice, the difference of the weights does not",
        ),
        "negative tokens": (
            _crossings_with(least=-np.inf),
            "your T is negative where the Transformer is larger from the start: it is 0 there",
        ),
        "keys alone": (
            _crossings_with(token=lambda a: a.kv_heads * a.head_dim),
            "you cached keys or values: a token leaves both, so 2 kv_heads head_dim numbers",
        ),
        "a cache of query heads": (
            _crossings_with(token=lambda a: 2 * a.num_heads * a.head_dim),
            "you cached num_heads heads: only kv_heads heads have keys and values",
        ),
        "a state of kv heads": (
            _crossings_with(state=lambda a: a.kv_heads * a.key_dim * a.value_dim),
            "your state has kv_heads heads: grouping is the Transformer's, the RetNet has num_heads",
        ),
        "the rule of the paper's widths": (
            _crossings_with(
                state=lambda a: a.num_heads * a.key_dim,
                token=lambda a: a.kv_heads,
                more=lambda a: 0,
                layers=lambda a: 1,
            ),
            "K g b_S / b_C holds where H K = d and V = 2 K alone: count H K V and 2 kv_heads head_dim as they are",
        ),
        "bits for bytes": (
            _crossings_with(bits=lambda bits: 8 * bits),
            "you compared bits with the bytes of the weights: a byte has 8 bits",
        ),
        **counts_other_numbers(_crossings_with),
        **swaps(crossings, "kept", "moved"),
    },
)

SERVER = problem(
    served,
    ("texts", "rate"),
    visible={
        "a server small enough to count by hand": (
            _server(10.0),
            "by hand: 800 bytes of room; 26 states, 200 + 26 * 60 = 1760 bytes, 35.2 s; 40 caches, 200 + 800 bytes, 20 s",
        ),
        "texts that grow": (
            _server(1.0, 15.0, 30.0, 250.0),
            "RetNet's texts do not depend on T, the Transformer's fit (memory - weights) / (T token_bytes) times, rounded down",
        ),
        "arithmetic that takes longer": (
            _server(2.0, 40.0, operations=5.0),
            "a step takes the longer of its bytes and its operations: 2 for each weight and each text",
        ),
        "weights of 4 bits": (
            _server(3.0, 8.0, weight_bits=4, operations=4.0),
            "weights of 4 bits leave more room and are read faster; the operations stay as many",
        ),
        "weights that do not fit": (
            _server(7.0, 9.0, weights=700),
            "the weights are larger than the memory: no text fits, so texts and rate are 0, and nothing below 0",
        ),
        **keeps_arguments(_server(4.0, 6.0), hint="build new arrays; *= and += write into the caller's"),
    },
    hidden={
        "no room for a text": (
            _server(5.0, 401.0, 1000.0, state_bytes=801.0),
            "try texts that are too large for what the weights leave: texts and rate are 0",
        ),
        "a full memory to the byte": (
            _server(25.0, 32.0, memory=840.0, state_bytes=64.0),
            "try a memory that an exact number of texts fills",
        ),
        "a server of real size": (
            _server(
                900.0,
                21_000.0,
                weights=7_300_000_000,
                memory=128e9,
                state_bytes=2.7e8,
                token_bytes=131_072.0,
                bandwidth=4.1e12,
                operations=7.6e14,
            ),
            "try 7.3 billion weights and 128 GB",
        ),
    },
    wrong_answers={
        "parts of a text": (
            _served_with(whole=lambda x: x),
            "you let part of a text fit: the number of texts is whole, rounded down",
        ),
        "rounds to the nearest": (
            _served_with(whole=np.round),
            "you rounded to the nearest: the last text would not fit, round down",
        ),
        "rounds up": (
            _served_with(whole=np.ceil),
            "you rounded up: the last text would not fit, round down",
        ),
        "the weights take no room": (
            _served_with(room=lambda a, weight_bytes: a.memory),
            "you gave the whole memory to the texts: the weights take their part of it first",
        ),
        "texts below none": (
            _served_with(least=-np.inf),
            "you have a negative number of texts where the weights alone do not fit: it is 0 there",
        ),
        "one text at least": (
            _served_with(least=1.0),
            "you let one text in where none fits: texts and rate are 0 there",
        ),
        "a state that moves once": (
            _served_with(copies=(1.0, 1.0)),
            "you moved the state once: a step reads it and writes it back",
        ),
        "a cache that moves twice": (
            _served_with(copies=(2.0, 2.0)),
            "you moved the cache twice: it is read, and of the new token alone something is written",
        ),
        "the state is kept twice": (
            lambda tokens, *more: _served_with(copies=(1.0, 1.0))(tokens, *more[:3], 2 * more[3], *more[4:]),
            "you kept two states for each text: the new one takes the place of the old one, it moves twice and is kept once",
        ),
        "the weights for each text": (
            _served_with(read=lambda a, texts: texts * a.weights * a.weight_bits / 8),
            "you read the weights for each text: one reading serves all of them, which is why they are decoded together",
        ),
        "the weights unread": (
            _served_with(read=lambda a, texts: 0.0),
            "you left out the weights that a step reads, all of them",
        ),
        "weights of 16 bits always": (
            _served_with(weight_bytes=lambda a: 2 * a.weights),
            "you gave each weight two bytes: weight_bits says how many bits it has",
        ),
        "bits for bytes": (
            _served_with(weight_bytes=lambda a: a.weights * a.weight_bits),
            "you took bits for bytes: a byte has 8 bits",
        ),
        "whole bytes": (
            _served_with(weight_bytes=lambda a: a.weights * (a.weight_bits // 8)),
            "you divided the bits by 8 with //, so weights of 4 bits take no room: each takes half a byte",
        ),
        "no arithmetic": (
            _served_with(arithmetic=lambda a, texts: 0 * texts),
            "you counted bytes alone: with many texts the operations take longer, 2 for each weight and text",
        ),
        "the arithmetic of one text": (
            _served_with(arithmetic=lambda a, texts: 2 * a.weights + 0 * texts),
            "you counted the operations of one text: each text has its own, only the reading of the weights is shared",
        ),
        "one operation a weight": (
            _served_with(arithmetic=lambda a, texts: a.weights * texts),
            "you counted one operation for each weight and text: there are two, a product and a sum",
        ),
        "operations of bytes": (
            _served_with(arithmetic=lambda a, texts: a.weights * a.weight_bits / 8 * texts),
            "you took as many operations as the weights have bytes: that is so for 16 bits alone, it is 2 for each weight",
        ),
        "one after the other": (
            _served_with(longer=np.add),
            "you added the times of bytes and operations: both go on together, the longer one counts",
        ),
        "the shorter one": (
            _served_with(longer=np.minimum),
            "you took the shorter time: a step is over when bytes and operations both are",
        ),
        "steps a second": (
            _served_with(wanted=lambda texts: (texts > 0) * 1.0),
            "that is steps a second: each step writes a token of every text",
        ),
        "Transformer first": (
            lambda *arguments: tuple(each[::-1] for each in served(*arguments)),
            "your rows are exchanged: RetNet is row 0, the Transformer row 1",
        ),
        **swaps(served, "texts", "rate"),
    },
)

PERIODS = problem(
    serving_periods,
    ("rate", "best"),
    visible={
        "a period at a time": (
            _periods(4.0),
            "by hand: a state of 288 bytes, a token of 60; 528 kept: 17 texts; 288 * 1.25 + 60 * 3.5 = 570 moved by each",
        ),
        "a long row of periods": (
            _periods(*np.arange(1.0, 13.0), memory=(10_000.0, 900.0, 1300.0)),
            "best is, for each memory, the entry of periods with the highest rate",
        ),
        "a wide head": (
            _periods(2.0, 6.0, 18.0, 50.0, heads=2, key_dim=32, value_dim=64, memory=(400_000.0,), bits=(32.0, 32.0)),
            "K = 32 and V = 64: the state has 2,048 numbers a head, a kept token 96",
        ),
        "periods in another order": (
            _periods(40.0, 3.0, 9.0, 1.0, memory=(60_000.0, 4000.0), bits=(16.0, 8.0)),
            "best is a period, not its place, in whatever order they come; each memory has its own",
        ),
        **keeps_arguments(_periods(2.0, 7.0), hint="build new arrays; += and /= write into the caller's"),
    },
    hidden={
        "hardly any room": (
            _periods(1.0, 2.0, 5.0, 11.0, 16.0, memory=(1600.0, 1300.0, 2300.0)),
            "try memories for a few texts: a long period takes the room of a text",
        ),
        "no room at all": (
            _periods(1.0, 300.0, memory=(1234.0, 510.0)),
            "try periods and memories with which no text fits: the rate is 0",
        ),
        "a model of real size": (
            _periods(
                4.0,
                12.0,
                20.0,
                28.0,
                44.0,
                heads=480,
                key_dim=256,
                value_dim=512,
                weight_bytes=1.5e10,
                memory=(1.2e11, 1.7e10),
                bandwidth=4e12,
            ),
            "try 480 heads of 256 x 512",
        ),
    },
    wrong_answers={
        "no room for what is kept": (
            _periods_with(kept=lambda p: 0 * p),
            "you gave a text room for its state alone: it also keeps P keys and values",
        ),
        "room for the mean": (
            _periods_with(kept=lambda p: (p + 1) / 2),
            "you gave a text room for (P + 1) / 2 tokens: it reads so many on average, and needs room for all P",
        ),
        "the state never written": (
            _periods_with(written=lambda p: 0 * p),
            "you never write the state: every P steps it is written, so 1 / P of it in a step on average",
        ),
        "the state written at every step": (
            _periods_with(written=lambda p: 1.0 + 0 * p),
            "you write the state at every step: with replay it is written every P steps",
        ),
        "the state read once in P": (
            _periods_with(written=lambda p: 2 / p - 1),
            "you read the state every P steps: every step reads it, only writing waits",
        ),
        "all that fits is read": (
            _periods_with(read=lambda p: p),
            "you read P kept tokens at every step: there are P only before the state is written, (P + 1) / 2 on average",
        ),
        "half a token too few": (
            _periods_with(read=lambda p: p / 2),
            "you read P / 2 tokens on average: the numbers kept are 1, 2, ..., P, whose mean is (P + 1) / 2",
        ),
        "the kept are not read": (
            _periods_with(read=lambda p: 0 * p),
            "you left out the kept tokens that a step reads, (P + 1) / 2 on average",
        ),
        "the new one is not written": (
            _periods_with(new=0),
            "you left out the new key and value: each step writes them",
        ),
        "keys alone": (
            _periods_with(token=lambda a: a.heads * a.key_dim),
            "you kept keys alone: a token has K + V numbers in each head",
        ),
        "two keys": (
            _periods_with(token=lambda a: 2 * a.heads * a.key_dim),
            "your token has 2 K numbers a head: its value has V, so K + V",
        ),
        "one head": (
            _periods_with(token=lambda a: a.key_dim + a.value_dim, state=lambda a: a.key_dim * a.value_dim),
            "you counted one head: heads is how many there are in all layers together",
        ),
        "bits exchanged": (
            _periods_with(bits=lambda bits: bits[::-1] / 8),
            "you exchanged bits: bits[0] is for the state, bits[1] for kept keys and values",
        ),
        "the state's bits for all": (
            _periods_with(bits=lambda bits: bits[[0, 0]] / 8),
            "you took the bits of the state for kept keys and values too: they have bits[1]",
        ),
        "bits for bytes": (
            _periods_with(bits=lambda bits: bits),
            "you took bits for bytes: a byte has 8 bits",
        ),
        "parts of a text": (
            _periods_with(whole=lambda x: x),
            "you let part of a text fit: round the number of texts down",
        ),
        "the weights unread": (
            _periods_with(weights=lambda a: 0.0),
            "you left out the weights that each step reads once for all texts",
        ),
        "the period of fewest bytes": (
            _periods_with(best=lambda a, rate, moved: 0 * a.memory + a.periods[np.argmin(moved)]),
            "you chose the period that moves the fewest bytes a text: a longer one also takes room, so choose by the rate",
        ),
        "the place of the period": (
            _periods_with(best=lambda a, rate, moved: np.argmax(rate, axis=1)),
            "you returned the place in periods: best is the period itself",
        ),
        "the place as a float": (
            _periods_with(best=lambda a, rate, moved: np.argmax(rate, axis=1).astype(float)),
            "best holds places in periods, counted from 0: return the periods that stand there",
        ),
        "the lowest rate": (
            _periods_with(best=lambda a, rate, moved: a.periods[np.argmin(rate, axis=1)]),
            "you chose the period with the lowest rate: best has the highest, so argmax and not argmin",
        ),
        "the best rate": (
            _periods_with(best=lambda a, rate, moved: rate.max(axis=1)),
            "you returned the highest rate: best is the period that has it",
        ),
        **swaps(serving_periods, "rate", "best"),
    },
)

LAYERS = problem(
    attention_layers,
    ("layers",),
    visible={
        "room for two": (
            _layers(15.0),
            "by hand: 500 bytes for each text; 5 states take 250, and each layer of attention 150 - 50 more: 2 fit",
        ),
        "short texts and long ones": (
            _layers(5.0, 6.0, 10.0, 30.0, 31.0, 500.0),
            "there are num_layers layers in all: no more than so many can be of attention",
        ),
        "a memory filled to the byte": (
            _layers(15.0, 30.0, memory=900.0),
            "what fills the memory exactly fits",
        ),
        "no room for the states": (
            _layers(7.0, 20.0, texts=5),
            "if no number of layers fits, the answer is -1",
        ),
        "a cache smaller than a state": (
            _layers(1.0, 4.0, memory=450.0),
            "with few tokens a layer of attention takes less than one of retention: then 0 may not fit, and all of them do",
        ),
        **keeps_arguments(_layers(9.0, 12.0), hint="build new arrays; *= and -= write into the caller's"),
    },
    hidden={
        "no token yet": (
            _layers(0.0, 2.0, texts=3, num_layers=7),
            "try T = 0: layers of attention keep nothing",
        ),
        "equal in both": (
            _layers(8.0, texts=4, memory=999.0, state_bytes=80.0, num_layers=3),
            "try a T at which a state is as large as a cache: all layers are attention, or none fits",
        ),
        "a model of real size": (
            _layers(
                3000.0,
                9000.0,
                70_000.0,
                texts=96,
                memory=1.1e11,
                num_layers=40,
                state_bytes=8_388_608.0,
                token_bytes=4096.0,
            ),
            "try 96 texts on 40 layers",
        ),
    },
    wrong_answers={
        "by division": (
            _layers_by_division,
            "you divided the room that the states leave: where a cache is smaller than a state, attention makes room instead",
        ),
        "not whole": (_layers_rounded, "you returned a quotient: a layer is of attention or it is not, round down"),
        "both in each layer": (
            _layers_with(kept=lambda n, t, number, state, token: number * state + n * token * t),
            "you keep all states as well: a layer of attention has a cache in the place of its state",
        ),
        "caches alone": (
            _layers_with(kept=lambda n, t, number, state, token: n * token * t),
            "you counted the caches alone: the other layers have states",
        ),
        "one text": (
            lambda tokens, texts, *more: attention_layers(tokens, 1, *more),
            "you counted one text: each text has its own states and caches",
        ),
        "one state": (
            _layers_with(kept=lambda n, t, number, state, token: (n < number) * state + n * token * t),
            "you counted one state: each layer of retention has one",
        ),
        "layers of retention": (
            lambda tokens, texts, memory, number, *more: np.where(
                (n := attention_layers(tokens, texts, memory, number, *more)) < 0, n, number - n
            ),
            "you counted the layers of retention: asked are those of attention, the rest of num_layers",
        ),
        "the fewest": (
            _layers_with(none=np.inf, pick=lambda x, axis: np.where(np.isinf(y := x.min(axis=axis)), -1.0, y)),
            "you returned the fewest layers that fit: asked are the most",
        ),
        "less than the memory": (
            _layers_with(fits=np.less),
            "you want some memory left over: what fills it exactly fits",
        ),
        "none is nought": (
            _layers_with(none=0.0),
            "you returned 0 where nothing fits: 0 layers of attention need room for all states, so it is -1",
        ),
        "one layer too few": (
            lambda *arguments: np.maximum(attention_layers(*arguments) - 1, -1.0),
            "one layer more still fits",
        ),
        "more layers than there are": (
            lambda tokens, texts, memory, number, state, token: np.where(
                (attention_layers(tokens, texts, memory, number, state, token) == number) & (token * tokens > state),
                np.floor((memory / texts - number * state) / np.maximum(token * tokens - state, 1e-9)),
                attention_layers(tokens, texts, memory, number, state, token),
            ),
            "you have more layers of attention than the model has layers: num_layers is the most",
        ),
        "one layer past the last": (
            lambda *arguments: (n := attention_layers(*arguments)) - (n == arguments[3]),
            "you stop before num_layers: all layers may be of attention",
        ),
    },
)

EXERCISE = Exercise("ex13", "Is decoding O(1)?", (CROSSINGS, SERVER, PERIODS, LAYERS))
