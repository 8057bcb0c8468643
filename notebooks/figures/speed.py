"""Lesson 11: measured times beside the predicted ones. A colour is a form, as in the lesson's picture to move."""

import numpy as np

from .style import BLUE, GREEN, INK, ORANGE, PALE, name_lines, new_picture, panels, styled

COLORS = {"recurrent": ORANGE, "parallel": GREEN, "chunkwise": BLUE}
TINTS = {"recurrent": "#EBC6AC", "parallel": "#A9D6C6", "chunkwise": "#A9CBE3"}
MARKS = ("none", 12), ("full", 5)  # how a ring and a dot look


@styled
def against_limits(measured, kernel, with_steps, title=""):
    """A bar for each form, from the left to its measured milliseconds, with a tick at each prediction; the axis is logarithmic.

    measured, kernel, with_steps: {name: milliseconds}, from top to bottom; the second is predicted without Python's steps,
    the third with them, for the forms that have any. The last word of a name is its form: "recurrent", "parallel", "chunkwise".
    """
    said = f"A bar of the measured milliseconds of each form ({', '.join(measured)}) on a logarithmic axis, with ticks at its "
    said += "predictions without and with Python's steps; the numbers are those that the lesson prints."
    picture = new_picture(7.2, 3.2, said, layout="constrained")
    ax = picture.subplots()
    ax.set_xscale("log")
    low, rows = 0.6 * min(*measured.values(), *kernel.values()), list(measured)
    tints = [TINTS[name.split()[-1]] for name in rows]
    ax.barh(rows, [ms - low for ms in measured.values()], left=low, height=0.55, color=tints)
    for dashes, label, ticks in (("-", "predicted", kernel), ((0, (2, 1)), "with Python's steps", with_steps)):
        places = [rows.index(name) for name in ticks]
        ax.vlines(
            list(ticks.values()), [y - 0.4 for y in places], [y + 0.4 for y in places], color=INK, linestyle=dashes,
            linewidth=2.4, label=label,
        )  # fmt: skip
    for row, (name, ms) in enumerate(measured.items()):
        right = max(ms, *(ticks.get(name, 0) for ticks in (kernel, with_steps)))
        ax.annotate(f"{ms:.2f} ms", (right, row), (5, 0), textcoords="offset points", va="center", color=INK)
    highest = max(*measured.values(), *with_steps.values())
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low < tick < 1.8 * highest]
    ax.minorticks_off()
    ax.set(xlim=(low, 1.8 * highest), xticks=ticks, xticklabels=[f"{tick:g}" for tick in ticks], title=title)
    ax.set_xlabel("milliseconds: bars measured (fastest round), ticks predicted")
    ax.invert_yaxis()
    ax.grid(axis="x", color=PALE)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    picture.legend(loc="outside lower right", ncols=2)
    return picture


@styled
def by_chunk_size(sizes, measured, predicted, titles):
    """A panel for each library: microseconds a token against the chunk size, a line for each width, both axes logarithmic.

    measured: {library: {width: microseconds}}, each as long as sizes; predicted: {library: {width: best size}}; titles:
    {library: title}. A ring stands at the fastest size of a line, a dot at the predicted size.
    """
    said = f"Microseconds of the chunkwise form a token against the chunk size from {sizes[0]} to {sizes[-1]}, a panel for each "
    said += f"of {' and '.join(measured)} and a line for each width of a key: wide valleys, each with a dot at its predicted "
    said += "size and a ring at its fastest size."
    picture = new_picture(7.2, 3.3, said, layout="constrained")
    axes = panels(picture, list(measured), sharey=True)
    for ax, (library, lines) in zip(axes, measured.items(), strict=True):
        ax.set(xscale="log", yscale="log", title=titles[library], xlabel="chunk size C")
        for (width, each), dashes in zip(lines.items(), ("--", "-"), strict=True):
            ax.plot(sizes, each, color=BLUE, linestyle=dashes, label=f"K = {width}")
            fastest = min(range(len(sizes)), key=each.__getitem__)
            ax.plot(sizes[fastest], each[fastest], "o", color=INK, fillstyle="none", markersize=12)
            ax.plot(
                predicted[library][width],
                _between(sizes, each, predicted[library][width]),
                "o",
                color=INK,
                markersize=5,
            )
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        ax.grid(color=PALE)
    low, high = axes[0].get_ylim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low < tick < high]
    axes[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0].set_ylabel("µs a token, fastest round")
    ring, dot = (axes[0].plot([], [], "o", color=INK, fillstyle=fill, markersize=size)[0] for fill, size in MARKS)
    picture.legend([ring, dot], ["fastest size", "predicted size"], loc="outside lower right", ncols=2)
    for ax in axes:
        name_lines(ax)
    return picture


def _between(sizes, each, size):
    """The height of a line at a size between its points, as it is drawn between logarithmic axes."""
    return np.exp(np.interp(np.log(size), np.log(sizes), np.log(each)))
