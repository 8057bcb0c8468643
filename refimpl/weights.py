"""Parameters by name, {"layers.0.retention.w_q": array}, and as files.

The names are those of the torch module in `gpu`, so each side reads what the other wrote.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .arrays import Params
from .config import RetNetConfig
from .files import write_atomically
from .model import check_params, param_shapes
from .tree import flatten, map_tree

PRETRAINED = Path(__file__).parent / "pretrained" / "retnet.safetensors"  # beside it: retnet.json, its card


def unflatten(flat: dict[str, Any], config: RetNetConfig) -> Params:
    """The inverse of `refimpl.tree.flatten`, for parameters of a model of `config`; a ValueError names what does not fit.

    >>> from refimpl import init_params
    >>> config = RetNetConfig(dim=8, num_heads=2, num_layers=1)
    >>> unflatten(flatten(init_params(config)), config)["layers"][0]["ffn"]["w_2"].shape
    (16, 8)
    """
    check_params(flat, config)
    return map_tree(lambda name, _: flat[name], param_shapes(config))


def params_as_bytes(params: Params, config: RetNetConfig) -> bytes:
    """NumPy parameters and their config as the bytes of a safetensors file."""
    return safetensors.numpy.save(flatten(params), {"config": json.dumps(dataclasses.asdict(config))})


def save_params(path: str | os.PathLike[str], params: Params, config: RetNetConfig) -> None:
    """Write `params_as_bytes`, atomically."""
    write_atomically(path, params_as_bytes(params, config))


def load_params(path: str | os.PathLike[str]) -> tuple[Params, RetNetConfig]:
    """Read (params, config) from a file that `save_params`, or `RetNet.save` in `gpu`, wrote.

    Raises FileNotFoundError, or ValueError for a file that is no safetensors file, holds no config, or holds parameters
    that do not fit its config.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata, flat = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"path must be a safetensors file; {str(path)!r} is not one: {error}") from None
    if "config" not in metadata:
        raise ValueError(f"path must be a file that save_params wrote; {str(path)!r} holds no config")
    config = RetNetConfig(**json.loads(metadata["config"]))
    return unflatten(flat, config), config


def load_pretrained() -> tuple[Params, RetNetConfig]:
    """The trained model that comes with the package: (params, config), float32 NumPy arrays, bytes as tokens.

    The file holds float16, which float32 holds exactly. `pretrained_card` says what the model was trained on and how
    well it does; `python -m gpu export` writes both files.

    >>> params, config = load_pretrained()
    >>> params["embedding"].dtype, config.vocab_size
    (dtype('float32'), 256)
    """
    params, config = load_params(PRETRAINED)
    return map_tree(lambda _, array: array.astype(np.float32), params), config


def pretrained_card() -> dict[str, Any]:
    """The card of that model: its training, its losses in bits per byte, a passage it never saw and a sample.

    >>> sorted(pretrained_card()["bits_per_byte"])
    ['float16', 'float32']
    """
    return json.loads(PRETRAINED.with_suffix(".json").read_text(encoding="utf-8"))
