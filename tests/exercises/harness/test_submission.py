"""Submitted files: what is read and run of them, and `python -m exercises check` on them."""

import ast
import builtins
import json
import re
import sys

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from typer.testing import CliRunner
from zoo import notebook

from exercises import exercise_names, load
from exercises.__main__ import app
from exercises.checking.key import grade
from exercises.checking.report import plain_text
from exercises.handout.release import notebooks_of
from exercises.harness.cells import UnusableError, parsed, read_cells
from exercises.harness.runner import NO_INPUT, run
from exercises.harness.submission import TOO_LONG, collect_bytes, only_needed

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
        SOLVED[half:].replace("    state, longest", "    lambda: helper\n    state, longest"),
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


STUB = 'def retention_step(q, k, v, gamma, state):\n    """Text."""\n    raise NotImplementedError("ex01: see Eq. 6")\n'
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
    "a definition in a branch": ("a.py", scaled("if True:\n    def scale():\n        return 1.0\n", "scale()")),
    "a definition in a try": (
        "a.py",
        scaled(
            "try:\n    from no_such_module import njit\nexcept ImportError:\n    def njit(f):\n        return f\n",
            "njit(abs)(1.0)",
        ),
    ),
    "a definition in a with": (
        "a.py",
        scaled("with np.errstate(all='ignore'):\n    def scale():\n        return 1.0\n", "scale()"),
    ),
    "a shell command over several lines": (
        "a.ipynb",
        cells("!pip install numpy \\\n    scipy \\\n\n%load_ext \\\n  autoreload\nfiles = !ls \\\n  -l\n" + UNTYPED),
    ),
    "a quotation mark in a shell command": ("a.ipynb", cells("!echo it's\n%cd (\n" + UNTYPED)),
    "a magic in a block": ("a.ipynb", cells("if True:\n    %matplotlib inline\n    !ls\n" + UNTYPED)),
    "a text with a line like a magic": (
        "a.ipynb",
        cells("!ls\nSCALE = '''\n%time 1\n!ls\n'''\n", scaled("", "len(SCALE.split()) / 3").decode()),
    ),
    "timed": ("a.ipynb", cells("%%time\n!ls\n" + UNTYPED)),
    "captured, below empty lines": ("a.ipynb", cells("\n\n%%capture output\n%time import numpy as np\n" + UNTYPED)),
    "a timed assignment": ("a.ipynb", cells("%time SCALE = 1.0\nONE = %time 1.0", scaled("", "SCALE * ONE").decode())),
    "a written file": ("a.ipynb", cells(SOLVED, "%%writefile old.py\ndef retention_step(*_):\n    return None")),
    "another language": ("a.ipynb", cells("%%bash\nls (", "%%html\n<b>", SOLVED)),
    "indented": ("a.ipynb", cells("\n".join(f"    {line}" for line in UNTYPED.split("\n")))),
    "pasted with prompts": (
        "a.ipynb",
        cells("\n".join(f"{'...' if line[:1] in ' ' else '>>>'} {line}" for line in UNTYPED.strip().split("\n"))),
    ),
    "pylab": ("a.ipynb", cells("%pylab inline", SOLVED.replace("import numpy as np", ""))),
    "await": (
        "a.ipynb",
        cells(
            "import asyncio\nasync def load():\n    await asyncio.sleep(0.01)\n    return 1.0\n"
            "SCALE = await load()\nawait asyncio.sleep(0)",
            scaled("", "SCALE").decode(),
        ),
    ),
    "line ends of an old Mac": ("a.ipynb", cells(("%matplotlib inline\n" + UNTYPED).replace("\n", "\r"))),
    "line ends of Windows": ("a.ipynb", cells(("!ls \\\n  -l\n" + UNTYPED).replace("\n", "\r\n"))),
    "line ends of an old Mac in a script": ("a.py", UNTYPED.replace("\n", "\r").encode()),
    "a stub below": ("a.ipynb", cells(SOLVED, STUB)),
    "a stub below with a text and dots": (
        "a.ipynb",
        cells(SOLVED, "def retention_step(*_):\n    '''Not yet.'''\n    ...\n", "def retention_loop(*_): pass"),
    ),
    "a stub below a lambda": (
        "a.ipynb",
        cells(SOLVED.replace("def retention_step", "def mine"), "retention_step = lambda *all: mine(*all)", STUB),
    ),
    "a stub above, wrapped later": (
        "a.ipynb",
        cells(STUB, SOLVED, "def same(f):\n    return f\nretention_step = same(retention_step)"),
    ),
    "a wrong attempt above": ("a.ipynb", cells("def retention_step(*_):\n    return 1", SOLVED)),
    "what a default needs is below": (
        "a.ipynb",
        cells(scaled("def scale(x=ONE):\n    return x\n", "scale()").decode(), "ONE = 1.0"),
    ),
    "the import is below": ("a.ipynb", cells(SOLVED.replace("import numpy as np", ""), "import numpy as np")),
    "a very long number": ("a.ipynb", cells(scaled(f"LONG = 0x{'f' * 50_000}\n", "float(LONG > 1)").decode())),
    "a very long sum": ("a.ipynb", cells(SOLVED, "TOTAL = " + " + ".join(["1"] * 1500))),
    "what a notebook displays": ("a.ipynb", cells(scaled("", "(display(q, state), 1.0)[1]").decode())),
    "2000 cells": ("a.ipynb", cells(*["x = 1"] * 1999, SOLVED)),
    "a dataclass": (
        "a.py",
        scaled("from dataclasses import dataclass\n@dataclass\nclass Scale:\n    one: float = 1.0\n", "Scale().one"),
    ),
}


@pytest.mark.parametrize(("name", "content"), ODD.values(), ids=ODD)
def test_odd_files_keep_their_points(name, content):
    functions = [problem.function for problem in EX01.problems]
    for data in content, only_needed(name, content, functions):
        found = collect_bytes(name, data, functions)
        report = grade(EX01, found.namespace)
        assert report.passed, (plain_text(report), found.notes)


def test_a_function_that_cannot_be_read_costs_no_other():
    broken = "def retention_step(q, k, v, gamma, state)\n    return q"
    loop = "import numpy as np\ndef retention_loop(*_):\n    return 1"
    found = collect_bytes("a.ipynb", cells(broken, loop), [STEP.function, LOOP.function])
    assert LOOP.function in found.namespace
    assert STEP.function not in found.namespace
    assert found.notes == ["skipped code cell 1, line 1: expected ':'"]


def test_what_no_check_needs_is_taken_out_and_lines_stay():
    content = cells(SOLVED, "%ls", outputs=["x" * 10**6], metadata={"tags": ["ex01:retention_step"]})
    functions = [problem.function for problem in EX01.problems]
    short = only_needed("a.ipynb", content, functions)
    assert len(short) < 5000
    (first, second), (whole, _) = read_cells("a.ipynb", short), read_cells("a.ipynb", content)
    assert second == ("code cell 2", "", [])
    assert (first[0], first[2]) == (whole[0], whole[2])
    lines, all_lines = first[1].split("\n"), whole[1].split("\n")
    assert all(line in ("", one) for line, one in zip(lines, all_lines, strict=True))
    assert 'print("a call that is not run")' not in lines
    for data in (b"not json", b"[" * 100_000, b'{"cells": 3}'):
        assert only_needed("a.ipynb", data, functions) == data


def test_a_note_says_which_definition_counts():
    def notes(*sources):
        return collect_bytes("a.ipynb", cells(*sources), [STEP.function]).notes

    two, wrong = "def retention_step(*_):\n    return 2", "x = 1\ndef retention_step(*_):\n    return 1"
    assert notes(two, STUB, wrong) == [
        "retention_step is defined 3 times: the definition in code cell 3, line 2 counts"
    ]
    assert notes(wrong, two, STUB) == [
        "retention_step is defined 3 times: the definition in code cell 2, line 1 counts"
    ]
    for once in ((two,), (STUB,), (STUB, STUB), (two, "retention_step = (lambda f: f)(retention_step)")):
        assert notes(*once) == []


def test_a_function_in_a_cell_that_jupyter_gives_away_is_not_there_and_a_note_says_why():
    function = "def retention_step(*_):\n    return 1"
    with pytest.raises(UnusableError, match="code cell 1: %%writefile does not run its cell as Python here"):
        collect_bytes("a.ipynb", cells("%%writefile mine.py\n" + function), [STEP.function])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_notebooks_of_old_formats_are_read_as_nbformat_converts_them(version):
    code = {1: "code", 2: "input", 3: "input"}[version]
    listed = [
        {"cell_type": "code", code: SOLVED, "outputs": [], "language": "python", "metadata": {}, "prompt_number": 1}
    ]
    listed.append(
        {"cell_type": "text" if version == 1 else "markdown", "source": "def retention_step(", "metadata": {}}
    )
    old = (
        {"cells": listed}
        if version == 1
        else {"worksheets": [{"cells": listed}, {"cells": listed}], "metadata": {"name": ""}}
    )
    old |= {"nbformat": version, "nbformat_minor": 0}
    if version > 1:
        new = nbformat.convert(nbformat.reads(json.dumps(old), as_version=nbformat.NO_CONVERT), 4)
        wanted = [cell["source"] for cell in new["cells"] if cell["cell_type"] == "code"]
        assert [source for _, source, _ in read_cells("a.ipynb", json.dumps(old).encode())] == wanted
    found = collect_bytes("a.ipynb", json.dumps(old).encode(), [problem.function for problem in EX01.problems])
    assert grade(EX01, found.namespace).passed


ESCAPES = [
    "!pip install x \\\n   y\nx = 1",
    "%matplotlib inline\nx = '''\n%notmagic\n'''\n",
    "files = !ls -l \\\n  -a\ny = 2",
    "a, b = %foo x\nd['k=!'] = !ls",
    "np.outer?\nnp.outer??\n?print\n??print\nx = 3",
    "x = (5\n    % 3)\n%ls\n",
    "  x = 1\n  y = 2",
    "\n\n  !ls\n  y = 2",
    ">>> def f():\n...     return 1\n>>> x = 2\n",
    "In [1]: x = 1\n   ...: y = 2\n",
    "if True:\n    %ls\n    x = 1",
    "x = 'what?'  # why?\n%ls",
    "/f 1 2\n,f a b\n;f a b\nx = 1",
    "for i in x:\n    !echo it's $i \\\n      b\nz = 3",
    "%%time\nx = 1\n!ls\n",
    's = f"{x!r:>{w}}"\n%ls',
    'x = "a\\\nb"\n%ls\ny = 1',
    "@np.vectorize\n%ls",
    "x == %d",
    "x += !ls",
    "x = (!ls)",
    "def f(:\n    %ls",
    "%ls\ndef f():\n    '''\n    >>> f()\n    ...\n    '''\n    ...\n",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_a_cell_is_python_where_ipython_makes_python_of_it(source):
    def read(read):
        try:
            return len(read().body)
        except SyntaxError:
            return None

    theirs = TransformerManager().transform_cell(source)
    assert (read(lambda: parsed(source)) is None) == (read(lambda: ast.parse(theirs)) is None)
    if not source.startswith("%%"):  # of which they make one call
        assert read(lambda: parsed(source)) == read(lambda: ast.parse(theirs))


# What a function prints and asks.


def test_check_shows_what_a_function_prints(tmp_path):
    file = tmp_path / "Copy of ex01.py"
    noisy = SOLVED.replace(
        "    state = gamma * state + outer(k, v)",
        "    print('my state', state.shape)\n    print('x' * 9999)\n    state = gamma * state + outer(k, v)",
    )
    file.write_text(noisy, encoding="utf-8")
    result = invoke("check", file)
    assert result.exit_code == 0, result.output
    assert "It printed:" in result.output
    assert re.search(r"  my state \(\d, \d\)\n", result.output)
    assert "characters more)" in result.output
    assert "a call that is not run" not in result.output


def test_prints_are_kept_short_and_printable():
    got = run(
        lambda x: [print("\x1b[2J\ta", n, file=sys.stderr) for n in range(10**4)] and x, {"x": np.ones(1)}, ("x",)
    )
    assert got.printed.startswith(" [2J    a 0\n [2J    a 1\n")
    assert len(got.printed) < 4000
    assert got.printed.replace("\n", "").isprintable()
    assert run(lambda x: x, {"x": np.ones(1)}, ("x",)).printed == ""


@pytest.mark.parametrize("asks", ["input('k? ')", "sys.stdin.readline()", "sys.stdin.read()", "builtins.input()"])
def test_a_question_is_refused_with_a_word(asks, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it was asked"))
    space = {"sys": sys, "builtins": builtins}
    exec(f"def f(x):\n    return {asks}", space)
    got = run(space["f"], {"x": np.ones(1)}, ("x",))
    assert got.failure == f"EOFError: {NO_INPUT}"
    assert sys.stdin is not None


UNUSABLE = {
    "ex01_old.ipynb": (b'{"worksheets": [3], "nbformat": 3}', "ex01_old.ipynb is not a Jupyter notebook"),
    "ex01_long.ipynb": (notebook(*["x = 1"] * 2001), "ex01_long.ipynb has 2001 code cells, more than 2000"),
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


def test_a_cell_that_takes_too_much_memory_is_told_so_and_costs_no_other(monkeypatch):
    def parsed_within_limits(source):
        if "0, " in source:
            raise MemoryError
        return parsed(source)

    monkeypatch.setattr("exercises.harness.submission.parsed", parsed_within_limits)
    long, short = "X = [0, 0]", "def f(): pass"
    found = collect_bytes("a.ipynb", notebook(long, short), ["f"])
    assert "f" in found.namespace
    assert found.notes == [f"skipped code cell 1: {TOO_LONG}"]
    with pytest.raises(UnusableError, match=TOO_LONG):
        collect_bytes("a.py", f"{long}\n{short}".encode(), ["f"])
