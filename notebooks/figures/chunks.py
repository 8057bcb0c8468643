"""Lesson 6: the blocks of the chunkwise form, what a wrong one does to the mask, and what a chunk size costs."""

import numpy as np
from matplotlib import rc_context
from matplotlib.patches import Rectangle

from refimpl import chunk_decays, decay_mask

from .explorer import Explorer, slider
from .style import AMOUNT, BLUE, INK, LINES, ORANGE, PALE, STYLE, new_picture


def cost(time, chunk_size, key_dim, value_dim):
    """What Eq. 7 costs for one head: (operations, numbers held).

    Operations of the four matrix products of each chunk, a multiply-add counted as two, whole blocks of scores, a
    ragged tail with its own length. Held at a time: one block of scores and one state.
    """
    lengths = [min(chunk_size, time - start) for start in range(0, time, chunk_size)]
    operations = sum(2 * c * c * (key_dim + value_dim) + 4 * c * key_dim * value_dim for c in lengths)
    return operations, max(lengths, default=0) ** 2 + key_dim * value_dim


@rc_context(STYLE)
def blocks(gamma, time, chunk_size, key_dim, value_dim):
    """The mask in blocks with its xi and zeta, and the cost of every chunk size with this one marked.

    gamma a number; T, C, K, V integers of at least 1. The axes are labelled blocks, xi, zeta, operations and memory.
    """
    starts = range(0, time, chunk_size)
    lengths = [min(chunk_size, time - start) for start in starts]
    decays = [chunk_decays(np.array([gamma], dtype=np.float64), length) for length in lengths]
    xi, zeta = (np.concatenate([each[part][0] for each in decays]) for part in (0, 1))
    mask = np.zeros((time, time))
    for start, length in zip(starts, lengths, strict=True):
        mask[start : start + length, start : start + length] = decay_mask(np.array([gamma], dtype=np.float64), length)

    sizes = np.arange(1, time + 1)
    operations, held = np.array([cost(time, int(size), key_dim, value_dim) for size in sizes]).T
    here = (operations[chunk_size - 1], held[chunk_size - 1])
    tail = f", the last one of {lengths[-1]}" if lengths[-1] < chunk_size else ""
    picture = new_picture(
        8.6,
        4.5,
        f"{time} tokens in chunks of {chunk_size}: {len(lengths)} chunks{tail}, one after another. "
        f"{here[0]:,} operations, {here[1]:,} numbers held, of which {key_dim * value_dim:,} are the state. "
        f"γ = {gamma:g}: each chunk multiplies the old state by γ^{lengths[0]} = {gamma ** lengths[0]:.3f}.",
    )
    ax = picture.add_axes((0.06, 0.2, 0.37, 0.37 * 8.6 / 4.5), label="blocks")
    _cells(ax, mask)
    for i, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        _outline(ax, start, length)
        if i:
            ax.add_patch(Rectangle((-0.5, start - 0.5), start, length, facecolor="#FBE9DC", edgecolor="none", zorder=0))
            ax.text(start / 2 - 0.5, start + length / 2 - 0.5, f"$S_{{[{i}]}}$", ha="center", va="center", color=ORANGE)
    ax.set(ylabel="token n")
    ax.set_title("blue: scores, all at once; orange: read from a state", loc="left", fontsize=8.5)
    ax.set_xticks([])
    for label, strip, place, text in (
        ("xi", xi[:, None], (0.44, 0.2, 0.37 / time, 0.37 * 8.6 / 4.5), "ξ"),
        ("zeta", zeta[None, :], (0.06, 0.13, 0.37, 0.37 / time * 8.6 / 4.5), "past token m"),
    ):
        side = picture.add_axes(place, label=label)
        _cells(side, strip)
        side.set(xlabel=text, yticks=[]) if label == "zeta" else side.set(title=text, xticks=[], yticks=[])
    picture.text(0.437, 0.13 + 0.37 / time * 8.6 / 9, "ζ", va="center", fontsize=9.5)

    panels = (("operations", operations, "operations", 0.6), ("memory", held, "numbers held", 0.13))
    for style, (label, line, text, bottom) in zip(LINES, panels, strict=False):
        side = picture.add_axes((0.63, bottom, 0.34, 0.3), label=label)
        side.plot(sizes, line, **style)
        side.plot([chunk_size], [line[chunk_size - 1]], "o", color=INK, markersize=6)
        side.set(ylabel=text, ylim=(0, 1.1 * line.max()), title=f"{text} at C = {chunk_size}: {line[chunk_size - 1]:,}")
        side.grid(color=PALE)
        side.set_xticks(range(2, time + 1, 2))
    side.set_xlabel("chunk size C (tokens)")
    return picture


def explorer(gamma, time, chunk_size, key_dim, value_dim):
    """A widget that moves the chunk size and gamma of `blocks`."""
    return Explorer(
        lambda size, decay: blocks(decay, time, size, key_dim, value_dim),
        size=slider("chunk size C", chunk_size, 1, time),
        decay=slider("decay γ", gamma, 0.05, 1.0, 0.05),
    )


@rc_context(STYLE)
def masks(named, chunk_size):
    """Masks side by side with the blocks outlined; zeros stay white. named: {name: (T, T)}, amounts of at least 0."""
    limit = max(mask.max() for mask in named.values())
    names = list(named)
    picture = new_picture(8.6, 3.2, f"Masks that {len(names)} programs apply, {', '.join(names)}, with their numbers.")
    axes = picture.subplots(1, len(names), sharey=True, gridspec_kw={"left": 0.06, "right": 0.99, "wspace": 0.08})
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        ax.set_label(name)
        _cells(ax, named[name], limit)
        for start in range(0, len(named[name]), chunk_size):
            _outline(ax, start, min(chunk_size, len(named[name]) - start))
        ax.set(title=name, xlabel="past token m")
    np.atleast_1d(axes)[0].set_ylabel("token n")
    return picture


@rc_context(STYLE)
def errors(measured, names):
    """Relative errors as dots on a logarithmic axis. measured: {mistake: one share for each of the two names}."""
    worst = ", ".join(f"{mistake} {100 * max(values):.2g} %" for mistake, values in measured.items())
    picture = new_picture(
        7.8, 0.42 * len(measured) + 0.9, f"Errors of each mistake, the larger one: {worst}.", layout="constrained"
    )
    ax = picture.subplots()
    looks = ({"marker": "o", "color": BLUE}, {"marker": "s", "color": ORANGE, "markerfacecolor": "white"})
    for index, (name, look) in enumerate(zip(names, looks, strict=True)):
        percent = [100 * values[index] for values in measured.values()]
        ax.plot(percent, range(len(measured)), linestyle="", markersize=7, label=name, **look)
        for row, value in enumerate(percent):
            shift, side = ((9, 0), "left") if index == 0 else ((-9, 0), "right")
            ax.annotate(
                f"{value:.2g} %", (value, row), shift, textcoords="offset points", ha=side, va="center", fontsize=8
            )
    ax.set_yticks(range(len(measured)), list(measured))
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="size of the error, in % of the size of the outputs", ylim=(len(measured) - 0.5, -0.5))
    ax.set_xlim(20 * min(map(min, measured.values())), 300)
    ax.xaxis.set_major_formatter(lambda percent, _: f"{percent:g} %")
    ax.grid(axis="y", color=PALE)
    ax.set_axisbelow(True)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return picture


def _cells(ax, matrix, limit=1.0):
    """A matrix of amounts with its numbers written in; zeros are left out."""
    ax.imshow(np.ma.masked_equal(matrix, 0.0), cmap=AMOUNT, vmin=0, vmax=limit, aspect="equal", zorder=1)
    for (row, column), value in np.ndenumerate(matrix):
        if value:
            text = f"{value:.2f}".removesuffix(".00").lstrip("0") or "0"
            dark = value > 0.55 * limit
            ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color="white" if dark else INK, zorder=4)
    for axis, count in ((ax.set_xticks, matrix.shape[1]), (ax.set_yticks, matrix.shape[0])):
        axis(range(count), range(1, count + 1))
    ax.tick_params(length=0, labelsize=7.5)
    ax.spines[:].set_visible(False)


def _outline(ax, start, length):
    """The frame of the block of `length` tokens from `start` on."""
    frame = {"fill": False, "edgecolor": BLUE, "linewidth": 2.0, "zorder": 3, "clip_on": False}
    ax.add_patch(Rectangle((start - 0.5, start - 0.5), length, length, **frame))
