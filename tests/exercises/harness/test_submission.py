"""Submitted files: what is read and run of them, and `python -m exercises check` on them."""

import json
import sys

import pytest
from typer.testing import CliRunner
from zoo import notebook

from exercises import exercise_names, load
from exercises.__main__ import app
from exercises.checking.key import grade
from exercises.checking.report import plain_text
from exercises.handout.release import notebooks_of
from exercises.harness.submission import _cells, collect_bytes, without_outputs

EX01 = load("ex01")
STEP, LOOP, *_ = EX01.problems


# The command line.

SOLVED = """
from __future__ import annotations

import sys
import numpy as np
import no_such_module_at_all

print("a call that is not run")
WIDTH = np.float64(1.0)
slow = [sys.exit(3)]

def outer(k: Undefined, v):
    return WIDTH * k[:, None] * v

def retention_step(q, k, v, gamma, state):
    state = gamma * state + outer(k, v)
    return q @ state, state

def retention_loop(q, k, v, gamma, state):
    if state is None:
        state = np.zeros((q.shape[1], v.shape[1]))
    out = np.zeros(v.shape)
    for n in range(len(q)):
        out[n], state = retention_step(q[n], k[n], v[n], gamma, state)
    return out, state

def retention_documents(q, k, v, gamma, state, first):
    if state is None:
        state = np.zeros((q.shape[1], v.shape[1]))
    out = np.zeros(v.shape)
    for n in range(len(q)):
        out[n], state = retention_step(q[n], k[n], v[n], gamma, (1 - first[n]) * state)
    return out, state

def replacing_step(q, k, v, gamma, state):
    state, longest = gamma * state, np.abs(k).max()
    if longest > 0:
        unit = k / longest
        state = state + outer(unit, v / longest - unit @ state) / (unit @ unit)
    return q @ state, state
"""


def invoke(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "100"})


def test_command_line_passes_a_solved_script(tmp_path):
    file = tmp_path / "ex01_mine.py"
    file.write_text(SOLVED, encoding="utf-8")
    result = invoke("check", file)
    assert result.exit_code == 0, result.output
    assert "30 of 30 points in ex01." in result.output
    assert "not run" not in result.output
    assert "Note:" not in result.output  # the failing import and the exit are not needed, so not run


def test_command_line_fails_a_wrong_script_and_names_the_mistake(tmp_path):
    file = tmp_path / "homework.py"
    file.write_text(SOLVED.replace("gamma * state +", "state +"), encoding="utf-8")
    result = invoke("check", file, "--exercise", "ex01")
    assert result.exit_code == 1
    assert "you forgot the decay" in result.output
    assert "[red]" not in result.output


def test_command_line_reads_a_notebook_cell_by_cell(tmp_path):
    half = SOLVED.index("def retention_loop")
    file = tmp_path / "ex01.ipynb"
    content = notebook(
        "%matplotlib inline\nimport numpy as np\n!ls",
        "def retention_loop(*_):\n    raise NotImplementedError",
        "1 / 0",
        "this is no Python",
        "helper = 1 / 0",
        SOLVED[SOLVED.index("WIDTH") : half].replace("Undefined", "np.ndarray"),
        "check('ex01')",
        SOLVED[half:] + "\n    helper\n",
    )
    file.write_bytes(content)
    result = invoke("check", file)
    assert result.exit_code == 0, result.output
    assert "30 of 30 points" in result.output
    assert "Note: skipped code cell 4, line 1: invalid syntax" in result.output
    assert "Note: code cell 5, line 1: ZeroDivisionError: division by zero" in result.output


def test_a_tag_decides_between_definitions(tmp_path):
    file, mine = tmp_path / "ex01.ipynb", "ex01:retention_step"
    later = "def retention_step(*_):\n    return 'a later attempt'"
    file.write_bytes(notebook(SOLVED, later))
    assert "it must return a tuple of 2 arrays" in invoke("check", file).output
    file.write_bytes(notebook(SOLVED, later, tags=[(0, mine), (0, "other")]))
    result = invoke("check", file)
    assert result.exit_code == 0, result.output
    file.write_bytes(notebook(SOLVED, later, tags=[(0, mine), (1, mine)]))  # of two with the tag, the last
    assert invoke("check", file).exit_code == 1


def test_command_line_checks_the_student_notebook_as_it_is():
    (path,) = notebooks_of("ex01")
    result = invoke("check", path)
    assert result.exit_code == 1
    assert result.output.count("not written yet: see Eq. 6") == 4
    assert "0 of 30 points" in result.output


def test_a_missing_function_does_not_hinder_the_other(tmp_path):
    file = tmp_path / "ex01.py"
    file.write_text(SOLVED[: SOLVED.index("def retention_loop")], encoding="utf-8")
    result = invoke("check", file)
    assert result.exit_code == 1
    assert "retention_step: 8 of 8 points" in result.output
    assert "retention_loop is not defined" in result.output


NOTEBOOK_CELL = {"cell_type": "code", "source": SOLVED, "metadata": {}}
UNTYPED = SOLVED.replace("from __future__ import annotations", "")  # and a type in it is not defined


def cells(*sources, **first):
    """The bytes of a notebook of code cells; `first` changes the first one."""
    listed = [NOTEBOOK_CELL | {"source": source} for source in sources]
    return json.dumps({"cells": [listed[0] | first, *listed[1:]]}).encode()


def scaled(before, use="SCALE[0]"):
    """SOLVED with statements before its functions, which make the 1 that the output is multiplied by."""
    source = SOLVED.replace("def outer", before + "def outer").replace(
        "return q @ state", f"return {use} * (q @ state)"
    )
    return source.encode()


# Odd and harmless: each is worth every point.
ODD = {
    "help below the function": ("a.ipynb", cells(SOLVED + "\nnp.outer?\nretention_step??\n")),
    "shell and magics assigned": ("a.ipynb", cells("files = !ls\ntime = %timeit -o 1 + 1\n%time x = 1\n" + UNTYPED)),
    "a line that begins with a percent sign": ("a.ipynb", cells("%matplotlib inline\nx = (5\n    % 3)\n" + UNTYPED)),
    "an attempt that is no Python": ("a.ipynb", cells("def retention_step(q, k\n    return", SOLVED)),
    "a tagged cell that lost its function": (
        "a.ipynb",
        cells("# moved", SOLVED, metadata={"tags": ["ex01:retention_step"]}),
    ),
    "no tags": ("a.ipynb", cells(SOLVED, metadata={"tags": None})),
    "no metadata": ("a.ipynb", cells(SOLVED, metadata=None)),
    "an encoding of its own": (
        "a.py",
        ("# -*- coding: latin-1 -*-\n# é\n" + SOLVED.split("\n", 2)[2]).encode("latin-1"),
    ),
    "two imports in a line": (
        "a.py",
        SOLVED.replace("import numpy as np", "import no_such_module, numpy as np").encode(),
    ),
    "a type that is not there": ("a.py", UNTYPED.encode()),
    "a table filled by index": ("a.py", scaled("SCALE = np.zeros(1)\nSCALE[0] = 1.0\n")),
    "a table filled in a loop": ("a.py", scaled("SCALE = {}\nfor n in range(3):\n    SCALE[n] = 1.0\n")),
    "an attribute set later": ("a.py", scaled("class Scale:\n    pass\nScale.one = 1.0\n", "Scale.one")),
    "a dataclass": (
        "a.py",
        scaled("from dataclasses import dataclass\n@dataclass\nclass Scale:\n    one: float = 1.0\n", "Scale().one"),
    ),
}


@pytest.mark.parametrize(("name", "content"), ODD.values(), ids=ODD)
def test_odd_files_keep_their_points(name, content):
    for data in (content, without_outputs(content)) if name.endswith(".ipynb") else (content,):
        found = collect_bytes(name, data, [problem.function for problem in EX01.problems])
        report = grade(EX01, found.namespace)
        assert report.passed, (plain_text(report), found.notes)


def test_a_function_that_cannot_be_read_costs_no_other():
    broken = "def retention_step(q, k, v, gamma, state)\n    return q"
    loop = "import numpy as np\ndef retention_loop(*_):\n    return 1"
    found = collect_bytes("a.ipynb", cells(broken, loop), [STEP.function, LOOP.function])
    assert LOOP.function in found.namespace
    assert STEP.function not in found.namespace
    assert found.notes == ["skipped code cell 1, line 1: expected ':'"]


def test_a_notebook_without_its_outputs_is_short_and_the_same():
    content = cells(SOLVED, "%ls", outputs=["x" * 10**6], metadata={"tags": ["ex01:retention_step"]})
    short = without_outputs(content)
    assert len(short) < 5000
    assert _cells("a.ipynb", short) == _cells("a.ipynb", content)
    for data in (b"not json", b"[" * 100_000, b'{"cells": 3}'):
        assert without_outputs(data) == data


UNUSABLE = {
    "ex01_old.ipynb": (b'{"worksheets": [], "nbformat": 3}', "ex01_old.ipynb is a notebook of an old format (3)"),
    "ex01_cookie.py": (b"# coding: no-such-encoding\n", "ex01_cookie.py cannot be read: it is not UTF-8 text"),
    "ex01_bytes.py": (b"\xff\xfe\x00", "ex01_bytes.py cannot be read: it is not UTF-8 text"),
    "ex01_zero.py": (b"a = 1\x00", "ex01_zero.py"),
    "ex01_broken.py": (b"x = 1\ndef retention_step(:\n", "ex01_broken.py, line 2: invalid syntax"),
    "ex01_text.ipynb": (b"not json", "ex01_text.ipynb is not a Jupyter notebook"),
    "ex01_list.ipynb": (b"[]", "ex01_list.ipynb is not a Jupyter notebook"),
    "ex01_cells.ipynb": (b'{"cells": [3]}', "ex01_cells.ipynb is not a Jupyter notebook"),
    "ex01_code.ipynb": (
        b'{"cells": [{"cell_type": "code", "source": "def retention_step(q:\\n  pass"}]}',
        "code cell 1, line 1: '(' was never closed (the function cannot be read)",
    ),
    "ex01.txt": (b"", "ex01.txt: a .py or .ipynb file is wanted"),
    "ex99.py": (b"", "exercise must be one of 'ex01'"),
    "mine.py": (b"", "add --exercise ex01"),
}


@pytest.mark.parametrize(("name", "content", "message"), [(name, *rest) for name, rest in UNUSABLE.items()])
def test_unusable_files_exit_2_with_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    result = invoke("check", tmp_path / name)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert result.output.startswith("Cannot check: ")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("name", ["ex01_nowhere.py", "ex01_nowhere.ipynb"])
def test_a_missing_file_exits_2(tmp_path, name):
    result = invoke("check", tmp_path / name)
    assert result.exit_code == 2
    assert result.output == f"Cannot check: {name} cannot be read: No such file or directory\n"


def test_a_submission_may_import_its_neighbour(tmp_path):
    (tmp_path / "outer_products_of_mine.py").write_text("def outer(k, v):\n    return k[:, None] * v\n")
    start, end = SOLVED.index("def outer"), SOLVED.index("def retention_step")
    file = tmp_path / "ex01.py"
    file.write_text(SOLVED[:start] + "from outer_products_of_mine import *\n" + SOLVED[end:])
    path = list(sys.path)
    try:
        assert invoke("check", file).exit_code == 0
        assert sys.path == path
    finally:
        sys.modules.pop("outer_products_of_mine", None)


def test_list_and_help():
    result = invoke("list")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) == len(exercise_names())
    assert (
        "ex01  Retention, one token at a time (retention_step, retention_loop, retention_documents, replacing_step; 30 points)"
        in result.output
    )
    text = " ".join(invoke("check", "--help").output.split())
    assert "runs the code in FILE on this machine" in text
    assert "your own work" in text
