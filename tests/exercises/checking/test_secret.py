"""Hidden inputs under a lecturer's secret: other numbers in the same checks, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest

from exercises import exercise_names, load
from exercises.checking.key import answer_key
from exercises.checking.secret import VARIABLE, varied

SECRETS = ("the first of two secrets", "another one, as long")


def pairs(one, other):
    return [
        (problem.function, before, after)
        for problem, changed in zip(one.problems, other.problems, strict=True)
        for before, after in zip(problem.checks, changed.checks, strict=True)
    ]


def hidden_alone(exercise):
    """The exercise without its visible checks, which no secret changes, and which other tests run."""
    problems = (replace(one, checks=tuple(check for check in one.checks if check.hidden)) for one in exercise.problems)
    return replace(exercise, problems=tuple(problems))


def same(before, after):
    return all(np.array_equal(value, after.inputs[name]) for name, value in before.inputs.items() if value is not None)


def test_a_secret_varies_hidden_inputs_and_no_other():
    stay, hidden = 0, 0
    for name in exercise_names():
        for _, before, after in pairs(load(name), varied(load(name), SECRETS[0])):
            assert after is before or before.hidden
            assert list(after.inputs) == list(before.inputs)
            for argument, value in before.inputs.items():
                other = after.inputs[argument]
                assert type(other) is type(value)
                assert np.shape(other) == np.shape(value)
                if isinstance(value, np.ndarray):
                    assert other.dtype == value.dtype
            stay, hidden = stay + (before.hidden and same(before, after)), hidden + before.hidden
    assert stay < hidden / 3  # those that ask for whole numbers alone


def test_the_same_secret_gives_the_same_inputs_and_another_gives_others():
    first, again = varied.__wrapped__(load("ex01"), SECRETS[0]), varied.__wrapped__(load("ex01"), SECRETS[0])
    assert all(same(one, two) for _, one, two in pairs(first, again))
    other = varied(load("ex01"), SECRETS[1])
    assert not any(same(one, two) for _, one, two in pairs(first, other) if one.hidden)


@pytest.mark.parametrize("name", exercise_names())
def test_checks_still_find_what_they_are_for(name):
    """Solutions give finite answers, and of the mistakes that a hidden check finds at most one in twenty escapes it."""
    plain, secret = (answer_key(hidden_alone(one)) for one in (load(name), varied(load(name), SECRETS[0])))
    found = escaped = 0
    for problem, changed in zip(plain.problems, secret.problems, strict=True):
        for before, after in zip(problem.answers, changed.answers, strict=True):
            assert not after.wanted.failure
            assert all(np.isfinite(array).all() for array in after.wanted.outputs)
            names = [{mistake[0] for mistake in one.mistakes} for one in (before, after)]
            found, escaped = found + len(names[0]), escaped + len(names[0] - names[1])
            assert bool(names[0]) == bool(names[1])
    assert escaped <= found / 20


def test_the_secret_comes_from_the_environment(monkeypatch):
    plain = load("ex01")
    monkeypatch.setenv(VARIABLE, SECRETS[0])
    assert load("ex01") is load("ex01") is varied(plain, SECRETS[0])
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(ValueError, match="EXERCISES_SECRET must hold at least 16 characters, got 5"):
        load("ex01")
