"""The exercises: stubs fail kindly, solutions pass, each wrong answer gets its own message, nothing else passes."""

import inspect
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import exercises
from exercises import check, exercise_names, load
from exercises.__main__ import app
from exercises.checking.core import Check, Exercise, Problem, WrongAnswer
from exercises.checking.judge import judge
from exercises.checking.key import answer_key, grade
from exercises.checking.report import plain_text, to_html
from exercises.harness import runner
from exercises.harness.runner import Run, run
from exercises.harness.submission import _cells, collect, collect_bytes, without_outputs
from refimpl import retention_recurrent
from refimpl.oracle import retention_oracle

FOLDER = Path(exercises.__file__).parent
EXERCISES = [load(name) for name in exercise_names()]
PROBLEMS = [pytest.param(one, problem, id=problem.function) for one in EXERCISES for problem in one.problems]
MISTAKES = [
    pytest.param(one, problem, wrong, id=f"{problem.function}: {wrong.name}")
    for one in EXERCISES
    for problem in one.problems
    for wrong in problem.wrong_answers
]
EX01 = load("ex01")
STEP, LOOP = EX01.problems


def solutions(exercise):
    return {problem.function: problem.solution for problem in exercise.problems}


def results_of(exercise, problem, function):
    return grade(exercise, {problem.function: function}, only=problem.function).results[problem.function]


def notebook_of(exercise):
    (path,) = FOLDER.glob(f"{exercise.name}_*.ipynb")
    return path, json.loads(path.read_text(encoding="utf-8"))


def sources(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


# Every exercise.


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
def test_solutions_earn_every_point(exercise):
    report = grade(exercise, solutions(exercise))
    assert report.passed, plain_text(report)
    assert report.points == report.most == sum(problem.points for problem in exercise.problems) > 0
    assert report.points_not_run == 0


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
def test_visible_checks_alone_say_how_many_points_are_hidden(exercise):
    report = grade(exercise, solutions(exercise), hidden=False)
    assert 0 < report.points < sum(problem.points for problem in exercise.problems)
    assert report.points + report.points_not_run == sum(problem.points for problem in exercise.problems)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
def test_stubs_of_the_notebook_fail_every_check_kindly(exercise):
    path, _ = notebook_of(exercise)
    functions = [problem.function for problem in exercise.problems]
    submission = collect(path, functions)
    report = grade(exercise, submission.namespace)
    assert submission.notes == []
    assert list(report.results) == functions
    for results in report.results.values():
        assert all(re.fullmatch(r"not written yet: see Eq\. \d+", result.reason) for result in results)
        assert not any(result.passed or result.written or result.points for result in results)
    assert "FAIL" not in plain_text(report)


@pytest.mark.parametrize(("exercise", "problem"), PROBLEMS)
def test_problem_is_well_formed(exercise, problem):
    assert len(problem.wrong_answers) >= 2
    assert {check.hidden for check in problem.checks} == {True, False}
    assert len({check.name for check in problem.checks}) == len(problem.checks)
    assert len({wrong.name for wrong in problem.wrong_answers}) == len(problem.wrong_answers)
    assert len({wrong.message for wrong in problem.wrong_answers}) == len(problem.wrong_answers)
    for line in [one.hint for one in problem.checks] + [wrong.message for wrong in problem.wrong_answers]:
        assert line.strip() == line != ""
        assert "\n" not in line
        assert len(line) <= 120
    for one in problem.checks:  # data that can be sent to another process
        for value in one.inputs.values():
            assert (
                value is None or type(value) in (float, int) or (type(value) is np.ndarray and value.dtype.kind == "f")
            )


@pytest.mark.parametrize(("exercise", "problem", "wrong"), MISTAKES)
def test_wrong_answer_is_told_its_own_mistake_and_no_other(exercise, problem, wrong):
    results = results_of(exercise, problem, wrong.function)
    failed = [result for result in results if not result.passed]
    assert failed
    assert {result.mistake for result in failed} == {wrong.name}
    assert {result.reason for result in failed} == {wrong.message}
    assert any(not result.check.hidden for result in failed), "the notebook's own check must see it"


# The notebooks.


@pytest.mark.parametrize(("exercise", "problem"), PROBLEMS)
def test_statement_hints_and_stub(exercise, problem):
    _, notebook = notebook_of(exercise)
    texts = sources(notebook, "markdown")
    (statement,) = [text for text in texts if text.startswith("## ") and f"`{problem.function}(" in text]
    title, *lines = [line for line in statement.splitlines() if line.strip()]
    visible, hidden = (sum(one.points for one in problem.checks if one.hidden is kind) for kind in (False, True))
    assert f"({visible + hidden} points, {hidden} of them in hidden checks)" in title
    assert 1 <= len(lines) <= 5
    assert "shape (" in statement

    hints = texts[texts.index(statement) + 1]
    assert re.findall(r"<details><summary>(Hint \d)</summary>", hints) == ["Hint 1", "Hint 2"]
    assert hints.count("</details>") == 2

    (stub,) = [code for code in sources(notebook, "code") if f"def {problem.function}(" in code]
    namespace = {"np": np}
    exec(stub, namespace)
    function = namespace[problem.function]
    signature = inspect.signature(function)
    assert list(signature.parameters) == list(inspect.signature(problem.solution).parameters)
    assert list(signature.parameters) == list(problem.checks[0].inputs)
    assert all(one.annotation is not inspect.Parameter.empty for one in signature.parameters.values())
    assert signature.return_annotation is not inspect.Signature.empty
    with pytest.raises(NotImplementedError, match=rf"^{exercise.name}: see Eq\. \d+$"):
        function(*problem.checks[0].inputs.values())


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
def test_notebook_is_executed_plain_and_gives_nothing_away(exercise):
    _, notebook = notebook_of(exercise)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z-]+", one) for one in ids), "ids with a meaning are stable ones"
    assert f'check("{exercise.name}")' in [source.strip() for source in sources(notebook, "code")]
    assert "../notebooks/" in sources(notebook, "markdown")[0]

    text = re.sub(r"\s+", " ", "\n".join(sources(notebook, "code") + sources(notebook, "markdown")))
    for problem in exercise.problems:
        for one in problem.checks:
            assert not (one.hidden and one.name in text), one.name
        body = inspect.getsource(problem.solution).splitlines()[2:]
        for line in [line.strip() for line in body if len(line.strip()) > 20]:
            assert line not in text, line


# The first exercise against the rest of the repository.


@pytest.mark.parametrize("one", LOOP.checks, ids=lambda one: one.name)
def test_solution_of_the_loop_is_the_oracle(one):
    q, k, v, gamma, state = one.inputs.values()
    batched = [x if x is None else x[None, None] for x in (q, k, v, state)]
    wanted = retention_oracle(*batched[:3], np.array([gamma]), batched[3])
    for output, target in zip(LOOP.solution(q, k, v, gamma, state), wanted, strict=True):
        np.testing.assert_allclose(output, target[0, 0], rtol=0, atol=max(one.tolerance, 1e-12) * 10)


def test_solution_chains_and_equals_the_package():
    q, k, v, gamma, state = LOOP.checks[1].inputs.values()
    whole, end = LOOP.solution(q, k, v, gamma, state)
    first, middle = LOOP.solution(q[:1], k[:1], v[:1], gamma, state)
    second, last = LOOP.solution(q[1:], k[1:], v[1:], gamma, middle)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-14)
    np.testing.assert_allclose(last, end, rtol=0, atol=1e-14)
    out, state = retention_recurrent(*(x[None, None] for x in (q, k, v)), np.array([gamma]), state[None, None])
    np.testing.assert_allclose(whole, out[0, 0], rtol=0, atol=1e-14)


# What comes back from a student's function can be anything.


class LyingArray(np.ndarray):
    def __eq__(self, other):
        return np.ones(self.shape, dtype=bool)

    def __sub__(self, other):
        return np.zeros(self.shape)

    def __array_function__(self, *_):
        return True

    def tolist(self):
        raise RuntimeError("no list")


class LyingNumber(float):
    def __eq__(self, other):
        return True

    def __sub__(self, other):
        return 0.0

    __hash__ = float.__hash__


class RaisingText(Exception):  # noqa: N818
    def __str__(self):
        raise RuntimeError("no text")


class RaisingAttributes:
    def __getattribute__(self, name):
        raise RuntimeError(name)


def raising(error):
    def function(*_, **__):
        raise error

    return function


def right(*arguments):
    return STEP.solution(*arguments)


def with_out(change):
    """The right answer, its out changed by `change`."""

    def function(*arguments):
        out, state = right(*arguments)
        return change(out), state

    return function


def printing(*arguments):
    print("\x1b[2Jall checks passed")
    return right(*arguments)


def closing_stdout(*arguments):
    sys.stdout.close()


def resizing(q, k, v, gamma, state):
    answer = right(q, k, v, gamma, state)
    state.resize((1, 1), refcheck=False)
    return answer


MALFORMED = {
    "none": (lambda *_: None, "it must return a tuple of 2 arrays, out, state; got None (is the return missing?)"),
    "one array": (lambda *a: right(*a)[0], "it must return a tuple of 2 arrays, out, state; got ndarray"),
    "a list": (lambda *a: list(right(*a)), "it must return a tuple of 2 arrays, out, state; got list"),
    "three": (lambda *a: (*right(*a), right(*a)[0]), "it must return 2 arrays, out, state; got 3"),
    "empty tuple": (lambda *_: (), "it must return 2 arrays, out, state; got 0"),
    "scalar out": (with_out(lambda out: float(out[0])), "out must be a NumPy array, got float"),
    "list out": (with_out(lambda out: out.tolist()), "out must be a NumPy array, got list"),
    "extra axis": (with_out(lambda out: out[None]), "out must have shape (2,), got (1, 2)"),
    "broadcastable": (with_out(lambda out: out[:1]), "out must have shape (2,), got (1,)"),
    "no axis": (with_out(lambda out: np.array(out[0])), "out must have shape (2,), got ()"),
    "nan": (with_out(lambda out: out * np.nan), "out holds nan"),
    "infinite": (with_out(lambda out: np.full(out.shape, np.inf)), "out holds inf"),
    "complex": (with_out(lambda out: out + 0j), "out must hold real floating-point numbers, got dtype complex128"),
    "integer": (with_out(lambda out: out.astype(int)), "out must hold real floating-point numbers, got dtype int64"),
    "text": (with_out(lambda out: out.astype(str)), "out must hold real floating-point numbers, got dtype <U32"),
    "objects": (
        with_out(lambda out: np.array([LyingNumber(0)] * len(out), dtype=object)),
        "out must hold real floating-point numbers, got dtype object",
    ),
    "lying array": (with_out(lambda out: np.zeros(2).view(LyingArray)), "out must be a NumPy array, got LyingArray"),
    "masked": (with_out(lambda out: np.ma.masked_all(2)), "out must be a NumPy array, got MaskedArray"),
    "huge": (with_out(lambda out: np.broadcast_to(0.0, (10**6, 10**6))), "far too many numbers"),
    "slightly off": (with_out(lambda out: out * (1 + 1e-8)), "wanted"),
    "raises": (raising(ZeroDivisionError("by\nzero")), "ZeroDivisionError: by"),
    "raises without words": (raising(KeyError), "KeyError"),
    "raises RaisingText": (raising(RaisingText()), "RaisingText: (its message cannot be shown)"),
    "exits": (raising(SystemExit(0)), "SystemExit: 0"),
    "raises GeneratorExit": (raising(GeneratorExit()), "GeneratorExit"),
    "recursion": (lambda *a: MALFORMED["recursion"][0](*a), "RecursionError: "),
    "no arguments": (lambda: None, "takes 0 positional arguments but 5 were given"),
    "not a function": (3, "it must be a function, got int"),
    "a bare object": (RaisingAttributes(), "it must be a function, got RaisingAttributes"),
    "closes stdout": (closing_stdout, "it must return a tuple of 2 arrays, out, state; got None"),
    "empty stub": (raising(NotImplementedError()), "not written yet"),
}


@pytest.mark.parametrize(("function", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_answers_fail_with_a_reason(function, reason):
    visible = [result for result in results_of(EX01, STEP, function) if not result.check.hidden]
    assert len(visible) == 4
    assert not any(result.passed for result in visible)
    assert reason in visible[0].reason
    assert "\n" not in visible[0].reason
    assert visible[0].reason.isprintable()
    report = grade(EX01, {STEP.function: function})
    assert not report.passed
    assert reason in plain_text(report).replace("\n        ", " ")
    assert "<table>" in to_html(report)


def test_printing_neither_costs_nor_earns_anything(capsys):
    assert all(result.passed for result in results_of(EX01, STEP, printing))
    assert not any(result.passed for result in results_of(EX01, STEP, lambda *_: print("all checks passed")))
    assert capsys.readouterr() == ("", "")


def test_a_resized_argument_counts_as_changed():
    failed = [result for result in results_of(EX01, STEP, resizing) if not result.passed]
    assert [result.reason for result in failed] == [
        "the call changed its argument state: leave the caller's arrays as they are"
    ]


def test_only_the_learner_stops_a_run():
    with pytest.raises(KeyboardInterrupt):
        run(raising(KeyboardInterrupt), STEP.checks[0].inputs, STEP.returns)


def test_error_names_the_line_of_the_function():
    def retention_step(q, k, v, gamma, state):
        new = gamma * state
        return new.nothing

    result = results_of(EX01, STEP, retention_step)[0]
    assert result.reason.startswith("AttributeError: 'numpy.ndarray' object has no attribute 'nothing'")
    assert result.reason.endswith("(line 3 of retention_step)")


def test_replaced_numpy_functions_change_no_verdict(monkeypatch):
    for name in ("allclose", "isclose", "array_equal", "abs", "max", "asarray", "isfinite", "all", "any"):
        monkeypatch.setattr(np, name, lambda *_, **__: True)
    for name in ("assert_allclose", "assert_array_equal"):
        monkeypatch.setattr(np.testing, name, lambda *_, **__: None)
    assert not any(result.passed for result in results_of(EX01, STEP, with_out(lambda out: out + 1)))
    assert all(result.passed for result in results_of(EX01, STEP, right))


def test_a_check_that_cannot_compute_its_answer_says_so(monkeypatch):
    fresh = Exercise("ex01", "its key is not computed yet", (LOOP,))
    monkeypatch.setattr(np, "zeros", raising(TypeError("replaced")))
    first = grade(fresh, {LOOP.function: lambda q, k, v, gamma, state: (v, k)}).results[LOOP.function][0]
    assert first.reason == "the check itself fails, restart and try again: TypeError: replaced"


def test_the_key_is_computed_once():
    calls = []

    def solution(*arguments):
        calls.append(arguments)
        return STEP.solution(*arguments)

    exercise = Exercise("ex01", "counting", (replace(STEP, solution=solution),))
    for _ in range(3):
        assert grade(exercise, {STEP.function: STEP.solution}).passed
    assert len(calls) == len(STEP.checks)


def test_neither_run_nor_judge_changes_the_inputs():
    before = {
        one.name: {name: np.copy(value) for name, value in one.inputs.items() if value is not None}
        for one in STEP.checks
    }

    def vandal(q, k, v, gamma, state):
        for array in (q, k, v, state):
            array[...] = 7.0
        return v, state

    assert not any(result.passed for result in results_of(EX01, STEP, vandal))
    for one in STEP.checks:
        for name, value in before[one.name].items():
            np.testing.assert_array_equal(one.inputs[name], value)


def test_run_returns_plain_copies_and_judge_needs_nothing_else():
    kept = []

    def function(*arguments):
        kept.extend(right(*arguments))
        return tuple(kept)

    key = answer_key(EX01).problems[0]
    one, answers = key.checks[1], key.answers[1]
    got = run(function, one.inputs, STEP.returns)
    kept[0][...] = 0.0  # too late: the outputs are copies
    assert judge(one, answers, got).passed
    again = Run(outputs=tuple(np.array(x.tolist()) for x in got.outputs), inputs=got.inputs)  # as sent over a wire
    assert judge(one, answers, again).passed
    assert not judge(one, answers, Run()).passed
    assert not judge(one, answers, Run(failure="the process ended without an answer")).passed
    assert not judge(one, answers, Run(outputs=got.outputs, failure="killed")).passed
    assert not judge(one, answers, Run(outputs=got.outputs, written=False)).passed
    keeps, answers = key.checks[3], key.answers[3]
    assert keeps.keeps_inputs
    assert not judge(keeps, answers, Run(outputs=run(right, keeps.inputs, STEP.returns).outputs)).passed


def test_a_single_return_value_needs_no_tuple():
    double = Problem(
        "double",
        ("twice",),
        lambda x: 2 * x,
        (Check("a pair", {"x": np.array([1.0, 2.0])}, "add x to itself"),),
        (WrongAnswer("squares", lambda x: x * x, "you squared x"),),
    )
    exercise = Exercise("ex00", "Doubling", (double,))
    for function, reason in (
        (lambda x: x + x, ""),
        (lambda x: x**2, "you squared x"),
        (lambda x: x, "twice[0] is 1, wanted 2"),
    ):
        assert grade(exercise, {"double": function}).results["double"][0].reason == reason


def test_values_are_shown_for_visible_checks_alone():
    results = results_of(EX01, STEP, with_out(lambda out: out + 1.0))
    assert all(re.search(r"out\[0\] is \S+, wanted \S+", one.reason) for one in results if not one.check.hidden)
    hidden = {one.reason for one in results if one.check.hidden}
    assert hidden == {"out has the right shape, but other values than wanted"}


def test_a_difference_in_late_digits_is_shown_in_full():
    result = results_of(EX01, STEP, with_out(lambda out: out + 1e-8))[0]
    came, wanted = re.search(r"is (\S+), wanted (\S+)", result.reason).groups()
    assert came != wanted
    assert float(came) - float(wanted) == pytest.approx(1e-8, rel=1e-6)


# The tables.


def test_report_says_a_repeated_reason_once_and_escapes():
    report = grade(
        EX01, {STEP.function: STEP.wrong_answers[1].function, LOOP.function: raising(ValueError("<b>[red]"))}
    )
    text, page = plain_text(report), to_html(report)
    assert text.count("you forgot the decay") == page.count("you forgot the decay") == 1
    one, two = "  FAIL  one token into a memory that holds something", "  FAIL  values wider than keys (K = 2, V = 3)"
    assert f"{one}\n{two}\n" in text, "checks that fail for one reason stand together"
    assert "ValueError: <b>[red]" in text
    assert "ValueError: &lt;b&gt;[red]" in page
    assert "<b>[red]" not in page
    assert "2 of 8 points" in page
    assert page.count("✓") == text.count("  ok ") == 2


def test_a_half_written_function_keeps_what_it_earned():
    def half(q, k, v, gamma, state):
        if state is None:
            raise NotImplementedError("ex01: see Eq. 6")
        return LOOP.solution(q, k, v, gamma, state)

    text = plain_text(grade(EX01, {LOOP.function: half}, hidden=False, only=LOOP.function))
    assert "2 of 4 points" in text
    assert text.count("  FAIL  ") == text.count("  ok    ") == 2
    assert "not written yet: see Eq. 6" in text


def test_check_finds_functions_where_it_is_called(capsys):
    retention_step, retention_loop = STEP.solution, LOOP.wrong_answers[0].function
    assert check("ex01") is None
    out = capsys.readouterr().out
    assert "retention_step: 4 of 4 points" in out
    assert "you read the state before writing the new token" in out
    namespace = {"check": check, "retention_loop": LOOP.solution}
    exec('check("ex01", "retention_loop")', namespace)
    out = capsys.readouterr().out
    assert "retention_loop: 4 of 4 points" in out
    assert "retention_step" not in out
    assert retention_step is not retention_loop


def test_check_refuses_unknown_names():
    with pytest.raises(ValueError, match=r"exercise must be one of 'ex01'.*, got 'ex1'"):
        check("ex1")
    with pytest.raises(ValueError, match="problem must be one of 'retention_step', 'retention_loop', got 'step'"):
        check("ex01", "step")


def test_check_displays_a_table_in_ipython():
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    try:
        from IPython.utils.capture import capture_output

        with capture_output() as captured:
            shell.run_cell('from exercises import check\ncheck("ex01")')
        (shown,) = captured.outputs
        assert shown.data["text/html"].startswith("<table>")
        assert "retention_step is not defined" in shown.data["text/plain"]
    finally:
        type(shell).clear_instance()


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
"""


def invoke(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "100"})


def write_notebook(path, *cells):
    """Write a notebook of code cells, sources as lists of lines, as Jupyter writes them."""
    cells = [{"cell_type": "code", "source": cell.splitlines(keepends=True), "metadata": {}} for cell in cells]
    cells.insert(0, {"cell_type": "markdown", "source": "def retention_step(", "metadata": {}})
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


def test_command_line_passes_a_solved_script(tmp_path):
    file = tmp_path / "ex01_mine.py"
    file.write_text(SOLVED, encoding="utf-8")
    result = invoke("check", file)
    assert result.exit_code == 0, result.output
    assert "18 of 18 points in ex01." in result.output
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
    file = write_notebook(
        tmp_path / "ex01.ipynb",
        "%matplotlib inline\nimport numpy as np\n!ls",
        "def retention_loop(*_):\n    raise NotImplementedError",
        "1 / 0",
        "this is no Python",
        "helper = 1 / 0",
        SOLVED[SOLVED.index("WIDTH") : half].replace("Undefined", "np.ndarray"),
        "check('ex01')",
        SOLVED[half:] + "\n    helper\n",
    )
    result = invoke("check", file)
    assert result.exit_code == 0, result.output
    assert "18 of 18 points" in result.output
    assert "Note: skipped code cell 4, line 1: invalid syntax" in result.output
    assert "Note: code cell 5, line 1: ZeroDivisionError: division by zero" in result.output


def test_a_tag_decides_between_definitions(tmp_path):
    file = write_notebook(tmp_path / "ex01.ipynb", SOLVED, "def retention_step(*_):\n    return 'a later attempt'")
    assert "it must return a tuple of 2 arrays" in invoke("check", file).output
    notebook = json.loads(file.read_text(encoding="utf-8"))
    notebook["cells"][1]["metadata"]["tags"] = ["ex01:retention_step", "mine"]
    file.write_text(json.dumps(notebook), encoding="utf-8")
    result = invoke("check", file)
    assert result.exit_code == 0, result.output
    notebook["cells"][2]["metadata"]["tags"] = ["ex01:retention_step"]  # of two with the tag, the last
    file.write_text(json.dumps(notebook), encoding="utf-8")
    assert invoke("check", file).exit_code == 1


def test_command_line_checks_the_student_notebook_as_it_is():
    path, _ = notebook_of(EX01)
    result = invoke("check", path)
    assert result.exit_code == 1
    assert result.output.count("not written yet: see Eq. 6") == 2
    assert "0 of 18 points" in result.output


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
        found = collect_bytes(name, data, [STEP.function, LOOP.function])
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
    assert len(result.output.splitlines()) == len(EXERCISES)
    assert "ex01  Retention, one token at a time (retention_step, retention_loop; 18 points)" in result.output
    text = " ".join(invoke("check", "--help").output.split())
    assert "runs the code in FILE on this machine" in text
    assert "your own work" in text


def test_bounded_messages():
    assert len(runner.one_line("x" * 10_000)) == runner.LONGEST_LINE
    assert runner.one_line("\n\n") == ""
