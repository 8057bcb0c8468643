"""What a lesson's kernel does beside its cells: it keeps each picture, and in the end runs each cell again.

Again means from the last to the first: what a reader does who goes back. A cell that computes for half a second or more is
run once: most of the suite's time would be training.
"""

import contextlib
import io
import json
import sys
import time
import traceback

LONG = 0.5  # seconds of the processor, from which on a cell is run once
drawn, seconds = [], {}


def watch(shell):
    """From now on keep the pictures that are drawn, and how long each cell computes."""

    def before(info):
        keep_pictures()
        seconds[info.raw_cell] = -time.process_time()

    def after(result):
        seconds[result.info.raw_cell] += time.process_time()

    shell.events.register("pre_run_cell", before)
    shell.events.register("post_run_cell", after)


def keep_pictures():
    """Keep what is drawn from now on, once the lesson has loaded its figures.

    Loading them here would load NumPy before a lesson can say how many threads it takes. What a cell shows is a picture
    without pixels, which nbval does not compare: each is drawn once, when it is looked at.
    """
    style = sys.modules.get("figures.style")
    if style is None or style.Picture.__init__.__name__ == "kept":
        return
    start = style.Picture.__init__

    def kept(picture, *args, **kwargs):
        start(picture, *args, **kwargs)
        drawn.append(picture)

    style.Picture.__init__, style.Picture.png = kept, lambda picture, dpi=0: b"no pixels"


def wrong(path, shell):
    """After a whole run of the lesson: what is wrong with its pictures, and which cells fail when they run again."""
    from legible import faults  # loads NumPy, as in `keep_pictures`

    found = [fault for picture in drawn for fault in faults(picture)]
    with open(path, encoding="utf-8") as file:  # nbformat would take a second to import
        cells = [cell for cell in json.load(file)["cells"] if cell["cell_type"] == "code"]
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in reversed(cells):
            source = "".join(cell["source"])
            try:
                if seconds.get(source, 0.0) < LONG:
                    exec(compile(source, cell["id"], "exec"), shell.user_ns)
            except Exception:
                found.append(f"{cell['id']}, run again: {traceback.format_exc(limit=-1)}")
    return list(dict.fromkeys(found))
