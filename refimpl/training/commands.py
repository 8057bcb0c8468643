"""The command `python -m refimpl train`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..cli import with_options
from ..weights import save_params
from .train import TrainConfig
from .train import train as train_model


@with_options(TrainConfig, leave_out=("vocab_size", "prompt", "sample_bytes"))  # those are for torch, which samples
def train(
    *,
    out: Annotated[Path, typer.Option(help="folder of the run")] = Path("runs/numpy"),
    settings,
):
    """Train a small model with gradients by hand, compiled kernels where Numba is installed; writes log and weights."""
    console, config = Console(), TrainConfig(**settings)
    pair = {}
    if find_spec("numba"):
        from ..compiled.kernels import retention_chunkwise_backward_numba, retention_chunkwise_numba

        pair = {"retention": retention_chunkwise_numba, "retention_backward": retention_chunkwise_backward_numba}
    try:
        params, log = train_model(config, out, console=console, **pair)
    except KeyboardInterrupt:
        lost = f"stopped: the weights are lost, {out / 'log.jsonl'} keeps the losses; python -m gpu train keeps checkpoints"
        console.print(lost, markup=False, soft_wrap=True)
        raise typer.Exit(130) from None
    save_params(out / "weights.safetensors", params, config.retnet)
    console.print(
        f"{log[-1]['held_out']:.2f} bits per byte on held-out text, {log[-1]['seconds']:.0f} s, "
        f"{'Numba' if pair else 'NumPy'} kernels; log and weights: {out}",
        markup=False,
        soft_wrap=True,
    )
