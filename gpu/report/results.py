"""Functions that the sections of the page share: read results files, and choose and pair their rows."""

import json
from pathlib import Path

from ..bench.rows import with_identity
from ..bench.timing import MEASURED


def read(folder, name):
    """The contents of a results file; FileNotFoundError names a missing one."""
    path = Path(folder) / name
    if not path.exists():
        raise FileNotFoundError(f"report: there is no {name} in {str(folder)!r}")
    return json.loads(path.read_text(encoding="utf-8"))


def read_benchmark(folder, name):
    """The contents of a results file of `gpu.bench`; every row gets the fields that say what it measured."""
    results = read(folder, name)
    return results | {"rows": [with_identity(row) for row in results["rows"]]}


def is_there(folder, name):
    """True if the folder holds this results file; without it, its section is left out."""
    return (Path(folder) / name).exists()


def unique(values):
    """The different values, in their order.

    >>> unique([2, 1, 2])
    [2, 1]
    """
    return list(dict.fromkeys(values))


def measured(rows):
    """The rows with a measurement; a row may be None."""
    return [row for row in rows if row is not None and row["status"] == MEASURED]


def batch_key(row):
    """The batch of a decoding row; None for as many sequences as fit, a number that differs from model to model."""
    return None if row["largest"] else row["batch"]


def variant(row):
    """The fields that tell the rows of one model from those of another at the same size and lengths."""
    return tuple(row[field] for field in ("model", "retention", "chunk_size", "attention", "grouped"))


def by_key(rows, key):
    """{key of a row: the rows that have it}, in their order."""
    found = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def retnet_over_transformers(rows, key):
    """The fastest RetNet beside each Transformer, of measured rows with the same `key`, and the ratio of their speeds."""
    pairs = []
    for group in by_key(rows, key).values():
        retnet = max((row for row in group if row["model"] == "retnet"), key=speed, default=None)
        for other in group if retnet else ():
            if other["model"] == "transformer":
                pairs.append({"retnet": retnet, "transformer": other, "speed": speed(retnet) / speed(other)})
    return pairs


def speed(row):
    """Tokens a second."""
    return row["tokens_per_second"]
