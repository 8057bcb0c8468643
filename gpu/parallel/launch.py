"""What the commands share: the console of the first process, devices, and the command as it was typed.

Functions import torch, the module does not: `--help` answers at once.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table


def launched():
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


console = Console(quiet=launched() and os.environ["RANK"] != "0")

Device = Annotated[
    str | None,
    typer.Option(
        help="torch device, such as cpu or cuda:0; by default cuda where there is a GPU, else cpu", show_default=False
    ),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="torch device; may be given again, and each computes one run at a time; by default every GPU, or the cpu",
        show_default=False,
    ),
]


def say(line):
    """Print a line as it is: without markup, and not broken."""
    console.print(line, markup=False, soft_wrap=True)


def print_table(headings, lines, title=None, left=("",)):
    """Print lines of texts under headings, right-aligned but for the columns whose heading is in `left`."""
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=heading not in left)
    for line in lines:
        table.add_row(*line)
    console.print(table)


def default_device():
    """The name of the device that a command uses unless it is told: "cuda" where there is a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device=None):
    """The device, by default `default_device`; ValueError says why torch cannot use it here."""
    import torch

    device = device or default_device()
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device must be one that torch can use here, got {device!r}: {str(error).splitlines()[0]}"
        ) from None
    return device


def check_devices(names=None):
    """The named devices, by default every GPU or the CPU, each checked; ValueError under torchrun."""
    import torch

    if launched():
        raise ValueError("torchrun must be left out: many runs are shared out over --device, a process each")
    names = names or [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    return [check_device(name) for name in names]


def typed_command(remark=None):
    """What the user typed, for a results file; without --remark, which has its own place there."""
    start = ["retnet"] if Path(sys.argv[0]).stem == "retnet" else ["python", "-m", "gpu"]
    return shlex.join(start + [word for word in sys.argv[1:] if not word.startswith("--remark") and word != remark])
