"""Grade the zoo in one sandbox, which starts again only if a submission ends it: python tests/zoo_in_one.py ISOLATION [all].

Prints {name: [points, status, results.json, feedback.html]}. Starting a sandbox costs most of the time, and what is tested
here, that a check shows and reaches nothing, happens in the processes it forks. Without `all`, the slowest and the odd ones,
whom isolation does not concern, stay at home.
"""

import contextlib
import json
import sys
from dataclasses import replace

from class_of_300 import COURSE, SLOWEST
from zoo import ASKS, attackers, beasts, of_isolation, spies

from exercises import load
from exercises.checking.judge import FLOAT32
from exercises.checking.key import answer_key
from exercises.grading import sandbox
from exercises.grading.feedback import Outcome, feedback_html, results_json
from exercises.grading.isolation import Limits
from exercises.grading.sandbox import BrokenSandboxError, Sandbox, candidates, put_questions

LIMITS = Limits(cpu_seconds=1, seconds=3.0, total_seconds=12.0)  # on a machine that does other work too


class Lent(Sandbox):
    """A `Sandbox` that goes back to `idle` when it is closed, unless a submission has ended it."""

    def __init__(self, idle, *arguments):
        super().__init__(*arguments)
        self._idle, self._lost = idle, False

    def ask(self, *question):
        try:
            return super().ask(*question)
        except BrokenSandboxError:
            self._lost = True
            raise

    def close(self):
        if self._lost:
            self.end()
        else:
            self._idle.append(self)

    def end(self):
        """End the sandbox."""
        super().close()


@contextlib.contextmanager
def kept_sandboxes(way):
    """Let all that is graded meanwhile use the same sandboxes after one another, as many as are graded at a time."""
    idle = []
    sandbox.Sandbox = lambda *_: idle.pop() if idle else Lent(idle, way, LIMITS)
    try:
        yield
    finally:
        sandbox.Sandbox = Sandbox
        for each in idle:
            each.end()


def two_checks(key):
    """Return the key of the step alone, with one visible and one hidden check: enough for what does the same in each."""
    (problem,) = key.only("retention_step").problems
    hidden = next(at for at, check in enumerate(problem.checks) if check.hidden)
    checks, answers = ((several[0], several[hidden]) for several in (problem.checks, problem.answers))
    return replace(key, problems=(replace(problem, checks=checks, answers=answers),))


def grade_in_one(animals, way):
    """Return {name: (points, status, results.json, feedback.html)} of {name: Animal}."""
    whole, done = answer_key(load("ex01")), {}
    short = two_checks(whole)
    same = ASKS.keys() | {name for name, animal in attackers(COURSE).items() if animal.points == 0}
    with kept_sandboxes(way):
        for name, animal in animals.items():
            key = short if name in same else whole
            given = put_questions(key, f"submission{animal.suffix.lower()}", animal.content, way, LIMITS)
            report = key.report(given.runs)
            facts = {"submission": "", "isolation": way.name, "in_force": given.in_force, "seconds": 0}
            status = "unusable" if given.unusable else "graded"
            outcome = Outcome(name, "ex01", "ex01.py", status, report, given.notes, facts)
            done[name] = report.points, status, json.loads(results_json(outcome, report.most)), feedback_html(outcome)
    return done


def words_of_hidden_checks():
    """Return {name of a test in results.json: all that its output may be}, for the hidden checks of exercise 1.

    They are written out here again, from what is published: the check, the shapes of its arguments, and named mistakes.
    """
    words = {}
    for problem in load("ex01").problems:
        named = {wrong.message for wrong in problem.wrong_answers} | {FLOAT32}
        for other in load("ex01").problems:
            named |= {
                f"write {other.function} first: {problem.function} calls it",
                f"mend {other.function} first: {problem.function} calls it, and its own checks fail",
            }
        for check in problem.checks:
            shapes = [
                f"{name} {value.shape}" if hasattr(value, "shape") else f"{name} None" if value is None else name
                for name, value in check.inputs.items()
            ]
            fails = f"it fails here: the call was {', '.join(shapes)} (a hidden check shows nothing else)"
            if check.hidden:
                words[f"{problem.function}: {check.name}"] = {
                    *("", "not written yet", "not written yet: see Eq. 6", f"{fails}\nHint: {check.hint}", *named)
                }
    return words


if __name__ == "__main__":
    way = next(candidates(sys.argv[1]))
    some = {name: one for name, one in of_isolation(COURSE).items() if name not in SLOWEST}
    print(json.dumps(grade_in_one((beasts(COURSE) if "all" in sys.argv else some) | spies(), way)))
