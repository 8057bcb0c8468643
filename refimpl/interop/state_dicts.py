"""State dicts of other libraries: their names, their transposed matrices, and what makes arrays of ours of them.

Their matrices are (outputs, inputs), ours are (inputs, outputs). Each is transposed and nothing is computed, so round
trips return the same bits. Arrays returned are new C-ordered NumPy arrays of the dtype that came in; bfloat16, which
NumPy lacks, becomes float32, which holds it exactly.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, to_device

from ..arrays import Params
from ..checks import DTYPES, check_integer
from ..config import RetNetConfig
from ..model import check_params, param_shapes
from ..tree import flatten
from ..weights import unflatten
from .files import read_safetensors

# What torch's wrappers (several devices, compilation, recomputation) and outer models put before or between names.
WRAPPERS = {
    "module", "model", "decoder", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
}  # fmt: skip
HEADS = ("output_projection", "lm_head")  # they stand beside the decoder, which may have a prefix of its own


def read(source: Any) -> dict[str, np.ndarray]:
    """{name: finite floating NumPy array} from a mapping or from the path of a .safetensors file, without wrappers."""
    if isinstance(source, str | os.PathLike):
        source = read_safetensors(Path(source))
    if not isinstance(source, Mapping):
        raise TypeError(f"state_dict must be a mapping or the path of a .safetensors file, got {type(source).__name__}")
    for key, value in source.items():
        if isinstance(value, Mapping):
            raise TypeError(
                f"state_dict must map names to arrays, got {type(value).__name__} for {key}; load_folder reads checkpoints"
            )
    return unwrapped({key: finite(key, numpy_array(key, value)) for key, value in source.items()})


def unwrapped(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The same weights under the names that the bare language model has, without `WRAPPERS` and common prefixes.

    >>> unwrapped({"module.net.layers.0._orig_mod.w": 1, "module.net.head": 2})
    {'layers.0.w': 1, 'head': 2}
    >>> unwrapped({"layers.0.w": 1, "layers.1.w": 2})
    {'layers.0.w': 1, 'layers.1.w': 2}
    >>> unwrapped({"net.layers.0.w": 1, "net.norm.w": 2, "lm_head.w": 3})
    {'layers.0.w': 1, 'norm.w': 2, 'lm_head.w': 3}
    """
    parts = {key: [part for part in f"{key}".split(".") if part not in WRAPPERS] for key in weights}

    def outermost() -> set[str | None]:
        return {names[0] if len(names) > 1 else None for names in parts.values()}.difference(HEADS)

    while len(first := outermost()) == 1 and first.isdisjoint({None, "layers"}):
        parts = {key: names[names[0] in first :] for key, names in parts.items()}
    found: dict[str, str] = {}
    for key, names in parts.items():
        if (other := found.setdefault(".".join(names), key)) != key:
            raise ValueError(f"state_dict must hold one model, got {other} and {key}")
    return {name: weights[key] for name, key in found.items()}


def numpy_array(name: str, value: Any) -> np.ndarray:
    """A floating NumPy array from an array of any library, device and precision, or from what numpy.asarray takes."""
    if hasattr(value, "detach"):  # a parameter that is trained; the array API has no word for leaving its graph
        value = value.detach()
    if is_array_api_obj(value) and not isinstance(value, np.ndarray):
        dtype = f"{value.dtype}".rpartition(".")[2]
        if dtype not in DTYPES:
            raise TypeError(f"{name} must be a real floating array, got {dtype}")
    try:
        array = np.asarray(_on_cpu(value))
    except (TypeError, ValueError, RuntimeError) as error:  # sparse, quantised, without numbers (meta), ragged
        raise TypeError(f"{name} must be a dense array that NumPy reads, got {type(value).__name__}: {error}") from None
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be a real floating array, got {array.dtype}")
    return array


def _on_cpu(value: Any) -> Any:
    """An array of any library where NumPy reads it, bfloat16 as float32; any other value itself."""
    if isinstance(value, np.ndarray) or not is_array_api_obj(value):
        return value
    value = to_device(value, "cpu")
    if f"{value.dtype}".endswith("bfloat16"):
        xp = array_namespace(value)
        return xp.astype(value, xp.float32)
    return value


def finite(name: str, array: np.ndarray) -> np.ndarray:
    """The array itself; ValueError with the first index that holds NaN or an infinity."""
    bad = ~np.isfinite(array)
    if bad.any():
        index = tuple(int(axis) for axis in np.unravel_index(np.argmax(bad), bad.shape))
        raise ValueError(f"{name} must be finite, got {array[index]} at {list(index)}, {bad.sum()} such in all")
    return array


def entries(names: dict[str, str], config: RetNetConfig) -> Iterator[tuple[str, tuple[int, ...], str, bool]]:
    """(our dotted name, our shape, their key, whether their array is the transpose of ours) of every weight."""
    for name, shape in flatten(param_shapes(config)).items():
        leaf = name.rpartition(".")[2]
        yield name, shape, names[leaf].format(*name.split(".")[1:2]), leaf == "head" or leaf.startswith("w_")


def ours(
    weights: dict[str, np.ndarray], names: dict[str, str], config: RetNetConfig, neighbours: np.ndarray | None = None
) -> Params:
    """The tree of parameters; `neighbours` is the order in which we take the columns of w_q and w_k."""
    flat, left = {}, set(weights)
    for name, shape, key, transposed in entries(names, config):
        check_shape(key, present(weights, key), shape[::-1] if transposed else shape)
        left.discard(key)
        array = weights[key].T if transposed else weights[key]
        if neighbours is not None and name.endswith((".w_q", ".w_k")):
            array = array[:, neighbours]
        flat[name] = np.array(array, order="C")
    if left:
        raise ValueError(f"state_dict must hold the weights of this model alone, got {min(left)} as well")
    return unflatten(flat, config)


def theirs(
    params: Params, names: dict[str, str], config: RetNetConfig, neighbours: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The inverse of `ours`."""
    check_params(params, config)
    flat, state_dict = flatten(params), {}
    for name, _, key, transposed in entries(names, config):
        array = numpy_array(f"params: {name}", flat[name])
        if neighbours is not None and name.endswith((".w_q", ".w_k")):
            array = array[:, np.argsort(neighbours)]
        state_dict[key] = np.array(array.T if transposed else array, order="C")
    return state_dict


def sizes(
    weights: dict[str, np.ndarray], names: dict[str, str], num_heads: int, shared_embedding: bool
) -> dict[str, Any]:
    """The sizes in a config, read off the shapes; adds a shared embedding to weights under the name of the output head."""
    check_integer("num_heads", num_heads, minimum=1)
    vocab_size, dim = shape_of(weights, names["embedding"], 2)
    if shared_embedding:
        embedding = weights[names["embedding"]]
        if not np.array_equal(weights.setdefault(names["head"], embedding), embedding):
            raise ValueError(f"{names['head']} must be {names['embedding']}, for they are shared, got another array")
    numbered = re.compile(re.escape(names["w_q"]).replace(r"\{\}", r"(\d+)"))
    layers = [int(match[1]) for match in map(numbered.fullmatch, weights) if match]

    def width(name: str) -> int:
        key = names[name].format(0)
        rows = shape_of(weights, key, 2)[0]
        if rows == 0 or rows % num_heads:
            raise ValueError(f"{key} must have a multiple of num_heads = {num_heads} rows, got {rows}")
        return rows // num_heads

    return {
        "vocab_size": vocab_size,
        "dim": dim,
        "num_layers": max(layers, default=0) + 1,
        "num_heads": num_heads,
        "key_dim": width("w_q"),
        "value_dim": width("w_v"),
        "ffn_dim": shape_of(weights, names["w_1"].format(0), 2)[0],
    }


def recognise(key: str, got: np.ndarray, known: dict[str, np.ndarray]) -> str:
    """The name of the one of the `known` arrays that `got` is a rounding of, to float32 or, if it shows that, to halves."""
    single = got.astype(np.float32)
    exact = np.array_equal(single, got)
    halves = {  # what a rounding may be off, and whether all numbers have no more digits
        2**-11: exact and np.array_equal(single.astype(np.float16), single),
        2**-8: exact and not np.any(np.ascontiguousarray(single).view(np.uint32) & 0xFFFF),  # bfloat16
    }
    # Theirs are computed in float32: angles are up to 1e-6 off, decays 1e-7.
    tolerance = 1e-5 + max((rounding for rounding, shown in halves.items() if shown), default=0.0)
    for name, want in known.items():
        check_shape(key, got, want.shape)
        if np.allclose(got, want, rtol=tolerance, atol=1e-7):
            return name
    raise ValueError(f"{key} must be one of {', '.join(known)}, got {got}")


def present(weights: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """The weight of that name; ValueError if there is none."""
    if key not in weights:
        raise ValueError(f"state_dict must hold {key}, which is missing")
    return weights[key]


def shape_of(weights: Mapping[str, np.ndarray], key: str, axes: int) -> tuple[int, ...]:
    """The shape of the weight of that name, which must have so many axes."""
    shape = present(weights, key).shape
    if len(shape) != axes:
        raise ValueError(f"{key} must have {axes} axes, got shape {shape}")
    return shape


def check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Require the exact shape."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def demand(config: RetNetConfig, whose: str, allowed: Mapping[str, Sequence[Any]]) -> None:
    """Require that each named setting of config is one of those that another library has."""
    for sentence in lacks(config, whose, allowed).values():
        raise ValueError(sentence)


def lacks(config: RetNetConfig, whose: str, allowed: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """By the name of each setting of config that another library lacks, a sentence which says so."""
    return {
        name: f"config.{name} must be {' or '.join(map(repr, choices))} for {whose}, got {got!r}"
        for name, choices in allowed.items()
        if (got := getattr(config, name)) not in choices
    }
