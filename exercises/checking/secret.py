"""Hidden inputs that only the lecturer knows. Those of the repository can be read by every student who finds it."""

import functools
import hashlib
import os
from dataclasses import replace

import numpy as np

from ..answers.inputs import small_numbers

VARIABLE = "EXERCISES_SECRET"
SHORTEST = 16  # characters: results.json holds a hash of the inputs, against which short secrets could be tried


def given():
    """Return the text in the environment variable `VARIABLE`, "" if it is not set; ValueError if it is shorter than 16 characters."""
    secret = os.environ.get(VARIABLE, "")
    if 0 < len(secret) < SHORTEST:
        raise ValueError(f"{VARIABLE} must hold at least {SHORTEST} characters, got {len(secret)}")
    return secret


def with_secret(exercise):
    """Return the `Exercise` with its hidden inputs varied by the secret that is `given`, or as it is if there is none."""
    secret = given()
    return varied(exercise, secret) if secret else exercise


@functools.cache
def varied(exercise, secret):
    """Return the `Exercise` with other numbers in its hidden checks, the same ones for the same `secret` (a text).

    Shapes, dtypes, None and whole numbers stay, because a check tests what its name says. So checks of whole numbers alone,
    such as a number of heads, do not vary.
    """
    problems = (
        replace(problem, checks=tuple(_varied(exercise, problem, check, secret) for check in problem.checks))
        for problem in exercise.problems
    )
    return replace(exercise, problems=tuple(problems))


def _varied(exercise, problem, check, secret):
    if not check.hidden:
        return check
    place = "\0".join((secret, exercise.name, problem.function, check.name))
    random = np.random.default_rng(list(hashlib.sha256(place.encode()).digest()))
    return replace(check, inputs={name: _other(value, random) for name, value in check.inputs.items()})


def _other(value, random):
    """Return small numbers drawn anew, others to a power just below 1, and whole numbers and None as they are.

    A power keeps signs, and decays and shares where they were: between 0 and 1, and near whichever they were near.
    """
    if value is None or isinstance(value, int) or np.all(value == np.round(value)):
        return value
    tenths = 10 * np.asarray(value)
    # With signs and beyond 1 they are no decays, angles or shares, so any of `small_numbers` may stand there.
    small = (
        np.allclose(tenths, np.round(tenths), atol=1e-5) and np.abs(tenths).min() > 0 and np.abs(tenths).max() < 19.5
    )
    if isinstance(value, np.ndarray) and small and tenths.min() < 0 and np.abs(tenths).max() > 10:
        return small_numbers(random, *value.shape, dtype=value.dtype)
    other = np.sign(value) * np.abs(value) ** random.uniform(0.9, 1.0)
    return other.astype(value.dtype) if isinstance(value, np.ndarray) else float(other)
