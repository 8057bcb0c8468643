"""python -m gpu: train a small RetNet or a baseline, compare many, let a trained one write, export it, measure."""

import shlex
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from refimpl.cli import run
from refimpl.training.bpe import Tokenizer
from refimpl.training.loop import StoppedError
from refimpl.weights import PRETRAINED

from .bench import run as benchmark
from .bench.config import PAPER, QUICK, SIZES, BenchmarkConfig
from .bench.timing import MEASURED, Deadline
from .models.retnet import RetNet
from .parallel.processes import is_first, joined, launched, on_first
from .report import figures as benchmark_figures
from .report import page as report_module
from .sampling.generate import prefill, stream_text
from .sampling.prompt_cache import load_past, save_past
from .training.config import MODELS, RunConfig, read_settings, with_settings
from .training.export import export as export_run
from .training.run import LOGIT_TOLERANCE
from .training.run import train as train_model
from .training.study import read_study, run_study, with_spread
from .training.sweep import sweep as sweep_rates

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(quiet=not is_first())
DEFAULT_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DEMO_WEIGHTS = Path("runs/demo/weights.safetensors")
File = Annotated[Path | None, typer.Argument(help="settings as TOML; options override single keys", show_default=False)]
Device = Annotated[str, typer.Option(help="a torch device")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device", help="a torch device; more of them take a run each; every GPU here, or cpu, if none is given"
    ),
]


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
    if resume and fresh:
        raise ValueError("resume must not be given together with fresh")
    with joined(device) as device:
        check_device(device)
        config = on_first(run_config, file, out, resume, settings)
        try:
            result = train_model(config, out, device, console, resume=resume, fresh=fresh)
        except StoppedError as stopped:
            console.print(f"{stopped}; python -m gpu train --out {out} --resume goes on", markup=False, soft_wrap=True)
            raise typer.Exit(128 + stopped.signal) from None
        except FloatingPointError as error:
            Console(stderr=True, quiet=not is_first()).print(f"stopped: {error}", markup=False, soft_wrap=True)
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
    device: Devices = None,
    settings,
):
    """Train with each learning rate, each model with all of them; a sweep that was stopped goes on where it was."""
    config = RunConfig(**(read_settings(file) if file else {}) | settings)
    with goes_on():
        rows = sweep_rates(
            config, learning_rate, model or [config.model], out, all_devices(device), console,
            command=typed(),
        )  # fmt: skip
    table = Table()
    for heading in ("model", "learning rate", "bits per byte", ""):
        table.add_column(heading, justify="left" if heading in ("model", "") else "right")
    for row in rows:
        loss = "-" if row["held_out"] is None else f"{row['held_out']:.3f}"
        table.add_row(row["model"], f"{row['learning_rate']:g}", loss, row["remark"])
    console.print(table)
    console.print(f"results: {out / 'sweep.json'}", markup=False, soft_wrap=True)


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="variants as TOML, such as gpu/studies/ablations.toml")],
    out: Annotated[Path | None, typer.Option(help="folder of the runs, and of study.json", show_default=False)] = None,
    device: Devices = None,
):
    """Train every variant of FILE with every seed; a study that was stopped goes on where it was."""
    out = out or Path("runs") / file.stem
    with goes_on():
        rows = run_study(read_study(file), out, all_devices(device), console, command=typed())
    table = Table()
    for heading in ("variant", "parameters", "bits per byte", "over the first", *quoted_names(rows)):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for row in rows:
        quoted = (f"{row['quoted'][name]} †" if name in row["quoted"] else "" for name in quoted_names(rows))
        table.add_row(
            row["variant"],
            f"{row['parameters'] or 0:,}",
            with_spread(row["mean"], row["deviation"]),
            with_spread(row["over"], row["over_deviation"], sign="+"),
            *quoted,
        )
    console.print(table)
    if quoted_names(rows):
        console.print("† quoted, not measured here: see the file")
    console.print(f"results: {out / 'study.json'}", markup=False, soft_wrap=True)


def quoted_names(rows):
    """The names of all figures that rows quote, in order."""
    return list(dict.fromkeys(name for row in rows for name in row["quoted"]))


@contextmanager
def goes_on():
    """Within, a request to stop ends the program with the signal's exit code, and says how to go on."""
    try:
        yield
    except StoppedError as stopped:
        console.print(f"{stopped}; the same command goes on", markup=False, soft_wrap=True)
        raise typer.Exit(128 + stopped.signal) from None


def all_devices(names):
    """The devices that were named, each checked, or every GPU here, or the CPU; ValueError under torchrun."""
    if launched():
        raise ValueError("torchrun must be left out: many runs are shared out over --device, a process each")
    names = names or [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    for name in names:
        check_device(name)
    return names


def typed(remark=None):
    """The command for a results file, without a remark, which has a place of its own there."""
    words = [word for word in sys.argv[1:] if not word.startswith("--remark") and word != remark]
    return shlex.join(["python", "-m", "gpu", *words])


@app.command()
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="texts to continue; with --state also none")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="a file that train wrote; by default that of runs/demo, or the model that ships"),
    ] = None,
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
    if weights is None:
        weights = DEMO_WEIGHTS if DEMO_WEIGHTS.exists() else PRETRAINED
    for name, path, writer in (("weights", weights, "train"), ("state", state, "generate --save-state")):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{name}: there is no file {str(path)!r}; python -m gpu {writer} writes one")
    # Halves are for keeping: what ships is computed with as it was trained.
    model, merges = RetNet.load(weights, device).float(), weights.with_name("tokenizer.json")
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


def run_config(file, out, resume, settings):
    """The `RunConfig` of options over a file, or None, over those of the run in `out`, if that is to be resumed.

    Raises:
        FileNotFoundError: there is no such file or run.
        TypeError, ValueError: from `RunConfig` or `read_settings`.
    """
    echo = out / "run.toml"
    if resume and not echo.exists():
        raise FileNotFoundError(f"resume: there is no run in {str(out)!r}")
    return RunConfig(**(read_settings(echo) if resume else {}) | (read_settings(file) if file else {}) | settings)


def several(text, name=None):
    """The annotation of an option that may be given again."""
    return Annotated[list[int] | None, typer.Option(*([name] if name else []), help=f"{text}; may be given again")]


@app.command()
def bench(
    sections: Annotated[
        list[str] | None,
        typer.Argument(help=f"{', '.join(benchmark.SECTIONS)}, all by default; or paper: its cost tables"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="folder for the results, SECTION.json and, but for paper, SECTION.png")
    ] = Path("runs/bench"),
    draw: Annotated[
        Path | None, typer.Option(help="draw the results in this folder again, and measure nothing")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="tiny sizes, as always where there is no GPU")] = False,
    minutes: Annotated[float | None, typer.Option(help="begin nothing new after that")] = None,
    remark: Annotated[str, typer.Option(help="a sentence for the files, as of what else ran meanwhile")] = "",
    size: Annotated[str | None, typer.Option(help=f"of the models: {', '.join(SIZES)}")] = None,
    dim: Annotated[int | None, typer.Option(help="in place of the size's")] = None,
    num_layers: Annotated[int | None, typer.Option(help="in place of the size's")] = None,
    num_heads: Annotated[int | None, typer.Option(help="of retention, in place of the size's")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="tokens that models know")] = None,
    model: Annotated[list[str] | None, typer.Option(help=f"{', '.join(MODELS)}; may be given again")] = None,
    rounds: Annotated[int | None, typer.Option(help="turns of each that count")] = None,
    compiled: Annotated[bool | None, typer.Option("--compile/--no-compile", help="measure compiled layers too")] = None,
    recompute: Annotated[bool | None, typer.Option(help="training: layers again in the backward pass")] = None,
    time: several("training: length T", "--time") = None,
    tokens: Annotated[int | None, typer.Option(help="training: tokens a step")] = None,
    chunk_size: several("training: of chunkwise retention") = None,
    context: several("decoding: tokens that were read") = None,
    batch: several("decoding: sequences side by side") = None,
    largest: Annotated[bool | None, typer.Option(help="decoding: also as many sequences as fit")] = None,
    memory_share: Annotated[float | None, typer.Option(help="decoding: of free memory, for as many as fit")] = None,
    grouped: Annotated[bool | None, typer.Option(help="decoding: also attention with grouped heads")] = None,
    kernel_tokens: Annotated[int | None, typer.Option(help="kernels: the most tokens of a call")] = None,
    device: Device = DEFAULT_DEVICE,
):
    """Measure what training steps, decoded tokens and retentions cost, baselines taking turns; draw the figures."""
    if draw is not None:
        for path in benchmark_figures.draw(draw):
            console.print(f"figure: {path}", markup=False, soft_wrap=True)
        return
    check_device(device)
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes must be above 0, got {minutes:g}")
    if "paper" in (sections or ()) and len(sections) > 1:
        raise ValueError(f"sections: paper must be the only one, got {', '.join(sections)}")
    given = {
        "size": size, "dim": dim, "num_layers": num_layers, "num_heads": num_heads, "vocab_size": vocab_size,
        "models": model, "rounds": rounds, "compile": compiled, "recompute": recompute, "times": time,
        "tokens": tokens, "chunk_sizes": chunk_size, "contexts": context, "batches": batch, "largest": largest,
        "memory_share": memory_share, "grouped": grouped, "kernel_tokens": kernel_tokens,
    }  # fmt: skip
    preset = PAPER if "paper" in (sections or ()) else {}
    if quick or torch.device(device).type != "cuda":
        preset = QUICK
    config = BenchmarkConfig(**preset | {name: value for name, value in given.items() if value not in (None, [])})
    for line in benchmark.missing(device, config):
        console.print(f"missing here: {line}", markup=False, soft_wrap=True)
    results = benchmark.run(
        config, sections or benchmark.SECTIONS, out, device, deadline=Deadline(minutes),
        command=typed(remark), remark=remark, progress=console.print,
    )  # fmt: skip
    for title, (headings, texts) in benchmark.tables(results):
        table = Table(title=title, box=box.SIMPLE, pad_edge=False)
        for heading in headings:
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        for line in texts:
            table.add_row(*line)
        console.print(table)
    for line in benchmark.left_out(results):
        console.print(f"left out: {line}", markup=False, soft_wrap=True)
    drawn = [result["rows"] for section, result in results.items() if section in benchmark_figures.FIGURES]
    if any(row["status"] == MEASURED for rows in drawn for row in rows):
        benchmark_figures.draw(out)
    console.print(f"results and figures: {out}", markup=False, soft_wrap=True)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="of results files")] = report_module.FOLDER):
    """Write tables and figures of all results beside them, as README.md."""
    for path in report_module.report(folder):
        console.print(f"{path}", markup=False, soft_wrap=True)


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
    run(app, "python -m gpu", quiet=not is_first())
