"""The students' release: it checks as the course does, needs only NumPy, and gives nothing away; and nbgrader's notebooks."""

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from zoo import FULL, RIGHT, RIGHT_DOCUMENTS, RIGHT_LOOP, RIGHT_REPLACING, RIGHT_STEP

import exercises
from exercises import exercise_names, load
from exercises.checking.key import answer_key, from_json, grade, to_json
from exercises.checking.report import plain_text
from exercises.handout.release import SHARED, STUDENT, notebooks_of, write_nbgrader, write_release

COURSE = Path(exercises.__file__).parent


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    out = tmp_path_factory.mktemp("release")
    write_release(out, exercise_names())
    return out


@pytest.fixture(scope="module")
def texts(release):
    return {
        path.relative_to(release).as_posix(): path.read_text(encoding="utf-8")
        for path in release.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def words(texts):
    """The texts without lists of numbers, most of what they are, which hold no line of code."""
    return {file: re.sub(r"\[[\d\s.,e+-]{200,}\]", "[]", text) for file, text in texts.items()}


def arrays_of(key, hidden):
    """The numbers of every array that is more than one number repeated, in inputs and outputs of the checks."""
    for problem in key.problems:
        for check, answers in zip(problem.checks, problem.answers, strict=True):
            if check.hidden is hidden:
                runs = [answers.wanted, *(run for _, _, run in answers.mistakes)]
                for array in [*check.inputs.values(), *(array for run in runs for array in run.outputs)]:
                    if isinstance(array, np.ndarray) and np.unique(array).size > 1 and np.isfinite(array).all():
                        yield tuple(array.ravel().tolist())


def leaves(data):
    """Every text, number and list of numbers in JSON data."""
    if isinstance(data, dict):
        data = list(data.values())
    elif not isinstance(data, list) or all(isinstance(one, int | float) for one in data):
        yield data
        return
    for one in data:
        yield from leaves(one)


def in_release(release, code, *options):
    """Run `code` in the folder of the release, where Python finds NumPy and no other package."""
    packages = str(Path(np.__file__).parent.parent)
    start = f"""
import sys
class OnlyNumPy:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {{"typer", "rich", "refimpl", "IPython", "array_api_compat", "click"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, OnlyNumPy())
sys.path[:0] = [{str(release)!r}]
sys.path.append({packages!r})
"""
    command = [sys.executable, "-I", "-S", "-c", start + code, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, cwd=release, timeout=120, check=False)


def test_what_is_released(texts):
    names = [f"exercises/{name}.json" for name in exercise_names()]
    names += [f"exercises/{path}" for path in (*SHARED, *STUDENT)]
    names += [path.name for name in exercise_names() for path in notebooks_of(name)]
    assert set(texts) == {"README.md", *names}
    for path in SHARED:
        assert texts[f"exercises/{path}"] == (COURSE / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", exercise_names())
def test_no_line_of_a_solution_or_wrong_answer_is_released(name, words):
    functions = [
        one
        for problem in load(name).problems
        for one in (problem.solution, *(w.function for w in problem.wrong_answers))
    ]
    lines = {line.strip() for function in functions for line in inspect.getsource(function).splitlines()[1:]}
    lines = {line for line in lines if len(line) > 20 and not line.startswith(("WrongAnswer(", '"', "#"))}
    assert lines
    for line in lines:
        for file, text in words.items():
            assert line not in text, f"{file}: {line}"


@pytest.mark.parametrize("name", exercise_names())
def test_nothing_of_a_hidden_check_is_released(name, texts):
    key, data = answer_key(load(name)), json.loads(texts[f"exercises/{name}.json"])
    checks = [check for problem in key.problems for check in problem.checks]
    released = [value for value in leaves(data) if isinstance(value, str)]
    pages = re.sub(r"\s+", " ", "".join(texts[path.name] for path in notebooks_of(name)))
    for field in ("name", "hint"):
        seen = {getattr(check, field) for check in checks if not check.hidden}
        assert seen <= set(released)  # the search finds what is there
        for secret in {getattr(check, field) for check in checks if check.hidden} - seen:
            assert secret not in released
            assert json.dumps(secret)[1:-1] not in pages
    seen = set(arrays_of(key, hidden=False))
    secrets = set(arrays_of(key, hidden=True)) - seen
    released = {tuple(value) for value in leaves(data) if isinstance(value, list)}
    assert secrets
    assert seen <= released
    assert not secrets & released
    assert all(not check["hidden"] for problem in data["problems"] for check in problem["checks"])


@pytest.mark.parametrize("name", exercise_names())
def test_a_key_survives_json(name):
    key = answer_key(load(name))
    text = to_json(key)
    again = from_json(text)
    assert to_json(again) == text
    solutions = {problem.function: problem.solution for problem in load(name).problems}
    assert grade(again, solutions).passed
    assert plain_text(grade(again, {})) == plain_text(grade(key, {}))


def some_wrong_answers(exercise):
    """Which wrong answers, by their numbers: the first, a middle and the last; the keys are compared above."""
    last = max(len(problem.wrong_answers) for problem in exercise.problems) - 1
    return 0, last // 2, last


@pytest.fixture(scope="module")
def checked_in_release(release):
    """What `check` prints in the release of stubs, of solutions and of some wrong answers, by exercise; in one process for all."""
    some = {name: some_wrong_answers(load(name)) for name in exercise_names()}
    code = f"""
import importlib, types
package = types.ModuleType("course")
package.__path__ = [{str(COURSE)!r}]
sys.modules["course"] = package
from exercises import check
for name, some in {some}.items():
    solved = importlib.import_module("course.answers." + name).EXERCISE
    check(name)
    for n in (-1, *some):
        for problem in solved.problems:
            one = problem.solution if n < 0 else problem.wrong_answers[min(n, len(problem.wrong_answers) - 1)].function
            globals()[problem.function] = one
        check(name)
    print("the end of", name)
"""
    result = in_release(release, code)
    assert result.returncode == 0, result.stderr
    parts = re.split(r"^the end of (ex\d\d)\n", result.stdout, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[0::2], strict=False))


@pytest.mark.parametrize("name", exercise_names())
def test_check_says_the_same_in_the_release(name, checked_in_release):
    """On stubs, on solutions and on some wrong answers the table is the course's; the code that judges them is, to the byte."""
    exercise = load(name)
    wanted = [{}, {problem.function: problem.solution for problem in exercise.problems}]
    for n in some_wrong_answers(exercise):
        wrong = {
            one.function: one.wrong_answers[min(n, len(one.wrong_answers) - 1)].function for one in exercise.problems
        }
        wanted.append(wrong)
    assert checked_in_release[name] == "".join(plain_text(grade(exercise, one, hidden=False)) + "\n" for one in wanted)


def test_the_prompt_in_the_release(release, tmp_path):
    file = tmp_path / "ex01_mine.py"
    start = "from exercises.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    file.write_text(RIGHT)
    result = in_release(release, start, "check", file)
    assert result.returncode == 0, result.stderr
    assert (
        "22 of 22 points in the visible checks of ex01. 8 points more are in hidden checks: in the whole course"
        in result.stdout
    )
    file.write_text(RIGHT.replace("gamma * state + k[:, None]", "state + k[:, None]"))
    result = in_release(release, start, "check", file)
    assert result.returncode == 1
    assert "you forgot the decay" in result.stdout
    result = in_release(release, start, "check", release / "ex01_retention_step.ipynb")
    assert result.returncode == 1
    assert result.stdout.count("not written yet: see Eq. 6") == 4
    result = in_release(release, start, "check", tmp_path / "ex99.py")
    assert result.returncode == 2
    assert result.stderr.startswith("Cannot check: exercise must be one of 'ex01'")


@pytest.mark.parametrize("name", exercise_names())
def test_notebooks_are_plain_and_marked_for_nbgrader(name, texts):
    key = answer_key(load(name))
    for path in notebooks_of(name):
        notebook = json.loads(texts[path.name])
        marks = {}
        for cell in notebook["cells"]:
            assert cell.get("outputs", []) == []
            assert cell.get("execution_count") is None
            assert "](../" not in "".join(cell["source"])
            assert "hidden checks too" not in "".join(cell["source"])
            if "nbgrader" in cell["metadata"]:
                mark = cell["metadata"]["nbgrader"]
                assert mark["schema_version"] == 3
                assert mark["grade_id"] not in marks
                marks[mark["grade_id"]] = mark
        for problem in key.problems:
            assert marks[f"{problem.function}-solution"]["solution"]
            assert marks[f"{problem.function}-test"]["points"] == problem.points
        assert sum(mark.get("points", 0) for mark in marks.values()) == sum(problem.points for problem in key.problems)
        source = json.loads(path.read_text(encoding="utf-8"))
        code, released = (
            ["".join(cell["source"]) for cell in one["cells"] if cell["cell_type"] == "code"]
            for one in (source, notebook)
        )
        tests = [f'check("{name}", "{problem.function}")' for problem in key.problems]
        assert [one for one in released if one not in tests] == [one for one in code if one not in tests]
        assert sorted(one for one in released if one in tests) == sorted(tests)
        ids = [cell["id"] for cell in notebook["cells"]]
        assert len(set(ids)) == len(ids)


def test_release_needs_an_empty_folder(tmp_path):
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        write_release(tmp_path, ["ex01"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_one_exercise_alone_can_be_released(tmp_path):
    command = [sys.executable, "-m", "exercises", "release", str(tmp_path / "out"), "--exercise", "ex01"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=COURSE.parent, check=False)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").rglob("ex*") if path.is_file()} == {
        "ex01.json",
        "ex01_retention_step.ipynb",
    }


@pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None, reason="nbgrader is not installed: pip install '.[nbgrader]'"
)
def test_nbgrader_takes_the_notebooks(tmp_path):
    """generate_assignment takes the hidden tests out, autograde gives the points of all checks."""
    from nbgrader.api import Gradebook

    write_nbgrader(tmp_path, ["ex01"])
    (source,) = tmp_path.glob("source/ex01/*.ipynb")
    assert "BEGIN HIDDEN TESTS" in source.read_text(encoding="utf-8")

    def nbgrader(*arguments):
        command = [sys.executable, "-m", "nbgrader", *arguments]
        command += [f"--CourseDirectory.root={tmp_path}", "--CourseDirectory.course_id=retnet"]
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(COURSE.parent),
            "HOME": str(tmp_path),
        }
        result = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False
        )
        assert result.returncode == 0, result.stderr[-3000:]

    nbgrader("generate_assignment", "ex01")
    released = tmp_path / "release" / "ex01" / source.name
    text = released.read_text(encoding="utf-8")
    assert "HIDDEN TESTS" not in text
    assert "points(" not in text

    answers = {
        "ada": (RIGHT_STEP, RIGHT_LOOP, RIGHT_DOCUMENTS, RIGHT_REPLACING),
        "bob": (None,) * 4,
        "cem": (RIGHT_STEP.replace("gamma * ", ""), RIGHT_LOOP, RIGHT_DOCUMENTS, RIGHT_REPLACING),
    }
    for student, functions in answers.items():
        notebook = json.loads(text)
        for cell in notebook["cells"]:
            for name, answer in zip(
                ("retention_step", "retention_loop", "retention_documents", "replacing_step"), functions, strict=True
            ):
                if answer and cell["metadata"].get("nbgrader", {}).get("grade_id") == f"{name}-solution":
                    cell["source"] = answer
        target = tmp_path / "submitted" / student / "ex01" / source.name
        target.parent.mkdir(parents=True)
        target.write_text(json.dumps(notebook), encoding="utf-8")
    nbgrader("autograde", "ex01")
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as book:
        scores = {one.student.id: (one.score, one.max_score) for one in book.assignment_submissions("ex01")}
    step = grade(
        load("ex01"), {"retention_step": namespace_of(answers["cem"][0])["retention_step"]}, only="retention_step"
    ).points
    assert 0 < step < 8
    assert scores == {"ada": (FULL, FULL), "bob": (0, FULL), "cem": (step + FULL - 8, FULL)}


def namespace_of(source):
    namespace = {"np": np}
    exec(source, namespace)
    return namespace
