"""The rows of benchmark results: which fields say what was measured, and the label made of them for a table or a figure.

Code compares fields, never labels. `name`, the label without "compiled", is kept in files for their old readers. Older files
have no such fields, only the name, and `with_identity` fills in the rest.
"""

from ..kernels.peers import PEERS
from ..kernels.registry import RETENTIONS
from ..models.registry import MODELS

# attention: None for what torch chooses, or the one that a candidate asks for.
ATTENTION_LABELS = {"flash": "flash attention", "cudnn": "cuDNN attention"}
ATTENTION_COLOURS = {"flash": "#d55e00", "cudnn": "#e69f00"}
GROUPED_COLOUR = "#e69f00"

# The fields, besides sizes, that tell the rows of a section apart. model is None for a kernel alone. retention, a name of
# `RETENTIONS`, is None for the reference's decode step and for everything that is not a retention. replay is L of
# `refimpl.replay` for a decode step that writes its state every L tokens. peer is a name of `gpu.kernels.peers.PEERS`.
IDENTITY = {
    "model": None, "retention": None, "chunk_size": None, "compiled": False, "cuda_graph": False, "recompute": False,
    "grouped": False, "attention": None, "replay": None, "peer": None,
}  # fmt: skip


def new_row(section, **fields):
    """A row: the identity by default, then `fields`, some of them sizes.

    >>> row = new_row("training", model="retnet", retention="chunkwise", chunk_size=64, time=2048)
    >>> row["section"], row["name"], row["compiled"], row["time"]
    ('training', 'RetNet, C = 64', False, 2048)
    """
    row = IDENTITY | fields
    return {"section": section, "name": label(row, compiled=False)} | row


def label(row, *, compiled=True):
    """The name of what a row measured; compiled: True to mark compiled rows.

    >>> label(new_row("decoding", model="transformer", grouped=True, compiled=True))
    'Transformer, grouped, compiled'
    >>> label(new_row("kernels", retention="triton"))
    'fused kernels'
    >>> label(new_row("kernels", retention="triton", replay=20))
    'fused kernels, replay of 20'
    >>> label(new_row("training", model="retnet", retention="triton", compiled=True, cuda_graph=True))
    'RetNet, fused, compiled, replayed'
    """
    if row["model"] is None:
        return kernel_label(kernel_of(row)) + (f", replay of {row['replay']}" if row["replay"] else "")
    parts = [MODELS[row["model"]].label]
    if row["chunk_size"]:
        parts.append(f"C = {row['chunk_size']}")
    elif row["retention"]:
        parts.append(RETENTIONS[row["retention"]].label)
    if row["grouped"]:
        parts.append("grouped")
    if row["attention"] == "unfused":
        parts.append("unfused")
    if compiled and row["compiled"]:
        parts.append("compiled")
        if row["cuda_graph"] and row["section"] == "training":  # decoding is always replayed
            parts.append("replayed")
    return ", ".join(parts)


def kernel_of(row):
    """The name of the kernel that a row of the section "kernels" measured: of a retention, a peer or an attention."""
    return row["retention"] or row.get("peer") or row["attention"]


def kernel_label(name):
    """The label of a kernel measured alone.

    >>> kernel_label("triton"), kernel_label("cudnn"), kernel_label("mlstm")
    ('fused kernels', 'cuDNN attention', 'mlstm_kernels, C = 128')
    """
    if name in PEERS:
        return PEERS[name].label
    return ATTENTION_LABELS.get(name) or RETENTIONS[name].kernel_label


def colour(row):
    """The colour of a row in figures: one for each model, retention and attention, whatever the chunk size.

    >>> colour(new_row("training", model="retnet", retention="fla")) == colour(new_row("kernels", retention="fla"))
    True
    """
    if row["grouped"]:
        return GROUPED_COLOUR
    if row["retention"]:
        return RETENTIONS[row["retention"]].colour
    if row.get("peer"):
        return PEERS[row["peer"]].colour
    return MODELS[row["model"]].colour if row["model"] else ATTENTION_COLOURS[row["attention"]]


def with_identity(row):
    """The row with every field of its identity; those that an older file lacks are found by its name.

    >>> old = {"section": "decoding", "name": "RetNet, fused", "model": "retnet", "compiled": False}
    >>> with_identity(old)["retention"]
    'triton'
    """
    return IDENTITY | _BY_NAME.get(row["name"], {}) | row


def _known_names():
    """{name: identity} of rows of older files, which lack these fields."""
    found = [{"retention": retention} for retention, each in RETENTIONS.items() if each.kernel_label]
    found += [{"attention": attention} for attention in ATTENTION_LABELS]
    for model, each in MODELS.items():
        found.append({"model": model} | ({"attention": "flash"} if each.cache else {}))
        if each.grouped:
            found += [{"model": model, "grouped": True, "attention": "flash"}, {"model": model, "attention": "unfused"}]
    found += [{"model": "retnet", "retention": retention} for retention in RETENTIONS]
    return {label(IDENTITY | each): each for each in found}


_BY_NAME = _known_names()
