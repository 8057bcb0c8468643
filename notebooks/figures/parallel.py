"""Lesson 4: the triangle of scores and the chain of states, cell by cell."""

import numpy as np
from matplotlib import rc_context
from matplotlib.patches import Rectangle

from refimpl import decay_mask

from .explorer import Explorer, choice, slider
from .style import INK, ORANGE, PALE, SIGNED, STYLE, heat, new_picture, sign


@rc_context(STYLE)
def in_matrices(q, k, v, gamma):
    """Eq. 5 with numbers: (Q K^T * D) V = O as six heat maps. q, k (T, K), v (T, V), gamma a number."""
    scores, mask = q @ k.T, decay_mask(np.asarray([gamma]), len(k))[0]
    weights = scores * mask
    panels = (
        ("scores", "scores $QK^T$", scores, "past token m"),
        ("mask", "mask $D$", mask, "past token m"),
        ("weights", r"weights $QK^T \odot D$", weights, "past token m"),
        ("values", "values $V$", v, "value channel"),
        ("outputs", "outputs $O$", weights @ v, "value channel"),
    )
    rows = ", ".join(map(_row, weights @ v))
    said = f"Five heat maps: scores times mask, entry by entry, = weights; weights times values = outputs {rows}."
    picture = new_picture(9.6, 2.6, said)
    widths = {"width_ratios": [matrix.shape[1] for _, _, matrix, _ in panels], "wspace": 0.65}
    axes = picture.subplots(1, 5, gridspec_kw={**widths, "left": 0.05, "right": 0.99, "bottom": 0.2, "top": 0.85})
    for ax, (name, title, matrix, xlabel) in zip(axes, panels, strict=True):
        ax.set_label(name)
        heat(
            ax, matrix, np.abs(matrix).max() or 1, title=title, xlabel=xlabel, ylabel="token n" if ax is axes[0] else ""
        )
    axes[3].set_ylabel("token m", labelpad=1)
    picture.canvas.draw()  # settles the positions that an equal aspect changes
    for index, text in enumerate((r"$\odot$", "=", "×", "=")):
        sign(picture, axes[index], axes[index + 1], text)
    return picture


@rc_context(STYLE)
def two_pictures(q, k, v, gamma, n, m=0):
    """Token n in both forms: the triangle of weights times values (Eq. 5), the chain of states by who wrote them (Eq. 6).

    q, k (T, K), v (T, V), gamma a number; n from 1 to T; m from 1 to T frames the one term that token m gives to o_n
    in both pictures, 0 all of them. The axes are labelled weights, values, parts (cell n, m is gamma^(n-m) k_m^T v_m;
    see `_tiles`), states (S_n), and read left and read right for what comes out under each picture.
    """
    time, limit = len(k), np.abs(k[:, :, None] * v[:, None, :]).max() or 1
    mask = decay_mask(np.asarray([gamma]), time)[0]
    weights = (q @ k.T) * mask  # (T, T)
    parts = mask[:, :, None, None] * (k[:, :, None] * v[:, None, :])  # (T, T, K, V)
    states = parts.sum(1, keepdims=True)  # (T, 1, K, V)
    past = slice(0, n) if m == 0 else slice(m - 1, m)
    left = weights[n - 1, past] @ v[past]  # query times keys first, then the values
    right = q[n - 1] @ parts[n - 1, past].sum(0)  # keys times values first, then the query
    term = f"the term of token {m} in o_{n}" if m else f"o_{n}"
    future = f" Token {m} comes after token {n}, so its term is zero." if m > n else ""
    said = f"Parallel picture: {term} is {_row(left)}. Recurrent picture: {term} is {_row(right)}.{future}"
    picture = new_picture(9.6, 4.8, said)

    def panel(label, left, width, title, columns):
        ax = picture.add_axes((left / 9.6, 1.5 / 4.8, width / 9.6, 2.6 / 4.8), label=label, title=title)
        ax.set(
            xlim=(0, columns), ylim=(time, 0), xticks=[], yticks=np.arange(time) + 0.5, yticklabels=range(1, time + 1)
        )
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        return ax

    ax = panel("weights", 0.45, 2.6, r"weights $\gamma^{n-m}\, q_n k_m^T$", time)
    _tiles(ax, np.where(mask > 0, weights, np.nan)[:, :, None, None], np.abs(weights).max(), 0, 9)
    _past(ax, n, past)
    ax.set_ylabel("token n")
    ax = panel("values", 3.45, 1.1, "values $v_m$", v.shape[1])
    _tiles(ax, v[:, :, None, None], np.abs(v).max(), 0, 9)
    _frame(ax, 0, past.start, v.shape[1], past.stop - past.start, ORANGE)
    ax.set(xlabel="value channel", xticks=np.arange(v.shape[1]) + 0.5, xticklabels=range(1, v.shape[1] + 1))
    ax = panel("parts", 5.25, 2.9, r"written by token m, in $S_n$: $\gamma^{n-m}\, k_m^T v_m$", time)
    _tiles(ax, np.where(mask[:, :, None, None] > 0, parts, np.nan), limit, 1, 6.5)
    _past(ax, n, past)
    ax = panel("states", 8.6, 0.725, "states $S_n$", 1)
    _tiles(ax, states, limit, 1, 6.5)
    _frame(ax, 0.11, n - 0.89, 0.78, 0.78, ORANGE if m == 0 else INK, 2.8 if m == 0 else 1.6)
    for row in range(1, time):
        ax.annotate("", (0.5, row + 0.12), (0.5, row - 0.12), arrowprops={"arrowstyle": "-|>", "color": INK})
        ax.text(0.6, row, "×γ", va="center", fontsize=7.5)
    for x, text in ((2.5, "Parallel picture"), (7.3, "Recurrent picture")):
        picture.text(x / 9.6, 4.6 / 4.8, text, ha="center", va="center", fontsize=12, weight="bold")
    for x, text in ((3.22, "×"), (8.38, "=")):
        picture.text(x / 9.6, 2.8 / 4.8, text, ha="center", va="center", fontsize=15)

    largest = np.abs(weights @ v).max() or 1
    for x, label, numbers in ((1.75, "read left", left), (6.25, "read right", right)):
        ax = picture.add_axes((x / 9.6, 0.1 / 4.8, 1.6 / 9.6, 0.4 / 4.8), label=label, xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.set(xlim=(0, len(numbers)), ylim=(1, 0))
        _tiles(ax, numbers[None, :, None, None], largest, 0, 9)
        picture.text(
            (x + 0.8) / 9.6,
            0.7 / 4.8,
            _formula(label, n, m, q[n - 1], weights[n - 1], v),
            ha="center",
            va="center",
            fontsize=11,
        )
    picture.text(4.8 / 9.6, 0.3 / 4.8, "=", ha="center", va="center", fontsize=20)
    return picture


def two_pictures_explorer(q, k, v, gamma):
    """A widget that picks a token n and a term m in both pictures. q, k (T, K), v (T, V), gamma a number."""
    time = len(k)
    terms = {"all": 0, **{f"{m}": m for m in range(1, time + 1)}}
    return Explorer(
        lambda token, term: two_pictures(q, k, v, gamma, token, term),
        token=slider("token n", time, 1, time),
        term=choice("past token m", terms),
    )


def _tiles(ax, matrices, limit, gap, size):
    """Matrices (R, C, K, V) as one image, matrix r, c in the unit cell r, c; NaN is left empty.

    With gap = 1 the image has an empty row and column after each matrix, and they stand apart; with 0 it has none.
    """
    rows, columns, height, width = matrices.shape
    padded = np.pad(matrices, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    image = padded.transpose(0, 2, 1, 3).reshape(rows * (height + gap), columns * (width + gap))
    right, down = (
        gap / (2 * (width + gap)),
        gap / (2 * (height + gap)),
    )  # brings the matrices to the middle of their cells
    extent = (right, columns + right, rows + down, down)
    ax.imshow(np.ma.masked_invalid(image), cmap=SIGNED, vmin=-limit, vmax=limit, extent=extent, aspect="auto")
    for y, x in np.argwhere(~np.isnan(image)):
        at = right + (x + 0.5) / (width + gap), down + (y + 0.5) / (height + gap)
        color = "white" if abs(image[y, x]) > 0.6 * limit else INK
        ax.text(*at, f"{image[y, x] + 0.0:.3g}", ha="center", va="center", fontsize=size, color=color)
    for row, column in np.argwhere(~np.isnan(matrices[:, :, 0, 0])):
        _frame(ax, column + right, row + down, 1 - 2 * right, 1 - 2 * down, PALE, 0.8)


def _frame(ax, x, y, width, height, color, linewidth=2.8):
    """A rectangle without a filling."""
    style = {"fill": False, "edgecolor": color, "linewidth": linewidth, "clip_on": False, "zorder": 1 + linewidth}
    ax.add_patch(Rectangle((x, y), width, height, **style))


def _past(ax, n, past):
    """A triangle: the future in grey, row n framed in black, its cells `past` in orange."""
    time = round(ax.get_ylim()[0])
    ax.add_patch(Rectangle((0, 0), time, time, facecolor="#F6F6F6", edgecolor="none", zorder=-2))
    ax.set(xlabel="past token m", xticks=np.arange(time) + 0.5, xticklabels=range(1, time + 1))
    _frame(ax, 0, n - 1, n, 1, INK, 1.6)
    _frame(ax, past.start, n - 1, past.stop - past.start, 1, ORANGE)


def _formula(label, n, m, query, weights, v):
    """What stands above the numbers that were read; query (K,), weights (T,) of token n."""
    parallel, asked = label == "read left", f"$q_{n}$ = {_row(query)}"
    if m == 0:
        sum_of_terms = rf"$\sum_m\, (\gamma^{{{n}-m}} q_{n} k_m^T)\, v_m$"
        return sum_of_terms if parallel else rf"$q_{n}\, S_{n}$,  {asked}"
    decay = rf"\gamma^{{{n - m}}}" if m <= n else r"0 \cdot"
    if parallel:
        return rf"$({decay}\, q_{n} k_{m}^T)\, v_{m}$ = {weights[m - 1] + 0.0:.3g} × {_row(v[m - 1])}"
    return rf"$q_{n}\, ({decay}\, k_{m}^T v_{m})$,  {asked}"


def _row(numbers):
    return f"({', '.join(f'{x:.3g}' for x in numbers)})"
