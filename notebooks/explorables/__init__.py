"""Pictures that are drawn and moved in the browser; README.md says how to add one.

`python -m explorables` writes them all on one page that needs no kernel, their stills, and how fast they are.
"""

from .chunks import Chunks
from .clocks import Clocks
from .explorable import Explorable
from .mask import DecayMask
from .overflow import Overflow

EXPLORABLES = (Clocks, DecayMask, Overflow, Chunks)  # in the order of the lessons

__all__ = ["EXPLORABLES", "Chunks", "Clocks", "DecayMask", "Explorable", "Overflow"]
