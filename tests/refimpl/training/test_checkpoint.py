"""A checkpoint comes back as it was written, and what is wrong with a file is named."""

import json
import re

import numpy as np
import pytest
import safetensors.numpy

from refimpl.training.checkpoint import NAME, load_checkpoint, load_tensors, save_checkpoint
from refimpl.training.loop import Progression
from refimpl.training.train import TrainConfig

CONFIG = TrainConfig(dim=16, num_heads=2, steps=7)
DONE = Progression(step=3, best=1.5, best_step=2, seconds=0.25, log_bytes=40, extended=[[3, 5]])
TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4)}
WANTED = {"a": ((2, 3), "float32"), "b": ((4,), "float64")}


def test_a_checkpoint_comes_back(tmp_path):
    assert load_checkpoint(tmp_path, TrainConfig) is None
    save_checkpoint(tmp_path, CONFIG, DONE, "a fingerprint", TENSORS)
    found = load_checkpoint(tmp_path, TrainConfig)
    assert found[:3] == (CONFIG, DONE, "a fingerprint")
    np.testing.assert_equal(found.tensors, TENSORS)
    np.testing.assert_equal(load_tensors(tmp_path, TrainConfig, WANTED), TENSORS)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (WANTED | {"c": ((1,), "float32")}, "c is missing"),
        (WANTED | {"a": ((3, 2), "float32")}, "a must have shape (3, 2), got (2, 3)"),
        (WANTED | {"b": ((4,), "float32")}, "b must have dtype float32, got float64"),
        ({"a": WANTED["a"]}, "b is none of its tensors"),
    ],
)
def test_tensors_of_another_run_are_named(tmp_path, wanted, message):
    save_checkpoint(tmp_path, CONFIG, DONE, "a fingerprint", TENSORS)
    whole = f"resume: {str(tmp_path / NAME)!r} is no checkpoint of such a run: {message}"
    with pytest.raises(ValueError, match=f"^{re.escape(whole)}$"):
        load_tensors(tmp_path, TrainConfig, wanted)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": None}, "KeyError('config')"),
        ({"text": None}, "KeyError('text')"),
        ({"config": json.dumps({"no": 1})}, "TypeError("),
        ({"progression": "{"}, "Expecting "),
        ({"progression": json.dumps({"step": "3"})}, 'TypeError("step must be int, got '),
    ],
)
def test_what_a_checkpoint_lacks_is_named(tmp_path, changes, reason):
    save_checkpoint(tmp_path, CONFIG, DONE, "a fingerprint", TENSORS)
    with safetensors.safe_open(tmp_path / NAME, framework="numpy") as file:
        metadata = {name: value for name, value in (file.metadata() | changes).items() if value is not None}
    safetensors.numpy.save_file(TENSORS, tmp_path / NAME, metadata)
    with pytest.raises(ValueError, match=rf"is no checkpoint of such a run: {re.escape(reason)}"):
        load_checkpoint(tmp_path, TrainConfig)


def test_a_file_cut_short_and_a_run_of_another_program_are_refused(tmp_path):
    save_checkpoint(tmp_path, CONFIG, DONE, "a fingerprint", TENSORS)

    class Other(TrainConfig):
        pass

    with pytest.raises(
        ValueError, match=r"must be of a Other, got that of a TrainConfig: NumPy and torch do not go on"
    ):
        load_checkpoint(tmp_path, Other)
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-3])
    with pytest.raises(ValueError, match=r"is no checkpoint of such a run: SafetensorError\("):
        load_checkpoint(tmp_path, TrainConfig)
