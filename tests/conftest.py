"""Hypothesis, Triton's kernels and interrupts the same everywhere, and the list of mutants at the end of a run."""

import os
import signal

import torch
from hypothesis import Phase, settings

if not torch.cuda.is_available():  # Triton asks when it is first imported, also by torch
    os.environ.setdefault("TRITON_INTERPRET", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs inherit it: interrupts are tested
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Derandomised: CI and a reader see the same examples. No deadline: a busy machine is no failure.
settings.register_profile("tests", max_examples=60, deadline=None, derandomize=True, database=None)
settings.register_profile("mutants", settings.get_profile("tests"), max_examples=25, phases=[Phase.generate])
settings.load_profile("tests")


def pytest_terminal_summary(terminalreporter):
    """Print which check killed each mutant, and where no other kind of evidence sees it."""
    reports = terminalreporter.getreports("passed")
    killed = [
        dict(report.user_properties)["mutant"] for report in reports if dict(report.user_properties).get("mutant")
    ]
    if not killed:
        return
    terminalreporter.section(f"{len(killed)} mutants, every one killed")
    for name, killer, alone in sorted(killed):
        terminalreporter.write_line(f"{name:58s} {killer}{'  (nothing else sees it)' if alone else ''}")
