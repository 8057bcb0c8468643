"""Lessons 9 and 14: which bytes surprise a trained model, which heads and parts it needs, and how much of its past."""

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath

from .style import INK, LINES, PALE, SHARE, cells, headline, new_picture, styled

COLUMNS = 92  # characters in a row
MOST = 8.0  # bits of the darkest cell: the cost of a blind guess among 256 bytes
LEADING = 1.75  # height of a row, in widths of a character
ADVANCE = 0.602  # width of a character of the font, in font sizes


@styled
def surprise(tokens, bits, *, description):
    """A text with a cell for each byte, darker the more bits it cost. tokens (N,) bytes; bits (N,), NaN for given bytes.

    Given bytes are bold on white. The axes are labelled text and scale.
    """
    tokens, bits = np.asarray(tokens), np.asarray(bits, dtype=np.float64)
    rows = -(-len(tokens) // COLUMNS)
    shades = np.full((rows, COLUMNS), np.nan)
    shades.flat[: len(tokens)] = bits
    width, below = 9.0, 0.72
    text_height = rows * LEADING * width / COLUMNS
    height = text_height + below + 0.05
    picture = new_picture(width, height, description)
    ax = picture.add_axes((0, below / height, 1, text_height / height), label="text")
    image = ax.imshow(shades, cmap=SHARE, vmin=0, vmax=MOST, extent=(0, COLUMNS, 0, rows * LEADING), aspect="auto")
    given = np.isnan(bits)
    for keep, weight in ((given, "bold"), (~given, "normal")):
        for row in range(rows):
            line = slice(row * COLUMNS, (row + 1) * COLUMNS)
            text = "".join(shown(t) if k else " " for t, k in zip(tokens[line], keep[line], strict=True))
            if text.strip():  # an outline of nothing is an error
                ax.add_patch(_line(text, (rows - 1 - row + 0.27) * LEADING, weight))
    ax.set_axis_off()
    bar = picture.add_axes((0.35, 0.42 / height, 0.3, 0.11 / height), label="scale")
    picture.colorbar(image, cax=bar, orientation="horizontal", ticks=range(0, 9, 2))
    bar.tick_params(labelsize=8, length=2)
    bar.set_xlabel("bits that the byte cost", fontsize=8, labelpad=1)
    return picture


def _line(text, height, weight):
    """A row of characters as one outline: faster to draw than many texts, and each character lies exactly on its cell."""
    font = FontProperties(family="DejaVu Sans Mono", weight=weight)
    outline = TextPath((0, height), text.replace("$", r"\$"), size=1 / ADVANCE, prop=font)
    return PathPatch(outline, facecolor=INK, edgecolor="none", label=text)


def shown(token):
    """A byte as one visible character: itself, ¶ for a new line, · if it is not printable ASCII."""
    return "¶" if token == 10 else chr(token) if 32 <= token < 127 else "·"


@styled
def heads(rise, error, windows, rows):
    """Bits per byte that each missing head costs, with the standard error, as a heat map on a logarithmic scale.

    rise, error (N, H); windows (H,), the half-lives or other lengths of the heads in bytes; rows: N names.
    """
    row, head = np.unravel_index(rise.argmax(), rise.shape)
    least, most = 0.005, rise[row, head]
    said = (
        f"Bits per byte that each missing head costs, {len(rows)} rows by {rise.shape[1]} heads; the most in row "
        f"{rows[row]}, head {head}: {most:.2f}."
    )
    picture = new_picture(1.15 * rise.shape[1] + 1.6, 0.42 * len(rows) + 1.15, said, layout="constrained")
    ax = picture.subplots()
    cells(
        ax,
        rise,
        lambda value: f"{round(value, 3) + 0.0:.3f}",
        norm=LogNorm(least, most, clip=True),
        aspect="auto",
    )
    for text, value in zip(ax.texts, error.ravel(), strict=True):
        text.set_text(f"{text.get_text()} ± {value:.3f}")
    ax.set_xticks(range(len(windows)), [f"{h}\n{window:,.0f}" for h, window in enumerate(windows)])
    ax.set_yticks(range(len(rows)), rows)
    ax.axhline(len(rows) - 1.5, color=INK, linewidth=1.2)
    ax.set(
        xlabel="head h, and its effective window in bytes",
        title="bits per byte more without the head, ± standard error",
    )
    return picture


@styled
def bars(x, y, error, *, xlabel, ylabel, description, level=None):
    """Measured values with their standard errors. x, y, error (N,); x is logarithmic; level: a dashed line."""
    picture = new_picture(6.6, 3.0, description, layout="constrained")
    ax = picture.subplots()
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.errorbar(x, y, error, color=LINES[0]["color"], marker="o", markersize=4, capsize=3, linewidth=1.2)
    if level is not None:
        ax.axhline(level, **LINES[1] | {"linewidth": 1.2})
        ax.text(x[-1], level, f"{level:g}", color=LINES[1]["color"], va="bottom", ha="right")
    ax.set_xscale("log", base=2)
    ax.set_xticks(x, [f"{value:,}" for value in x])
    ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(color=PALE)
    return picture


@styled
def dots(names, x, error, *, reach, xlabel, description, title="", colors=None):
    """Measured differences with bars of `reach` standard errors, a row for each name from the top down; settled ones are filled.

    x, error (N,). Settled: the bar does not touch zero. colors: {name: its colour}, of those that are not blue; or a list of N
    colours. A name that comes again shares its row: its marks stand one below the other.
    """
    rows = list(dict.fromkeys(names))
    shared = len(rows) < len(names)
    picture = new_picture(6.6, (0.4 if shared else 0.26) * len(rows) + 0.95, description, layout="constrained")
    ax = picture.subplots()
    ax.axvline(0, color=INK, linewidth=0.8)
    if not isinstance(colors, list):
        colors = [(colors or {}).get(name, LINES[0]["color"]) for name in names]
    for i, (name, value, around) in enumerate(zip(names, x, error, strict=True)):
        row = rows.index(name) + 0.3 * (names[:i].count(name) - (names.count(name) - 1) / 2)
        look = {
            "color": colors[i],
            "marker": "o",
            "markersize": 6,
            "capsize": 3,
            "linewidth": 1.2,
        }
        face = look["color"] if abs(value) > reach * around else "white"
        ax.errorbar([value], [row], xerr=[reach * around], markerfacecolor=face, **look)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    headline(ax, title)
    ax.set(xlabel=f"{xlabel}\nbars: {reach:g} standard errors; filled: settled")
    ax.grid(color=PALE, axis="x")
    return picture


@styled
def seeds(measured, *, xlabel, level, level_name, description, title="", colors=None):
    """What each seed of a model reached, a row for each model from the top down and a dot for each seed, one below the other.

    measured: {name: (seeds,)}; level: a dotted line, with its name. colors: {name: its colour}, of those that are not grey.
    """
    picture = new_picture(6.6, 0.42 * len(measured) + 0.85, description, layout="constrained")
    ax = picture.subplots()
    ax.axvline(level, **LINES[3] | {"linewidth": 1.5})
    look = {"color": LINES[3]["color"], "va": "top", "fontsize": 8}
    ax.annotate(level_name, (level, -0.58), xytext=(4, 0), textcoords="offset points", **look)
    for row, (name, values) in enumerate(measured.items()):
        apart = np.linspace(-0.2, 0.2, len(values))
        ax.plot(
            values,
            row + apart,
            color=(colors or {}).get(name, LINES[3]["color"]),
            marker="o",
            markersize=5,
            linestyle="",
        )
    ax.set_yticks(range(len(measured)), list(measured))
    ax.set_ylim(len(measured) - 0.4, -0.6)
    ax.set_xlim(-0.02, 1.02)
    headline(ax, title)
    ax.set(xlabel=f"{xlabel}\na dot: a seed")
    ax.grid(color=PALE, axis="x")
    return picture
