"""Pictures that are drawn and moved in the browser; README.md says how to add one.

`python -m explorables` writes them all on one page that needs no kernel, their stills, and how fast they are.
"""

from .clocks import Clocks
from .explorable import Explorable
from .forms import Forms
from .layer import LayerDiagram
from .model import ModelDiagram
from .scales import Scales
from .state import StateMovie

EXPLORABLES = (Forms, StateMovie, Clocks, Scales, LayerDiagram, ModelDiagram)  # in the order of the lessons

__all__ = [
    "EXPLORABLES",
    "Clocks",
    "Explorable",
    "Forms",
    "LayerDiagram",
    "ModelDiagram",
    "Scales",
    "StateMovie",
]
