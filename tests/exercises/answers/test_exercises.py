"""Every exercise: stubs fail kindly, solutions pass, each wrong answer gets its own message, notebooks give nothing away."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
from graded import AGREE

import exercises
from exercises import exercise_names, load
from exercises.checking.key import grade
from exercises.checking.report import plain_text
from exercises.harness.submission import collect

FOLDER = Path(exercises.__file__).parent
EXERCISES = [load(name) for name in exercise_names()]
PROBLEMS = [pytest.param(one, problem, id=problem.function) for one in EXERCISES for problem in one.problems]
MISTAKES = [
    pytest.param(one, problem, wrong, id=f"{problem.function}: {wrong.name}")
    for one in EXERCISES
    for problem in one.problems
    for wrong in problem.wrong_answers
]


def solutions(exercise):
    return {problem.function: problem.solution for problem in exercise.problems}


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
    assert all(list(one.inputs) == list(inspect.signature(problem.solution).parameters) for one in problem.checks)
    for one in problem.checks:  # data that can be sent to another process
        for value in one.inputs.values():
            assert (
                value is None or type(value) in (float, int) or (type(value) is np.ndarray and value.dtype.kind == "f")
            )


@pytest.mark.parametrize(("exercise", "problem", "wrong"), MISTAKES)
def test_visible_checks_alone_tell_the_same_mistake(exercise, problem, wrong):
    report = grade(exercise, {problem.function: wrong.function}, hidden=False, only=problem.function)
    told = {result.mistake for result in report.results[problem.function] if not result.passed}
    assert told in ({wrong.name}, {AGREE.get(wrong.name)})


@pytest.mark.parametrize(("exercise", "problem", "wrong"), MISTAKES)
def test_wrong_answer_is_told_its_own_mistake_and_no_other(exercise, problem, wrong):
    report = grade(exercise, {problem.function: wrong.function}, only=problem.function)
    failed = [result for result in report.results[problem.function] if not result.passed]
    assert failed
    message = {one.name: one.message for one in problem.wrong_answers}
    (told,) = {result.mistake for result in failed}
    assert told in (wrong.name, AGREE.get(wrong.name))
    assert {result.reason for result in failed} == {message[told]}
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
    asked = ["".join(cell["source"]) for cell in code if cell["id"] != "given"]  # that cell holds a tool for students
    stubs = re.findall(r"^def (\w+)\(", "\n".join(asked), re.MULTILINE)
    assert stubs == [problem.function for problem in exercise.problems]
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
