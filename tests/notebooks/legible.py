"""What keeps readers from reading a picture: small or pale text, lines that look alike, no description.

A dark theme shows the picture through `style.FILTER`, so colours are compared twice.
"""

import re
from collections import Counter

import numpy as np
from figures.style import FILTER
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text

POINTS, CONTRAST = 8.0, 4.5
INVERT = float(re.search(r"invert\((.+?)\)", FILTER)[1])
# hue-rotate(180deg), as the standard of filter effects gives it.
TURN = 2 * np.array([[0.213, 0.715, 0.072]] * 3) - np.eye(3)


def faults(picture):
    """Yield what is wrong, in words."""
    if not picture.description.strip():
        yield "no description"
    canvas = FigureCanvasAgg(picture)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3] / 255
    for text in picture.findobj(lambda artist: isinstance(artist, Text) and seen(artist)):
        if text.get_fontsize() < POINTS:
            yield f"{text.get_text()!r} has {text.get_fontsize():g} points"
        color, ground = to_rgb(text.get_color()), behind(text, pixels)
        ratios = [contrast(color, ground), contrast(turned(color), turned(ground))]
        if min(ratios) < CONTRAST:
            yield f"{text.get_text()!r} has a contrast of {ratios[0]:.1f}, {ratios[1]:.1f} in a dark theme"
    for axes in picture.axes:
        named = [line for line in axes.lines if not line.get_label().startswith("_")]
        looks = Counter((line.get_color(), line.get_linestyle(), line.get_marker()) for line in named)
        yield from (f"{times} lines look alike: {look}" for look, times in looks.items() if times > 1)


def seen(text):
    """It has characters, and nothing that holds it is hidden."""
    axes = text.axes
    ticks = (
        []
        if axes is None
        else [label for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels(which="both")]
    )
    shown = text.get_visible() and text.get_text().strip() != ""
    if not shown or axes is None:
        return shown
    return axes.axison or text not in ticks


def behind(text, pixels):
    """The most frequent colour at the rim of the text."""
    height, width, _ = pixels.shape
    box = text.get_window_extent().padded(1)
    x0, x1 = np.clip([int(box.x0), int(np.ceil(box.x1))], 0, width - 1)
    y0, y1 = np.clip([int(height - box.y1), int(np.ceil(height - box.y0))], 0, height - 1)
    part = pixels[y0 : y1 + 1, x0 : x1 + 1]
    rim = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    colors, counts = np.unique(rim, axis=0, return_counts=True)
    return colors[counts.argmax()]


def turned(color):
    """A colour as a dark theme shows it."""
    inverted = np.asarray(color) * (1 - 2 * INVERT) + INVERT
    return np.clip(TURN @ inverted, 0, 1)


def contrast(a, b):
    """The ratio of WCAG: 1 to 21."""
    low, high = sorted(map(luminance, (a, b)))
    return (high + 0.05) / (low + 0.05)


def luminance(color):
    color = np.asarray(color)
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]
