"""The exercise that `python -m exercises new` writes: small and complete; change it a line at a time (WRITING.md)."""

import numpy as np

from ..checking.core import Exercise, problem
from .recurring import float32_arrays, keeps_arguments

# Solutions.


def fading_sums(x, gamma):
    """y_n = gamma y_(n-1) + x_n from y_0 = 0: x (T,) -> y (T,)."""
    y, last = np.zeros(x.shape), 0.0
    for n in range(len(x)):
        last = y[n] = gamma * last + x[n]
    return y


# Wrong answers, each one change away from the solution.


def _fades_the_new_number(x, gamma):
    return gamma * fading_sums(x, gamma)


def _leaves_the_new_number_out(x, gamma):
    return np.append(0.0, gamma * fading_sums(x, gamma)[:-1])[: len(x)]


FADING_SUMS = problem(
    fading_sums,
    ("y",),
    visible={
        "three ones at gamma = 1/2": (
            {"x": np.ones(3), "gamma": 0.5},
            "by hand: 1, then 1/2 + 1 = 3/2, then 3/4 + 1 = 7/4",
        ),
        "numbers of either sign": (
            {"x": np.array([0.3, -1.2, 0.5, 2.0]), "gamma": 0.9},
            "the sum so far fades by gamma, and then the new number is added",
        ),
        "no number at all (T = 0)": ({"x": np.zeros(0), "gamma": 0.5}, "there is nothing to add: y has shape (0,)"),
        **keeps_arguments({"x": np.array([1.0, 2.0]), "gamma": 0.5}),
    },
    hidden={
        "nothing fades": (
            {"x": np.array([1.5, -2.0, 4.0]), "gamma": 1.0},
            "gamma = 1 is allowed: then it is a plain sum",
        ),
        **float32_arrays({"x": np.array([0.5, 0.25, 3.0], dtype=np.float32), "gamma": 0.5}),
    },
    wrong_answers={
        "forgets the decay": (
            lambda x, gamma: fading_sums(x, 1.0),
            "you forgot the decay: multiply the sum so far by gamma",
        ),
        "fades the new number": (
            _fades_the_new_number,
            "you multiplied the new number by gamma too: only the sum so far fades",
        ),
        "leaves the new number out": (
            _leaves_the_new_number_out,
            "your y[n] holds the numbers before n alone: add x[n] first",
        ),
        "does not fade what it hands on": (
            lambda x, gamma: np.append(x[:1], x[1:] + gamma * x[:-1]),
            "you added only the number before: hand the whole sum on",
        ),
    },
)

EXERCISE = Exercise("ex00", "A new exercise", (FADING_SUMS,))
