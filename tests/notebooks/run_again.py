"""python run_again.py NOTEBOOK: run all code cells in order, then each one alone, from the last to the first, and once more.

One namespace, no kernel: what a reader does who goes back and runs a cell again. A cell that fails is named, with the
exit code 1.
"""

import sys
import traceback
from pathlib import Path

import nbformat


def main(path):
    namespace = {"__name__": "__main__"}
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    order = [*cells, *reversed(cells), *cells[::2], *cells[1::2]]
    failed = []
    for turn, cell in enumerate(order):
        try:
            exec(compile(cell.source, cell.id, "exec"), namespace)
        except Exception:
            failed.append(
                f"{cell.id}, run {'in order' if turn < len(cells) else 'again'}: {traceback.format_exc(limit=-1)}"
            )
    sys.exit("\n".join(dict.fromkeys(failed)) or 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
