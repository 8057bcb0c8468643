"""Lesson 4: the triangle of weights and the chain of states, cell by cell."""

import numpy as np

from refimpl import decay_mask

from .style import INK, ORANGE, PALE, SIGNED, bare, equation, frame, future, new_picture, number, styled, write


@styled
def in_matrices(q, k, v, gamma):
    """Eq. 5 with numbers: (Q K^T * D) V = O as five heat maps. q, k (T, K), v (T, V), gamma a number.

    Scores, mask and weights share a colour scale, and so do values and outputs.
    """
    scores, mask = q @ k.T, decay_mask(np.asarray([gamma]), len(k))[0]
    weights = scores * mask
    outputs = weights @ v
    labels, matrices = ("scores", "mask", "weights", "values", "outputs"), (scores, mask, weights, v, outputs)
    formulas = (r"\mathbf{QK}^T", "D", r"\mathbf{QK}^T \odot D", r"\mathbf{V}", r"\mathbf{O}")
    titles = [f"{label} ${formula}$" for label, formula in zip(labels, formulas, strict=True)]
    read = ", ".join(map(_row, outputs))
    said = f"Five heat maps: scores times mask, entry by entry, = weights; weights times values = outputs {read}."
    picture = new_picture(9.6, 2.6, said)
    grid = {"width_ratios": [matrix.shape[1] for matrix in matrices], "wspace": 0.65}
    grid |= {"left": 0.05, "right": 0.99, "top": 0.85}
    numbers, rows = (np.abs(np.concatenate(parts, axis=1)).max() or 1 for parts in (matrices[:3], matrices[3:]))
    text = {"xlabel": "past token m", "ylabel": "token n", "limit": [numbers] * 3 + [rows] * 2}
    axes = equation(picture, labels, matrices, titles, (r"$\odot$", "=", "×", "="), **text, **grid)
    axes[3].set_ylabel("token m", labelpad=1)
    for ax in axes[3:]:
        ax.set_xlabel("value channel")
    return picture


@styled
def two_pictures(q, k, v, gamma, n, m=0):
    """Token n in both forms: the triangle of weights times values (Eq. 5), the states by who wrote them (Eq. 6).

    q, k (T, K), v (T, V), gamma a number; n from 1 to T. m from 1 to T frames in both pictures the one term that token
    m gives to o_n; 0 frames all of them. The axes are labelled weights, values, parts (cell n, m is
    gamma^(n-m) k_m^T v_m; see `_tiles`), states (S_n), and read left and read right for the outputs below the pictures.
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
    future_term = f" Token {m} comes after token {n}, so its term is zero." if m > n else ""
    said = f"Parallel picture: {term} is {_row(left)}. Recurrent picture: {term} is {_row(right)}.{future_term}"
    across = 10.0
    picture = new_picture(across, 4.8, said)

    def panel(label, left, bottom, width, height, columns, rows, **text):
        place = (left / across, bottom / 4.8, width / across, height / 4.8)
        ax = picture.add_axes(place, label=label, xticks=[], yticks=[], **text)
        ax.set(xlim=(0, columns), ylim=(rows, 0))
        bare(ax)
        return ax

    def say(x, y, text, fontsize, **look):
        picture.text(x / across, y / 4.8, text, ha="center", va="center", fontsize=fontsize, **look)

    titles = {"weights": r"weights $\gamma^{n-m}\, q_n k_m^T$", "values": "values $v_m$", "states": "states $S_n$"}
    titles |= {"parts": r"written by token m, in $S_n$: $\gamma^{n-m}\, k_m^T v_m$"}
    axes = {
        label: panel(label, start, 1.5, width, 2.6, columns, time, title=titles[label])
        for label, start, width, columns in (
            ("weights", 0.45, 2.6, time),
            ("values", 3.45, 1.1, v.shape[1]),
            ("parts", 5.25, 2.9, time),
            ("states", 8.6, 0.725, 1),
        )
    }
    for ax in axes.values():
        ax.set_yticks(np.arange(time) + 0.5, range(1, time + 1))
    _tiles(axes["weights"], np.where(mask > 0, weights, np.nan)[:, :, None, None], np.abs(weights).max(), 0, 9)
    _past(axes["weights"], n, past)
    axes["weights"].set_ylabel("token n")
    _tiles(axes["values"], v[:, :, None, None], np.abs(v).max(), 0, 9)
    frame(axes["values"], 0, past.start, v.shape[1], past.stop - past.start, ORANGE, 2.8)
    axes["values"].set_xticks(np.arange(v.shape[1]) + 0.5, range(1, v.shape[1] + 1))
    axes["values"].set_xlabel("value channel")
    _tiles(axes["parts"], np.where(mask[:, :, None, None] > 0, parts, np.nan), limit, 1, 8)
    _past(axes["parts"], n, past, inset=0.13)  # clear of the plus signs
    _tiles(axes["states"], states, limit, 1, 8)
    frame(axes["states"], 0.11, n - 0.89, 0.78, 0.78, *((INK, 1.6) if m else (ORANGE, 2.8)))
    for row in range(1, time):
        arrow = {"arrowstyle": "-|>", "color": INK}
        axes["states"].annotate("", (0.22, row + 0.12), (0.22, row - 0.12), arrowprops=arrow)
        axes["states"].text(0.32, row, "×γ + kᵀv", va="center", fontsize=8)
        for column in range(1, row + 1):
            axes["parts"].text(column, row + 0.5, "+", ha="center", va="center", fontsize=11, zorder=9)
    say(2.5, 4.6, "Parallel picture", 12, weight="bold")
    say(7.3, 4.6, "Recurrent picture", 12, weight="bold")
    say(3.22, 2.8, "×", 15)
    say(8.38, 2.8, "=", 15)

    largest = np.abs(weights @ v).max() or 1
    for x, label, numbers in ((1.75, "read left", left), (6.25, "read right", right)):
        _tiles(panel(label, x, 0.1, 1.6, 0.4, len(numbers), 1), numbers[None, :, None, None], largest, 0, 9)
        say(x + 0.8, 0.7, _formula(label, n, m, q[n - 1], weights[n - 1], v), 11)
    say(4.8, 0.3, "=", 20)
    return picture


def _tiles(ax, matrices, limit, gap, size):
    """Matrices (R, C, K, V) as one image, matrix r, c in the unit cell r, c; NaN is left empty.

    gap = 1 adds an empty row and column after each matrix, so that the matrices stand apart; gap = 0 adds none.
    """
    rows, columns, height, width = matrices.shape
    padded = np.pad(matrices, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
    image = padded.transpose(0, 2, 1, 3).reshape(rows * (height + gap), columns * (width + gap))
    right, down = gap / (2 * (width + gap)), gap / (2 * (height + gap))  # moves each matrix to the middle of its cell
    extent = (right, columns + right, rows + down, down)
    ax.imshow(np.ma.masked_invalid(image), cmap=SIGNED, vmin=-limit, vmax=limit, extent=extent, aspect="auto")
    for y, x in np.argwhere(~np.isnan(image)):
        at = right + (x + 0.5) / (width + gap), down + (y + 0.5) / (height + gap)
        write(ax, *at, number(image[y, x]), fontsize=size)
    for row, column in np.argwhere(~np.isnan(matrices[:, :, 0, 0])):
        frame(ax, column + right, row + down, 1 - 2 * right, 1 - 2 * down, PALE, 0.8)


def _past(ax, n, past, inset=0.0):
    """A triangle: the future in grey, row n framed in black, its cells `past` in orange, `inset` from their sides."""
    time = round(ax.get_ylim()[0])
    future(ax, time)
    ax.set_xticks(np.arange(time) + 0.5, range(1, time + 1))
    ax.set_xlabel("past token m")
    frame(ax, 0, n - 1, n, 1, INK, 1.6)
    frame(ax, past.start + inset, n - 1, past.stop - past.start - 2 * inset, 1, ORANGE, 2.8)


def _formula(label, n, m, query, weights, v):
    """The formula above the outputs; query (K,) and weights (T,) are those of token n."""
    parallel, asked = label == "read left", f"$q_{n}$ = {_row(query)}"
    if m == 0:
        sum_of_terms = rf"$\sum_m\, (\gamma^{{{n}-m}} q_{n} k_m^T)\, v_m$"
        return sum_of_terms if parallel else rf"$q_{n}\, S_{n}$,  {asked}"
    decay = rf"\gamma^{{{n - m}}}" if m <= n else r"0 \cdot"
    if parallel:
        return rf"$({decay}\, q_{n} k_{m}^T)\, v_{m}$ = {number(weights[m - 1])} × {_row(v[m - 1])}"
    return rf"$q_{n}\, ({decay}\, k_{m}^T v_{m})$,  {asked}"


def _row(numbers):
    return f"({', '.join(f'{x:.3g}' for x in numbers)})"
