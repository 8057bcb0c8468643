"""The commands of all programs: every option is explained, --help needs no torch, `retnet` finds them, errors are one line."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import torch
import typer
from paths import ROOT
from rich.console import Console
from typer.testing import CliRunner

import exercises.__main__
import gpu.__main__
import gpu.check_processes
import gpu.compare_fla
import refimpl.__main__
from gpu.bench.run import SECTIONS, WHAT
from gpu.parallel.launch import typed_command
from refimpl import cli

PROGRAMS = {
    "refimpl": refimpl.__main__.app,
    "gpu": gpu.__main__.app,
    "exercises": exercises.__main__.app,
    "gpu.check_processes": gpu.check_processes.app,
    "gpu.compare_fla": gpu.compare_fla.app,
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def leaves(name, command):
    """(name, command) of a command without commands of its own, and of all in a group."""
    yield name, command
    for word, inner in getattr(command, "commands", {}).items():
        yield from leaves(f"{name} {word}", inner)


COMMANDS = dict(pair for name, app in PROGRAMS.items() for pair in leaves(name, typer.main.get_command(app)))


def test_no_command_is_lost():
    words = {
        "refimpl": "compare train generate bench roof conformance facts passages corpus",
        "refimpl corpus": "fetch build show pack unpack recode mix",
        "gpu": "train sweep study scaling context reproduce generate bench report export",
        "exercises": "list check release autograder grade similarity course gradebook new validate",
    }
    assert set(COMMANDS) == set(PROGRAMS) | {f"{name} {word}" for name in words for word in words[name].split()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does_and_its_default(name):
    assert COMMANDS[name].help
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
        if not parameter.required and parameter.default in (None, "", [], ()):
            assert "default" in parameter.help.lower(), f"{name}: {parameter.name} does not say its default"


def test_bench_names_every_section():
    (sections,) = (parameter for parameter in COMMANDS["gpu bench"].params if parameter.name == "sections")
    names, paper = sections.help.split(", by default all three; or ")
    assert names == ", ".join(SECTIONS)
    assert {*SECTIONS, paper.partition(":")[0]} == set(WHAT)


def test_help_of_every_command_imports_neither_torch_nor_matplotlib():
    code = (
        "import contextlib, importlib, io, sys\nimport typer\n"
        "for line in sys.argv[1:]:\n"
        "    name, *words = line.split()\n"
        "    module = importlib.import_module(name if '.' in name else f'{name}.__main__')\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as printed:\n"
        "        typer.main.get_command(module.app)([*words, '--help'], standalone_mode=False)\n"
        "    assert 'Usage' in printed.getvalue()\n"
        "print(*{'torch', 'triton', 'matplotlib'} & set(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout == "\n"


@pytest.mark.parametrize("asked", ["", "ACTIVE"])
def test_training_lets_waiting_threads_sleep_unless_asked_otherwise(tmp_path, asked):
    """OpenMP reads it when torch is imported, and never again."""
    code = (
        "import os, sys\n"
        "class AtTorch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'torch':\n"
        "            print(os.environ['OMP_WAIT_POLICY'])\n"
        "            os._exit(sys.stdout.flush() or 0)\n"
        "sys.meta_path.insert(0, AtTorch())\n"
        "from gpu.__main__ import app\n"
        "app(['train', '--out', sys.argv[1]])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": asked} if asked else {}
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.stdout == f"{asked or 'PASSIVE'}\n", result.stderr


@pytest.fixture
def installed(tmp_path):
    """The environment of a process that finds the entry points of pyproject.toml, as an installation leaves them."""
    folder = tmp_path / "installed" / "retnet_reference-0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: retnet-reference\nVersion: 0\n")
    groups = {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    lines = (
        line for group, rows in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in rows.items()))
    )
    (folder / "entry_points.txt").write_text("\n".join(lines))
    return os.environ | {"PYTHONPATH": f"{folder.parent}{os.pathsep}{ROOT}"}


def retnet(environment, folder, *arguments):
    """What `retnet` prints in a folder: its script runs without that folder on the path."""
    module, function = PROJECT["scripts"]["retnet"].split(":")
    code = f"import sys; sys.argv[0] = 'retnet'; from {module} import {function}; {function}()"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_retnet_runs_our_programs_where_a_folder_has_their_name(installed, tmp_path):
    for name in ("gpu", "refimpl", "exercises"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    result = retnet(installed, tmp_path, "gpu", "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage: retnet gpu" in result.stdout
    assert "train" in result.stdout
    result = retnet(installed, tmp_path, "--help")
    assert all(re.search(rf"\b{name}\b", result.stdout) for name in ("exercises", "gpu", "refimpl"))
    result = retnet(installed, tmp_path, "gpu", "train", "no.toml")
    assert (result.returncode, result.stderr) == (2, "error: config: there is no file 'no.toml'\n")
    assert "All agree" in retnet(installed, tmp_path, "refimpl", "compare", "--time", "40").stdout


@pytest.mark.parametrize("name", ["refimpl", "gpu", "exercises", "retnet"])
def test_version(name, installed, tmp_path):
    if name == "retnet":
        output = retnet(installed, tmp_path, "--version").stdout
    else:
        output = CliRunner().invoke(PROGRAMS[name], ["--version"]).output
    assert output == f"retnet-reference {refimpl.__version__}\n"


@pytest.mark.parametrize(
    ("start", "want"), [("/bin/retnet", "retnet gpu bench"), ("gpu/__main__.py", "python -m gpu bench")]
)
def test_results_files_say_what_was_typed(monkeypatch, start, want):
    words = want.split()[1 if start == "/bin/retnet" else 3 :]
    monkeypatch.setattr(sys, "argv", [start, *words, "--dim", "8", "--remark", "a word"])
    assert typed_command("a word") == f"{want} --dim 8"


def raising(error):
    def command():
        raise error

    return cli.one_command(command)


def no_memory_of_torch():
    try:
        torch.empty(2**50)
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("dim must be [1]"), "error: dim must be [1]"),
        (ModuleNotFoundError("corpus: install it"), "error: corpus: install it"),
        (ModuleNotFoundError("No module", name="torch.cuda"), "error: this needs torch.cuda, which is not installed; "),
        (MemoryError(), "error: not enough memory: an array does not fit; a smaller batch_size, "),
        (
            MemoryError("Unable to allocate 9 TiB"),
            "error: not enough memory: Unable to allocate 9 TiB; a smaller batch_size, ",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nTried"),
            "error: not enough memory: CUDA out of memory.; a smaller ",
        ),
        (no_memory_of_torch(), "error: not enough memory: "),
    ],
)
def test_a_mistake_is_one_line_of_the_first_process(monkeypatch, capsys, error, message):
    monkeypatch.setattr(sys, "argv", ["program"])
    for rank, printed in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as ended:
            cli.run(raising(error), "program")
        assert ended.value.code == 2
        line = capsys.readouterr().err
        assert line.startswith(message) if printed else line == ""
        assert line.count("\n") == printed


def test_a_module_of_ours_that_is_not_there_is_a_bug(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(ModuleNotFoundError):
        cli.run(raising(ModuleNotFoundError("No module", name="gpu.training.none")), "program")


def test_another_error_of_torch_is_a_bug(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(RuntimeError):
        cli.run(raising(RuntimeError("mat1 and mat2 shapes cannot be multiplied")), "program")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("error", [None, ValueError])
def test_a_terminal_may_lack_a_character(encoding, error, monkeypatch, tmp_path):
    """Of a path that is no UTF-8, say, which a run should not fail for after its last step."""

    def command():
        if error:
            raise error("out must be 日 or \udcff")
        cli.say("out: 日, \udcff", Console())

    monkeypatch.setattr(sys, "argv", ["program"])
    with open(tmp_path / "out", "w", encoding=encoding) as file:
        monkeypatch.setattr(sys, "stderr" if error else "stdout", file)
        with pytest.raises(SystemExit) as ended:
            cli.run(cli.one_command(command), "program")
    assert ended.value.code == (2 if error else 0)
    assert "\\udcff" in (tmp_path / "out").read_text(encoding=encoding)
