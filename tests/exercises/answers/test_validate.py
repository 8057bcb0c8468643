"""The validator: it passes the exercise that `new` writes, and names each fault that is planted in it."""

import importlib.util
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from paths import ROOT
from typer.testing import CliRunner

from exercises.__main__ import app
from exercises.answers import starter
from exercises.answers.new import write_new
from exercises.answers.recurring import keeps_arguments
from exercises.answers.validate import ODD, advice, validate
from exercises.checking.core import Check, Exercise, problem
from exercises.checking.key import grade

COUNTER = itertools.count()
SUMS = starter.FADING_SUMS
INPUTS = {"x": np.array([1.0, 2.0, 4.0]), "gamma": 0.5}


def with_problem(one, name="ex42"):
    return Exercise(name, "A title", (one,))


def with_solution(solution, inputs=INPUTS, returns=("y",)):
    """An exercise of one problem with wrong answers that differ from any solution."""
    wrong = {
        name: (lambda *arguments, to=to: np.full(7, to), f"message {name}") for name, to in (("a", 1.0), ("b", 2.0))
    }
    checks = {"visible": {"one": (inputs, "a hint")}, "hidden": {"two": (inputs, "a hint")}}
    return with_problem(problem(solution, returns, **checks, wrong_answers=wrong))


@pytest.fixture
def room(tmp_path):
    """A folder with the notebook of a new exercise 42."""
    (tmp_path / "answers").mkdir()
    write_new("ex42", "Sums that fade", tmp_path)
    return tmp_path


def loaded(path):
    spec = importlib.util.spec_from_file_location(f"exercises.answers.{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXERCISE


def test_a_new_exercise_is_proven_as_it_is(room):
    exercise = loaded(room / "answers" / "ex42.py")
    assert (exercise.name, exercise.title) == ("ex42", "Sums that fade")
    assert list(validate(exercise, room)) == []
    assert list(advice(exercise)) == []
    assert (room / "ex42_sums_that_fade.ipynb").is_file()
    assert "ex00" not in (room / "answers" / "ex42.py").read_text() + (room / "ex42_sums_that_fade.ipynb").read_text()


@pytest.mark.parametrize(
    ("name", "title", "message"),
    [
        ("hw1", "A", "name must be ex and two digits, such as ex42, got 'hw1'"),
        ("ex42", "B", "name must be new, but .*ex42.py is there"),
        ("ex43", "?", "title must be a line with words in it, got '\\?'"),
    ],
)
def test_a_name_that_does_not_do_is_refused(room, name, title, message):
    with pytest.raises(ValueError, match=message):
        write_new(name, title, room)


def test_a_title_with_quotes_is_one(tmp_path):
    module, _ = write_new("ex42", 'The "new" \\ ü', tmp_path)
    assert loaded(module).title == 'The "new" \\ ü'


# Faults in the tables.


def faults(exercise, room):
    return "\n".join(validate(exercise, room))


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ({"inputs": {"gamma": 0.5, "x": np.ones(2)}}, r"inputs must be x, gamma, in this order, got gamma, x"),
        ({"inputs": {"x": np.ones(2, int), "gamma": 0.5}}, r"x must hold floats, got int64: write 1\.0, not 1"),
        ({"inputs": {"x": [1.0], "gamma": 0.5}}, "x must be an array, a number or None, got list"),
        ({"hint": "two\nlines"}, r"must be one line of 1 to 120 characters, got 'two\\nlines'"),
        ({"hint": "x" * 121}, "must be one line of 1 to 120 characters"),
        ({"name": SUMS.checks[0].name}, "checks must differ, got twice: three ones at gamma = 1/2"),
    ],
)
def test_a_fault_in_a_check_is_named(room, checks, message):
    one = Check(**{"name": "new", "inputs": INPUTS, "hint": "look"} | checks)
    exercise = with_problem(replace(SUMS, checks=(*SUMS.checks, one)))
    assert re.search(message, faults(exercise, room))


def test_tables_that_are_short_are_named(room):
    short = replace(SUMS, checks=SUMS.checks[:1], wrong_answers=SUMS.wrong_answers[:1])
    told = faults(with_problem(short), room)
    assert "fading_sums: wrong_answers must have 2 entries at least, got 1" in told
    assert "fading_sums: hidden must have a check" in told


# Solutions: of integers and other types, of odd shapes, and faulty ones. None may end in a traceback.


@pytest.mark.parametrize(
    ("solution", "returns", "message"),
    [
        (
            lambda x, gamma: x.astype(int),
            ("y",),
            "y must hold real floating-point numbers, got dtype int64; the solution",
        ),
        (lambda x, gamma: [1, 2], ("y",), "y must be a NumPy array, got list"),
        (lambda x, gamma: x @ x, ("y",), "y must be a NumPy array, got float64"),
        (lambda x, gamma: (x, x, x), ("y", "z"), "it must return 2 arrays, y, z; got 3"),
        (lambda x, gamma: x[7], ("y",), "IndexError"),
        (lambda x, gamma: x * np.nan, ("y",), "NaN or infinity"),
        (lambda x, gamma: x + next(COUNTER), ("y",), "another answer the second time"),
        (lambda x, gamma: np.multiply(x, 2, out=x), ("y",), "the solution changes its arguments x"),
    ],
)
def test_a_faulty_solution_is_named(room, solution, returns, message):
    exercise = with_solution(solution, returns=returns)
    assert message in faults(exercise, room)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), (1, 2, 3)])
def test_answers_of_odd_shapes_are_judged(room, shape):
    exercise = with_solution(lambda x, gamma: np.full(shape, 1.5))
    assert "the solution" not in faults(exercise, room)
    right = grade(exercise, {"<lambda>": lambda x, gamma: np.full(shape, 1.5)})
    assert right.passed
    if np.prod(shape):
        (reason,) = {
            one.reason
            for one in grade(exercise, {"<lambda>": lambda x, gamma: np.zeros(shape)}, hidden=False).results["<lambda>"]
        }
        assert reason.startswith(f"y{str([0] * len(shape)) if shape else ''} is 0, wanted 1.5"), reason


def test_a_solution_that_fails_keeps_a_check_that_says_so():
    exercise = with_solution(lambda x, gamma: x.astype(int))
    (one, _) = grade(exercise, {"<lambda>": lambda x, gamma: x}).results["<lambda>"]
    assert one.reason.startswith("the check itself fails, restart and try again: y must hold real floating-point")


def test_checks_that_let_odd_answers_pass_are_named(room):
    exercise = with_solution(lambda x, gamma: np.zeros((2, 2)))
    told = faults(exercise, room)
    assert "y may be zeros and all visible checks pass" in told
    assert "y may be transposed and all visible checks pass" in told
    assert not any(f"y may be {kind} and" in told for kind in set(ODD) - {"zeros", "transposed"})


def test_checks_that_tell_no_mistake_are_named(room):
    visible = {"nothing fades": ({"x": np.array([1.0, 2.0]), "gamma": 1.0}, "a hint"), **keeps_arguments(INPUTS)}
    hidden = {"it fades": (INPUTS, "a hint")}
    wrong = {one.name: (one.function, one.message) for one in SUMS.wrong_answers}
    told = faults(
        with_problem(problem(SUMS.solution, ("y",), visible=visible, hidden=hidden, wrong_answers=wrong)), room
    )
    assert 'wrong answer "forgets the decay": it passes all visible checks: add one that it fails' in told


def test_mistakes_that_are_one_are_named(room):
    twin = replace(SUMS.wrong_answers[0], name="twin", message="another message")
    told = faults(with_problem(replace(SUMS, wrong_answers=(*SUMS.wrong_answers, twin))), room)
    assert 'wrong answer "twin": no check tells it from: forgets the decay' in told


# Faults in the notebook.


@pytest.mark.parametrize(
    ("cell", "old", "new", "message"),
    [
        ("sums-stub", "raise NotImplementedError", "return x  #", "the stub of fading_sums must raise NotImplementedError"),
        ("sums-stub", "ex42: see", "ex41: see", 'must raise NotImplementedError("ex42: see Eq. N")'),
        ("sums-stub", "gamma: float", "gamma", "the stub must say the type of each argument"),
        ("sums-stub", "x: np.ndarray, gamma: float", "gamma: float, x: np.ndarray", "the stub must take x, gamma, got gamma, x"),
        ("sums-statement", "(6 points", "(7 points", "the title must say (6 points, 2 of them in hidden checks)"),
        ("sums-statement", "shape (", "form (", "the statement must say the shapes"),
        ("sums-statement", "\n\n", "\n\none\n\ntwo\n\nthree\n\n", "the statement must have 1 to 5 lines, got 9"),
        ("sums-statement", "`fading_sums(", "`sums(", "one cell must begin with ##"),
        ("sums-hints", "Hint 2", "Hint 3", "must hold two folded hints"),
        ("all-checks", "check", "print", 'it must have a cell check("ex42")'),
        ("intro", "Say", "nothing fades; say", "it gives away what fading_sums is or how it is checked: nothing fades"),
        ("intro", "Say", "y, last = np.zeros(x.shape), 0.0. Say", "it gives away what fading_sums is"),
    ],
)  # fmt: skip
def test_a_fault_in_the_notebook_is_named(room, cell, old, new, message):
    path = room / "ex42_sums_that_fade.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    (one,) = [each for each in notebook["cells"] if each["id"] == cell]
    text = "".join(one["source"])
    assert old in text
    one["source"] = text.replace(old, new).splitlines(keepends=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert message in faults(loaded(room / "answers" / "ex42.py"), room)


def test_a_notebook_that_is_not_there_is_named(room):
    assert "there must be one notebook ex41_TOPIC.ipynb" in faults(with_problem(SUMS, "ex41"), room)


# The commands.


def test_commands_that_cannot_start_say_why():
    for words in (["new", "ex01", "Again"], ["validate", "--exercise", "hw1"]):
        result = CliRunner().invoke(app, words)
        assert (result.exit_code, result.output.count("\n")) == (2, 1)


STEPS = """
import importlib, json, pathlib, sys
from typer.testing import CliRunner
from exercises.__main__ import app
done = []
for words, writes in json.loads(sys.argv[1]):
    for path, text in writes.items():
        pathlib.Path(path).write_text(text)
    importlib.invalidate_caches()
    result = CliRunner().invoke(app, words)
    done.append((result.exit_code, result.stdout, result.stderr))
print(json.dumps(done))
"""


def test_an_exercise_from_new_to_the_students_release(tmp_path):
    """Each step is a command, after the files that it finds; all run in one process, in a copy of the course."""
    shutil.copytree(ROOT / "exercises", tmp_path / "exercises", ignore=shutil.ignore_patterns("__pycache__"))
    answers, out = tmp_path / "exercises" / "answers", tmp_path / "out"
    prove = ("validate", "--exercise")
    steps = [
        (("new", "ex42", "Sums that fade"), {}),
        ((*prove, "ex42"), {}),
        (("list",), {f"{answers / 'hw1.py'}": "EXERCISE = None\n"}),
        ((*prove, "ex42"), {}),
        ((*prove, "ex43"), {f"{answers / 'ex43.py'}": "x = ["}),
        ((*prove, "ex43"), {f"{answers / 'ex43.py'}": "EXERCISE = 3"}),
        (("release", f"{out}", "--exercise", "ex42"), {}),
        (("check", f"{out / 'ex42_sums_that_fade.ipynb'}"), {}),
    ]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", STEPS, json.dumps(steps)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    new, proven, listed, misnamed, broken, odd, released, checked = json.loads(done.stdout)
    assert new[0] == released[0] == 0
    assert proven[:2] == [0, "ex42: proven\n"], proven
    assert "ex42  Sums that fade (fading_sums; 6 points)" in listed[1]
    assert "hw1.py is left out: its name must be ex and two digits, such as ex42.py" in listed[2]
    assert misnamed[0] == 1
    assert "cannot be loaded: SyntaxError" in broken[1]
    assert "must be an Exercise with a problem" in odd[1]
    assert (out / "ex42_sums_that_fade.ipynb").is_file()
    assert "0 of 6 points in ex42" in checked[1]
