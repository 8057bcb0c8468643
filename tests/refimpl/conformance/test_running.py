"""The suite from a folder of the user's own: as a command and as tests of pytest."""

import json
import os
import subprocess
import sys

import pytest
from paths import ROOT
from typer.testing import CliRunner

from refimpl.__main__ import app

MODULE = """
from refimpl import retention_recurrent


def right(q, k, v, gamma, state=None):
    return retention_recurrent(q, k, v, gamma, state)


def wrong(q, k, v, gamma, state=None):
    return retention_recurrent(q, k, v, gamma)


def alone(q, k, v, gamma):
    return retention_recurrent(q, k, v, gamma)
"""


@pytest.fixture
def run(tmp_path):
    """A function that runs Python in a folder with a module `mine`; returns (exit status, output, error output)."""
    (tmp_path / "mine.py").write_text(MODULE)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}", "COLUMNS": "200"}

    def run(*arguments, **more):
        done = subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=tmp_path, env=environment | more, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


def test_command_passes_a_right_kernel(run):
    status, output, errors = run("-m", "refimpl", "conformance", "mine:right", "--dtypes", "float32")
    assert (status, errors) == (0, "")
    assert "mine:right on numpy: 19 of 19 checks passed" in output


def test_command_names_a_mistake_and_writes_json(run, tmp_path):
    status, output, _ = run(
        "-m", "refimpl", "conformance", "mine:wrong", "--dtypes", "float32", "--json", "r.json", "--stop"
    )
    assert status == 1
    assert output.splitlines()[-1].endswith("likely mistake: initial state ignored")
    assert json.loads((tmp_path / "r.json").read_text())["mistake"] == "initial state ignored"


def test_command_takes_options(run):
    words = "--dtypes float32 --no-state --gradients none --tolerances float32=1e-4 --refusals all --chunk-sizes ,"
    status, output, _ = run("-m", "refimpl", "conformance", "mine:alone", *words.split())
    assert status == 0, output
    assert "declared state=False" in output


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mine", (), "retention must be MODULE:FUNCTION, such as mypackage.module:function, got 'mine'"),
        ("mine:none", (), "retention must name a function of mine: module 'mine' has no attribute 'none'"),
        ("yours:right", (), "retention must name a module that can be imported: No module named 'yours'"),
        ("mine:right", ("--widths", "64-64"), "widths must hold integers with 'x' between them, got '64-64'"),
        ("mine:right", ("--scale", "big"), "scale must hold numbers, got 'big'"),
    ],
)
def test_command_refuses(run, tmp_path, monkeypatch, name, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    result = CliRunner().invoke(app, ["conformance", name, *options])
    assert (type(result.exception), str(result.exception)) == (ValueError, message)


def pytest_run(run, *arguments, others=False):
    """pytest with our plugin, and with others that are installed only if it is told so: they take a second to load."""
    plugin = ("-p", "refimpl.conformance.pytest_plugin", "-p", "no:cacheprovider")
    more = {} if others else {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return run("-m", "pytest", *plugin, "--pyargs", "refimpl.conformance", *arguments, **more)


def test_pytest_makes_a_test_of_each_check(run):
    options = ("--retention", "mine:alone", "--retention-dtypes", "float32", "--retention-no-state", "-q")
    status, output, _ = pytest_run(run, *options, others=True)
    assert status == 0, output
    assert "18 passed, 7 skipped" in output


def test_pytest_shows_a_failure_as_the_report_does(run):
    options = ("--retention", "mine:wrong", "--retention-dtypes", "float32", "-x")
    status, output, _ = pytest_run(run, *options)
    assert status == 1
    assert "likely mistake: initial state ignored" in output
    assert "Traceback" not in output


def test_pytest_says_what_is_wrong_with_an_option(run):
    status, output, _ = pytest_run(run, "--retention", "mine:none")
    assert status != 0
    assert "retention must name a function of mine" in output


def test_without_a_retention_pytest_collects_nothing_and_imports_no_suite(run):
    status, *_ = pytest_run(run, "-q")
    assert status == 5  # no tests
    code = "import sys, refimpl.conformance.pytest_plugin; print({'torch', 'hypothesis', 'jax'} & set(sys.modules))"
    assert run("-c", code)[1] == "set()\n"
