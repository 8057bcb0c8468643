"""python -m explorables: the page, the stills and the times of the pictures that are drawn in the browser."""

import json
from pathlib import Path
from typing import Annotated

import typer

from refimpl.files import write_atomically

from . import EXPLORABLES, Forms
from .explorable import HERE
from .node import picture
from .page import page

app = typer.Typer(
    help="Pictures that are drawn in the browser: their page, their stills, their times.", no_args_is_help=True
)


@app.command("page")
def page_command(out: Annotated[Path, typer.Argument(help="the HTML file to write")] = Path("explorables.html")):
    """Write all pictures on one page that opens from a disk, without a network or a kernel."""
    write_atomically(out, page(EXPLORABLES))
    print(f"{out}: {len(EXPLORABLES)} pictures, {out.stat().st_size / 1e3:.0f} kB")


@app.command()
def stills(folder: Annotated[Path, typer.Argument(help="where the SVG files and their words go")] = HERE / "stills"):
    """Draw each picture as it starts: what is seen, and heard, where no script runs."""
    for cls in EXPLORABLES:
        drawn = picture(cls)
        for name, text in ((f"{cls.module}.svg", drawn["svg"]), (f"{cls.module}.txt", drawn["words"])):
            write_atomically(folder / name, text + "\n")
    print(f"{folder}: {', '.join(cls.module for cls in EXPLORABLES)}")


@app.command("film")
def film_command(
    out: Annotated[Path, typer.Argument(help="the PNG file to write")] = HERE.parent / "images" / "three_forms.png",
):
    """Film the three forms, token by token: the moving picture of README.md."""
    from .film import film

    tokens = len(Forms.course_data()["q"])
    write_atomically(out, film(Forms, [{"n": n, "m": max(n - 4, 1)} for n in range(1, tokens + 1)]))
    print(f"{out}: {tokens} frames, {out.stat().st_size / 1e3:.0f} kB")


@app.command()
def latency(
    out: Annotated[Path, typer.Argument(help="the results file to write")] = HERE / "latency.json",
    presses: Annotated[int, typer.Option(help="keys pressed on each slider")] = 40,
    load: Annotated[int, typer.Option(help="processes that compute meanwhile; by default one a core")] = -1,
):
    """Measure the time from a key press to the paint that shows it, on a page and in JupyterLab."""
    from .latency import measure, table

    results = measure(EXPLORABLES, presses, None if load < 0 else load)
    write_atomically(out, json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    app()
