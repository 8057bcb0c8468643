"""The picture among noise: what the heads read is what a retention leaves of it, and equal heads have no best."""

import re

import numpy as np
import pytest
from explorables import Scales
from explorables.node import ask, compute

from refimpl import head_decays, retention_chunkwise

START = {"power": 7, "fastest": 5, "step": 7, "width": 10}
SETTINGS = [
    {},
    {"power": 2, "fastest": 3, "step": 0, "width": 4},
    {"power": 13, "fastest": 10, "step": 7, "width": 12},
    {"power": 5.25, "step": 4},
    {"power": 11, "step": 0, "width": 8},
    {"power": 2.75, "fastest": 9, "step": 1},
]
DATA = Scales.course_data()


def share(gamma, lag):
    """Of a lag in the sum of the squared weights of an endless text; the sum is (1 - gamma^2)^-1."""
    return gamma ** (2 * lag) * (1 - gamma) * (1 + gamma)


def snr(gamma, lag, key_width):
    return np.sqrt(key_width * share(gamma, lag) / (1 - share(gamma, lag)))


@pytest.mark.parametrize("values", SETTINGS, ids=str)
def test_numbers_are_those_of_numpy(values):
    power, fastest, step, width = (START | values).values()
    lag, key_width = round(2**power), 2**width
    gamma = 1 - 2.0 ** -(fastest + step * np.arange(8) / 7)
    signal, picture = gamma**lag, np.array(DATA["picture"])
    noise = np.sqrt((1 / (1 - gamma**2) - signal**2) / key_width)
    reads = (signal[:, None] * picture + noise[:, None] * DATA["noise"]) / np.hypot(signal, noise)[:, None]
    lags = 2 ** (np.arange(13 * 16 + 1) / 16)
    curves = snr(gamma[:, None], lags, key_width) / snr(np.sqrt(lags / (lags + 1)), lags, key_width)
    ratios = snr(gamma, lag, key_width)
    want = {
        "lag": lag,
        "key_width": key_width,
        "windows": 1 / (1 - gamma),
        "snr": ratios,
        "reads": reads,
        "lags": lags,
        "curves": curves,
        "best": np.flatnonzero(np.isclose(ratios, ratios.max(), rtol=1e-9, atol=0)),
        "right": (np.sign(reads) == picture).sum(axis=1),
        "possible": snr(np.sqrt(lag / (lag + 1)), lag, key_width),
        "best_window": 1 / (1 - np.sqrt(lag / (lag + 1))),
        "covered": (curves.max(axis=0) >= 0.9).sum() / 16,
    }
    (got,) = compute(Scales, values)
    assert got.keys() == want.keys()
    for name, value in want.items():  # 1 - gamma has lost digits here where gamma is close to 1
        np.testing.assert_allclose(got[name], value, rtol=1e-10, atol=1e-12, err_msg=name)


def test_decays_are_those_of_both_schedules():
    for step, schedule in ((7, "released"), (4, "paper")):
        (got,) = compute(Scales, {"step": step})
        np.testing.assert_allclose(1 - 1 / np.array(got["windows"]), head_decays(8, schedule), rtol=0, atol=1e-15)


def test_a_retention_reads_with_that_ratio():
    """Random keys of width 16, the first key read again; each head within 15 % of what the picture says."""
    rng, time, lag, key_width = np.random.default_rng(0), 600, 16, 16
    gamma = 1 - 2.0 ** -(3 + np.arange(4.0))
    k = rng.normal(size=(40, 4, time, key_width))
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    v = np.broadcast_to(rng.choice([-1.0, 1.0], size=(40, 1, time, 64)), (40, 4, time, 64))
    state = retention_chunkwise(k, k, v, gamma)[1]
    read, signal = (k[:, :, -1 - lag, None] @ state)[:, :, 0], gamma**lag
    noise = np.sqrt(np.mean((read - signal[:, None] * v[:, :, -1 - lag]) ** 2, axis=(0, 2)))
    (got,) = compute(Scales, {"power": 4, "fastest": 3, "step": 7, "width": 4})
    np.testing.assert_allclose(signal / noise, got["snr"][:4], rtol=0.15)


def test_the_best_head_is_the_one_with_a_window_of_about_twice_the_lag():
    powers = [4, 5, 6, 7, 8, 9, 10, 11]
    for got in compute(Scales, *({"power": power} for power in powers)):
        (best,) = got["best"]
        assert got["windows"][best] == 2 * got["lag"]
        assert got["best_window"] == pytest.approx(2 * got["lag"] + 1.5, abs=0.1)
        assert got["snr"][best] > 0.99 * got["possible"]
    alone, paper, released = (got["covered"] for got in compute(Scales, {"step": 0}, {"step": 4}, {"step": 7}))
    assert (alone, paper, released) == pytest.approx((1.9, 5.9, 8.9), abs=0.1)


def test_no_head_is_best_among_equals():
    (got,) = compute(Scales, {"power": 11, "step": 0})
    assert got["best"] == list(range(8))
    assert len(set(got["snr"])) == 1
    (drawn,) = ask("scales", [{"what": "picture", "values": {"power": 11, "step": 0}, "data": DATA}])
    assert "best<" not in drawn["svg"]
    assert not re.search(r"\de[-\N{MINUS SIGN}]", drawn["words"] + drawn["svg"]), "the numbers of 1e-28 are none"
    assert "< 0.01" in drawn["words"]
