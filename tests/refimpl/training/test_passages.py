"""Joined states: exact in one layer, not in two, and the costs of a spot are those of the states they name."""

import numpy as np
import pytest

import refimpl
from refimpl import RetNetConfig, init_params
from refimpl.training import passages
from refimpl.training.facts import bits

TOKENS = np.random.default_rng(0).integers(0, 256, 900).astype(np.uint8)
TOKENS[[530, 600]] = passages.LINE


@pytest.mark.parametrize(("layers", "exact"), [(1, True), (2, False)])
def test_a_join_is_exact_in_one_layer_and_in_no_deeper_one(layers, exact):
    config = RetNetConfig(dim=16, num_layers=layers, num_heads=2)
    params = init_params(config, 1)
    _, first = passages.read(params, config, TOKENS[:100])
    _, apart = passages.read(params, config, TOKENS[100:137], passages.empty(100, config))
    _, whole = passages.read(params, config, TOKENS[:137])
    both = passages.joined(first, apart, config)
    assert both.position == whole.position == 137
    np.testing.assert_allclose(both.layers[0], whole.layers[0], rtol=1e-4, atol=1e-5)
    off = np.abs(both.layers[-1] - whole.layers[-1]).max() / np.abs(whole.layers[-1]).max()
    assert (off < 1e-4) == exact


def test_costs_are_those_of_the_states():
    config = RetNetConfig(dim=16, num_layers=2, num_heads=2)
    params = init_params(config, 1)
    found = passages.costs(params, config, TOKENS, 531, 563)
    assert found.keys() == {"exact", "joined", "forgotten"}
    logits, _ = refimpl.forward(params, TOKENS[None, 19 : 563 + passages.AFTER - 1], config)
    want = bits(logits[0, -(passages.AFTER - 1) :], TOKENS[563 + 1 : 563 + passages.AFTER]).mean()
    assert found["exact"] == pytest.approx(float(want), abs=2e-5)
    assert len(set(found.values())) == 3


def test_cuts_lie_at_a_line_and_in_the_middle_of_the_next():
    text = np.zeros(2000, dtype=np.uint8)
    text[[100, 530, 600, 900, 1990]] = passages.LINE  # 100 has too little before it, 1990 nothing after it
    assert passages.cuts(text, 3) == [(531, 566), (901, 1446)]  # the first after each place, once
    assert passages.cuts(text, 2) == [(531, 566), (901, 1446)]
    with pytest.raises(ValueError, match="spots must be at most 3, the lines of the held-out text, got 4"):
        passages.cuts(text, 4)
