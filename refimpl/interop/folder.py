"""`load_folder`: which library a file or folder of weights is of, and its parameters and config here."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Params
from ..config import FEED_FORWARDS, RetNetConfig
from ..weights import unflatten
from .files import Checkpoint, Unpickle, read_checkpoint
from .fla import load_fla
from .settings import settle
from .state_dicts import read
from .torchscale import load_torchscale

# A weight that every model of a library has: what reads it.
FAMILIES: dict[str, Callable[..., tuple[Params, RetNetConfig]]] = {
    "layers.0.attn_norm.weight": load_fla,
    "layers.0.retention.q_proj.weight": load_torchscale,
}
BUFFER = re.compile(r"rel_pos\.|inv_freq$|^version$")
# A pattern of weights: whose they are, and why no `RetNetConfig` computes the same.
REFUSED = {
    r"retentions\.\d+\.W_Q": "Jamie-Stirling/RetNet: its xPos multiplies q and k by a decay of its own for each pair of "
    "channels, its norms are LayerNorms and a GroupNorm with weights and biases, and its feed-forward has biases",
    r"blocks\.\d+\.msr\.qkv\.weight": "syncdoth/RetNet before October 2023: its xPos multiplies q and k by a decay of its "
    "own for each pair of channels, and its norms are LayerNorms with biases",
    r"layers\.\d+\.retention\.w_q": "refimpl without their config, which refimpl.weights.save_params and RetNet.save of "
    "gpu write with them",
}


def load_folder(
    path: str | os.PathLike[str],
    *,
    num_heads: int | None = None,
    activation: str | None = None,
    embedding_scale: float | None = None,
    norm_eps: float | None = None,
    unpickle: Unpickle | None = None,
) -> tuple[Params, RetNetConfig]:
    """Parameters and config of a RetNet as found on a hub or on a disk.

    Reads flash-linear-attention (config.json and model.safetensors or pytorch_model.bin, also in shards), torchscale's and
    fairseq's checkpoints, syncdoth/RetNet, and what this package wrote: a run's folder, a file of its weights. The names of
    the weights tell which it is; wrappers such as `module.` and `_orig_mod.` are taken off. Settings come from config.json
    beside the weights and from anywhere in the checkpoint: each is obeyed or refused by name, and so are two that differ.
    The config of a torchscale model is that of its recurrent form, see `from_torchscale`.

    Args:
        path: a folder, a file of weights (.safetensors, or of torch.save), or the index of shards.
        num_heads, activation, embedding_scale, norm_eps: as in `from_torchscale`, for weights that come without these
            settings; None, or what the settings say.
        unpickle: reads what torch.save wrote: path -> object with tensors on the CPU; by default the function that an
            installed package announces, as `gpu` does.

    Returns:
        params as `init_params` makes them, of one dtype, and a `RetNetConfig`.

    Raises:
        FileNotFoundError: there is no such path, or a shard is missing.
        TypeError: a weight is no real floating array (integers, float8).
        ValueError: it holds no model, several, or one that no `RetNetConfig` computes; a weight is missing, unknown, of
            another shape than settings say, or NaN or infinite; a setting is not supported, contradicts the weights or
            the arguments, or is missing.
        ModuleNotFoundError: torch is needed to read the file and is not installed.

    >>> from refimpl.weights import PRETRAINED
    >>> load_folder(PRETRAINED.parent)[1].gamma_schedule
    'paper'
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a str or a path, got {path!r} ({type(path).__name__})")
    given = {
        "num_heads": num_heads, "activation": activation, "embedding_scale": embedding_scale, "norm_eps": norm_eps,
    }  # fmt: skip
    checkpoint = read_checkpoint(Path(path), unpickle)
    if checkpoint.own:
        return _own(checkpoint, given)
    weights = _of_one_dtype(read(checkpoint.weights))
    load = next((load for name, load in FAMILIES.items() if name in weights), None)
    if load is None:
        raise ValueError(f"path must hold a RetNet; {str(path)!r} holds {_what(weights)}")
    return load(weights, checkpoint.places, checkpoint.name, given | {"shared_embedding": None})


def _own(checkpoint: Checkpoint, given: dict[str, Any]) -> tuple[Params, RetNetConfig]:
    """A model that this package wrote."""
    ((where, settings),) = checkpoint.places
    try:
        config = RetNetConfig(**settings)
    except TypeError as error:
        raise ValueError(
            f"path must hold a RetNet; {where} is of a baseline or is a run's checkpoint: {error}"
        ) from None
    if missing := vars(config).keys() - settings.keys():
        raise ValueError(f"{where} must hold a whole config, for a default may be wrong; it lacks {min(missing)}")
    said = vars(config) | {"activation": FEED_FORWARDS[config.ffn].activation}
    for name, value in given.items():
        settle(name, value, said[name], where)
    return unflatten(_of_one_dtype(read(checkpoint.weights)), config), config


def _of_one_dtype(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Half precision beside float32 becomes float32; buffers, which are no weights of ours, do not count."""
    dtypes = {array.dtype for name, array in weights.items() if not BUFFER.search(name)}
    if len(dtypes) < 2:
        return weights
    return {name: array.astype(np.result_type(*dtypes)) for name, array in weights.items()}


def _what(weights: dict[str, np.ndarray]) -> str:
    """What a message says of weights that are not read here."""
    for pattern, whose in REFUSED.items():
        if any(re.search(pattern, name) for name in weights):
            return f"a model of {whose}"
    names = sorted(weights)
    return f"{len(names)} weights that are of no RetNet known here, {', '.join(names[:3])} among them"
