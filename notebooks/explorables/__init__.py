"""Pictures that are drawn and moved in the browser; README.md says how to add one.

`python -m explorables` writes them all on one page that needs no kernel, their stills, and how fast they are.
"""

from .cache import CacheRace
from .chunks import Chunks
from .clocks import Clocks
from .explorable import Explorable
from .forms import Forms
from .heads import Heads
from .layer import LayerDiagram
from .mask import DecayMask
from .model import ModelDiagram
from .overflow import Overflow
from .prompt import Prompt
from .state import StateMovie

# In the order of the lessons.
EXPLORABLES = (
    Forms, StateMovie, Clocks, DecayMask, Overflow, Chunks, LayerDiagram, ModelDiagram, Heads, CacheRace, Prompt,
)  # fmt: skip

__all__ = [
    "EXPLORABLES",
    "CacheRace",
    "Chunks",
    "Clocks",
    "DecayMask",
    "Explorable",
    "Forms",
    "Heads",
    "LayerDiagram",
    "ModelDiagram",
    "Overflow",
    "Prompt",
    "StateMovie",
]
