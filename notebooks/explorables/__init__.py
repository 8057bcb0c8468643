"""Pictures that are drawn and moved in the browser; README.md says how to add one.

`python -m explorables` writes them all on one page that needs no kernel, their stills, and how fast they are.
"""

from .cache import CacheRace
from .chunks import Chunks
from .clocks import Clocks
from .crossing import Crossing
from .explorable import Explorable
from .forms import Forms
from .gradient import Gradient
from .heads import Heads
from .ladder import Ladder
from .layer import LayerDiagram
from .mask import DecayMask
from .model import ModelDiagram
from .overflow import Overflow
from .pairs import Pairs
from .powers import Powers
from .prompt import Prompt
from .race import DecodingRace
from .roofline import Roofline
from .scales import Scales
from .state import StateMovie

EXPLORABLES = (
    Forms,
    StateMovie,
    Powers,
    Clocks,
    DecayMask,
    Overflow,
    Chunks,
    Scales,
    LayerDiagram,
    ModelDiagram,
    Heads,
    Gradient,
    Roofline,
    Ladder,
    CacheRace,
    Prompt,
    DecodingRace,
    Pairs,
    Crossing,
)  # in the order of the lessons

__all__ = [
    "EXPLORABLES",
    "CacheRace",
    "Chunks",
    "Clocks",
    "Crossing",
    "DecayMask",
    "DecodingRace",
    "Explorable",
    "Forms",
    "Gradient",
    "Heads",
    "Ladder",
    "LayerDiagram",
    "ModelDiagram",
    "Overflow",
    "Pairs",
    "Powers",
    "Prompt",
    "Roofline",
    "Scales",
    "StateMovie",
]
