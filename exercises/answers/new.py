"""Writes an exercise to start from: a copy of `starter.py` and its notebook, which pass the validator as they are."""

import inspect
import json
import re
from pathlib import Path

from refimpl.files import write_atomically

from ..checking.key import grade
from ..checking.report import plain_text, to_html
from . import starter

ROOM = Path(__file__).parent.parent
STATEMENT = """## Problem 1: sums that fade ({points} points, {hidden} of them in hidden checks)

Write `fading_sums(x, gamma)`: $y_n = \\gamma\\, y_{{n-1}} + x_n$, from $y_0 = 0$.

- It takes `x` of shape (T,) and a float `gamma` with 0 < gamma ≤ 1. T may be 0.
- It returns `y` of shape (T,). Leave the array you are given as it is."""
HINTS = """<details><summary>Hint 1</summary>

What stands in the sum when number n comes? What becomes of it?

</details>
<details><summary>Hint 2</summary>

One loop over n with the last sum under a name of its own does it.

</details>"""
STUB = '''def fading_sums(x: np.ndarray, gamma: float) -> np.ndarray:
    """x (T,), gamma in (0, 1] -> y (T,)."""
    raise NotImplementedError("{name}: see Eq. 6")'''
INTRO = """# Exercise {number}: {title}

Say here what it is about and which lesson it belongs to: [The lessons](../notebooks/00_start_here.ipynb).

Write your code where a function raises `NotImplementedError`, run its cell, then run the check below it."""
END = """When all is green here, run the hidden checks too: in a terminal, in the folder of this notebook and with the course's environment active,
`python -m exercises check {file}` (save first)."""


def write_new(name, title, room=ROOM):
    """Write `answers/NAME.py` and `NAME_title.ipynb` in the folder of the exercises and return their paths.

    ValueError for a name that is not exNN and for one that is taken; nothing is overwritten.
    """
    if not re.fullmatch(r"ex\d\d", name):
        raise ValueError(f"name must be ex and two digits, such as ex42, got {name!r}")
    words = re.findall(r"[a-z0-9]+", title.lower())
    if not words or len(title.splitlines()) > 1:
        raise ValueError(f"title must be a line with words in it, got {title!r}")
    module = Path(room, "answers", f"{name}.py")
    taken = [path for path in (module, *Path(room).glob(f"{name}_*.ipynb")) if path.exists()]
    if taken:
        raise ValueError(f"name must be new, but {taken[0]} is there")
    text = inspect.getsource(starter).replace('"A new exercise"', json.dumps(title, ensure_ascii=False))
    _, rest = text.replace("ex00", name).split("\n", 1)
    notebook = Path(room, f"{name}_{'_'.join(words)}.ipynb")
    write_atomically(
        module, f'"""Exercise {name[2:].lstrip("0") or 0}: say what it asks for, and its equation."""\n{rest}'
    )
    write_atomically(notebook, json.dumps(_notebook(name, title, notebook.name), indent=1, ensure_ascii=False) + "\n")
    return module, notebook


def _notebook(name, title, file):
    problem = starter.FADING_SUMS
    hidden = sum(check.points for check in problem.checks if check.hidden)
    facts = {
        "name": name,
        "title": title,
        "number": int(name[2:]),
        "file": file,
        "points": problem.points,
        "hidden": hidden,
    }
    cells = [
        _text("intro", INTRO.format(**facts)),
        _code("imports", 1, "import numpy as np\n\nfrom exercises import check"),
        _text("sums-statement", STATEMENT.format(**facts)),
        _text("sums-hints", HINTS),
        _code("sums-stub", 2, STUB.format(**facts)),
        _code("sums-check", 3, f'check("{name}", "fading_sums")', shown=name),
        _code("all-checks", 4, f'check("{name}")', shown=name),
        _text("end", END.format(**facts)),
    ]
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def _text(cell, source):
    return {"cell_type": "markdown", "id": cell, "metadata": {}, "source": source.splitlines(keepends=True)}


def _code(cell, count, source, shown=""):
    """Return a cell as if it had been run; shown: its output is the table of this exercise's stub."""
    outputs = []
    if shown:
        report = grade(_named(shown), {"fading_sums": _stub(shown)}, hidden=False)
        data = {"text/html": to_html(report), "text/plain": plain_text(report)}
        lines = {kind: text.splitlines(keepends=True) for kind, text in data.items()}
        outputs = [{"data": lines, "metadata": {}, "output_type": "display_data"}]
    return _text(cell, source) | {"cell_type": "code", "execution_count": count, "outputs": outputs}


def _stub(name):
    def fading_sums(x, gamma):
        raise NotImplementedError(f"{name}: see Eq. 6")

    return fading_sums


def _named(name):
    return type(starter.EXERCISE)(name, starter.EXERCISE.title, starter.EXERCISE.problems)
