"""Exercise 7 against the package, exact arithmetic and a measurement."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from exercises import check
from exercises.answers.ex07 import MILLION, forgotten_shares, head_gammas, recall_shares, recall_snr
from refimpl import head_decays, retention_parallel, retention_recurrent


@pytest.mark.parametrize("num_heads", [1, 2, 5, 8, 32])
def test_schedules_are_those_of_the_package(num_heads):
    released, paper = head_gammas(num_heads)
    np.testing.assert_array_equal(released, head_decays(num_heads, "released"))
    np.testing.assert_allclose(paper, head_decays(num_heads, "paper"), rtol=1e-15)


@pytest.mark.parametrize("half_life", [0.5, 1.0, 7.25, 1e3, 1e6, 1e12])
def test_a_half_life_is_right_to_the_last_digits(half_life):
    with localcontext(prec=50):
        wanted = 1 - Decimal("0.5") ** (1 / Decimal(half_life))
    np.testing.assert_allclose(forgotten_shares(np.array([half_life])), [float(wanted)], rtol=1e-15)


def test_half_of_a_token_is_left_in_the_state_of_the_package():
    half_life = np.array([1.0, 5.0, 40.0])
    gamma = 1 - forgotten_shares(half_life)
    for head, steps in enumerate(half_life.astype(int)):
        one = np.zeros((1, 3, steps + 1, 1))
        one[:, :, 0] = 1.0  # a single token, then nothing
        state = retention_parallel(one, one, one, gamma)[1]
        assert state[0, head, 0, 0] == pytest.approx(0.5, rel=1e-12)


def test_shares_are_those_measured_in_a_read_of_the_package():
    # With keys and values of its own for each token, out[l] is what the token at lag l adds to the newest output.
    gamma, lag, time = head_decays(3), np.array([0.0, 12.0, 39.0]), 40
    share, best = recall_shares(gamma, lag, time)
    tokens = np.broadcast_to(np.eye(time), (1, 3, time, time))
    out = retention_parallel(np.ones_like(tokens), tokens, tokens, gamma)[0][0, :, -1, ::-1]
    wanted = (out**2 / (out**2).sum(axis=-1, keepdims=True)).T[lag.astype(int)]
    np.testing.assert_allclose(share, wanted, rtol=1e-12)
    np.testing.assert_array_equal(best, [gamma[row.argmax()] for row in wanted])


def test_random_keys_add_in_power():
    random, gamma, time, lag = np.random.default_rng(0), 0.875, 24, 6
    keys = random.standard_normal((20_000, time))  # what a query reads of each key, up to the weight
    read = keys * gamma ** np.arange(time)
    measured = (read[:, lag] ** 2).mean() / (read.sum(axis=1) ** 2).mean()
    share, _ = recall_shares(np.array([gamma]), np.array([float(lag)]), time)
    assert measured == pytest.approx(share[0, 0], rel=0.05)


@pytest.mark.parametrize("lag", [1, 10, 100])
def test_the_best_gamma_that_the_notebook_quotes(lag):
    best = np.sqrt(lag / (lag + 1))
    gammas = np.sort(np.append(1 - 2.0 ** np.linspace(-12, -1, 1001), best))
    _, chosen = recall_shares(gammas, np.array([float(lag)]), 60 * (lag + 1))
    assert chosen[0] == best
    assert 1 / (1 - best) == pytest.approx(2 * lag + 1.5, abs=0.1)


ROUNDED = {
    "a power of 1/2": lambda half_life: 1 - 0.5 ** (1 / half_life),
    "a power of 2": lambda half_life: 1 - 2.0 ** (-1 / half_life),
    "exp": lambda half_life: 1 - np.exp(-np.log(2) / half_life),
    "exp2": lambda half_life: 1 - np.exp2(-1 / half_life),
    "exp of log": lambda half_life: 1 - np.exp(np.log(0.5) / half_life),
}


@pytest.mark.parametrize("function", ROUNDED.values(), ids=ROUNDED)
def test_a_rounded_gamma_fails_a_visible_check_by_name(function, capsys):
    exec("check('ex07', 'forgotten_shares')", {"check": check, "forgotten_shares": function})
    report = " ".join(capsys.readouterr().out.split())
    assert report.count("FAIL") == 1
    assert "FAIL a half-life of about a million tokens you formed gamma, which is rounded" in report
    assert abs(MILLION - 1e6) < 1e4


def _draw(texts, time=64, key_dim=16, value_dim=8):
    random = np.random.default_rng(texts)
    keys = random.normal(size=(texts, time, key_dim))
    values = random.choice([-1.0, 1.0], (texts, time, value_dim))
    return random.uniform(0.5, 2.0, time), keys / np.linalg.norm(keys, axis=2, keepdims=True), values


@pytest.mark.parametrize("gamma", [15 / 16, 1.0])
def test_the_measured_ratio_is_the_predicted_one(gamma):
    lag = np.array([0.0, 5.0, 20.0, 63.0])
    predicted, measured = recall_snr(gamma, lag, *_draw(100))
    np.testing.assert_allclose(measured, predicted, rtol=0.1)


def test_the_noise_is_that_of_a_state_of_the_package():
    strength, keys, values = _draw(3)
    written = values * strength[:, None]
    state = retention_recurrent(keys[:, None], keys[:, None], written[:, None], np.array([0.9]))[1][:, 0]
    noise = np.einsum("rk,rkv->rv", keys[:, 63 - 4], state) - 0.9**4 * written[:, 63 - 4]
    measured = recall_snr(0.9, np.array([4.0]), strength, keys, values)[1]
    np.testing.assert_allclose(measured, [0.9**4 * strength[63 - 4] / np.sqrt(np.mean(noise**2))], rtol=1e-12)


def test_equal_strengths_give_the_ratio_of_the_shares():
    lag = np.array([0.0, 5.0, 20.0, 63.0])
    _, keys, values = _draw(1)
    share = recall_shares(np.array([0.9]), lag, 64)[0][:, 0]
    predicted = recall_snr(0.9, lag, np.full(64, 0.7), keys, values)[0]
    np.testing.assert_allclose(predicted, np.sqrt(16 * share / (1 - share)), rtol=1e-12)


# What a mistake is told, in several ways to make it.


def _released(num_heads):
    return head_gammas(num_heads)[0]


LOGSPACES = {
    "paper": (lambda H: (_released(H), 1 - np.logspace(-5, -9, H)), "for powers of 2 add base=2"),
    "paper of log2": (lambda H: (_released(H), 1 - np.logspace(*np.log2([1 / 32, 1 / 512]), H)), "add base=2"),
    "released": (lambda H: (1 - np.logspace(-5, -4 - H, H), head_gammas(H)[1]), "your released schedule takes powers"),
    "both": (lambda H: (1 - np.logspace(-5, -4 - H, H), 1 - np.logspace(-5, -9, H)), "both your schedules take powers"),
    "what is forgotten": (lambda H: (_released(H), np.logspace(-5, -9, H)), "powers of 10 that are forgotten"),
    "base e": (lambda H: (_released(H), 1 - np.logspace(-5, -9, H, base=np.e)), "you mixed two bases"),
    "log in base 2": (
        lambda H: (_released(H), 1 - np.logspace(*np.log([1 / 32, 1 / 512]), H, base=2)),
        "you raised 2 to natural logarithms",
    ),
}


@pytest.mark.parametrize(("function", "told"), LOGSPACES.values(), ids=LOGSPACES)
def test_a_logspace_of_the_wrong_base_is_named(function, told, capsys):
    exec("check('ex07', 'head_gammas')", {"check": check, "head_gammas": function})
    report = " ".join(capsys.readouterr().out.split())
    assert report.count("FAIL") == 4
    assert told in report
    assert "wanted" not in report


def _token_by_token(keys, values, left):
    return sum(left[t] * keys[:, t].T @ values[:, t] for t in range(len(left)))


STATES = {
    "weights on the values": (lambda keys, values, left: keys.T @ (values * left), "keys.T reverses all three axes"),
    "weights on the keys": (lambda keys, values, left: (keys * left).T @ values, "keys.T reverses all three axes"),
    "weights on keys.T": (lambda keys, values, left: keys.T * left.T[0] @ values, "keys.T is (K, T, R)"),
    "weights on keys.T, down": (lambda keys, values, left: keys.T * left @ values, "keys.T reverses all three axes"),
    "np.transpose": (lambda keys, values, left: np.transpose(keys) @ (values * left), "keys.T reverses all three axes"),
    "a loop": (_token_by_token, "the sum over all texts"),
}


@pytest.mark.parametrize(("state_of", "told"), STATES.values(), ids=STATES)
def test_keys_transposed_with_their_texts_are_named(state_of, told, capsys):
    def recall_snr_of_student(gamma, lag, strength, keys, values):
        left = strength * gamma ** np.arange(len(strength) - 1.0, -1, -1)
        asked = len(strength) - 1 - lag.astype(int)
        noise = keys[:, asked] @ state_of(keys, values, left[:, None]) - left[asked, None] * values[:, asked]
        measured = left[asked] / np.sqrt(np.mean(noise**2, axis=(0, 2)))
        return recall_snr(gamma, lag, strength, keys, values)[0], measured

    exec("check('ex07', 'recall_snr')", {"check": check, "recall_snr": recall_snr_of_student})
    report = " ".join(capsys.readouterr().out.split())
    assert "FAIL" in report
    assert told in report
    assert not any(word in report for word in ("raised", "wanted", "Hint"))


def _shares(power_of_one, best=None):
    def recall_shares_of_student(gamma, lag, time):
        share = gamma ** (power_of_one * lag[:, None]) / np.sum(gamma ** (2 * np.arange(time)[:, None]), axis=0)
        return share, best(gamma, lag) if best else gamma[share.argmax(axis=1)]

    return recall_shares_of_student


def _nearest(gamma, lag):
    return gamma[np.argmin(np.abs(gamma - np.sqrt(lag / (lag + 1))[:, None]), axis=1)]


def _ratios(index=lambda lag, time: time - 1 - lag, noise_of=None, axes=(0, 2)):
    def ratios(gamma, lag, strength, keys, values):
        time, key_dim = keys.shape[1:]
        age = np.arange(time)[::-1]
        left, asked = strength * gamma**age, index(lag.astype(int), time)
        signal = left[asked]
        others = noise_of(strength, gamma ** (2 * age), signal, asked) if noise_of else (left**2).sum() - signal**2
        noise = (
            keys[:, asked] @ (np.swapaxes(keys, 1, 2) @ (values * left[:, None])) - signal[:, None] * values[:, asked]
        )
        return signal * np.sqrt(key_dim / others), signal / np.sqrt(np.mean(noise**2, axis=axes))

    return ratios


WRONG = {
    "2 ** (-5 - h)": (
        "head_gammas",
        lambda H: (1 - 2 ** (-5 - np.arange(H)), head_gammas(H)[1]),
        "NumPy refuses negative powers of integers",
    ),
    "half the exponent": (
        "forgotten_shares",
        lambda half_life: -np.expm1(np.log(0.5) / (2 * half_life)),
        "your half-life is twice as long",
    ),
    "a numerator that is not squared": ("recall_shares", _shares(1), "what you divide by it is the weight gamma^lag"),
    "the nearest gamma": ("recall_shares", _shares(2, _nearest), "best is the gamma nearest to sqrt(L / (L + 1))"),
    "(T - L) % T": ("recall_snr", _ratios(lambda lag, time: (time - lag) % time), "wraps round to the oldest token"),
    "-L": ("recall_snr", _ratios(lambda lag, time: -lag), "wraps round to the oldest token"),
    "a strength not squared": (
        "recall_snr",
        _ratios(noise_of=lambda a, power, signal, asked: (a * power).sum() - (a * power)[asked]),
        "predicted does not square the strength in its noise",
    ),
    "a strength not squared in the sum": (
        "recall_snr",
        _ratios(noise_of=lambda a, power, signal, asked: (a * power).sum() - signal**2),
        "predicted sums strength times gamma^(2 lag)",
    ),
    "axes 1 and 2": ("recall_snr", _ratios(axes=(1, 2)), "measured takes its mean over lags and entries"),
}


@pytest.mark.parametrize(("name", "function", "told"), WRONG.values(), ids=WRONG)
def test_a_mistake_of_students_is_named(name, function, told, capsys):
    exec(f"check('ex07', '{name}')", {"check": check, name: function})
    report = " ".join(capsys.readouterr().out.split())
    assert told in report
    assert not any(word in report for word in ("raised", "wanted", "Hint"))
