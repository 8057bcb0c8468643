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
    "retention": Model("Retention", "#332288", "retention:Retention"),
    "gated": Model("Gated retention", "#aa4499", "gated_retention:GatedRetention"),
}
HYBRID_COLOURS = {2: "#117733", 4: "#999933"}  # of retention with attention in every such layer
DECAYS = ("fixed", "learnt")


def look(model, attention_every=None):
    """Label and colour in figures of a model, or of it with attention in every second or fourth layer.

    >>> look("gated", 4)
    ('Gated retention, attention 1 in 4', '#999933')
    """
    label, colour, *_ = MODELS[model]
    if attention_every is None:
        return label, colour
    return f"{label}, attention 1 in {attention_every}", HYBRID_COLOURS.get(attention_every, "#888888")
