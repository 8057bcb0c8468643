"""What is found in a lesson beside its cells: each fault, on a shell and a notebook of this test."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import run_lesson
from figures import style
from IPython.core.interactiveshell import InteractiveShell

CELLS = {
    "a-sum": "total = 0",
    "a-picture": "from figures import curves\ncurves([1, 2], {'up': [1, 2]}, xlabel='x', ylabel='y', description=said)",
    "a-start": "rows = [1]",
    "a-change": "total += rows.pop()\nassert total == 1",
    "long": "assert total < 3\ntotal = 3",
}


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """A function of what the picture's description is: what is wrong after all cells ran."""

    def wrong(said):
        for name in ("__init__", "png"):
            monkeypatch.setattr(style.Picture, name, getattr(style.Picture, name))
        monkeypatch.setattr(run_lesson, "drawn", [])
        monkeypatch.setattr(run_lesson, "seconds", {})
        shell = InteractiveShell(user_ns={"said": said})
        run_lesson.watch(shell)
        cells = [nbformat.v4.new_code_cell(source, id=name) for name, source in CELLS.items()]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "lesson.ipynb")
        assert all(shell.run_cell(cell.source).success for cell in cells)
        run_lesson.seconds[CELLS["long"]] += run_lesson.LONG
        return run_lesson.wrong(tmp_path / "lesson.ipynb", shell)

    return wrong


def test_a_cell_that_does_not_run_again_is_named_and_a_long_one_does_not_run(ran):
    (fault,) = ran("A line.")
    assert fault.startswith("a-change, run again: Traceback")
    assert "IndexError: pop from empty list" in fault


def test_a_picture_of_a_cell_is_looked_at(ran):
    assert ran(" ")[0] == "no description"


def test_watching_does_not_load_numpy_before_a_lesson_sets_its_threads():
    watch = "import sys, types; import run_lesson; events = types.SimpleNamespace(register=lambda *_: None); "
    watch += "run_lesson.watch(types.SimpleNamespace(events=events)); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", watch], cwd=Path(__file__).parent, check=True)
