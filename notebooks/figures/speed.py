"""Lesson 11: measured times beside the predicted ones."""

from .style import BLUE, INK, ORANGE, PALE, new_picture, styled


@styled
def against_limits(measured, kernel, with_steps):
    """A bar for each form, from the left to its measured milliseconds, with a tick at each prediction; the axis is logarithmic.

    measured, kernel, with_steps: {name: milliseconds}, from top to bottom; the second is predicted without Python's steps,
    the third with them, for the forms that have any.
    """
    said = f"A bar of the measured milliseconds of each form ({', '.join(measured)}) on a logarithmic axis, with ticks at its "
    said += "predictions without and with Python's steps; the numbers are those that the lesson prints."
    picture = new_picture(7.2, 3.2, said, layout="constrained")
    ax = picture.subplots()
    ax.set_xscale("log")
    low, rows = 0.6 * min(*measured.values(), *kernel.values()), list(measured)
    ax.barh(rows, [ms - low for ms in measured.values()], left=low, height=0.55, color="#A9CBE3")
    for looks, ticks in (((INK, "-", "predicted"), kernel), ((ORANGE, (0, (2, 1)), "with Python's steps"), with_steps)):
        places = [rows.index(name) for name in ticks]
        color, dashes, label = looks
        ax.vlines(
            list(ticks.values()), [y - 0.4 for y in places], [y + 0.4 for y in places], color=color, linestyle=dashes,
            linewidth=2.4, label=label,
        )  # fmt: skip
    for row, ms in enumerate(measured.values()):
        right = max(ms, *(ticks.get(rows[row], 0) for ticks in (kernel, with_steps)))
        ax.annotate(f"{ms:.2f} ms", (right, row), (5, 0), textcoords="offset points", va="center", color=BLUE)
    highest = max(*measured.values(), *with_steps.values())
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low < tick < 1.8 * highest]
    ax.minorticks_off()
    ax.set(xlim=(low, 1.8 * highest), xticks=ticks, xticklabels=[f"{tick:g}" for tick in ticks])
    ax.set_xlabel("milliseconds: bars measured (fastest round), ticks predicted")
    ax.invert_yaxis()
    ax.grid(axis="x", color=PALE)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    picture.legend(loc="outside upper right", ncols=2)
    return picture
