"""Adds the cell metadata of nbgrader, derived from the contents of the cells."""

import re

SCHEMA = 3
HIDDEN_TESTS = """

### BEGIN HIDDEN TESTS
from exercises import points

points("{exercise}", "{function}")
### END HIDDEN TESTS"""


def annotated(notebook, key, *, hidden_tests=False):
    """Return the notebook with nbgrader's metadata in its cells.

    A cell that defines a function to write is a solution; one that checks that function alone is its test,
    worth the function's points, and is added after the solution if there is none; text is locked.
    hidden_tests: let each test end with the points of all checks, between nbgrader's marks for hidden tests;
    nbgrader removes those from the students' version.
    """
    tests = {f'check("{key.name}", "{problem.function}")': problem for problem in key.problems}
    sources = ["".join(cell["source"]).strip() for cell in notebook["cells"]]
    cells = []
    for cell, source in zip(notebook["cells"], sources, strict=True):
        if cell["cell_type"] == "markdown":
            cells.append(_marked(cell, cell["id"], locked=True))
        elif source in tests:
            cells.append(_test(cell, key.name, tests[source], hidden_tests))
        else:
            cells.append(cell)
            for test, problem in tests.items():
                if re.search(rf"^def {problem.function}\(", source, re.MULTILINE):
                    cells[-1] = _marked(cell, f"{problem.function}-solution", solution=True)
                    if test not in sources:
                        cells.append(_test(_code(f"{problem.function}-test", test), key.name, problem, hidden_tests))
    return notebook | {"cells": cells}


def _test(cell, exercise, problem, hidden_tests):
    source = "".join(cell["source"]).strip()
    if hidden_tests:
        source += HIDDEN_TESTS.format(exercise=exercise, function=problem.function)
    cell = cell | {"source": source.splitlines(keepends=True)}
    return _marked(cell, f"{problem.function}-test", grade=True, locked=True, points=problem.points)


def _code(name, source):
    identity = re.sub(r"[^a-z-]", "-", name.lower())
    parts = {"cell_type": "code", "id": identity, "metadata": {}, "execution_count": None, "outputs": []}
    return parts | {"source": [source]}


def _marked(cell, grade_id, *, grade=False, locked=False, solution=False, points=None):
    mark = {"grade": grade, "grade_id": grade_id, "locked": locked, "schema_version": SCHEMA}
    mark |= {"solution": solution, "task": False} | ({} if points is None else {"points": points})
    return cell | {"metadata": cell["metadata"] | {"nbgrader": mark}}
