"""python -m gpu.kernel_ladder.tune: time every tile shape of the fused kernels and store the fastest.

Compiling is what takes long, so worker processes do it first, each for a part of the candidates; a candidate that does
not compile, or asks for more memory than a multiprocessor has, is left out and said so.
"""

import functools
import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import torch
import typer

import gpu.triton_retention as ours
from gpu.benchmark_kernels import SHAPES, inputs
from gpu.kernel_ladder.timing import milliseconds
from refimpl.files import write_atomically

MANY, ONE = "states", "states of one"  # of many sequences, and of one as long as all of them
NAMES = {
    MANY: ("BT", "BK", "BV", "warps", "stages"),
    "outputs": ("BM", "BK", "BV", "warps", "stages", "residents"),
    "one pass": ("BV", "warps", "stages"),
}
ROLES = ("outputs", "dq", "dk", "dv")
ONE_PASS = {"large": False, "small": True}
CHUNKS = {"large": (128,), "small": (64,)}
PROGRAMS = {"large": 128, "small": 264}  # as many as an H200 has multiprocessors, or can hold at once of the narrow
STATES = {
    "large": [
        (128, 128, 128, 8, 3), (128, 128, 128, 8, 2), (64, 128, 128, 8, 4), (64, 128, 256, 8, 3), (32, 128, 128, 8, 4),
        (32, 64, 256, 4, 4), (64, 64, 256, 8, 4), (64, 64, 128, 4, 4), (64, 64, 128, 4, 3),
    ],
    "small": [(64, 64, 128, 8, 4), (64, 64, 128, 4, 4), (64, 64, 64, 4, 4), (32, 64, 128, 4, 4)],
}  # fmt: skip
OUTPUTS = {
    "large": [(128, 32, 256, 8, 4, 1), (128, 32, 256, 8, 3, 1), (128, 64, 256, 8, 2, 1)],
    "small": [(128, 4, 2), (128, 4, 1), (64, 4, 2), (64, 4, 3), (128, 8, 2), (64, 8, 2)],
}


def jobs(shape):
    """Every (role, chunk, tiles) to try, each once."""
    names = NAMES["one pass" if ONE_PASS[shape] else "outputs"]
    for chunk in CHUNKS[shape]:
        for tiles in STATES[shape]:
            for role in (MANY, ONE):
                yield role, chunk, dict(zip(NAMES[MANY], tiles, strict=True))
        for role in ROLES:
            for tiles in OUTPUTS[shape]:
                yield role, chunk, dict(zip(names, tiles, strict=True))


def call_of(shape, role, chunk, tiles, q, k, v, grad, gamma, kept):
    """The launch of one job as a function of nothing; `kept` holds the states of each chunk size."""
    (batch, heads, time, key_dim), log2_gamma = q.shape, gamma.double().log2()
    chunks, programs = -(-time // chunk), PROGRAMS[shape]
    if ONE_PASS[shape]:
        parts = ours.cut(batch * heads, chunks, programs)
        if role in (MANY, ONE):
            return lambda: ours.totals_of(k, v, log2_gamma, chunk, parts, tiles)
        walk = functools.partial(
            ours.walk_of, log2_gamma=log2_gamma, start=None, totals=None, chunk=chunk, parts=(1, chunks), tiles=tiles
        )
        return {
            "outputs": lambda: walk(q, k, v),
            "dq": lambda: walk(grad, v, k),
            "dk": lambda: walk(v, grad, q, reverse=True),
            "dv": lambda: walk(k, q, grad, reverse=True),
        }[role]
    if role in (MANY, ONE):
        return lambda: ours.states_of(k, v, log2_gamma, None, chunk, [tiles], programs)
    if chunk not in kept:
        kept[chunk] = q.new_empty((batch * heads, chunks, key_dim, v.shape[3])).normal_()
    states = kept[chunk]
    return {
        "outputs": lambda: ours.outputs_of(q, k, v, log2_gamma, states, chunk, tiles),
        "dq": lambda: ours.outputs_of(grad, v, k, log2_gamma, states, chunk, tiles, transposed=True),
        "dk": lambda: ours.outputs_of(v, grad, q, log2_gamma, states, chunk, tiles, reverse=True, transposed=True),
        "dv": lambda: ours.outputs_of(k, q, grad, log2_gamma, states, chunk, tiles, reverse=True),
    }[role]


def compile_part(shape, part, parts):
    """Launch each of a part of the jobs once on small inputs, which leaves it in Triton's cache; what failed, and why."""
    q, k, v, grad, gamma = inputs(SHAPES[shape], 512, 512)
    failed, kept = {}, {}
    for number, (role, chunk, tiles) in enumerate(jobs(shape)):
        if number % parts == part:
            try:
                call_of(shape, role, chunk, tiles, q, k, v, grad, gamma, kept)()
                torch.cuda.synchronize()
            except Exception as error:
                failed[number] = f"{type(error).__name__}: {error}"[:100]
    return failed


def measure(shape, time, tokens, workers):
    """[(role, chunk, tiles, ms)] of all jobs that ran."""
    if not torch.cuda.is_available():
        raise typer.BadParameter("tiles are timed on a CUDA GPU, and there is none here")
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        parts = pool.map(compile_part, [shape] * workers, range(workers), [workers] * workers)
        failed = {number: why for part in parts for number, why in part.items()}
    many, one = (inputs(SHAPES[shape], length, tokens) for length in (time, tokens))
    kept, rows = {}, []
    for number, (role, chunk, tiles) in enumerate(jobs(shape)):
        if number not in failed:
            call = call_of(shape, role, chunk, tiles, *(one if role == ONE else many), kept)
            rows.append((role, chunk, tiles, milliseconds({"": call}, rounds=7, warm=2)[""]["median"]))
    print(
        f"{shape}: {len(rows)} candidates timed, {len(failed)} left out: {sorted(set(failed.values()))[:3]}", flush=True
    )
    return rows


def best(shape, rows, direction):
    """(ms, entry of the table) for a direction: for each chunk the best of each role, of these the least sum.

    The sum counts states of many sequences and not those of one; in one pass none, for they are computed only where time
    is cut.
    """
    times = {"forward": {"outputs": 1}, "backward": {"dq": 1, "dk": 1, "dv": 1}}[direction]
    entries = []
    for chunk in sorted({row[1] for row in rows}):
        fastest = {
            role: min((row for row in rows if row[:2] == (role, chunk)), key=lambda row: row[3])[2:]
            for role in (MANY, ONE, *times)
        }
        choices = [tiles for tiles, _ in (fastest[MANY], fastest[ONE])][ONE_PASS[shape] :]
        entry = {"one_pass": ONE_PASS[shape], "chunk": chunk, "programs": PROGRAMS[shape]}
        entry |= {"states": choices[:1] if choices[0] == choices[-1] else choices}
        entry |= {role: fastest[role][0] for role in times}
        total = 0.0 if ONE_PASS[shape] else {"forward": 1, "backward": 2}[direction] * fastest[MANY][1]
        entries.append((total + sum(fastest[role][1] for role in times), entry))
    return min(entries, key=lambda pair: pair[0])


def main(
    out: Annotated[Path, typer.Option(help="the table to update")] = ours.TABLE,
    log: Annotated[Path | None, typer.Option(help="write every time here, as JSON")] = None,
    shapes: Annotated[str, typer.Option(help="which of the shapes, with commas between")] = ",".join(SHAPES),
    time: Annotated[int, typer.Option(help="tokens a sequence, of many")] = 2048,
    show: Annotated[int, typer.Option(help="how many of each role to print")] = 5,
):
    """Search, and write the table that `gpu.triton_retention` reads."""
    table, every, chosen = json.loads(ours.TABLE.read_text()), {}, shapes.split(",")
    if unknown := [shape for shape in chosen if shape not in SHAPES]:
        raise typer.BadParameter(f"shapes must be of {', '.join(SHAPES)}, got {', '.join(map(repr, unknown))}")
    for shape in chosen:
        tokens = 16384 if shape == "large" else 65536
        rows = measure(shape, time, tokens, workers=max(1, min(14, (os.cpu_count() or 2) - 2)))
        every[shape] = rows
        for role in (MANY, ONE, *ROLES):
            for _, chunk, tiles, ms in sorted((row for row in rows if row[0] == role), key=lambda row: row[3])[:show]:
                print(f"{shape} {role:13s} C={chunk:3d} {ms:7.3f} ms  {' '.join(f'{k}={v}' for k, v in tiles.items())}")
        widths = list(SHAPES[shape][1:])
        entry = {"widths": widths} | ({"widest": max(widths)} if ONE_PASS[shape] else {})
        for direction in ("forward", "backward"):
            total, entry[direction] = best(shape, rows, direction)
            print(f"{shape} {direction}: C={entry[direction]['chunk']}, {total:.3f} ms as a sum of its kernels")
        table["half"] = [old for old in table["half"] if old["widths"] != widths] + [entry]
        table["device"] = torch.cuda.get_device_name()
        write_atomically(out, json.dumps(table, indent=1) + "\n")
        if log:
            write_atomically(log, json.dumps(every) + "\n")


if __name__ == "__main__":
    typer.run(main)
