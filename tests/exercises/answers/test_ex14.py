"""Exercise 14 against loops, other fits, the laws of the package, and what its notebook says."""

import numpy as np
import pytest

from exercises.answers.ex14 import (
    ABLATION,
    CROSSING,
    GAP,
    PAST,
    RECALL,
    ablation,
    exact_recall,
    gap_verdict,
    late_gain,
    overtaking,
)
from gpu.evidence.laws import PowerLaw, crossing


def of(problem):
    return [one.inputs for one in problem.checks if not one.keeps_inputs]


@pytest.mark.parametrize("inputs", of(GAP))
def test_gaps_are_those_of_a_loop(inputs):
    ours, theirs, chance, level = inputs.values()
    redrawn = []
    for row in chance:
        mine = [ours[int(u * len(ours))] for u in row[: len(ours)]]
        other = [theirs[int(u * len(theirs))] for u in row[len(ours) :]]
        redrawn.append(np.mean(mine) - np.mean(other))
    gap, low, high, verdict = gap_verdict(*inputs.values())
    assert gap == pytest.approx(np.mean(ours) - np.mean(theirs))
    tail = (1 - level) / 2
    np.testing.assert_allclose([low, high], np.quantile(redrawn, [tail, 1 - tail]))
    assert verdict == (1 if high < 0 else -1 if low > 0 else 0)


def test_a_bootstrap_covers_the_true_gap_about_as_often_as_it_says():
    random, hits = np.random.default_rng(0), 0
    for _ in range(200):
        ours, theirs = random.normal(0, 1, 20), random.normal(0.5, 1, 20)
        _, low, high, _ = gap_verdict(ours, theirs, random.random((400, 40)), 0.9)
        hits += low < -0.5 < high
    assert 160 < hits < 195


@pytest.mark.parametrize("inputs", of(CROSSING))
def test_crossings_are_those_of_the_laws(inputs):
    x, ours, theirs, far = inputs.values()
    laws = []
    for rows in (ours, theirs):
        fits = [np.linalg.lstsq(np.vander(np.log(x), 2), np.log(row), rcond=None)[0] for row in rows]
        slope, start = np.array(fits).T
        laws.append(PowerLaw(np.zeros(len(rows)), np.exp(start), -slope))
    where = crossing(*laws, x[-1], far, points=4000)
    ahead = laws[0](x[-1]) > laws[1](x[-1])  # a crossing the other way round is none
    found = where[~np.isnan(where) & ahead]
    (share, *sizes), missed = overtaking(x, ours, theirs, far)
    assert share == pytest.approx(len(found) / len(ours))
    np.testing.assert_allclose(sizes, np.quantile(found / x[-1], [0.05, 0.5, 0.95]) if len(found) else 0, rtol=1e-5)
    for got, rows in zip(missed, (ours, theirs), strict=True):
        told = [np.exp(np.polyval(np.polyfit(np.log(x[:-1]), np.log(row[:-1]), 1), np.log(x[-1]))) for row in rows]
        assert got == pytest.approx(np.mean(rows[:, -1]) - np.mean(told), abs=1e-12)


@pytest.mark.parametrize("inputs", of(RECALL))
def test_no_other_query_brings_back_more(inputs):
    keys, weights = inputs.values()
    right, (kept, verdict) = exact_recall(keys, weights)
    written = weights[:, None] * keys
    for j, share in enumerate(right):
        query, *_ = np.linalg.lstsq(written, np.eye(len(keys))[j], rcond=None)
        least = np.sum((written @ query - np.eye(len(keys))[j]) ** 2)
        assert share == pytest.approx(1 - least, abs=1e-9)
    assert right.sum() == pytest.approx(np.linalg.matrix_rank(written))
    assert kept == np.sum(right > 1 - 1e-9)
    assert verdict == (1 if kept == len(keys) else 0 if kept else -1)


def test_random_keys_share_the_rank_as_the_lesson_says():
    keys = np.random.default_rng(0).normal(size=(32, 16))
    right, _ = exact_recall(keys, np.ones(32))
    assert right.mean() == pytest.approx(16 / 32)


@pytest.mark.parametrize("inputs", of(ABLATION))
def test_ablations_are_those_of_a_loop(inputs):
    losses, parameters, slope = inputs.values()
    for i, (harm, error, verdict) in enumerate(zip(*ablation(*inputs.values()), strict=True), start=1):
        corrected = [row[i] - row[0] - slope * np.log2(parameters[i] / parameters[0]) for row in losses]
        assert harm == pytest.approx(np.mean(corrected), abs=1e-12)
        assert error == pytest.approx(np.std(corrected, ddof=1) / len(losses) ** 0.5)
        assert verdict == (1 if harm > 2 * error else -1 if harm < -2 * error else 0)


@pytest.mark.parametrize("inputs", of(PAST))
def test_gains_are_those_of_a_loop(inputs):
    losses, documents, start, middle = inputs.values()
    by_document = {}
    for row, document in zip(losses, documents, strict=True):
        by_document.setdefault(document, []).append(row[start:middle].mean() - row[middle:].mean())
    each = [np.mean(gains) for gains in by_document.values()]
    gain, error, verdict = late_gain(*inputs.values())
    assert gain == pytest.approx(np.mean(each), abs=1e-12)
    assert error == pytest.approx(np.std(each, ddof=1) / len(each) ** 0.5)
    assert verdict == (1 if gain > 2 * error else -1 if gain < -2 * error else 0)


def test_the_answer_at_the_end_is_right():
    losses = np.repeat([[3.0, 0.0], [1.0, 0.0]], 4, axis=0)  # gains 3 and 1
    documents = np.repeat([0.0, 1.0], 4)
    error, naive = (late_gain(losses, each, 0, 1)[1] for each in (documents, np.arange(8.0)))
    assert error / naive == pytest.approx(7**0.5)
