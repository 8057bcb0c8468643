"""Runs on record are found in results files, trained again, and compared."""

import json

import pytest
import typer

from gpu.evidence import reproduce
from gpu.evidence.commands import reproduce as command

SETTINGS = {
    "corpus": "kjv",
    "dim": 16,
    "num_layers": 1,
    "num_heads": 1,
    "batch_size": 2,
    "window": 16,
    "sample_bytes": 4,
}


def study(loss):
    rows = [
        {"variant": "larger", "settings": {"steps": 9}, "held_out": [1.0, None]},
        {"variant": "smaller", "settings": {"steps": 2}, "held_out": [None, loss]},
    ]
    return {"settings": SETTINGS | {"key_dim": None}, "seeds": [3, 4], "rows": rows}


def write(path, results):
    path.write_text(json.dumps(results), encoding="utf-8")
    return path


def test_runs_of_a_study_are_those_that_finished(tmp_path):
    runs = reproduce.recorded(write(tmp_path / "tiny.json", study(8.0)))
    assert [(run.name, run.config.seed, run.config.steps, run.held_out) for run in runs] == [
        ("larger, seed 3", 3, 9, 1.0),
        ("smaller, seed 4", 4, 2, 8.0),
    ]
    assert reproduce.smallest(runs) is runs[1]
    assert runs[0].tolerance == reproduce.TOLERANCES["byte"]


def test_runs_of_a_plan_take_what_was_chosen(tmp_path):
    plan = {"models": {"RetNet": {"a": SETTINGS}}, "seeds": {"a": [5]}, "tokens_per_parameter": 20}
    row = {"model": "RetNet", "size": "a", "seed": 5, "held_out": 2.0}
    results = {"plan": plan, "chosen": {"RetNet": {"a": [0.25, 0.5]}}, "rows": [row]}
    (run,) = reproduce.recorded(write(tmp_path / "scaling.json", results))
    assert (run.config.learning_rate, run.config.seed, run.config.once) == (0.25, 5, True)
    assert run.config.warmup == round(run.config.steps / 2)
    weights = 2048 + 1536 + 48  # of retention, feed-forward and norms
    assert run.config.steps == round(20 * weights / 32)


@pytest.mark.parametrize("results", [{}, {"rows": []}, {"settings": {}, "seeds": [0], "rows": []}, [1]])
def test_other_files_are_refused(tmp_path, results):
    with pytest.raises(ValueError, match=r"^file: '.*other.json' (is not what a study writes|holds no finished run)"):
        reproduce.recorded(write(tmp_path / "other.json", results))
    with pytest.raises(FileNotFoundError, match=r"there is no 'nothing\.json'"):
        reproduce.recorded("nothing.json")


def test_the_smallest_run_is_trained_again_and_compared(tmp_path, capsys):
    path = write(tmp_path / "tiny.json", study(0.5))
    with pytest.raises(typer.Exit):
        command([path], out=tmp_path / "out", device=["cpu"])
    log = [json.loads(line) for line in (tmp_path / "out/tiny/log.jsonl").read_text().splitlines()]
    loss = log[-1]["held_out"]
    assert (len(log), loss > 7) == (2, True)
    assert f"{loss - 0.5:+.4f}" in capsys.readouterr().out
    write(path, study(loss + 0.99 * reproduce.TOLERANCES["byte"]))
    command([path], out=tmp_path / "out", device=["cpu"])  # within the tolerance, and the run is not repeated
    write(path, study(loss + 1.01 * reproduce.TOLERANCES["byte"]))
    with pytest.raises(typer.Exit):
        command([path], out=tmp_path / "out", device=["cpu"])


def test_every_small_study_is_on_record():
    assert {path.stem for path in reproduce.FOLDER.glob("*.json")} >= {"recall_small"}
    for path in reproduce.FOLDER.glob("*.json"):
        assert reproduce.smallest(reproduce.recorded(path)).config.corpus == "kjv"  # what a clean clone has
