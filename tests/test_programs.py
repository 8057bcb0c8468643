"""The programs a user runs, as a user runs them."""

import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
import typer
from runs import at_step
from typer.testing import CliRunner

import gpu.__main__
import refimpl
import refimpl.__main__ as program
from gpu.models.baseline import Baseline, BaselineConfig
from refimpl import cli
from refimpl.files import write_atomically
from refimpl.weights import load_params

# A model that trains in a moment, where a test is about the program and not about its defaults.
SMALL = ("--dim", "16", "--num-heads", "2", "--num-layers", "1", "--batch-size", "2", "--window", "16")


def run(*arguments):
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_refimpl_compares_every_pair():
    result = CliRunner().invoke(program.app, ["compare", "--time", "40", "--chunk-size", "16"], env={"COLUMNS": "120"})
    assert result.exit_code == 0, result.output
    assert "kjv, B 2 H 4 T 40 K 16 V 24, float64" in result.output
    assert "float32" in result.output
    for row, pairs in (("parallel", 1), ("recurrent", 2), ("chunkwise C=16", 3)):
        lines = re.findall(rf"│ {row} .*", result.output)
        assert len(lines) == 2  # a table a dtype
        for line in lines:
            assert len(re.findall(r"\d\.\de[-+]\d\d", line)) == pairs
            assert re.search(r"\d ms", line)
    apart = [float(x) for x in re.findall(r"\d\.\de[-+]\d\d", result.output.split("float32")[0])]
    assert len(apart) == 6
    assert max(apart) < 1e-10


def test_refimpl_fails_when_a_form_is_wrong(monkeypatch):
    def wrong(q, k, v, gamma, state=None):
        out, state = refimpl.retention_parallel(q, k, v, gamma, state)
        return out * (1 + 1e-12), state

    monkeypatch.setattr("refimpl.compare.retention_recurrent", wrong)
    result = CliRunner().invoke(program.app, ["compare", "--time", "20"])
    assert result.exit_code == 1
    assert "The forms disagree: oracle and recurrent in float64 by 1e-12 of the largest output" in result.output


def test_nan_is_a_disagreement(monkeypatch):
    monkeypatch.setattr("refimpl.compare.retention_recurrent", lambda *args: (np.full_like(args[2], np.nan), None))
    assert CliRunner().invoke(program.app, ["compare", "--time", "20"]).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpu", "generate", "x", "--weights", "no.safetensors"], "error: weights: there is no file 'no.safetensors'"),
        (["gpu", "train", "--resume", "--out", "no/run"], "error: resume: there is no run in 'no/run'"),
        (["gpu", "train", "no.toml"], "error: config: there is no file 'no.toml'"),
        (
            ["gpu", "train", "--resume", "tests"],
            "error: config: 'tests' is a folder, and no file of settings; --out tests --resume goes on with the run in it",
        ),
        (
            ["gpu", "train", "--model", "lstm"],
            "error: model must be one of 'retnet', 'transformer', 'linear', 'gru', 'retention', 'gated', got 'lstm'",
        ),
        (["gpu", "generate", ""], "error: prompt must hold at least one character, got ''"),
        (["gpu", "train", "--device", "nonsense"], "error: device must be one that torch can use here, got 'nonsense'"),
        (["refimpl", "generate", "--prompt-file", "tests"], "error: prompt-file must be a file, 'tests' is a folder"),
        (["gpu", "generate", "--prompt-file", "tests"], "error: prompt-file must be a file, 'tests' is a folder"),
        (["refimpl", "train", "--from", ""], "error: from_weights must be the path of a file or folder, got ''"),
        (["gpu", "train", "--from", ""], "error: from_weights must be the path of a file or folder, got ''"),
        (["gpu", "train", "--from", "README.md"], "error: from_weights must be "),
        (
            ["refimpl", "train", "--out", "README.md/x"],
            "error: out must be a folder that can be written to, 'README.md/x'",
        ),
        (["gpu", "generate", "x", "--stream", "--top-p", "2"], "error: top_p must lie in (0, 1], got 2"),
        (["refimpl", "generate", "--top-p", "2"], "error: top_p must lie in (0, 1], got 2"),
        (
            ["gpu", "train", "--out", "no/run", "--corpus", "no/file"],
            "error: corpus: there is no file or folder 'no/file'",
        ),
        (["gpu", "train", "--device", "meta"], "error: device must be one that torch can use here, got 'meta'"),
        (
            ["refimpl", "compare", "--corpus", "no[/such]file"],
            "error: corpus: there is no file or folder 'no[/such]file'",
        ),
        (["refimpl", "compare", "--corpus", ""], "error: corpus must be 'kjv' or a path, got ''"),
    ],
)
def test_a_user_s_mistake_is_one_line(monkeypatch, capsys, arguments, message):
    status, error = mistake(monkeypatch, capsys, *arguments)
    assert status == 2
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "option"),
    [("refimpl generate", "--weights"), ("refimpl generate", "--prompt-file"), ("refimpl train", "--out"),
     ("gpu generate", "--weights"), ("gpu generate", "--prompt-file"), ("gpu generate", "--state"),
     ("gpu generate", "--save-state"), ("gpu train", "--out"), ("gpu sweep --learning-rate 1", "--out"),
     ("gpu study x", "--out"), ("gpu export x", "--out")],
)  # fmt: skip
def test_nothing_is_no_path(command, option, monkeypatch, capsys):
    """pathlib takes it for the working folder."""
    status, error = mistake(monkeypatch, capsys, *command.split(), option, "")
    assert status == 2
    assert f"Invalid value for '{option}': must be a path, got ''" in error


@pytest.mark.parametrize("package", ["refimpl", "gpu"])
def test_standard_input_may_be_closed(package, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert mistake(monkeypatch, capsys, package, "generate", "--prompt-file", "-") == (
        2, "error: prompt-file: standard input is closed\n",
    )  # fmt: skip


def test_a_mistake_is_one_line_of_the_process_too():
    """For gpu, whose process imports torch, `test_train_compile_without_a_compiler_is_one_line` says so."""
    result = run("refimpl", "compare", "--corpus", "no/such/file")
    assert result.returncode == 2
    assert result.stderr.startswith("error: corpus: there is no file or folder 'no/such/file'")
    assert result.stderr.count("\n") == 1


def mistake(monkeypatch, capsys, package, *arguments):
    """Exit status and standard error of a program whose process would end, without the seconds that a process takes."""
    app = {"refimpl": program, "gpu": gpu.__main__}[package].app
    monkeypatch.setattr(sys, "argv", [package, *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.run(app, f"python -m {package}")
    return ended.value.code, capsys.readouterr().err


def test_short_corpus_is_refused(monkeypatch, capsys, tmp_path):
    (tmp_path / "short.txt").write_text("too short")
    status, error = mistake(monkeypatch, capsys, "refimpl", "compare", "--corpus", str(tmp_path / "short.txt"))
    assert status == 2
    assert "corpus must hold at least 514 bytes for batch 2 of 257, got 9" in error


def test_gpu_trains_and_generates(tmp_path, corpus_file):
    out = tmp_path / "run"
    arguments = ["train", "--steps", "2", "--corpus", corpus_file, "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(gpu.__main__.app, arguments)
    assert result.exit_code == 0, result.output
    assert "2/2" in result.stdout  # the progress bar
    assert "the parallel form gives the same logits" in result.stdout
    arguments = ["generate", "And", "--tokens", "5", "--weights", str(out / "weights.safetensors"), "--device", "cpu"]
    result = CliRunner().invoke(gpu.__main__.app, arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("And")


def test_gpu_stops_on_a_signal_and_goes_on(tmp_path):
    """Ctrl-C, then --resume; options that contradict the checkpoint are refused, a file sets what options do not."""
    (tmp_path / "text.txt").write_text("abcabcabc abc\n" * 300)
    settings = {
        "corpus": f"{tmp_path / 'text.txt'}",
        "dim": 16,
        "num_heads": 2,
        "window": 16,
        "steps": 100,
        "prompt": "abc",
    }
    (tmp_path / "run.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "gpu", "train", str(tmp_path / "run.toml"), "--steps", "1000000"]
    process = subprocess.Popen([*command, "--out", str(out), "--device", "cpu"], stdout=subprocess.PIPE, text=True)
    for _ in range(6000):
        if (out / "log.jsonl").exists() and (out / "log.jsonl").stat().st_size:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    step = (out / "log.jsonl").read_text().count("\n")
    assert f"stopped after step {step} of 1000000; python -m gpu train --out {out} --resume goes on" in stdout
    assert tomllib.loads((out / "run.toml").read_text())["dim"] == 16
    runner = CliRunner()
    for arguments, message in (
        (
            ["--resume", "--steps", "5"],
            "steps must be at least 1000000 as in the checkpoint (more go on after its end), got 5",
        ),
        (["--resume", "--fresh"], "resume must not be given together with fresh"),
        ([str(tmp_path / "run.toml")], f"holds one, at step {step}: --resume (resume=True) goes on with it, --fresh"),
    ):
        result = runner.invoke(gpu.__main__.app, ["train", *arguments, "--out", str(out), "--device", "cpu"])
        assert isinstance(result.exception, ValueError)
        assert message in f"{result.exception}"
    arguments = ["train", str(tmp_path / "run.toml"), "--fresh", "--steps", "2", "--out", str(out), "--device", "cpu"]
    arguments += ["--vocab-size", "258", "--learning-rate", "1e-3"]
    result = runner.invoke(gpu.__main__.app, arguments)
    assert result.exit_code == 0, result.output
    assert "NumPy to" in result.output
    saved = json.loads((out / "result.json").read_text())["config"]
    assert (saved["steps"], saved["vocab_size"], saved["learning_rate"], saved["dim"]) == (2, 258, 1e-3, 16)
    weights = ["generate", "abc", "--tokens", "3", "--weights", str(out / "best.safetensors"), "--device", "cpu"]
    assert runner.invoke(gpu.__main__.app, weights).output.startswith("abc")
    (out / "tokenizer.json").unlink()
    assert "weights must be of a model over 256 tokens" in f"{runner.invoke(gpu.__main__.app, weights).exception}"
    weights[-3] = str(tmp_path / "baseline.safetensors")
    Baseline(BaselineConfig(dim=16, num_heads=2, num_layers=1)).save(weights[-3])
    assert "weights must hold a RetNet" in f"{runner.invoke(gpu.__main__.app, weights).exception}"


def test_atomic_writing(tmp_path, monkeypatch):
    target = tmp_path / "new" / "file.txt"
    write_atomically(target, "first")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, b"second")
    assert target.read_text() == "first"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]  # no temporary file stays behind


def test_refimpl_without_a_command_compares():
    result = CliRunner().invoke(program.app, [])
    assert result.exit_code == 0, result.output
    assert "T 257" in result.stdout
    assert "All agree" in result.stdout


def test_refimpl_trains(tmp_path, corpus_file):
    arguments = ["train", "--steps", "2", "--corpus", corpus_file, "--out", str(tmp_path / "run"), *SMALL]
    result = CliRunner().invoke(program.app, arguments)
    assert result.exit_code == 0, result.output
    assert "bits per byte on held-out text" in result.stdout
    params, config = load_params(tmp_path / "run" / "weights.safetensors")
    assert params["head"].shape == (config.dim, 256)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_refimpl_train_stops_on_a_signal_and_goes_on(number, tmp_path):
    """In a folder whose name a shell would split; a run that is there is not replaced, and two do not meet."""
    (tmp_path / "text.txt").write_text("abcabcabc abc\n" * 300)
    out = tmp_path / "my $run"
    settings = ["--corpus", f"{tmp_path / 'text.txt'}", "--dim", "16", "--num-heads", "2", "--window", "16"]
    command = [sys.executable, "-m", "refimpl", "train", "--out", f"{out}"]
    process = subprocess.Popen(
        [*command, *settings, "--steps", "1000000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(6000):
        if (out / "log.jsonl").exists() and (out / "log.jsonl").stat().st_size:
            break
        time.sleep(0.01)
    app = typer.main.get_command(program.app)
    with pytest.raises(ValueError, match=f"process {process.pid} of .* works in"):
        app(["train", "--out", f"{out}", *settings], standalone_mode=False)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (128 + number, "")
    step = (out / "log.jsonl").read_text().count("\n")
    goes_on = f"python -m refimpl train --out {shlex.quote(str(out))} --resume"
    assert f"stopped after step {step} of 1000000; {goes_on} goes on" in stdout
    for arguments, message in (
        ([], f"holds one, at step {step}: --resume (resume=True) goes on with it, --fresh (fresh=True) replaces it"),
        (["--resume", "--dim", "8"], "dim must be 16 as in the checkpoint, got 8"),
        (["--resume", "--fresh"], "resume must not be given together with fresh"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            app(["train", "--out", f"{out}", *arguments], standalone_mode=False)
    with at_step(step + 2, functools.partial(signal.raise_signal, signal.SIGINT)), pytest.raises(SystemExit) as ended:
        app([*shlex.split(goes_on)[3:]])
    assert ended.value.code == 130
    assert (out / "log.jsonl").read_text().count("\n") == step + 2


def test_a_second_ctrl_c_stops_at_once(tmp_path, capsys, corpus_file):
    """In the middle of a step, without a traceback; the checkpoint of the first evaluation is what the run goes on from."""
    settings = ["--corpus", corpus_file, "--dim", "8", "--num-heads", "1", "--window", "16", "--evaluate-every", "2"]
    for name, app, more in (
        ("refimpl", program.app, []),
        ("gpu", gpu.__main__.app, ["--device", "cpu", "--prompt", "a"]),
    ):
        out = tmp_path / name

        def twice():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        arguments = ["train", "--out", f"{out}", *settings, *more, "--num-layers", "1", "--steps", "6"]
        with at_step(4, twice):
            result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 130, result.output
        resumed = f"python -m {name} train --out {out} --resume"
        assert f"stopped at once; {resumed} goes on from the last checkpoint, if there is one" in result.output
        assert len((out / "log.jsonl").read_text().splitlines()) == 3
        result = CliRunner().invoke(app, ["train", "--out", f"{out}", "--resume", *more[:2]], catch_exceptions=False)
        assert result.exit_code == 0
        assert len((out / "log.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("package", ["refimpl", "gpu"])
def test_a_loss_that_is_not_finite_is_one_line(package, tmp_path, corpus_file):
    settings = ["--corpus", corpus_file, "--dim", "8", "--num-heads", "1", "--window", "16", "--learning-rate", "1e30"]
    app = {"refimpl": program, "gpu": gpu.__main__}[package].app
    result = CliRunner().invoke(app, ["train", "--out", f"{tmp_path / 'run'}", *settings])
    assert result.exit_code == 1
    assert re.search(r"^stopped: the (loss|norm of the gradient) is (nan|inf) at step \d; .*\n$", result.stderr)
    assert "a lower learning_rate may help" in result.stderr


@pytest.fixture
def corpus_file(tmp_path):
    (tmp_path / "text.txt").write_text("abcabcabc abc\n" * 300)
    return str(tmp_path / "text.txt")


def test_kernels_without_a_folder_for_their_cache():
    """They are compiled anew, and a warning says so."""
    code = (
        "import numba.core.caching as caching, numpy as np\n"
        "for kind in vars(caching).values():\n"
        "    if hasattr(kind, '_locator_classes'): kind._locator_classes = []\n"
        "from refimpl.numba_kernels import retention_step_numba\n"
        "one = np.ones((1, 1, 1, 1))\n"
        "print(retention_step_numba(one, one, one, np.asarray([0.5]), state=one)[0].item())\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stdout) == (0, "1.5\n"), result.stderr
    assert "UserWarning: Numba compiles the kernels anew in each process" in result.stderr
    assert "NUMBA_CACHE_DIR" in result.stderr
    assert result.stderr.count("Warning") == 1


def test_train_compile_without_a_compiler_is_one_line(tmp_path, corpus_file):
    command = [
        sys.executable,
        "-m",
        "gpu",
        "train",
        "--compile",
        "--corpus",
        corpus_file,
        "--out",
        f"{tmp_path / 'run'}",
    ]
    environment = os.environ | {"CXX": f"{tmp_path / 'none'}", "TORCHINDUCTOR_CACHE_DIR": f"{tmp_path / 'cache'}"}
    result = subprocess.run(
        [*command, "--device", "cpu"], capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert result.returncode == 2
    assert result.stderr.startswith(
        "error: compile must be False here (--no-compile): torch.compile does not work on cpu: "
    )
    assert result.stderr.count("\n") == 1
    assert "compiler" in result.stderr
    assert not (tmp_path / "run").exists()
