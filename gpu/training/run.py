"""A training run: train in the parallel form, save, and check that the result decodes to the same logits.

A run is a folder: run.toml (its settings), log.jsonl (a line a step), checkpoint.safetensors (to resume from),
best.safetensors and weights.safetensors (the best and the last weights), tokenizer.json, loss.png, sample.txt and
result.json (settings, losses, checks, versions).
"""

import dataclasses
import json
import math
import platform
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from refimpl import forward
from refimpl.files import save_figure, write_atomically
from refimpl.libraries import values_trusted
from refimpl.training.checkpoint import save_checkpoint
from refimpl.training.folder import begin, locked
from refimpl.training.loop import Progression, fit
from refimpl.training.stopping import stop_on_signals
from refimpl.tree import flatten
from refimpl.weights import load_params

from ..models.build import build, numbers_kept
from ..numerics import check_compiler, numerics, share
from ..parallel.processes import is_first, largest, on_first
from ..parallel.strategies import parallelism
from ..sampling.generate import generate
from .checkpoint import NAME, gather, load_checkpoint, load_tensors, restore
from .step import Trainer

# Two float32 computations of one function differ by rounding alone; the largest logit error seen is 2e-6 of the largest.
LOGIT_TOLERANCE = 1e-4
OWN_FILES = (
    NAME, "run.toml", "log.jsonl", "best.safetensors", "weights.safetensors", "tokenizer.json", "loss.png", "sample.txt",
    "result.json",
)  # fmt: skip


def train(config, out, device="cpu", console=None, *, resume=False, fresh=False):
    """Train, evaluate, sample and check one model; returns what result.json holds, and the sample.

    Processes that have joined (`gpu.parallel.processes.joined`) train one model together, as config.parallelism says. Each
    calls this; only the first reads and writes files and shows progress, and all return or raise the same.

    Args:
        config: a `RunConfig`.
        out: folder of the run, in which no other process may work.
        device: a torch device.
        console: the rich console for progress; standard output by default.
        resume, fresh: as for `refimpl.training.folder.begin`.

    Raises:
        AssertionError: the logits sampled recurrently, or those of NumPy, are not those of the parallel form.
        FloatingPointError: the loss or a gradient stopped being finite; the message names the step, the parameter with
            the largest gradient and the last good checkpoint.
        StoppedError: SIGINT, SIGTERM or SIGHUP came; the checkpoint is that of the last step.
        ValueError, OSError: from `begin`; or another process works in the folder; or the batch does not divide among the
            processes.
    """
    out, shared = Path(out), parallelism(config)
    if config.compile:
        check_compiler(device)
    with ExitStack() as stack:
        on_first(lambda: stack.enter_context(locked(out)))
        return _train(config, out, device, console, shared, on_first(_begin, config, out, resume, fresh))


def _begin(config, out, resume, fresh):
    return begin(out, config, OWN_FILES, resume=resume, fresh=fresh)


def _train(config, out, device, console, shared, run):
    """`train` in its folder, with what it begins with."""
    model = build(config)
    if run.params:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in flatten(run.params).items()})
    trainer = Trainer(model, config, device, shared)
    if run.progression is not None:
        tensors = {}
        on_first(lambda: tensors.update(load_tensors(out, trainer.parameters)))  # on all processes an error, or on none
        restore(tensors, trainer.parameters, trainer.optimizer)
    progression = run.progression or Progression()

    def keep(progression):
        tensors = gather(trainer.parameters, trainer.optimizer)
        best = progression.best_step == progression.step
        model = shared.whole_model(trainer.model, lambda: build(config)) if best else None

        def write():
            if best:
                model.save(out / "best.safetensors")  # before the checkpoint that says so
            save_checkpoint(out, config, progression, run.fingerprint, tensors)

        on_first(write)  # the others wait, because torchrun stops the first when another ends

    def explain():
        return f"{trainer.explain()}; {on_first(_last_good, out)}; a lower learning_rate may help"

    with stop_on_signals(largest) as request, numerics(config, device), values_trusted():
        log = fit(
            config, trainer.step, trainer.loss, out if is_first() else None,
            console if is_first() else Console(quiet=True), text=run.text, progress=progression, stop=request, keep=keep,
            explain=explain, predict=trainer.predict,
        )  # fmt: skip
    model = shared.whole_model(trainer.model, lambda: build(config))
    return on_first(_finish, out, config, model, run.text, log, progression, device, shared.size)


def _last_good(out):
    """A clause about the last good checkpoint."""
    kept = load_checkpoint(out)
    return "there is no checkpoint yet" if kept is None else f"{out / NAME} is good, of step {kept.progression.step}"


def _finish(out, config, model, text, log, progression, device, processes):
    """Save the weights, sample and check if there is a text, and write the result; returns it with the sample."""
    model.to(device).save(out / "weights.safetensors")
    evaluated = [line for line in log if "held_out" in line]
    last = evaluated[-1]
    result = {
        "config": dataclasses.asdict(config),
        "parameters": sum(p.numel() for p in model.parameters()),
        f"bits_per_{text.unit}": {name: last[name] for name in ("step", "training", "held_out")},
        "best": {"step": progression.best_step, "held_out": progression.best},
        "evaluations": [[line["step"], round(line["held_out"], 4)] for line in evaluated],
        "extended": progression.extended,  # [step, steps that the run should have had] for each time that it got more
        "seconds": round(progression.seconds, 1),
        "device": describe(device),
        "processes": processes,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    if config.task is not None:
        result |= {name: last[name] for name in ("accuracy", "accuracy_by_pairs")}
        result["numbers_kept"] = numbers_kept(config, config.window)
    sample = None
    if config.model == "retnet" and config.task is None:
        sample, checks = sample_and_check(model, config, text.tokenizer, out / "weights.safetensors")
        result |= checks
        write_atomically(out / "sample.txt", sample + "\n")
    save_figure(out / "loss.png", loss_figure(log, config, text.unit), dpi=150)
    write_atomically(out / "result.json", json.dumps(result, indent=2) + "\n")
    return result | {"sample": sample}


def describe(device):
    """A device as text: the name of a GPU, or the number of threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} threads"


def sample_and_check(model, config, tokenizer, weights):
    """A sample as text, and the differences of its logits computed in three ways, as shares of the largest logit.

    The ways are: recurrently, as it was sampled; the parallel form on the whole text; NumPy with the saved weights.
    """
    device = next(model.parameters()).device
    prompt = torch.from_numpy(tokenizer.encode(config.prompt).astype(np.int64)).to(device)[None]
    sample = generate(model, prompt, config.sample_bytes, temperature=0.7, seed=config.seed)
    checks = {
        "decoding_disagreement": decoding_disagreement(model, sample),
        "numpy_disagreement": numpy_disagreement(model, sample, weights),
    }
    for name, apart in checks.items():
        if not math.isfinite(apart):
            raise FloatingPointError(
                f"logits of the sample are not finite ({name} is {apart}): the weights may be broken"
            )
    for name, other in (("decoding_disagreement", "recurrent"), ("numpy_disagreement", "NumPy's")):
        assert checks[name] < LOGIT_TOLERANCE, (
            f"{other} and parallel logits differ by {checks[name]:.1e} of the largest logit"
        )
    return tokenizer.decode(sample.tokens[0].cpu().numpy()), checks


@torch.no_grad()
def decoding_disagreement(model, sample):
    """The largest difference between a sample's recurrent logits and those of the parallel form on the whole text.

    As a share of the largest logit.
    """
    logits, _ = model(sample.tokens[:, :-1])
    parallel = logits[:, -sample.logits.shape[1] :]
    return share((sample.logits - parallel).abs().max().item(), parallel.abs().max().item())


@torch.no_grad()
def numpy_disagreement(model, sample, weights):
    """The same for the logits of NumPy, with the weights read from a file."""
    logits = model(sample.tokens)[0].cpu().numpy()
    params, config = load_params(weights)
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks itself
        numpy, _ = forward(params, sample.tokens.cpu().numpy(), config)
    return share(float(np.abs(numpy - logits).max()), float(np.abs(logits).max()))


def loss_figure(log, config, unit="byte"):
    """The loss curve; unit: what losses are counted by."""
    from matplotlib.figure import Figure  # half a second, which runs that stop and all processes but the first save

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    held_out = [(line["step"], line["held_out"]) for line in log if "held_out" in line]
    training = [(line["step"], line["training"]) for line in log]
    axes.plot(*zip(*training, strict=True), color="0.75", linewidth=0.8, label="training (one batch)")
    axes.plot(*zip(*held_out, strict=True), "s-", color="C0", label="held out")
    axes.set(xlabel="step", ylabel=f"bits per {unit}", xlim=(0, config.steps * 1.02))
    axes.set_title(f"{config.model} on {config.task or config.corpus}", parse_math=False)  # a path may hold $
    axes.annotate(f"{held_out[-1][1]:.2f}", held_out[-1], (-4, 8), textcoords="offset points", ha="right")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
