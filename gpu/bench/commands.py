"""The commands that measure: `python -m gpu bench`, `python -m gpu.check_processes` and `python -m gpu.compare_fla`."""

from pathlib import Path
from typing import Annotated

import typer

from refimpl.cli import with_options

from ..parallel.launch import Device, check_device, optional, print_table, say, typed_command
from .config import PAPER, QUICK, BenchmarkConfig

Sections = optional(
    list[str], "training, decoding, kernels, by default all three; or paper: its cost tables", parameter=typer.Argument
)
Draw = optional(Path, "folder of results to draw again; by default none: they are measured")
Minutes = optional(float, "time in minutes after which no new work starts; by default no limit")
DeviceKind = optional(str, "cuda or cpu; by default cuda where there is a GPU, else cpu")


@with_options(BenchmarkConfig)
def bench(
    *,
    sections: Sections = None,
    out: Annotated[
        Path, typer.Option(help="folder for the results, SECTION.json and, but for paper, SECTION.png")
    ] = Path("runs/bench"),
    draw: Draw = None,
    quick: Annotated[bool, typer.Option("--quick", help="use tiny sizes, as by default where there is no GPU")] = False,
    minutes: Minutes = None,
    remark: Annotated[
        str, typer.Option(help="sentence for the files, such as what else ran meanwhile; by default none")
    ] = "",
    device: Device = None,
    settings,
):
    """Measure what training steps, decoded tokens and retentions cost, baselines in the same rounds; draw the figures.

    Defaults of the settings are those of a GPU; --quick and the section paper have their own.
    """
    from ..report import figures
    from . import run as benchmark
    from .timing import MEASURED, Deadline

    if draw is not None:
        for path in figures.draw(draw):
            say(f"figure: {path}")
        return
    device = check_device(device)
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes must be above 0, got {minutes:g}")
    if "paper" in (sections or ()) and len(sections) > 1:
        raise ValueError(f"sections: paper must be the only one, got {', '.join(sections)}")
    preset = QUICK if quick or not device.startswith("cuda") else PAPER if sections == ["paper"] else {}
    config = BenchmarkConfig(**preset | settings)
    for line in benchmark.missing(device, config):
        say(f"missing here: {line}")
    results = benchmark.run(
        config, sections or benchmark.SECTIONS, out, device, deadline=Deadline(minutes),
        command=typed_command(remark), remark=remark, progress=say,
    )  # fmt: skip
    for title, (headings, lines) in benchmark.tables(results):
        print_table(headings, lines, title)
    for line in benchmark.left_out(results):
        say(f"left out: {line}")
    drawn = [result["rows"] for section, result in results.items() if section in figures.FIGURES]
    if any(row["status"] == MEASURED for rows in drawn for row in rows):
        figures.draw(out)
    say(f"results and figures: {out}")


def check_processes(
    out: Annotated[Path, typer.Option(help="file to write")] = Path("runs/processes.json"),
    dim: Annotated[int, typer.Option(min=8, help="width of the models in channels")] = 512,
    layers: Annotated[int, typer.Option(min=1, help="number of layers of the models")] = 8,
    tokens: Annotated[int, typer.Option(min=64, help="length in tokens that one retention is timed over")] = 131_072,
    lengths: Annotated[
        list[int], typer.Option("--length", min=16, help="timed training: length of a window; may be given again")
    ] = (8192, 32_768, 131_072, 524_288),
    work: Annotated[
        int, typer.Option(min=16, help="timed training: tokens of one process in a step, at least a window")
    ] = 131_072,
    rounds: Annotated[
        int, typer.Option(min=1, help="timed training: rounds, in each of which everything is timed once")
    ] = 5,
    precision: Annotated[str, typer.Option(help="timed training: float32 or bfloat16")] = "bfloat16",
    device: DeviceKind = None,
):
    """Compare several processes, started by torchrun, with one, and time them; print a row a comparison, write them all.

    Sequence-parallel retention, a sequence-parallel model and training in every way of `gpu.parallel.strategies` are
    each compared with one device. A row that fails says why, the others are still measured, and the exit status is 1.
    """
    from .processes import check

    if not check(out, dim, layers, tokens, lengths, work, rounds, precision, device):
        raise typer.Exit(1)


def compare_fla(
    out: Annotated[Path, typer.Option(help="file to write")] = Path("gpu/results/fla_logits.json"),
):
    """Compare logits of flash-linear-attention's RetNet, in float32, bfloat16 and both its modes, with the NumPy model's."""
    from .fla_logits import compare

    compare(out)
