"""The roof of one core, what it predicts for each form, and the forms measured under it: one head, float32.

A roof has rates: FLOPs a second of a matrix product ("peak"), bytes a second of a copy from far away ("memory") and of a copy
beside the core ("cache"). With them go the seconds that NumPy's recurrent and chunkwise form spend on a step whatever it
computes ("recurrent", "chunkwise"): Python's own time.
"""

import json
import os
from functools import partial
from importlib.resources import files
from multiprocessing import get_context

import numpy as np

from ..checks import check_integer
from ..decay import head_decays
from ..retention import retention_chunkwise, retention_recurrent
from .flops import bytes_moved, useful_flops
from .forms import KEY_DIM, VALUE_DIM, candidates, numba_kernels, random_inputs
from .peers import load_peers
from .run import machine, versions
from .timing import processor_seconds, time_calls

TIME = 512  # tokens: a call then takes a few milliseconds at most, and other programs seldom interrupt it
MORE_CHUNKS = 8, 16, 32, 256, 512
WIDTHS = 16, 256  # widths of a key at which chunk sizes are compared besides, with values twice as wide
CHUNK_SIZES = 4, 8, 16, 32, 64, 128, 256, 512
CACHE = 2**20  # bytes that a core is taken to hold beside it
SPREAD = "seconds", "median_seconds", "slowest_seconds"
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def probes():
    """{name: (call, amount)} of the rates of a roof: a call, and how many FLOPs, bytes or steps it does."""
    rng = np.random.default_rng(0)
    a, b, product = rng.standard_normal((3, 512, 512), dtype=np.float32)
    far, far_copy = np.ones((2, 2**23), np.float32)  # 64 MiB together, more than most caches hold
    near, near_copy = np.ones((2, KEY_DIM * VALUE_DIM), np.float32)  # as large as a state
    steps, gamma = np.ones((1, 1, 64, 1), np.float32), head_decays(1)  # tokens of width 1: next to no arithmetic

    def copy_often():
        for _ in range(1000):
            np.copyto(near_copy, near)

    return {
        "peak": (lambda: np.matmul(a, b, out=product), 2 * 512**3),
        "memory": (lambda: np.copyto(far_copy, far), 2 * far.nbytes),
        "cache": (copy_often, 2000 * near.nbytes),
        "recurrent": (lambda: retention_recurrent(steps, steps, steps, gamma), 64),
        "chunkwise": (lambda: retention_chunkwise(steps, steps, steps, gamma, chunk_size=1), 64),
    }


def roof_of(seconds):
    """The roof (dict of floats) from {name: [seconds]} of the probes, of which the fastest round counts."""
    amounts = {name: amount for name, (_, amount) in probes().items()}
    fastest = {name: min(seconds[name]) / amount for name, amount in amounts.items()}
    return {name: each if name in ("recurrent", "chunkwise") else 1 / each for name, each in fastest.items()}


def measure_roof(rounds=15):
    """The roof of the machine that runs this, in processor time: others may use the machine, and their time is left out."""
    return roof_of(time_calls({name: call for name, (call, _) in probes().items()}, rounds, processor_seconds))


def flops_of(form, time, key_dim, value_dim, chunk_size=None):
    """Operations of one head as `useful_flops` counts them, and of the chunkwise form those that fade its state at each chunk.

    A chunk of one token then does what the recurrent form does, and one score besides. With the chunks of the benchmarks,
    64 tokens and more, fading is less than 1 % of the count; they leave it out.

    >>> flops_of("chunkwise", 8, 2, 3, 4) - useful_flops("chunkwise", 1, 8, 2, 3, 4)  # two chunks, a state of 2 x 3
    12
    """
    fading = -(-time // chunk_size) * key_dim * value_dim if form == "chunkwise" else 0
    return useful_flops(form, 1, time, key_dim, value_dim, chunk_size) + fading


def predict(form, roof, time, key_dim, value_dim, chunk_size=None, *, cached=True, python=False):
    """Seconds that one head takes under a roof: the longest of computing and moving, and Python's steps besides.

    cached: whether the state and the scores stay beside the core, where they fit into CACHE. python: whether each step
    costs what it costs NumPy's form. chunk_size: of "chunkwise".
    """
    sizes = time, key_dim, value_dim, chunk_size
    tokens, inner = bytes_moved(form, 1, *sizes)
    side = {"parallel": time, "recurrent": 1, "chunkwise": chunk_size}[form]
    held = 4 * (side**2 * (form != "recurrent") + key_dim * value_dim * (form != "parallel"))
    near = inner if cached and held <= CACHE else 0
    moving = (tokens + inner - near) / roof["memory"], near / roof["cache"]
    steps = -(-time // side) * roof["recurrent" if form == "recurrent" else "chunkwise"] if python else 0.0
    return max(flops_of(form, *sizes) / roof["peak"], *moving) + steps


def chunk_calls():
    """{(library, K, C): call} of the chunkwise form at T = 512, K in WIDTHS, V = 2K, for every C in CHUNK_SIZES."""
    kernels = numba_kernels()
    forms = {"NumPy": retention_chunkwise} | ({"Numba": kernels.retention_chunkwise_numba} if kernels else {})
    texts = {width: random_inputs(1, TIME, 1, width, 2 * width) for width in WIDTHS}
    return {
        (library, width, size): partial(form, *texts[width], chunk_size=size)
        for width in WIDTHS
        for library, form in forms.items()
        for size in CHUNK_SIZES
    }


def recorded():
    """The results on record, as `measure` gave them on one machine: refimpl/results/roof.json."""
    return json.loads((files("refimpl") / "results" / "roof.json").read_text(encoding="utf-8"))


def measure(rounds=15, peers=()):
    """What the results file holds: the roof, every form at T = 512, and the chunkwise one at many chunk sizes and widths.

    Each row has the seconds of its fastest, its median and its slowest round. peers: names of modules, as in
    `refimpl.bench.peers`. A process of its own with one thread a library does it; see ONE_THREAD.
    """
    check_integer("rounds", rounds, minimum=1)
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)  # libraries read it when they are loaded, so only a new process obeys
    try:
        with get_context("spawn").Pool(1) as fresh:
            return fresh.apply(_measure, (rounds, peers))
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _measure(rounds, peers):
    peers, _ = load_peers(peers)
    found = [each for each in candidates(TIME, peers, 1, MORE_CHUNKS) if each.form != "backward"]
    calls = {name: call for name, (call, _) in probes().items()}
    calls = {f"roof: {name}": call for name, call in calls.items()} | {each.name: each.call for each in found}
    seconds = time_calls(calls, rounds, processor_seconds)  # others may use the machine: their time is left out
    widths = time_calls(chunk_calls(), rounds, processor_seconds)
    roof = {name: seconds[f"roof: {name}"] for name in probes()}
    rates = roof_of(roof)
    rows = []
    for each in found:
        flops = useful_flops(each.form, 1, TIME, KEY_DIM, VALUE_DIM, each.chunk_size)
        rate = flops / min(seconds[each.name])
        row = {"name": each.name, "library": each.library, "form": each.form, "chunk_size": each.chunk_size}
        row |= dict(zip(SPREAD, spread(seconds[each.name]), strict=True))
        rows.append(row | {"gflops": rate / 1e9, "share_of_peak": rate / rates["peak"]})
    return {
        "command": "python -m refimpl roof",
        "what": "one head, one core, forward, float32; seconds of the processor: fastest, median and slowest of the rounds",
        "shape": {"batch": 1, "heads": 1, "time": TIME, "key_dim": KEY_DIM, "value_dim": VALUE_DIM},
        "rounds": rounds,
        "machine": machine(),
        "versions": versions(peers),
        "roof": rates,
        "probes": {name: dict(zip(SPREAD, spread(each), strict=True)) for name, each in roof.items()},
        "rows": rows,
        "chunk_sizes": [
            {"library": library, "key_dim": width, "value_dim": 2 * width, "chunk_size": size}
            | dict(zip(SPREAD, spread(each), strict=True))
            for (library, width, size), each in widths.items()
        ],
    }


def spread(seconds):
    """(fastest, median, slowest) of the rounds."""
    return min(seconds), float(np.median(seconds)), max(seconds)
