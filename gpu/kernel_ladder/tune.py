"""python -m gpu.kernel_ladder.tune: time candidate tiles of the fused kernels and store the fastest.

Compiling takes longest, so worker processes do it first, each for a part of the candidates. A candidate is left out and
reported if it does not compile, needs more memory than a multiprocessor has, or disagrees with the first one. All are
timed as CUDA graphs, because short calls from Python wait for the host. Tiles of keys and the tiles of float32 are not
searched. States backward in time use the tiles of states forward. One launch for several gradients is stored where it takes
less than the launches that it replaces together. A shape may be searched in one pass and in two; each direction takes the faster.
"""

import functools
import itertools
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer

import gpu.kernels.triton_retention as ours
from gpu.bench.graph import Recorded
from gpu.bench.kernel_calls import inputs
from gpu.bench.kernel_floor import SHAPES as MEASURED
from gpu.bench.kernel_floor import Shape
from gpu.bench.timing import milliseconds
from gpu.kernels.triton_states import fitting
from gpu.kernels.triton_tiles import TABLE
from refimpl.files import write_atomically


class Search(NamedTuple):
    """What is tried for a shape: see `gpu.kernels.triton_tiles.tiles_of` for what is stored.

    lengths: T of the sequences that `tokens` are divided into. programs: how many walks to cut time for. spans: tokens
    between states. states, outputs, gradients: tiles, by the names below; gradients are of the launch for several of them.
    """

    one_pass: bool
    chunk: int
    spans: tuple
    tokens: int
    lengths: tuple
    programs: tuple
    states: tuple
    outputs: tuple
    gradients: tuple = ()


STATES = ("BT", "BK", "BV", "warps", "stages")
OUTPUTS = {False: ("BM", "BK", "BV", "warps", "stages", "residents"), True: ("BV", "warps", "stages")}  # by one_pass
GRADIENTS = {
    False: OUTPUTS[False][1:],
    True: OUTPUTS[True][1:],
}  # rows are those of a chunk, and columns of one pass all
DIRECTIONS = {"forward": {"states": 1, "outputs": 1}, "backward": {"states": 2, "dq": 1, "dk": 1, "dv": 1}}
APART = {False: ("dq", "dk", "dv"), True: ("dk", "dv")}  # what a launch for several gradients replaces, by one_pass
ROLES = ("states", "outputs", *APART[False], "gradients")
MANY = 2**20  # a number of programs for which time is cut as often as possible
SHAPES = MEASURED | {"model": Shape(4, 128, 256)}  # model: of 25 million parameters
ALIKE = 1e-2  # relative RMS difference allowed between candidates, which sum in another order
SEARCHES = {
    "large": (Search(
        False, 128, (128, 256, 512), 16384, (2048, 16384), (128,),
        (
            (128, 128, 128, 8, 3), (64, 128, 128, 8, 4), (64, 128, 256, 8, 3), (32, 128, 128, 8, 4), (32, 64, 256, 4, 4),
            (64, 64, 256, 8, 4), (64, 64, 128, 4, 4),
        ),
        ((128, 32, 256, 8, 4, 1), (128, 32, 256, 8, 3, 1), (128, 64, 256, 8, 2, 1)),
        ((32, 256, 8, 4, 1), (32, 256, 8, 6, 1), (64, 256, 8, 3, 1)),
    ),),
    "small": (Search(  # half a walk for each of an H200's multiprocessors, one, or two
        True, 64, (64,), 65536, (2048, 8192, 65536), (66, 132, 264),
        ((64, 64, 128, 8, 4), (64, 64, 128, 4, 4), (64, 64, 64, 4, 4), (32, 64, 128, 4, 4)),
        (
            (64, 4, 2), (64, 4, 3), (64, 4, 4), (64, 8, 2), (128, 4, 1), (128, 4, 2), (128, 4, 3), (128, 8, 2),
            (32, 4, 2), (32, 4, 3),
        ),
        ((4, 2), (4, 3), (4, 4), (8, 3)),  # three of four stages' bytes were predicted, 0.17 ms in place of 0.23 at T 2,048
    ),),
    # Predicted, T 4,096: forwards one pass moves 1,074 MB and waits for each chunk, 0.40 ms; two, 256 tokens a span, 1,878 MB,
    # 0.50 ms. Backwards three passes 3,221 MB, 1.1 ms; states and one launch for all gradients 3,490 MB, 1.0 ms.
    "square": (
        Search(  # two or four walks a head, for one sequence; for four, one
            True, 64, (64,), 16384, (4096, 16384), (128, 256),
            ((64, 128, 128, 8, 3), (64, 64, 128, 4, 4)),
            ((64, 4, 2), (64, 4, 3), (64, 8, 2), (128, 8, 2), (128, 8, 3)),
        ),
        Search(
            False, 128, (128, 256), 16384, (4096, 16384), (128,),
            ((64, 128, 128, 8, 3), (64, 64, 128, 4, 4)),
            ((128, 32, 128, 8, 4, 1), (128, 64, 128, 8, 3, 1)),
            ((32, 128, 8, 4, 1), (64, 128, 8, 3, 1), (64, 128, 8, 2, 2)),
        ),
    ),
    "model": (Search(
        False, 128, (128, 256), 65536, (2048, 65536), (128,),
        ((64, 128, 256, 8, 3), (64, 128, 128, 8, 3), (64, 64, 128, 4, 4)),
        ((128, 32, 256, 8, 4, 1), (128, 64, 256, 8, 2, 1), (128, 32, 128, 8, 4, 1), (128, 64, 128, 8, 3, 1)),
        ((64, 256, 8, 3, 1), (32, 128, 8, 4, 1), (64, 128, 8, 3, 1), (64, 128, 8, 2, 2)),
    ),),
}  # fmt: skip


class Job(NamedTuple):
    """A kernel to time: a role's tiles at a length, with time cut for a number of programs, and so many tokens a span."""

    role: str
    length: int
    programs: int
    span: int
    tiles: tuple


def names_of(search, role):
    """The names of the numbers in a role's tiles, as they are stored."""
    return {"states": STATES, "gradients": GRADIENTS[search.one_pass]}.get(role, OUTPUTS[search.one_pass])


def parts_of(search, heads, length, programs):
    """How one pass cuts time, as `ours.cut` returns it, and True if that makes at least `programs` walks."""
    sequences = search.tokens // length * heads
    parts = ours.cut(sequences, -(-length // search.chunk), programs)
    return parts, sequences * parts[0] >= programs


def jobs(search, heads):
    """Every `Job`, each once."""
    for programs, span, length, role in itertools.product(search.programs, search.spans, search.lengths, ROLES):
        if role == "states" and search.one_pass and parts_of(search, heads, length, programs)[0][0] == 1:
            continue  # time is not cut, so no states are summed
        for tiles in {"states": search.states, "gradients": search.gradients}.get(role, search.outputs):
            yield Job(role, length, programs, span, tiles)


def call_of(search, job, q, k, v, grad, gamma, kept):
    """The launch of a job as a function without arguments; `kept` holds the states that several jobs read."""
    batch, heads, time, key_dim = q.shape
    tiles = dict(zip(names_of(search, job.role), job.tiles, strict=True))
    chunk, span = search.chunk, job.span
    # As in `ours.backward_of`.
    given = {"dq": (grad, v, k), "dk": (v, grad, q), "dv": (k, q, grad)}.get(job.role, (q, k, v))
    reverse, transposed = job.role in ("dk", "dv"), job.role in ("dq", "dk")
    if search.one_pass:
        parts = ours.cut(batch * heads, -(-time // chunk), job.programs)
        if job.role == "states":
            return lambda: ours.totals_of(k, v, gamma, chunk, parts, tiles)
        totals = None
        if parts[0] > 1:
            totals = _kept(kept, "totals", (batch * heads, parts[0], key_dim, v.shape[3]), torch.float32, q.device)
        if job.role == "gradients":
            return lambda: ours.walk_back_of(q, k, v, grad, gamma, None, totals, chunk, parts, tiles, want_end=False)
        return lambda: ours.walk_of(
            *given, gamma, None, totals, chunk, parts, tiles,
            reverse=reverse, turned=transposed, want_end=job.role == "outputs",
        )  # fmt: skip
    if job.role == "states":
        return lambda: ours.states_of(k, v, gamma, None, span, [tiles], job.programs)
    sizes = (batch * heads, -(-time // span), key_dim, v.shape[3]), q.dtype, q.device
    states = _kept(kept, "states", *sizes)
    if job.role == "gradients":
        behind = _kept(kept, "behind", *sizes)  # others, for what was read already would come from the L2 cache
        return lambda: ours.gradients_of(
            q, k, v, gamma, states, behind, grad, chunk, span, tiles, from_zero=True, to_zero=True
        )
    return lambda: ours.outputs_of(
        *given, gamma, states, chunk, span, tiles, reverse=reverse, transposed=transposed, from_zero=True
    )


def _kept(kept, name, shape, dtype, device):
    if (name, shape) not in kept:
        kept[name, shape] = torch.randn(shape, device=device).to(dtype)
    return kept[name, shape]


def compile_part(shape, search, parts, part):
    """Launch a part of the kernels once on small inputs, which leaves them in Triton's cache; returns {kernel: failure}.

    A kernel is compiled once for each role and choice of tiles, with time cut and not.
    """
    failed, kept, given = {}, {}, {}
    kernels = {(job.role, job.span, job.tiles) for job in jobs(search, SHAPES[shape].heads)}
    for role, span, tiles in sorted(kernels)[part::parts]:
        for length in (span, 8 * span):  # time in one part, and in several
            if length not in given:
                given[length] = inputs(SHAPES[shape], length, length)
            try:
                call_of(search, Job(role, length, MANY, span, tiles), *given[length], kept)()
                torch.cuda.synchronize()
            except Exception as error:
                failed[role, span, tiles] = f"{type(error).__name__}: {error}"[:100]
    return failed


def measure(shape, search, pool, workers):
    """[(job, ms)] of all jobs of a search that ran and agree with the first of their role; the pool's workers compile."""
    failed, rows = {}, []
    for part in pool.map(functools.partial(compile_part, shape, search, workers), range(workers)):
        failed |= part
    for length in search.lengths:
        given, kept, first = inputs(SHAPES[shape], length, search.tokens), {}, {}
        for job in jobs(search, SHAPES[shape].heads):
            if job.length != length or (job.role, job.span, job.tiles) in failed:
                continue
            try:
                call = call_of(search, job, *given, kept)
                found = written(search, job.role, call())
                off = difference(found, first.setdefault((job.role, job.programs, job.span), found))
                if not off <= ALIKE:
                    raise ArithmeticError(f"it is {off:.0e} from the first")
                recorded = Recorded(call, found[0].device)
                rows.append((job, milliseconds({"": recorded.graph.replay}, rounds=9)[""]["median"]))
            except Exception as error:
                failed[job.role, job.span, job.tiles] = f"{type(error).__name__}: {error}"[:100]
    print(f"{shape}: {len(rows)} times; {len(failed)} kernels left out: {sorted(set(failed.values()))[:3]}", flush=True)
    return [(job, ms) for job, ms in rows if (job.role, job.span, job.tiles) not in failed]


def written(search, role, results):
    """The arrays that a call returns, without the parts that it may leave unwritten: the first state, the last sum."""
    if role != "states":
        several = search.one_pass or role == "gradients"
        return [each for each in (results if several else (results,)) if each is not None]
    return [results[:, :-1]] if search.one_pass else [results[0][:, 1:], results[1]]


def difference(found, want):
    """The largest relative RMS difference of arrays; NaN if one of them has NaN."""
    off = [(x.float() - y.float()).norm() / y.float().norm() for x, y in zip(found, want, strict=True) if x.numel()]
    return torch.stack(off).max().item()  # Python's max would drop a NaN


def taken(search, shape, role, length, programs, choices):
    """The candidate that the kernels use at a length if the choices are stored in this order."""
    if search.one_pass:
        return choices[0 if parts_of(search, shape.heads, length, programs)[1] else -1]
    if role != "states":
        return choices[0]
    batch = search.tokens // length
    x, y = (torch.empty(batch, shape.heads, 1, width, device="meta") for width in (shape.key_dim, shape.value_dim))
    named = [dict(zip(STATES, tiles, strict=True)) for tiles in choices]
    return choices[named.index(fitting(named, x, y, programs))]


def fastest(search, shape, role, programs, span, rows):
    """(ms, choices): the one or two candidates of a role with the least time, summed over the lengths where each is used.

    The states of two passes end with the fastest of the smallest tiles, for fewer heads and sequences than were timed.
    """
    wanted = role, programs, span
    times = {(job.tiles, job.length): ms for job, ms in rows if (job.role, job.programs, job.span) == wanted}
    lengths = {length for _, length in times}
    candidates = sorted({tiles for tiles, _ in times})
    if not candidates:
        if role == "states" and search.one_pass:
            return 0.0, search.states[:1]  # time is never cut
        raise ValueError(f"rows must have a candidate of {role} that ran, got none")
    found, last = [], ()
    if role == "states" and not search.one_pass:
        numbers = lambda tiles: tiles[STATES.index("BK")] * tiles[STATES.index("BV")]  # noqa: E731
        last = (min(candidates, key=lambda tiles: (numbers(tiles), sum(times[tiles, length] for length in lengths))),)
    for first, second in itertools.product(candidates, repeat=2):
        choices = first, second, *last
        sums = [times[taken(search, shape, role, length, programs, choices), length] for length in lengths]
        found.append((sum(sums), len(set(choices)), choices))
    ms, _, choices = min(found)
    return ms, tuple(tiles for tiles, _ in itertools.groupby(choices))  # without repeats


def direction_of(search, shape, direction, programs, span, rows):
    """(ms, table): of a pass in a direction at every length, and what is stored for it."""
    table = {"one_pass": search.one_pass, "chunk": search.chunk, "programs": programs}
    if not search.one_pass:
        table["span"] = span
    times = {}
    for role, count in DIRECTIONS[direction].items():
        ms, choices = fastest(search, shape, role, programs, span, rows)
        # One pass is given, backwards, the states that the forward pass summed.
        times[role] = ms if search.one_pass else count * ms
        stored = [dict(zip(names_of(search, role), tiles, strict=True)) for tiles in choices]
        table[role] = stored if role == "states" or search.one_pass else stored[0]
    fused = [job for job, _ in rows if (job.role, job.programs, job.span) == ("gradients", programs, span)]
    if direction == "backward" and fused:
        ms, choices = fastest(search, shape, "gradients", programs, span, rows)
        if ms < sum(times[role] for role in APART[search.one_pass]):
            stored = [dict(zip(names_of(search, "gradients"), tiles, strict=True)) for tiles in choices]
            table["gradients"] = stored if search.one_pass else stored[0]
            times = {role: each for role, each in times.items() if role not in APART[search.one_pass]} | {
                "gradients": ms
            }
    return sum(times.values()), table


def best(shape, measured):
    """(ms, table): of a forward and a backward pass at every length, and the entry's "forward" and "backward".

    measured: (search, rows) of each of the shape's searches. Each direction takes what is fastest. Only two of one pass must
    cut time alike, so that one can use what the other summed: those of the least sum.
    """
    found = {
        direction: [
            direction_of(search, shape, direction, programs, span, rows)
            for search, rows in measured for programs, span in itertools.product(search.programs, search.spans)
        ]
        for direction in DIRECTIONS
    }  # fmt: skip
    pairs = [
        (sum(ms for ms, _ in pair), dict(zip(DIRECTIONS, (table for _, table in pair), strict=True)))
        for pair in itertools.product(*found.values())
        if not all(table["one_pass"] for _, table in pair) or len({table["programs"] for _, table in pair}) == 1
    ]
    return min(pairs, key=lambda each: each[0])


def main(
    out: Annotated[Path, typer.Option(help="the table to update")] = TABLE,
    log: Annotated[Path | None, typer.Option(help="write every time here, as JSON")] = None,
    shapes: Annotated[str, typer.Option(help="which of the shapes, with commas between")] = ",".join(SEARCHES),
    show: Annotated[int, typer.Option(help="how many of each role and length to print")] = 3,
):
    """Search, and write the table that `gpu.kernels.triton_retention` reads."""
    table, every, chosen = json.loads(TABLE.read_text()), {}, shapes.split(",")
    if unknown := [shape for shape in chosen if shape not in SEARCHES]:
        raise typer.BadParameter(f"shapes must be of {', '.join(SEARCHES)}, got {', '.join(map(repr, unknown))}")
    if not torch.cuda.is_available():
        raise typer.BadParameter("tiles are timed on a CUDA GPU, and there is none here")
    workers = max(1, min(14, (os.cpu_count() or 2) - 2))
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for shape in chosen:
            _, *widths = SHAPES[shape]
            measured = [(search, measure(shape, search, pool, workers)) for search in SEARCHES[shape]]
            every[shape] = [row for _, rows in measured for row in rows]
            for search, rows in measured:
                print_fastest(shape, search, rows, show)
            total, entry = best(SHAPES[shape], measured)
            print(f"{shape}: {total:.3f} ms as a sum of its kernels at every length")
            entry = {"widths": widths} | entry
            place = next((i for i, old in enumerate(table["half"]) if old["widths"] == widths), len(table["half"]))
            table["half"][place : place + 1] = [entry]
            table["device"] = torch.cuda.get_device_name()
            write_atomically(out, json.dumps(table, indent=1) + "\n")
            if log:
                write_atomically(log, json.dumps(every) + "\n")


def print_fastest(shape, search, rows, show):
    """Print the fastest tiles of each role and length."""
    for kind in dict.fromkeys((job.programs, job.span, job.role, job.length) for job, _ in rows):
        programs, span, role, length = kind
        mine = sorted((ms, job.tiles) for job, ms in rows if (job.programs, job.span, job.role, job.length) == kind)
        for ms, tiles in mine[:show]:
            words = " ".join(f"{name}={size}" for name, size in zip(names_of(search, role), tiles, strict=True))
            print(f"{shape} {programs:3d} programs, span {span:3d}, T {length:6,d} {role:9s}{ms:7.3f} ms  {words}")


if __name__ == "__main__":
    typer.run(main)
