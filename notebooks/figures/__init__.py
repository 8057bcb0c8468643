"""The pictures and widgets of the course: a lesson passes arrays and gets a picture back.

`style` holds what all pictures share, `explorer` the widget; each other module holds the pictures of one topic. They
compute as little as they can, with refimpl. Tests read the plotted arrays back and find axes by their labels
(`figure.axes[i].get_label()`).
"""

from .explorer import Explorer, choice, slider
from .style import Picture, curves

__all__ = ["Explorer", "Picture", "choice", "curves", "slider"]
