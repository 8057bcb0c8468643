"""Everything that `python -m refimpl bench` measures, as its results file holds it."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from ..checks import check_integer
from .forms import HEADS, KEY_DIM, VALUE_DIM, measure_forms
from .memory import long_sequences
from .steps import decoding, training

TIMES = 512, 2048, 8192
LONG = 4096, 16384, 65536


def measure(times=TIMES, long=LONG, rounds=7, peers=(), progress=lambda lengths: lengths):
    """Measure forms, decoding, training and long sequences; returns what the results file holds.

    Args:
        times: lengths T of the forms.
        long: lengths T of long sequences.
        rounds: as in `refimpl.bench.timing`.
        peers: modules as in `refimpl.bench.peers`.
        progress: wraps `times`, for a progress bar.
    """
    for name, values in (("times", times), ("long", long), ("rounds", (rounds,))):
        for value in values:
            check_integer(name, value, minimum=1)
    return {
        "command": "python -m refimpl bench",
        "what": "forward unless named backward; float32; fastest of the rounds",
        "shape": {"batch": 1, "heads": HEADS, "key_dim": KEY_DIM, "value_dim": VALUE_DIM},
        "rounds": rounds,
        "machine": machine(),
        "versions": {"python": platform.python_version()} | versions(peers),
        "rows": measure_forms(times, rounds, peers, progress),
        "decode": decoding(rounds),
        "training": training(rounds, peers),
        "long": long_sequences(rounds, long),
    }


def versions(peers=()):
    """{package: its version, or None where it is not installed} of everything that is timed."""
    return package_versions(("numpy", "numba", *(name for peer in peers for name in peer.PACKAGES)))


def package_versions(names):
    """{package: its version, or None where it is not installed}."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def machine():
    """{what: which} of this machine: processor, system, and the cores that the process may use."""
    return {"processor": platform.machine(), "system": platform.system(), "cores": _cores()}


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
