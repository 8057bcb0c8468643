"""The sections on parts of RetNet and on cuts between passages, from made-up results of known answer."""

import jinja2.meta
import pytest

from gpu.report import page, parts
from gpu.report.results import read


def study(overs, spread=0.01):
    """Results of a first variant and others that lie above it, of three seeds each."""
    rows = []
    for number, over in enumerate([0.0, *overs]):
        losses = None if over is None else [0.9 + over + sign * spread * (number > 0) for sign in (-1, 0, 1)]
        rows.append(
            {
                "variant": f"variant {number}",
                "settings": {"learning_rate": 2e-3},
                "parameters": losses and 1000,
                "held_out": losses or [None] * 3,
                "evaluations": [losses and [[1, 2.0], [2, loss]] for loss in losses or [None] * 3],
                "mean": losses and 0.9 + over,
                "deviation": losses and spread,
                "over": None if over is None else over,
                "over_deviation": losses and (spread if number else 0.0),
                "quoted": {"loss": 3.4} if number == 1 else {},
            }
        )
    settings = {"steps": 1000, "batch_size": 2, "window": 8}
    return {
        "rows": rows, "settings": settings, "seeds": [0, 1, 2], "device": "a device", "versions": {"torch": "2"},
        "command": "as typed",
    }  # fmt: skip


def test_a_difference_is_settled_beyond_two_standard_errors():
    values = parts.ablations_once_values(study([0.2, -0.1, 0.005, None]))
    assert values["spread"] == pytest.approx(0.01)
    assert [row["error"] for row in values["study"]["rows"]] == pytest.approx(
        [0.01 / 3**0.5] * 4 + [float("nan")], nan_ok=True
    )
    assert [row["variant"] for row in values["worse"]] == ["variant 1"]
    assert [row["variant"] for row in values["better"]] == ["variant 2"]
    assert [row["variant"] for row in values["unsettled"]] == ["variant 3"]
    assert values["missing"] == ["variant 4"]
    text = page.render("ablations_once", values)
    assert "worse than variant 0, in bits per byte: variant 1 (+0.200 ± 0.006). Better: variant 2 (-0.100 ± " in text
    assert "The other 1 cannot be told from variant 0." in text
    assert "| variant 1 | 1,000 | 0.002 | 1.100 ± 0.010 | +0.200 ± 0.006 | 3.4 † |" in text
    assert "Not trained, or every run failed: variant 4." in text


@pytest.mark.parametrize(
    ("learnt", "said"), [(0.0, "are better than fixed ones: -0.100"), (0.095, "cannot be told from fixed ones: -0.005")]
)
def test_learnt_decays_are_compared_with_fixed_ones_in_the_same_block(learnt, said):
    results = study([0.1, learnt])
    for row, model, decays in zip(
        results["rows"], ("retnet", "retention", "retention"), ("fixed", "fixed", "learnt"), strict=True
    ):
        row["settings"] |= {"model": model, "decays": decays}
    values = parts.ablations_once_values(results)
    assert values["learnt"] == pytest.approx((learnt - 0.1, 0.01 / 3**0.5))
    assert f"In one and the same block, learnt decays {said} ± 0.006." in page.render("ablations_once", values)


def test_the_figure_shows_every_run():
    figure = parts.ablations_once_figure(study([0.2, -0.1, None]))
    above, below = figure.axes
    assert [label.get_text() for label in above.get_yticklabels()] == ["variant 1", "variant 2"]
    assert len(below.lines) == 9


def test_markers_are_filled():
    source = (page.TEMPLATES / "ablations_once.md").read_text(encoding="utf-8")
    needed = jinja2.meta.find_undeclared_variables(page.environment().parse(source))
    assert needed == parts.ablations_once_values(study([0.2])).keys()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([1.5, 1.6, 1.5, 1.6], "A cut at the end of a line is worse than one within a line, by 0.350 ± 0.029"),
        ([1.0, 1.1, 1.0, 1.1], "A cut at the end of a line is better than one within a line, by 0.150 ± 0.029"),
        ([1.2, 1.3, 1.1, 1.2], "cannot be told apart: the difference is +0.000 ± 0.041"),
    ],
)
def test_a_cut_at_a_line_against_one_within(line, said):
    spots = [
        {
            "line": [{"exact": 1.0, "joined": x, "forgotten": 2.0}],
            "within": [{"exact": 1.0, "joined": 1.2, "forgotten": 2.0}],
        }
        for x in line
    ]
    found = {"spots": spots, "between": [8], "after": 64, "command": "as typed"}
    text = page.render("passages", parts.passages_values(found))
    assert said in text
    assert "| first passage forgotten | +1.000 ± 0.000 |" in text


def test_the_corpus_on_record_is_what_the_runs_on_record_read():
    found = parts.corpus(page.FOLDER)
    assert found["kept"]["training"] > 400e6
    assert (
        sum(shard["tokens"] for shard in found["index"]["parts"]["training"]["shards"])
        == found["index"]["parts"]["training"]["tokens"]
    )
    largest = max(row["tokens"] for row in read(page.FOLDER, "scaling.json")["rows"])
    assert largest < found["index"]["parts"]["training"]["tokens"]  # so no token was read twice
    assert all(each["version"] and each["licence"] and len(each["sha256"]) == 64 for each in found["index"]["sources"])
