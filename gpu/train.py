"""Training a small byte model in the parallel form, and proof that it decodes to the same logits.

A run is a folder: log.jsonl (a line an evaluation), weights.safetensors, loss.png, sample.txt and
result.json (settings, losses, checks, versions).
"""

import dataclasses
import io
import json
import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from refimpl import RetNetConfig
from refimpl.checks import check_integer
from refimpl.files import write_atomically
from refimpl.text import VOCAB_SIZE, consecutive_batches, decode, encode, load_corpus, random_batch, split_by_book

from .generate import generate
from .module import RetNet

# Two float32 forms differ by rounding alone; the largest logit error seen is 2e-6 of the largest logit.
LOGIT_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run. The default takes under a minute on two CPU cores.

    corpus: "kjv", a file or a folder. dim, num_layers, num_heads: the model. steps of batch_size windows
    of `window` bytes, by AdamW with warm-up and cosine decay to a tenth of learning_rate.
    """

    corpus: str = "kjv"
    dim: int = 128
    num_layers: int = 2
    num_heads: int = 4
    steps: int = 900
    batch_size: int = 16
    window: int = 64
    learning_rate: float = 5e-3
    warmup: int = 50
    weight_decay: float = 0.05
    clip: float = 1.0
    evaluate_every: int = 100
    sample_bytes: int = 400
    prompt: str = "And the LORD said unto"
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "window", "evaluate_every", "sample_bytes"):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("warmup", self.warmup, minimum=0)
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not self.prompt:
            raise ValueError("prompt must hold at least one character, got ''")


def train(config, out, device="cpu", console=None):
    """Train, evaluate, sample and check one model; returns what result.json holds.

    Args:
        config: a `TrainConfig`.
        out: folder of the run; files of an earlier run in it are replaced.
        device: a torch device.
        console: the rich console for progress; standard output by default.

    Raises:
        AssertionError: the logits sampled recurrently are not those of the parallel form.
        FloatingPointError: the loss stopped being finite.
        ValueError, FileNotFoundError: from the corpus or the configuration.
    """
    console, out = console or Console(), Path(out)
    training, held_out = (encode(part.text) for part in split_by_book(load_corpus(config.corpus)))
    model_config = RetNetConfig(
        vocab_size=VOCAB_SIZE, dim=config.dim, num_layers=config.num_layers, num_heads=config.num_heads
    )
    model = RetNet(model_config, seed=config.seed).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _schedule(step, config))
    rng, log, started = np.random.default_rng(config.seed), [], time.perf_counter()
    progress = Progress(
        TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console,
    )  # fmt: skip
    with progress:
        task = progress.add_task("training", total=config.steps, note="")
        for step in range(1, config.steps + 1):
            inputs, targets = (
                torch.from_numpy(part).to(device)
                for part in random_batch(training, config.batch_size, config.window, rng)
            )
            loss = bits_per_byte(model, inputs, targets)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss is {loss.item()} at step {step}; a lower learning_rate may help")
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            optimizer.step()
            scheduler.step()
            rate = step * inputs.numel() / (time.perf_counter() - started)
            progress.update(task, advance=1, note=f"{loss.item():.2f} bits/byte  {rate:,.0f} bytes/s")
            if step % config.evaluate_every == 0 or step == config.steps:
                log.append(
                    {"step": step, "training": loss.item(), "held_out": evaluate(model, held_out, config, device)}
                )
                write_atomically(out / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log))
    seconds = time.perf_counter() - started

    prompt = torch.from_numpy(encode(config.prompt).astype(np.int64)).to(device)[None]
    sample = generate(model, prompt, config.sample_bytes, temperature=0.7, seed=config.seed)
    disagreement = decoding_disagreement(model, sample)
    assert disagreement < LOGIT_TOLERANCE, (
        f"recurrent and parallel logits differ by {disagreement:.1e} of the largest logit"
    )
    result = {
        "config": dataclasses.asdict(config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "bits_per_byte": log[-1],
        "decoding_disagreement": disagreement,
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name(device)
        if torch.device(device).type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    text = decode(sample.tokens[0].cpu().numpy())
    model.save(out / "weights.safetensors")
    write_atomically(out / "loss.png", loss_figure(log, config))
    write_atomically(out / "sample.txt", text + "\n")
    write_atomically(out / "result.json", json.dumps(result, indent=2) + "\n")
    return result | {"sample": text}


def bits_per_byte(model, inputs, targets):
    """Mean cross-entropy of the next byte in bits, by the parallel form; inputs, targets (B, T)."""
    logits, _ = model(inputs)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) / math.log(2)


@torch.no_grad()
def evaluate(model, tokens, config, device, max_windows=512):
    """Mean bits per byte over windows spread evenly through held-out tokens."""
    total, count = 0.0, 0
    for inputs, targets in consecutive_batches(tokens, 64, config.window, max_windows):
        loss = bits_per_byte(model, torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device))
        total, count = total + loss.item() * inputs.size, count + inputs.size
    return total / count


@torch.no_grad()
def decoding_disagreement(model, sample):
    """Largest difference of the logits a sample was drawn from, recurrently, to those of the parallel
    form on the whole text, as a share of the largest logit."""
    logits, _ = model(sample.tokens[:, :-1])
    parallel = logits[:, -sample.logits.shape[1] :]
    return ((sample.logits - parallel).abs().max() / parallel.abs().max()).item()


def loss_figure(log, config):
    """The loss curve as PNG bytes."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    steps = [line["step"] for line in log]
    axes.plot(steps, [line["training"] for line in log], "o-", color="0.6", label="training (one batch)")
    axes.plot(steps, [line["held_out"] for line in log], "s-", color="C0", label="held-out books")
    axes.set(xlabel="step", ylabel="bits per byte", xlim=(0, config.steps * 1.02), title=f"RetNet on {config.corpus}")
    axes.annotate(
        f"{log[-1]['held_out']:.2f}", (steps[-1], log[-1]["held_out"]), (-4, 8), textcoords="offset points", ha="right"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _schedule(step, config):
    """Share of the learning rate: linear warm-up, then a cosine from 1 to 0.1."""
    progress = min(step / config.steps, 1.0)
    return min(1.0, (step + 1) / (config.warmup + 1)) * (0.55 + 0.45 * math.cos(math.pi * progress))
