"""The targets of the kernels, compared with the rows of a run: ratios within the run, and errors."""

from typing import NamedTuple

from .accuracy import OUTPUTS, RESULTS
from .kernel_floor import BOTH, FORWARD, SHAPES, STEP
from .rows import kernel_label, kernel_of
from .timing import MEASURED

OURS, FLA, ATTENTION = "triton", "fla", ("flash", "cudnn")


class Speed(NamedTuple):
    """How many times as fast as the fastest of `peers` our kernels should be, from T = `least_time` on; aim: not required."""

    shape: str
    what: str
    wanted: float
    peers: tuple = (FLA,)
    cuda_graph: bool = False
    least_time: int = 1
    aim: bool = False


SPEEDS = [
    Speed("large", FORWARD, 1.6),
    Speed("large", BOTH, 2.2),
    Speed("small", FORWARD, 1.5),
    Speed("small", BOTH, 1.5),
    Speed("small", FORWARD, 1.3, cuda_graph=True),
    Speed("small", BOTH, 1.5, cuda_graph=True),
    Speed("large", BOTH, 1.0, ATTENTION, least_time=4096),
    Speed("large", FORWARD, 2.5, aim=True),
    Speed("large", BOTH, 4.0, aim=True),
    Speed("large", BOTH, 1.0, ATTENTION, aim=True),
]
COPY_SHARE, STEP_SPEED = 0.85, 10.0
PLAIN_OVER_GRAPH, HOST_MICROSECONDS = 1.05, 60.0  # of a plain forward call, at the large shape and at both
# dtype, results, the most that their error may be
ERRORS = [("bfloat16", OUTPUTS, 5e-3), ("bfloat16", RESULTS[2:], 1e-2), ("float32", RESULTS, 1e-5)]


def targets(rows, accuracy):
    """A dict for each target: name, bound ("at least" or "at most"), wanted, got, met and aim.

    got is the worst of the measured rows of the target; None if there is none. met is False if one of them misses the
    target, True if all were measured and none does, and None if that is not known. aim: True if it is not required.
    """
    found = [speed(rows, each) for each in SPEEDS]
    ours = [row for row in rows if kernel_of(row) == OURS and row["what"] == FORWARD]
    found.append(evaluate("forward, a plain call over its CUDA graph, large", "at most", PLAIN_OVER_GRAPH, plain(ours)))
    host = [
        1e6 * seconds["median"] if (seconds := row.get("host_seconds")) else None
        for row in ours if not row["cuda_graph"]
    ]  # fmt: skip
    found.append(evaluate("forward, CPU time of a plain call, µs", "at most", HOST_MICROSECONDS, host))
    step = lambda kernel, batch, graph: [  # noqa: E731
        row for row in rows
        if (row["what"], kernel_of(row), row["batch"], row["cuda_graph"]) == (STEP, kernel, batch, graph)
        and not row["replay"]
    ]  # fmt: skip
    shares = [row["share_of_copy_bandwidth"] if row["status"] == MEASURED else None for row in step(OURS, 64, True)]
    found.append(evaluate("a step's share of the copy bandwidth, batch 64, CUDA graph", "at least", COPY_SHARE, shares))
    # Launched from Python, the peer mostly waits for Python. In a graph both mostly move bytes, so our lead is at most the
    # peer's time over the floor, unless the state stays in the L2 cache. That makes it an aim.
    for graph, how in ((False, "launched from Python"), (True, "in a CUDA graph too")):
        pairs = [ratio(ours, step(FLA, 1, graph)) for ours in step(OURS, 1, True)]
        name = f"steps a second, batch 1, CUDA graph, over {kernel_label(FLA)}'s {how}"
        found.append(evaluate(name, "at least", STEP_SPEED, pairs, aim=graph))
    for dtype, results, bound in ERRORS:
        errors = [
            row[name] if row["status"] == MEASURED else None
            for row in accuracy if row["dtype"] == dtype for name in results
        ]  # fmt: skip
        found.append(evaluate(f"relative RMS error, {dtype}, {', '.join(results)}", "at most", bound, errors))
    same = [float(row["same_bits"]) if row["status"] == MEASURED else None for row in accuracy]
    found.append(evaluate("share of checks that give the same bits again", "at least", 1.0, same))
    return found


def speed(rows, target):
    """The dict of a `Speed`, at the length where our lead is smallest."""
    ratios, times = [], []
    same = "shape", "what", "cuda_graph", "time", "batch"
    for ours in rows:
        concerned = (ours["shape"], ours["what"], ours["cuda_graph"]) == (target.shape, target.what, target.cuda_graph)
        if kernel_of(ours) == OURS and concerned and ours["time"] >= target.least_time:
            peers = [
                row for row in rows if kernel_of(row) in target.peers and all(row[name] == ours[name] for name in same)
            ]
            ratios.append(ratio(ours, peers))
            times.append(ours["time"])
    where = f", T {min(times):,} to {max(times):,}" if times else ""
    graph, peers = ", CUDA graph," if target.cuda_graph else "", " or ".join(map(kernel_label, target.peers))
    name = f"{target.what}{graph} over {peers}, {SHAPES[target.shape]}{where}"
    return evaluate(name, "at least", target.wanted, ratios, aim=target.aim)


def plain(rows):
    """Seconds of plain calls over those of the same call as a CUDA graph, at the large shape; None where one is not measured."""
    return [
        1 / over if (over := ratio(row, [graph])) else None
        for row in rows for graph in rows
        if row["shape"] == graph["shape"] == "large" and row["time"] == graph["time"]
        and graph["cuda_graph"] and not row["cuda_graph"]
    ]  # fmt: skip


def ratio(ours, peers):
    """Seconds of the fastest peer over ours; None if either was not measured."""
    seconds = [row["seconds"]["median"] for row in peers if row["status"] == MEASURED]
    return min(seconds) / ours["seconds"]["median"] if seconds and ours["status"] == MEASURED else None


def evaluate(name, bound, wanted, values, *, aim=False):
    """The dict of a target from its values, each None if it was not measured.

    >>> [evaluate("", "at least", 2, values)["met"] for values in ([2, 3], [2, None], [1, None], [])]
    [True, None, False, None]
    """
    known = [value for value in values if value is not None]
    good = [value >= wanted if bound == "at least" else value <= wanted for value in known]
    met = False if not all(good) else True if known and len(known) == len(values) else None
    got = (min if bound == "at least" else max)(known, default=None)
    return {"name": name, "bound": bound, "wanted": wanted, "got": got, "met": met, "aim": aim}


def table(found):
    """Targets as (headings, texts)."""
    number = lambda x: f"{x:.0e}" if 0 < x < 0.1 else f"{x:.2f}"  # noqa: E731
    texts = [
        [
            each["name"],
            f"{each['bound']} {number(each['wanted'])}" + (" (aim)" if each["aim"] else ""),
            "" if each["got"] is None else f"{each['got']:.1e}" if each["wanted"] < 0.1 else number(each["got"]),
            {True: "met", False: "missed", None: "not known"}[each["met"]],
        ]
        for each in found
    ]
    return ("", "wanted", "got", ""), texts
