"""Proves an exercise: its stub fails kindly, its solution earns all points, each wrong answer is told its own name.

Each function yields what is wrong, in lines for the author; an exercise that yields none is ready. `advice` is not binding.
"""

import contextlib
import inspect
import json
import re
from pathlib import Path

import numpy as np

from ..checking.core import Exercise
from ..checking.judge import likelihoods
from ..checking.key import answer_key, grade
from ..harness.runner import run, several
from ..harness.submission import collect

ROOM = Path(__file__).parent.parent
LONGEST = 120  # characters of a hint or a message


def validate(exercise, room=ROOM):
    """Yield everything that is wrong with an `Exercise` and with its notebook in the folder `room`."""
    if not isinstance(exercise, Exercise) or not exercise.problems:
        yield f"EXERCISE must be an Exercise with a problem at least, got {exercise!r:.60}"
        return
    yield from of_data(exercise)
    for problem in exercise.problems:
        broken = list(of_solution(exercise, problem))
        yield from broken
        if not broken:  # else each of these would say the same again
            for wrong in problem.wrong_answers:
                yield from of_wrong_answer(exercise, problem, wrong)
            yield from of_odd_answers(exercise, problem)
    yield from of_notebook(exercise, room)


def of_data(exercise):
    """Yield what is wrong with the tables: names, lines, arguments."""
    for problem in exercise.problems:
        name, wanted = problem.function, list(inspect.signature(problem.solution).parameters)
        if len(problem.wrong_answers) < 2:
            yield f"{name}: wrong_answers must have 2 entries at least, got {len(problem.wrong_answers)}"
        for kind, hidden in (("visible", False), ("hidden", True)):
            if not any(check.hidden is hidden for check in problem.checks):
                yield f"{name}: {kind} must have a check"
        for what, names in (
            ("checks", [check.name for check in problem.checks]),
            ("wrong answers", [wrong.name for wrong in problem.wrong_answers]),
            ("messages of wrong answers", [wrong.message for wrong in problem.wrong_answers]),
        ):
            twice = sorted({one for one in names if names.count(one) > 1})
            if twice:
                yield f"{name}: {what} must differ, got twice: {'; '.join(twice)}"
        lines = [(check.name, check.hint) for check in problem.checks]
        for title, line in lines + [(wrong.name, wrong.message) for wrong in problem.wrong_answers]:
            if not line.strip() or line != line.strip() or "\n" in line or len(line) > LONGEST:
                yield f'{name}, "{title}": its text must be one line of 1 to {LONGEST} characters, got {line!r}'
        for check in problem.checks:
            if list(check.inputs) != wanted:
                got = ", ".join(check.inputs)
                yield f'{name}, "{check.name}": inputs must be {", ".join(wanted)}, in this order, got {got}'
            for argument, value in check.inputs.items():
                if type(value) is np.ndarray and value.dtype.kind != "f":
                    yield f'{name}, "{check.name}": {argument} must hold floats, got {value.dtype}: write 1.0, not 1'
                elif value is not None and type(value) not in (float, int, np.ndarray):
                    came = type(value).__name__
                    yield f'{name}, "{check.name}": {argument} must be an array, a number or None, got {came}'


def of_solution(exercise, problem):
    """Yield the checks that the solution fails, does not answer in floats, or answers differently the second time."""
    (key,) = (one for one in answer_key(exercise).problems if one.function == problem.function)
    for check, answers in zip(problem.checks, key.answers, strict=True):
        where, failure = f'{problem.function}, "{check.name}"', answers.wanted.failure
        if failure:
            floats = "; the solution must return np.ndarray of floats, as a student's must" if "must" in failure else ""
            yield f"{where}: the solution fails: {failure}{floats}"
            continue
        again = run(problem.solution, check.inputs, problem.returns)
        pairs = zip(answers.wanted.outputs, again.outputs, strict=True)
        if not all(np.array_equal(one, two, equal_nan=True) for one, two in pairs):
            yield f"{where}: the solution gives another answer the second time"
        if not all(np.isfinite(one).all() for one in again.outputs):
            yield f"{where}: the solution gives NaN or infinity, which no student's answer can agree with"
        changed = [
            name
            for name, value in again.inputs.items()
            if not np.array_equal(value, check.inputs[name], equal_nan=True)
        ]
        if changed:
            yield f"{where}: the solution changes its arguments {', '.join(changed)}"


def of_wrong_answer(exercise, problem, wrong):
    """Yield in what a wrong answer is not told its own name, and no other, by all checks and by the visible ones."""
    key = answer_key(exercise).only(problem.function)
    runs = {
        (problem.function, check.name): run(wrong.function, check.inputs, problem.returns) for check in problem.checks
    }
    judged = [
        (check, answers, runs[problem.function, check.name])
        for check, answers in zip(problem.checks, key.problems[0].answers, strict=True)
    ]
    likely = likelihoods([one for one in judged if not one[0].hidden])
    alike = _alike(likely, wrong)  # hidden checks name no mistake of their own
    likely.update(likelihoods([one for one in judged if one[0].hidden]))
    results = key.report(runs).results[problem.function]
    for checks, shown in (("visible checks", [one for one in results if not one.check.hidden]), ("checks", results)):
        failed = [one for one in shown if not one.passed]
        where = f'{problem.function}, wrong answer "{wrong.name}"'
        if not failed:
            yield f"{where}: it passes all {checks}: add one that it fails"
        others = sorted({one.mistake or one.reason for one in failed} - alike)
        if others:
            yield f"{where}: the {checks} call it something else: {'; '.join(others)}"
    if twins := sorted(_alike(likely, wrong) - {wrong.name}):
        yield f'{problem.function}, wrong answer "{wrong.name}": no check tells it from: {"; ".join(twins)}'


def _alike(likely, wrong):
    """Return the mistakes that no check tells from this one; likely: the `likelihoods` of what it gave."""
    return {name for name, agreed in likely.items() if agreed >= likely[wrong.name]}


ODD = {
    "None": lambda one: None,
    "a list": lambda one: one.tolist(),
    "integers": lambda one: np.rint(one).astype(int),
    "complex numbers": lambda one: one.astype(complex),
    "an axis more": lambda one: one[None],
    "flat": np.ravel,
    "transposed": np.transpose,
    "zeros": np.zeros_like,
    "ones": np.ones_like,
    "NaN": lambda one: np.full_like(one, np.nan),
    "empty": lambda one: one[..., :0] if one.ndim else np.zeros(0),
}


def of_odd_answers(exercise, problem):
    """Yield which answers of odd types, shapes and values pass all visible checks; nothing a student returns may break one."""
    for at, name in enumerate(problem.returns):
        shapes = [run(problem.solution, check.inputs, problem.returns).outputs[at].shape for check in problem.checks]
        for kind, change in ODD.items():
            flat = {"flat": 1, "transposed": 1}.get(kind, -1)
            if all(len(shape) <= flat for shape in shapes):
                continue  # the same array

            def odd(*arguments, at=at, change=change):
                outputs = list(_called(problem, arguments))
                outputs[at] = change(outputs[at])
                return tuple(outputs) if len(outputs) > 1 else outputs[0]

            report = grade(exercise, {problem.function: odd}, hidden=False, only=problem.function)
            if all(one.passed for one in report.results[problem.function] if not one.check.keeps_inputs):
                yield f"{problem.function}: {name} may be {kind} and all visible checks pass: add one that tells"


def _called(problem, arguments):
    got = problem.solution(*arguments)
    return got if len(problem.returns) > 1 else (got,)


def of_notebook(exercise, room=ROOM):
    """Yield what is wrong with the notebook: statement, hints, stub and checks of each problem, and what it gives away."""
    paths = sorted(Path(room).glob(f"{exercise.name}_*.ipynb"))
    if len(paths) != 1:
        yield f"{exercise.name}: there must be one notebook {exercise.name}_TOPIC.ipynb in {room}, found {len(paths)}"
        return
    path, notebook = paths[0], json.loads(paths[0].read_text(encoding="utf-8"))
    texts, codes = (_sources(notebook, kind) for kind in ("markdown", "code"))
    if f'check("{exercise.name}")' not in map(str.strip, codes):
        yield f'{path.name}: it must have a cell check("{exercise.name}")'
    submission = collect(path, [problem.function for problem in exercise.problems])
    report = grade(exercise, submission.namespace)
    for problem in exercise.problems:
        name = problem.function
        reasons = {one.reason for one in report.results[name]}
        stub = re.search(rf'def {name}\(.*?raise NotImplementedError\("(.*?)"\)', "\n".join(codes), re.DOTALL)
        written = stub and re.fullmatch(rf"{exercise.name}: see Eq\. \d+", stub[1])
        if not written or not all(re.fullmatch(r"not written yet: see Eq\. \d+", reason) for reason in reasons):
            wanted = f'raise NotImplementedError("{exercise.name}: see Eq. N") and nothing else'
            yield f"{path.name}: the stub of {name} must {wanted}; its checks say: {'; '.join(sorted(reasons))}"
        yield from (f"{path.name}, {name}: {line}" for line in _of_cells(problem, texts, codes))
    text = _spaced("\n".join(codes + texts))
    for problem in exercise.problems:
        told = [one.name for one in problem.checks if one.hidden and one.name in text]
        body = inspect.getsource(problem.solution).splitlines()[2:]
        told += [line for line in map(str.strip, body) if len(line) > 20 and line in text]
        for line in told:
            yield f"{path.name}: it gives away what {problem.function} is or how it is checked: {line}"


def _of_cells(problem, texts, codes):
    """Yield what is wrong with the statement, the hints and the signature of one problem."""
    found = [n for n, text in enumerate(texts) if text.startswith("## ") and f"`{problem.function}(" in text]
    if len(found) != 1:
        yield f"one cell must begin with ## and state `{problem.function}(...)`, found {len(found)}"
        return
    title, *lines = [line for line in texts[found[0]].splitlines() if line.strip()]
    hidden = sum(check.points for check in problem.checks if check.hidden)
    points = f"({several(problem.points, 'point')}, {hidden} of them in hidden checks)"
    if points not in title:
        yield f"the title must say {points}, got {title!r}"
    if not 1 <= len(lines) <= 5:
        yield f"the statement must have 1 to 5 lines, got {len(lines)}"
    if "shape (" not in texts[found[0]]:
        yield "the statement must say the shapes: of shape (T, K)"
    hints = texts[found[0] + 1] if found[0] + 1 < len(texts) else ""
    if (
        re.findall(r"<details><summary>(Hint \d)</summary>", hints) != ["Hint 1", "Hint 2"]
        or hints.count("</details>") != 2
    ):
        yield "the next text cell must hold two folded hints, <details><summary>Hint 1</summary>"
    stubs = [code for code in codes if f"def {problem.function}(" in code]
    function = None
    with contextlib.suppress(Exception):
        namespace = {"np": np}
        exec(stubs[0], namespace)
        function = namespace[problem.function]
    if len(stubs) != 1 or function is None:
        yield f"one cell must define it, and run with NumPy as np alone, found {len(stubs)}"
        return
    signature, wanted = inspect.signature(function), list(inspect.signature(problem.solution).parameters)
    if list(signature.parameters) != wanted:
        yield f"the stub must take {', '.join(wanted)}, got {', '.join(signature.parameters)}"
    empty = inspect.Parameter.empty
    if any(one.annotation is empty for one in signature.parameters.values()) or signature.return_annotation is empty:
        yield "the stub must say the type of each argument and of what it returns"


def advice(exercise):
    """Yield what would make an exercise harder to get past, where it is not needed to."""
    for problem in exercise.problems:
        arrays = [value for check in problem.checks for value in check.inputs.values() if type(value) is np.ndarray]
        if not any(array.size == 0 for array in arrays):
            yield f"{problem.function}: no check has an empty array, such as T = 0"
        wide = [array for array in arrays if array.ndim > 1]
        if wide and not any(len(set(array.shape)) == array.ndim for array in wide):
            yield f"{problem.function}: all arrays are square: a check with K ≠ V tells what is transposed"
        if not any(check.keeps_inputs for check in problem.checks):
            yield f"{problem.function}: no check asks whether the arguments stay as they were (keeps_arguments)"
        if not any(array.dtype == np.float32 for array in arrays):
            yield f"{problem.function}: no check has float32 arrays (float32_arrays)"


def _sources(notebook, kind):
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == kind]


def _spaced(text):
    return re.sub(r"\s+", " ", text)
