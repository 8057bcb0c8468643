"""The students' version of the exercises: notebooks, visible checks as data, and no solution or hidden check."""

import json
import re
import shutil
from pathlib import Path

from refimpl.files import write_atomically

from ..checking.catalog import load
from ..checking.key import answer_key, to_json
from .classroom import PATH, workflow
from .nbgrader import annotated

# Copied unchanged, so that a check says the same in the course and in the release.
SHARED = (
    *(f"checking/{name}.py" for name in ("__init__", "core", "judge", "key", "notebook", "prompt", "report")),
    *(f"harness/{name}.py" for name in ("__init__", "cells", "runner", "submission")),
)
STUDENT = ("__init__.py", "__main__.py", "checking/catalog.py")  # instead of the course's
EXERCISES = Path(__file__).parent.parent
HAND_IN = (
    "When all is green here, save and hand in this file. Its hidden checks are run when it is graded. If you learn alone, "
    "get the whole course: in its folder, `python -m exercises check` with the path of this file runs them."
)


def write_release(out, names, classroom=False):
    """Write the students' version of the exercises `names` into the new or empty folder `out`; return the paths.

    It holds README.md, the notebooks, and a package `exercises` that needs only NumPy. classroom: add the workflow for
    GitHub Classroom.
    """
    out = _empty(out)
    package = out / "exercises"
    student = Path(__file__).with_name("student")
    for path in SHARED:
        _copy(EXERCISES / path, package / path)
    for path in STUDENT:
        _copy(student / Path(path).name, package / path)
    shutil.copyfile(student / "README.md", out / "README.md")
    for name in names:
        key = answer_key(load(name)).visible()
        (package / f"{name}.json").write_text(to_json(key), encoding="utf-8")
        for path in notebooks_of(name):
            _write_notebook(out / path.name, annotated(for_students(_read_notebook(path)), key))
    if classroom:
        write_atomically(out / PATH, workflow({name: notebooks_of(name)[0].name for name in names}))
    return sorted(path for path in out.rglob("*") if path.is_file())


def write_nbgrader(out, names):
    """Write source/exNN/*.ipynb for nbgrader, with hidden tests in its notation, and return the paths."""
    out, written = _empty(out), []
    for name in names:
        for path in notebooks_of(name):
            target = out / "source" / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            key = answer_key(load(name))
            _write_notebook(target, annotated(for_students(_read_notebook(path)), key, hidden_tests=True))
            written.append(target)
    return written


def notebooks_of(name):
    """Return the paths of the notebooks of an exercise."""
    return sorted(EXERCISES.glob(f"{name}_*.ipynb"))


def for_students(notebook):
    """Return the notebook without outputs, without links into the course, and with a line on handing in at its end."""
    cells = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text = HAND_IN if cell["id"] == "end" else re.sub(r"\[([^\]]*)\]\(\.\./[^)]*\)", r"\1", text)
            cells.append(cell | {"source": text.splitlines(keepends=True)})
        else:
            cells.append(cell | {"execution_count": None, "outputs": []})
    return notebook | {"cells": cells}


def _empty(out):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ValueError(f"{out} must be a new or empty folder, but it is not empty")
    return out


def _copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _read_notebook(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _write_notebook(path, notebook):
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
