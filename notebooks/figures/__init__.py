"""The pictures and widgets of the course: a lesson passes arrays and gets a picture back.

`style` has what all pictures share, `explorer` the one widget, every other module the pictures of one
topic. They compute as little as they can, and what they compute comes from refimpl. A test reads the
plotted arrays back; axes carry labels (`figure.axes[i].get_label()`) for that purpose.

`python -m figures` draws the figure of the README.
"""

from .explorer import Explorer, choice, slider
from .style import Picture, curves

__all__ = ["Explorer", "Picture", "choice", "curves", "slider"]
