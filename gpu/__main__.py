"""python -m gpu: train a small RetNet, and let a trained one write."""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.panel import Panel

from refimpl.cli import run
from refimpl.text import decode, encode
from refimpl.train import TrainConfig

from .generate import generate as sample_text
from .module import RetNet
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
    prompt: str,
    weights: Annotated[Path, typer.Option(help="a file that train wrote")] = Path("runs/demo/weights.safetensors"),
    length: Annotated[int, typer.Option(min=1, help="bytes to write")] = 400,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.7,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="a torch device")] = DEFAULT_DEVICE,
):
    """Continue PROMPT with a trained model, in the recurrent form."""
    check_device(device)
    if not prompt:
        raise ValueError("prompt must hold at least one character, got ''")
    if not weights.exists():
        raise FileNotFoundError(f"weights: there is no file {str(weights)!r}; python -m gpu train writes one")
    tokens = torch.from_numpy(encode(prompt).astype(np.int64)).to(device)[None]
    sample = sample_text(RetNet.load(weights, device), tokens, length, temperature=temperature, seed=seed)
    print(decode(sample.tokens[0].cpu().numpy()))


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
