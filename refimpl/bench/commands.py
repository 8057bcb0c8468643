"""The commands `python -m refimpl bench` and `roof`."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..files import write_atomically
from . import figure
from .peers import load_peers
from .roof import SPREAD
from .roof import measure as measure_roof
from .run import LONG, TIMES, measure, versions
from .tables import tables


def bench(
    out: Annotated[Path, typer.Option(help="folder for results.json and results.png")] = Path("runs/bench"),
    times: Annotated[list[int], typer.Option("--time", min=1, help="length T in tokens; may be given again")] = TIMES,
    long: Annotated[
        list[int], typer.Option(min=1, help="length of a long sequence in tokens; may be given again")
    ] = LONG,
    rounds: Annotated[int, typer.Option(min=1, help="how often each is timed; the fastest counts")] = 7,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="module that times other libraries, such as gpu.bench.cpu_peers; may be given again; by default those "
            "that installed packages name",
            show_default=False,
        ),
    ] = None,
    draw: Annotated[
        Path | None,
        typer.Option(help="results file to draw again, beside it; by default none: measure", show_default=False),
    ] = None,
):
    """Time every form, compiled or not, and the peers installed, against the matrix-product peak of the same rounds.

    Then whole steps: decoding, training, and a token of a long sequence with the memory it takes.
    """
    console, can_draw = Console(), find_spec("matplotlib") is not None
    if draw is not None:
        if not can_draw:
            raise ValueError("draw must not be given where Matplotlib is not installed")
        console.print(f"figure: {figure.draw(draw)}", markup=False, soft_wrap=True)
        return
    peers, missing = load_peers(peer or ())
    missing += [f"{name}: not installed" for name, version in versions(peers).items() if version is None]
    if not can_draw:
        missing.append("figure: Matplotlib is not installed; with it, --draw makes the figure from the results file")
    for line in missing:
        console.print(f"missing here: {line}", markup=False, soft_wrap=True)

    def progress(lengths):
        return track(lengths, description="lengths", console=console)

    results = measure(tuple(times), tuple(long), rounds, peers, progress)
    path = out / "results.json"
    write_atomically(path, json.dumps(results, indent=1) + "\n")
    for title, rows in tables(results):
        table = Table(title=title)
        for heading in rows[0]:
            table.add_column(heading, justify="right" if heading else "left")
        for row in rows:
            table.add_row(*row.values())
        console.print(table)
    if can_draw:
        figure.draw(path)
    console.print(f"written to {out}", markup=False)


def roof(
    out: Annotated[Path, typer.Option(help="results file to write")] = Path("runs/roof.json"),
    rounds: Annotated[int, typer.Option(min=1, help="how often each is timed; the fastest counts")] = 15,
):
    """Measure what one core can do (product, copies, Python's steps), and every form of one head under that roof."""
    results = measure_roof(rounds)
    write_atomically(out, json.dumps(results, indent=1) + "\n")
    for row in results["rows"]:
        times = ", ".join(f"{1e3 * row[name]:.2f}" for name in SPREAD)
        print(f"{row['name']:30} {times} ms (fastest, median, slowest)   {row['share_of_peak']:.0%} of peak")
