"""What all pictures share: colours, fonts, the `Picture` that a notebook shows, heat maps, frames and curves.

Colour scales are `viridis` for amounts (its lightness rises steadily, so it stays readable in grey and for
colour-blind readers), and for cells with a number in them pale ones, `Blues` for amounts and `RdBu` for signed numbers:
dark ink has a contrast of 4.5:1 on all of their colours, in a light theme and in a dark one.
"""

import logging
from base64 import b64encode
from html import escape
from io import BytesIO
from pathlib import Path

# In a new environment matplotlib logs at its import that it looks for fonts; no lesson should print that.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

import numpy as np
from matplotlib import colormaps, get_data_path, rc_context
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import Rectangle
from matplotlib.ticker import StrMethodFormatter
from PIL import Image

from refimpl.bench.drawing import name_lines

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
AMOUNT = "viridis_r"
SHARE = ListedColormap(colormaps["Blues"](np.linspace(0.0, 0.46, 256)), "share")
SIGNED = ListedColormap(colormaps["RdBu_r"](np.linspace(0.7, 0.28, 257)), "signed")  # blue: above 0
BLUE, ORANGE, GREEN, GREY, PURPLE = "#0072B2", "#B85000", "#007F5C", "#444444", "#8A3A74"
INK, PALE, FAINT = "#1A1A1A", "#E4E4E4", "#F3F3F3"
# Lines differ in their dashes as well as in colour, so that no reader depends on the colour.
LINES = (
    {"color": BLUE, "linestyle": "-"},
    {"color": ORANGE, "linestyle": "--"},
    {"color": GREEN, "linestyle": "-."},
    {"color": GREY, "linestyle": ":"},
)


# A dark theme turns lightness round and leaves the hues: white becomes the #111 of JupyterLab. Where this style does not
# reach, as in a notebook that is not trusted yet, a picture keeps its white ground.
DARK = ("[data-jp-theme-light=false]", ".vscode-dark", "[data-theme=dark]")
FILTER = "invert(0.9333) hue-rotate(180deg)"
SHEET = f"<style>{','.join(f'{theme} img.figure' for theme in DARK)}{{filter:{FILTER}}}</style>"


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

    def html(self):
        """The picture as HTML: an image with its description, in the colours of the page's theme."""
        data = b64encode(self.png()).decode()
        look = f'class="figure" width="{self.width}" style="max-width: 100%; border-radius: 4px"'
        return f'{SHEET}<img {look} alt="{escape(self.description)}" src="data:image/png;base64,{data}">'

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html(), "text/plain": self.description}


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


def write(ax, x, y, text, **font):
    """A text centred at (x, y)."""
    ax.text(x, y, text, **{"ha": "center", "va": "center", "color": INK} | font)


def headline(ax, title):
    """What a picture of measurements found, bold and from the left; nothing for an empty title."""
    if title:
        ax.set_title(title, loc="left", fontweight="bold")


def cells(ax, array, text, *, fontsize=9.0, **image):
    """A matrix as an image with `text(value)` in each cell; masked cells stay empty."""
    ax.imshow(array, **{"cmap": SHARE} | image)
    for (row, column), value in np.ma.ndenumerate(array):
        write(ax, column, row, text(value), fontsize=fontsize)
    bare(ax)


def number(value):
    """A number in three digits, without a sign at zero."""
    return f"{value + 0.0:.3g}"


def heat(ax, array, limit, *, title="", xlabel="value channel", ylabel="key channel"):
    """A matrix of signed numbers as a heat map with its numbers written in, channels counted from 1."""
    scale = {"cmap": SIGNED, "vmin": -limit, "vmax": limit, "aspect": "equal"}
    array = np.atleast_2d(array)
    cells(ax, array, number, fontsize=8, **scale)
    ax.set_xticks(range(array.shape[1]), range(1, array.shape[1] + 1))
    ax.set_yticks(range(array.shape[0]), range(1, array.shape[0] + 1))
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)


def equation(picture, labels, matrices, titles, signs, *, limit=None, xlabel="value channel", ylabel="", **grid):
    """A row of heat maps with a sign such as + or = between neighbours; returns the axes.

    limit: the largest number of the colour scale, one for all or one for each; None takes the largest number of all.
    ylabel: of the first matrix.
    """
    axes = panels(picture, labels, **{"bottom": 0.2} | grid)
    limit = max(np.abs(matrix).max() for matrix in matrices) or 1 if limit is None else limit
    limits = np.broadcast_to(limit, len(matrices))
    for ax, matrix, each, title in zip(axes, matrices, limits, titles, strict=True):
        heat(ax, matrix, each, title=title, xlabel=xlabel, ylabel=ylabel)
        ylabel = ""
    picture.canvas.draw()  # settles the positions that an equal aspect changes
    for left, right, sign in zip(axes[:-1], axes[1:], signs, strict=True):
        a, b = left.get_position(), right.get_position()
        picture.text((a.x1 + b.x0) / 2 - 0.006, (a.y0 + a.y1) / 2, sign, ha="center", va="center", fontsize=15)
    return axes


@styled
def curves(
    x, lines, *, xlabel, ylabel, description, title="", log="", plain="", base=2, marks=(), spread=(), looks=None
):
    """Lines over one x axis with their names at their ends. lines: {name: y}; marks: (x, y, text) points; title: what is found.

    spread: {name: half the height of a band around that line, or (below, above)}, each as long as x.
    log: "", "x", "y" or "xy", the axes that are logarithmic; plain: those whose numbers are written out, 1,000 and not 10³;
    base: of the x axis. looks: {name: what replaces that line's style, such as {"color": "red"}}.
    Raises ValueError for more lines than there are styles, 4.
    """
    if len(lines) > len(LINES):
        raise ValueError(f"lines must be at most {len(LINES)}, one for each style, got {len(lines)}")
    picture = new_picture(6.6, 3.1, description, layout="constrained")
    ax = picture.subplots()
    for (name, y), style in zip(lines.items(), LINES, strict=False):
        ax.plot(x, y, label=name, **style | (looks or {}).get(name, {}))
        if name in spread:
            below, above = np.broadcast_to(spread[name], (2, len(x)))
            ax.fill_between(x, y - below, y + above, color=ax.lines[-1].get_color(), alpha=0.2, linewidth=0)
    for mark_x, mark_y, text in marks:
        ax.plot([mark_x], [mark_y], "o", color=INK, markersize=5)
        side, shift = ("left", (8, -14)) if log else ("right", (-5, -11))
        ax.annotate(text, (mark_x, mark_y), xytext=shift, textcoords="offset points", ha=side, fontsize=8)
    if "x" in log:
        ax.set_xscale("log", base=base)
    if "y" in log:
        ax.set_yscale("log")
    for name in plain:
        getattr(ax, f"{name}axis").set_major_formatter(StrMethodFormatter("{x:,g}"))
    headline(ax, title)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.grid(color=PALE)
    ax.margins(x=0.02)
    name_lines(ax)
    return picture
