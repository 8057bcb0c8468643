"""The figure of the forms: the share of the matrix-product peak that each reaches, a panel a length."""

import json
from pathlib import Path

from ..files import save_figure

COLOURS = {"NumPy": "#8c8c8c", "Numba": "#0072b2", "torch": "#009e73", "torchscale": "#cc79a7"}
OTHER = "#e69f00"


def draw(source):
    """Draw a results file beside it, as PNG; returns the path. Needs Matplotlib."""
    source = Path(source)
    results = json.loads(source.read_text(encoding="utf-8"))
    save_figure(source.with_suffix(".png"), figure(results))
    return source.with_suffix(".png")


def figure(results):
    """The results as a Matplotlib figure: bars grouped by library, with share and time; what was not timed says so."""
    from matplotlib.figure import Figure

    times = sorted({row["time"] for row in results["rows"]})
    libraries = {row["name"]: library_of(row) for row in results["rows"]}
    # One line for each form, and half a line more between libraries.
    order = sorted(libraries, key=lambda name: list(libraries.values()).index(libraries[name]))
    places, place, before = {}, 0.0, libraries[order[0]]
    for name in order:
        place += 0.5 * (libraries[name] != before)
        places[name], place, before = place, place + 1, libraries[name]
    canvas = Figure(figsize=(2.6 + 2.9 * len(times), 1.3 + 0.24 * place), layout="constrained")
    canvas.get_layout_engine().set(wspace=0.06)
    panels = canvas.subplots(1, len(times), sharey=True, squeeze=False)[0]
    for panel, length in zip(panels, times, strict=True):
        rows = {row["name"]: row for row in results["rows"] if row["time"] == length}
        for name, y in places.items():
            if name in rows:
                _bar(panel, y, rows[name]["share_of_peak"], rows[name]["seconds"], COLOURS.get(libraries[name], OTHER))
            else:
                panel.text(0.01, y, "not timed", va="center", fontsize=8, style="italic", color="0.45")
        panel.set(title=f"T = {length:,}", xlim=(0, 1), ylim=(place - 0.4, -0.6), xticks=(0, 0.25, 0.5, 0.75, 1))
        panel.set_yticks(list(places.values()), labels=places)
        panel.tick_params(axis="y", length=0)
        panel.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    shape = results["shape"]
    canvas.suptitle(
        f"One retention of {shape['heads']} heads, K = {shape['key_dim']}, V = {shape['value_dim']}, float32, "
        f"{results['machine']['cores']} cores",
        fontsize=11,
    )
    canvas.supxlabel(
        "useful operations a second, as a share of the peak of a float32 matrix product (longer is faster)", fontsize=9
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
