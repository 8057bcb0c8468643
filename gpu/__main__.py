"""python -m gpu: train a small RetNet or a baseline, find its learning rate, let a trained one write, and export it."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from refimpl.bpe import Tokenizer
from refimpl.cli import run
from refimpl.loop import StoppedError

from .config import MODELS, RunConfig, read_settings, with_settings
from .export import export as export_run
from .generate import prefill, stream_text
from .module import RetNet
from .prompt_cache import load_past, save_past
from .sweep import sweep as sweep_rates
from .train import LOGIT_TOLERANCE
from .train import train as train_model

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()
DEFAULT_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
File = Annotated[Path | None, typer.Argument(help="settings as TOML; options override single keys", show_default=False)]
Device = Annotated[str, typer.Option(help="a torch device")]


@app.command()
@with_settings
def train(
    *,
    file: File = None,
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/demo"),
    device: Device = DEFAULT_DEVICE,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in that folder")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="replace a run in that folder, even an unfinished one")
    ] = False,
    settings,
):
    """Train in the parallel form, sample in the recurrent one, and assert that they agree."""
    check_device(device)
    if resume and fresh:
        raise ValueError("resume must not be given together with fresh")
    echo = out / "run.toml"
    if resume and not echo.exists():
        raise FileNotFoundError(f"resume: there is no run in {str(out)!r}")
    settings = (read_settings(echo) if resume else {}) | (read_settings(file) if file else {}) | settings
    config = RunConfig(**settings)
    try:
        result = train_model(config, out, device, console, resume=resume, fresh=fresh)
    except StoppedError as stopped:
        console.print(f"{stopped}; python -m gpu train --out {out} --resume goes on", markup=False, soft_wrap=True)
        raise typer.Exit(128 + stopped.signal) from None
    except FloatingPointError as error:
        Console(stderr=True).print(f"stopped: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(
        f"{result['parameters']:,} parameters, {result['bits_per_byte']['held_out']:.2f} bits per byte on held-out text, "
        f"{result['seconds']:.0f} s on {result['device']}",
        soft_wrap=True,
    )
    if result["sample"] is not None:
        console.print(
            f"{config.sample_bytes} tokens sampled recurrently; the parallel form gives the same logits to "
            f"{result['decoding_disagreement']:.0e} of the largest, NumPy to {result['numpy_disagreement']:.0e} "
            f"(asserted: below {LOGIT_TOLERANCE:.0e})",
            soft_wrap=True,
        )
        console.print(Panel(result["sample"], title="sample", expand=False), markup=False)
    console.print(f"loss curve: {out / 'loss.png'}   log, weights, sample, result: {out}", markup=False, soft_wrap=True)


@app.command()
@with_settings
def sweep(
    *,
    learning_rate: Annotated[list[float], typer.Option(help="one to try; may be given again")],
    model: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(MODELS)}; may be given again")] = None,
    file: File = None,
    out: Annotated[Path, typer.Option(help="folder of the runs, and of sweep.json")] = Path("runs/sweep"),
    device: Device = DEFAULT_DEVICE,
    settings,
):
    """Train with each learning rate, each model with all of them; a sweep that was stopped goes on where it was."""
    check_device(device)
    config = RunConfig(**(read_settings(file) if file else {}) | settings)
    try:
        rows = sweep_rates(config, learning_rate, model or [config.model], out, device, console)
    except StoppedError as stopped:
        console.print(f"{stopped}; the same command goes on", markup=False, soft_wrap=True)
        raise typer.Exit(128 + stopped.signal) from None
    table = Table()
    for heading in ("model", "learning rate", "bits per byte", ""):
        table.add_column(heading, justify="left" if heading in ("model", "") else "right")
    for row in rows:
        loss = "-" if row["held_out"] is None else f"{row['held_out']:.3f}"
        table.add_row(row["model"], f"{row['learning_rate']:g}", loss, row["remark"])
    console.print(table)
    console.print(f"results: {out / 'sweep.json'}", markup=False, soft_wrap=True)


@app.command()
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="texts to continue; with --state also none")
    ] = None,
    weights: Annotated[Path, typer.Option(help="a file that train wrote")] = Path("runs/demo/weights.safetensors"),
    tokens: Annotated[int, typer.Option(min=0, help="tokens to write; 0 only reads")] = 400,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token")] = 0.7,
    top_k: Annotated[int | None, typer.Option(min=1, help="draw from the k likeliest tokens")] = None,
    top_p: Annotated[float | None, typer.Option(help="and from the likeliest that reach this probability")] = None,
    seed: Annotated[int, typer.Option(min=0, help="the same seed writes the same text")] = 0,
    state: Annotated[Path | None, typer.Option(help="go on from what --save-state wrote")] = None,
    save_state: Annotated[Path | None, typer.Option(help="write the state after PROMPT, of one size")] = None,
    stream: Annotated[bool, typer.Option(help="print the text as it comes; for one PROMPT")] = False,
    device: Annotated[str, typer.Option(help="a torch device")] = DEFAULT_DEVICE,
):
    """Continue each PROMPT with a trained model, in the recurrent form."""
    check_device(device)
    prompts = prompts or [""]
    if not state and "" in prompts:
        raise ValueError("prompt must hold at least one character, got ''")
    if stream and len(prompts) > 1:
        raise ValueError(f"stream must go with one prompt, got {len(prompts)}")
    for name, path, writer in (("weights", weights, "train"), ("state", state, "generate --save-state")):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{name}: there is no file {str(path)!r}; python -m gpu {writer} writes one")
    model, merges = RetNet.load(weights, device), weights.with_name("tokenizer.json")
    tokenizer = Tokenizer.load(merges) if merges.exists() else Tokenizer()
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"weights must be of a model over {tokenizer.vocab_size} tokens, as {str(merges)!r} says or bytes are, "
            f"got {model.config.vocab_size}"
        )
    past = load_past(state, model) if state else None
    past = prefill(
        model, [torch.from_numpy(tokenizer.encode(prompt).astype(np.int64)).to(device) for prompt in prompts], past
    )
    if save_state:
        save_past(save_state, past, model)
    pieces = stream_text(
        model, past, tokens, pieces=tokenizer.pieces, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    if stream:
        print(prompts[0], end="", flush=True)
        for (piece,) in pieces:
            print(piece, end="", flush=True)
        print()
    else:
        texts = ("".join(row) for row in zip(*pieces, strict=True))
        print("\n\n".join(prompt + text for prompt, text in zip(prompts, texts, strict=True)))


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run of a RetNet over bytes")],
    out: Annotated[Path, typer.Option(help="folder of retnet.safetensors and retnet.json")] = Path(
        "refimpl/pretrained"
    ),
    weights: Annotated[str, typer.Option(help="the run's best weights or its last")] = "best",
    prompt: Annotated[str | None, typer.Option(help="of the greedy text; by default the run's")] = None,
    corpus: Annotated[str | None, typer.Option(help="where the run's corpus is now, if it was moved")] = None,
    device: Device = DEFAULT_DEVICE,
):
    """Round the weights of a RUN to float16, and write them with a card of what the rounded ones do."""
    check_device(device)
    card = export_run(run_folder, out, weights=weights, prompt=prompt, corpus=corpus, device=device)
    losses = card["bits_per_byte"]
    console.print(
        f"{card['parameters']:,} parameters in {card['bytes']:,} bytes; held-out text {losses['float32']:.4f} bits per "
        f"byte as trained, {losses['float16']:.4f} as rounded; torch writes the same {card['text']['bytes']} bytes as NumPy",
        soft_wrap=True,
    )
    console.print(
        Panel(card["text"]["prompt"] + card["text"]["continuation"], title="greedy", expand=False), markup=False
    )
    console.print(f"weights and card: {out}", markup=False, soft_wrap=True)


def check_device(device):
    """Demand a torch device that this machine has; ValueError says why it has not."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device must be one that torch can use here, got {device!r}: {str(error).splitlines()[0]}"
        ) from None


if __name__ == "__main__":
    run(app, "python -m gpu")
