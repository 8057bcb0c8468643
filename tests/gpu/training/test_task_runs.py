"""Runs on a task: accuracy in log, result, study and sweep; parts of a batch, and a run that goes on."""

import dataclasses
import json
import re

import numpy as np
import pytest
from paths import ROOT
from processes import forked_runs, in_processes
from runs import QUIET, at_step, log_lines

from gpu.models.baseline import parameters, retnet_parameters
from gpu.models.build import build
from gpu.parallel import strategies
from gpu.training.config import RunConfig
from gpu.training.export import model_of
from gpu.training.run import train
from gpu.training.step import Trainer
from gpu.training.study import read_study, run_study, study_table
from gpu.training.sweep import sweep, sweep_table
from refimpl.training.loop import load_text
from refimpl.training.tasks import IGNORED
from refimpl.training.train import TrainConfig
from refimpl.training.train import train as train_numpy

SMALL = {
    "task": "recall", "window": 16, "pairs": (2, 4), "vocab_size": 12, "dim": 16, "num_layers": 1, "num_heads": 2,
    "batch_size": 8, "steps": 6, "evaluate_every": 3, "warmup": 1,
}  # fmt: skip
CONFIG = RunConfig(**SMALL)
pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_and_numpy_s_log_the_same(tmp_path):
    result = train(CONFIG, tmp_path / "torch", "cpu", QUIET)
    _, numpy = train_numpy(TrainConfig(**SMALL), tmp_path / "numpy", console=QUIET)
    ours = log_lines(tmp_path / "torch")
    assert [line["training"] for line in ours] == pytest.approx([line["training"] for line in numpy], rel=1e-4)
    assert ours[-1]["held_out"] == pytest.approx(numpy[-1]["held_out"], rel=1e-4)
    saved = json.loads((tmp_path / "torch" / "result.json").read_text())
    assert saved["accuracy"] == ours[-1]["accuracy"] == pytest.approx(np.mean(saved["accuracy_by_pairs"]))
    assert saved["bits_per_answer"]["held_out"] == ours[-1]["held_out"]
    assert "bits_per_byte" not in saved
    assert result["sample"] is None
    assert not (tmp_path / "torch" / "sample.txt").exists()
    with pytest.raises(ValueError, match=re.escape("run must have task = None, got 'recall'")):
        model_of(tmp_path / "torch", "best")


def test_a_stopped_run_goes_on_to_the_bit(tmp_path):
    train(CONFIG, tmp_path / "whole", "cpu", QUIET)

    def fall(**_):
        raise KeyboardInterrupt

    with at_step(5, fall), pytest.raises(KeyboardInterrupt):
        train(CONFIG, tmp_path / "stopped", "cpu", QUIET)
    train(CONFIG, tmp_path / "stopped", "cpu", QUIET, resume=True)
    assert log_lines(tmp_path / "stopped") == log_lines(tmp_path / "whole")
    other = dataclasses.replace(CONFIG, pairs=(2,), steps=7)
    with pytest.raises(ValueError, match=re.escape("pairs must be (2, 4) as in the checkpoint, got (2,)")):
        train(other, tmp_path / "stopped", "cpu", QUIET, resume=True)


def test_parts_of_a_batch_add_up_to_it():
    inputs, targets = load_text(CONFIG).batches(CONFIG)(2, np.random.default_rng(0))
    whole, parts = (Trainer(build(config), config) for config in (CONFIG, dataclasses.replace(CONFIG, accumulation=4)))
    assert whole.loss(inputs, targets) == pytest.approx(parts.loss(inputs, targets), rel=1e-5)
    assert np.array_equal(whole.predict(inputs), parts.predict(inputs))
    assert whole.step(inputs, targets, 1e-3) == pytest.approx(parts.step(inputs, targets, 1e-3), rel=1e-5)
    few = np.where(np.arange(16) < 12, targets, IGNORED)  # what is not asked for does not count
    assert whole.loss(inputs, few) != pytest.approx(whole.loss(inputs, targets))


def test_studies_and_sweeps_have_accuracy(tmp_path):
    keys = "".join(f"{name} = {json.dumps(value)}\n" for name, value in SMALL.items())
    (tmp_path / "small.toml").write_text(keys + "seeds = [3, 4]\n[variants.RetNet]\n")
    with forked_runs():
        rows = run_study(read_study(tmp_path / "small.toml"), tmp_path / "study", ["cpu"], QUIET)
        (row,) = sweep(CONFIG, [1e-3], ["gru"], tmp_path / "sweep", console=QUIET)
    results = [json.loads((tmp_path / "study" / f"RetNet_{seed}" / "result.json").read_text()) for seed in (3, 4)]
    for name in ("accuracy", "accuracy_by_pairs"):
        assert rows[0][name] == [result[name] for result in results]
    assert rows[0]["numbers_kept"] == results[0]["numbers_kept"] == 2 * 8 * 16
    headings, (line,) = study_table(rows)
    assert headings[2:] == ("bits per answer", "accuracy")
    assert f"{results[0]['accuracy']:.1%}" in line[-1]
    assert 0 <= row["accuracy"] <= 1
    assert "right" in sweep_table([row])[1][0][2]


def test_slices_of_a_window_are_refused():
    with pytest.raises(ValueError, match="parallelism must be 'data' or 'sharded' with a task"):
        RunConfig(**SMALL, parallelism="sequence")


def scored(settings):
    """Of each run: two steps, a loss and answers, shared out over processes and on one."""
    inputs, targets = load_text(CONFIG).batches(CONFIG)(2, np.random.default_rng(0))
    found = []
    for each in settings:
        config = dataclasses.replace(CONFIG, num_layers=2, **each)
        for shared in (strategies.parallelism(config), strategies.OneProcess()):
            trainer = Trainer(build(config), config, "cpu", shared)
            numbers = [trainer.step(inputs, targets, 1e-2)[0] for _ in range(2)] + [trainer.loss(inputs, targets)]
            found.append((numbers, trainer.predict(inputs)))
    return found


def test_processes_share_out_a_task():
    hybrid = {"model": "retention", "decays": "learnt", "attention_every": 2}
    for answers in in_processes(2, scored, [{}, {"parallelism": "sharded"}, {"parallelism": "sharded", **hybrid}]):
        for (numbers, tokens), (wanted, alone) in zip(answers[::2], answers[1::2], strict=True):
            assert numbers == pytest.approx(wanted, rel=1e-4)
            assert np.array_equal(tokens, alone)


@pytest.mark.parametrize("file", ["recall", "recall_small"])
def test_variants_of_the_studies_have_as_many_parameters(file):
    study = read_study(ROOT / "gpu" / "studies" / f"{file}.toml")
    counts = {}  # of each vocabulary, whose embeddings would hide the rest
    for runs in study.runs.values():
        config = next(iter(runs.values()))
        retnet = retnet_parameters(config.retnet)
        count = retnet if config.model == "retnet" else parameters(build(config).config)
        counts.setdefault(config.vocab_size, []).append(count)
    assert all(max(alike) / min(alike) < 1.01 for alike in counts.values())
