"""The figures of the benchmark's sections; each draws every measured row of a results file, for a page 700 pixels wide."""

from textwrap import fill

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from refimpl.bench.drawing import PAGE, WIDTH, name_lines

from ..models.registry import MODELS
from .kernel_floor import BOTH, FORWARD, SHAPES
from .rows import colour, kernel_label, kernel_of, label, with_identity
from .timing import MEASURED

COLOURS = {model.label: model.colour for model in MODELS.values()}
MARKERS = "osD^vP*X"
INK = "0.15"
on_a_page = rc_context(PAGE)  # a decorator for functions that draw


@on_a_page
def training_figure(results):
    """Tokens a second of a training step, a panel a length on one scale, fastest first, with the memory it takes."""
    rows = measured_rows(results)
    times = sorted({row["time"] for row in rows})
    names = list(dict.fromkeys(map(label, rows)))
    figure = Figure(figsize=(WIDTH, 0.7 + len(times) * (0.6 + 0.21 * len(names))), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)  # inches, beside the longest name
    panels = figure.subplots(len(times), 1, sharex=True, squeeze=False)[:, 0]
    for panel, time in zip(panels, times, strict=True):
        here = sorted((row for row in rows if row["time"] == time), key=lambda row: -row["tokens_per_second"])
        for i, row in enumerate(here):
            rate = row["tokens_per_second"]
            panel.barh(i, rate, color=colour(row), edgecolor="white", hatch="///" if row["compiled"] else None)
            memory = "" if row["peak_bytes"] is None else f", {row['peak_bytes'] / 2**30:.1f} GiB"
            panel.text(rate, i, f" {rate:,.0f}{memory}", va="center", fontsize=8)
        shown = list(map(label, here))
        missing = [name for name in names if name not in shown]
        for i, _ in enumerate(missing, len(shown)):
            panel.text(0, i, " not measured", va="center", fontsize=8, color="0.4")
        panel.set(title=f"T = {time:,}", yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6))
        panel.set_yticklabels(shown + missing)
        panel.tick_params(axis="y", length=0)
        panel.margins(x=0.3)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        panel.set_xlim(left=0)
        panel.grid(axis="x")
    panels[-1].set_xlabel("tokens/s, and peak memory; hatched: torch.compile; longer is faster")
    figure.suptitle(f"Training: {title(results, rows)}, {results['settings']['tokens']:,} tokens a step")
    return figure


@on_a_page
def decoding_figure(results):
    """Tokens a second against context, a row a batch; beside it, memory, or how many sequences fit."""
    rows = measured_rows(results)
    groups = list(dict.fromkeys("largest" if row["largest"] else row["batch"] for row in rows))
    styles = {name: style(row, number) for number, (name, row) in enumerate({label(row): row for row in rows}.items())}
    figure = Figure(figsize=(WIDTH, 0.5 + 2.5 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 2, squeeze=False)
    for (left, right), group in zip(panels, groups, strict=True):
        here = [row for row in rows if ("largest" if row["largest"] else row["batch"]) == group]
        size = "past_bytes" if any(row["peak_bytes"] is None for row in here) else "peak_bytes"
        unit, scale = ("GiB", 2**30) if max(row[size] for row in here) >= 2**30 else ("MiB", 2**20)
        for name in dict.fromkeys(map(label, here)):
            line = sorted((row for row in here if label(row) == name), key=lambda row: row["context"])
            contexts = [row["context"] for row in line]
            rate = np.array([row["tokens_per_second"] for row in line])
            fastest, slowest = (
                rate * [row["seconds"]["median"] / row["seconds"][end] for row in line] for end in ("min", "max")
            )
            left.errorbar(contexts, rate, yerr=[rate - slowest, fastest - rate], capsize=2, label=name, **styles[name])
            sizes = [row["batch"] if group == "largest" else row[size] / scale for row in line]
            right.plot(contexts, sizes, label=name, **styles[name])
        heading, quantity = f"batch {group}", {"peak_bytes": "peak memory", "past_bytes": "state or cache"}[size]
        quantity = f"{quantity}, {unit}"
        if group == "largest":
            heading, quantity = "as many sequences as fit", "sequences"
            for limit in dict.fromkeys(row["limit"] for row in here if row["limit"] != "memory"):
                heading += f"\nor as {limit} takes"
        left.set(title=heading, ylabel="tokens/s", xscale="log", yscale="log")
        right.set(ylabel=quantity, xscale="log", yscale="log")
        ticks = sorted({row["context"] for row in here})
        # A tick so close to the next that their numbers would touch has none.
        texts = [short(a) if b >= 3 * a else "" for a, b in zip(ticks, [*ticks[1:], np.inf], strict=True)]
        for panel in (left, right):
            panel.set_xticks(ticks, texts)
            low, high = panel.get_ylim()
            # A short axis holds only one of 1, 2 and 5.
            steps = (1, 2, 5) if high > 5 * low else (1, 1.5, 2, 3, 4, 6, 8)
            panel.yaxis.set_major_locator(LogLocator(subs=steps) if high > 2 * low else MaxNLocator(5))
            panel.minorticks_off()
            panel.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}" if y >= 1 else f"{y:g}")
            panel.grid()
    for panel in panels[-1]:
        panel.set_xlabel("context, tokens")
    figure.suptitle(f"Decoding: {title(results, rows)}")
    for panel in panels[:, 1]:
        name_lines(panel, wrapped(panel.lines), fontsize=8, gap=2.4, right=1.06, color=INK)
    return figure


def short(tokens):
    """A number of tokens in few characters.

    >>> short(512), short(65536)
    ('512', '64 Ki')
    """
    return f"{tokens // 1024} Ki" if tokens % 1024 == 0 else f"{tokens}"


def wrapped(lines):
    """Pairs of a name of at most 17 characters a line and its line."""
    return [(fill(line.get_label(), 17), line) for line in lines]


def style(row, number):
    """The style of a row's curve; later ones are thinner, with other hollow markers, so that all curves stay visible."""
    return {
        "color": colour(row), "marker": MARKERS[number % len(MARKERS)], "markersize": max(4.0, 10.0 - 1.5 * number),
        "markerfacecolor": "none", "linewidth": max(1.0, 3.2 - 0.7 * number), "linestyle": "--" if row["compiled"] else "-",
    }  # fmt: skip


@on_a_page
def kernels_figure(results):
    """Time over the least time of retention against T, a column a shape; hollow as a CUDA graph, dotted attention's own."""
    rows = [row for row in measured_rows(results) if row["what"] in (FORWARD, BOTH)]
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    kernels = {kernel_of(row): colour(row) for row in rows}
    figure = Figure(figsize=(WIDTH, 7.4), layout="constrained")
    names = []
    panels = figure.subplots(2, max(1, len(shapes)), sharex="col", sharey="row", squeeze=False)
    for what, line_of_panels in zip((FORWARD, BOTH), panels, strict=True):
        for shape, panel in zip(shapes, line_of_panels, strict=False):  # without shapes, one empty panel
            named = []
            here = [row for row in rows if (row["shape"], row["what"]) == (shape, what) and row["floor_seconds"]]
            floors = {row["time"]: row["floor_seconds"] for row in here if row["retention"]}
            for kernel, graph in dict.fromkeys((kernel_of(row), row["cuda_graph"]) for row in here):
                line = [row for row in here if (kernel_of(row), row["cuda_graph"]) == (kernel, graph)]
                line = sorted((row for row in line if row["time"] in floors), key=lambda row: row["time"])
                low, middle, high = (
                    np.array([row["seconds"][end] / floors[row["time"]] for row in line])
                    for end in ("min", "median", "max")
                )
                shown = panel.errorbar(
                    [row["time"] for row in line], middle, yerr=[middle - low, high - middle], color=kernels[kernel],
                    marker=MARKERS[list(kernels).index(kernel)], markersize=9 if graph else 5, capsize=2,
                    markerfacecolor="none" if graph else None, linestyle="" if graph else "-",
                    label=kernel_label(kernel) + (", CUDA graph" if graph else ""),
                )  # fmt: skip
                named += [] if graph else [(fill(kernel_label(kernel), 16), shown.lines[0])]
            attention = {row["time"]: row["floor_seconds"] for row in here if row["attention"]}
            times = sorted(attention.keys() & floors)
            ratios = [attention[t] / floors[t] for t in times]
            named += [("attention's\nleast time", line) for line in panel.plot(times, ratios, **OWN_FLOOR)]
            panel.axhline(1.0, **FLOOR)
            ticks = sorted(floors)
            panel.set(xscale="log", yscale="log", title=f"{SHAPES[shape]}: {what}")
            panel.set_xticks(ticks, list(map(short, ticks)))
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
            panel.minorticks_off()
            panel.grid()
            if panel is line_of_panels[-1]:
                names.append((panel, named))
        line_of_panels[0].set_ylabel("time / least time of a retention")
    for panel in panels[-1]:
        panel.set_xlabel("T, tokens")
    note = "; hollow: the same as a CUDA graph" if any(row["cuda_graph"] for row in rows) else ""
    figure.suptitle(
        f"One retention alone: {results['device']}, bfloat16{note}\n"
        "1 is the least time that its operations, or its bytes, allow on this GPU; lower is faster"
    )
    for panel, named in names:
        name_lines(panel, named, fontsize=8, gap=2.4, right=1.06, color=INK)
    return figure


@on_a_page
def processes_figure(results):
    """Efficiency of several processes against the window, a colour a parallelism: as many tokens each, and the same batch."""
    rows = [row for row in results["rows"] if "tokens/s, one process" in row]
    size = results["processes"]
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    panel, named = figure.subplots(), []
    for number, kind in enumerate(dict.fromkeys(row["what"] for row in rows)):
        for weak in (True, False):
            points = [
                (row["window"], share, *(row.get(name.replace("efficiency", "efficiency from, to")) or [share, share]))
                for row in rows
                for name, share in row.items()
                if row["what"] == kind and name.startswith("efficiency, ") and share is not None
                if weak == (name != "efficiency, same batch")
            ]
            if not points:
                continue
            x, share, low, high = np.array(sorted(points)).T
            shown = panel.errorbar(
                x, share, yerr=np.maximum([share - low, high - share], 0.0), color=PARALLEL_COLOURS[number % 3], capsize=2,
                marker=MARKERS[number], linestyle="-" if weak else ":", markerfacecolor=None if weak else "none",
            )  # fmt: skip
            named += [(kind.removeprefix("scaling, "), shown.lines[0])] if weak else []
    ticks = sorted({row["window"] for row in rows})
    panel.set(xscale="log", xlabel="window, tokens", ylabel=f"speed / {size} times one GPU's", ylim=(0, 1.1))
    panel.set_xticks(ticks, list(map(short, ticks)))
    panel.yaxis.set_major_formatter(lambda y, _: f"{y:.0%}")
    panel.minorticks_off()
    panel.axhline(1.0, **FLOOR)
    panel.grid()
    figure.suptitle(
        f"Training on {size} GPUs ({results['device']}), higher is better\nfilled: as many tokens each; hollow: the same batch"
    )
    name_lines(panel, named, fontsize=8, gap=2.4, right=1.06, color=INK)
    return figure


PARALLEL_COLOURS = ("#0072b2", "#d55e00", "#009e73")
FLOOR = {"color": "black", "linewidth": 1.2}
OWN_FLOOR = {"color": "0.4", "linestyle": ":", "label": "attention's own floor"}


def measured_rows(results):
    """The rows that were measured, with their identity."""
    return [with_identity(row) for row in results["rows"] if row["status"] == MEASURED]


def title(results, rows):
    """The device and the sizes of the models."""
    shape = results["settings"]
    sizes = sorted({round(row["parameters"] / 1e6, 1) for row in rows})
    parameters = f"{sizes[0]:g}" if len(sizes) == 1 else f"{sizes[0]:g} to {sizes[-1]:g}"
    return f"{results['device']}, {parameters} M parameters, d {shape['dim']}, {shape['num_layers']} layers"
