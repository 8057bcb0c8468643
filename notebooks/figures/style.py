"""What every picture shares: colours, fonts, the `Picture` a notebook shows, heat maps and curves.

Colour scales are `viridis` for amounts (its lightness rises steadily, so it survives grey printing
and colour blindness) and `RdBu` for signed numbers, which are then also written into their cells.
"""

import logging
from base64 import b64encode
from io import BytesIO
from pathlib import Path

# In a new environment matplotlib says, from its import on, that it looks for fonts: no lesson should print that.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

import numpy as np
from matplotlib import get_data_path, rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from PIL import Image

# matplotlib's own edition of its font, not the system's, nor one that an old cache names: the same bytes everywhere.
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

    @property
    def width(self):
        """The width on the page in pixels."""
        return round(100 * self.get_figwidth())

    def _repr_mimebundle_(self, include=None, exclude=None):
        shown = {"alt": self.description, "width": self.width}
        return {"image/png": b64encode(self.png()).decode(), "text/plain": self.description}, {"image/png": shown}


def new_picture(width, height, description, **kwargs):
    """An empty picture of that size in inches; call it inside rc_context(STYLE)."""
    picture = Picture(figsize=(width, height), **kwargs)
    picture.description = description
    return picture


def heat(ax, array, limit, *, title="", signed=True, xlabel="value channel", ylabel="key channel"):
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


def sign(picture, left, right, text):
    """Write a sign such as + or = halfway between two neighbouring axes."""
    a, b = left.get_position(), right.get_position()
    picture.text((a.x1 + b.x0) / 2 - 0.006, (a.y0 + a.y1) / 2, text, ha="center", va="center", fontsize=15)


@rc_context(STYLE)
def curves(x, lines, *, xlabel, ylabel, description, log="", marks=()):
    """Named lines over one x axis. lines: {name: y}; marks: (x, y, text) points; log: "", "x", "y" or "xy"."""
    picture = new_picture(6.6, 3.1, description, layout="constrained")
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
