"""Exercise 9: parameters, operations and bytes of a model, counted from its config (Eq. 5 to 8, arXiv:2307.08621v4)."""

from typing import NamedTuple

import numpy as np

from ..checking.core import Exercise, problem
from .recurring import counts_other_numbers, keeps_arguments, swaps

EXACT = {"tolerance": 1e-12}  # a whole number below 10^11 may not be off by 1


# Solutions.


def count_parameters(vocab_size, dim, num_layers, num_heads, key_dim, value_dim, ffn_dim, gated, tied):
    """The parameters of a RetNet of this config -> parts (4,): vocabulary, retention, feed-forward, norms."""
    keys, values = num_heads * key_dim, num_heads * value_dim
    vocabulary = vocab_size * dim if tied else 2 * vocab_size * dim
    retention = num_layers * dim * (2 * keys + 3 * values)
    ffn = num_layers * dim * ffn_dim * (3 if gated else 2)
    norms = (2 * num_layers + 1) * dim
    return np.array([vocabulary, retention, ffn, norms], dtype=float)


def training_flops(time, chunk_size, weights, num_layers, num_heads, key_dim, value_dim):
    """The operations of training one token, time, chunk_size (N,) -> parallel (N,), chunkwise (N,)."""
    heads = 3.5 * num_layers * num_heads  # 1 forwards, 2.5 backwards
    widths = key_dim + value_dim
    parallel = 6 * weights + heads * (time + 1) * widths
    chunkwise = 6 * weights + heads * ((chunk_size + 1) * widths + 4 * key_dim * value_dim)
    return parallel, chunkwise


def decode_bytes(time, batch, weights, num_layers, num_heads, key_dim, value_dim, kv_heads, head_dim, bits):
    """The bytes that decoding one token in each text moves, time (N,), bits (3,) -> retnet (N,), transformer (N,)."""
    of_weight, of_state, of_cache = bits / 8
    state = 2 * num_heads * key_dim * value_dim * of_state  # read and written
    cache = (time + 1) * 2 * kv_heads * head_dim * of_cache  # those before read, the new one written
    texts = batch * num_layers
    return weights * of_weight + texts * state + 0 * time, weights * of_weight + texts * cache


def tokens_until_larger(prompt, batch, num_heads, key_dim, value_dim, kv_heads, head_dim, bits):
    """The least T from which the cache is larger than the states, prompt (N,), bits (2,) -> tokens (N,)."""
    state = num_heads * key_dim * value_dim * bits[0]
    token = 2 * kv_heads * head_dim * bits[1]
    room = batch * state - prompt * token
    return np.maximum(room // (batch * token) + 1, 0)


# Wrong answers, each one change away from the solution.


class _Model(NamedTuple):
    """The arguments of `count_parameters`."""

    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    key_dim: int
    value_dim: int
    ffn_dim: int
    gated: int
    tied: int

    def projections(self, keys, values):
        """Weights of `keys` matrices as wide as all keys and `values` as wide as all values, in all layers."""
        wide = keys * self.num_heads * self.key_dim + values * self.num_heads * self.value_dim
        return self.num_layers * self.dim * wide


PARTS = ("vocabulary", "retention", "ffn", "norms")


def _count_with(**changed):
    """The count with other parts, functions of the `_Model` and of the right part, by name."""

    def count(*arguments):
        parts = count_parameters(*arguments)
        for i, name in enumerate(PARTS):
            if name in changed:
                parts[i] = changed[name](_Model(*arguments), parts[i])
        return parts

    return count


def _of_one_layer(*names):
    changed = {name: lambda model, right: right / model.num_layers for name in names if name != "norms"}
    return _count_with(**changed, norms=lambda model, right: 3 * model.dim if "norms" in names else right)


class _Training(NamedTuple):
    """The arguments of `training_flops`."""

    time: np.ndarray
    chunk_size: np.ndarray
    weights: int
    num_layers: int
    num_heads: int
    key_dim: int
    value_dim: int


def _flops_with(
    *,
    matrices=lambda a: 6 * a.weights,
    times=3.5,
    heads=lambda a: a.num_layers * a.num_heads,
    widths=lambda a: a.key_dim + a.value_dim,
    seen=lambda size: size + 1,
    in_chunk=lambda a: a.chunk_size + 1,
    cells=lambda a: 4 * a.key_dim * a.value_dim,
    parallel_cells=lambda a: 0,
):
    """The operations counted with another factor.

    matrices: of the weights. times: how often the forward pass of retention counts. seen: of T or C, twice the scores a
    token has. in_chunk: the same of a chunk, instead of `seen`. cells: of the state.
    """

    def flops(*arguments):
        a = _Training(*arguments)
        in_chunks = in_chunk(a) if seen(1) == 2 else seen(a.chunk_size)
        parallel = seen(a.time) * widths(a) + parallel_cells(a)
        chunkwise = in_chunks * widths(a) + cells(a)
        return tuple(matrices(a) + times * heads(a) * each for each in (parallel, chunkwise))

    return flops


def _of_a_sequence(time, *more):
    return tuple(time * each for each in training_flops(time, *more))


def _matrices_of_a_layer(a):
    return 6 * a.weights * a.num_layers


class _Decoding(NamedTuple):
    """The arguments of `decode_bytes`."""

    time: np.ndarray
    batch: int
    weights: int
    num_layers: int
    num_heads: int
    key_dim: int
    value_dim: int
    kv_heads: int
    head_dim: int
    bits: np.ndarray


def _bytes_with(
    *,
    of_bits=lambda bits: bits / 8,
    matrices=lambda a: a.weights,
    texts=lambda a: a.batch * a.num_layers,
    state=lambda a: 2 * a.num_heads * a.key_dim * a.value_dim,
    cache=lambda a: (a.time + 1) * 2 * a.kv_heads * a.head_dim,
):
    """The bytes counted with other numbers: of weights, and of the state and the cache of a text in a layer."""

    def moved(*arguments):
        a = _Decoding(*arguments)
        of_weight, of_state, of_cache = of_bits(a.bits)
        base = matrices(a) * of_weight
        return tuple(base + texts(a) * each + 0 * a.time for each in (state(a) * of_state, cache(a) * of_cache))

    return moved


class _Crossing(NamedTuple):
    """The arguments of `tokens_until_larger`."""

    prompt: np.ndarray
    batch: int
    num_heads: int
    key_dim: int
    value_dim: int
    kv_heads: int
    head_dim: int
    bits: np.ndarray


def _crossing_with(
    *,
    state=lambda a: a.num_heads * a.key_dim * a.value_dim,
    token=lambda a: 2 * a.kv_heads * a.head_dim,
    bits=lambda bits: bits,
    prompts=lambda a: a.prompt,
    batches=lambda a: (a.batch, a.batch),
    whole=lambda room, step: room // step + 1,
    least=0.0,
):
    """The crossing with other sizes.

    prompts: how many tokens of prompts the cache holds. batches: how many states, how many caches that grow. whole: a
    whole number of tokens, of the room left and of what the next token of all texts takes.
    """

    def tokens(*arguments):
        a = _Crossing(*arguments)
        of_state, of_cache = bits(a.bits)
        states, caches = batches(a)
        one = token(a) * of_cache
        return np.maximum(whole(states * state(a) * of_state - prompts(a) * one, caches * one), least)

    return tokens


# Checks.


def _model(**more):
    small = {"vocab_size": 10, "dim": 4, "num_layers": 2, "num_heads": 2, "key_dim": 2, "value_dim": 3, "ffn_dim": 5}
    return small | {"gated": 1, "tied": 0} | more


SHIPPED = _model(vocab_size=256, dim=320, num_layers=5, num_heads=5, key_dim=64, value_dim=128, ffn_dim=640)


def _training(time, chunk_size, **more):
    sizes = {"time": np.array(time, dtype=float), "chunk_size": np.array(chunk_size, dtype=float)}
    return sizes | {"weights": 10, "num_layers": 1, "num_heads": 1, "key_dim": 2, "value_dim": 3} | more


def _decoding(*time, bits=(16.0, 32.0, 16.0), **more):
    small = {"batch": 2, "weights": 100, "num_layers": 3, "num_heads": 4, "key_dim": 2, "value_dim": 5}
    last = {"kv_heads": 1, "head_dim": 3, "bits": np.array(bits)}
    return {"time": np.array(time)} | small | {name: more.pop(name, value) for name, value in last.items()} | more


def _crossing(*prompt, bits=(32.0, 16.0), **more):
    small = {"batch": 1, "num_heads": 2, "key_dim": 4, "value_dim": 6, "kv_heads": 1, "head_dim": 3}
    return {"prompt": np.array(prompt)} | small | more | {"bits": np.array(bits)}


PARAMETERS = problem(
    count_parameters,
    ("parts",),
    visible={
        "a model small enough to count by hand": (
            _model(),
            "by hand: 2 * 10 * 4 = 80; 2 layers of 4 (2 * 4 + 3 * 6) = 208; 2 * 3 * 4 * 5 = 120; (2 * 2 + 1) * 4 = 20",
            EXACT,
        ),
        "a tied head, no gate in the feed-forward": (
            _model(vocab_size=7, dim=6, num_layers=3, num_heads=4, key_dim=2, value_dim=5, ffn_dim=9, gated=0, tied=1),
            "one matrix of 7 x 6 is embedding and head at once; the feed-forward has W_1 and W_2 alone",
            EXACT,
        ),
        "the model that comes with the course": (
            SHIPPED,
            "lesson 9 says it has about 7 million; your four numbers must sum to 7,335,360",
            EXACT,
        ),
    },
    hidden={
        "a single layer": (
            _model(num_layers=1, num_heads=3, dim=10, key_dim=4, value_dim=7, tied=1),
            "try one layer and a tied head, with a gate",
            EXACT,
        ),
        "an untied head and no gate": (
            _model(vocab_size=11, dim=6, num_layers=4, num_heads=3, key_dim=4, value_dim=2, ffn_dim=13, gated=0),
            "try gated = 0 and tied = 0, and values narrower than keys",
            EXACT,
        ),
        "a model of more than a billion": (
            _model(
                vocab_size=50257, dim=2048, num_layers=24, num_heads=8, key_dim=256, value_dim=512, ffn_dim=4096, tied=1
            ),
            "try dim = 2048 with 24 layers: each number is exact in float64",
            EXACT,
        ),
    },
    wrong_answers={
        "a tied head counted": (
            _count_with(vocabulary=lambda m, _: 2 * m.vocab_size * m.dim),
            "you counted a tied head: it is the embedding's own matrix, so it adds no parameter",
        ),
        "no head": (
            _count_with(vocabulary=lambda m, _: m.vocab_size * m.dim),
            "you left out the head that is not tied: it is a second matrix, (d, vocabulary)",
        ),
        "tied the wrong way round": (
            _count_with(vocabulary=lambda m, _: (1 + m.tied) * m.vocab_size * m.dim),
            "you have tied the wrong way round: tied = 1 means one matrix for embedding and head, tied = 0 means two",
        ),
        "no vocabulary": (
            _count_with(vocabulary=lambda m, _: 0),
            "you left out the embedding: it has a row of d numbers for each token of the vocabulary",
        ),
        "no gate in retention": (
            _count_with(retention=lambda m, _: m.projections(2, 2)),
            "you left out a matrix as wide as the values: beside W_V and W_O there is W_G, the gate of Eq. 8",
        ),
        "no gate and no output projection": (
            _count_with(retention=lambda m, _: m.projections(2, 1)),
            "you counted W_Q, W_K and W_V alone: Eq. 8 has the gate W_G and the output W_O too",
        ),
        "one matrix of keys": (
            _count_with(retention=lambda m, _: m.projections(1, 3)),
            "you counted one matrix as wide as the keys: W_Q and W_K are two",
        ),
        "all as wide as the keys": (
            _count_with(retention=lambda m, _: m.projections(5, 0)),
            "you made all five matrices as wide as the keys: W_V, W_G and W_O have H V columns or rows",
        ),
        "all as wide as the values": (
            _count_with(retention=lambda m, _: m.projections(0, 5)),
            "you made all five matrices as wide as the values: W_Q and W_K have H K columns",
        ),
        "keys and values exchanged": (
            _count_with(retention=lambda m, _: m.projections(3, 2)),
            "you exchanged K and V: two matrices, W_Q and W_K, are H K wide, three, W_V, W_G and W_O, are H V wide",
        ),
        "squares of d": (
            _count_with(retention=lambda m, _: 4 * m.num_layers * m.dim**2),
            "you took four matrices of d x d, as in a Transformer: take H K and H V, and five matrices",
        ),
        "eight squares of d": (
            _count_with(retention=lambda m, _: 8 * m.num_layers * m.dim**2),
            "8 d^2 is right only where H K = d and V = 2 K: add up the five matrices as they are",
        ),
        "one head": (
            _count_with(retention=lambda m, right: right / m.num_heads),
            "you counted one head: the matrices hold the columns of all H heads",
        ),
        "the output of one head": (
            _count_with(retention=lambda m, _: m.projections(2, 2) + m.num_layers * m.dim * m.value_dim),
            "your W_O takes one head: it takes all of them side by side, (H V, d)",
        ),
        "a norm with weights in retention": (
            _count_with(norms=lambda m, right: right + m.num_layers * m.num_heads * m.value_dim),
            "you gave GroupNorm a weight: here it has none, so only the norms of width d count",
        ),
        "a feed-forward of two matrices": (
            _count_with(ffn=lambda m, _: 2 * m.num_layers * m.dim * m.ffn_dim),
            "your feed-forward has two matrices always: a gated one has three, W_1, W_gate and W_2",
        ),
        "a feed-forward of three matrices": (
            _count_with(ffn=lambda m, _: 3 * m.num_layers * m.dim * m.ffn_dim),
            "your feed-forward has three matrices always: without a gate it has W_1 and W_2",
        ),
        "gated the wrong way round": (
            _count_with(ffn=lambda m, _: (3 - m.gated) * m.num_layers * m.dim * m.ffn_dim),
            "you have gated the wrong way round: gated = 1 means three matrices, gated = 0 means two",
        ),
        "a square feed-forward": (
            _count_with(ffn=lambda m, _: (2 + m.gated) * m.num_layers * m.ffn_dim**2),
            "your feed-forward is square: its matrices are (d, ffn_dim) or (ffn_dim, d)",
        ),
        "biases in the feed-forward": (
            _count_with(ffn=lambda m, right: right + m.num_layers * ((1 + m.gated) * m.ffn_dim + m.dim)),
            "you added biases to the feed-forward: no matrix of the model has one",
        ),
        "one norm a layer": (
            _count_with(norms=lambda m, _: (m.num_layers + 1) * m.dim),
            "you counted one norm a layer: there is one before retention and one before the feed-forward",
        ),
        "no last norm": (
            _count_with(norms=lambda m, _: 2 * m.num_layers * m.dim),
            "you left out the norm before the head, one for the whole model",
        ),
        "a last norm in each layer": (
            _count_with(norms=lambda m, _: 3 * m.num_layers * m.dim),
            "you counted three norms a layer: each layer has two, and the whole model one more before the head",
        ),
        "norms with biases": (
            _count_with(norms=lambda m, right: 2 * right),
            "you gave each norm a weight and a bias: it has a weight of d numbers alone",
        ),
        "one norm in all": (
            _count_with(norms=lambda m, _: m.dim),
            "you counted one norm of the model alone: there are two in each layer and one before the head",
        ),
        "one layer": (
            _of_one_layer("retention", "ffn", "norms"),
            "you counted one layer: retention, feed-forward and two norms are in each of the layers",
        ),
        "retention of one layer": (
            _of_one_layer("retention"),
            "you counted the retention of one layer: each layer has its own five matrices",
        ),
        "the feed-forward of one layer": (
            _of_one_layer("ffn"),
            "you counted the feed-forward of one layer: each layer has its own",
        ),
        "a vocabulary in each layer": (
            _count_with(vocabulary=lambda m, right: right * m.num_layers),
            "you counted the embedding in each layer: the model has it once",
        ),
    },
)

FLOPS = problem(
    training_flops,
    ("parallel", "chunkwise"),
    visible={
        "one head, T = 4 in chunks of 2": (
            _training([4], [2]),
            "by hand: the weights give 60; 60 + 3.5 * 5 * 5 = 147.5 and 60 + 3.5 (3 * 5 + 4 * 6) = 196.5",
        ),
        "two layers of three heads": (
            _training([6, 20, 64], [3, 5, 32], weights=1000, num_layers=2, num_heads=3, key_dim=3, value_dim=7),
            "a token has (T + 1) / 2 scores on average, each 2 K operations to write and 2 V to use",
        ),
        "chunks as long as the sequence": (
            _training([5, 9], [5, 9], weights=7, num_layers=3, num_heads=2, key_dim=6, value_dim=4),
            "a chunk reads and writes the state even if it is the only one: 4 K V a token more than the parallel form",
        ),
        **keeps_arguments(_training([8, 6], [4, 2]), hint="build new arrays; *= and += write into the caller's"),
    },
    hidden={
        "chunks of one token": (
            _training([1, 10], [1, 1], weights=50, num_layers=2, num_heads=2, key_dim=4, value_dim=5),
            "try T = 1, and chunk_size = 1: each token then has one score, its own",
        ),
        "a model of real size": (
            _training(
                [2048, 65536], [64, 512], weights=1_300_000_000, num_layers=24, num_heads=8, key_dim=256, value_dim=512
            ),
            "try 1.3 billion weights at T = 65,536",
        ),
    },
    wrong_answers={
        "a multiply-add counted once": (
            lambda *arguments: tuple(each / 2 for each in training_flops(*arguments)),
            "both are half of what is asked: a multiplication and an addition count as two operations, not as one",
        ),
        "multiply-adds of the weights counted once": (
            _flops_with(matrices=lambda a: 3 * a.weights),
            "the weights count 6 times and not 3: each is multiplied and added, forwards once and backwards twice",
        ),
        "multiply-adds of retention counted once": (
            _flops_with(times=1.75),
            "in retention you counted a multiply-add as one: it is two operations there as well",
        ),
        "the forward pass alone": (
            _flops_with(matrices=lambda a: 2 * a.weights, times=1.0),
            "you counted the forward pass alone: training has the backward pass too",
        ),
        "the backward pass alone": (
            _flops_with(matrices=lambda a: 4 * a.weights, times=2.5),
            "you counted the backward pass alone: add the forward pass, once",
        ),
        "the weights forwards alone": (
            _flops_with(matrices=lambda a: 2 * a.weights),
            "you counted the weights in the forward pass alone: backwards they cost twice as much again, so 6 in all",
        ),
        "the weights backwards alone": (
            _flops_with(matrices=lambda a: 4 * a.weights),
            "you counted the weights in the backward pass alone: add the 2 operations of the forward pass, so 6 in all",
        ),
        "retention forwards alone": (
            _flops_with(times=1.0),
            "you counted retention in the forward pass alone: backwards it costs 2.5 times as much again",
        ),
        "retention backwards alone": (
            _flops_with(times=2.5),
            "you counted retention in the backward pass alone: forwards and backwards it is 1 + 2.5 times",
        ),
        "retention backwards like a matrix": (
            _flops_with(times=3.0),
            "you took 3 times the forward pass for retention: its backward pass costs 2.5 times, not twice, so 3.5 in all",
        ),
        "the weights backwards like retention": (
            _flops_with(matrices=lambda a: 7 * a.weights),
            "you took 3.5 times the forward pass for the weights: their backward pass costs twice, so 3 in all",
        ),
        "the weights like retention, counted once": (
            _flops_with(matrices=lambda a: 3.5 * a.weights),
            "you took 3.5 operations a weight: a weight is multiplied and added, 2 forwards and 4 backwards, 6 in all",
        ),
        "no weights": (
            _flops_with(matrices=lambda a: 0),
            "you left out the weights: each meets the token in a matrix product",
        ),
        "the weights in each layer": (
            _flops_with(matrices=_matrices_of_a_layer),
            "you multiplied weights by the layers: they are those of the whole model",
        ),
        "retention of one layer": (
            _flops_with(heads=lambda a: a.num_heads),
            "you counted the retention of one layer: each layer has its own",
        ),
        "one head": (
            _flops_with(heads=lambda a: a.num_layers),
            "you counted one head: each of the H heads has its own scores and state",
        ),
        "one head of one layer": (
            _flops_with(heads=lambda a: 1),
            "you counted one head of one layer: multiply by the heads and by the layers",
        ),
        "scores above the diagonal": (
            _flops_with(seen=lambda size: 2 * size),
            "you counted the whole square of scores: those with m > n are not computed, so a token has (T + 1) / 2",
        ),
        "half of the square": (
            _flops_with(seen=lambda size: size),
            "you took T / 2 scores a token: with the diagonal it is T (T + 1) / 2 in all, so (T + 1) / 2 a token",
        ),
        "no diagonal": (
            _flops_with(seen=lambda size: size - 1),
            "you left out the diagonal: a token has a score with itself too, so (T + 1) / 2 on average",
        ),
        "scores written and never used": (
            _flops_with(widths=lambda a: a.key_dim),
            "you counted the scores, 2 K each, but not their use: each multiplies a value, 2 V more",
        ),
        "scores used and never written": (
            _flops_with(widths=lambda a: a.value_dim),
            "you counted the use of the scores, 2 V each, but not their making: a product of q and k, 2 K more",
        ),
        "scores of the keys' width": (
            _flops_with(widths=lambda a: 2 * a.key_dim),
            "you took K for both products: a score multiplies a value, which has V numbers",
        ),
        "scores of the values' width": (
            _flops_with(widths=lambda a: 2 * a.value_dim),
            "you took V for both products: a score is a product of q and k, which have K numbers",
        ),
        "all scores in chunks": (
            _flops_with(in_chunk=lambda a: a.time + 1),
            "chunkwise has the scores of the whole sequence: a token has them with its own chunk alone, (C + 1) / 2",
        ),
        "the whole square in chunks": (
            _flops_with(in_chunk=lambda a: 2 * a.chunk_size),
            "chunkwise counts the whole square of a chunk: scores with m > n are not computed there either",
        ),
        "one score in chunks": (
            _flops_with(in_chunk=lambda a: 2 + 0 * a.chunk_size),
            "chunkwise has one score a token: inside its chunk a token has (C + 1) / 2",
        ),
        "no state": (
            _flops_with(cells=lambda a: 0),
            "chunkwise leaves out the state: each token reads it, 2 K V, and writes to it, 2 K V",
        ),
        "a state read or written": (
            _flops_with(cells=lambda a: 2 * a.key_dim * a.value_dim),
            "chunkwise counts the state once: each token reads it, 2 K V, and writes to it, 2 K V more",
        ),
        "the decay of the state": (
            _flops_with(cells=lambda a: 5 * a.key_dim * a.value_dim),
            "chunkwise has 5 K V for the state, as the recurrent form: decays do not count here, so 4 K V",
        ),
        "the state once a chunk": (
            _flops_with(cells=lambda a: 4 * a.key_dim * a.value_dim / a.chunk_size),
            "chunkwise divides the state's operations by C: every token reads it and writes to it",
        ),
        "a square state": (
            _flops_with(cells=lambda a: 4 * a.key_dim**2),
            "your state is K x K: it has K V numbers, keys by values",
        ),
        "a state in the parallel form": (
            _flops_with(parallel_cells=lambda a: 4 * a.key_dim * a.value_dim),
            "your parallel form has a state: it computes all through the scores, so 4 K V belongs to chunks alone",
        ),
        "of a whole sequence": (
            _of_a_sequence,
            "that is a whole sequence: divide by T, the question is what one token costs on average",
        ),
        **swaps(training_flops, "parallel", "chunkwise"),
    },
)

BYTES = problem(
    decode_bytes,
    ("retnet", "transformer"),
    visible={
        "one text, one layer, one head": (
            _decoding(0.0, 9.0, batch=1, num_layers=1, num_heads=2, key_dim=2, value_dim=3, head_dim=2),
            "by hand: weights 200; a state of 12 numbers, 4 bytes each, twice: 296; caches of 8 and 80 bytes: 208, 280",
        ),
        "two texts, three layers": (
            _decoding(5.0, 100.0, 1000.0),
            "the weights are read once for all texts; each text has its own state and cache in each layer",
        ),
        "a cache of 4 bits": (
            _decoding(7.0, 30.0, batch=3, num_heads=6, kv_heads=2, head_dim=5, bits=(8.0, 16.0, 4.0)),
            "8 bits are a byte: a number of 4 bits takes half a byte",
        ),
        **keeps_arguments(_decoding(3.0, 4.0), hint="build new arrays; /= and *= write into the caller's"),
    },
    hidden={
        "as many heads for keys as for queries": (
            _decoding(0.0, 12.0, batch=5, num_heads=3, key_dim=4, kv_heads=3, head_dim=7, bits=(4.0, 32.0, 8.0)),
            "try kv_heads = num_heads, and the first token: T = 0",
        ),
        "a model of real size": (
            _decoding(
                4096.0,
                batch=64,
                weights=1_300_000_000,
                num_layers=24,
                num_heads=16,
                key_dim=256,
                value_dim=512,
                kv_heads=2,
                head_dim=128,
                bits=(8.0, 32.0, 16.0),
            ),
            "try 64 texts of 4096 tokens with weights of 8 bits",
        ),
    },
    wrong_answers={
        "bits for bytes": (
            _bytes_with(of_bits=lambda bits: bits),
            "that is bits, eight times too many: a byte has 8 bits",
        ),
        "whole bytes": (
            _bytes_with(of_bits=lambda bits: bits // 8),
            "you divided bits by 8 with //, so numbers of 4 bits take no room: they take half a byte",
        ),
        "the weights' bits for all": (
            _bytes_with(of_bits=lambda bits: bits[[0, 0, 0]] / 8),
            "you took the bits of a weight for all: bits[1] is for the state, bits[2] for the cache",
        ),
        "bits of state and cache exchanged": (
            _bytes_with(of_bits=lambda bits: bits[[0, 2, 1]] / 8),
            "you exchanged bits: bits[1] is for the state, bits[2] for the cache",
        ),
        "the state's bits for the cache": (
            _bytes_with(of_bits=lambda bits: bits[[0, 1, 1]] / 8),
            "you took the bits of the state for the cache too: the cache has bits[2]",
        ),
        "the cache's bits for the state": (
            _bytes_with(of_bits=lambda bits: bits[[0, 2, 2]] / 8),
            "you took the bits of the cache for the state too: the state has bits[1]",
        ),
        "no weights": (
            _bytes_with(matrices=lambda a: 0),
            "you left out the weights: all of them are read for one token too",
        ),
        "the weights for each text": (
            _bytes_with(matrices=lambda a: a.batch * a.weights),
            "you read the weights for each text: one reading serves all texts, which is why texts are decoded side by side",
        ),
        "the weights in each layer": (
            _bytes_with(matrices=lambda a: a.num_layers * a.weights),
            "you multiplied the weights by the layers: they are those of the whole model",
        ),
        "one text": (
            _bytes_with(texts=lambda a: a.num_layers),
            "you counted one text: each of the B texts has its own state or cache",
        ),
        "one layer": (
            _bytes_with(texts=lambda a: a.batch),
            "you counted one layer: each layer has its own state or cache",
        ),
        "a state read and not written": (
            _bytes_with(state=lambda a: a.num_heads * a.key_dim * a.value_dim),
            "retnet moves the state once: it is read, and the new one is written",
        ),
        "a state of one head": (
            _bytes_with(state=lambda a: 2 * a.key_dim * a.value_dim),
            "retnet has the state of one head: each of the H heads has K V numbers",
        ),
        "a state of kv heads": (
            _bytes_with(state=lambda a: 2 * a.kv_heads * a.key_dim * a.value_dim),
            "retnet has states for kv_heads heads: grouping is the Transformer's, the RetNet has num_heads",
        ),
        "a square state": (
            _bytes_with(state=lambda a: 2 * a.num_heads * a.key_dim**2),
            "your state is K x K: it has K V numbers, keys by values",
        ),
        "keys and values for a state": (
            _bytes_with(state=lambda a: 2 * a.num_heads * (a.key_dim + a.value_dim)),
            "your state holds K + V numbers a head, as a cache does for a token: it is a matrix of K V numbers",
        ),
        "a state for each token": (
            _bytes_with(state=lambda a: 2 * a.num_heads * a.key_dim * a.value_dim * (a.time + 1)),
            "your state grows with the text: it has the same size at every token",
        ),
        "keys alone": (
            _bytes_with(cache=lambda a: (a.time + 1) * a.kv_heads * a.head_dim),
            "transformer has keys or values: the cache holds both",
        ),
        "a cache of query heads": (
            _bytes_with(cache=lambda a: (a.time + 1) * 2 * a.num_heads * a.head_dim),
            "transformer caches a key and a value for each query head: only kv_heads heads have them",
        ),
        "a cache of one head": (
            _bytes_with(cache=lambda a: (a.time + 1) * 2 * a.head_dim),
            "transformer caches one head: there are kv_heads of them",
        ),
        "a cache as wide as the state": (
            _bytes_with(cache=lambda a: (a.time + 1) * a.kv_heads * (a.key_dim + a.value_dim)),
            "transformer takes K and V for its widths: its keys and its values have head_dim numbers each",
        ),
        "the new token never written": (
            _bytes_with(cache=lambda a: a.time * 2 * a.kv_heads * a.head_dim),
            "transformer leaves out the new token: its key and value are written, so T + 1",
        ),
        "a cache read and written": (
            _bytes_with(cache=lambda a: 2 * (a.time + 1) * 2 * a.kv_heads * a.head_dim),
            "transformer moves the cache twice: it reads T tokens and writes the new one alone",
        ),
        "the new token read again": (
            _bytes_with(cache=lambda a: (a.time + 2) * 2 * a.kv_heads * a.head_dim),
            "transformer moves T + 2 tokens: the new key and value are at hand, they are written and not read",
        ),
        "a cache of one token": (
            _bytes_with(cache=lambda a: 2 * a.kv_heads * a.head_dim + 0 * a.time),
            "transformer moves one token: the new one is written, and all T before it are read",
        ),
        **swaps(decode_bytes, "retnet", "transformer"),
    },
)

CROSSING = problem(
    tokens_until_larger,
    ("tokens",),
    visible={
        "no prompt, one text: a tie at 16 tokens": (
            _crossing(0.0),
            "by hand: the state has 48 numbers of 32 bits, a token 6 of 16 bits: 16 tokens are as large, 17 larger",
            EXACT,
        ),
        "a prompt that three texts share": (
            _crossing(1.0, 10.0, 20.0, 29.0, batch=3, head_dim=5),
            "the prompt is in the cache once, each later token once for each of the three texts",
            EXACT,
        ),
        "a prompt longer than all states": (
            _crossing(3.0, 48.0, 49.0, 5000.0, batch=3),
            "if the prompt alone is larger than the states, T is 0: no number of tokens is negative",
            EXACT,
        ),
        "grouped heads, a cache of 8 bits": (
            _crossing(0.0, 7.0, 64.0, batch=2, num_heads=8, kv_heads=2, bits=(16.0, 8.0)),
            "the cache has kv_heads heads of keys and of values, the state all num_heads",
            EXACT,
        ),
        **keeps_arguments(_crossing(4.0, 5.0), hint="build new arrays; *= and -= write into the caller's"),
    },
    hidden={
        "a state smaller than a token": (
            _crossing(0.0, 1.0, num_heads=1, key_dim=2, value_dim=2, head_dim=64, bits=(8.0, 16.0)),
            "try a state smaller than the cache of one token: with no prompt the answer is 1",
            EXACT,
        ),
        "ties with a prompt": (
            _crossing(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, batch=4, num_heads=3, kv_heads=3, head_dim=4),
            "try four texts where for some prompts the two are equal: equal is not larger",
            EXACT,
        ),
        "models of real size": (
            _crossing(
                0.0, 4096.0, 100_000.0, batch=32, num_heads=16, key_dim=256, value_dim=512, kv_heads=4, head_dim=128
            ),
            "try 32 texts of a RetNet with 16 heads of 256 x 512",
            EXACT,
        ),
    },
    wrong_answers={
        "equal is larger": (
            _crossing_with(whole=lambda room, step: np.ceil(room / step)),
            "you stop where both are equal: the cache must be larger, so after a tie it takes one token more",
        ),
        "rounds down": (
            _crossing_with(whole=lambda room, step: room // step),
            "you rounded down: at that token the cache is not larger yet, it is with one more",
        ),
        "rounds to the nearest": (
            _crossing_with(whole=lambda room, step: np.round(room / step)),
            "you rounded to the nearest whole number: the least T with a larger cache is the next one above the quotient",
        ),
        "rounds up and adds one": (
            _crossing_with(whole=lambda room, step: np.ceil(room / step) + 1),
            "you rounded up and added 1: that is one too many unless there is a tie, floor + 1 is right for both",
        ),
        "not whole": (
            _crossing_with(whole=lambda room, step: room / step),
            "you returned the quotient: T is a whole number, the least one above it",
        ),
        "negative tokens": (
            _crossing_with(least=-np.inf),
            "your T is negative where the prompt alone is larger than the states: it is 0 there",
        ),
        "one token at least": (
            _crossing_with(least=1.0),
            "your T is at least 1: where the prompt alone is larger than the states, it is 0",
        ),
        "the prompt for each text": (
            _crossing_with(prompts=lambda a: a.batch * a.prompt),
            "you keep the prompt for each text, or compare one text alone: the cache holds the prompt once for all texts",
        ),
        "no prompt": (
            _crossing_with(prompts=lambda a: 0 * a.prompt),
            "you left out the prompt: its tokens are in the cache before the first T",
        ),
        "the prompt in T": (
            lambda prompt, *more: tokens_until_larger(prompt, *more) + prompt,
            "your T holds the prompt: it counts the tokens of one text after the prompt",
        ),
        "one state for all": (
            _crossing_with(batches=lambda a: (1, a.batch)),
            "you keep one state for all texts: after the prompt each has a state of its own",
        ),
        "one cache grows": (
            _crossing_with(batches=lambda a: (a.batch, 1)),
            "in your cache one text grows: each of the B texts adds its own tokens",
        ),
        "tokens of all texts": (
            lambda prompt, batch, *more: tokens_until_larger(prompt, batch, *more) * batch,
            "you counted the tokens of all texts: T is that of one text",
        ),
        "keys alone": (
            _crossing_with(token=lambda a: a.kv_heads * a.head_dim),
            "your state is twice too large for the cache: count keys and values in the cache, and the state once",
        ),
        "a cache of query heads": (
            _crossing_with(token=lambda a: 2 * a.num_heads * a.head_dim),
            "you gave state and cache as many heads: the state has num_heads of them, the cache only kv_heads",
        ),
        "a cache of one head": (
            _crossing_with(token=lambda a: 2 * a.head_dim),
            "you cached one head: there are kv_heads of them",
        ),
        "a state of one head": (
            _crossing_with(state=lambda a: a.key_dim * a.value_dim),
            "your state is that of one head: each of the H heads has K V numbers",
        ),
        **counts_other_numbers(_crossing_with),
    },
)

EXERCISE = Exercise("ex09", "Parameters, operations and bytes", (PARAMETERS, FLOPS, BYTES, CROSSING))
