"""Tasks that ask a model to remember: recall, copying, selective copying, induction. Answers are known, so accuracy is.

Each is a function (generator, number of sequences, *, length, pairs, vocab_size) -> inputs, targets, both (B, length) int64.
A target is the token that the model should give after reading the input at its place, or `IGNORED` where nothing is asked.
Every sequence of a batch asks for the same number of answers, so the mean over parts of a batch is the mean over the batch.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..checks import check_choice, check_integer

IGNORED = -1  # the target where nothing is asked
POWER = 0.01  # of the gaps of `recall`, in the published runs


def recall(rng, batch_size, *, length, pairs, vocab_size, power=POWER, noise=False):
    """Multi-query associative recall (arXiv:2312.04927): pairs of key and value, then every key once more.

    A sequence starts with key, value, key, value ...; keys and values are drawn without repetition from the lower and the
    upper half of the vocabulary (token 0 is no key). Then each key is asked for once, in gaps of 2 r tokens after the
    pairs, where r = 1, 2, ... is drawn without repetition with weights r^(power - 1); power 1 makes them even. The target
    at the key is its value; the token after the key is no answer.

    The published runs take a vocabulary of 8,192, power 0.01, token 0 elsewhere, and (length, pairs) = (64, 4), (128, 8),
    (256, 16) and (512, 64). Those of arXiv:2402.18668 mix (64, 4), (128, 8) and 16, 32 and 64 pairs in a length of 256, with
    random tokens elsewhere. noise: such random tokens. Settings are those of the authors' code, github.com/HazyResearch/zoology.

    Raises:
        TypeError, ValueError: length is odd or below 4 pairs, or half of the vocabulary is not larger than pairs.

    >>> inputs, targets = recall(np.random.default_rng(0), 1, length=8, pairs=2, vocab_size=12)
    >>> inputs, targets
    (array([[4, 9, 3, 7, 4, 0, 3, 0]]), array([[-1, -1, -1, -1,  9, -1,  7, -1]]))
    """
    check_sizes("recall", batch_size, length=length, pairs=pairs, vocab_size=vocab_size)
    half, places = vocab_size // 2, length // 2 - pairs
    keys = 1 + distinct(rng, batch_size, pairs, half - 1)
    values = half + distinct(rng, batch_size, pairs, vocab_size - half)
    # The largest of log weight + Gumbel noise are a draw without repetition, in its order.
    weights = (power - 1) * np.log(np.arange(1, places + 1))
    gaps = np.argsort(weights + rng.gumbel(size=(batch_size, places)), axis=1)[:, : -pairs - 1 : -1]
    inputs = rng.integers(0, vocab_size, (batch_size, length)) if noise else np.zeros((batch_size, length), np.int64)
    inputs[:, : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
    targets = np.full((batch_size, length), IGNORED)
    np.put_along_axis(inputs, 2 * (pairs + gaps), keys, axis=1)
    np.put_along_axis(targets, 2 * (pairs + gaps), values, axis=1)
    return inputs, targets


def copying(rng, batch_size, *, length, pairs, vocab_size):
    """Copying: `pairs` tokens, blanks, then a marker in whose places they are to be given back in order.

    As in arXiv:1511.06464 (10 tokens of 8 kinds, a blank and a marker: a vocabulary of 10; a length of 120 to 520), with a
    marker in every place of an answer, as in the code of S4, github.com/state-spaces/s4. A pair is a place and its token. Blank
    is token 0, the marker the last. In the copying of arXiv:2402.01032 strings of 26 letters and of varied length are given
    back at once after one marker, and a model reads its answer so far, by which it may find its place; here it reads none.

    Raises:
        TypeError, ValueError: length is below 2 pairs, or the vocabulary below 4.

    >>> copying(np.random.default_rng(0), 1, length=6, pairs=2, vocab_size=10)
    (array([[7, 6, 0, 0, 9, 9]]), array([[-1, -1, -1, -1,  7,  6]]))
    """
    check_sizes("copying", batch_size, length=length, pairs=pairs, vocab_size=vocab_size)
    return _copied(rng, np.tile(np.arange(pairs), (batch_size, 1)), length, vocab_size)


def selective_copying(rng, batch_size, *, length, pairs, vocab_size):
    """Copying where the tokens stand at random places among the blanks, in the same order (arXiv:2312.00752).

    There 16 tokens among 4,096 places, a vocabulary of 16 with the blank, and, as in the code of S4, with the marker (Appendix
    E.1); here length counts the answers too.

    Raises:
        TypeError, ValueError: as `copying`.

    >>> selective_copying(np.random.default_rng(1), 1, length=7, pairs=2, vocab_size=10)
    (array([[0, 0, 7, 0, 4, 9, 9]]), array([[-1, -1, -1, -1, -1,  7,  4]]))
    """
    check_sizes("selective_copying", batch_size, length=length, pairs=pairs, vocab_size=vocab_size)
    return _copied(rng, np.sort(distinct(rng, batch_size, pairs, length - pairs), axis=1), length, vocab_size)


def _copied(rng, places, length, vocab_size):
    batch_size, pairs = places.shape
    tokens = rng.integers(1, vocab_size - 1, (batch_size, pairs))
    inputs, targets = np.zeros((batch_size, length), np.int64), np.full((batch_size, length), IGNORED)
    np.put_along_axis(inputs, places, tokens, axis=1)
    inputs[:, length - pairs :], targets[:, length - pairs :] = vocab_size - 1, tokens
    return inputs, targets


def induction(rng, batch_size, *, length, pairs=1, vocab_size):
    """Induction heads (arXiv:2212.14052, 2312.00752): which token followed the special one, which ends the sequence?

    All other tokens are random; the special one is the last of the vocabulary and stands there once before. The runs of
    2312.00752 take a vocabulary of 16, train at length 256 and test at lengths of 64 to 2^20.

    Raises:
        TypeError, ValueError: length is below 3, pairs is not 1, or the vocabulary below 3.

    >>> induction(np.random.default_rng(0), 1, length=6, vocab_size=10)
    (array([[9, 5, 4, 2, 2, 9]]), array([[-1, -1, -1, -1, -1,  5]]))
    """
    check_sizes("induction", batch_size, length=length, pairs=pairs, vocab_size=vocab_size)
    inputs, targets = rng.integers(0, vocab_size - 1, (batch_size, length)), np.full((batch_size, length), IGNORED)
    rows, places = np.arange(batch_size), rng.integers(0, length - 2, batch_size)
    inputs[rows, places] = inputs[:, -1] = vocab_size - 1
    targets[:, -1] = inputs[rows, places + 1]
    return inputs, targets


def distinct(rng, rows, count, choices):
    """`count` different integers of [0, choices) in each row, (rows, count); every such row is equally likely."""
    if choices <= 16 * count:
        return np.argsort(rng.random((rows, choices)), axis=1)[:, :count]
    drawn, again = np.empty((rows, count), np.int64), np.arange(rows)
    while again.size:  # rows that hold a number twice are drawn anew, which sorting thousands of choices would not beat
        drawn[again] = rng.integers(0, choices, (again.size, count))
        ordered = np.sort(drawn[again], axis=1)
        again = again[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
    return drawn


class Task(NamedTuple):
    """A task. small: sizes at which a run takes about a minute on two cores; full: those of the published runs.

    draw: the function. shortest: the least length for so many pairs. least: the smallest vocabulary for so many pairs.
    answers: how many different tokens an answer can be, for a vocabulary, so 1 / answers is the accuracy of chance.
    usual: the length of the published runs for so many pairs, where they have one; a run's window shortens it.
    """

    draw: Callable
    shortest: Callable
    least: Callable
    answers: Callable
    small: dict
    full: dict
    usual: Callable = lambda pairs: math.inf


TASKS = {
    "recall": Task(
        recall, lambda pairs: 4 * pairs, lambda pairs: 2 * pairs + 2, lambda vocab_size: vocab_size - vocab_size // 2,
        small={"window": 32, "pairs": (4, 8), "vocab_size": 64},
        full={"window": 256, "pairs": (4, 8, 16, 32, 64), "vocab_size": 8192}, usual=lambda pairs: 16 * pairs,
    ),
    "copying": Task(
        copying, lambda pairs: 2 * pairs, lambda pairs: 4, lambda vocab_size: vocab_size - 2,
        small={"window": 32, "pairs": (10,), "vocab_size": 10},
        full={"window": 520, "pairs": (10,), "vocab_size": 10},
    ),
    "selective_copying": Task(
        selective_copying, lambda pairs: 2 * pairs, lambda pairs: 4, lambda vocab_size: vocab_size - 2,
        small={"window": 32, "pairs": (4,), "vocab_size": 16},
        full={"window": 4112, "pairs": (16,), "vocab_size": 16},
    ),
    "induction": Task(
        induction, lambda pairs: 3, lambda pairs: 3, lambda vocab_size: vocab_size - 1,
        small={"window": 32, "pairs": (1,), "vocab_size": 16},
        full={"window": 256, "pairs": (1,), "vocab_size": 16},
    ),
}  # fmt: skip


def check_sizes(task, batch_size=1, *, length, pairs, vocab_size, names=("length", "pairs", "vocab_size")):
    """Require sizes at which a task can be asked; names: what messages call them."""
    kind, (length_name, pairs_name, vocabulary_name) = TASKS[check_choice("task", task, TASKS)], names
    check_integer("batch_size", batch_size, minimum=1)
    pairs = check_integer(pairs_name, pairs, minimum=1)
    for name, value, least in (
        (length_name, length, kind.shortest(pairs)),
        (vocabulary_name, vocab_size, kind.least(pairs)),
    ):
        if check_integer(name, value, minimum=1) < least:
            raise ValueError(f"{name} must be at least {least} for {task} of {pairs_name} = {pairs}, got {value}")
    if task == "recall" and length % 2:
        raise ValueError(f"{length_name} must be even for recall, whose questions stand at even places, got {length}")
    if task == "induction" and pairs != 1:
        raise ValueError(f"{pairs_name} must be 1 for induction, which asks for one token, got {pairs}")
