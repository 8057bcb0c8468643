"""The figure of the forms: the share of the matrix-product peak that each reaches, a panel a length, fastest first."""

import json
from pathlib import Path
from textwrap import fill

from ..files import save_figure
from .drawing import PAGE, WIDTH

COLOURS = {"NumPy": "#6f6f6f", "Numba": "#0072b2", "torch": "#007f5c", "torchscale": "#b0558a"}
OTHER = "#e69f00"


def draw(source):
    """Draw a results file beside it, as PNG; returns the path. Needs Matplotlib."""
    source = Path(source)
    results = json.loads(source.read_text(encoding="utf-8"))
    save_figure(source.with_suffix(".png"), figure(results))
    return source.with_suffix(".png")


def figure(results):
    """The results as a Matplotlib figure: a panel a length, fastest first; what was not timed says so."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    times = sorted({row["time"] for row in results["rows"]})
    names = list(dict.fromkeys(row["name"] for row in results["rows"]))
    with rc_context(PAGE):
        canvas = Figure(figsize=(WIDTH, 1.1 + 0.6 * len(times) + 0.19 * len(results["rows"])), layout="constrained")
        counts = [sum(row["time"] == length for row in results["rows"]) for length in times]
        grid = {"height_ratios": counts}
        panels = canvas.subplots(len(times), 1, sharex=True, squeeze=False, gridspec_kw=grid)[:, 0]
        for panel, length in zip(panels, times, strict=True):
            rows = [row for row in results["rows"] if row["time"] == length]
            rows.sort(key=lambda row: -row["share_of_peak"])
            for y, row in enumerate(rows):
                _bar(panel, y, row["share_of_peak"], row["seconds"], COLOURS.get(library_of(row), OTHER))
            shown = [row["name"] for row in rows]
            missing = [name for name in names if name not in shown]
            note = "\n" + fill(f"not timed: {'; '.join(missing)}", 78) if missing else ""
            panel.set(title=f"T = {length:,}{note}", xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
            panel.set_xticks((0, 0.25, 0.5, 0.75, 1))
            panel.set_yticks(range(len(rows)), labels=shown)
            panel.tick_params(axis="y", length=0)
            panel.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
            panel.grid(axis="x")
        shape = results["shape"]
        canvas.suptitle(
            f"One retention of {shape['heads']} heads, K = {shape['key_dim']}, V = {shape['value_dim']}, float32, "
            f"{results['machine']['cores']} cores"
        )
        panels[-1].set_xlabel(
            "useful operations a second, as a share of the peak of a float32 matrix product\n(longer is faster)"
        )
    return canvas


def library_of(row):
    """The library of a row; files written before rows had the field name it first in the name."""
    return row.get("library") or row["name"].split()[0].rstrip(",")


def _bar(panel, y, share, seconds, colour):
    """A bar with its numbers, inside where there is no room beside it; a share beyond the peak fills the panel."""
    end, inside = min(share, 1.0), share > 0.65
    panel.barh(y, end, height=0.8, color=colour)
    panel.text(
        end, y, f" {share:.0%}, {seconds * 1e3:.3g} ms ", va="center", ha="right" if inside else "left", fontsize=8,
        color="white" if inside else "black",
    )  # fmt: skip
