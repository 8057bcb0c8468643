"""Spikes of a training loss: planted ones are counted, and noise or a falling loss is none."""

import numpy as np

from gpu.training.stability import BEFORE, stability


def log_of(losses, norms=None):
    norms = np.ones(len(losses)) if norms is None else norms
    return [{"training": float(loss), "gradient_norm": float(norm)} for loss, norm in zip(losses, norms, strict=True)]


def noisy(steps=2000, seed=0):
    """A loss that falls from 8 to 2, with the noise of batches."""
    return 2 + 6 * np.exp(-np.arange(steps) / 100) + 0.03 * np.random.default_rng(seed).standard_normal(steps)


def test_a_falling_loss_with_noise_has_no_spikes():
    found = stability(log_of(noisy()))
    assert (found["steps"], found["spikes"]) == (2000, 0)
    assert 0 < found["largest_rise"] < 0.15
    assert found["first"] == noisy()[0]


def test_planted_spikes_are_counted_once_each():
    losses, norms = noisy(), np.ones(2000)
    for start in (300, 900, 901, 902, 1500):
        losses[start] += 1.0
    norms[[3, 900]] = 1000.0, 40.0  # the first one before any step is judged
    found = stability(log_of(losses, norms))
    assert found["spikes"] == 3
    assert 0.9 < found["largest_rise"] < 1.1
    assert found["largest_gradient_norm"] == 40.0


def test_a_loss_that_rises_and_stays_is_one_spike():
    losses = noisy()
    losses[1000:] += 3.0
    assert stability(log_of(losses))["spikes"] == 1


def test_a_short_log_judges_no_step():
    for steps in (0, 1, BEFORE):
        found = stability(log_of(noisy()[:steps]))
        assert (found["steps"], found["spikes"], found["largest_rise"]) == (steps, None, None)
    assert stability(log_of(noisy()[: BEFORE + 1]))["spikes"] == 0
