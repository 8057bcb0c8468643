"""Exercise 5 against the tables of the package, and what overflow looks like to a learner."""

import numpy as np
import pytest
from one_head import assert_close, draw

from exercises import check
from exercises.answers import ex05
from refimpl import decay_mask, head_decays

GAMMA = np.array([1e-4, 0.5, 0.97, 1.0])


@pytest.mark.parametrize("time", [0, 1, 2, 150])
def test_mask_is_that_of_the_package(time):
    np.testing.assert_allclose(ex05.decay_mask(GAMMA, time), decay_mask(GAMMA, time), rtol=1e-14)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 7), (3, 3), (5, 9), (148, 150)])
@pytest.mark.parametrize("gamma", GAMMA.tolist())
def test_rows_are_those_of_the_package(gamma, start, stop):
    wanted = decay_mask(np.array([gamma]), stop, rows=slice(start, stop))[0]
    np.testing.assert_allclose(ex05.mask_rows(gamma, start, stop), wanted, rtol=1e-14)


def test_lifetime_is_that_of_the_logarithms_of_the_package():
    forgotten = 2.0 ** -np.arange(5.0, 65.0)
    wanted = np.log(1e-7) / head_decays(60, log=True)
    np.testing.assert_allclose(ex05.lifetime(forgotten, 1e-7), wanted, rtol=1e-14)


def test_lifetime_is_the_first_token_that_may_be_skipped():
    whole = np.ceil(ex05.lifetime(2.0 ** -np.arange(5.0, 13.0), 1e-7)).astype(int)
    gamma = head_decays(8)
    assert np.all(gamma**whole < 1e-7)
    assert np.all(gamma ** (whole - 1) >= 1e-7)
    assert whole[[0, 1, 2, 3, 7]].tolist() == [508, 1024, 2056, 4119, 66012]


def test_lifetime_of_a_float32_head_whose_gamma_rounds_to_1():
    forgotten = np.array([2.0**-29], dtype=np.float32)
    assert 1 - forgotten == 1
    np.testing.assert_allclose(ex05.lifetime(forgotten, 0.5), np.log(2) * 2.0**29, rtol=1e-6)
    assert round(np.log(2) * 2**29 / 1e6) == 372  # as the notebook says


# What overflows is an error, inside the `with` of the stub and outside it, even where the mask hides the inf.


def _table(time):
    return np.subtract.outer(np.arange(time), np.arange(time))


POWER = "your power overflows, because an exponent is negative"
EXPONENTIAL = "your np.exp overflows, because n - m is negative above the diagonal"
DIVIDED = "1e-6 ** -59 overflows: take one power of n - m"
OVERFLOWING_MASKS = {
    "times the mask": (lambda gamma, time: gamma[:, None, None] ** _table(time) * (_table(time) >= 0), POWER),
    "np.tril": (lambda gamma, time: np.tril(gamma[:, None, None] ** _table(time)), POWER),
    "np.where": (lambda gamma, time: np.where(_table(time) >= 0, gamma[:, None, None] ** _table(time), 0.0), POWER),
    "np.exp": (lambda gamma, time: np.tril(np.exp(_table(time) * np.log(gamma[:, None, None]))), EXPONENTIAL),
    "takes the power apart": (
        lambda gamma, time: np.tril(
            gamma[:, None, None] ** np.arange(time)[:, None] * gamma[:, None, None] ** -np.arange(time)
        ),
        POWER,
    ),
    "divides the powers": (
        lambda gamma, time: np.tril(
            gamma[:, None, None] ** np.arange(time)[:, None] / gamma[:, None, None] ** np.arange(time)
        ),
        DIVIDED,
    ),
}


def taken_apart(gamma, start, stop):
    rows = gamma ** np.arange(start, stop)[:, None] * gamma ** -np.arange(0.0, stop)
    return np.where(np.subtract.outer(np.arange(start, stop), np.arange(stop)) >= 0, rows, 0)


def report_of(name, function, capsys):
    exec(f"check('ex05', '{name}')", {"check": check, name: function})
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("function", "told"), OVERFLOWING_MASKS.values(), ids=OVERFLOWING_MASKS)
def test_a_mask_that_overflows_fails_the_visible_check_that_explains_it(function, told, capsys):
    report = report_of("decay_mask", function, capsys)
    assert report.count("FAIL") == 1
    assert "FAIL 60 tokens at gamma = 1e-6" in report
    assert told in report
    assert ("Hint" in report) == (told is DIVIDED), "the other mistakes have a name"


@pytest.mark.parametrize("function", [one for one, _ in OVERFLOWING_MASKS.values()], ids=OVERFLOWING_MASKS)
def test_a_mask_that_overflows_is_named_inside_the_with_of_the_stub(function, capsys):
    def decay_mask(gamma, time):
        with np.errstate(all="raise", under="ignore"):
            return function(gamma, time)

    report = report_of("decay_mask", decay_mask, capsys)
    assert report.count("FAIL") == 1
    assert "FAIL 60 tokens at gamma = 1e-6" in report
    assert "Hint" not in report, "the mistake has a name"


def test_rows_that_overflow_are_named(capsys):
    report = report_of("mask_rows", taken_apart, capsys)
    assert report.count("FAIL") == 2
    assert f"FAIL the last two of 1,200 tokens at gamma = 1/2 {POWER}" in report


def test_a_mask_of_minus_infinity_is_named(capsys):
    report = report_of("decay_mask", lambda *a: np.where(_table(a[1]) >= 0, ex05.decay_mask(*a), -np.inf), capsys)
    assert "you filled the future with -inf, as before a softmax" in report


@pytest.mark.parametrize("time", [0, 1, 7])
def test_a_decay_for_each_token_is_a_recurrence(time):
    q, k, v, *_ = draw(time)
    gamma = np.random.default_rng(time).uniform(0.1, 1.0, time)
    state, outs = 0.0, np.zeros(v.shape)
    for n in range(time):
        state = gamma[n] * state + np.outer(k[n], v[n])
        outs[n] = q[n] @ state
    assert_close((q @ k.T * ex05.token_mask(gamma)) @ v, outs)
    assert_close(ex05.token_mask(np.full(time, 0.75)), decay_mask(np.array([0.75]), time)[0])
