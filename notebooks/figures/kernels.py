"""Lesson 12: the times of a ladder of kernels and of the operators of its first rung, and who works when in two of them."""

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PALE, bare, headline, new_picture, styled, write

PURPLE = "#8A3A74"  # of products, as in the picture that is moved
RAISED = 0.24  # in rows: predictions stand above the other marks, which would hide them
# What a rung's marks are: which time it is, and how it is drawn.
MARKS = {
    "bytes": {"marker": "o", "color": BLUE, "label": "its bytes, as a copy"},
    "products": {"marker": "s", "color": PURPLE, "markerfacecolor": "none", "label": "its operations, at their peak"},
    "predicted": {"marker": "v", "color": INK, "label": "predicted"},
    "measured": {"marker": "D", "color": ORANGE, "label": "measured"},
}
LOOKS = {"memory": (BLUE, "reads"), "multiply": (PURPLE, "multiplies"), "round": (GREEN, "rounds S")}
# Who works when in v3 and in v5, chunks 1 and 2: (what, turn in which it begins, how many turns, words). "take turns" is four
# quarters of the state, each rounded and then multiplied; the words of a "wait" say what for.
LANES = {
    "v3: one program,\nall in turn": [
        ("memory", 0, 3, "1: reads"), ("multiply", 3, 2.6, "1: scores"), ("round", 5.6, 3.2, "1: rounds S"),
        ("multiply", 8.8, 7, "1: Q S, o, new S"), ("memory", 15.8, 3, "2: reads"), ("multiply", 18.8, 2.6, "2: scores"),
        ("round", 21.4, 3.2, "2: rounds S"),
    ],
    "v5, group 1:\n64 columns of S": [
        ("wait", 0, 3, "chunk 1"), ("take turns", 3, 3.2, "1: Q S"), ("wait", 6.2, 2.6, "scores 1"),
        ("multiply", 8.8, 7, "1: o, new S"), ("take turns", 15.8, 3.2, "2: Q S"), ("multiply", 19, 5.6, "2: o, new S"),
    ],
    "v5, group 3:\nno state": [
        ("memory", 0, 3, "1, 2: reads"), ("multiply", 3, 5.8, "1: scores"), ("multiply", 8.8, 5.8, "2: scores"),
        ("wait", 14.6, 1.6, "room"), ("memory", 16.2, 3, "3: reads"), ("multiply", 19.2, 5.4, "3: scores"),
    ],
    "v5, group 2:\n64 columns of S": [
        ("wait", 0, 3, "chunk 1"), ("take turns", 3, 3.6, "1: Q S"), ("wait", 6.6, 2.2, "scores 1"),
        ("multiply", 8.8, 7.4, "1: o, new S"), ("take turns", 16.2, 3.2, "2: Q S"), ("multiply", 19.4, 5.2, "2: o, new S"),
    ],
}  # fmt: skip
ENDED_BY = {"chunk 1": "1, 2: reads", "scores 1": "1: scores", "room": "1: o, new S"}  # a wait, and what of v5 ends it
TURNS, QUARTER = 24.6, 0.4
ARROW = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}


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
    headline(ax, title)
    ax.set(xlabel="time, ms", xlim=(0.12, 60), ylim=(len(plans) - 0.5, -1.05))
    ax.grid(axis="x", color=PALE)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0, labelsize=8.5)
    picture.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=len(MARKS))
    return picture


@styled
def operators(as_copies, products, measured, *, title):
    """What each kind of operator took, beside the time of its bytes at the rate of a copy, under a title that says what is found.

    as_copies, measured: {kind: ms}. products: (kind, ms) of the one kind whose operations are worth a mark.
    """
    said = "; ".join(f"{kind}: {measured[kind]:.1f}, {as_copies[kind]:.1f} as a copy" for kind in measured)
    picture = new_picture(7.2, 0.9 + 0.36 * len(measured), f"Milliseconds measured. {said}.", layout="constrained")
    ax, rows = picture.subplots(), range(len(measured))
    ax.barh(rows, measured.values(), 0.56, color=ORANGE, alpha=0.35, label="measured")
    ax.plot(as_copies.values(), rows, linestyle="none", markersize=7, **MARKS["bytes"])
    kind, took = products
    ax.plot(took, list(measured).index(kind), linestyle="none", markersize=7, markeredgewidth=1.8, **MARKS["products"])
    for y, ms in zip(rows, measured.values(), strict=True):
        ax.text(ms + 0.08, y, f"{ms:.1f} ms", va="center", color=ORANGE)
    ax.set_yticks(rows, measured)
    ax.set_title(title, loc="left", fontweight="bold")
    ax.set(xlabel="time, ms", xlim=(0, 1.15 * max(measured.values())), ylim=(len(measured) - 0.5, -0.5))
    ax.grid(axis="x", color=PALE)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    picture.legend(loc="outside lower center", ncols=3)
    return picture


def ends(words):
    """(lane, end) of each block of v5 with these words; lanes are counted from 0."""
    v5 = list(enumerate(LANES.values()))[1:]
    return [(y, begin + many) for y, work in v5 for _, begin, many, said in work if said == words]


@styled
def lanes():
    """Who works when in v3 and v5, drawn from their sources, not measured; an arrow goes from a block to the wait that it ends."""
    words = (
        "Who works when, not to scale. v3: a program reads a chunk, makes scores, rounds S and multiplies, all in turn. v5: "
        "group 3 reads chunks 1 and 2, which ends the wait of groups 1 and 2; they round and multiply quarters of S, each "
        "while the other does the other, then wait for scores 1 from group 3; group 3 makes scores 2 meanwhile, then waits "
        "for room, until both groups have done with chunk 1, and reads chunk 3."
    )
    picture = new_picture(7.2, 3.5, words, layout="constrained")
    ax, font = picture.subplots(), {"fontsize": 8}
    for y, work in enumerate(LANES.values()):
        for what, begin, many, said in work:
            if what == "wait":
                ax.barh(y, many, 0.5, begin, color="white", edgecolor=GREY, linestyle="--")
                write(ax, begin + many / 2, y, said, **font, color=GREY, style="italic")
                for other, end in ends(ENDED_BY[said]):
                    side = 0.27 if other > y else -0.27
                    ax.annotate("", (begin + many, y + side), (end, other - side), arrowprops=ARROW)
                continue
            ax.barh(y, many, 0.5, begin, color=LOOKS["round" if what == "take turns" else what][0], edgecolor="white")
            if what == "take turns":
                quarters = [begin + many - (2 * i + 1) * QUARTER for i in range(4)]
                ax.barh([y] * 4, QUARTER, 0.5, quarters, color=LOOKS["multiply"][0])
            write(ax, begin + many / 2, y, said, **font, color="white", fontweight="bold")
    ax.axhline(0.5, color=GREY, linewidth=0.8)
    ax.set_yticks(range(len(LANES)), list(LANES))
    ax.set_xticks([])
    ax.set(xlim=(0, TURNS), ylim=(len(LANES) - 0.6, -0.4))
    headline(ax, "v3 does all in turn; in v5 group 3 reads and makes scores meanwhile")
    ax.set_xlabel("time, not to scale →", loc="right")
    bare(ax)
    handles = [Patch(color=colour, label=label) for colour, label in LOOKS.values()]
    handles.append(Patch(facecolor="none", edgecolor=GREY, linestyle="--", label="waits for"))
    handles.append(Line2D([], [], color=INK, marker=">", linewidth=1.2, label="ends a wait"))
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return picture
