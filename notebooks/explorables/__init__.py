"""Pictures that are drawn and moved in the browser; README.md says how to add one.

`python -m explorables` writes them all on one page that needs no kernel, their stills, and how fast they are.
"""

from .cache import CacheRace
from .chunks import Chunks
from .clocks import Clocks
from .explorable import Explorable
from .heads import Heads
from .mask import DecayMask
from .overflow import Overflow
from .prompt import Prompt

EXPLORABLES = (Clocks, DecayMask, Overflow, Chunks, Heads, CacheRace, Prompt)  # in the order of the lessons

__all__ = ["EXPLORABLES", "CacheRace", "Chunks", "Clocks", "DecayMask", "Explorable", "Heads", "Overflow", "Prompt"]
