"""What tests of several rooms do with runs: take a few steps, stop or break a step, read the log."""

import contextlib
import json

import pytest
from rich.console import Console

import refimpl.training.loop
from gpu.models.build import build
from gpu.training.step import Trainer
from refimpl.files import write_atomically

QUIET = Console(quiet=True)


def losses(config, batch, rate, steps, device="cpu"):
    """[(loss, norm of the gradient), ...] of steps of a fresh model on one batch, (inputs, targets)."""
    trainer = Trainer(build(config).to(device), config)
    return [trainer.step(*batch, rate) for _ in range(steps)]


def for_each(function, cases):
    """[function(*case), ...]: what a process of `in_processes` does, so that processes are started once for all cases."""
    return [function(*case) for case in cases]


@contextlib.contextmanager
def at_step(number, act):
    """Call act() before a step of training; what it returns, unless None, is the learning rate of that step."""
    plain = refimpl.training.loop.scheduled_rate

    def rate(step, config):
        found = act() if step == number else None
        return plain(step, config) if found is None else found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refimpl.training.loop, "scheduled_rate", rate)
        yield


def start_of_a_figure(path, figure, dpi):
    """In place of `save_figure`, which takes most of a short run: how its file begins."""
    write_atomically(path, b"\x89PNG")


def log_lines(out):
    """The log in a run's folder without the times."""
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in log]
