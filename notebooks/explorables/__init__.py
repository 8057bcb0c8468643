"""Pictures that are drawn and moved in the browser; README.md says how to add one.

`python -m explorables` writes them all on one page that needs no kernel, their stills, and how fast they are.
"""

from .chunks import Chunks
from .clocks import Clocks
from .explorable import Explorable
from .forms import Forms
from .layer import LayerDiagram
from .mask import DecayMask
from .model import ModelDiagram
from .overflow import Overflow
from .state import StateMovie

# In the order of the lessons.
EXPLORABLES = (Forms, StateMovie, Clocks, DecayMask, Overflow, Chunks, LayerDiagram, ModelDiagram)

__all__ = [
    "EXPLORABLES", "Chunks", "Clocks", "DecayMask", "Explorable", "Forms", "LayerDiagram", "ModelDiagram", "Overflow",
    "StateMovie",
]  # fmt: skip
