"""Damaged files of a run, and those it could damage: each is refused in a line that names it, before a step is taken."""

import dataclasses
import errno
import functools
import json
import re
import shutil

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from runs import QUIET

from gpu.training import run as torch_run
from gpu.training.config import RunConfig
from refimpl.files import write_atomically
from refimpl.training import train as numpy_run
from refimpl.training.checkpoint import NAME
from refimpl.training.folder import locked
from refimpl.training.settings import read_toml

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "dim": 8, "num_layers": 1, "num_heads": 2, "batch_size": 2, "window": 8, "sample_bytes": 2, "warmup": 1, "steps": 2,
    "prompt": "abc",
}  # fmt: skip
KINDS = {
    "NumPy": (numpy_run.TrainConfig, numpy_run.train),
    "torch": (RunConfig, functools.partial(torch_run.train, device="cpu")),
}
NESTED = "[" * 100_000


@pytest.fixture(scope="module", params=KINDS)
def finished(request, corpus, tmp_path_factory):
    """The folder of a finished run, and a function that goes on with a copy of it."""
    kind, train = KINDS[request.param]
    config, out = kind(corpus=corpus, **SMALL), tmp_path_factory.mktemp("run") / "out"
    train(config, out, console=QUIET)
    return out, functools.partial(train, dataclasses.replace(config, steps=3), console=QUIET, resume=True)


@pytest.fixture
def run(finished, tmp_path):
    """A copy of that folder, and that function."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run", functools.partial(finished[1], tmp_path / "run")


def change(path, tensors=lambda found: found, **metadata):
    """Write a checkpoint again with other tensors or other metadata."""
    with safetensors.safe_open(path, framework="numpy") as file:
        found, known = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    safetensors.numpy.save_file(tensors(found), path, known | metadata)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (None, "weight.embedding is missing"),
        (lambda x: x[:1], "weight.embedding must have shape (256, 8), got (1, 8)"),  # it could be broadcast
        (lambda x: x.T.copy(), "weight.embedding must have shape (256, 8), got (8, 256)"),
        (lambda x: x.astype(np.float16), "weight.embedding must have dtype float32, got float16"),
    ],
)
def test_tensors_must_be_those_of_the_run(run, other, reason):
    out, go_on = run
    name = "weight.embedding"
    change(out / NAME, lambda found: {key: x for key, x in found.items() if key != name} | (
        {} if other is None else {name: other(found[name])}
    ))  # fmt: skip
    with pytest.raises(
        ValueError, match=re.escape(f"resume: {str(out / NAME)!r} is no checkpoint of such a run: {reason}")
    ):
        go_on()


def test_no_tensor_may_be_too_many(run):
    out, go_on = run
    change(out / NAME, lambda found: found | {"weight.bias": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match=r"such a run: weight\.bias is none of its tensors"):
        go_on()


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": "{"}, {"config": "3"}, {"config": '{"steps": 0}'}, {"config": NESTED},
        {"progression": "{"}, {"progression": "[]"}, {"progression": '{"step": "2"}'}, {"progression": '{"step": -1}'},
        {"progression": '{"batches": {"bit_generator": "PCG64", "state": 1}}'}, {"progression": '{"extended": 3}'},
    ],
)  # fmt: skip
def test_metadata_must_be_those_of_a_run(run, metadata):
    out, go_on = run
    change(out / NAME, **metadata)
    with pytest.raises(ValueError, match=re.escape(f"resume: {str(out / NAME)!r} is no checkpoint of such a run: ")):
        go_on()


def test_a_checkpoint_must_be_a_file(run):
    out, go_on = run
    (out / NAME).unlink()
    (out / NAME).mkdir()
    with pytest.raises(ValueError, match=re.escape(f"resume: {str(out / NAME)!r} is no checkpoint of such a run: ")):
        go_on()


@pytest.mark.parametrize("line", [b"{", b"3", b"{}", b"\xff\xfe", NESTED.encode(), b'{"step": "x", "training": 1}'])
def test_a_log_must_hold_a_run_s_lines(run, line):
    out, go_on = run
    first, second = (out / "log.jsonl").read_bytes().splitlines()
    line = line[: len(second)].ljust(len(second))  # as long as the checkpoint expects
    (out / "log.jsonl").write_bytes(first + b"\n" + line + b"\n")
    with pytest.raises(
        ValueError, match=re.escape(f"out: line 2 of {str(out / 'log.jsonl')!r} is none of a run's log")
    ):
        go_on()


@pytest.mark.parametrize(
    "content", [json.dumps({"merges": [[1, 2, 3]]}).encode(), b"\xff\xfe{", NESTED.encode(), b"[]"]
)
def test_a_tokeniser_s_file_must_be_one(run, content):
    out, go_on = run
    (out / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{str(out / 'tokenizer.json')!r} is not one")):
        go_on()


@pytest.mark.parametrize("name", ["", "weights.safetensors", "../link", "../other.safetensors"])
def test_a_run_does_not_replace_the_weights_it_starts_from(run, name, corpus):
    out, _ = run
    (out.parent / "link").symlink_to(out)
    (out.parent / "other.safetensors").symlink_to(out / "weights.safetensors")
    before = (out / "weights.safetensors").read_bytes()
    config = numpy_run.TrainConfig(corpus=corpus, from_weights=f"{out / name}", **SMALL)
    with pytest.raises(
        ValueError, match=f"out must be another folder than that of from_weights.*{re.escape(repr(str(out)))}"
    ):
        numpy_run.train(config, out, console=QUIET, fresh=True)
    assert (out / "weights.safetensors").read_bytes() == before


@pytest.mark.parametrize("scale", [0.0, 1e30])
def test_a_model_whose_logits_are_all_0_passes_its_checks(scale, corpus, tmp_path):
    result = torch_run.train(RunConfig(corpus=corpus, embedding_scale=scale, **SMALL), tmp_path / "run", console=QUIET)
    assert result["decoding_disagreement"] == result["numpy_disagreement"] == 0


@pytest.mark.parametrize("name", ["decoding_disagreement", "numpy_disagreement"])
def test_logits_that_are_not_finite_are_no_disagreement(name, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(torch_run, name, lambda *_: float("nan"))
    with pytest.raises(FloatingPointError, match=rf"logits of the sample are not finite \({name} is nan\)"):
        torch_run.train(RunConfig(corpus=corpus, **SMALL), tmp_path / "run", console=QUIET)


@pytest.mark.parametrize("name", ["file/x", "file/x/y"])
def test_out_must_lie_in_a_folder(name, tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / name
    with (
        pytest.raises(
            OSError, match=re.escape(f"out must be a folder that can be written to, {str(path)!r} is none: Not a dir")
        ),
        locked(path),
    ):
        pass


def test_a_folder_without_the_right_to_write_names_out(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", ".lock")

    monkeypatch.setattr("builtins.open", refuse)
    message = f"out must be a folder that can be written to, {str(tmp_path)!r} is none: Permission denied"
    with pytest.raises(OSError, match=re.escape(message)), locked(tmp_path):
        pass


@pytest.mark.parametrize("content", ["a = " + "[" * 5000, "a = " + "{a=" * 5000])
def test_settings_may_be_nested_too_deep(content, tmp_path):
    (tmp_path / "run.toml").write_text(content)
    with pytest.raises(ValueError, match=r"config: .* is not TOML"):
        read_toml(tmp_path / "run.toml")


def test_an_error_in_writing_names_the_target(tmp_path):
    """And not the temporary file beside it, of which the user knows nothing."""
    with pytest.raises(IsADirectoryError) as error:
        write_atomically(tmp_path, "text")
    assert (error.value.filename, error.value.filename2) == (f"{tmp_path}", None)
