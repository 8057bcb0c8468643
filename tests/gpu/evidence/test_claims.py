"""What lesson 14 compares: numbers by name are those of the records."""

import numpy as np
import pytest

from gpu.evidence import claims
from refimpl.training.passages import load_passages


def test_a_trial_gives_the_median_deviation_of_its_differences():
    measured = {"a": [1.0, 3.0], "b": [2.0, 5.0], "wild": [0.0, 90.0], "zero": [0.0, 0.0]}
    judged = list(claims.trial(measured, *((name, "zero") for name in ("a", "b", "wild"))))
    assert [what for what, *_ in judged] == ["a minus zero", "b minus zero", "wild minus zero"]
    assert [numbers for _, *numbers, _ in judged] == [[measured[name], [0.0, 0.0]] for name in ("a", "b", "wild")]
    assert [median for *_, median in judged] == pytest.approx([3 / 2**0.5] * 3)


def test_a_trial_pairs_seeds_before_it_takes_the_deviation():
    *_, median = next(claims.trial({"a": [1.0, 3.0], "b": [0.0, 2.0]}, ("a", "b")))
    assert median == 0


def test_a_trial_ends_with_a_line_on_its_median(capsys):
    trial = claims.trial({"a": [1.0, 3.0], "b": [2.0, 5.0], "zero": [0.0, 0.0]}, ("a", "zero"), ("b", "zero"))
    assert [next(trial)[0] for _ in range(2)] == ["a minus zero", "b minus zero"]
    assert capsys.readouterr().out == ""
    assert next(trial, None) is None
    assert capsys.readouterr().out == "median deviation of 2: 1.768\n"


def test_shares_of_the_recall_studies_stand_under_their_names():
    right = claims.recalled(64)
    rows = claims.record("recall")["rows"] + claims.record("recall_hybrids")["rows"]
    assert [each.tolist() for each in right.values()] == [[s[-1] for s in row["accuracy_by_pairs"]] for row in rows]
    assert list(right)[-3:] == ["hybrid", "hybrid, gamma 1/2", "gated hybrid"]


def test_hybrids_have_short_names():
    right, found = claims.recalled(64), claims.hybrids(64)
    assert list(found) == ["RetNet", "attention", "1 in 2, seeds 0-2", "1 in 2, seeds 3-5", "1 in 4", "fast", "gated"]
    assert found["fast"].tolist() == right["hybrid, gamma 1/2"].tolist()


def test_laws_through_all_sizes_lie_near_the_measured_means():
    models = [
        {"x": [1e6, 2e6, 4e6, 8e6], "weights": [1.0] * 4, "means": [[3.0, 2.5, c, d]]}
        for c, d in ((2.2, 2.0), (2.1, 1.8))
    ]
    fits, crossings = claims.through(models, 4, floor=False)
    for fit, model in zip(fits, models, strict=True):
        assert fit(8e6) == pytest.approx([model["means"][0][-1]], abs=0.1)
    assert len(crossings) == 1


def test_a_join_is_exact_in_the_first_layer_alone():
    (one,), (lower, upper) = claims.join_errors(1), claims.join_errors(2)
    assert max(one, lower) < 1e-5 < 0.01 < upper


def test_losses_of_one_size_are_of_the_same_seeds():
    rows, found = claims.record("scaling")["rows"], claims.losses()
    assert sorted(x for each in found.values() for x in each) == sorted(row["held_out"] for row in rows)
    assert {name.split(", ")[1] for name in found} == {f"{x} million" for x in (1.5, 3.7, 8.3, 18.4)}
    for size in claims.record("scaling")["plan"]["seeds"]:
        seeds = [[r["seed"] for r in rows if (r["model"], r["size"]) == (m, size)] for m in ("RetNet", "Transformer")]
        assert seeds[0] == seeds[1]


def test_contexts_and_lags_are_those_of_the_record():
    small, large = claims.read_far(), claims.read_far("18M")
    rows = claims.record("context")["rows"]
    assert (len(small), len(large)) == (4, 2)
    for (window, losses), row in zip([*small.values(), *large.values()], rows, strict=True):
        assert window == row["window"]
        assert losses[window] == tuple(next(each["whole"] for each in row["lengths"] if each["length"] == window))
    assert claims.forgotten(1024)[8] == (0.83042, 0.04227)


def test_the_late_loss_is_that_of_the_last_half():
    near, last, error = claims.late(1024)
    assert near - last == pytest.approx(0.035, abs=0.0005)
    assert error == pytest.approx(0.021, abs=0.0005)


def test_losses_by_position_are_steps_of_the_longest_windows():
    steps, loss, bars = claims.by_position(8192, reach=3)
    last = claims.record("context")["rows"][3]["lengths"][-1]
    assert list(loss) == ["RetNet, trained on 8,192", "Transformer, trained on 8,192"]
    assert (steps[0], steps[-1], len(steps)) == (16, 65536, len(loss["RetNet, trained on 8,192"]))
    own = "Transformer, trained on 8,192"
    assert (loss[own][-1], bars[own][-1]) == (last["mean"][-1], 3 * last["error"][-1])


def test_parts_have_retnet_first_and_no_other_block():
    for study in ("ablations_once", "ablations"):
        found = claims.without(study)
        assert next(iter(found)) == "RetNet"
        assert not any("block" in name for name in found)
        assert len({np.shape(each) for each in found.values()}) == 1


def test_costs_of_cuts_are_a_number_for_each_place():
    found, record = claims.cuts(8, 32), load_passages()
    assert {len(each) for each in found.values()} == {len({spot["start"] for spot in record["spots"]})}
    first = record["spots"][0]["within"][1]
    assert found["A forgotten, B of 32 bytes, within a line"][0] == first["forgotten"] - first["exact"]
