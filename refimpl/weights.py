"""Parameters by name, and as files: a nested dict is also a flat one, {"layers.0.retention.w_q": array}.

The names are those of the torch module in `gpu`, so either side reads what the other wrote.
"""

import dataclasses
import json

import safetensors
import safetensors.numpy

from .checks import check_shape
from .config import RetNetConfig
from .files import write_atomically
from .model import init_params


def flatten(tree, prefix=""):
    """The arrays of nested dicts and lists, by dotted name.

    >>> list(flatten({"embedding": 1, "layers": [{"ffn": {"w_1": 2}}]}))
    ['embedding', 'layers.0.ffn.w_1']
    """
    if not isinstance(tree, (dict, list)):
        return {prefix: tree}
    branches = tree.items() if isinstance(tree, dict) else enumerate(tree)
    flat = {}
    for name, branch in branches:
        flat |= flatten(branch, f"{prefix}.{name}" if prefix else f"{name}")
    return flat


def unflatten(flat, config):
    """The inverse of `flatten`, for the parameters of a model of `config`.

    Raises ValueError naming the first parameter that is missing, too many, or of another shape than the config wants.

    >>> config = RetNetConfig(dim=8, num_heads=2, num_layers=1)
    >>> unflatten(flatten(init_params(config)), config)["layers"][0]["ffn"]["w_2"].shape
    (16, 8)
    """
    pattern = init_params(config)
    wanted = flatten(pattern)
    for name in wanted:
        if name not in flat:
            raise ValueError(f"weights: {name} is missing")
    for name, array in flat.items():
        if name not in wanted:
            raise ValueError(f"weights: {name} is no parameter of this config")
        check_shape(f"weights: {name}", array, wanted[name].shape, "by the config")

    def fill(branch, prefix):
        if isinstance(branch, dict):
            return {name: fill(twig, f"{prefix}{name}.") for name, twig in branch.items()}
        if isinstance(branch, list):
            return [fill(twig, f"{prefix}{i}.") for i, twig in enumerate(branch)]
        return flat[prefix[:-1]]

    return fill(pattern, "")


def save_params(path, params, config):
    """Write NumPy parameters and their config as one safetensors file, atomically."""
    metadata = {"config": json.dumps(dataclasses.asdict(config))}
    write_atomically(path, safetensors.numpy.save(flatten(params), metadata))


def load_params(path):
    """Read (params, config) from a file that `save_params`, or `RetNet.save` in `gpu`, wrote.

    Raises FileNotFoundError, or ValueError for a file that is no safetensors file, holds no config or other parameters
    than its config wants.
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
