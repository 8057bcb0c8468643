"""Power laws: fits of exact laws, intervals that hold the truth as often as they say, and crossings of known place."""

import numpy as np
import pytest

from gpu.evidence.laws import PowerLaw, crossing, drawn_deviations, draws, fit, quantiles, seed_deviation

SIZES = np.array([2e6, 4.6e6, 10e6, 20e6, 45e6])


@pytest.mark.parametrize("law", [PowerLaw(0.6, 30.0, 0.3), PowerLaw(0.0, 5.0, 0.08), PowerLaw(1.5, 200.0, 0.5)])
def test_an_exact_law_is_found_again(law):
    found = fit(SIZES, law(SIZES))
    np.testing.assert_allclose(found(SIZES), law(SIZES), rtol=2e-4)
    assert found.exponent == pytest.approx(law.exponent, rel=0.02, abs=0.01)
    assert found(1e9) == pytest.approx(float(law(1e9)), rel=0.02)


def test_without_a_floor_there_is_none_and_a_law_never_rises():
    law = fit(SIZES, PowerLaw(0.0, 5.0, 0.08)(SIZES), floor=False)
    assert law.floor == 0
    assert law.exponent == pytest.approx(0.08, rel=0.01)
    rising = fit(SIZES, [1.0, 1.1, 1.2, 1.3, 1.4])
    assert rising.scale == 0
    assert rising.floor == pytest.approx(1.2)


def test_many_rows_are_fitted_as_each_alone():
    rows = np.stack([PowerLaw(0.6, 30.0, 0.3)(SIZES), PowerLaw(0.2, 9.0, 0.15)(SIZES)])
    both = fit(SIZES, rows)
    for i, row in enumerate(rows):
        for part, alone in zip(both, fit(SIZES, row), strict=True):
            assert part[i] == pytest.approx(float(alone))


def drawn(losses, count, seed=0):
    """Means drawn again, where all sizes share one deviation."""
    return draws(losses, drawn_deviations([losses], count, seed), seed + 1)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Two hundred studies of known law and noise: the 90 % interval of the loss at 40 M parameters holds it in most."""
    law, noise, rng, held = PowerLaw(0.0, 8.0, 0.12), 0.01, np.random.default_rng(5), 0
    for study in range(200):
        losses = [
            (law(x) + noise * rng.standard_normal(n)).tolist() for x, n in zip(SIZES, (3, 3, 2, 2, 2), strict=True)
        ]
        laws = fit(SIZES, drawn(losses, 200, seed=study), floor=False)
        low, _, high = quantiles(laws(4e7))
        held += low <= law(4e7) <= high
    assert 0.83 < held / 200 < 0.97


def test_intervals_hold_the_truth_where_small_models_differ_most():
    """The gap of two models at the last size, whose seeds differ fifty times less than those of the first size."""
    noise, rng, held, widths = (0.2, 0.03, 0.01, 0.004), np.random.default_rng(6), 0, []
    for study in range(400):
        pair = [
            [(x * rng.standard_normal(n)).tolist() for x, n in zip(noise, (3, 3, 2, 2), strict=True)] for _ in range(2)
        ]
        deviations = drawn_deviations(list(zip(*pair, strict=True)), 400, seed=study)
        one, two = (draws(losses, deviations, seed) for seed, losses in enumerate(pair))
        low, _, high = quantiles((one - two)[:, -1])
        held += low <= 0 <= high
        widths.append(high - low)
    assert 0.86 < held / 400 < 0.94
    assert np.median(widths) < 0.03  # one deviation for all sizes gave 0.3


def test_the_spread_of_seeds_is_pooled():
    assert seed_deviation([[1.0, 3.0], [5.0], [2.0, 2.0]]) == (1.0, 2)
    with pytest.raises(ValueError, match="losses must have two seeds or more at one size at least"):
        seed_deviation([[1.0], [2.0]])
    found = drawn([[1.0, 1.2], [3.0]], 20000)
    np.testing.assert_allclose(np.median(found, axis=0), [1.1, 3.0], atol=0.01)
    assert np.median(np.abs(found[:, 1] - 3.0)) == pytest.approx(np.sqrt(0.02), rel=0.05)  # its median is 1


def test_intervals_from_a_single_pair_of_seeds_hold_the_truth_as_often_as_they_say():
    """The deviation is one unknown number: with one of its own for each mean, the intervals were twice as wide."""
    rng, held = np.random.default_rng(7), 0
    for study in range(600):
        losses = [rng.standard_normal(n).tolist() for n in (2, 1, 1, 1, 1, 1)]
        low, _, high = quantiles(drawn(losses, 400, seed=study) @ [1, 1, 1, -1, -1, -1])
        held += low <= 0 <= high
    assert 0.86 < held / 600 < 0.94


def test_a_point_of_great_weight_is_met():
    law, weights = PowerLaw(0.6, 30.0, 0.3), np.array([1.0, 1.0, 1.0, 1e4, 1e4])
    losses = law(SIZES) + np.array([0.1, -0.1, 0.05, 0.0, 0.0])
    for floor in (True, False):
        off = np.abs(fit(SIZES, losses, weights=weights, floor=floor)(SIZES) - losses)
        assert off[3:].max() < 0.005 < off[:3].max()
    assert fit(SIZES, losses, weights=np.full(5, 7.0)) == fit(SIZES, losses)


def test_the_last_crossing_within_the_range_is_found():
    slow, fast = PowerLaw(0.0, 2.0, 0.25), PowerLaw(0.0, 4.0, 0.5)  # equal at 16
    assert crossing(slow, fast, 1.0, 1000.0) == pytest.approx(16, rel=1e-3)
    assert np.isnan(crossing(slow, fast, 17.0, 1000.0)).all()
    assert np.isnan(crossing(slow, slow, 1.0, 1000.0)).all()
    pair = PowerLaw(np.zeros(2), np.array([4.0, 2.0]), np.array([0.5, 0.25]))
    where = crossing(pair, PowerLaw(np.zeros(2), np.full(2, 2.0), np.full(2, 0.25)), 1.0, 100.0)
    assert where[0] == pytest.approx(16, rel=1e-3)
    assert np.isnan(where[1])
    with pytest.raises(ValueError, match=r"low and high must be positive and in this order, got 5\.0"):
        crossing(slow, fast, 5.0, 5.0)
    assert quantiles([1.0, np.nan, 3.0]) == pytest.approx([1.1, 2.0, 2.9])
    assert quantiles([np.nan]) == [None, None, None]


@pytest.mark.parametrize(
    ("x", "losses", "message"),
    [
        ([1.0, 2.0], [1.0, 1.0], "x must hold at least 3 different positive numbers, got "),
        ([1.0, 2.0, -3.0], [1.0, 1.0, 1.0], "x must hold at least 3 different positive numbers, got "),
        ([1.0, 2.0, 3.0], [1.0, 1.0], "losses must have 3 numbers in the last axis, as x has, got shape "),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, losses, message):
    with pytest.raises(ValueError, match=message):
        fit(x, losses)
    for weights in ([1.0, 1.0], [1.0, 0.0, 1.0]):
        with pytest.raises(ValueError, match="weights must hold 3 positive numbers, one for each x, got "):
            fit([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], weights=weights)
