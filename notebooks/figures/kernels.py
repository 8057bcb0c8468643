"""Lesson 12: the times of a ladder of kernels, and who works when in two of them."""

from itertools import cycle

from matplotlib.patches import Patch

from .style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PALE, bare, new_picture, styled, write

PURPLE = "#8A3A74"  # of products, as in the picture that is moved
RAISED = 0.24  # in rows: predictions stand above the other marks, which would hide them
# What a rung's marks are: which time it is, and how it is drawn.
MARKS = {
    "bytes": {"marker": "o", "color": BLUE, "label": "its bytes, as a copy"},
    "products": {"marker": "s", "color": PURPLE, "markerfacecolor": "none", "label": "its operations, at their peak"},
    "predicted": {"marker": "v", "color": INK, "label": "predicted"},
    "measured": {"marker": "D", "color": ORANGE, "label": "measured"},
}
LOOKS = {"memory": (BLUE, "loads or stores"), "multiply": (PURPLE, "multiplies"), "round": (GREEN, "rounds the state")}
# Who works when: the turn in which a worker begins, then (what, how many turns) over and over; other words than those of
# LOOKS say what it waits for. Then, of each unit, what it waits for in one gap after another.
LANES = {
    "v3: all threads do the same, so memory and product units both wait": (
        {"all threads": (0, [("memory", 3), ("multiply", 1), ("round", 3), ("multiply", 3)])},
        {"memory": ["the end of the chunk"], "multiply": ["tiles", "S in 16 bits"]},
    ),
    "v5: three groups share the work, so the product units wait least": (
        {
            "group 1: 64 columns": (0, [("multiply", 3), ("round", 3), ("scores", 2)]),
            "group 2: 64 columns": (-5, [("multiply", 3), ("round", 3), ("scores", 2)]),
            "group 3: scores": (0, [("memory", 3), ("multiply", 1), ("room to read", 4)]),
        },
        {"memory": ["room to read"], "multiply": ["scores"]},
    ),
}
TURNS = 20


@styled
def ladder(rungs, plans, of_bytes, of_products, predicted, *, title):
    """The times of each rung in ms, on a logarithmic scale, under a title that says what is found.

    rungs: {name: {"median": ms}}; plans, of_bytes, of_products: {name: the plan in words, ms for its bytes, ms for its products}.
    The least of `of_bytes` is the floor. predicted: {name: [ms], or [from, to]}, of some rungs.
    """
    said = "; ".join(f"{name}, {plans[name]}: {rungs[name]['median']:.2f} ms" for name in plans)
    picture = new_picture(7.2, 0.9 + 0.42 * len(plans), f"Measured times. {said}.", layout="constrained")
    ax, floor = picture.subplots(), min(of_bytes.values())
    times = {"bytes": of_bytes, "products": of_products}
    times |= {"measured": {name: rungs[name]["median"] for name in plans}}
    ax.axvline(floor, color=INK, linestyle="--", linewidth=1.2)
    write(ax, 1.04 * floor, -0.72, "floor of bytes", fontsize=8, ha="left")
    ax.text(
        0.99, -0.72, "measured", transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=8, color=ORANGE
    )
    for mark, look in MARKS.items():
        if mark in times:
            x = [times[mark][name] for name in plans]
            ax.plot(x, range(len(plans)), linestyle="none", markeredgewidth=1.6, **{"markersize": 6} | look)
            continue
        for y, name in enumerate(plans):  # a range has a mark at each end, and a line between them
            if name in predicted:
                ax.plot(predicted[name], [y - RAISED] * len(predicted[name]), markersize=6, linewidth=1.6, **look)
                look = look | {"label": None}
    for y, name in enumerate(plans):
        ax.axhspan(y - 0.36, y + 0.36, color=FAINT, zorder=-2)
        ax.text(
            0.99,
            y,
            f"{rungs[name]['median']:.2f} ms",
            transform=ax.get_yaxis_transform(),
            ha="right",
            va="center",
            color=ORANGE,
        )
    ax.set_xscale("log")
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_yticks(range(len(plans)), [f"{name}\n{plan}" for name, plan in plans.items()])
    ax.set_title(title, loc="left", fontweight="bold")
    ax.set(xlabel="time, ms", xlim=(0.12, 60), ylim=(len(plans) - 0.5, -1.05))
    ax.grid(axis="x", color=PALE)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0, labelsize=8.5)
    picture.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(MARKS))
    return picture


def blocks(begin, work):
    """Yield (what, turn in which it begins, how many turns) of a worker, up to the last turn."""
    for what, many in cycle(work):
        if begin >= TURNS:
            return
        yield what, begin, many
        begin += many


def busy(workers, kind):
    """The turns in which any of these workers does that, sorted."""
    each = (block for worker in workers for block in blocks(*worker) if block[0] == kind)
    return sorted({turn for _, begin, many in each for turn in range(max(begin, 0), min(begin + many, TURNS))})


def gaps(turns):
    """(begin, length) of each run of turns that are not in `turns`, sorted turns."""
    ends = zip([-1, *turns], [*turns, TURNS], strict=True)
    return [(before + 1, after - before - 1) for before, after in ends if after - before > 1]


@styled
def lanes(steps, limit):
    """Who works when in v3 and v5, drawn from their sources, not measured; below, what each change of v5 was measured to bring.

    steps: {the change in words: ms after it}, in order. limit: ms that the operations take at their peak.
    """
    words = (
        "Who works when, not to scale. v3: loads, products and rounding follow one another; memory waits for the end of the "
        "chunk, the product units for tiles and for S in 16 bits. v5: two halves of the state take turns to multiply and to "
        "round and wait for scores; a third group loads ahead, makes scores and waits for room. Measured, ms: "
    )
    words += "; ".join(f"{what} {ms:.2f}" for what, ms in steps.items()) + "."
    picture = new_picture(7.2, 5.2, words, layout="constrained")
    rows = [len(workers) + 2 for workers, _ in LANES.values()]
    *axes, below = picture.subplots(3, 1, height_ratios=[*rows, len(steps) + 1])
    waits = {"fontsize": 8, "color": GREY, "style": "italic"}
    for ax, (title, (workers, waited)) in zip(axes, LANES.items(), strict=True):
        for y, worker in enumerate(workers.values()):
            for what, begin, many in blocks(*worker):
                if what in LOOKS:
                    ax.barh(y, many, 0.72, begin, color=LOOKS[what][0], edgecolor="white")
                elif begin >= 0 and begin + many <= TURNS:
                    write(ax, begin + many / 2, y, what, **waits)
        for y, (kind, reasons) in enumerate(waited.items(), len(workers)):
            turns = busy(workers.values(), kind)
            ax.barh([y + 0.25] * len(turns), 1, 0.36, turns, color=LOOKS[kind][0])
            for (begin, many), reason in zip(gaps(turns), cycle(reasons)):
                if many > 1:  # else it is cut off by the end
                    write(ax, begin + many / 2, y + 0.25, reason, **waits)
        ax.axhline(len(workers) - 0.4, color=GREY, linewidth=0.8)
        places = [*range(len(workers)), len(workers) + 0.25, len(workers) + 1.25]
        ax.set_yticks(places, [*workers, "memory busy", "product units busy"])
        ax.set_xticks([])
        ax.set(xlim=(0, TURNS), ylim=(len(workers) + 1.7, -0.5))
        ax.set_title(title, loc="left", fontweight="bold")
        bare(ax)
    ax.set_xlabel("time, not to scale →", loc="right")
    handles = [Patch(color=colour, label=label) for colour, label in LOOKS.values()]
    handles.append(Patch(facecolor="none", edgecolor=GREY, label="waits for the words in italics"))
    picture.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    below.axvline(limit, color=PURPLE, linewidth=1.2, linestyle="--")
    write(below, limit + 0.01, -0.75, "its operations, at their peak", fontsize=8, color=PURPLE, ha="left")
    below.plot(list(steps.values()), range(len(steps)), **MARKS["measured"] | {"markersize": 6, "linestyle": "none"})
    for y, (what, ms) in enumerate(steps.items()):
        write(below, ms + 0.02, y, f"{ms:.2f} ms: {what}", fontsize=8.5, ha="left")
    below.set_title("v5: each change, measured; the first gained most", loc="left", fontweight="bold")
    below.set(xlim=(0.2, 1.45), ylim=(len(steps) - 0.5, -1.2), yticks=[])
    below.set_xlabel("time, ms; 8 texts of 2,048 tokens", loc="left")
    below.set_xticks([0.2, 0.4, 0.6])
    bare(below)
    below.grid(axis="x", color=PALE)
    return picture
