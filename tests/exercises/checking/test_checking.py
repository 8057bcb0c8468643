"""Judging and reporting: whatever a student's function returns becomes a verdict with a reason."""

import contextlib
import re
import sys
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from exercises import check, exercise_names, load
from exercises.checking.core import Check, Exercise, Problem, WrongAnswer
from exercises.checking.judge import judge
from exercises.checking.key import answer_key, grade
from exercises.checking.report import SIGNS, plain_text, styled_lines, to_html
from exercises.harness import runner
from exercises.harness.runner import Run, run

EX01 = load("ex01")
STEP, LOOP, *_ = EX01.problems


def results_of(exercise, problem, function):
    return grade(exercise, {problem.function: function}, only=problem.function).results[problem.function]


# What float32 costs has a name, whatever is written in it.

SQUARE = Problem(
    "square",
    ("y", "z"),
    lambda x: (x * x, x + 1),
    (Check("three numbers", {"x": np.array([0.1, 0.7, 3.3])}, "multiply"),),
    (),
)


def in_float32(x):
    return tuple(y.astype(np.float32) for y in SQUARE.solution(x.astype(np.float32)))


FLOAT32 = {
    "everything": (in_float32, True),
    "one output": (lambda x: (SQUARE.solution(x)[0].astype(np.float32), x + 1), True),
    "one output, and another made with it": (lambda x: (in_float32(x)[0], x.astype(np.float32) + np.float64(1)), True),
    "another mistake": (lambda x: (in_float32(x)[0], x + 2), False),
    "a larger error": (lambda x: ((x * x).astype(np.float16), x + 1), False),
    "a small error in float64": (lambda x: (x * x * (1 + 1e-8), x + 1), False),
}


@pytest.mark.parametrize(("function", "named"), FLOAT32.values(), ids=FLOAT32)
def test_the_error_of_float32_is_named(function, named):
    (result,) = results_of(Exercise("ex99", "Squares", (SQUARE,)), SQUARE, function)
    assert not result.passed
    assert ("your numbers are float32" in result.reason) == named
    assert (result.hint == "") == named


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
    "overflows unseen": (
        with_out(lambda out: np.where(out < 1e3, out, np.exp(out + 1e3))),
        "raised FloatingPointError: overflow encountered in exp",
    ),
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
    assert len(visible) >= 4
    assert not any(result.passed for result in visible if not result.check.keeps_inputs)
    assert reason in visible[0].reason
    assert "\n" not in visible[0].reason
    assert visible[0].reason.isprintable()
    report = grade(EX01, {STEP.function: function})
    assert not report.passed
    assert reason in unescape(to_html(report))
    assert ("FAIL" in plain_text(report)) == visible[0].written


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
    assert result.reason == (
        "line 3 of retention_step raised AttributeError: 'numpy.ndarray' object has no attribute 'nothing'; "
        "the call was q (2,), k (2,), v (2,), gamma 0.75, state (2, 2)"
    )


def test_a_line_in_a_comprehension_is_one_of_the_function():
    def retention_step(q, k, v, gamma, state):
        new = gamma * state
        return [row.nothing for row in new]

    assert results_of(EX01, STEP, retention_step)[0].reason.startswith("line 3 of retention_step raised AttributeError")


def test_a_hidden_check_shows_the_shapes_of_its_arguments_and_nothing_of_the_submission():
    def retention_loop(q, k, v, gamma, state):
        raise IndexError(f"{q}")

    results = results_of(EX01, LOOP, retention_loop)
    (reason,) = [result.reason for result in results if result.check.name == "a sequence of a single token"]
    assert reason == (
        "it fails here: the call was q (1, 3), k (1, 3), v (1, 2), gamma, state (3, 2) "
        "(a hidden check shows nothing else)"
    )


def test_replaced_numpy_functions_change_no_verdict(monkeypatch):
    for name in ("allclose", "isclose", "array_equal", "abs", "max", "asarray", "isfinite", "all", "any"):
        monkeypatch.setattr(np, name, lambda *_, **__: True)
    for name in ("assert_allclose", "assert_array_equal"):
        monkeypatch.setattr(np.testing, name, lambda *_, **__: None)
    results = results_of(EX01, STEP, with_out(lambda out: out + 1))
    assert not any(result.passed for result in results if not result.check.keeps_inputs)
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


def test_an_argument_is_blamed_where_it_changed_and_nowhere_else():
    def adds_in_place(q, k, v, gamma, state):
        k *= 2.0
        state += np.outer(k, v)
        return q @ state, state

    def keeping(function):
        (result,) = [result for result in results_of(EX01, STEP, function) if result.check.keeps_inputs]
        return result

    assert keeping(adds_in_place).reason == (
        "the call changed its arguments k and state: leave the caller's arrays as they are"
    )
    assert keeping(adds_in_place).hint.startswith("build a new state")
    assert keeping(lambda q, k, v, gamma, state: (0.0 * v, state)).passed, "its values are wrong, its arguments are not"
    broken = keeping(raising(ValueError("no")))
    assert "ValueError: no" in broken.reason
    assert "argument" not in broken.reason + broken.hint


@pytest.mark.parametrize("name", exercise_names())
def test_wrong_answers_that_change_no_argument_pass_its_check(name):
    exercise = load(name)
    for problem in exercise.problems:
        keeping = replace(problem, checks=tuple(one for one in problem.checks if one.keeps_inputs))
        alone = replace(exercise, problems=(keeping,))
        for wrong in problem.wrong_answers:
            for result in results_of(alone, keeping, wrong.function):
                inputs = result.check.inputs
                arguments = {
                    one: value.copy() if isinstance(value, np.ndarray) else value for one, value in inputs.items()
                }
                with contextlib.suppress(Exception):
                    wrong.function(*arguments.values())
                changed = any(not np.array_equal(arguments[one], value) for one, value in inputs.items())
                gave = run(wrong.function, inputs, problem.returns)
                assert result.passed == (not changed and not gave.failure), f"{problem.function}: {wrong.name}"


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
    ((keeps, answers),) = [pair for pair in zip(key.checks, key.answers, strict=True) if pair[0].keeps_inputs]
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
    seen = [one.reason for one in results if not (one.check.hidden or one.check.keeps_inputs)]
    assert all(re.search(r"out\[0\] is \S+, wanted \S+", reason) for reason in seen)
    hidden = {one.reason for one in results if one.check.hidden}
    assert all(reason.startswith("it fails here: the call was q (") for reason in hidden)


def test_a_difference_in_late_digits_is_shown_in_full():
    result = results_of(EX01, STEP, with_out(lambda out: out + 1e-8))[0]
    came, wanted = re.search(r"is (\S+), wanted (\S+)", result.reason).groups()
    assert came != wanted
    assert float(came) - float(wanted) == pytest.approx(1e-8, rel=1e-6)


def test_of_two_mistakes_that_agree_in_a_check_the_one_that_explains_more_is_named():
    one = Problem(
        "double",
        ("twice",),
        lambda x: 2 * x,
        (Check("two", {"x": np.array([2.0])}, ""), Check("three", {"x": np.array([3.0])}, "")),
        (
            WrongAnswer("adds 1", lambda x: x + 1, "you added 1"),
            WrongAnswer("takes it from 5", lambda x: 5 - x, "you took it from 5"),
        ),
    )
    exercise = Exercise("ex00", "Doubling", (one,))
    results = grade(exercise, {"double": lambda x: 5 - x}).results["double"]
    assert [result.mistake for result in results] == ["takes it from 5", "takes it from 5"]
    results = grade(exercise, {"double": lambda x: 3.0 + 0 * x}).results["double"]
    assert [result.mistake for result in results] == ["", ""], "it agrees with each mistake in one check only"


WRONG_STEP = """
def retention_step(q, k, v, gamma, state):
    state = state + k[:, None] * v
    return q @ state, state
"""
NO_STEP = """
def retention_step(q, k, v, gamma, state):
    raise NotImplementedError("ex01: see Eq. 6")
"""
CALLS_STEP = """
def advance(*arguments):
    return retention_step(*arguments)

def retention_loop(q, k, v, gamma, state):
    state = np.zeros((q.shape[1], v.shape[1])) if state is None else state
    out = np.zeros(v.shape)
    for n in range(len(q)):
        out[n], state = advance(q[n], k[n], v[n], gamma, state)
    return out, state
"""


def of_loop(source, **more):
    names = {"np": np, "LOOP": LOOP}
    exec(source, names)
    return grade(EX01, names, **more).results[LOOP.function]


@pytest.mark.parametrize("only", [None, LOOP.function])
@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (WRONG_STEP, "mend retention_step first: retention_loop calls it, and its own checks fail"),
        (NO_STEP, "write retention_step first: retention_loop calls it"),
        ("", "write retention_step first: retention_loop calls it"),
    ],
)
def test_a_function_that_calls_a_failing_one_is_told_to_mend_that_first(step, reason, only):
    failed = [one for one in of_loop(step + CALLS_STEP, only=only) if not one.passed]
    assert len(failed) >= 4
    assert {(one.reason, one.hint) for one in failed} == {(reason, "")}


def test_only_a_function_that_is_called_and_fails_is_blamed():
    inlined = CALLS_STEP.replace("return retention_step(*arguments)", "return LOOP.solution(*arguments)")
    right = WRONG_STEP.replace("= state +", "= gamma * state +")
    assert all("retention_step" not in one.reason for one in of_loop(WRONG_STEP + inlined))
    assert all(one.passed for one in of_loop(right + CALLS_STEP))
    wrong = CALLS_STEP.replace("return out, state", "return state, out")
    failed = [one for one in of_loop(right + wrong) if not one.passed]
    assert {one.mistake for one in failed} == {"swaps what it returns"}


def test_a_hidden_failure_of_a_called_function_is_told_nowhere():
    vanishing = "if gamma < 1e-6: raise ValueError\n    state = gamma * state +"  # which only a hidden check asks for
    wrong = CALLS_STEP.replace("return out, state", "return state, out")
    results = of_loop(WRONG_STEP.replace("state = state +", vanishing) + wrong)
    assert not any(one.reason.startswith("mend") for one in results)


# Whatever a submission does with a hidden check that it fails; the arrays, errors and names could each hold its inputs.
FAILED = {
    "other numbers": Run((np.array([1.0, 2.0]), np.ones((5, 2)))),
    "another shape": Run((np.ones((7, 9)), np.ones((5, 2)))),
    "another number of arrays": Run((np.ones(2),)),
    "not a number": Run((np.full(2, np.nan), np.ones((5, 2)))),
    "an error": Run(failure="ValueError: 1.25", where="line 7 of retention_step"),
    "a stub": Run(failure="not written yet: see Eq. \u0b68\u0b66", written=False),
    "the grader's word": Run(failure="it took more than 4 s", by_grader=True),
    "a call of others": Run(failure="x", calls=("retention_loop", "retention_step")),
    "a mistake": None,
}


@pytest.mark.parametrize("seen_passes", [True, False])
def test_a_failed_hidden_check_says_the_same_whatever_came(seen_passes):
    key = answer_key(EX01).only("retention_step")
    (problem,) = key.problems
    at, check = next((at, check) for at, check in enumerate(problem.checks) if check.hidden)
    wrong = STEP.wrong_answers[0].function
    seen = {
        ("retention_step", one.name): run(STEP.solution if seen_passes else wrong, one.inputs, STEP.returns)
        for one in problem.checks
    }
    reports = []
    for name, came in FAILED.items():
        got = came or problem.answers[at].mistakes[-1][2]
        report = key.report(seen | {("retention_step", check.name): got})
        assert not report.results["retention_step"][at].passed, name
        reports.append(to_html(report))
    assert len(set(reports)) == 1


# The tables.


def test_a_product_that_does_not_broadcast_is_the_same_mistake_in_either_order():
    wrong = WrongAnswer("a row", lambda x: np.ones(3) * x, "make it a column")
    one = Problem("copy", ("same",), lambda x: x, (Check("three rows", {"x": np.ones((3, 2))}, ""),), (wrong,))
    exercise = Exercise("ex00", "Copying", (one,))
    for product, mistake in (
        (lambda x: np.ones(3) * x, "a row"),
        (lambda x: x * np.ones(3), "a row"),
        (lambda x: x * np.ones(4), ""),
    ):
        (result,) = grade(exercise, {"copy": product}).results["copy"]
        assert result.mistake == mistake


def test_a_named_mistake_is_told_once_and_text_is_escaped():
    report = grade(
        EX01, {STEP.function: STEP.wrong_answers[1].function, LOOP.function: raising(ValueError("<b>[red]"))}
    )
    text, page = plain_text(report), to_html(report)
    assert text.count("you forgot the decay") == page.count("you forgot the decay") == 1
    assert re.search(r"  FAIL    values wider than keys \(K = 2, V = 3\) +the same mistake\n", text)
    assert "ValueError: <b>[red]" in text
    assert "ValueError: &lt;b&gt;[red]" in page
    assert "<b>[red]" not in page
    assert page.count("✓ ok") == text.count("  ok ") == report.points
    assert page.count("✗ FAIL") == text.count("  FAIL ")


def test_each_failed_check_has_a_row_and_its_own_hint():
    report = grade(EX01, {STEP.function: with_out(lambda out: out + 1.0)}, only=STEP.function)
    failed = [result for result in report.results[STEP.function] if not result.passed]
    page, text = unescape(to_html(report)), plain_text(report)
    assert len({result.hint for result in failed}) == len(failed) > 4
    for result in failed:
        name = result.check.name + " (hidden)" * result.check.hidden
        row = f'<td style="text-align:left;vertical-align:top">{name}</td>'
        assert page.split(row)[1].split("</tr>")[0].endswith(f"{result.reason}<br>Hint: {result.hint}</td>")
        assert f"  FAIL    {name[:30]}" in text


def test_the_tables_have_heads_and_fit_the_width():
    report = grade(EX01, {STEP.function: raising(ValueError("x" * 90)), LOOP.function: LOOP.solution})
    for width in (60, 80, 110):
        lines = ["".join(text for text, _ in line) for line in styled_lines(report, width)]
        assert max(len(line) for line in lines[:-1]) <= max(width, 88)
        assert sum(re.fullmatch(r"  result  check +what to change", line) is not None for line in lines) == 4
    page = to_html(report)
    assert page.count("<table>") == page.count("<caption") == page.count("<thead>") == 4
    assert page.count('<th scope="col"') == 12
    assert page.count("<tr>") == 4 + len(STEP.checks) + len(LOOP.checks) + 2


@pytest.mark.parametrize("mark", SIGNS)
def test_signs_can_be_read(mark):
    """White on the sign's own colour has a contrast of 4.5 : 1 (WCAG 2.2, 1.4.3), whatever the page's."""
    _, colour = SIGNS[mark]
    part = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in part)
    assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5


def test_a_half_written_function_keeps_what_it_earned():
    def half(q, k, v, gamma, state):
        if state is None:
            raise NotImplementedError("ex01: see Eq. 6")
        return LOOP.solution(q, k, v, gamma, state)

    text = plain_text(grade(EX01, {LOOP.function: half}, hidden=False, only=LOOP.function))
    assert "2 of 4 points" in text
    assert text.count("  FAIL    ") == text.count("  ok      ") == 2
    assert "not written yet: see Eq. 6" in text


def test_check_finds_functions_where_it_is_called(capsys):
    retention_step, retention_loop = STEP.solution, LOOP.wrong_answers[0].function
    assert check("ex01") is None
    out = capsys.readouterr().out
    assert "retention_step: 5 of 5 points" in out
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
    with pytest.raises(
        ValueError,
        match="problem must be one of 'retention_step', 'retention_loop', 'retention_documents', 'replacing_step', got 'step'",
    ):
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


def test_bounded_messages():
    assert len(runner.one_line("x" * 10_000)) == runner.LONGEST_LINE
    assert runner.one_line("\n\n") == ""
