"""The analysis of rates and warm-ups finds what was planted in a made-up study."""

import dataclasses
import math

import pytest
from paths import ROOT
from recipes import FAILED, recipe_results

from gpu.evidence.recipe import analysis
from gpu.training.study import read_study


def test_the_best_rate_its_neighbours_and_the_highest_are_found():
    found = analysis(recipe_results())
    none, sixty = found["warmups"]
    assert (none["warmup"], sixty["warmup"]) == (0, 60)
    assert (found["best"]["rate"], found["best"]["warmup"]) == (4e-3, 60)
    assert none["best"]["rate"] == 2e-3
    assert (none["good"], sixty["good"]) == ((2e-3, 2e-3), (2e-3, 8e-3))
    assert (none["highest"], sixty["highest"]) == (4e-3, 8e-3)
    assert none["losses"] == [1.5, 1.3, 2.0, None]
    assert none["sensitivity"] == pytest.approx(
        (1.5 + 1.3 + 2.0 + 5.0) / 4 - 1.3
    )  # a failed run counts as its first loss
    assert sixty["sensitivity"] == pytest.approx((1.40 + 1.22 + 1.20 + 1.24) / 4 - 1.20)
    assert found["deviation"] == pytest.approx(0.002)


def test_other_changes_are_compared_with_the_same_rate_and_warm_up():
    depth, narrow, normal = (row for row in analysis(recipe_results())["rows"] if row["change"])
    assert depth["change"] == {"initialisation": "depth"}
    assert depth["over"] == pytest.approx(-0.10)
    assert depth["over_error"] == pytest.approx(0.002)  # of the difference of two means of two seeds
    assert narrow["over"] == pytest.approx(0.0005)
    assert (normal["over"], normal["over_error"], normal["finished"]) == (None, None, False)
    assert normal["failures"] == (1, FAILED)
    assert (normal["spikes"], normal["largest_rise"], normal["largest_gradient_norm"]) == (5, 3.0, 99.0)


def test_an_error_is_that_of_the_mean():
    assert analysis(recipe_results())["best"]["error"] == pytest.approx(0.002 / math.sqrt(2))


def test_one_seed_has_no_errors_and_a_study_without_logs_no_spikes():
    study = recipe_results()
    for row in study["rows"]:
        row["held_out"], row["training"] = row["held_out"][:1], [None]
    found = analysis(study)
    assert found["deviation"] is None
    assert {row["error"] for row in found["rows"]} == {None}
    assert {row["spikes"] for row in found["rows"]} == {None}
    assert found["warmups"][0]["highest"] == 8e-3


def test_a_warm_up_of_failed_runs_is_left_out_and_a_study_of_them_refused():
    study = recipe_results()
    for row in study["rows"]:
        if row["settings"]["warmup"] == 0:
            row["held_out"] = [None, None]
    assert [each["warmup"] for each in analysis(study)["warmups"]] == [60]
    for row in study["rows"]:
        row["held_out"] = [None, None]
    with pytest.raises(ValueError, match="study: no variant finished with every seed"):
        analysis(study)


@pytest.mark.parametrize("file", ["recipe", "recipe_small"])
def test_the_studies_have_a_grid_and_each_change_a_row_to_compare_with(file):
    runs = read_study(ROOT / "gpu" / "studies" / f"{file}.toml").runs.values()
    configs = [dataclasses.asdict(next(iter(seeds.values()))) for seeds in runs]
    axes = [(config.pop("learning_rate"), config.pop("warmup")) for config in configs]
    grid = {point for point, config in zip(axes, configs, strict=True) if config == configs[0]}
    assert len(grid) == len({rate for rate, _ in grid}) * len({warmup for _, warmup in grid})
    assert len(grid) < len(configs)
    assert set(axes) == grid
    assert all(sum(config[name] != usual for name, usual in configs[0].items()) <= 1 for config in configs)
