"""What all pictures share: colours, fonts, the `Picture` that a notebook shows, heat maps, frames and curves.

Colour scales are `viridis` for amounts (its lightness rises steadily, so it stays readable in grey and for
colour-blind readers) and `RdBu` for signed numbers, which are then also written into their cells.
"""

import logging
from base64 import b64encode
from io import BytesIO
from pathlib import Path

# In a new environment matplotlib logs at its import that it looks for fonts; no lesson should print that.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

import numpy as np
from matplotlib import get_data_path, rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import Rectangle
from PIL import Image

# Use the fonts that come with matplotlib, not those of the system or of an old cache: the same bytes everywhere.
fontManager.ttflist[:] = [font for font in fontManager.ttflist if not font.name.startswith("DejaVu")]
for path in sorted(Path(get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf")):
    fontManager.addfont(path)

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
styled = rc_context(STYLE)  # a decorator for functions that draw
AMOUNT, SIGNED = "viridis_r", "RdBu_r"
BLUE, ORANGE, INK, PALE, FAINT = "#0072B2", "#D55E00", "#222222", "#E9E9E9", "#F6F6F6"
# Lines differ in their dashes as well as in colour, so that no reader depends on the colour.
LINES = (
    {"color": BLUE, "linestyle": "-"},
    {"color": ORANGE, "linestyle": "--"},
    {"color": "#009E73", "linestyle": "-."},
    {"color": "#444444", "linestyle": ":"},
)


class Picture(Figure):
    """A figure that a notebook can show, with a description for readers who cannot see it."""

    description = ""

    @styled
    def png(self, dpi=130):
        """PNG bytes in 256 colours, without a date or a version, so that they are the same each time."""
        full, small = BytesIO(), BytesIO()
        self.savefig(full, format="png", dpi=dpi)
        palette = Image.open(full).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        palette.save(small, format="png", optimize=True)  # a third of the size
        return small.getvalue()

    @property
    def width(self):
        """The width on the page in pixels."""
        return round(100 * self.get_figwidth())

    def _repr_mimebundle_(self, include=None, exclude=None):
        shown = {"alt": self.description, "width": self.width}
        return {"image/png": b64encode(self.png()).decode(), "text/plain": self.description}, {"image/png": shown}


def new_picture(width, height, description, **kwargs):
    """An empty picture of that size in inches; call it from a function that is `styled`."""
    picture = Picture(figsize=(width, height), **kwargs)
    picture.description = description
    return picture


def panels(picture, labels, *, sharey=False, **grid):
    """A row of axes with these labels. grid: what matplotlib's `gridspec_kw` takes, such as left and width_ratios."""
    axes = picture.subplots(1, len(labels), sharey=sharey, squeeze=False, gridspec_kw=grid)[0]
    for ax, label in zip(axes, labels, strict=True):
        ax.set_label(label)
    return axes


def bare(ax, **ticks):
    """Hide the box and the tick marks; `ticks` is passed on to `tick_params`."""
    ax.tick_params(length=0, **ticks)
    ax.spines[:].set_visible(False)


def frame(ax, x, y, width, height, color, linewidth, **look):
    """An empty rectangle that may reach beyond the axes; thick frames lie above thin ones."""
    look = {"fill": False, "edgecolor": color, "linewidth": linewidth, "clip_on": False, "zorder": 1 + linewidth} | look
    ax.add_patch(Rectangle((x, y), width, height, **look))


def future(ax, time):
    """A pale square of (T, T) unit cells behind everything: what stays visible of it is the future."""
    ax.add_patch(Rectangle((0, 0), time, time, facecolor=FAINT, edgecolor="none", zorder=-2))


def write(ax, x, y, text, dark=False, **font):
    """A text centred at (x, y), white if the cell behind it is dark."""
    ax.text(x, y, text, **{"ha": "center", "va": "center", "color": "white" if dark else INK} | font)


def cells(ax, array, text, dark, *, fontsize=9.0, **image):
    """A matrix as an image with `text(value)` in each cell, white where `dark(value)`; masked cells stay empty."""
    ax.imshow(array, **image)
    for (row, column), value in np.ma.ndenumerate(array):
        write(ax, column, row, text(value), dark(value), fontsize=fontsize)
    bare(ax)


def number(value):
    """A number in three digits, without a sign at zero."""
    return f"{value + 0.0:.3g}"


def heat(ax, array, limit, *, title="", xlabel="value channel", ylabel="key channel"):
    """A matrix of signed numbers as a heat map with its numbers written in, channels counted from 1."""
    scale = {"cmap": SIGNED, "vmin": -limit, "vmax": limit, "aspect": "equal"}
    array = np.atleast_2d(array)
    cells(ax, array, number, lambda value: abs(value) > 0.6 * limit, fontsize=8, **scale)
    ax.set_xticks(range(array.shape[1]), range(1, array.shape[1] + 1))
    ax.set_yticks(range(array.shape[0]), range(1, array.shape[0] + 1))
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)


def equation(picture, labels, matrices, titles, signs, *, limit=None, xlabel="value channel", ylabel="", **grid):
    """A row of heat maps with a sign such as + or = between neighbours; returns the axes.

    limit: the largest number of the colour scale, None gives each matrix its own. ylabel: of the first matrix.
    """
    axes = panels(picture, labels, **{"bottom": 0.2} | grid)
    for ax, matrix, title in zip(axes, matrices, titles, strict=True):
        heat(ax, matrix, limit or np.abs(matrix).max() or 1, title=title, xlabel=xlabel, ylabel=ylabel)
        ylabel = ""
    picture.canvas.draw()  # settles the positions that an equal aspect changes
    for left, right, sign in zip(axes[:-1], axes[1:], signs, strict=True):
        a, b = left.get_position(), right.get_position()
        picture.text((a.x1 + b.x0) / 2 - 0.006, (a.y0 + a.y1) / 2, sign, ha="center", va="center", fontsize=15)
    return axes


@styled
def curves(x, lines, *, xlabel, ylabel, description, log="", base=2, marks=()):
    """Named lines over one x axis. lines: {name: y}; marks: (x, y, text) points.

    log: "", "x", "y" or "xy", the axes that are logarithmic; base: of the x axis.
    """
    picture = new_picture(6.6, 3.1, description, layout="constrained")
    ax = picture.subplots()
    for (name, y), style in zip(lines.items(), LINES, strict=False):
        ax.plot(x, y, label=name, **style)
    for mark_x, mark_y, text in marks:
        ax.plot([mark_x], [mark_y], "o", color=INK, markersize=5)
        side, shift = ("left", (8, -14)) if log else ("right", (-5, -11))
        ax.annotate(text, (mark_x, mark_y), xytext=shift, textcoords="offset points", ha=side, fontsize=8)
    if "x" in log:
        ax.set_xscale("log", base=base)
    if "y" in log:
        ax.set_yscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(color=PALE)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3)
    return picture
