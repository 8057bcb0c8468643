"""Lesson 12: the times of a ladder of kernels and of the operators of its first rung, and who works when in two of them."""

from .style import BLUE, FAINT, GREEN, INK, ORANGE, PALE, headline, new_picture, styled, write

PURPLE = "#8A3A74"  # of products, as in the picture that is moved
RAISED = 0.24  # in rows: predictions stand above the other marks, which would hide them
BUSY = {"scores": GREEN, "multiply": PURPLE}  # what product units do
# What a rung's marks are: which time it is, and how it is drawn.
MARKS = {
    "bytes": {"marker": "o", "color": BLUE, "label": "its bytes, as a copy"},
    "products": {"marker": "s", "color": PURPLE, "markerfacecolor": "none", "label": "its operations, at their peak"},
    "predicted": {"marker": "v", "color": INK, "label": "predicted"},
    "measured": {"marker": "D", "color": ORANGE, "label": "measured"},
}


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
    headline(ax, title)
    ax.set(xlabel="time, ms", xlim=(0, 1.15 * max(measured.values())), ylim=(len(measured) - 0.5, -0.5))
    ax.grid(axis="x", color=PALE)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    picture.legend(loc="outside lower center", ncols=3)
    return picture


@styled
def timeline(slots, *, title):
    """A scheme of what groups of warps do at a time, under a title: dark boxes need the product units, pale ones do not.

    slots: {group: [(step, how long), ...]}, all equally long.
    """
    said = ". ".join(f"{' '.join(group.split())}: {', '.join(step for step, _ in row)}" for group, row in slots.items())
    words = f"A scheme, not a measurement; numbers are those of chunks. {said}."
    picture = new_picture(7.2, 1.0 + 0.46 * len(slots), words, layout="constrained")
    ax = picture.subplots()
    for y, row in enumerate(slots.values()):
        at = 0
        for step, length in row:
            kind = step.split()[0]
            dark = kind in BUSY
            ax.barh(y, length - 0.04, 0.7, at + 0.02, align="center", color=BUSY.get(kind, PALE))
            ax.text(at + length / 2, y, step, ha="center", va="center", color="white" if dark else INK)
            at += length
    ax.set_yticks(range(len(slots)), slots)
    headline(ax, title)
    ax.set_xticks([])
    ax.set(xlabel="time \N{RIGHTWARDS ARROW}   (a scheme, not a measurement; 2 to 4: the chunk)")
    ax.set(xlim=(0, at), ylim=(len(slots) - 0.5, -0.5))
    ax.tick_params(axis="y", length=0)
    return picture
