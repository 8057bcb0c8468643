"""python -m gpu: train a small RetNet, and let a trained one write."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.panel import Panel

from refimpl.cli import run
from refimpl.text import encode
from refimpl.train import TrainConfig

from .generate import prefill, stream_text
from .module import RetNet
from .prompt_cache import load_past, save_past
from .train import LOGIT_TOLERANCE
from .train import train as train_model

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console()
DEFAULT_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/demo"),
    corpus: Annotated[
        str, typer.Option(help="kjv (the King James Bible), a text file or a folder")
    ] = TrainConfig.corpus,
    steps: Annotated[int, typer.Option(min=1)] = TrainConfig.steps,
    seed: Annotated[int, typer.Option(min=0)] = TrainConfig.seed,
    device: Annotated[str, typer.Option(help="a torch device")] = DEFAULT_DEVICE,
):
    """Train in the parallel form, sample in the recurrent one, and assert that they agree."""
    check_device(device)
    config = TrainConfig(corpus=corpus, steps=steps, seed=seed)
    result = train_model(config, out, device, console)
    console.print(
        f"{result['parameters']:,} parameters, {result['bits_per_byte']['held_out']:.2f} bits per byte on held-out text, "
        f"{result['seconds']:.0f} s on {result['device']}",
        soft_wrap=True,
    )
    console.print(
        f"{config.sample_bytes} bytes sampled recurrently; the parallel form gives the same logits to "
        f"{result['decoding_disagreement']:.0e} of the largest (asserted: below {LOGIT_TOLERANCE:.0e})",
        soft_wrap=True,
    )
    console.print(Panel(result["sample"], title="sample", expand=False), markup=False)
    console.print(f"loss curve: {out / 'loss.png'}   log, weights, sample, result: {out}", markup=False, soft_wrap=True)


@app.command()
def generate(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="PROMPT...", help="texts to continue; with --state also none")
    ] = None,
    weights: Annotated[Path, typer.Option(help="a file that train wrote")] = Path("runs/demo/weights.safetensors"),
    tokens: Annotated[int, typer.Option(min=0, help="bytes to write; 0 only reads")] = 400,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest byte")] = 0.7,
    top_k: Annotated[int | None, typer.Option(min=1, help="draw from the k likeliest bytes")] = None,
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
    model = RetNet.load(weights, device)
    past = load_past(state, model) if state else None
    past = prefill(model, [torch.from_numpy(encode(prompt).astype(np.int64)).to(device) for prompt in prompts], past)
    if save_state:
        save_past(save_state, past, model)
    pieces = stream_text(model, past, tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    if stream:
        print(prompts[0], end="", flush=True)
        for (piece,) in pieces:
            print(piece, end="", flush=True)
        print()
    else:
        texts = ("".join(row) for row in zip(*pieces, strict=True))
        print("\n\n".join(prompt + text for prompt, text in zip(prompts, texts, strict=True)))


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
