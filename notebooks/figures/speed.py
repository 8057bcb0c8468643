"""Lesson 11: measured times, in lines and beside the predicted ones. A colour is a form, as in the lesson's picture to move."""

import numpy as np

from refimpl.bench.timing import processor_seconds, time_calls

from .style import BLUE, GREEN, INK, ORANGE, PALE, name_lines, new_picture, panels, styled

COLORS = {"recurrent": ORANGE, "parallel": GREEN, "chunkwise": BLUE}
TINTS = {"recurrent": "#EBC6AC", "parallel": "#A9D6C6", "chunkwise": "#A9CBE3"}
FLAT = 0.15  # how much longer than the fastest size a size may take to lie in the flat part of a valley
MARKS = ("none", 12), ("full", 5)  # how a ring and a dot look


def timed(calls, rounds=11, than=None, shown=True):
    """{name: seconds} of the fastest round of each call, on one thread, in processor time, which leaves other programs out.

    shown: whether it prints, or the names that it prints. A line says the fastest round, and how many times as long it takes
    as the call named `than`; the last line says how far the medians lie above the fastest rounds. A name is a word, or a
    word and a number of tokens.
    """
    seconds = time_calls(calls, rounds, processor_seconds)
    fastest = {name: min(each) for name, each in seconds.items()}
    names = (list(calls) if shown is True else shown) or ()
    for name in names:
        ratio = f", {fastest[name] / fastest[than]:.1f} times {_said(than)}" if than else ""
        print(f"measured: {_said(name):21} {1e3 * fastest[name]:6.2f} ms{ratio}")
    if names:
        above = max(np.median(seconds[name]) / fastest[name] - 1 for name in names)
        print(f"measured: medians lie up to {above:.0%} above the fastest rounds")
    return fastest


def _said(name):
    return name if isinstance(name, str) else f"{name[0]}, {name[1]} tokens"


@styled
def against_limits(measured, without_steps, with_steps, gaps, title=""):
    """A point at the measured milliseconds of each form, joined to a tick at each prediction; the axis is logarithmic.

    measured, without_steps, with_steps: {name: milliseconds}, from top to bottom; the second is predicted without Python's steps,
    the third with them, for the forms that have any. gaps: {name: what fills each gap, from the first tick to the point}.
    The last word of a name is its form: "recurrent", "parallel", "chunkwise".
    """
    said = f"The measured milliseconds of each form ({', '.join(measured)}) as points on a logarithmic axis, joined to ticks at "
    said += (
        "their predictions without and with Python's steps; the numbers are those that the lesson prints. The gaps: "
    )
    said += "; ".join(f"{name}: {', '.join(filter(None, causes))}" for name, causes in gaps.items()) + "."
    picture = new_picture(7.2, 3.4, said, layout="constrained")
    ax = picture.subplots()
    ax.set_xscale("log")
    rows = list(measured)
    for row, (name, ms) in enumerate(measured.items()):
        stops = [each[name] for each in (without_steps, with_steps, measured) if name in each]
        form = name.split()[-1]
        ax.plot([min(stops), max(stops)], [row, row], color=TINTS[form], linewidth=5, solid_capstyle="butt", zorder=1)
        ax.plot(ms, row, "o", color=COLORS[form], markersize=9)
        for cause, left, right in zip(gaps.get(name, ()), stops, stops[1:], strict=False):
            ax.annotate(
                cause, (np.sqrt(left * right), row), (0, 10), textcoords="offset points", ha="center", fontsize=8
            )
        beside = {"xytext": (9, 0)} if ms == max(stops) else {"xytext": (-9, 0), "ha": "right"}  # off the bar
        ax.annotate(f"{ms:.2f} ms", (ms, row), textcoords="offset points", va="center", color=INK, **beside)
    for dashes, label, ticks in (
        ("-", "without Python's steps", without_steps),
        ((0, (2, 1)), "with Python's steps", with_steps),
    ):
        places = [rows.index(name) for name in ticks]
        ax.vlines(
            list(ticks.values()), [y - 0.2 for y in places], [y + 0.3 for y in places], color=INK, linestyle=dashes,
            linewidth=2.4, label=label,
        )  # fmt: skip
    low, high = (
        0.6 * min(*measured.values(), *without_steps.values()),
        1.8 * max(*measured.values(), *with_steps.values()),
    )
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low < tick < high]
    ax.minorticks_off()
    ax.set(xlim=(low, high), xticks=ticks, xticklabels=[f"{tick:g}" for tick in ticks], title=title)
    ax.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.6))
    ax.set_xlabel("milliseconds (points measured, ticks predicted); lengths are ratios, not ms")
    ax.grid(axis="x", color=PALE)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    picture.legend(loc="outside lower right", ncols=2)
    return picture


@styled
def by_length(lengths, measured, title):
    """Milliseconds against the length of the text, a line for each form, both axes logarithmic: NumPy's are dashed.

    Two dotted guides with the slopes of T and T² start on the steepest line, one length before the last.

    measured: {name: milliseconds}, each as long as lengths; a name is a library and a form.
    """
    said = f"Milliseconds against T, {lengths[0]:,} to {lengths[-1]:,} tokens, on logarithmic axes, of {', '.join(measured)}: "
    said += (
        "the line of NumPy's parallel form ends steeper than all others. Two dotted guides start on it, with the slopes of "
        "T and T²."
    )
    picture = new_picture(7.2, 3.4, said, layout="constrained")
    ax = picture.subplots()
    ax.set(xscale="log", yscale="log", title=title, xlabel="tokens T", ylabel="milliseconds, fastest round")
    for name, each in measured.items():
        library, form = name.split()
        ax.plot(lengths, each, color=COLORS[form], linestyle="--" if library == "NumPy" else "-", label=name)
    low, high = ax.get_ylim()
    ticks = [tick for tick in (0.01, 0.1, 1, 10, 100) if low < tick < high]
    ax.set(xticks=lengths, xticklabels=[f"{length:,}" for length in lengths])
    ax.set(yticks=ticks, yticklabels=[f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.grid(color=PALE)
    name_lines(ax)
    start, end = lengths[-2:]
    foot = max(measured.values(), key=lambda each: each[-1] / each[-2])[-2]  # on the steepest line
    for power, name in ((1, "slope of T"), (2, "slope of T²")):
        ax.plot([start, end], [foot, (end / start) ** power * foot], color=INK, linestyle=":", linewidth=1.2)
        place = (end / start) ** 0.7
        ax.annotate(
            name,
            (start * place, place**power * foot),
            (4, -4),
            textcoords="offset points",
            va="top",
            color=INK,
            fontsize=8,
        )
    return picture


@styled
def by_chunk_size(sizes, measured, predicted, titles):
    """A panel for each library: microseconds a token against the chunk size, a line for each width, both axes logarithmic.

    measured: {library: {width: microseconds}}, each as long as sizes; predicted: {library: {width: best size}}; titles:
    {library: title}. A ring stands at the fastest size of a line, a dot at the predicted size, and a line is thick where it is
    within FLAT of its fastest size.
    """
    said = f"Microseconds of the chunkwise form a token against the chunk size from {sizes[0]} to {sizes[-1]}, a panel for each "
    said += f"of {' and '.join(measured)} and a line for each width of a key: wide valleys, each with a dot at its predicted "
    said += "size and a ring at its fastest size, and thick where it is within 15 % of that."
    picture = new_picture(7.2, 3.3, said, layout="constrained")
    axes = panels(picture, list(measured), sharey=True)
    for ax, (library, lines) in zip(axes, measured.items(), strict=True):
        ax.set(xscale="log", yscale="log", title=titles[library], xlabel="chunk size C")
        for (width, each), dashes in zip(lines.items(), ("--", "-"), strict=True):
            ax.plot(sizes, each, color=BLUE, linestyle=dashes, label=f"K = {width}")
            fine = np.geomspace(sizes[0], sizes[-1], 500)
            heights = _between(sizes, each, fine)
            flat = np.where(heights <= (1 + FLAT) * min(each), heights, np.nan)
            ax.plot(fine, flat, color=TINTS["chunkwise"], linewidth=8, solid_capstyle="butt", zorder=1)
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
    (band,) = axes[0].plot([], [], color=TINTS["chunkwise"], linewidth=8)
    said = ["fastest size", "predicted size", f"within {FLAT:.0%} of the fastest"]
    picture.legend([ring, dot, band], said, loc="outside lower right", ncols=4)
    for ax in axes:
        name_lines(ax)
    return picture


def _between(sizes, each, size):
    """The height of a line at a size between its points, as it is drawn between logarithmic axes."""
    return np.exp(np.interp(np.log(size), np.log(sizes), np.log(each)))
