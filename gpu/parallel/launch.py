"""What the commands share: the console of the first process, devices, and the command as it was typed.

Only functions import torch, so `--help` is fast.
"""

import functools
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from refimpl import cli


def launched():
    """True if torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


console = Console(quiet=launched() and os.environ["RANK"] != "0")


def optional(kind, text, *names, parameter=typer.Option, **more):
    """The annotation of a command's option that is None by default; `text`, its help, says what None means."""
    return Annotated[kind | None, parameter(*names, help=text, show_default=False, **more)]


Device = optional(str, "torch device, such as cpu or cuda:0; by default cuda where there is a GPU, else cpu")
Devices = optional(
    list[str],
    "torch device; may be given again, and each computes one run at a time; by default every GPU, or the cpu",
    "--device",
)


say = functools.partial(cli.say, console=console)


def print_table(headings, lines, title=None, left=("",)):
    """Print lines of texts under headings; columns are right-aligned unless their heading is in `left`."""
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in left else "right", no_wrap=heading not in left)
    for line in lines:
        table.add_row(*line)
    console.print(table, markup=False, emoji=False)


def default_device():
    """The name of the device that a command uses by default: "cuda" if there is a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device=None):
    """The device, by default `default_device`; ValueError says why torch cannot use it here."""
    import torch

    device = device or default_device()
    try:
        torch.zeros(1, device=device).item()  # meta has no values
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
    """The command as the user typed it, for a results file; without --remark, which the file holds separately."""
    start = ["retnet"] if Path(sys.argv[0]).stem == "retnet" else ["python", "-m", "gpu"]
    return shlex.join(start + [word for word in sys.argv[1:] if not word.startswith("--remark") and word != remark])
