"""The commands that train: `python -m gpu train`, `sweep`, `study` and `export`."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.panel import Panel
from rich.text import Text

from refimpl.checks import check_choice
from refimpl.cli import exit_when_stopped, path, with_options
from refimpl.training.loop import loss_in_words
from refimpl.training.stopping import stop_when_orphaned

from ..models.registry import MODELS
from ..parallel import launch
from ..parallel.launch import Device, Devices, check_device, console, optional, say
from .config import RunConfig, configured, read_settings, run_config
from .study import last_losses, read_study, run_study, study_table
from .sweep import sweep as sweep_rates
from .sweep import sweep_table

File = optional(
    Path, "settings as TOML, by default none; options override single keys", parameter=typer.Argument, parser=path
)
Models = optional(list[str], f"one of {', '.join(MODELS)}; may be given again; by default the file's")
PRETRAINED_FOLDER = Path("refimpl/pretrained")
ExportFolder = optional(
    Path,
    f"folder of retnet.safetensors and retnet.json, by default {PRETRAINED_FOLDER}; with --onnx of the graphs, by default "
    "that of RUN",
    parser=path,
)
StudyFolder = optional(Path, "folder of the runs and of study.json; by default runs/ and FILE's name", parser=path)
FreshRuns = Annotated[bool, typer.Option("--fresh", help="replace finished runs of other settings in that folder")]
Prompt = optional(str, "text that the greedy sample continues; by default the run's")
Scored = optional(
    list[str],
    "other text, as --corpus, or folder of byte shards on which the card scores the weights too; may be given again; by default "
    "none",
    "--score",
)
Corpus = optional(str, "where the run's corpus is now; by default where it was")


@with_options(RunConfig)
def train(
    *,
    file: File = None,
    out: Annotated[Path, typer.Option(help="folder of the run", parser=path)] = Path("runs/demo"),
    device: Device = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="continue the run in that folder; with a larger --steps also after its end")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="replace a run in that folder, finished or not")] = False,
    settings,
):
    """Train in the parallel form, sample in the recurrent one, and assert that they agree.

    On several GPUs: torchrun --nproc-per-node 2 --no-python retnet gpu train ...
    """
    if resume and fresh:
        raise ValueError("resume must not be given together with fresh")
    stop_when_orphaned()
    # Before torch comes: its threads would spin while they wait, which on busy cores makes a step 20 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from ..parallel.processes import joined, on_first
    from .run import LOGIT_TOLERANCE
    from .run import train as train_model

    with joined(device or launch.default_device()) as device:
        check_device(device)
        config = on_first(run_config, out, resume, settings, file)
        with exit_when_stopped(console, shlex.join(["python", "-m", "gpu", "train", "--out", f"{out}", "--resume"])):
            result = train_model(config, out, device, console, resume=resume, fresh=fresh)
    say(
        f"{result['parameters']:,} parameters, {loss_in_words(result | last_losses(result), config)}, "
        f"{result['seconds']:.0f} s on {result['device']}"
    )
    if result["sample"] is not None:
        say(
            f"{config.sample_bytes} tokens sampled recurrently; the parallel form gives the same logits to "
            f"{result['decoding_disagreement']:.0e} of the largest, NumPy to {result['numpy_disagreement']:.0e} "
            f"(asserted: below {LOGIT_TOLERANCE:.0e})"
        )
        console.print(Panel(Text(result["sample"]), title="sample", expand=False))
    say(f"loss curve: {out / 'loss.png'}   log, weights, sample, result: {out}")


@with_options(RunConfig)
def sweep(
    *,
    learning_rate: Annotated[list[float], typer.Option(help="learning rate to try; may be given again")],
    model: Models = None,
    file: File = None,
    out: Annotated[Path, typer.Option(help="folder of the runs and of sweep.json", parser=path)] = Path("runs/sweep"),
    device: Devices = None,
    fresh: FreshRuns = False,
    settings,
):
    """Train with each learning rate, each model with all of them; the same command continues a stopped sweep."""
    settings = (read_settings(file) if file else {}) | settings
    for name in model or []:
        check_choice("model", name, MODELS)
    grouped = [name for name in model or [] if MODELS[name].grouped]  # kv_heads need such a model
    config = configured(settings | ({"model": grouped[0]} if grouped else {}))
    models, devices, command = model or [config.model], launch.check_devices(device), launch.typed_command()
    with exit_when_stopped(console):
        rows = sweep_rates(config, learning_rate, models, out, devices, console, command, fresh)
    launch.print_table(*sweep_table(rows), left=("model", ""))
    say(f"results: {out / 'sweep.json'}")
    # A rate at which a model diverges is a finding, and no mistake.
    if any(row["remark"].startswith("failed: ") and not row["remark"].startswith("failed: stopped: ") for row in rows):
        raise typer.Exit(1)


def study(
    file: Annotated[Path, typer.Argument(help="variants as TOML, such as gpu/studies/ablations.toml", parser=path)],
    out: StudyFolder = None,
    device: Devices = None,
    fresh: FreshRuns = False,
):
    """Train every variant of FILE with every seed; the same command continues a stopped study."""
    out = out or Path("runs") / file.stem
    with exit_when_stopped(console):
        devices = launch.check_devices(device)
        rows = run_study(read_study(file), out, devices, console, launch.typed_command(), fresh)
    launch.print_table(*study_table(rows), left=("variant",))
    if any(row["quoted"] for row in rows):
        say("† quoted, not measured here: see the file")
    say(f"results: {out / 'study.json'}")
    if any(loss is None for row in rows for loss in row["held_out"]):
        raise typer.Exit(1)


def export(
    run_folder: Annotated[
        Path,
        typer.Argument(
            parser=path,
            metavar="RUN",
            help="folder of a finished run of a RetNet; with --onnx also weights as generate takes them",
        ),
    ],
    out: ExportFolder = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="write prefill.onnx and decode.onnx, for programs without torch, instead")
    ] = False,
    weights: Annotated[str, typer.Option(help="which weights of the run: best or last")] = "best",
    prompt: Prompt = None,
    corpus: Corpus = None,
    score: Scored = None,
    device: Device = None,
):
    """Round the weights of a RUN to float16, and write them with a card that says how the rounded weights do."""
    from .export import export as export_run
    from .export import model_of
    from .export_onnx import export_onnx

    if onnx:
        for name, value in (("prompt", prompt), ("corpus", corpus), ("score", score), ("device", device)):
            if value is not None:
                raise ValueError(f"{name} must be left out with --onnx, which reads weights alone, got {value!r}")
        beside = run_folder.parent if run_folder.is_file() else run_folder
        paths = export_onnx(*model_of(run_folder, weights), beside if out is None else out)
        say(f"onnxruntime gives torch's logits; {' and '.join(map(str, paths))}")
        return
    out = PRETRAINED_FOLDER if out is None else out
    device = check_device(device)
    card = export_run(run_folder, out, weights=weights, prompt=prompt, corpus=corpus, scored=score or (), device=device)
    losses, text = card["bits_per_byte"], card["text"]
    say(
        f"{card['parameters']:,} parameters in {card['bytes']:,} bytes; held-out text {losses['float32']:.4f} bits per "
        f"byte as trained, {losses['float16']:.4f} as rounded; torch writes the same {text['bytes']} bytes as NumPy"
    )
    console.print(Panel(Text(text["prompt"] + text["continuation"]), title="greedy", expand=False))
    say(f"weights and card: {out}")
