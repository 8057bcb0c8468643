"""Weights in and out: state dicts of torchscale's RetNetDecoder and of flash-linear-attention's RetNetForCausalLM.

A state dict maps names to arrays; it is a dict or a .safetensors file. It holds weights and not the settings they were
trained with: a setting that the weights do not show (activation, eps, ...) is an argument, with the library's default.
Written for torchscale 0.3.0 and flash-linear-attention 0.6.0.

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
import safetensors
import safetensors.numpy

from .arrays import Params
from .checks import check_choice, check_integer
from .config import FEED_FORWARDS, RetNetConfig
from .decay import SCHEDULES, head_decays
from .files import write_atomically
from .model import check_params, param_shapes
from .rotation import LADDERS, rotation_frequencies
from .tree import flatten
from .weights import unflatten

# Our name of a weight: their name, with {} for the number of the layer.
TORCHSCALE = {
    "embedding": "embed_tokens.weight",
    "retention_norm": "layers.{}.retention_layer_norm.weight",
    "w_q": "layers.{}.retention.q_proj.weight",
    "w_k": "layers.{}.retention.k_proj.weight",
    "w_v": "layers.{}.retention.v_proj.weight",
    "w_g": "layers.{}.retention.g_proj.weight",
    "w_o": "layers.{}.retention.out_proj.weight",
    "ffn_norm": "layers.{}.final_layer_norm.weight",
    "w_1": "layers.{}.ffn.fc1.weight",
    "w_gate": "layers.{}.ffn.gate.weight",
    "w_2": "layers.{}.ffn.fc2.weight",
    "final_norm": "layer_norm.weight",
    "head": "output_projection.weight",
}
ANGLE, DECAY = "retnet_rel_pos.angle", "retnet_rel_pos.decay"
# activation_fn of torchscale: our ffn. Its names of activations are ours.
ACTIVATIONS = dict(sorted((kind.activation, name) for name, kind in FEED_FORWARDS.items() if kind.gated))

FLA = {
    "embedding": "model.embeddings.weight",
    "retention_norm": "model.layers.{}.attn_norm.weight",
    "w_q": "model.layers.{}.attn.q_proj.weight",
    "w_k": "model.layers.{}.attn.k_proj.weight",
    "w_v": "model.layers.{}.attn.v_proj.weight",
    "w_g": "model.layers.{}.attn.g_proj.weight",
    "group_norm": "model.layers.{}.attn.g_norm_swish_gate.weight",
    "w_o": "model.layers.{}.attn.o_proj.weight",
    "ffn_norm": "model.layers.{}.mlp_norm.weight",
    "w_1": "model.layers.{}.mlp.gate_proj.weight",  # their gate goes through the activation
    "w_gate": "model.layers.{}.mlp.up_proj.weight",
    "w_2": "model.layers.{}.mlp.down_proj.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}
# The norm has this name where it is not fused with the gate: their config.fuse_norm is False, or there is no gate.
FLA_UNFUSED = FLA | {"group_norm": "model.layers.{}.attn.g_norm.weight"}


def from_torchscale(
    state_dict: Mapping[str, Any] | str | os.PathLike[str],
    *,
    num_heads: int | None = None,
    activation: str = "gelu",
    embedding_scale: float = 1.0,
    norm_eps: float = 1e-6,
    score_norm: str | None = None,
    shared_embedding: bool = False,
) -> tuple[Params, RetNetConfig]:
    """Parameters and config of a torchscale `RetNetDecoder`.

    The config has row_norm, like all three forms of torchscale. With score_norm None, every form gives the logits of
    torchscale's recurrent form; with "sum", retention_parallel gives those of its parallel form. Its chunkwise form
    divides each token by other positive numbers, which cancel in the norm only at eps 0. The buffers show the schedules
    of gamma and of the rotation. They may be missing if num_heads is given; then the released schedules are used.

    Args:
        state_dict: a mapping of names to floating arrays (NumPy's, torch's, or what numpy.asarray takes), or the path
            of a .safetensors file.
        num_heads: H, if the buffers are missing; otherwise None or the same number.
        activation: activation_fn of torchscale, "gelu" or "swish".
        embedding_scale: sqrt(d) if no_scale_embedding was False.
        norm_eps: layernorm_eps of torchscale.
        score_norm: see above, and `RetNetConfig`.
        shared_embedding: whether output_projection.weight may be missing because it is embed_tokens.weight.

    Returns:
        params as `init_params` makes them, and a `RetNetConfig`.

    Raises:
        TypeError: state_dict is neither a mapping nor a path, a value is no floating array, or dtypes are mixed.
        ValueError: a key is missing, unknown or of the wrong shape (mixtures of experts, multiway, post-norm), or the
            buffers follow no known schedule.

    >>> from refimpl import RetNetConfig, init_params
    >>> config = RetNetConfig(vocab_size=7, dim=8, num_layers=1, num_heads=2, row_norm=True)
    >>> params, same = from_torchscale(to_torchscale(init_params(config), config), activation="swish")
    >>> same == config, params["layers"][0]["retention"]["w_v"].shape
    (True, (8, 16))
    """
    check_choice("activation", activation, tuple(ACTIVATIONS))
    weights = _read(state_dict)
    angle, decay = weights.pop(ANGLE, None), weights.pop(DECAY, None)
    if num_heads is None:
        if decay is None:
            raise ValueError(f"num_heads must be given, for state_dict does not hold {DECAY}")
        num_heads = decay.size
    sizes = _sizes(weights, TORCHSCALE, num_heads, shared_embedding)
    schedules = {name: head_decays(num_heads, name, log=True) for name in SCHEDULES}
    ladders = {name: np.repeat(rotation_frequencies(sizes["key_dim"], name), 2) for name in LADDERS}
    config = RetNetConfig(
        **sizes,
        gamma_schedule="released" if decay is None else _recognise(DECAY, decay, schedules),
        rotation="released" if angle is None else _recognise(ANGLE, angle, ladders),
        ffn=ACTIVATIONS[activation],
        row_norm=True,
        score_norm=score_norm,
        embedding_scale=embedding_scale,
        norm_eps=norm_eps,
    )
    return _ours(weights, TORCHSCALE, config), config


def to_torchscale(params: Params, config: RetNetConfig) -> dict[str, np.ndarray]:
    """The state dict of a torchscale `RetNetDecoder` that computes the same as `forward(params, ..., config)`.

    The buffers are computed exactly and rounded once: to float64 for float64 weights, else to float32. torchscale computes
    its own in float32: its decays are the same for up to 20 heads (later heads never forget there), its angles are up to
    1e-6 off.

    Args:
        params, config: a model with what torchscale has: a gate, an RMS norm a head without weight, a gated feed-forward,
            scaled keys, row_norm, H K = d, and named schedules.

    Returns:
        A dict of NumPy arrays, for `write_safetensors` or, through torch.from_numpy, for load_state_dict.

    Raises:
        TypeError, ValueError: torchscale lacks a setting of config; params do not fit config.
    """
    _demand(
        config,
        "torchscale",
        gate=(True,),
        group_norm=("rms",),
        group_norm_affine=(False,),
        ffn=tuple(ACTIVATIONS.values()),
        scale_keys=(True,),
        row_norm=(True,),
        key_dim=(config.dim / config.num_heads,),
        gamma_schedule=SCHEDULES,
        rotation=LADDERS,
    )
    state_dict = _theirs(params, TORCHSCALE, config)
    dtype = np.promote_types(state_dict[TORCHSCALE["embedding"]].dtype, np.float32)
    decay = head_decays(config.num_heads, config.gamma_schedule, log=True)
    assert config.rotation is not None  # one of LADDERS, as demanded
    angle = np.repeat(rotation_frequencies(config.key_dim, config.rotation), 2)
    return state_dict | {ANGLE: angle.astype(dtype), DECAY: decay.astype(dtype)}


def from_fla(
    state_dict: Mapping[str, Any] | str | os.PathLike[str],
    *,
    num_heads: int | None = None,
    norm_eps: float = 1e-6,
    shared_embedding: bool = False,
) -> tuple[Params, RetNetConfig]:
    """Parameters and config of a flash-linear-attention `RetNetForCausalLM`.

    It normalises no scores and uses rotary frequencies. It rotates channel i of a head with channel i + K/2, we rotate
    2 i with 2 i + 1, so the columns of W_Q and W_K are reordered. Widths (expand_k, expand_v, intermediate_size), the
    gate (use_output_gate) and the norm's weight (elementwise_affine) are read off the state dict. Its feed-forward and
    gate must be those of hidden_act "swish". Not supported: num_kv_heads, attention layers, convolutions, feature_map.

    Args:
        state_dict: as in `from_torchscale`.
        num_heads: H, if the norm of the heads has no weight; otherwise None or the same number.
        norm_eps: norm_eps of flash-linear-attention.
        shared_embedding: whether lm_head.weight may be missing because it is model.embeddings.weight.

    Returns:
        params as `init_params` makes them, and a `RetNetConfig`.

    Raises:
        TypeError, ValueError: as for `from_torchscale`; grouped heads appear as a k_proj of the wrong shape.
    """
    weights = _read(state_dict)
    names = next((names for names in (FLA, FLA_UNFUSED) if names["group_norm"].format(0) in weights), FLA)
    norm = weights.get(names["group_norm"].format(0))
    if num_heads is None:
        if norm is None:
            raise ValueError("num_heads must be given, for the norm of the heads has no weight that would tell it")
        rows = _shape(weights, names["w_v"].format(0), 2)[0]
        num_heads, rest = divmod(rows, norm.size) if norm.size else (0, rows)
        if rest or not num_heads:
            raise ValueError(
                f"{names['group_norm'].format(0)} must have shape (value_dim,), a divisor of the rows of "
                f"{names['w_v'].format(0)}, got {norm.shape}"
            )
    config = RetNetConfig(
        **_sizes(weights, names, num_heads, shared_embedding),
        rotation="rotary",
        gate=names["w_g"].format(0) in weights,
        group_norm_affine=norm is not None,
        norm_eps=norm_eps,
    )
    return _ours(weights, names, config, neighbours=_neighbours(config)), config


def to_fla(params: Params, config: RetNetConfig, *, fuse_norm: bool = True) -> dict[str, np.ndarray]:
    """The state dict of a flash-linear-attention `RetNetForCausalLM` that computes the same as `forward`.

    Args:
        params, config: a model within the limits that `from_fla` states.
        fuse_norm: fuse_norm of their config, on which the name of the norm of the heads depends.

    Returns:
        A dict of NumPy arrays, for `write_safetensors` or, through torch.from_numpy, for load_state_dict.

    Raises:
        TypeError, ValueError: flash-linear-attention lacks a setting of config; params do not fit config.
    """
    _demand(
        config,
        "flash-linear-attention",
        group_norm=("rms",),
        ffn=("swiglu",),
        scale_keys=(True,),
        row_norm=(False,),
        score_norm=(None,),
        gamma_schedule=("released",),
        rotation=("rotary",),
        embedding_scale=(1.0,),
    )
    names = FLA if fuse_norm and config.gate else FLA_UNFUSED
    return _theirs(params, names, config, neighbours=_neighbours(config))


def write_safetensors(path: str | os.PathLike[str], state_dict: Mapping[str, Any]) -> None:
    """Write a state dict of NumPy arrays as a .safetensors file, whole or not at all.

    Raises:
        TypeError: a value is no floating array.
    """
    arrays = {key: np.ascontiguousarray(_array(key, value)) for key, value in state_dict.items()}
    # Other libraries do not load a file without this entry; pt is PyTorch.
    write_atomically(path, safetensors.numpy.save(arrays, metadata={"format": "pt"}))


# ---------------------------------------------------------------- shared by both libraries


def _entries(names: dict[str, str], config: RetNetConfig) -> Iterator[tuple[str, tuple[int, ...], str, bool]]:
    """(our dotted name, our shape, their key, whether their array is the transpose of ours) of every weight."""
    for name, shape in flatten(param_shapes(config)).items():
        leaf = name.rpartition(".")[2]
        yield name, shape, names[leaf].format(*name.split(".")[1:2]), leaf == "head" or leaf.startswith("w_")


def _ours(
    weights: dict[str, np.ndarray], names: dict[str, str], config: RetNetConfig, neighbours: np.ndarray | None = None
) -> Params:
    """The tree of parameters; `neighbours` is the order in which we take the columns of w_q and w_k."""
    flat, left = {}, set(weights)
    for name, shape, key, transposed in _entries(names, config):
        _check_shape(key, _present(weights, key), shape[::-1] if transposed else shape)
        left.discard(key)
        array = weights[key].T if transposed else weights[key]
        if neighbours is not None and name.endswith((".w_q", ".w_k")):
            array = array[:, neighbours]
        flat[name] = np.array(array, order="C")
    if left:
        raise ValueError(f"state_dict must hold the weights of this model alone, got {min(left)} as well")
    return unflatten(flat, config)


def _theirs(
    params: Params, names: dict[str, str], config: RetNetConfig, neighbours: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The inverse of `_ours`."""
    check_params(params, config)
    flat, state_dict = flatten(params), {}
    for name, _, key, transposed in _entries(names, config):
        array = _array(f"params: {name}", flat[name])
        if neighbours is not None and name.endswith((".w_q", ".w_k")):
            array = array[:, np.argsort(neighbours)]
        state_dict[key] = np.array(array.T if transposed else array, order="C")
    return state_dict


def _neighbours(config: RetNetConfig) -> np.ndarray:
    """Their columns of W_Q in our order, in which the channels i and i + K/2 of a head are neighbours.

    >>> _neighbours(RetNetConfig(dim=12, num_heads=2))
    array([ 0,  3,  1,  4,  2,  5,  6,  9,  7, 10,  8, 11])
    """
    columns = np.arange(config.num_heads * config.key_dim)
    return columns.reshape(config.num_heads, 2, config.key_dim // 2).swapaxes(1, 2).ravel()


def _sizes(
    weights: dict[str, np.ndarray], names: dict[str, str], num_heads: int, shared_embedding: bool
) -> dict[str, Any]:
    """The sizes in a config, read off the shapes; adds a shared embedding to weights under the name of the output head."""
    check_integer("num_heads", num_heads, minimum=1)
    vocab_size, dim = _shape(weights, names["embedding"], 2)
    if shared_embedding:
        weights.setdefault(names["head"], weights[names["embedding"]])
    numbered = re.compile(re.escape(names["w_q"]).replace(r"\{\}", r"(\d+)"))
    layers = [int(match[1]) for match in map(numbered.fullmatch, weights) if match]

    def width(name: str) -> int:
        key = names[name].format(0)
        rows = _shape(weights, key, 2)[0]
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
        "ffn_dim": _shape(weights, names["w_1"].format(0), 2)[0],
    }


def _recognise(key: str, got: np.ndarray, known: dict[str, np.ndarray]) -> str:
    """The name of the one of the `known` arrays that `got` is a rounding of; accepts buffers cast to bfloat16."""
    for name, want in known.items():
        _check_shape(key, got, want.shape)
        if np.allclose(got, want, rtol=2**-8, atol=1e-7):
            return name
    raise ValueError(f"{key} must be one of {', '.join(known)}, got {got}")


def _present(weights: dict[str, np.ndarray], key: str) -> np.ndarray:
    if key not in weights:
        raise ValueError(f"state_dict must hold {key}, which is missing")
    return weights[key]


def _shape(weights: dict[str, np.ndarray], key: str, axes: int) -> tuple[int, ...]:
    shape = _present(weights, key).shape
    if len(shape) != axes:
        raise ValueError(f"{key} must have {axes} axes, got shape {shape}")
    return shape


def _check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def _demand(config: RetNetConfig, whose: str, **allowed: Sequence[Any]) -> None:
    for name, choices in allowed.items():
        if (got := getattr(config, name)) not in choices:
            raise ValueError(f"config.{name} must be {' or '.join(map(repr, choices))} for {whose}, got {got!r}")


def _read(source: Any) -> dict[str, np.ndarray]:
    """{key: floating NumPy array} from a mapping or from the path of a .safetensors file."""
    if isinstance(source, str | os.PathLike):
        return _read_safetensors(Path(source))
    if not isinstance(source, Mapping):
        raise TypeError(f"state_dict must be a mapping or the path of a .safetensors file, got {type(source).__name__}")
    return {key: _array(key, value) for key, value in source.items()}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        tensors = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise ValueError(f"state_dict must be a .safetensors file, got {str(path)!r}: {error}") from None
    weights = {}
    for key, tensor in tensors:
        if tensor["dtype"] == "BF16":  # the upper half of a float32
            array = (np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
        elif tensor["dtype"] in ("F64", "F32", "F16"):
            array = np.frombuffer(tensor["data"], f"<f{int(tensor['dtype'][1:]) // 8}")
        else:
            raise TypeError(f"{key} must be F64, F32, F16 or BF16, got {tensor['dtype']}")
        weights[key] = array.reshape(tensor["shape"])
    return weights


def _array(name: str, value: Any) -> np.ndarray:
    """A floating NumPy array from what numpy.asarray takes, or from a torch tensor of any device and precision."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be a real floating array, got {array.dtype}")
    return array
