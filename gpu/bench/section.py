"""What a section of the benchmark is: what it measures, the fields derived from it, its tables and its figure."""

from typing import NamedTuple

import numpy as np

from ..models.baseline import retnet_parameters
from ..training.config import RunConfig
from .rows import with_identity
from .timing import MEASURED

LARGE = 200e6  # parameters; models with more are measured one after another, each with the memory to itself


class Group(NamedTuple):
    """Candidates that are timed in turn, the name of their section, and the `RunConfig` for `gpu.numerics.numerics`."""

    section: str
    compiled: bool
    candidates: list
    settings: RunConfig


class Section:
    """A section; a new one is a subclass in a file of its own, whose instance is listed in `gpu.bench.run.ALL`.

    name: of the section and its file. what: what it measures, for that file. default: True if it is measured when no
    section is named. lists: what its file holds besides rows. identity, measured: columns of its table as (heading, function
    of a row that returns text); those in `measured` are filled for measured rows. figure: a function of the file's contents,
    or None. as_called: True if public functions are timed as a user calls them; False for loops over values of their own, at
    which nobody looks.
    """

    name = what = ""
    default = True
    as_called = False
    lists = ()
    identity = measured = ()
    figure = None

    def groups(self, config, device):
        """Yield every `Group` for a `BenchmarkConfig`; compiled ones come last."""
        for compiled in (False, True) if config.compile else (False,):
            for candidates, settings in self.candidates(config, compiled, device):
                yield Group(self.name, compiled, candidates, settings)

    def candidates(self, config, compiled, device):
        """Yield the candidates of each group, a list, and its settings, a `RunConfig`."""
        raise NotImplementedError

    def describe(self, row):
        """The sizes of a row as text; `gpu.bench.rows.label` names what was measured."""
        raise NotImplementedError

    def derived(self, row, peaks):
        """Fields that follow from the seconds of a measured row and the ceilings."""
        raise NotImplementedError

    def prepare(self, config, device, deadline, progress):
        """Called before the first group."""

    def finish(self, result, config, device, *, deadline, keep, progress):
        """Called after the last group, to measure more; it fills `result` and calls keep() to write it."""

    def summary(self, result):
        """Fields of the file that follow from its lists."""
        return {}

    def tables(self, result):
        """(title, (headings, lines)) of each table."""
        return [(f"{self.name}, {result['device']}", self.table(result["rows"]))]

    def table(self, rows):
        """Rows, old ones too, as (headings, lines of texts)."""
        return table(self.identity, self.measured, map(with_identity, rows))


def table(identity, measured, rows):
    """Rows as (headings, lines of texts); a row that was not measured has its status instead of the `measured` columns."""
    lines = []
    for row in rows:
        line = [text(row) for _, text in identity]
        if row["status"] == MEASURED:
            line += [text(row) for _, text in measured]
        else:
            line += [f"{row['status']}: {row['remark']}", *[""] * (len(measured) - 1)]
        lines.append(line)
    return tuple(heading for heading, _ in (*identity, *measured)), lines


def speed_columns(share, heading):
    """Columns of speed and memory, and of a share of a ceiling: share(row) under its heading."""
    return (
        ("tokens/s", lambda row: f"{row['tokens_per_second']:,.0f}"),
        ("spread", format_spread),
        ("memory", lambda row: format_bytes(row["peak_bytes"])),
        (heading, lambda row: format_share(share(row))),
    )


def format_spread(row):
    """The largest deviation of a round from the median.

    >>> format_spread({"seconds": {"min": 0.9, "median": 1.0, "max": 1.05}})
    '± 10%'
    """
    seconds = row["seconds"]
    return f"± {max(abs(seconds[end] / seconds['median'] - 1) for end in ('min', 'max')):.0%}"


def format_share(share):
    """A share in percent, or nothing if it is not known."""
    return "" if share is None else f"{share:.0%}"


def format_bytes(size):
    """Bytes, in the unit that fits.

    >>> format_bytes(3 * 2**30), format_bytes(1536), format_bytes(None)
    ('3.0 GiB', '1.5 KiB', 'unknown')
    """
    if size is None:
        return "unknown"
    power = int(np.clip(np.log2(max(size, 1)) // 10, 0, 4))
    return f"{size / 1024**power:.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def together(candidates, alone):
    """Lists of candidates that share memory and are timed in turn: all of them, or each alone."""
    if alone:
        return [[each] for each in candidates]
    return [candidates] if candidates else []


def is_large(config):
    """True if the models of a `BenchmarkConfig` are measured one after another."""
    return retnet_parameters(config.run("retnet").retnet) > LARGE
