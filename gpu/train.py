"""Training a small byte model in the parallel form, and proof that it decodes to the same logits.

A run is a folder: log.jsonl (a line an evaluation), weights.safetensors, loss.png, sample.txt and
result.json (settings, losses, checks, versions).
"""

import dataclasses
import io
import json
import math
import platform
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from refimpl.files import write_atomically
from refimpl.text import decode, encode
from refimpl.train import fit

from .generate import generate
from .module import RetNet

# Two float32 forms differ by rounding alone; the largest logit error seen is 2e-6 of the largest logit.
LOGIT_TOLERANCE = 1e-4


def train(config, out, device="cpu", console=None):
    """Train, evaluate, sample and check one model; returns what result.json holds, and the sample.

    Args:
        config: a `refimpl.train.TrainConfig`.
        out: folder of the run; files of an earlier run in it are replaced.
        device: a torch device.
        console: the rich console for progress; standard output by default.

    Raises:
        AssertionError: the logits sampled recurrently are not those of the parallel form.
        FloatingPointError: the loss stopped being finite.
        ValueError, OSError: from the corpus.
    """
    out = Path(out)
    model = RetNet(config.model, seed=config.seed).to(device)
    log, seconds = fit(config, *trainer(model, config), out, console)

    prompt = torch.from_numpy(encode(config.prompt).astype(np.int64)).to(device)[None]
    sample = generate(model, prompt, config.sample_bytes, temperature=0.7, seed=config.seed)
    disagreement = decoding_disagreement(model, sample)
    assert disagreement < LOGIT_TOLERANCE, (
        f"recurrent and parallel logits differ by {disagreement:.1e} of the largest logit"
    )
    on_gpu = torch.device(device).type == "cuda"
    result = {
        "config": dataclasses.asdict(config),
        "parameters": sum(p.numel() for p in model.parameters()),
        "bits_per_byte": log[-1],
        "decoding_disagreement": disagreement,
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name(device) if on_gpu else f"cpu, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    text = decode(sample.tokens[0].cpu().numpy())
    model.save(out / "weights.safetensors")
    write_atomically(out / "loss.png", loss_figure(log, config))
    write_atomically(out / "sample.txt", text + "\n")
    write_atomically(out / "result.json", json.dumps(result, indent=2) + "\n")
    return result | {"sample": text}


def trainer(model, config):
    """The functions step and loss that `refimpl.train.fit` wants, for a torch model on any device."""
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=config.weight_decay)

    def bits_per_byte(inputs, targets):
        logits, _ = model(torch.from_numpy(inputs).to(device))
        targets = torch.from_numpy(targets).to(device)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) / math.log(2)

    @torch.no_grad()
    def loss(inputs, targets):
        return bits_per_byte(inputs, targets).item()

    def step(inputs, targets, learning_rate):
        optimizer.param_groups[0]["lr"] = learning_rate
        optimizer.zero_grad()
        value = bits_per_byte(inputs, targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        return value.item()

    return step, loss


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
