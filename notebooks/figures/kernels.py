"""Lesson 12: the times of a ladder of kernels and of the operators of its first rung, and who works when in two of them."""

from matplotlib.patches import Patch

from .style import BLUE, FAINT, GREEN, GREY, INK, ORANGE, PALE, headline, new_picture, styled, write

PURPLE = "#8A3A74"  # of products, as in the picture that is moved
RAISED = 0.24  # in rows: predictions stand above the other marks, which would hide them
# What a rung's marks are: which time it is, and how it is drawn.
MARKS = {
    "bytes": {"marker": "o", "color": BLUE, "label": "its bytes, as a copy"},
    "products": {"marker": "s", "color": PURPLE, "markerfacecolor": "none", "label": "its operations, at their peak"},
    "predicted": {"marker": "v", "color": INK, "label": "predicted"},
    "measured": {"marker": "D", "color": ORANGE, "label": "measured"},
}
LOOKS = {"memory": (BLUE, "reads"), "multiply": (PURPLE, "multiplies"), "round": (GREEN, "rounds")}
LANES = ("v3: one program", "v5, group 1:\n64 columns of S", "v5, group 3:\nno state", "v5, group 2:\n64 columns of S")
READING = 0.4  # of v3's time outside products: how it is divided was not measured
PARTS = 4  # of the state of a group of v5: it rounds one while the other group multiplies one


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


def in_turn(period, busy):
    """v3's blocks of a chunk, (lane, what, begin, length, words): one after another, products at their peak."""
    left, state = period - sum(busy.values()), busy["Q S"] + busy["o, new S"]
    work = ("memory", READING * left, "reads"), ("multiply", busy["scores"], "scores")
    work += ("round", (1 - READING) * left, "rounds weights and S"), ("multiply", state, "Q S, o, new S")
    begins = (sum(length for _, length, _ in work[:i]) for i in range(len(work)))
    return [(0, what, begin, length, words) for begin, (what, length, words) in zip(begins, work, strict=True)]


def in_groups(period, busy):
    """v5's blocks of a chunk: groups 1 and 2 round a part and multiply it by turns, group 3 is a chunk ahead."""
    scores, own, part = busy["scores"], busy["o, new S"] / 2, busy["Q S"] / 2 / PARTS
    turn = (period - scores - 2 * own) / (2 * PARTS + 1)
    blocks, ahead = [], period - 2 * own
    for late, lane in enumerate((1, 3)):
        for i in range(PARTS):
            begin = (2 * i + late) * turn
            blocks += [(lane, "round", begin, turn, ""), (lane, "multiply", begin + turn, part, "")]
        blocks.append((lane, "multiply", ahead + late * own, own, "same"))
    reads, scored = (2, "memory", 0, ahead - scores, "next"), (2, "multiply", ahead - scores, scores, "next")
    return [*blocks, reads, scored, (2, "wait", ahead, 2 * own, "room")]


@styled
def lanes(periods, busy):
    """Who works when in v3 and v5, drawn from their sources: a chunk lasts as long as measured, its products as at their peak.

    periods: {"v3": µs a chunk, "v5": µs a chunk}; busy: µs of the product units for "scores", "Q S" and "o, new S" of a chunk.
    """
    v3, v5 = periods["v3"], periods["v5"]
    words = (
        f"Who works when in one multiprocessor. v3, {v3:.1f} µs a chunk: a program reads a chunk, makes scores, rounds and "
        f"multiplies, all in turn. v5, {v5:.1f} µs a chunk: groups 1 and 2 round and multiply quarters of S, each while the "
        "other does the other, then each makes its outputs and its new state; group 3 reads the next chunk, makes its "
        "scores, then waits for room. Products fill a small part of v3's time and most of v5's."
    )
    picture = new_picture(7.2, 3.3, words, layout="constrained")
    ax, end, font = picture.subplots(), 1.12 * v3, {"fontsize": 8}
    whole = [(n, n * v3, block) for n in range(2) for block in in_turn(v3, busy)]
    whole += [(n, n * v5, block) for n in range(int(end / v5) + 1) for block in in_groups(v5, busy)]
    for n, start, (lane, what, begin, length, said) in whole:
        begin, label = begin + start, {"same": f"{n + 1}", "next": f"{n + 2}"}.get(said, said)
        if begin >= end:
            continue
        length = min(length, end - begin)
        inside, ink = {"ha": "center", "clip_on": True, **font}, {"color": "white", "fontweight": "bold"}
        if what == "wait":
            ax.barh(lane, length, 0.5, begin, color="white", edgecolor=GREY, linestyle="--")
            ink = {"color": GREY, "style": "italic"}
        else:
            ax.barh(lane, length, 0.5, begin, color=LOOKS[what][0])
        if length > 0.06 * len(label):
            write(ax, begin + length / 2, lane, label, **inside, **ink)
        elif lane == 0 and length > 0.1:  # below a block that is too short for its word
            write(ax, begin + length / 2, 0.37, label, **inside)
    for n in range(1, int(end / v5) + 1):
        ax.plot([n * v5] * 2, [0.6, 3.4], color=GREY, linewidth=0.8, linestyle=":")
    ax.axhline(0.5, color=GREY, linewidth=0.8)
    ax.set_yticks(range(len(LANES)), LANES)
    ax.set(xlim=(0, end), ylim=(len(LANES) - 0.6, -0.4), xlabel="time, µs")
    headline(ax, "The product units mostly wait in v3 and mostly work in v5")
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.tick_params(axis="y", length=0)
    handles = [Patch(color=colour, label=label) for colour, label in LOOKS.values()]
    handles.append(Patch(facecolor="none", edgecolor=GREY, linestyle="--", label="waits for"))
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return picture
