"""Pictures that are drawn and moved in the browser; README.md says how to add one.

`python -m explorables` writes them all on one page that needs no kernel, their stills, and how fast they are.
"""

from .cache import CacheRace
from .clocks import Clocks
from .explorable import Explorable
from .heads import Heads
from .prompt import Prompt

EXPLORABLES = (Clocks, Heads, CacheRace, Prompt)  # in the order of the lessons

__all__ = ["EXPLORABLES", "CacheRace", "Clocks", "Explorable", "Heads", "Prompt"]
