"""The commands `python -m refimpl train`, `facts` and `passages`."""

import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from ..cli import exit_when_stopped, path, say, with_options
from ..files import write_atomically
from .facts import FACTS, measure
from .loop import loss_in_words
from .passages import PASSAGES
from .passages import measure as measure_passages
from .settings import run_config
from .train import TrainConfig
from .train import train as train_model


@with_options(TrainConfig, leave_out=("prompt", "sample_bytes"))  # those are for torch, which samples
def train(
    *,
    out: Annotated[Path, typer.Option(help="folder of the run", parser=path)] = Path("runs/numpy"),
    resume: Annotated[
        bool, typer.Option("--resume", help="continue the run in that folder; with a larger --steps also after its end")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="replace a run in that folder, finished or not")] = False,
    settings,
):
    """Train a small model with gradients by hand, compiled kernels where Numba is installed; writes log and weights."""
    if resume and fresh:
        raise ValueError("resume must not be given together with fresh")
    console, config = Console(), run_config(TrainConfig, out, resume, settings)
    pair = {}
    if find_spec("numba"):
        from ..compiled.kernels import retention_chunkwise_backward_numba, retention_chunkwise_numba

        pair = {"retention": retention_chunkwise_numba, "retention_backward": retention_chunkwise_backward_numba}
    with exit_when_stopped(console, shlex.join(["python", "-m", "refimpl", "train", "--out", f"{out}", "--resume"])):
        _, log = train_model(config, out, console=console, resume=resume, fresh=fresh, **pair)
    say(
        f"{loss_in_words(log[-1], config)}, {log[-1]['seconds']:.0f} s, "
        f"{'Numba' if pair else 'NumPy'} kernels; log and weights: {out}",
        console,
    )


def facts(
    corpus: Annotated[str, typer.Option(help="a corpus that the card of the shipped model scores")] = "kjv + data/sotu",
    passages: Annotated[int, typer.Option(min=2, help="passages of the held-out text, evenly spread")] = 40,
    processes: Annotated[int, typer.Option(min=1, help="passages measured at once, each on one core")] = 2,
    out: Annotated[Path, typer.Option(help="file to write", parser=path)] = FACTS,
):
    """Measure what the shipped model does with its past: how far back, by which heads; some minutes on two cores."""
    console = Console()
    found = measure(corpus, passages, processes, lambda rows: track(rows, "passages", passages, console=console))
    write_atomically(out, json.dumps(found) + "\n")
    say(f"{passages} passages of {found['span']:,} bytes: {out}", console)


def passages(
    corpus: Annotated[str, typer.Option(help="a corpus that the card of the shipped model scores")] = "kjv + data/sotu",
    spots: Annotated[int, typer.Option(min=2, help="spots of the held-out text, evenly spread")] = 40,
    out: Annotated[Path, typer.Option(help="file to write", parser=path)] = PASSAGES,
):
    """Join the shipped model's states of passages that were read apart, cut at a line and within one: what does it cost?"""
    console = Console()
    found = measure_passages(corpus, spots, lambda rows: track(rows, "spots", spots, console=console))
    write_atomically(out, json.dumps(found) + "\n")
    say(f"{spots} spots: {out}", console)
