"""Exercise 5 against the tables of the package, and what overflow looks like to a learner."""

from decimal import Decimal, localcontext
from itertools import pairwise

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
def test_rows_of_one_document_are_those_of_the_package(gamma, start, stop):
    wanted = decay_mask(np.array([gamma]), stop, rows=slice(start, stop))[0]
    np.testing.assert_allclose(ex05.mask_rows(gamma, np.zeros(1), start, stop), wanted, rtol=1e-14)


@pytest.mark.parametrize("begins", [(0,), (0, 3), (0, 0, 4, 4, 9), (0, 1, 2, 12, 30)])
def test_rows_of_documents_are_blocks_on_the_diagonal(begins):
    whole = np.zeros((12, 12))
    for first, last in pairwise((*begins, 12)):
        part = slice(first, min(last, 12))
        whole[part, part] = decay_mask(np.array([0.75]), len(range(12)[part]))[0]
    for start, stop in (0, 12), (2, 7), (5, 6), (9, 9):
        rows = ex05.mask_rows(0.75, np.array(begins, dtype=float), start, stop)
        np.testing.assert_allclose(rows, whole[start:stop, :stop], rtol=1e-14)


@pytest.mark.parametrize("time", [1, 2, 40, 100_000])
@pytest.mark.parametrize("forgotten", [0.99, 0.5, 1 / 32, 1e-6, 1e-12])
@pytest.mark.parametrize("eps", [0.5, 1e-3, 1e-12])
def test_lifetime_is_right_to_twelve_digits(forgotten, eps, time):
    with localcontext(prec=60):
        gamma, share = 1 - Decimal(forgotten), Decimal(eps)
        wanted = (share + (1 - share) * gamma**time).ln() / gamma.ln()
        np.testing.assert_allclose(ex05.lifetime(np.array([forgotten]), eps, time), [float(wanted)], rtol=1e-12)


def test_the_newest_tokens_carry_all_but_eps_of_a_row_of_the_package():
    row = decay_mask(np.array([31 / 32]), 200, rows=slice(199, 200))[0, 0, ::-1]
    (newest,) = ex05.lifetime(np.array([1 / 32]), 0.01, 200)
    assert row[: int(newest)].sum() < 0.99 * row.sum() < row[: int(newest) + 1].sum()


def test_lifetime_in_a_long_text_is_the_first_token_that_may_be_skipped():
    whole = np.ceil(ex05.lifetime(2.0 ** -np.arange(5.0, 13.0), 1e-7, 10**9)).astype(int)
    gamma = head_decays(8)
    assert np.all(gamma**whole < 1e-7)
    assert np.all(gamma ** (whole - 1) >= 1e-7)
    assert whole[[0, 1, 2, 3, 7]].tolist() == [508, 1024, 2056, 4119, 66012]  # the table of lesson 5


def test_lifetime_of_a_float32_head_whose_gamma_rounds_to_1():
    forgotten = np.array([2.0**-29], dtype=np.float32)
    assert 1 - forgotten == 1
    np.testing.assert_allclose(ex05.lifetime(forgotten, 0.5, 10**11), np.log(2) * 2.0**29, rtol=1e-6)
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


def taken_apart(gamma, begins, start, stop):
    rows = gamma ** np.arange(start, stop)[:, None] * gamma ** -np.arange(0.0, stop)
    return np.where(ex05.mask_rows(1.0, begins, start, stop) > 0, rows, 0)


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
    gamma[time // 2 :: 3] = 0.0  # such a token forgets all before it
    state, outs = 0.0, np.zeros(v.shape)
    for n in range(time):
        state = gamma[n] * state + np.outer(k[n], v[n])
        outs[n] = q[n] @ state
    assert_close((q @ k.T * ex05.token_mask(gamma)) @ v, outs)
    assert_close(ex05.token_mask(np.full(time, 0.75)), decay_mask(np.array([0.75]), time)[0])


# What a mistake is told, in several ways to make it.

CLOSED = {
    "a power": (
        lambda x, eps, T: np.log(eps + (1 - eps) * (1 - x) ** T) / np.log1p(-x),
        ["you took a power of 1 - forgotten"],
    ),
    "a sum, one logarithm": (
        lambda x, eps, T: np.log(eps + (1 - eps) * np.exp(T * np.log1p(-x))) / np.log1p(-x),
        ["where gamma^j is near 1 its logarithm has lost digits"],
    ),
    "a difference, one logarithm": (
        lambda x, eps, T: np.log(1 - (1 - eps) * (1 - np.exp(T * np.log1p(-x)))) / np.log1p(-x),
        ["where gamma^j is near 1 its logarithm has lost digits", "where gamma^j is near 0, 1 less that number"],
    ),
    "log1p alone": (
        lambda x, eps, T: np.log1p((1 - eps) * np.expm1(T * np.log1p(-x))) / np.log1p(-x),
        ["where gamma^j is near 0, 1 less that number"],
    ),
    "gamma": (
        lambda x, eps, T: np.log(eps + (1 - eps) * (1 - x) ** T) / np.log(1 - x),
        ["where gamma^j is near 1 its logarithm has lost digits", "you formed 1 - forgotten"],
    ),
    "the newest": (
        lambda x, eps, T: (
            np.where(
                eps * -np.expm1(T * np.log1p(-x)) > 0.5,
                np.log((1 - eps) + eps * np.exp(T * np.log1p(-x))),
                np.log1p(eps * np.expm1(T * np.log1p(-x))),
            )
            / np.log1p(-x)
        ),
        ["your j newest tokens carry the share eps"],
    ),
    "the newest, one logarithm": (
        lambda x, eps, T: np.log(1 - eps * (1 - np.exp(T * np.log1p(-x)))) / np.log1p(-x),
        ["two mistakes: your j newest carry the share eps"],
    ),
    "endless": (lambda x, eps, T: np.log(eps) / np.log1p(-x), ["you solved gamma^j = eps, as for an endless past"]),
}


@pytest.mark.parametrize(("function", "told"), CLOSED.values(), ids=CLOSED)
def test_lost_digits_of_a_lifetime_are_named(function, told, capsys):
    report = report_of("lifetime", function, capsys)
    assert all(line in report for line in told)
    assert "wanted" not in report


@pytest.mark.parametrize("least", [np.finfo(float).tiny, 1e-300, 1e-30, 1e-12])
@pytest.mark.parametrize("combine", [np.maximum, np.add])
@pytest.mark.parametrize("ones", [False, True])
def test_a_floor_under_the_quotient_is_named(ones, combine, least, capsys):
    def token_mask(gamma):
        with np.errstate(all="raise", under="ignore"):
            products = np.cumprod(gamma)
            mask = np.tril(products[:, None] / combine(products, least)[None])
            return np.where(np.eye(len(gamma)), 1.0, mask) if ones else mask

    report = report_of("token_mask", token_mask, capsys)
    assert ("you mended the diagonal" if ones else "you put a floor under the quotient") in report
    assert "wanted" not in report


@pytest.mark.parametrize("least", [5e-324, 1e-300, 1e-100, 1e-30, 1e-15])
def test_a_floor_under_the_logarithm_fails_a_visible_check(least, capsys):
    def token_mask(gamma):
        sums = np.cumsum(np.log(np.maximum(gamma, least)))
        return np.tril(np.exp(np.tril(sums[:, None] - sums)))

    report = report_of("token_mask", token_mask, capsys)
    assert report.count("FAIL") == 1
    assert "FAIL 60 tokens, 20 of them with the decay 0" in report
    assert ("your sum of logarithms grows" in report) or "those of a running sum of logarithms do" in report


def test_sums_of_logarithms_between_zeros_are_right(capsys):
    def token_mask(gamma):
        zeros, sums = np.cumsum(gamma == 0), np.cumsum(np.log(np.where(gamma == 0, 1.0, gamma)))
        return np.where(zeros[:, None] == zeros, np.tril(np.exp(np.tril(sums[:, None] - sums))), 0.0)

    assert "FAIL" not in report_of("token_mask", token_mask, capsys)


def _seen_by(n, m, begins):
    document = np.searchsorted(begins, m, side="right")
    return (n[:, None] >= m) & (np.searchsorted(begins, n, side="right")[:, None] == document)


def _whole_mask_first(gamma, begins, start, stop):
    m = np.arange(stop)
    visible = _seen_by(m, m, begins)
    return np.where(visible, gamma ** np.where(visible, m[:, None] - m, 0), 0.0)[start:]


def _whole_lag_first(gamma, begins, start, stop):
    m = np.arange(stop)
    lag, visible = (m[:, None] - m)[start:], _seen_by(m[start:], m, begins)
    return np.where(visible, gamma ** np.where(visible, lag, 0), 0.0)


def _lag_from_0(gamma, begins, start, stop):
    n, m, document = np.arange(stop - start), np.arange(stop), np.searchsorted(begins, np.arange(stop), side="right")
    visible = (n[:, None] >= m) & (document[start:, None] == document)
    return np.where(visible, gamma ** np.where(visible, n[:, None] - m, 0), 0.0)


def _document_from_0(gamma, begins, start, stop):
    n, m = np.arange(start, stop), np.arange(stop)
    document = [np.searchsorted(begins, one, side="right") for one in (n - start, m)]
    visible = (n[:, None] >= m) & (document[0][:, None] == document[1])
    return np.where(visible, gamma ** np.where(visible, n[:, None] - m, 0), 0.0)


def _not_causal(gamma, begins, start, stop):
    n, m = np.arange(start, stop), np.arange(stop)
    document = [np.searchsorted(begins, one, side="right") for one in (n, m)]
    return np.where(document[0][:, None] == document[1], gamma ** abs(n[:, None] - m), 0.0)


ROWS = {
    "the whole mask": (_whole_mask_first, "you made more than your rows, such as the whole (stop, stop) mask"),
    "the whole table of lags": (_whole_lag_first, "you made more than your rows, such as the whole (stop, stop) mask"),
    "a lag from 0": (_lag_from_0, "in n - m you numbered the rows from 0"),
    "documents from 0": (_document_from_0, "you took the documents of rows numbered from 0"),
    "not causal": (_not_causal, "inside a document your mask fades towards the future"),
}


@pytest.mark.parametrize(("function", "told"), ROWS.values(), ids=ROWS)
def test_wrong_rows_are_named(function, told, capsys):
    report = report_of("mask_rows", function, capsys)
    assert told in report
    assert not any(word in report for word in ("wanted", "raised", "Hint", "np.tril"))


def test_a_float32_mask_is_named(capsys):
    def mask(gamma, time):
        lag = np.maximum(_table(time), 0).astype(np.float32)
        return np.tril(np.exp(np.log(gamma.astype(np.float32))[:, None, None] * lag))

    report = report_of("decay_mask", mask, capsys)
    assert "your numbers are float32" in report
    assert "wanted" not in report


DOCUMENTS = {
    "all": (lambda begins, n, m: n >= m, "your rows see tokens of other documents"),
    "side='left'": (
        lambda begins, n, m: (n >= m) & (np.searchsorted(begins, n) == np.searchsorted(begins, m)),
        "the first token of your documents belongs to the document before",
    ),
    "of the first row": (
        lambda begins, n, m: (n >= m) & (m >= begins[begins <= n[0, 0]].max()),
        "you took the document of token start for all rows",
    ),
}


@pytest.mark.parametrize(("sees", "told"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_that_are_mixed_up_are_named(sees, told, capsys):
    def mask_rows(gamma, begins, start, stop):
        n, m = np.arange(start, stop)[:, None], np.arange(stop)[None]
        if start == stop:
            return np.zeros((0, stop))
        visible = sees(begins, n, m)
        return np.where(visible, gamma ** np.where(visible, n - m, 0), 0.0)

    report = report_of("mask_rows", mask_rows, capsys)
    assert told in report
    assert "wanted" not in report
