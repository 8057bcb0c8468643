"""The cell metadata of nbgrader, worked out from what the cells hold."""

import re

SCHEMA = 3
HIDDEN_TESTS = """

### BEGIN HIDDEN TESTS
from exercises import points

points("{exercise}", "{function}")
### END HIDDEN TESTS"""


def annotated(notebook, key, *, hidden_tests=False):
    """Return the notebook with nbgrader's metadata in its cells; nothing else changes, unless asked.

    A cell that defines a function to write is a solution; one that checks a single function is its test,
    worth the function's points; other text is locked. hidden_tests: have each test end in the points of all
    checks, between nbgrader's marks, which takes them out of what students get.
    """
    cells = [_annotated(cell, key, hidden_tests) for cell in notebook["cells"]]
    return notebook | {"cells": cells}


def _annotated(cell, key, hidden_tests):
    source = "".join(cell["source"])
    for problem in key.problems:
        if cell["cell_type"] != "code":
            break
        if re.search(rf"^def {problem.function}\(", source, re.MULTILINE):
            return _with(cell, f"{problem.function}-solution", solution=True)
        if re.search(rf'^check\("{key.name}", "{problem.function}"\)', source, re.MULTILINE):
            if hidden_tests:
                source = source.rstrip() + HIDDEN_TESTS.format(exercise=key.name, function=problem.function)
                cell = cell | {"source": source.splitlines(keepends=True)}
            return _with(cell, f"{problem.function}-test", grade=True, locked=True, points=problem.points)
    return _with(cell, cell["id"], locked=True) if cell["cell_type"] == "markdown" else cell


def _with(cell, grade_id, *, grade=False, locked=False, solution=False, points=None):
    data = {
        "grade": grade,
        "grade_id": grade_id,
        "locked": locked,
        "schema_version": SCHEMA,
        "solution": solution,
        "task": False,
        **({} if points is None else {"points": points}),
    }
    return cell | {"metadata": cell["metadata"] | {"nbgrader": data}}
