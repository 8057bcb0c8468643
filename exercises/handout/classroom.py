"""A workflow for GitHub Classroom: each push of a student runs the visible checks and reports points, function by function.

It goes into the template repository of an assignment, with the rest of a release. Its actions and their inputs:
https://github.com/classroom-resources/autograding-command-grader and .../autograding-grading-reporter.
"""

from ..checking.catalog import load
from ..checking.key import answer_key

PATH = ".github/workflows/classroom.yml"
ACTIONS = "classroom-resources/autograding"
MINUTES = 5  # for the checks of one function
HEAD = """name: Check the exercises
'on': [push, repository_dispatch]
permissions:
  checks: write
  actions: read
  contents: read
jobs:
  check:
    runs-on: ubuntu-latest
    if: github.actor != 'github-classroom[bot]'
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: '3.12'
      - run: python -m pip install numpy
"""
STEP = """      - id: {step}
        uses: {actions}-command-grader@v1
        with:
          test-name: {exercise} {function}
          command: python -m exercises check {notebook} --function {function}
          timeout: {minutes}
          max-score: {points}
"""
REPORT = """      - uses: {actions}-grading-reporter@v1
        env:
{results}
        with:
          runners: {runners}
"""


def workflow(notebooks):
    """Return the text of the workflow; notebooks: {name of an exercise: name of its notebook in the release}."""
    steps = {}
    for exercise, notebook in notebooks.items():
        for problem in answer_key(load(exercise)).visible().problems:
            step, points = f"{exercise}_{problem.function}", sum(check.points for check in problem.checks)
            steps[step] = STEP.format(
                step=step, exercise=exercise, function=problem.function, notebook=notebook, points=points,
                actions=ACTIONS, minutes=MINUTES,
            )  # fmt: skip
    results = "\n".join(f"          {step.upper()}_RESULTS: ${{{{ steps.{step}.outputs.result }}}}" for step in steps)
    return HEAD + "".join(steps.values()) + REPORT.format(actions=ACTIONS, results=results, runners=",".join(steps))
