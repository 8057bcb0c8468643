"""The commands `python -m gpu scaling`, `context` and `reproduce`: what a model can do, what it uses, and whether that holds."""

import json
import platform
from pathlib import Path
from typing import Annotated

import typer

from refimpl.cli import exit_when_stopped, path
from refimpl.files import write_atomically

from ..parallel import launch
from ..parallel.launch import Device, Devices, check_device, console, optional, say

PlanFile = Annotated[Path, typer.Argument(help="a plan as TOML, such as gpu/studies/scaling.toml", parser=path)]
PlanFolder = optional(Path, "folder of the runs and of scaling.json; by default runs/ and FILE's name", parser=path)
Runs = Annotated[list[Path], typer.Argument(help="folders of finished runs", parser=path, metavar="RUN...")]
Lengths = optional(list[int], "length of windows in tokens; may be given again; by default 512 to 65,536", "--length")
Results = optional(
    list[Path],
    "results of studies; by default all of gpu/results/small",
    parameter=typer.Argument,
    parser=path,
    metavar="FILE...",
)
Corpus = optional(str, "where the corpus of the runs is now; by default where it was")


def scaling(
    file: PlanFile,
    out: PlanFolder = None,
    device: Devices = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="replace finished runs of other settings in that folder")
    ] = False,
):
    """Train the models of FILE at all its sizes, each token once; the same command continues a stopped study."""
    from .scaling import read_plan, run_plan

    out = out or Path("runs") / file.stem
    with exit_when_stopped(console):
        devices = launch.check_devices(device)
        results = run_plan(read_plan(file), out, devices, console, launch.typed_command(), fresh)
    lines = [
        (
            row["model"], row["size"], str(row["seed"]), f"{row['parameters']:,}", f"{row['tokens']:,}",
            f"{row['learning_rate']:g}", f"{row['held_out']:.4f}", f"{row['seconds']:.0f}",
        )
        for row in results["rows"]
    ]  # fmt: skip
    headings = ("model", "size", "seed", "parameters", "tokens", "learning rate", "bits per byte", "seconds")
    launch.print_table(headings, lines, left=("model", "size"))
    say(f"results: {out / 'scaling.json'}")


def context(
    runs: Runs,
    length: Lengths = None,
    tokens: Annotated[int, typer.Option(help="tokens read at each length, four windows at least")] = 2**19,
    lag_length: Annotated[
        int, typer.Option(help="length of the windows in which a RetNet forgets at a lag; 0 leaves this out")
    ] = 8192,
    corpus: Corpus = None,
    out: Annotated[Path, typer.Option(help="results file", parser=path)] = Path("runs/context.json"),
    device: Device = None,
):
    """Read held-out text with finished RUNs, in windows of many lengths: loss by position, and with a state that forgets."""
    import dataclasses

    import torch

    from refimpl.training.bpe import Tokenizer
    from refimpl.training.loop import load_text

    from ..training.run import describe
    from .context import LENGTHS, forgets, read_at_lengths, trained

    device, texts, rows = check_device(device), {}, []
    for run in runs:
        model, config = trained(run, device)
        source = dataclasses.replace(config, corpus=corpus or config.corpus)
        tokenizer = Tokenizer.beside(run / "weights.safetensors", config.vocab_size)  # that of a corpus may be another
        key = source.corpus, tokenizer
        if key not in texts:
            texts[key] = load_text(dataclasses.replace(source, once=False), tokenizer)
        text = texts[key]
        row = {"run": run.name, "model": config.model, "window": config.window, "seed": config.seed}
        row["lengths"] = read_at_lengths(model, config, text, tuple(length or LENGTHS), tokens, device)
        if config.model == "retnet" and 0 < lag_length < len(text.held_out):
            row["forgets"] = forgets(
                model, config, text, length=lag_length, count=max(2, tokens // lag_length), device=device
            )
        rows.append(row)
        shown = {
            "command": launch.typed_command(),
            "device": describe(device),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
            "rows": rows,
        }
        write_atomically(out, json.dumps(shown) + "\n")
        said = ", ".join(f"{each['length']:,}: {each['whole'][0]:.3f}" for each in row["lengths"])
        say(f"{run}: bits per byte in windows of {said}")
    say(f"results: {out}")


def reproduce(
    file: Results = None,
    out: Annotated[Path, typer.Option(help="folder of the runs", parser=path)] = Path("runs/reproduce"),
    device: Devices = None,
):
    """Train the smallest run of each FILE again, and compare its loss with the one on record; minutes on two CPU cores."""
    from .reproduce import FOLDER, recorded, smallest
    from .reproduce import reproduce as train_again

    runs = [smallest(recorded(each)) for each in file or sorted(FOLDER.glob("*.json"))]
    with exit_when_stopped(console):
        found = train_again(runs, out, launch.check_devices(device), console)
    lines = [
        (
            run.study, run.name, f"{run.held_out:.4f}", "failed" if loss is None else f"{loss:.4f}",
            "" if loss is None else f"{loss - run.held_out:+.4f}", f"{run.tolerance:g}",
        )
        for run, loss in found
    ]  # fmt: skip
    launch.print_table(("study", "run", "on record", "here", "difference", "tolerance"), lines, left=("study", "run"))
    if any(loss is None or abs(loss - run.held_out) > run.tolerance for run, loss in found):
        raise typer.Exit(1)
