"""`save_folder`: a model of ours as a folder that another library loads, if that library has a model that computes the same."""

import dataclasses
import json
import math
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from ..arrays import Params
from ..checks import check_choice
from ..config import RetNetConfig
from ..decay import head_decays
from ..files import write_atomically
from ..model import check_params
from ..tree import map_tree
from . import fla, torchscale
from .state_dicts import finite, lacks, numpy_array

FORGIVEN = "only a norm with eps 0 forgives a factor, and norm_eps is not 0"
# Why a setting cannot be changed into one that the library has.
REASONS = {
    "fla": {
        "rotation": "it rotates pair i by 10000**(-2 i / K) a token: by no pair as slowly as 1e-4, the last of 'released', or 0",
        "gamma_schedule": "its kernels compute 1 - 2**(-5 - h) themselves",
        "row_norm": FORGIVEN,
        "score_norm": FORGIVEN,
        "group_norm": "it always divides by the root mean square of a head",
        "ffn": "its feed-forward is swish(x W_1) * x W_gate",
        "key_dim": "its rotation kernel has no wider heads",
    },
    "torchscale": {
        "row_norm": f"it always divides by the root of the row sums of D; {FORGIVEN}",
        "gate": "it always multiplies by swish(x W_G)",
        "group_norm": "it always divides by the root mean square of a head",
        "ffn": "its feed-forward is gated",
        "key_dim": "its q and k are as wide as the model",
        "gamma_schedule": "its decays are one of these schedules",
        "rotation": "it always rotates",
    },
}
FULL_NAMES = {"fla": "flash-linear-attention", "torchscale": "torchscale"}


def save_folder(path: str | os.PathLike[str], params: Params, config: RetNetConfig, library: str = "fla") -> None:
    """Write config.json and model.safetensors of a model of another library which computes the same logits.

    What the library has in another form is changed: embedding_scale goes into the embeddings, scale_keys into W_K, and for
    torchscale the norm's weight into W_O; a schedule or a rotation of other name and equal numbers is renamed; row_norm and
    score_norm, which a norm with eps 0 undoes, are taken as the library has them if norm_eps is 0.

    Args:
        path: a new or an empty folder; it comes into being with both files or not at all.
        params: NumPy arrays, or torch's.
        config: their `RetNetConfig`.
        library: "fla", for `transformers` with flash-linear-attention, `AutoModelForCausalLM.from_pretrained(path)`; or
            "torchscale": `RetNetConfig(**config)` of config.json, and the state dict of its `RetNetDecoder`.

    Raises:
        FileExistsError: path is there and not an empty folder.
        TypeError, ValueError: the library has no model that computes the same, and why; params do not fit config, or hold
            NaN or infinities.
    """
    check_choice("library", library, tuple(REASONS))
    check_params(params, config)
    params = map_tree(lambda name, array: finite(f"params: {name}", numpy_array(f"params: {name}", array)), params)
    params, config = _expressed(params, config, library)
    limits = (
        fla.LIMITS | {"key_dim": (min(config.key_dim, fla.WIDEST_KEYS),)}
        if library == "fla"
        else torchscale.limits(config)
    )
    if lacking := lacks(config, FULL_NAMES[library], limits):
        whole = "; ".join(f"{sentence}: {REASONS[library][name]}" for name, sentence in lacking.items())
        raise ValueError(f"{FULL_NAMES[library]} has no model that computes the same: {whole}")
    if library == "fla":
        state_dict, settings = fla.to_fla(params, config), fla.config_of(config)
    else:
        state_dict, settings = torchscale.to_torchscale(params, config), torchscale.config_of(config)
    settings["torch_dtype"] = f"{params['embedding'].dtype}"
    _write_folder(Path(path).resolve(), state_dict, settings)


def write_safetensors(path: str | os.PathLike[str], state_dict: Mapping[str, Any]) -> None:
    """Write a state dict of NumPy arrays as a .safetensors file, whole or not at all.

    Raises:
        TypeError: a value is no floating array.
    """
    arrays = {key: np.ascontiguousarray(numpy_array(key, value)) for key, value in state_dict.items()}
    # Other libraries do not load a file without this entry; pt is PyTorch.
    write_atomically(path, safetensors.numpy.save(arrays, metadata={"format": "pt"}))


def _expressed(params: Params, config: RetNetConfig, library: str) -> tuple[Params, RetNetConfig]:
    """The same model in the library's words, as far as it has them."""
    changes: dict[str, Any] = {}
    factors: dict[str, Any] = {}
    scales = (1.0,) if library == "fla" else (1.0, math.sqrt(config.dim))
    if config.embedding_scale not in scales:
        changes["embedding_scale"], factors["embedding"] = 1.0, config.embedding_scale
    if not config.scale_keys:
        changes["scale_keys"], factors["w_k"] = True, math.sqrt(config.key_dim)
    if config.norm_eps == 0:
        changes |= {"row_norm": library == "torchscale", "score_norm": None}
    decays, released = (head_decays(config.num_heads, name) for name in (config.gamma_schedule, "released"))
    if np.allclose(decays, released, rtol=1e-14, atol=0):  # "paper" for 1 head and for 5
        changes["gamma_schedule"] = "released"
    if library == "fla" and config.rotation and config.key_dim == 2:  # one pair, which every ladder turns alike
        changes["rotation"] = "rotary"
    if library == "torchscale" and config.group_norm_affine:
        changes["group_norm_affine"] = False
        layers = enumerate(params["layers"])
        params = params | {"layers": [_norm_in_output(f"layers.{n}", layer, config) for n, layer in layers]}

    def scaled(name: str, array: np.ndarray) -> np.ndarray:
        factor = factors.get(name.rpartition(".")[2])
        return array if factor is None else _times(f"params: {name}", array, np.float64(factor))

    return map_tree(scaled, params), dataclasses.replace(config, **changes)


def _norm_in_output(name: str, layer: Params, config: RetNetConfig) -> Params:
    """A layer whose norm of the heads has no weight: the rows of W_O are multiplied by it instead."""
    retention = {name: array for name, array in layer["retention"].items() if name != "group_norm"}
    weight = np.tile(layer["retention"]["group_norm"], config.num_heads)[:, None]
    w_o = _times(f"params: {name}.retention.w_o", retention["w_o"], weight.astype(np.float64))
    return layer | {"retention": retention | {"w_o": w_o}}


def _times(name: str, array: np.ndarray, factor: Any) -> np.ndarray:
    """The product in the dtype of the array; ValueError if it is too large or too small for it.

    Each row must come back by division to within roundings of its largest number: what underflows beside that is no loss.
    """
    with np.errstate(all="ignore"):
        product = (array * factor).astype(array.dtype)
        lost = np.abs(product / factor - array) > 4 * np.finfo(array.dtype).eps * np.max(
            np.abs(array), -1, keepdims=True
        )
    if lost.any():
        row, column = np.argwhere(lost)[0].tolist()
        raise ValueError(
            f"{name} must keep its numbers when the library's factor is multiplied in, got {array[row, column]} times "
            f"{np.broadcast_to(factor, array.shape)[row, column]:g} at {[row, column]}, which {array.dtype} does not hold: "
            f"give params in a wider dtype"
        )
    return product


def _write_folder(path: Path, state_dict: dict[str, np.ndarray], settings: dict[str, Any]) -> None:
    """Both files in a folder of another name, which then becomes the new one, or gives them to the empty one.

    An empty folder stays the same folder, for it may be where somebody works, or the end of a link.
    """
    new = not path.exists()
    if not new and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"path must be a new or an empty folder, got {str(path)!r}, which is not")
    temporary = (path.parent if new else path) / f".{path.name}.{secrets.token_hex(4)}"
    try:
        write_atomically(temporary / "config.json", json.dumps(settings, indent=2) + "\n")
        write_safetensors(temporary / "model.safetensors", state_dict)
        if new:
            os.replace(temporary, path)
        else:
            for name in ("config.json", "model.safetensors"):  # a crash between them leaves no weights without settings
                os.replace(temporary / name, path / name)
            temporary.rmdir()
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if not new:
            (path / "config.json").unlink(missing_ok=True)
        raise
