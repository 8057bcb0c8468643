"""Every picture and widget of the course: a lesson passes arrays and gets a picture back.

The functions compute as little as they can, and what they compute comes from refimpl. They return
a `Picture`, a matplotlib figure made without pyplot, so a test can read the plotted arrays back;
axes carry labels (`figure.axes[i].get_label()`) for that purpose. Colour scales are `viridis` for
amounts (its lightness rises steadily, so it survives grey printing and colour blindness) and `RdBu`
for signed numbers, which are then also written into their cells.

Run as a program, this file draws the figure of the README: images/three_forms.png.
"""

import logging
from base64 import b64encode
from io import BytesIO
from itertools import combinations
from pathlib import Path

# In a new environment matplotlib says, from its import on, that it looks for fonts: no lesson should print that.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

import ipywidgets as widgets
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image

from refimpl import decay_mask, retention_chunkwise, retention_parallel, retention_recurrent

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "mathtext.fontset": "dejavusans",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
AMOUNT, SIGNED = "viridis_r", "RdBu_r"
BLUE, ORANGE, INK, PALE = "#0072B2", "#D55E00", "#222222", "#E9E9E9"
# Lines differ in dash and marker as well as in colour, so that no reader depends on the colour.
LINES = (
    {"color": BLUE, "linestyle": "-"},
    {"color": ORANGE, "linestyle": "--"},
    {"color": "#009E73", "linestyle": "-."},
    {"color": "#444444", "linestyle": ":"},
)


class Picture(Figure):
    """A figure that a notebook shows by itself, with its description for those who cannot see it."""

    description = ""

    @rc_context(STYLE)
    def png(self, dpi=130):
        """The picture as PNG bytes: 256 colours, the same bytes each time, without a date or a version."""
        full, small = BytesIO(), BytesIO()
        self.savefig(full, format="png", dpi=dpi)
        palette = Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        palette.save(small, format="png", optimize=True)  # a third of the size
        return small.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None):
        shown = {"alt": self.description, "width": round(100 * self.get_figwidth())}
        return {"image/png": b64encode(self.png()).decode(), "text/plain": self.description}, {"image/png": shown}


def _picture(width, height, description, **kwargs):
    picture = Picture(figsize=(width, height), **kwargs)
    picture.description = description
    return picture


def _heat(ax, array, limit, *, title="", signed=True, xlabel="value channel", ylabel="key channel"):
    """A matrix as a heat map with its numbers written in, channels counted from 1."""
    array = np.atleast_2d(array)
    ax.imshow(array, cmap=SIGNED if signed else AMOUNT, vmin=-limit if signed else 0, vmax=limit, aspect="equal")
    for (row, column), value in np.ndenumerate(array):
        dark = abs(value) > 0.6 * limit
        ax.text(column, row, f"{value + 0.0:.3g}", ha="center", va="center", color="white" if dark else INK, fontsize=8)
    ax.set_xticks(range(array.shape[1]), range(1, array.shape[1] + 1))
    ax.set_yticks(range(array.shape[0]), range(1, array.shape[0] + 1))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)


def _sign(picture, left, right, text):
    """Write a sign such as + or = halfway between two neighbouring axes."""
    a, b = left.get_position(), right.get_position()
    picture.text((a.x1 + b.x0) / 2 - 0.006, (a.y0 + a.y1) / 2, text, ha="center", va="center", fontsize=15)


@rc_context(STYLE)
def outer_products(k, v, names):
    """Each written matrix k_m^T v_m, and their sum: the state. k (T, K), v (T, V), T names."""
    written = k[:, :, None] * v[:, None, :]  # (T, K, V)
    pictures = [*written, written.sum(0)]
    limit = np.abs(pictures).max() or 1
    titles = [f"{name}: $k_{m}^T v_{m}$" for m, name in enumerate(names, 1)] + ["the state $S$"]
    picture = _picture(1.6 * len(pictures), 2.5, f"Heat maps: {' + '.join(names)} = the state, value by value.")
    axes = picture.subplots(1, len(pictures), gridspec_kw={"wspace": 0.65, "left": 0.08, "right": 0.98, "bottom": 0.2})
    for ax, matrix, title in zip(axes, pictures, titles, strict=True):
        _heat(ax, matrix, limit, title=title, ylabel="key channel" if ax is axes[0] else "")
    picture.canvas.draw()  # settles the positions that an equal aspect changes
    for index in range(len(names)):
        _sign(picture, axes[index], axes[index + 1], "=" if index == len(names) - 1 else "+")
    return picture


@rc_context(STYLE)
def states_over_time(states, names, gamma):
    """The state after each token, side by side. states (T, K, V), T names."""
    picture = _picture(
        1.3 * len(states) + 0.5, 2.5, f"Heat maps of the state after each of {len(states)} tokens, gamma = {gamma:g}."
    )
    axes = picture.subplots(
        1, len(states), sharey=True, gridspec_kw={"wspace": 0.35, "left": 0.07, "right": 0.99, "bottom": 0.2}
    )
    for n, (ax, state, name) in enumerate(zip(np.atleast_1d(axes), states, names, strict=True), 1):
        _heat(ax, state, np.abs(states).max() or 1, title=f"$S_{{{n}}}$, token {n}\n{name}", ylabel="")
    np.atleast_1d(axes)[0].set_ylabel("key channel")
    return picture


@rc_context(STYLE)
def curves(x, lines, *, xlabel, ylabel, description, log="", marks=()):
    """Named lines over one x axis. lines: {name: y}; marks: (x, y, text) points; log: "", "x", "y" or "xy"."""
    picture = _picture(6.6, 3.1, description, layout="constrained")
    ax = picture.subplots()
    for (name, y), style in zip(lines.items(), LINES, strict=False):
        ax.plot(x, y, label=name, **style)
    for mark_x, mark_y, text in marks:
        ax.plot([mark_x], [mark_y], "o", color=INK, markersize=5)
        side, shift = ("left", (8, -14)) if log else ("right", (-5, -11))
        ax.annotate(text, (mark_x, mark_y), xytext=shift, textcoords="offset points", ha=side, fontsize=8)
    if "x" in log:
        ax.set_xscale("log", base=2)
    if "y" in log:
        ax.set_yscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(color=PALE)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3)
    return picture


@rc_context(STYLE)
def step_picture(q, k, v, gamma, n):
    """Token n of Eq. 6 as a sum of matrices: what was kept, what is written, the state, what is read.

    q, k (T, K), v (T, V), gamma a number; n from 0 (before the first token) to T. The four axes are
    labelled kept, written, state and read.
    """
    gammas = np.asarray([gamma], dtype=np.float64)
    history = [
        retention_recurrent(*(x[None, None, :length] for x in (q, k, v)), gammas)[1][0, 0]
        for length in range(len(k) + 1)
    ]
    state = history[n]
    written = np.outer(k[n - 1], v[n - 1]) if n else np.zeros_like(state)
    kept = gamma * history[n - 1] if n else np.zeros_like(state)
    read = q[n - 1] @ state if n else np.zeros(v.shape[1])
    limit = max(np.abs(history).max(), np.abs(np.einsum("nk,nv->nkv", k, v)).max(initial=0)) or 1
    picture = _picture(8.4, 2.6, f"Token {n}: kept + written = state; the query reads {np.round(read, 3).tolist()}.")
    axes = picture.subplots(1, 4, gridspec_kw={"wspace": 0.6, "left": 0.07, "right": 0.98, "bottom": 0.2, "top": 0.8})
    titles = (rf"kept: $\gamma\,S_{{{n - 1}}}$", rf"written: $k_{{{n}}}^T v_{{{n}}}$") if n else ("kept", "written")
    read_title = rf"read: $o_{{{n}}} = q_{{{n}}} S_{{{n}}}$" if n else "read"
    for ax, name, matrix, title in zip(
        axes,
        ("kept", "written", "state", "read"),
        (kept, written, state, read),
        (*titles, f"state $S_{{{n}}}$", read_title),
        strict=True,
    ):
        ax.set_label(name)
        _heat(ax, matrix, limit, title=title, ylabel="" if name == "read" else "key channel")
    axes[3].set_yticks([])
    if n:
        asked = ", ".join(f"{x:g}" for x in q[n - 1])
        axes[3].set_xlabel(f"value channel\n\n$q_{{{n}}}$ = ({asked})")
    picture.canvas.draw()
    for index, sign in enumerate(("+", "=", "→")):
        _sign(picture, axes[index], axes[index + 1], sign)
    return picture


class StateStepper(widgets.VBox):
    """Two sliders, token n and decay gamma; the picture of that step; the same in words.

    Everything is redrawn when a slider moves. `picture` is the drawn figure, `token` and `decay`
    are the sliders (focus one and press an arrow key), `words` tells a screen reader what changed.
    """

    def __init__(self, q, k, v, gamma, names=None):
        self.arrays = tuple(np.asarray(x, dtype=np.float64) for x in (q, k, v))
        self.names = names or [""] * len(k)
        look = {"style": {"description_width": "70px"}, "layout": {"width": "440px"}}
        self.token = widgets.IntSlider(value=0, min=0, max=len(k), description="token n", **look)
        self.decay = widgets.FloatSlider(value=gamma, min=0.05, max=1.0, step=0.05, description="decay γ", **look)
        self.screen = widgets.Image(format="png", layout={"max_width": "840px"})
        self.words = widgets.HTML()
        super().__init__([self.token, self.decay, self.screen, self.words])
        for slider in (self.token, self.decay):
            slider.observe(self.draw, names="value")
        self.draw()

    def draw(self, change=None):
        """Draw the step that the sliders stand at."""
        n = self.token.value
        self.picture = step_picture(*self.arrays, self.decay.value, n)
        self.screen.value = self.picture.png()
        name = f" ({self.names[n - 1]})" if n and self.names[n - 1] else ""
        said = self.picture.description if n else "Token 0: nothing has been written; the state is zero."
        self.words.value = f'<span role="status">{said.replace(":", name + ":", 1)}</span>'


def state_stepper(q, k, v, gamma, names=None):
    """A widget that steps through the tokens of one head. q, k (T, K), v (T, V), gamma a number, T names."""
    return StateStepper(q, k, v, gamma, names)


@rc_context(STYLE)
def three_forms(q, k, v, gamma, chunk_size):
    """One retention, three pictures: the matrix QK^T * D, the chain of states, blocks and carried states.

    q, k (T, K), v (T, V), all non-negative; gamma a number; chunk_size divides T. Under each picture
    stands the output of its form. The largest difference between any two outputs is measured here,
    written below them and kept as the attribute `difference`.
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
    picture = _picture(10, 5.6, "Three pictures of one retention, each above its output; the outputs are the same.")
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
        out.tick_params(length=0)
        out.spines[:].set_visible(False)
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
    ax.tick_params(length=0, labelsize=8)
    ax.spines[:].set_visible(False)
    ax.add_patch(Rectangle((0, 0), time, time, facecolor="#F6F6F6", edgecolor="none", zorder=-2))


def _tile(ax, matrix, left, top, size, limit, edge=None):
    """A matrix as a small heat map inside larger axes, framed in the colour `edge`."""
    extent = (left, left + size, top + size, top)
    ax.imshow(matrix, cmap=AMOUNT, vmin=0, vmax=limit, extent=extent, aspect="equal", zorder=2)
    ax.add_patch(
        Rectangle((left, top), size, size, fill=False, edgecolor=edge or INK, linewidth=2.4 if edge else 0.8, zorder=3)
    )


def _arrow(ax, start, end, color=INK, bend="arc3"):
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=10, connectionstyle=bend, color=color, linewidth=1.4, zorder=4
        )
    )


def _outline_block(ax, start, length):
    """The frame of the block of scores that the chunkwise form computes from token `start` on."""
    frame = {"fill": False, "edgecolor": BLUE, "linewidth": 2.4, "zorder": 3, "clip_on": False}
    ax.add_patch(Rectangle((start, start), length, length, **frame))


def _draw_parallel(ax, scores, states, chunk_size):
    """The whole matrix, with the blocks that the chunkwise form keeps outlined."""
    time = len(scores)
    _token_square(ax, time)
    above = np.triu(np.ones_like(scores, dtype=bool), 1)
    ax.imshow(np.ma.masked_array(scores, above), cmap=AMOUNT, vmin=0, vmax=scores.max(), extent=(0, time, time, 0))
    for start in range(0, time, chunk_size):
        _outline_block(ax, start, chunk_size)
    ax.set(xlim=(0, time), ylim=(time, 0))
    ax.text(time * 0.97, time * 0.05, "the future:\nzero", ha="right", va="top", fontsize=8.5, color="#666666")


def _draw_recurrent(ax, scores, states, chunk_size):
    """The chain of states, one row a chunk; the last of a row is what the chunkwise form carries."""
    limit, size, rows = max(s.max() for s in states), 0.62, -(-len(states) // chunk_size)
    centre = size / 2
    for n, state in enumerate(states):
        row, column = divmod(n, chunk_size)
        carried = column == chunk_size - 1 and row < rows - 1
        _tile(ax, state, column, row, size, limit, ORANGE if carried else None)
        ax.text(column + centre, row - 0.05, f"$S_{n + 1}$", ha="center", va="bottom", fontsize=9.5)
        if column < chunk_size - 1 and n + 1 < len(states):
            _arrow(ax, (column + size + 0.03, row + centre), (column + 0.98, row + centre))
            ax.text(column + (1 + size) / 2, row + centre - 0.06, "×γ", ha="center", va="bottom", fontsize=8)
        elif n + 1 < len(states):  # on to the next row
            lower = row + (1 + size) / 2 - 0.06
            points = [(column + centre, row + size), (column + centre, lower), (-0.2, lower), (-0.2, row + 1 + centre)]
            ax.plot(*zip(*points, strict=True), color=ORANGE, linewidth=1.4, zorder=1)
            _arrow(ax, points[-1], (-0.01, row + 1 + centre), ORANGE)
    ax.set(xlim=(-0.3, chunk_size - 1 + size + 0.1), ylim=(rows - 1 + size + 0.1, -0.25), aspect="equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.set_xlabel(
        f"read by $o_n = q_n S_n$; a state is {states[0].shape[0]} × {states[0].shape[1]} numbers", labelpad=8
    )


def _draw_chunkwise(ax, scores, states, chunk_size):
    """The diagonal blocks of the matrix; everything left of them has become one carried state."""
    time, size = len(scores), 0.56 * chunk_size
    limit = max(s.max() for s in states)
    _token_square(ax, time)
    for start in range(0, time, chunk_size):
        end = start + chunk_size
        block = scores[start:end, start:end]
        above = np.triu(np.ones_like(block, dtype=bool), 1)
        block = np.ma.masked_array(block, above)
        ax.imshow(block, cmap=AMOUNT, vmin=0, vmax=scores.max(), extent=(start, end, end, start))
        _outline_block(ax, start, chunk_size)
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


def main():
    """Write images/three_forms.png, the figure of the README."""
    rng = np.random.default_rng(0)
    q, k, v = rng.uniform(0.5, 1.0, (9, 4)), rng.uniform(0.5, 1.0, (9, 4)), rng.uniform(0.0, 1.0, (9, 4))
    picture = three_forms(q, k, v, gamma=0.75, chunk_size=3)
    path = Path(__file__).parent / "images" / "three_forms.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(picture.png(dpi=200))
    print(f"{path.name}: largest difference between the forms {picture.difference:.1e}")


if __name__ == "__main__":
    main()
