"""Hypothesis, Triton's kernels and interrupts the same everywhere, an order, texts for a corpus, the mutants at the end."""

import os
import signal

import pytest
import torch
from hypothesis import Phase, settings

if not torch.cuda.is_available():  # Triton asks when it is first imported, also by torch
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # what is compiled here runs once or twice, on little

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's background jobs inherit it: interrupts are tested
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Derandomised: CI and a reader see the same examples. No deadline: a busy machine is no failure.
settings.register_profile("tests", max_examples=60, deadline=None, derandomize=True, database=None)
settings.register_profile("few", settings.get_profile("tests"), max_examples=25, phases=[Phase.generate])
settings.load_profile("tests")


# Files that take longest come first, then lessons: one that is begun last would keep one core busy and leave the other idle.
FIRST = (
    "test_zoo.py", "test_secrecy.py", "test_site.py", "test_triton.py", "test_grader.py", "test_browser.py", "test_exercises.py",
    "test_contract.py", "test_programs.py", "test_strategies.py", "test_packaging.py", "test_release.py",
    "test_explorables_browser.py", "test_study.py", "test_export_onnx.py", "09_a_trained_model.ipynb",
    "10_backprop_by_hand.ipynb", "test_processes.py", "test_mutants.py", "test_broken.py", "test_numerics.py",
    "test_types.py", "test_bench_paper.py", "test_sweep.py", "test_task_runs.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(FIRST) + (item.path.suffix != ".ipynb")))


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


@pytest.fixture
def texts(tmp_path):
    """Two folders: texts, with a duplicate, a near duplicate, and files that are no text; and another domain."""
    from drawn_texts import prose

    from refimpl.corpus.sources import DOMAIN, local

    folder, domain = tmp_path / "texts", tmp_path / "dictionary"
    (folder / "deep").mkdir(parents=True)
    domain.mkdir()
    for i in range(30):
        (folder / f"text{i:02d}.txt").write_text(prose(i))
    (folder / "deep" / "page.html").write_text(f"<title>no</title><nav>no way</nav><h1>Head</h1><p>{prose(100)}</p>")
    (folder / "deep" / "copy.txt").write_text(prose(3))
    (folder / "deep" / "near.txt").write_text(prose(4).replace(prose(4).split()[200], "changed", 1))
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0")
    (folder / ".hidden.txt").write_text(prose(101))
    (folder / "short.txt").write_text("too short")
    for i in range(3):
        (domain / f"entry{i}.txt").write_text(prose(200 + i))
    (domain / "shared.txt").write_text(prose(5))  # so text05.txt goes
    return [local(folder), local(domain, DOMAIN)]
