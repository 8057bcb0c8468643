"""Lesson 6: the blocks of the chunkwise form, the masks that wrong programs apply, and what a chunk size costs."""

import numpy as np
from matplotlib.patches import Rectangle

from refimpl import chunk_decays, decay_mask

from .explorer import Explorer, slider
from .style import BLUE, INK, LINES, ORANGE, PALE, cells, frame, new_picture, panels, styled


def cost(time, chunk_size, key_dim, value_dim):
    """What Eq. 7 costs for one head: (operations, numbers held).

    Operations are those of the four matrix products of each chunk: a multiply-add counts as two, blocks of scores are
    whole, a ragged tail has its own length. Numbers held at a time: one block of scores and one state.
    """
    lengths = [length for _, length in _spans(time, chunk_size)]
    operations = sum(2 * c * c * (key_dim + value_dim) + 4 * c * key_dim * value_dim for c in lengths)
    return operations, max(lengths, default=0) ** 2 + key_dim * value_dim


@styled
def blocks(gamma, time, chunk_size, key_dim, value_dim):
    """The mask in blocks with its xi and zeta, and the cost of every chunk size with this one marked.

    gamma a number; T, C, K, V integers of at least 1. The axes are labelled blocks, xi, zeta, operations and memory.
    """
    spans, gammas = _spans(time, chunk_size), np.array([gamma], dtype=np.float64)
    lengths = [length for _, length in spans]
    decays = [chunk_decays(gammas, length) for length in lengths]
    xi, zeta = (np.concatenate([each[part][0] for each in decays]) for part in (0, 1))
    mask = np.zeros((time, time))
    for start, length in spans:
        mask[start : start + length, start : start + length] = decay_mask(gammas, length)

    sizes = np.arange(1, time + 1)
    operations, held = np.array([cost(time, int(size), key_dim, value_dim) for size in sizes]).T
    here = (operations[chunk_size - 1], held[chunk_size - 1])
    tail = f", the last one of {lengths[-1]}" if lengths[-1] < chunk_size else ""
    said = (
        f"{time} tokens in chunks of {chunk_size}: {len(lengths)} chunks{tail}, one after another. "
        f"{here[0]:,} operations, {here[1]:,} numbers held, of which {key_dim * value_dim:,} are the state. "
        f"γ = {gamma:g}: each chunk multiplies the old state by γ^{lengths[0]} = {gamma ** lengths[0]:.3f}."
    )
    picture = new_picture(8.6, 4.5, said)
    side, cell = 0.37 * 8.6 / 4.5, 0.37 / time
    ax = picture.add_axes((0.06, 0.2, 0.37, side), label="blocks")
    _amounts(ax, mask)
    for i, (start, length) in enumerate(spans):
        _outline(ax, start, length)
        if i:
            ax.add_patch(Rectangle((-0.5, start - 0.5), start, length, facecolor="#FBE9DC", edgecolor="none", zorder=0))
            ax.text(start / 2 - 0.5, start + length / 2 - 0.5, f"$S_{{[{i}]}}$", ha="center", va="center", fontsize=10)
    ax.set(ylabel="token n", xticks=[])
    ax.set_title("decays; blue: a block at once, orange: through a state", loc="left", fontsize=8.5)
    ax = picture.add_axes((0.44, 0.2, cell, side), label="xi")
    _amounts(ax, xi[:, None])
    ax.set(title="ξ", xticks=[], yticks=[])
    ax = picture.add_axes((0.06, 0.13, 0.37, cell * 8.6 / 4.5), label="zeta")
    _amounts(ax, zeta[None, :])
    ax.set(xlabel="past token m", yticks=[])
    picture.text(0.437, 0.13 + cell * 8.6 / 9, "ζ", va="center", fontsize=9.5)

    costs = (("operations", operations, "operations", 0.6), ("memory", held, "numbers held", 0.13))
    for style, (label, line, text, bottom), now in zip(LINES[:2], costs, here, strict=True):
        ax = picture.add_axes((0.63, bottom, 0.34, 0.3), label=label)
        ax.plot(sizes, line, **style)
        ax.plot([chunk_size], [now], "o", color=INK, markersize=6)
        ax.set(ylabel=text, ylim=(0, 1.1 * line.max()), title=f"{text} at C = {chunk_size}: {now:,}")
        ax.grid(color=PALE)
        ax.set_xticks(range(2, time + 1, 2))
    ax.set_xlabel("chunk size C (tokens)")
    return picture


def explorer(gamma, time, chunk_size, key_dim, value_dim):
    """A widget that moves the chunk size and gamma of `blocks`."""
    return Explorer(
        lambda size, decay: blocks(decay, time, size, key_dim, value_dim),
        size=slider("chunk size C", chunk_size, 1, time),
        decay=slider("decay γ", gamma, 0.05, 1.0, 0.05),
    )


@styled
def masks(named, chunk_size):
    """Masks side by side with the blocks outlined; zeros stay white. named: {name: (T, T)}, amounts of at least 0."""
    limit = max(mask.max() for mask in named.values())
    picture = new_picture(8.6, 3.2, f"Masks that {len(named)} programs apply, {', '.join(named)}, with their numbers.")
    axes = panels(picture, named, sharey=True, left=0.06, right=0.99, wspace=0.08)
    for ax, (name, mask) in zip(axes, named.items(), strict=True):
        _amounts(ax, mask, limit)
        for span in _spans(len(mask), chunk_size):
            _outline(ax, *span)
        ax.set(title=name, xlabel="past token m", ylabel="token n" if ax is axes[0] else "")
    return picture


@styled
def errors(measured, names):
    """Relative errors as dots on a logarithmic axis. measured: {mistake: one share for each of the two names}."""
    worst = ", ".join(f"{mistake} {100 * max(values):.2g} %" for mistake, values in measured.items())
    said = f"Errors of each mistake, the larger one: {worst}."
    picture = new_picture(7.8, 0.42 * len(measured) + 0.9, said, layout="constrained")
    ax = picture.subplots()
    looks = ({"marker": "o", "color": BLUE}, {"marker": "s", "color": ORANGE, "markerfacecolor": "white"})
    for index, (name, look) in enumerate(zip(names, looks, strict=True)):
        percent = [100 * values[index] for values in measured.values()]
        ax.plot(percent, range(len(measured)), linestyle="", markersize=7, label=name, **look)
        for row, value in enumerate(percent):
            shift, side = ((9, 0), "left") if index == 0 else ((-9, 0), "right")
            look = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 8}
            ax.annotate(f"{value:.2g} %", (value, row), shift, **look)
    ax.set_yticks(range(len(measured)), list(measured))
    ax.set(xscale="log", xlabel="size of the error, in % of the size of the outputs")
    ax.set(xlim=(20 * min(map(min, measured.values())), 300), ylim=(len(measured) - 0.5, -0.5))
    ax.xaxis.set_major_formatter(lambda percent, _: f"{percent:g} %")
    ax.grid(axis="y", color=PALE)
    ax.set_axisbelow(True)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return picture


def _spans(time, chunk_size):
    """(start, length) of every chunk."""
    return [(start, min(chunk_size, time - start)) for start in range(0, time, chunk_size)]


def _amounts(ax, matrix, limit=1.0):
    """A matrix of amounts with its numbers written in; zeros are left out."""

    def text(value):
        return f"{value:.2f}".removesuffix(".00").lstrip("0") or "0"

    look = {"vmin": 0, "vmax": limit, "aspect": "equal", "zorder": 1}
    cells(ax, np.ma.masked_equal(matrix, 0.0), text, fontsize=8, **look)
    ax.set_xticks(range(matrix.shape[1]), range(1, matrix.shape[1] + 1))
    ax.set_yticks(range(matrix.shape[0]), range(1, matrix.shape[0] + 1))
    ax.tick_params(labelsize=8)


def _outline(ax, start, length):
    """The frame of the block of `length` tokens from `start` on."""
    frame(ax, start - 0.5, start - 0.5, length, length, BLUE, 2.0)
