"""Exercise 5 against the tables of the package, and what overflow looks like to a learner."""

import numpy as np
import pytest

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


# What overflows gives inf or NaN. NaN equals nothing, not even itself, so this mistake is no named wrong
# answer: instead the one visible check that it fails must explain it.


def _table(time):
    return np.subtract.outer(np.arange(time), np.arange(time))


OVERFLOWING_MASKS = {
    "masks after the power": lambda gamma, time: gamma[:, None, None] ** _table(time) * (_table(time) >= 0),
    "takes the power apart": lambda gamma, time: np.tril(
        gamma[:, None, None] ** np.arange(time)[:, None] * gamma[:, None, None] ** -np.arange(time)
    ),
    "divides the powers": lambda gamma, time: np.tril(
        gamma[:, None, None] ** np.arange(time)[:, None] / gamma[:, None, None] ** np.arange(time)
    ),
}


def taken_apart(gamma, start, stop):
    rows = gamma ** np.arange(start, stop)[:, None] * gamma ** -np.arange(0.0, stop)
    return np.where(np.subtract.outer(np.arange(start, stop), np.arange(stop)) >= 0, rows, 0)


EXPLAINED = [
    *(("decay_mask", one, "90 tokens at gamma = 1/10000", "inf * 0 is NaN") for one in OVERFLOWING_MASKS.values()),
    ("mask_rows", taken_apart, "the last two of 3,000 tokens at gamma = 1/2", "take one power, of n - m"),
]


@pytest.mark.parametrize(("name", "function", "fails", "hint"), EXPLAINED, ids=[*OVERFLOWING_MASKS, "rows"])
def test_overflow_fails_the_visible_check_that_explains_it(name, function, fails, hint, capsys):
    exec(f"check('ex05', '{name}')", {"check": check, name: function})
    report = " ".join(capsys.readouterr().out.split())
    assert report.count("FAIL") == 1
    assert f"FAIL {fails}" in report
    assert hint in report


def test_those_masks_and_rows_do_overflow():
    with np.errstate(all="ignore"):
        wrong = [one(np.array([1e-4]), 90) for one in OVERFLOWING_MASKS.values()]
        assert not any(np.isfinite(one).all() for one in [*wrong, taken_apart(0.5, 2998, 3000)])
