"""Lesson 6: the blocks of the chunkwise form with the states between them, and the masks that wrong programs apply."""

import numpy as np
from matplotlib.patches import Rectangle

from refimpl import chunk_decays, decay_mask, retention_recurrent

from .style import BLUE, ORANGE, SIGNED, cells, frame, new_picture, panels, styled, write


@styled
def blocks(k, v, gamma, chunk_size):
    """The mask in blocks with its xi and zeta, and beside it the states that are handed from chunk to chunk.

    k (T, K), v (T, V), gamma a number; chunks of at least 3 tokens leave room for the states. The axes are labelled
    blocks, xi, zeta and states.
    """
    time, spans, gammas = len(k), _spans(len(k), chunk_size), np.array([gamma], dtype=np.float64)
    lengths = [length for _, length in spans]
    decays = [chunk_decays(gammas, length) for length in lengths]
    xi, zeta = (np.concatenate([each[part][0] for each in decays]) for part in (0, 1))
    mask = np.zeros((time, time))
    for start, length in spans:
        mask[start : start + length, start : start + length] = decay_mask(gammas, length)
    ends = np.cumsum(lengths).tolist()
    inputs = [x[None, None] for x in (k, k, v)]
    states = {end: retention_recurrent(*(x[:, :, :end] for x in inputs), gammas)[1][0, 0] for end in ends}

    said = (
        f"{time} tokens in chunks of {', '.join(map(str, lengths))}, and the states after tokens "
        f"{', '.join(map(str, ends))}. γ = {gamma:g}: a chunk multiplies the old state by γ^{lengths[0]} = "
        f"{gamma ** lengths[0]:.3f}, adds its own writes times ζ, and the next chunk reads the sum times ξ."
    )
    picture = new_picture(8.6, 5.3, said)
    width, height = 0.46, 0.46 * 8.6 / 5.3
    cell = width / time
    ax = picture.add_axes((0.06, 0.185, width, height), label="blocks")
    _amounts(ax, mask)
    for start, length in spans:
        _outline(ax, start, length)
        if start:
            ax.add_patch(Rectangle((-0.5, start - 0.5), start, length, facecolor="#FBE9DC", edgecolor="none", zorder=0))
            ax.plot((-0.5, start - 0.5), (start - 0.5, start - 0.5), color=ORANGE, linewidth=1.2, linestyle="--")
            write(ax, start / 2 - 0.5, start + length / 2 - 0.5, f"reads $S_{{{start}}}$")
    ax.set(ylabel="token n", xticks=[])
    ax.set_title("blue: scores, all at once; orange: read from one state", loc="left", fontsize=9)
    ax = picture.add_axes((0.06 + width + 0.01, 0.185, cell, height), label="xi")
    _amounts(ax, xi[:, None])
    ax.set(title="ξ", xticks=[], yticks=[])
    ax = picture.add_axes((0.06, 0.185 - 1.2 * cell * 8.6 / 5.3, width, cell * 8.6 / 5.3), label="zeta")
    _amounts(ax, zeta[None, :])
    ax.set(xlabel="past token m", yticks=[])
    picture.text(0.06 + width + 0.012, 0.185 - 0.75 * cell * 8.6 / 5.3, "ζ", va="center", fontsize=10)

    ax = picture.add_axes((0.62, 0.185, 0.36, height), label="states")
    ax.axis("off")
    ax.set_title("the state, handed on", loc="left", fontsize=9)
    _hand_over(ax, states, spans, gamma)
    ax.set(xlim=(0, 0.36 / cell), ylim=(time - 0.5, -0.5))
    return picture


def _hand_over(ax, states, spans, gamma):
    """Each state with its last row where its chunk ends, with arrows: what it keeps, what is written, who reads it."""
    limit, high, wide, left = np.abs(list(states.values())).max(), 2.2, 2.4, 3.2
    arrow = {"arrowstyle": "-|>", "color": ORANGE, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    under = 0.0  # where the state before ends
    for start, length in spans:
        end, middle = start + length, start + length / 2 - 0.5
        top = end - 0.5 - high
        state = states[end]
        extent = (left, left + wide, top + high, top)
        ax.imshow(state, cmap=SIGNED, vmin=-limit, vmax=limit, extent=extent, aspect="auto", clip_on=False)
        for (row, column), value in np.ndenumerate(state):
            x, y = left + (column + 0.5) * wide / state.shape[1], top + (row + 0.5) * high / state.shape[0]
            write(ax, x, y, f"{value + 0.0:.1f}", fontsize=8)
        ax.text(left + wide + 0.2, top + high / 2, f"$S_{{{end}}}$", va="center", color=ORANGE, fontsize=11)
        ax.annotate("", (left - 0.1, top + 0.35 * high), (0.1, middle), arrowprops=arrow | {"color": BLUE})
        ax.text(0.15, middle - 0.25, "$\\mathbf{K}^T(\\mathbf{V}⊙ζ)$", va="bottom", color=BLUE, fontsize=8.5)
        ax.text(0.15, middle - 1.05, f"tokens {start + 1} to {end}:", va="bottom", color=BLUE, fontsize=8.5)
        if start:
            ax.annotate("", (left + wide / 2, top), (left + wide / 2, under), arrowprops=arrow)
            words = f"× $γ^{{{length}}}$ = {gamma**length:.2f}"
            ax.text(left + wide / 2 + 0.2, (top + under) / 2, words, va="center", color=ORANGE, fontsize=8.5)
        under = top + high


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
