"""Exercises with checks that name the mistake: `check("ex01")` in a notebook, `python -m exercises` outside.

An exercise is a notebook `exNN_*.ipynb` and a module `answers/exNN.py`: its checks, hidden checks, solution and named
wrong answers. For the lecturer: README.md.
"""

from refimpl.moved import keep_old_paths

from .checking.catalog import exercise_names, load
from .checking.notebook import check, points

__all__ = ["check", "exercise_names", "load", "points"]

keep_old_paths(__name__, {
    "ex01": "answers.ex01", "ex02": "answers.ex02", "ex03": "answers.ex03", "ex04": "answers.ex04",
    "ex05": "answers.ex05", "ex06": "answers.ex06", "ex07": "answers.ex07", "ex08": "answers.ex08",
    "inputs": "answers.inputs", "core": "checking.core", "judge": "checking.judge", "key": "checking.key",
    "report": "checking.report", "prompt": "checking.prompt", "catalog": "checking.catalog", "batch": "grading.batch",
    "feedback": "grading.feedback", "isolation": "grading.sandbox", "sandbox": "grading.sandbox",
    "release": "handout.release", "nbgrader": "handout.nbgrader", "runner": "harness.runner",
    "submission": "harness.submission", "child": "harness.child", "confine": "harness.confine",
    "wire": "harness.wire",
})  # fmt: skip
