"""The figures of the benchmark's sections; each draws every measured row of a results file."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from ..models.registry import MODELS
from .kernel_floor import BOTH, FORWARD, SHAPES
from .rows import colour, kernel_label, kernel_of, label, with_identity
from .timing import MEASURED

COLOURS = {model.label: model.colour for model in MODELS.values()}
MARKERS = "osD^vP*X"


def training_figure(results):
    """Tokens a second of a training step, a panel a length on one scale, with the memory it takes."""
    rows = measured_rows(results)
    times = sorted({row["time"] for row in rows})
    names = list(dict.fromkeys(map(label, rows)))
    figure = Figure(figsize=(3.2 + 4.2 * len(times), 1.4 + 0.34 * len(names)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15)  # inches, beside the longest name
    panels = figure.subplots(1, len(times), sharex=True, sharey=True, squeeze=False)[0]
    for panel, time in zip(panels, times, strict=True):
        for row in (row for row in rows if row["time"] == time):
            i, rate = names.index(label(row)), row["tokens_per_second"]
            panel.barh(i, rate, color=colour(row), edgecolor="white", hatch="//" if row["compiled"] else None)
            memory = "" if row["peak_bytes"] is None else f", {row['peak_bytes'] / 2**30:.1f} GiB"
            panel.text(rate, i, f" {rate:,.0f}{memory}", va="center", fontsize=8)
        for name in set(names) - {label(row) for row in rows if row["time"] == time}:
            panel.text(0, names.index(name), " not measured", va="center", fontsize=8, color="gray")
        panel.set(title=f"T = {time:,}", xlabel="tokens/s", yticks=range(len(names)))
        panel.set_yticklabels(names)
        panel.margins(x=0.4)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        panel.set_xlim(left=0)
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    panels[0].invert_yaxis()
    figure.suptitle(
        f"Training: {title(results, rows)}, {results['settings']['tokens']:,} tokens a step; hatched: torch.compile",
        fontsize=10,
    )
    return figure


def decoding_figure(results):
    """Tokens a second against context, a column a batch; below, memory, or how many sequences fit."""
    rows = measured_rows(results)
    columns = list(dict.fromkeys("largest" if row["largest"] else row["batch"] for row in rows))
    styles = {name: style(row, number) for number, (name, row) in enumerate({label(row): row for row in rows}.items())}
    figure = Figure(figsize=(1.6 + 4.4 * len(columns), 8.4), layout="constrained")
    panels = figure.subplots(2, len(columns), sharex=True, squeeze=False)
    for (above, below), column in zip(panels.T, columns, strict=True):
        here = [row for row in rows if ("largest" if row["largest"] else row["batch"]) == column]
        size = "past_bytes" if any(row["peak_bytes"] is None for row in here) else "peak_bytes"
        unit, scale = ("GiB", 2**30) if max(row[size] for row in here) >= 2**30 else ("MiB", 2**20)
        for name in dict.fromkeys(map(label, here)):
            line = sorted((row for row in here if label(row) == name), key=lambda row: row["context"])
            contexts = [row["context"] for row in line]
            rate = np.array([row["tokens_per_second"] for row in line])
            fastest, slowest = (
                rate * [row["seconds"]["median"] / row["seconds"][end] for row in line] for end in ("min", "max")
            )
            above.errorbar(contexts, rate, yerr=[rate - slowest, fastest - rate], capsize=2, label=name, **styles[name])
            sizes = [row["batch"] if column == "largest" else row[size] / scale for row in line]
            below.plot(contexts, sizes, label=name, **styles[name])
        heading, ylabel = f"batch {column}", {"peak_bytes": "peak memory", "past_bytes": "state or cache"}[size]
        ylabel = f"{ylabel}, {unit}"
        if column == "largest":
            heading, ylabel = "as many sequences as fit", "sequences"
            for limit in dict.fromkeys(row["limit"] for row in here if row["limit"] != "memory"):
                heading += f"\nor as {limit} takes"
        above.set(title=heading, ylabel="tokens/s", xscale="log", yscale="log")
        below.set(xlabel="context, tokens", ylabel=ylabel, xscale="log", yscale="log")
        ticks = sorted({row["context"] for row in here})
        below.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45)
        for panel in (above, below):
            low, high = panel.get_ylim()
            # A short axis holds only one of 1, 2 and 5.
            steps = (1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 6, 8)
            panel.yaxis.set_major_locator(LogLocator(subs=steps) if high > 2 * low else MaxNLocator(5))
            panel.minorticks_off()
            panel.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}")
            panel.grid(alpha=0.3)
    handles = [Line2D([], [], label=name, **kind) for name, kind in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle(f"Decoding: {title(results, rows)}")
    return figure


def style(row, number):
    """The style of a row's curve; later ones are thinner, with other hollow markers, so that all curves stay visible."""
    return {
        "color": colour(row), "marker": MARKERS[number % len(MARKERS)], "markersize": max(4.0, 10.0 - 1.5 * number),
        "markerfacecolor": "none", "linewidth": max(1.0, 3.2 - 0.7 * number), "linestyle": "--" if row["compiled"] else "-",
    }  # fmt: skip


def kernels_figure(results):
    """Time over the floor of retention against T, a column a shape; dashed as a CUDA graph, dotted attention's own floor."""
    rows = [row for row in measured_rows(results) if row["what"] in (FORWARD, BOTH)]
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    kernels = {kernel_of(row): colour(row) for row in rows}
    figure = Figure(figsize=(1.6 + 4.6 * max(1, len(shapes)), 8.0), layout="constrained")
    panels = figure.subplots(2, max(1, len(shapes)), sharex="col", squeeze=False)
    for what, line_of_panels in zip((FORWARD, BOTH), panels, strict=True):
        for shape, panel in zip(shapes, line_of_panels, strict=False):  # without shapes, one empty panel
            here = [row for row in rows if (row["shape"], row["what"]) == (shape, what) and row["floor_seconds"]]
            floors = {row["time"]: row["floor_seconds"] for row in here if row["retention"]}
            for kernel, graph in dict.fromkeys((kernel_of(row), row["cuda_graph"]) for row in here):
                line = [row for row in here if (kernel_of(row), row["cuda_graph"]) == (kernel, graph)]
                line = sorted((row for row in line if row["time"] in floors), key=lambda row: row["time"])
                low, middle, high = (
                    np.array([row["seconds"][end] / floors[row["time"]] for row in line])
                    for end in ("min", "median", "max")
                )
                panel.errorbar(
                    [row["time"] for row in line], middle, yerr=[middle - low, high - middle], color=kernels[kernel],
                    marker=MARKERS[list(kernels).index(kernel)], markersize=6, markerfacecolor="none" if graph else None,
                    capsize=2, linestyle="--" if graph else "-",
                    label=kernel_label(kernel) + (", CUDA graph" if graph else ""),
                )  # fmt: skip
            attention = {row["time"]: row["floor_seconds"] for row in here if row["attention"]}
            times = sorted(attention.keys() & floors)
            panel.plot(times, [attention[t] / floors[t] for t in times], label="attention's own floor", **OWN_FLOOR)
            panel.axhline(1.0, **FLOOR)
            ticks = sorted(floors)
            panel.set(xscale="log", yscale="log", ylabel="time over retention's floor")
            panel.set(title=f"{SHAPES[shape]}: {what}", xlabel="T" if what == BOTH else "")
            panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45)
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
            panel.minorticks_off()
            panel.grid(alpha=0.3)
    # One entry for each kernel and each kind of line, instead of one for each pair.
    handles = [
        Line2D([], [], color=shade, marker=MARKERS[number], label=kernel_label(kernel))
        for number, (kernel, shade) in enumerate(kernels.items())
    ]
    if any(row["cuda_graph"] for row in rows):
        handles.append(Line2D([], [], color="black", linestyle="--", label="dashed, hollow: the same as a CUDA graph"))
    handles += [
        Line2D([], [], label="floor of retention", **FLOOR),
        Line2D([], [], label="attention's own", **OWN_FLOOR),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle(
        f"One retention alone: {results['device']}, bfloat16\n"
        "Floor: its operations at the rate of a matrix product, or its bytes at that of a copy, whichever takes longer",
        fontsize=11,
    )
    return figure


FLOOR = {"color": "black", "linewidth": 0.8}
OWN_FLOOR = {"color": "gray", "linestyle": ":"}


def measured_rows(results):
    """The rows that were measured, with their identity."""
    return [with_identity(row) for row in results["rows"] if row["status"] == MEASURED]


def title(results, rows):
    """The device and the sizes of the models."""
    shape = results["settings"]
    sizes = sorted({round(row["parameters"] / 1e6, 1) for row in rows})
    parameters = f"{sizes[0]:g}" if len(sizes) == 1 else f"{sizes[0]:g} to {sizes[-1]:g}"
    return f"{results['device']}, {parameters} M parameters, d {shape['dim']}, {shape['num_layers']} layers"
