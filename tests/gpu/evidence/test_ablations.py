"""The analysis of ablations finds what was planted: what is worse, what is better, and what cannot be told."""

import math

import pytest

from gpu.evidence.ablations import TWICE, analysis, judged


def study(overs, spreads, seeds=3):
    """A first variant and others that lie `overs` above it and whose differences spread by `spreads`; None: not trained."""
    first = {
        "variant": "first",
        "settings": {},
        "held_out": [1.0] * seeds,
        "over": 0.0,
        "parameters": 1000,
        "over_deviation": 0.0,
        "quoted": {"loss": 3.0},
    }
    rows = [
        {
            "variant": f"variant {number}",
            "settings": {},
            "held_out": [over and 1.0 + over] * seeds,
            "over": over,
            "parameters": over and 1000,
            "over_deviation": spread,
            "quoted": {"perplexity": 20.0},
        }
        for number, (over, spread) in enumerate(zip(overs, spreads, strict=True), 1)
    ]
    return {"rows": [first, *rows]}


def names(rows):
    return [row["variant"] for row in rows]


def test_a_difference_is_settled_beyond_two_pooled_errors():
    found = analysis(study([0.02, 0.3, -0.1, 0.01, None], [0.01, 0.02, 0.02, 0.01, None]))
    assert found["spread"] == pytest.approx(math.sqrt((2 * 0.01**2 + 2 * 0.02**2) / 4))
    error = found["spread"] / math.sqrt(3)
    assert 0.01 < TWICE * error < 0.02
    assert [row["error"] for row in found["study"]["rows"][:-1]] == pytest.approx([error] * 5)
    assert math.isnan(found["study"]["rows"][-1]["error"])
    assert names(found["worse"]) == ["variant 2", "variant 1"]
    assert names(found["better"]) == ["variant 3"]
    assert names(found["unsettled"]) == ["variant 4"]
    assert found["missing"] == ["variant 5"]
    assert found["figures"] == ["loss", "perplexity"]


def test_a_variant_that_spreads_far_more_hides_no_other():
    found = analysis(study([0.02, 0.03, 0.04, 0.1], [0.01, 0.01, 0.01, 0.2]))
    assert found["spread"] == pytest.approx(0.01)
    assert [row["error"] for row in found["study"]["rows"]] == pytest.approx(
        [spread / math.sqrt(3) for spread in (0.01, 0.01, 0.01, 0.01, 0.2)]
    )
    assert names(found["worse"]) == ["variant 3", "variant 2", "variant 1"]
    assert names(found["unsettled"]) == ["variant 4"]


def test_without_any_spread_nothing_is_settled():
    found = analysis(study([0.5], [None]))
    assert math.isnan(found["spread"])
    assert names(found["unsettled"]) == ["variant 1"]


def test_a_variant_of_another_size_is_confounded():
    made = study([0.3, 0.2, -0.1, 0.001, None], [0.01, 0.01, 0.01, 0.01, None])
    for row, size in zip(made["rows"][1:], (860, 1019, 990, 1000, None), strict=True):
        row["parameters"] = size
    assert judged(analysis(made)) == {
        "variant 1": "confounded: 86% of the size",
        "variant 2": "worse",
        "variant 3": "better",
        "variant 4": "not settled",
    }
