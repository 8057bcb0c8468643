"""The answer key of an exercise: its checks and what is needed to judge them, as data that can be written as JSON.

The trusted side computes it once, from the solution and the wrong answers. A students' release contains
the visible part as a file instead of the solution.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..harness.runner import Run, called, find_and_run, run
from .core import Check
from .judge import Answers, Report, difference, judge, judge_hidden, likelihoods, mend_first


@dataclass(frozen=True, eq=False)
class ProblemKey:
    """One function: what it returns by name, its checks, the answers to each, and the points of checks left out."""

    function: str
    returns: tuple[str, ...]
    checks: tuple[Check, ...]
    answers: tuple[Answers, ...]
    points_left_out: int = 0

    @property
    def points(self):
        """Return the points of all checks, including those left out."""
        return sum(check.points for check in self.checks) + self.points_left_out


@dataclass(frozen=True, eq=False)
class AnswerKey:
    """The keys of an exercise's problems, under its name and title."""

    name: str
    title: str
    problems: tuple[ProblemKey, ...]

    def visible(self):
        """Return the key without the hidden checks; their points count as left out."""
        problems = []
        for problem in self.problems:
            shown = [pair for pair in zip(problem.checks, problem.answers, strict=True) if not pair[0].hidden]
            points = problem.points - sum(check.points for check, _ in shown)
            checks, answers = zip(*shown, strict=True) if shown else ((), ())
            problems.append(replace(problem, checks=checks, answers=answers, points_left_out=points))
        return replace(self, problems=tuple(problems))

    def only(self, function):
        """Return the key of one problem alone; ValueError if there is none for `function`."""
        choose("problem", function, [problem.function for problem in self.problems])
        return replace(self, problems=tuple(one for one in self.problems if one.function == function))

    def report(self, runs, only=None):
        """Judge `runs`, which maps (function, check name) to a `Run`, and return the `Report`.

        only: report this function alone; the others are then judged only for what they break in it.
        """
        results = {}
        for problem in self.problems:
            judged = [
                (check, answers, runs[problem.function, check.name])
                for check, answers in zip(problem.checks, problem.answers, strict=True)
            ]
            visible = [one for one in judged if not one[0].hidden]
            likely = likelihoods(visible)
            seen = [
                mend_first(judge(check, answers, got, likely), got, results, problem.function)
                for check, answers, got in visible
            ]
            unseen = [judge_hidden(check, answers, got, seen) for check, answers, got in judged if check.hidden]
            runs_in_order = [*visible, *(one for one in judged if one[0].hidden)]
            results[problem.function] = tuple(
                replace(result, printed=got.printed)
                for result, (_, _, got) in zip((*seen, *unseen), runs_in_order, strict=True)
            )
        shown = [problem for problem in self.problems if only in (None, problem.function)]
        return Report(
            self.name,
            {problem.function: results[problem.function] for problem in shown},
            sum(problem.points_left_out for problem in shown),
        )

    def failed_runs(self, reason):
        """Return a failed `Run` for every check, the grader's `reason` in each, for `report`."""
        return {
            (problem.function, check.name): Run(failure=reason, by_grader=True)
            for problem in self.problems
            for check in problem.checks
        }


@functools.cache
def answer_key(exercise):
    """Return the `AnswerKey` of an `Exercise`: this runs the solution and the wrong answers, once a process."""
    if isinstance(exercise, AnswerKey):  # in a students' release
        return exercise
    return AnswerKey(exercise.name, exercise.title, tuple(map(_problem_key, exercise.problems)))


def _problem_key(problem):
    answers = []
    for check in problem.checks:
        wanted = run(problem.solution, check.inputs, problem.returns)
        right = Answers(problem.returns, wanted)
        failure = difference(check, right, wanted)
        if failure:  # the solution differs from itself, as one of integers does: there is nothing to compare with
            answers.append(Answers(problem.returns, replace(wanted, failure=wanted.failure or failure)))
            continue
        runs = [(one, run(one.function, check.inputs, problem.returns)) for one in problem.wrong_answers]
        mistakes = tuple((one.name, one.message, gave) for one, gave in runs if difference(check, right, gave))
        answers.append(replace(right, mistakes=mistakes))
    return ProblemKey(problem.function, problem.returns, problem.checks, tuple(answers))


def grade(exercise, namespace, *, hidden=True, only=None):
    """Check the functions of `namespace` (a dict), found by name, in this process; return a `Report`.

    exercise: an `Exercise` or `AnswerKey`. hidden: run the hidden checks too. only: the name of one
    function; by default all. The student's code runs in this process, with your rights: use it for your own work.
    """
    key = answer_key(exercise)
    key = key if hidden else key.visible()
    functions = [problem.function for problem in key.problems]
    if only is not None:
        needed = {choose("problem", only, functions), *called(namespace, only, functions)}
        key = replace(key, problems=tuple(problem for problem in key.problems if problem.function in needed))
    runs = {
        (problem.function, check.name): find_and_run(
            namespace, problem.function, check.inputs, problem.returns, functions
        )
        for problem in key.problems
        for check in problem.checks
    }
    return key.report(runs, only)


def choose(name, value, choices):
    """Return `value`; ValueError if it is none of `choices`. It is not taken from refimpl, which a students' release does not have."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def to_json(key):
    """Return the key as JSON text; floating-point numbers survive exactly."""
    return json.dumps(_plain(key), sort_keys=True) + "\n"  # in one line: with an indent it takes ten times as long


def from_json(text):
    """Return the `AnswerKey` of what `to_json` wrote."""
    data = json.loads(text, object_hook=_array_or_mapping)
    return AnswerKey(data["name"], data["title"], tuple(map(_read_problem, data["problems"])))


def _plain(value):
    """Return dataclasses, mappings, sequences and arrays as types that JSON has."""
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.name, "shape": list(value.shape), "numbers": value.ravel().tolist()}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        # Sorting the keys would lose the order of the arguments.
        return {"names": list(value), "values": [_plain(one) for one in value.values()]}
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _array_or_mapping(data):
    """Return the array or the mapping that `_plain` made this dictionary of, or else the dictionary."""
    if data.keys() == {"dtype", "shape", "numbers"}:
        return np.array(data["numbers"], dtype=data["dtype"]).reshape(data["shape"])
    return dict(zip(data["names"], data["values"], strict=True)) if data.keys() == {"names", "values"} else data


def _read_problem(data):
    checks = tuple(Check(**one) for one in data["checks"])
    answers = []
    for one in data["answers"]:
        mistakes = tuple((name, message, _read_run(gave)) for name, message, gave in one["mistakes"])
        answers.append(Answers(tuple(one["returns"]), _read_run(one["wanted"]), mistakes))
    return ProblemKey(data["function"], tuple(data["returns"]), checks, tuple(answers), data["points_left_out"])


def _read_run(data):
    return Run(**data | {"outputs": tuple(data["outputs"]), "calls": tuple(data["calls"])})
