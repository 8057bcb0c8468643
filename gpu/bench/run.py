"""What training steps, decoded tokens and retentions alone cost, beside the baselines and the ceilings of the same run.

All candidates of a group (a length; a context and a batch) are timed in turn in one process. Where each needs the memory to
itself, for large models and for batches as large as fit, a group is one candidate. Compiled candidates come last. Each
section has a file, written again after every row and every round.
"""

import dataclasses
import json
import platform
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from refimpl.bench.run import package_versions
from refimpl.checks import check_choice
from refimpl.files import write_atomically
from refimpl.libraries import values_trusted

from ..kernels.peers import PEERS
from ..kernels.registry import RETENTIONS, has_flash
from ..numerics import numerics
from ..training.run import describe
from . import decoding, kernels, paper, training
from .ceilings import ceilings
from .decoding import CPU_MEMORY
from .rows import label, with_identity
from .timing import LEFT_OUT, MEASURED, Deadline, time_candidates

ALL = {each.SECTION.name: each.SECTION for each in (training, decoding, kernels, paper)}
WHAT = {name: section.what for name, section in ALL.items()}
SECTIONS = tuple(name for name, section in ALL.items() if section.default)
NOT_ON_CPU = (
    "CUDA graphs: a decoding step launches its kernels one by one",
    "peak memory: peak_bytes is null",
    f"free memory: the largest batch is that of {CPU_MEMORY:,} bytes",
)


def run(config, sections, out, device, *, deadline=None, command="", remark="", progress=print):
    """Measure; returns {section: what its file holds}.

    Args:
        config: a `BenchmarkConfig`.
        sections: names of `ALL`.
        out: folder for a file of each, SECTION.json.
        device: a torch device.
        deadline: a `gpu.bench.timing.Deadline` for starting new work.
        command, remark: for the files: the command as it was typed, and the user's remark on the run.
        progress: called with a line when something begins.
    """
    for name in sections:
        check_choice("sections", name, tuple(ALL))
    deadline, start = deadline or Deadline(), time.monotonic()
    peaks = ceilings(config.rounds, device)
    results = {
        name: {
            "what": WHAT[name],
            "command": command,
            "device": describe(device),
            "versions": versions(),
            **({"remark": remark} if remark else {}),
            "missing": missing(device, config),
            "settings": dataclasses.asdict(config),
            "ceilings": peaks,
            "seconds": None,
            **{each: [] for each in ("rows", *ALL[name].lists)},
        }
        for name in dict.fromkeys(sections)
    }

    def keep(name):
        result = results[name]
        for row in result["rows"]:
            if row["status"] == MEASURED:
                row.update(ALL[name].derived(row, peaks))
        result.update(ALL[name].summary(result))
        result["seconds"] = round(time.monotonic() - start, 1)
        write_atomically(Path(out) / f"{name}.json", json.dumps(result, indent=1) + "\n")

    for name in results:
        ALL[name].prepare(config, device, deadline, progress)
    for group in groups(config, results, device):
        if not deadline.passed():
            progress(f"{group.section}: {describe_group(group)}")
        compiler = fresh_compiler() if group.compiled else nullcontext()
        values = nullcontext() if ALL[group.section].as_called else values_trusted()
        with numerics(group.settings, device), values, compiler:
            time_candidates(
                group.candidates, config.rounds, device, deadline=deadline, rows=results[group.section]["rows"],
                keep=lambda name=group.section: keep(name),
            )  # fmt: skip
    for name, result in results.items():
        ALL[name].finish(
            result, config, device, deadline=deadline, keep=lambda name=name: keep(name), progress=progress
        )
        keep(name)
    return results


def groups(config, sections, device):
    """Every `Group` of some sections for a `BenchmarkConfig`; compiled ones come last."""
    found = [group for name in sections for group in ALL[name].groups(config, device)]
    return sorted(found, key=lambda group: group.compiled)


def describe_group(group):
    """The sizes that the candidates of a group share, and the label of a single candidate."""
    first = group.candidates[0].row
    sizes = ALL[group.section].describe(first)
    if len(group.candidates) == 1:
        return f"{sizes}, {label(first)}"
    return f"{sizes}, compiled" if group.compiled else sizes


@contextmanager
def fresh_compiler():
    """Within, torch.compile starts from nothing, takes sizes as fixed, and raises when it reaches its limit."""
    import torch._dynamo

    torch.compiler.reset()
    with torch._dynamo.config.patch(
        automatic_dynamic_shapes=False, recompile_limit=64, fail_on_recompile_limit_hit=True
    ):
        yield
    torch.compiler.reset()


def missing(device, config):
    """What is not measured on this machine or with these settings, a line each."""
    found = [] if torch.device(device).type == "cuda" else list(NOT_ON_CPU)
    if not has_flash(device):
        found.append("flash attention: attention is what torch has for this device")
    for retention in RETENTIONS.values():
        if not retention.available(device):
            found.append(f"{retention.kernel_label or retention.label}: not measured without {retention.needs}")
    found += [
        f"{peer.label}: not measured without {peer.needs}" for peer in PEERS.values() if not peer.available(device)
    ]
    if not config.compile:
        found.append("torch.compile: nothing is measured with it")
    return found


def versions():
    """Versions of Python, CUDA and the packages that compute; None for one that is not installed."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "cuda": torch.version.cuda}
    return found | package_versions(("triton", "flash-linear-attention", "numpy"))


def tables(results):
    """(title, (headings, lines)) of every table of results that has lines."""
    found = [each for name, result in results.items() for each in ALL[name].tables(result)]
    return [(title, (headings, lines)) for title, (headings, lines) in found if lines]


def table(section, rows):
    """Rows of a section as (headings, lines), for printing."""
    return ALL[section].table(rows)


def left_out(results):
    """Rows of all sections that were left out, a line each."""
    return [
        f"{name}: {label(row)}, {ALL[name].describe(row)}: {row['remark']}"
        for name, result in results.items()
        for row in map(with_identity, result["rows"])
        if row["status"] == LEFT_OUT
    ]
