"""python run_lesson.py NOTEBOOK: run all code cells in order; each picture must be legible; then run each cell again.

Again means from the last to the first: what a reader does who goes back. One namespace, no kernel. What is wrong is
written to stderr, with the exit code 1.
"""

import sys
import traceback
from pathlib import Path

import nbformat
from figures import style
from IPython.display import display
from legible import faults


def main(path):
    drawn = []

    class Kept(style.Picture):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn.append(self)

    style.Picture = Kept
    names = {"__name__": "__main__", "display": display}
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    found = list(run(cells, names, "in order"))
    found += [fault for picture in drawn for fault in faults(picture)]
    found += run(reversed(cells), names, "again")
    sys.exit("\n".join(dict.fromkeys(found)) or 0)


def run(cells, names, when):
    """Run cells one after another; yields what failed."""
    for cell in cells:
        try:
            exec(compile(cell.source, cell.id, "exec"), names)
        except Exception:
            yield f"{cell.id}, run {when}: {traceback.format_exc(limit=-1)}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
