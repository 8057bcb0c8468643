"""The authors' torchscale: its `RetNetDecoder`, what fairseq saves of it, and syncdoth/RetNet, which computes the same.

Nucleus-X and late syncdoth/RetNet write rms_norm where torchscale writes layer_norm or layernorm.
"""

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Params
from ..checks import check_choice, check_integer, check_number
from ..config import FEED_FORWARDS, RetNetConfig
from ..decay import head_decays
from ..layers import rms_norm
from ..rotation import LADDERS, rotation_frequencies
from . import settings as obeyed
from .files import places_of
from .state_dicts import demand, ours, present, read, recognise, shape_of, sizes, theirs

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

THEIR_SCHEDULES = ("released", "paper")  # use_lm_decay chooses between them
EMBEDDING_NORM = "layernorm_embedding.weight"

# Of the settings that torchscale takes, those that change what it computes and that no weight shows.
ALLOWED = {
    "model_type": ("retnet", "nucleus_x"),  # of config.json; torchscale has none
    "activation_fn": tuple(ACTIVATIONS),
    "gate_fn": ("swish",),
    "no_scale_embedding": (True, False),
    "decoder_normalize_before": (True,),
    "deepnorm": (False,),
    "multiway": (False,),
    "moe_freq": (0,),
    "use_xmoe": (False,),
    "xpos_rel_pos": (False,),
    "no_output_layer": (False,),
    "use_glu": (True,),
    "use_lm_decay": (True, False),
    "share_decoder_input_output_embed": (True, False),
    "quantization_config": (None,),
}
KNOWN = {
    *ALLOWED, "vocab_size", "decoder_embed_dim", "decoder_value_embed_dim", "decoder_ffn_embed_dim", "decoder_layers",
    "decoder_retention_heads", "layernorm_eps", "groupnorm_eps", "layernorm_embedding", "embed_scale",
}  # fmt: skip
# syncdoth's names, and those of Nucleus-X.
ALIASES = {
    "rms_norm_eps": "layernorm_eps",
    "rms_norm_embedding": "layernorm_embedding",
    "tie_word_embeddings": "share_decoder_input_output_embed",
    "hidden_size": "decoder_embed_dim",
    "intermediate_size": "decoder_ffn_embed_dim",
    "num_hidden_layers": "decoder_layers",
    "num_attention_heads": "decoder_retention_heads",
}


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
    of gamma and of the rotation. They may be missing if num_heads is given; then the released schedules are used. A norm
    of the embeddings (layernorm_embedding) is computed once, into the table of embeddings.

    A state dict does not show what the last five arguments say, and a wrong one gives wrong logits. What a path comes with,
    config.json beside it or metadata in it, is obeyed or refused by name, as by `load_folder`.

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
    given = {
        "num_heads": num_heads, "activation": activation, "embedding_scale": embedding_scale, "norm_eps": norm_eps,
        "shared_embedding": shared_embedding,
    }  # fmt: skip
    params, config = load_torchscale(read(state_dict), places_of(state_dict), "state_dict", given)
    return params, dataclasses.replace(config, score_norm=score_norm)


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
    demand(config, "torchscale", limits(config))
    state_dict = theirs(params, TORCHSCALE, config)
    dtype = np.promote_types(state_dict[TORCHSCALE["embedding"]].dtype, np.float32)
    decay = head_decays(config.num_heads, config.gamma_schedule, log=True)
    assert config.rotation is not None  # one of LADDERS, as demanded
    angle = np.repeat(rotation_frequencies(config.key_dim, config.rotation), 2)
    return state_dict | {ANGLE: angle.astype(dtype), DECAY: decay.astype(dtype)}


def limits(config: RetNetConfig) -> dict[str, Sequence[Any]]:
    """What a model of these sizes must have to be one of theirs."""
    return {
        "gate": (True,),
        "group_norm": ("rms",),
        "group_norm_affine": (False,),
        "ffn": tuple(ACTIVATIONS.values()),
        "scale_keys": (True,),
        "row_norm": (True,),
        "key_dim": (config.dim / config.num_heads,),
        "gamma_schedule": THEIR_SCHEDULES,
        "rotation": LADDERS,
    }


def load_torchscale(
    weights: dict[str, np.ndarray], places: obeyed.Places, file: str, given: Mapping[str, Any]
) -> tuple[Params, RetNetConfig]:
    """`from_torchscale` by the settings of a checkpoint, fairseq's cfg among them, or of a config.json.

    places, file: as in `settings.merge`. given: what the caller says of num_heads, activation, embedding_scale, norm_eps
    and shared_embedding, or None. ValueError if settings say another thing than the weights, the caller or what
    `from_torchscale` supports, or lack what a weight does not show and what these libraries do not agree on.
    """
    settings, where = obeyed.merge(places, file, KNOWN, ALIASES)
    said = settings or {}
    obeyed.allow(said, where, ALLOWED)
    for name in ("decoder_retention_heads", "decoder_layers"):
        if name in said:
            check_integer(f"{where}: {name}", said[name], minimum=1)
    if "layernorm_eps" in said:
        check_number(f"{where}: layernorm_eps", said["layernorm_eps"], minimum=0.0)
    heads, activation, norm_eps, scale, shared = (
        obeyed.settle(name, given[name], value, where)
        for name, value in (
            ("num_heads", said.get("decoder_retention_heads")),
            ("activation", said.get("activation_fn")),
            ("norm_eps", said.get("layernorm_eps")),
            ("embedding_scale", _embedding_scale(said, weights)),
            ("shared_embedding", said.get("share_decoder_input_output_embed")),
        )
    )
    if activation is None:
        raise ValueError(
            f"activation must be given, {' or '.join(map(repr, ACTIVATIONS))}, for {where} holds no activation_fn; norm_eps "
            f"and embedding_scale too, unless they are 1e-06 and 1 (or all of them in a config.json beside it)"
        )
    if scale is None and settings is not None:
        raise ValueError(f"embedding_scale must be given, for {where} holds no no_scale_embedding")
    norm_eps = 1e-6 if norm_eps is None else norm_eps  # their default, which fairseq's cfg does not name
    scale = 1.0 if scale is None else scale
    obeyed.allow(said, where, {"groupnorm_eps": (norm_eps,), "embed_scale": (scale,)})
    if said.get("use_lm_decay") and heads is not None:
        weights = {DECAY: head_decays(heads, "paper", log=True)} | weights
    params, config = _converted(weights, heads, activation, scale, norm_eps, bool(shared))
    shown: dict[str, Any] = {
        "decoder_embed_dim": config.dim,
        "decoder_value_embed_dim": config.num_heads * config.value_dim,
        "decoder_ffn_embed_dim": config.ffn_dim,
        "decoder_layers": config.num_layers,
        "layernorm_embedding": EMBEDDING_NORM in map(_name, weights),
    }
    if said.get("vocab_size", -1) != -1:  # -1 is their default, with which the embedding alone decides
        shown["vocab_size"] = config.vocab_size
    if "use_lm_decay" in said and config.num_heads not in (1, 5):  # where both schedules are the same
        shown["use_lm_decay"] = config.gamma_schedule == "paper"
    obeyed.match(said, where, shown)
    return params, config


def config_of(config: RetNetConfig) -> dict[str, Any]:
    """The arguments of their RetNetConfig for a model within `limits`, as a config.json."""
    scaled = config.embedding_scale != 1.0
    return {
        "architectures": ["RetNetDecoder"],
        "vocab_size": config.vocab_size,
        "decoder_embed_dim": config.dim,
        "decoder_value_embed_dim": config.num_heads * config.value_dim,
        "decoder_ffn_embed_dim": config.ffn_dim,
        "decoder_layers": config.num_layers,
        "decoder_retention_heads": config.num_heads,
        "activation_fn": FEED_FORWARDS[config.ffn].activation,
        "layernorm_eps": config.norm_eps,
        "no_scale_embedding": not scaled,
        "layernorm_embedding": False,
        "share_decoder_input_output_embed": False,
    }


def _converted(
    weights: dict[str, np.ndarray],
    num_heads: int | None,
    activation: str,
    embedding_scale: float,
    norm_eps: float,
    shared_embedding: bool,
) -> tuple[Params, RetNetConfig]:
    """`from_torchscale` without questions."""
    weights = {_name(key): array for key, array in weights.items() if key != "version"}
    present(weights, TORCHSCALE["embedding"])  # before heads are asked of weights of another library
    angle, decay, norm = (weights.pop(key, None) for key in (ANGLE, DECAY, EMBEDDING_NORM))
    if num_heads is None:
        if decay is None:
            raise ValueError(f"num_heads must be given, for state_dict does not hold {DECAY}")
        num_heads = decay.size
    shape = sizes(weights, TORCHSCALE, num_heads, shared_embedding)
    if norm is not None:
        table = weights[TORCHSCALE["embedding"]]
        normed = rms_norm(embedding_scale * table.astype(np.float64), norm.astype(np.float64), eps=norm_eps)
        weights[TORCHSCALE["embedding"]], embedding_scale = normed.astype(table.dtype), 1.0
    schedules = {name: head_decays(num_heads, name, log=True) for name in THEIR_SCHEDULES}
    ladders = {name: np.repeat(rotation_frequencies(shape["key_dim"], name), 2) for name in LADDERS}
    config = RetNetConfig(
        **shape,
        gamma_schedule="released" if decay is None else recognise(DECAY, decay, schedules),
        rotation="released" if angle is None else recognise(ANGLE, angle, ladders),
        ffn=ACTIVATIONS[activation],
        row_norm=True,
        embedding_scale=embedding_scale,
        norm_eps=norm_eps,
    )
    return ours(weights, TORCHSCALE, config), config


def _embedding_scale(settings: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> float | None:
    """What the embeddings are multiplied by, as no_scale_embedding says, or None."""
    if settings.get("no_scale_embedding") is None:
        return None
    return 1.0 if settings["no_scale_embedding"] else math.sqrt(shape_of(weights, TORCHSCALE["embedding"], 2)[1])


def _name(key: str) -> str:
    """torchscale's name of a weight of syncdoth/RetNet.

    >>> _name("layers.0.retention_rms_norm.weight"), _name("lm_head.weight"), _name("rel_pos.decay")
    ('layers.0.retention_layer_norm.weight', 'output_projection.weight', 'retnet_rel_pos.decay')
    """
    key = re.sub("^lm_head", "output_projection", re.sub("^rel_pos", "retnet_rel_pos", key))
    return re.sub("^layer_norm_embedding", "layernorm_embedding", key.replace("rms_norm", "layer_norm"))
