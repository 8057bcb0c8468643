"""Every exercise: stubs fail kindly, solutions pass, each wrong answer gets its own message, notebooks give nothing away."""

import json
import re
from pathlib import Path

import pytest

import exercises
from exercises import exercise_names, load
from exercises.answers.validate import of_data, of_notebook, of_odd_answers, of_solution, of_wrong_answer
from exercises.checking.key import grade
from exercises.checking.report import plain_text
from exercises.harness.submission import collect

FOLDER = Path(exercises.__file__).parent
EXERCISES = [load(name) for name in exercise_names()]
PROBLEMS = [pytest.param(one, problem, id=problem.function) for one in EXERCISES for problem in one.problems]


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


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
def test_data_and_notebook_are_as_an_author_is_told(exercise):
    assert list(of_data(exercise)) == []
    assert list(of_notebook(exercise)) == []


@pytest.mark.parametrize(("exercise", "problem"), PROBLEMS)
def test_solution_answers_and_odd_answers_do_not(exercise, problem):
    assert list(of_solution(exercise, problem)) == []
    assert list(of_odd_answers(exercise, problem)) == []


@pytest.mark.parametrize(("exercise", "problem"), PROBLEMS)
def test_each_wrong_answer_is_told_its_own_mistake_and_no_other(exercise, problem):
    """Also by the visible checks alone, unless these cannot tell it from another."""
    assert [line for wrong in problem.wrong_answers for line in of_wrong_answer(exercise, problem, wrong)] == []


# The notebooks.


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
def test_notebook_is_executed_and_plain(exercise):
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
    assert "../notebooks/" in sources(notebook, "markdown")[0]
