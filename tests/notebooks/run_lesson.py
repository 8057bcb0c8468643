"""Run all code cells of a lesson in order; each picture must be legible; then run each cell again.

Again means from the last to the first: what a reader does who goes back. One namespace, no kernel. A cell that computes for
seconds is not run a second time: it would double the time of the suite, most of which is training.
"""

import contextlib
import io
import os
import time
import traceback

import nbformat
from figures import style
from IPython.display import display
from legible import faults

LONG = 2.0  # seconds of the processor, from which on a cell is run once


def wrong_in(path):
    """What is wrong with a lesson, a text each; it changes the process that it runs in."""
    drawn = []

    class Kept(style.Picture):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            drawn.append(self)

    style.Picture = Kept
    os.chdir(path.parent)
    names = {"__name__": "__main__", "display": display}
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    with contextlib.redirect_stdout(io.StringIO()):
        found = list(run(cells, names, "in order"))
        found += [fault for picture in drawn for fault in faults(picture)]
        found += run([cell for cell in reversed(cells) if cell.seconds < LONG], names, "again")
    return list(dict.fromkeys(found))


def run(cells, names, when):
    """Run cells one after another; yields what failed."""
    for cell in cells:
        before = time.process_time()
        try:
            exec(compile(cell.source, cell.id, "exec"), names)
        except Exception:
            yield f"{cell.id}, run {when}: {traceback.format_exc(limit=-1)}"
        cell.seconds = time.process_time() - before
