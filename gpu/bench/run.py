"""What training steps, decoded tokens and retentions alone cost, beside the baselines and the ceilings of the same run.

All candidates of a group (a length; a context and a batch) take turns in one process; where each needs the memory to
itself, for large models and for batches as large as fit, a group is one candidate. What runs as it is comes first, what
torch.compile makes of it after that. Each section has a file, written anew after every row and every round.
"""

import dataclasses
import json
import math
import platform
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from refimpl.checks import check_choice, values_trusted
from refimpl.files import write_atomically
from refimpl.model import param_shapes
from refimpl.tree import flatten

from ..kernels.registry import has_fused
from ..numerics import numerics
from ..training.run import describe
from . import accuracy as benchmark_accuracy
from . import kernels as benchmark_kernels
from . import targets as benchmark_targets
from .ceilings import ceilings
from .compile_ahead import compile_ahead, jobs
from .decoding import CPU_MEMORY, LARGEST, decoding_candidates, has_flash
from .paper import paper_groups, setting
from .timing import LEFT_OUT, MEASURED, Deadline, time_candidates
from .training import training_candidates

WHAT = {
    "training": "one training step (forward, backward, clipping, AdamW): median seconds over the rounds, tokens a second "
    "by it, and the most memory held, parameters and optimizer included",
    "decoding": "one decoding step of a batch that has read a context: median seconds over the rounds, tokens a second "
    "by it, the most memory held, and the bytes that must move over the bandwidth of a copy as a share of that time",
    "kernels": "one retention, forwards and with gradients, and decode steps: median seconds over the rounds, and the floor "
    "of the operations and bytes that it cannot do without; relative RMS errors against float64",
    "paper": "the paper's cost tables at its sizes, random weights: training steps of one sequence, and decoding steps",
}
SECTIONS = ("training", "decoding", "kernels")  # what is measured unless others are named
LARGE = 200e6  # parameters; models with more are measured one after another, each with the memory to itself
NOT_ON_CPU = (
    "CUDA graphs: a decoding step launches its kernels one by one",
    "peak memory: peak_bytes is null",
    f"free memory: the largest batch is that of {CPU_MEMORY:,} bytes",
)


class Group(NamedTuple):
    """Candidates that take turns, the section they belong to, and the context they run in."""

    section: str
    compiled: bool
    candidates: list
    around: Callable


def run(config, sections, out, device, *, deadline=None, command="", remark="", progress=print):
    """Measure; returns {section: what its file holds}.

    Args:
        config: a `BenchmarkConfig`.
        sections: names of `WHAT`.
        out: folder for a file of each, SECTION.json.
        device: a torch device.
        deadline: a `gpu.bench.timing.Deadline`, after which nothing new is begun.
        command, remark: what the user typed, and has to say of the run, for the files.
        progress: called with a line when something begins.
    """
    for section in sections:
        check_choice("sections", section, tuple(WHAT))
    deadline, start = deadline or Deadline(), time.monotonic()
    peaks = ceilings(config.rounds, device)
    results = {
        section: {
            "what": WHAT[section],
            "command": command,
            "device": describe(device),
            "versions": versions(),
            **({"remark": remark} if remark else {}),
            "missing": missing(device, config),
            "settings": dataclasses.asdict(config),
            "ceilings": peaks,
            "seconds": None,
            "rows": [],
            **({"accuracy": [], "targets": []} if section == "kernels" else {}),
        }
        for section in dict.fromkeys(sections)
    }

    def keep(section):
        result = results[section]
        for row in result["rows"]:
            row.update(shares(row, peaks))
        if section == "kernels":
            result["targets"] = benchmark_targets.targets(result["rows"], result["accuracy"])
        result["seconds"] = round(time.monotonic() - start, 1)
        write_atomically(Path(out) / f"{section}.json", json.dumps(result, indent=1) + "\n")

    if "kernels" in results and has_fused(device) and not deadline.passed():
        progress("kernels: compiling ahead")
        for words in compile_ahead(jobs(device)):
            progress(f"kernels: not compiled ahead: {words}")
    for group in groups(config, results, device):
        if not deadline.passed():
            progress(f"{group.section}: {where(group)}")
        with group.around(), values_trusted(), fresh_compiler() if group.compiled else nullcontext():
            time_candidates(
                group.candidates, config.rounds, device, deadline=deadline, rows=results[group.section]["rows"],
                keep=lambda section=group.section: keep(section),
            )  # fmt: skip
    if "kernels" in results and not has_fused(device):
        progress("kernels: nothing is measured, for the fused ones do not run here")
    elif "kernels" in results:
        progress("kernels: errors against float64")
        with values_trusted():
            benchmark_accuracy.measure(
                config.kernel_tokens, device, results["kernels"]["accuracy"], deadline=deadline,
                keep=lambda: keep("kernels"),
            )  # fmt: skip
    for section in results:
        keep(section)
    return results


def where(group):
    """What the candidates of a group have in common, in words."""
    first = group.candidates[0].row
    if group.section == "kernels":
        return f"{first['shape']}, {first['tokens']:,} tokens, {benchmark_kernels.in_words(first)}"
    size = f"{first['size']}, {first['name']}, " if "size" in first else ""
    words = "T" if first["section"] == "training" else f"batch {first['batch'] or LARGEST}, context"
    return f"{size}{words} {first.get('time') or first['context']}{', compiled' if group.compiled else ''}"


def groups(config, sections, device):
    """Every `Group` of a `BenchmarkConfig`, what is compiled at the end."""
    training = config.run("retnet")
    decoding = dataclasses.replace(training, precision="float32")  # for TF32 would round the state
    large = sum(math.prod(shape) for shape in flatten(param_shapes(training.retnet)).values()) > LARGE
    for compiled in (False, True) if config.compile else (False,):
        if "training" in sections:
            for length in config.times:
                found = training_candidates(config, length, compiled, device)
                for candidates in _together(found, alone=large):
                    yield Group("training", compiled, candidates, lambda: numerics(training, device))
        if "decoding" in sections:
            for batch in (*config.batches, *((LARGEST,) if config.largest else ())):
                for context in config.contexts:
                    found = decoding_candidates(config, context, batch, compiled, device)
                    for candidates in _together(found, alone=large or batch == LARGEST):
                        yield Group("decoding", compiled, candidates, lambda: numerics(decoding, device))
        if "kernels" in sections and not compiled:
            for candidates in benchmark_kernels.candidates(config.kernel_tokens, device):
                yield Group("kernels", compiled, candidates, lambda: numerics(training, device))
    for section, compiled, candidates in paper_groups(config, device) if "paper" in sections else ():
        settings = training if section == "training" else decoding
        yield Group("paper", compiled, candidates, lambda settings=settings: numerics(settings, device))


def _together(candidates, alone):
    """Lists of candidates that share memory and take turns."""
    if alone:
        return [[each] for each in candidates]
    return [candidates] if candidates else []


@contextmanager
def fresh_compiler():
    """Within, torch.compile forgets what it compiled before, takes sizes as fixed, and never gives up unseen."""
    import torch._dynamo

    torch.compiler.reset()
    with torch._dynamo.config.patch(
        automatic_dynamic_shapes=False, recompile_limit=64, fail_on_recompile_limit_hit=True
    ):
        yield
    torch.compiler.reset()


def shares(row, peaks):
    """What follows from a row's seconds and the ceilings: of the matrix product's rate, or of the copy's bandwidth."""
    if row["status"] != MEASURED:
        return {}
    if row["section"] == "kernels":
        return benchmark_kernels.roofline(row, peaks)
    seconds = row["seconds"]["median"]
    if row["section"] == "training":
        peak = peaks["matrix_product"].get("flops_per_second")
        return {"share_of_matrix_product": peak and row["flops"] / seconds / peak}
    bandwidth = peaks["copy"].get("bytes_per_second")
    floor = bandwidth and row["moved_bytes"] / bandwidth
    found = {"floor_seconds": floor, "share_of_copy_bandwidth": floor and floor / seconds}
    return found | ({"latency_seconds": seconds} if row["batch"] == 1 else {})


def missing(device, config):
    """What this machine or these settings leave out, in words."""
    found = [] if torch.device(device).type == "cuda" else list(NOT_ON_CPU)
    if not has_flash(device):
        found.append("flash attention: attention is what torch has for this device")
    if not has_fused(device):
        found.append("fused kernels: they need an NVIDIA GPU and Triton")
    elif not find_spec("fla"):
        found.append("flash-linear-attention: it is not installed")
    if not config.compile:
        found.append("torch.compile: nothing is measured with it")
    return found


def versions():
    """Of what computes; None where it is not installed."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    for name in ("triton", "flash-linear-attention", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def tables(results):
    """(title, (headings, texts)) of every table of results that has lines."""
    found = []
    for section, result in results.items():
        found.append((f"{section}, {result['device']}", table(section, result["rows"])))
        if section == "kernels":
            found.append(("errors against float64", benchmark_accuracy.table(result["accuracy"])))
            found.append(("targets", benchmark_targets.table(result["targets"] if result["rows"] else [])))
    return [(title, (headings, texts)) for title, (headings, texts) in found if texts]


def table(section, rows):
    """Rows as (headings, texts), for printing."""
    if section == "kernels":
        return benchmark_kernels.table(rows)
    headings = {
        "training": ("T", "", "tokens/s", "spread", "memory", "of product"),
        "decoding": ("batch", "context", "", "tokens/s", "spread", "memory", "of copy"),
        "paper": ("size", "", "", "tokens/s", "spread", "memory", "of ceiling"),
    }[section]
    texts = []
    for row in rows:
        name = row["name"] + (", compiled" if row["compiled"] else "")
        if section == "paper":
            line = [row["size"], setting(row), name]
        elif section == "training":
            line = [f"{row['time']:,}", name]
        else:
            line = [f"{row['batch'] or ''}{' most' if row['largest'] else ''}", f"{row['context']:,}", name]
        if row["status"] != MEASURED:
            texts.append([*line, f"{row['status']}: {row['remark']}", *[""] * (len(headings) - len(line) - 1)])
            continue
        seconds = row["seconds"]
        spread = max(abs(seconds[which] / seconds["median"] - 1) for which in ("min", "max"))
        line += [f"{row['tokens_per_second']:,.0f}", f"± {spread:.0%}", in_words(row["peak_bytes"])]
        share = row["share_of_matrix_product" if row["section"] == "training" else "share_of_copy_bandwidth"]
        texts.append([*line, "" if share is None else f"{share:.0%}"])
    return headings, texts


def in_words(size):
    """Bytes, in the unit that fits.

    >>> in_words(3 * 2**30), in_words(1536), in_words(None)
    ('3.0 GiB', '1.5 KiB', 'unknown')
    """
    if size is None:
        return "unknown"
    power = int(np.clip(np.log2(max(size, 1)) // 10, 0, 4))
    return f"{size / 1024**power:.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def left_out(results):
    """Rows of all sections that were left out, in words."""

    def size(section, row):
        if section == "kernels":
            return f"{row['shape']}, {benchmark_kernels.in_words(row)}"
        return f"{row.get('time') or row['context']:,} tokens"

    return [
        f"{section}: {row['size'] + ', ' if 'size' in row else ''}{row['name']}{', compiled' if row['compiled'] else ''}, "
        f"{size(section, row)}: {row['remark']}"
        for section, result in results.items()
        for row in result["rows"]
        if row["status"] == LEFT_OUT
    ]
