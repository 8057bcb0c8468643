"""The models that a run can name, a row each: RetNet, and the baselines it is compared with. Nothing here imports torch.

A new baseline is one file with a mixer, such as `gpu.models.gru`, and one row.
"""

from pkgutil import resolve_name
from typing import NamedTuple


class Model(NamedTuple):
    """A model.

    label, colour: in tables and figures. mixer: "file:Class" of a baseline's mixer, None for RetNet. cache: True if it keeps
    something of every token, which a step reads; else it keeps a state of one size, which a step reads and writes.
    grouped: True if it may have fewer heads of keys and values than of queries. heads: True if it has heads.
    """

    label: str
    colour: str
    mixer: str | None = None
    cache: bool = False
    grouped: bool = False
    heads: bool = True

    def load_mixer(self):
        """The class of the mixer."""
        return resolve_name(f"{__package__}.{self.mixer}")


MODELS = {
    "retnet": Model("RetNet", "#0072b2"),
    "transformer": Model("Transformer", "#d55e00", "attention:Attention", cache=True, grouped=True),
    "linear": Model("Linear attention", "#8c6d31", "linear_attention:LinearAttention"),
    "gru": Model("GRU", "#009e73", "gru:GRU", heads=False),
}
