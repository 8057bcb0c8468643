"""The command `python -m refimpl compare`: how far the forms of retention are from one another and from the oracle."""

import functools
import time as clock
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import head_decays, retention_chunkwise, retention_parallel, retention_recurrent, rotate
from .cli import say
from .oracle import retention_oracle
from .training.text import VOCAB_SIZE, encode, load_corpus

# Largest differences allowed between any two forms, as a share of the largest output. Rounding alone
# makes them 1e-15 and 5e-7 at T = 257.
ALLOWED = {"float64": 1e-13, "float32": 1e-5}
BATCH, HEADS, KEY_DIM, VALUE_DIM = 2, 4, 16, 24


def compare(
    corpus: Annotated[
        str, typer.Option(help="text to embed: kjv (the King James Bible), a text file or a folder")
    ] = "kjv",
    time: Annotated[
        int, typer.Option(min=1, max=2048, help="length T in tokens; the oracle's loop grows with T^2")
    ] = 257,
    chunk_size: Annotated[int, typer.Option(min=1, help="tokens of a chunk; need not divide T")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="seed of the matrix that embeds the text")] = 0,
):
    """Compare the forms with one another and with the oracle; exit with 1 if rounding does not explain a difference."""
    console, loaded = Console(), load_corpus(corpus)
    for remark in loaded.remarks:
        say(remark, console)
    tokens = encode(loaded.text)
    if tokens.size < BATCH * time:
        raise ValueError(
            f"corpus must hold at least {BATCH * time} bytes for batch {BATCH} of {time}, got {tokens.size}"
        )
    tokens = tokens[: BATCH * time].reshape(BATCH, time)
    wrong = []
    for dtype, allowed in ALLOWED.items():
        inputs = embed(tokens, seed, dtype)
        results, seconds = measure(inputs, chunk_size)
        console.print(
            difference_table(results, seconds, f"{corpus}, {shapes(inputs)}, {dtype}, NumPy {np.__version__}")
        )
        largest = np.max(np.abs(results["oracle"]))
        for pair, apart in differences(results).items():
            if not apart <= allowed * largest:
                wrong.append(f"{' and '.join(pair)} in {dtype} by {apart / largest:.0e} of the largest output")
    if wrong:
        console.print(f"[red]The forms disagree:[/red] {'; '.join(wrong)}", soft_wrap=True)
        raise typer.Exit(1)
    bounds = " and ".join(f"{allowed:.0e} ({dtype})" for dtype, allowed in ALLOWED.items())
    console.print(f"All agree, within {bounds} of the largest output. The oracle computes in float64.", soft_wrap=True)


def embed(tokens, seed, dtype):
    """q, k, v, gamma of byte tokens (B, T): each byte is a row of a seeded normal matrix; q, k are rotated."""
    rng = np.random.default_rng(seed)
    q, k, v = (
        rng.standard_normal((VOCAB_SIZE, HEADS * width))[tokens].reshape(*tokens.shape, HEADS, width).swapaxes(1, 2)
        for width in (KEY_DIM, KEY_DIM, VALUE_DIM)
    )
    return *(x.astype(dtype) for x in (rotate(q), rotate(k), v)), head_decays(HEADS)


def measure(inputs, chunk_size):
    """Outputs by name, and the shortest of three runs in seconds, of the oracle and of each form."""
    calls = {
        "oracle": retention_oracle,
        "parallel": retention_parallel,
        "recurrent": retention_recurrent,
        f"chunkwise C={chunk_size}": functools.partial(retention_chunkwise, chunk_size=chunk_size),
    }
    results, seconds = {}, {}
    for name, call in calls.items():
        runs = []
        for _ in range(1 if name == "oracle" else 3):
            start = clock.perf_counter()
            results[name], _ = call(*inputs)
            runs.append(clock.perf_counter() - start)
        seconds[name] = min(runs)
    return results, seconds


def differences(results):
    """Largest absolute difference of each pair of outputs, {(name, name): difference}; NaN stays NaN."""
    names = list(results)
    return {
        (a, b): float(np.max(np.abs(results[a].astype(np.float64) - results[b])))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }


def difference_table(results, seconds, title):
    """The differences as a triangle, with the time each took."""
    names, apart = list(results), differences(results)
    largest = np.max(np.abs(results["oracle"]))
    table = Table(
        title=Text(title), caption=f"largest absolute difference of out (largest out: {largest:.0f}); time of one call"
    )
    table.add_column("form")
    for name in names[:-1]:
        table.add_column(f"to {name}", justify="right")
    table.add_column("time", justify="right")
    for name in names:
        row = [f"{apart[other, name]:.1e}" if (other, name) in apart else "" for other in names[:-1]]
        table.add_row(name, *row, f"{seconds[name] * 1e3:.1f} ms")
    return table


def shapes(inputs):
    """The sizes of a problem in the notation of the course."""
    (batch, heads, time, key_dim), value_dim = inputs[0].shape, inputs[2].shape[-1]
    return f"B {batch} H {heads} T {time} K {key_dim} V {value_dim}"
