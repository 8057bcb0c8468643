"""The three forms of one retention side by side: the figure of the README."""

from itertools import combinations

import numpy as np
from matplotlib.patches import FancyArrowPatch

from refimpl import decay_mask, retention_chunkwise, retention_parallel, retention_recurrent

from .style import AMOUNT, BLUE, GREY, INK, ORANGE, bare, frame, future, new_picture, styled


@styled
def three_forms(q, k, v, gamma, chunk_size):
    """One retention in three pictures: the matrix QK^T * D, the chain of states, blocks and carried states.

    q, k (T, K), v (T, V), all non-negative; gamma a number; chunk_size divides T. Below each picture is the output of
    its form. The largest difference between any two outputs is measured, written and kept as `picture.difference`.
    """
    inputs, gammas = [x[None, None] for x in (q, k, v)], np.asarray([gamma])
    scores = (q @ k.T) * decay_mask(gammas, len(k))[0]
    states = [retention_recurrent(*(x[:, :, : n + 1] for x in inputs), gammas)[1][0, 0] for n in range(len(k))]
    outs = {
        "parallel": retention_parallel(*inputs, gammas)[0][0, 0],
        "recurrent": retention_recurrent(*inputs, gammas)[0][0, 0],
        "chunkwise": retention_chunkwise(*inputs, gammas, chunk_size=chunk_size)[0][0, 0],
    }
    difference = max(np.abs(a - b).max() for a, b in combinations(outs.values(), 2))
    picture = new_picture(10, 5.6, "Three pictures of one retention, each above its output; the outputs are the same.")
    picture.difference = difference
    carried = " and ".join(f"$S_{n}$" for n in range(chunk_size, len(k), chunk_size))
    panels = (
        ("parallel", r"all tokens at once: $O = (QK^T \odot D)\,V$  (Eq. 5)", _draw_parallel),
        ("recurrent", r"token by token: $S_n = \gamma S_{n-1} + k_n^T v_n$  (Eq. 6)", _draw_recurrent),
        ("chunkwise", "block by block, a state in between  (Eq. 7)", _draw_chunkwise),
    )
    for column, (name, line, draw) in enumerate(panels):
        left = 0.05 + 0.33 * column
        picture.text(left + 0.135, 0.947, name.capitalize(), ha="center", fontsize=14, weight="bold", color=INK)
        picture.text(left + 0.135, 0.9, line, ha="center", fontsize=9, color=INK)
        draw(picture.add_axes((left, 0.385, 0.27, 0.27 * 10 / 5.6), label=name), scores, states, chunk_size)
        out = picture.add_axes((left, 0.185, 0.27, 0.10), label=f"{name} output")
        out.imshow(outs[name].T, cmap=AMOUNT, vmin=0, vmax=max(o.max() for o in outs.values()), aspect="auto")
        out.set_xticks(range(len(k)), [f"$o_{n + 1}$" for n in range(len(k))])
        out.set_yticks([])
        bare(out)
        if column:
            picture.text(left - 0.03, 0.235, "=", ha="center", va="center", fontsize=20, color=INK)
        else:
            out.set_ylabel("value\nchannel", fontsize=8)
    picture.text(
        0.5,
        0.02,
        "Blue: the blocks that the chunkwise form computes in parallel. "
        f"Orange: the states that it carries, {carried} of the recurrent chain.\n"
        f"One function: the largest difference between any two of these outputs is {difference:.1e}, "
        f"where the largest output is {outs['parallel'].max():.1f}.\n"
        f"Measured while drawing: float64, T = {len(k)}, K = {k.shape[1]}, V = {v.shape[1]}, γ = {gamma:g}, "
        f"C = {chunk_size}. Darker is larger.",
        ha="center",
        fontsize=9,
        color=INK,
        linespacing=1.5,
    )
    return picture


def _token_square(ax, time):
    """A square of token n (downwards) against past token m, still empty."""
    ax.set(xlim=(0, time), ylim=(time, 0), aspect="equal", xlabel="past token m", ylabel="token n")
    ax.set_xticks(np.arange(time) + 0.5, range(1, time + 1))
    ax.set_yticks(np.arange(time) + 0.5, range(1, time + 1))
    bare(ax, labelsize=8)
    future(ax, time)


def _tile(ax, matrix, left, top, size, limit, edge=None):
    """A matrix as a small heat map inside larger axes; `edge` is the colour of a thicker frame."""
    extent = (left, left + size, top + size, top)
    ax.imshow(matrix, cmap=AMOUNT, vmin=0, vmax=limit, extent=extent, aspect="equal", zorder=2)
    frame(ax, left, top, size, size, edge or INK, 2.4 if edge else 0.8, zorder=3)


def _arrow(ax, start, end, color=INK):
    look = {"arrowstyle": "-|>", "mutation_scale": 10, "color": color, "linewidth": 1.4, "zorder": 4}
    ax.add_patch(FancyArrowPatch(start, end, **look))


def _draw_scores(ax, scores, start, end):
    """The scores among tokens start ... end - 1, without the future."""
    block = scores[start:end, start:end]
    block = np.ma.masked_array(block, np.triu(np.ones_like(block, dtype=bool), 1))
    ax.imshow(block, cmap=AMOUNT, vmin=0, vmax=scores.max(), extent=(start, end, end, start))


def _draw_parallel(ax, scores, states, chunk_size):
    """The whole matrix, with outlines around the blocks that the chunkwise form keeps."""
    time = len(scores)
    _token_square(ax, time)
    _draw_scores(ax, scores, 0, time)
    for start in range(0, time, chunk_size):
        frame(ax, start, start, chunk_size, chunk_size, BLUE, 2.4)
    ax.set(xlim=(0, time), ylim=(time, 0))
    ax.text(time * 0.97, time * 0.05, "the future:\nzero", ha="right", va="top", fontsize=8.5, color=GREY)


def _draw_recurrent(ax, scores, states, chunk_size):
    """The chain of states, a row for each chunk; the chunkwise form carries the last state of a row."""
    limit, size, rows = max(s.max() for s in states), 0.5, -(-len(states) // chunk_size)
    centre = size / 2
    for n, state in enumerate(states):
        row, column = divmod(n, chunk_size)
        carried = column == chunk_size - 1 and row < rows - 1
        _tile(ax, state, column, row, size, limit, ORANGE if carried else None)
        ax.text(column + centre, row - 0.05, f"$S_{n + 1}$", ha="center", va="bottom", fontsize=9.5)
        if column < chunk_size - 1 and n + 1 < len(states):
            _arrow(ax, (column + size + 0.03, row + centre), (column + 0.98, row + centre))
            middle = column + (1 + size) / 2
            ax.text(middle, row + centre - 0.05, "×γ", ha="center", va="bottom", fontsize=9)
            ax.text(
                middle, row + centre + 0.06, f"$+\\,k_{{{n + 2}}}^T v_{{{n + 2}}}$", ha="center", va="top", fontsize=8
            )
        elif n + 1 < len(states):  # from the end of a row to the next
            lower = row + (1 + size) / 2 - 0.06
            points = [(column + centre, row + size), (column + centre, lower), (-0.2, lower), (-0.2, row + 1 + centre)]
            ax.plot(*zip(*points, strict=True), color=ORANGE, linewidth=1.4, zorder=1)
            _arrow(ax, points[-1], (-0.01, row + 1 + centre), ORANGE)
            ax.text(
                column - 0.03,
                lower - 0.02,
                f"×γ  $+\\,k_{{{n + 2}}}^T v_{{{n + 2}}}$",
                ha="right",
                va="bottom",
                fontsize=8,
            )
    ax.set(xlim=(-0.3, chunk_size - 1 + size + 0.1), ylim=(rows - 1 + size + 0.1, -0.25), aspect="equal")
    ax.set(xticks=[], yticks=[])
    bare(ax)
    key_dim, value_dim = states[0].shape
    ax.set_xlabel(f"read by $o_n = q_n S_n$; a state is {key_dim} × {value_dim} numbers", labelpad=8)


def _draw_chunkwise(ax, scores, states, chunk_size):
    """The diagonal blocks of the matrix; a carried state replaces everything to the left of them."""
    time, size = len(scores), 0.56 * chunk_size
    limit = max(s.max() for s in states)
    _token_square(ax, time)
    for start in range(0, time, chunk_size):
        end = start + chunk_size
        _draw_scores(ax, scores, start, end)
        frame(ax, start, start, chunk_size, chunk_size, BLUE, 2.4)
        if end < time:
            left, top = start + 0.22 * chunk_size, end + 0.22 * chunk_size
            _tile(ax, states[end - 1], left, top, size, limit, ORANGE)
            ax.text(left - 0.1, top + size / 2, f"$S_{end}$", ha="right", va="center", fontsize=9.5)
            _arrow(ax, (left + size / 2, end), (left + size / 2, top), ORANGE)
            _arrow(ax, (left + size, top + size / 2), (end + 0.02, top + size / 2), ORANGE)
            if end + chunk_size < time:
                _arrow(ax, (left + size, top + size), (left + chunk_size, top + chunk_size), ORANGE)
                ax.text(left + size - 0.1, top + size + 0.2, "$×γ^C$", ha="right", va="top", fontsize=8)
    ax.set(xlim=(0, time), ylim=(time, 0))
