"""Figures of benchmark results, drawn from their files alone."""

import io
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from refimpl.files import write_atomically

from ..bench.kernels import ATTENTION, BOTH, FORWARD, OURS, REFERENCE, SHAPES
from ..bench.timing import MEASURED
from ..kernels.registry import FLA

COLOURS = {
    "RetNet": "#0072b2",
    "RetNet, fused": "#56b4e9",
    f"RetNet, {FLA}": "#cc79a7",
    "Transformer": "#d55e00",
    "Transformer, grouped": "#e69f00",
    "GRU": "#009e73",
    OURS: "#56b4e9",
    FLA: "#009e73",
    **dict(zip(ATTENTION, ("#d55e00", "#e69f00"), strict=True)),
    REFERENCE: "#0072b2",
}


def draw(folder):
    """Draw every results file of a folder beside it; returns the paths. FileNotFoundError if there is none."""
    paths = []
    for section, figure in FIGURES.items():
        source = Path(folder) / f"{section}.json"
        if source.exists():
            results = json.loads(source.read_text(encoding="utf-8"))
            if any(row["status"] == MEASURED for row in results["rows"]):
                png = io.BytesIO()
                figure(results).savefig(png, format="png", dpi=130)
                paths.append(source.with_suffix(".png"))
                write_atomically(paths[-1], png.getvalue())
    if not paths:
        names = " or ".join(f"{section}.json" for section in FIGURES)
        raise FileNotFoundError(f"draw: there is no {names} with a measured row in {str(folder)!r}")
    return paths


def decoding_figure(results):
    """Tokens a second against context, a column a batch; below, memory, or how many sequences fit."""
    rows = [row for row in results["rows"] if row["status"] == MEASURED]
    columns = list(dict.fromkeys("largest" if row["largest"] else row["batch"] for row in rows))
    figure = Figure(figsize=(1.2 + 3.4 * len(columns), 6.4), layout="constrained")
    panels = figure.subplots(2, len(columns), sharex=True, squeeze=False)
    for (above, below), column in zip(panels.T, columns, strict=True):
        here = [row for row in rows if ("largest" if row["largest"] else row["batch"]) == column]
        size = "past_bytes" if any(row["peak_bytes"] is None for row in here) else "peak_bytes"
        unit, scale = ("GiB", 2**30) if max(row[size] for row in here) >= 2**30 else ("MiB", 2**20)
        for name, compiled in dict.fromkeys((row["name"], row["compiled"]) for row in here):
            line = sorted(
                (row for row in here if (row["name"], row["compiled"]) == (name, compiled)),
                key=lambda row: row["context"],
            )
            contexts = [row["context"] for row in line]
            style = {
                "color": COLOURS.get(name), "marker": "o", "markersize": 4, "linestyle": "--" if compiled else "-",
                "label": name + (", compiled" if compiled else ""),
            }  # fmt: skip
            rate = [row["tokens_per_second"] for row in line]
            spread = [  # the slowest and the fastest round
                [rate[i] * (1 - row["seconds"]["median"] / row["seconds"]["max"]) for i, row in enumerate(line)],
                [rate[i] * (row["seconds"]["median"] / row["seconds"]["min"] - 1) for i, row in enumerate(line)],
            ]
            above.errorbar(contexts, rate, yerr=spread, capsize=2, **style)
            if column == "largest":
                below.plot(contexts, [row["batch"] for row in line], **style)
            else:
                below.plot(contexts, [row[size] / scale for row in line], **style)
        title = "as many sequences as fit" if column == "largest" else f"batch {column}"
        if column == "largest":
            limits = dict.fromkeys(row["limit"] for row in here if row["limit"] != "memory")
            title += "".join(f"\nor as {limit} takes" for limit in limits)
        above.set(title=title, ylabel="tokens/s", xscale="log", yscale="log")
        words = {"peak_bytes": "peak memory", "past_bytes": "state or cache"}[size] + f", {unit}"
        words = "sequences" if column == "largest" else words
        below.set(xlabel="context, tokens", ylabel=words, xscale="log", yscale="log")
        ticks = sorted({row["context"] for row in here})
        below.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45)
        for panel in (above, below):
            low, high = panel.get_ylim()
            steps = (1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 6, 8)  # of which a short axis holds but one
            panel.yaxis.set_major_locator(LogLocator(subs=steps) if high > 2 * low else MaxNLocator(5))
            panel.minorticks_off()
            panel.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}")
            panel.grid(alpha=0.3)
    curves = {
        label: curve for panel in panels[0] for curve, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(curves.values(), curves.keys(), loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(_title(results, rows), fontsize=10)
    return figure


def training_figure(results):
    """Tokens a second of a training step, a panel a length, with the memory it takes."""
    rows = [row for row in results["rows"] if row["status"] == MEASURED]
    times = sorted({row["time"] for row in rows})
    names = list(dict.fromkeys(_label(row) for row in rows))
    figure = Figure(figsize=(4.0 + 3.4 * len(times), 1.4 + 0.32 * len(names)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15)  # inches, beside the longest name
    panels = figure.subplots(1, len(times), sharey=True, squeeze=False)[0]
    for panel, time in zip(panels, times, strict=True):
        for row in (row for row in rows if row["time"] == time):
            i, rate = names.index(_label(row)), row["tokens_per_second"]
            colour = COLOURS.get(row["name"], COLOURS.get(row["name"].split(",")[0]))
            panel.barh(i, rate, color=colour, edgecolor="white", hatch="//" if row["compiled"] else None)
            memory = "" if row["peak_bytes"] is None else f"  {row['peak_bytes'] / 2**30:.1f} GiB"
            panel.text(rate, i, f" {rate:,.0f}{memory}", va="center", fontsize=8)
        panel.set(title=f"T = {time:,}", xlabel="tokens/s", yticks=range(len(names)))
        panel.set_yticklabels(names)
        panel.margins(x=0.6)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        panel.set_xlim(left=0)
    panels[0].invert_yaxis()
    figure.suptitle(f"{_title(results, rows)}, {results['settings']['tokens']:,} tokens a step", fontsize=10)
    return figure


def kernels_figure(results):
    """Time over the floor of retention against T, a column a shape, dashed as a CUDA graph.

    Dotted, the floor of attention over the same.
    """
    rows = [row for row in results["rows"] if row["status"] == MEASURED and row["what"] in (FORWARD, BOTH)]
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    figure = Figure(figsize=(1.2 + 3.8 * len(shapes), 6.4), layout="constrained")
    panels = figure.subplots(2, max(1, len(shapes)), sharex="col", squeeze=False)
    for what, line_of_panels in zip((FORWARD, BOTH), panels, strict=True):
        for shape, panel in zip(shapes, line_of_panels, strict=False):  # no shape, an empty panel
            here = [row for row in rows if (row["shape"], row["what"]) == (shape, what) and row["floor_seconds"]]
            floors = {row["time"]: row["floor_seconds"] for row in here if row["name"] not in ATTENTION}
            for name, graph in dict.fromkeys((row["name"], row["cuda_graph"]) for row in here):
                line = [row for row in here if (row["name"], row["cuda_graph"]) == (name, graph)]
                line = sorted((row for row in line if row["time"] in floors), key=lambda row: row["time"])
                low, middle, high = (
                    np.array([row["seconds"][end] / floors[row["time"]] for row in line])
                    for end in ("min", "median", "max")
                )
                times = [row["time"] for row in line]
                style = {
                    "color": COLOURS[name], "marker": "s" if graph else "o", "markersize": 4, "capsize": 2,
                    "linestyle": "--" if graph else "-", "label": name + (", CUDA graph" if graph else ""),
                }  # fmt: skip
                panel.errorbar(times, middle, yerr=[middle - low, high - middle], **style)
            attention = {row["time"]: row["floor_seconds"] for row in here if row["name"] in ATTENTION}
            times = sorted(attention.keys() & floors)
            panel.plot(
                times,
                [attention[t] / floors[t] for t in times],
                color="gray",
                linestyle=":",
                label="attention's own floor",
            )
            panel.axhline(1.0, color="black", linewidth=0.8)
            ticks = sorted(floors)
            panel.set(xscale="log", yscale="log", ylabel="time over retention's floor")
            panel.set(title=f"{SHAPES[shape]}: {what}", xlabel="T" if what == BOTH else "")
            panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45)
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
            panel.minorticks_off()
            panel.grid(alpha=0.3)
    curves = {
        label: curve for panel in panels.flat for curve, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(curves.values(), curves.keys(), loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(f"{results['device']}, bfloat16", fontsize=10)
    return figure


def _label(row):
    return row["name"] + (", compiled" if row["compiled"] else "")


def _title(results, rows):
    shape = results["settings"]
    sizes = sorted({round(row["parameters"] / 1e6, 1) for row in rows})
    parameters = f"{sizes[0]:g}" if len(sizes) == 1 else f"{sizes[0]:g} to {sizes[-1]:g}"
    return f"{results['device']}: {parameters} M parameters, d {shape['dim']}, {shape['num_layers']} layers"


FIGURES = {"training": training_figure, "decoding": decoding_figure, "kernels": kernels_figure}
