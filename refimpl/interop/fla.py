"""flash-linear-attention's `RetNetForCausalLM`: its state dict, and its config.json, as transformers writes it.

It normalises no scores, uses rotary frequencies, and rotates channel i of a head with channel i + K/2 where we rotate 2 i
with 2 i + 1, so the columns of W_Q and W_K are reordered.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Params
from ..checks import check_integer, check_number
from ..config import RetNetConfig
from ..rotation import rotation_frequencies
from . import settings as obeyed
from .files import places_of
from .state_dicts import demand, ours, present, read, recognise, shape_of, sizes, theirs

# Our name of a weight: their name, with {} for the number of the layer.
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
FREQUENCIES = ".attn.rotary.inv_freq"  # a buffer that old versions saved

WIDEST_KEYS = 256  # of a head, for its kernel that rotates

# What a model must have to be one of theirs.
LIMITS = {
    "group_norm": ("rms",),
    "ffn": ("swiglu",),
    "scale_keys": (True,),
    "row_norm": (False,),
    "score_norm": (None,),
    "gamma_schedule": ("released",),
    "rotation": ("rotary",),
    "embedding_scale": (1.0,),
}

# What their config has where config.json does not say it, and the weights show.
DEFAULTS = {"use_output_gate": True, "elementwise_affine": True}

ALLOWED = {
    "model_type": ("retnet",),
    "tie_word_embeddings": (True, False),
    "use_gk": (False,),
    "use_gv": (False,),
    "hidden_act": ("swish", "silu"),
    "feature_map": (None,),
    "use_short_conv": (False, None),
    "attn": (None,),
    "attnres_block_size": (None,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "quantization_config": (None,),
}
# Which kernel computes, how a run trains, which tokens are special, what is returned: nothing of the logits.
HARMLESS = {
    "model_type", "architectures", "auto_map", "_name_or_path", "transformers_version", "torch_dtype", "dtype",
    "attn_mode", "max_position_embeddings", "conv_size", "conv_bias", "share_conv_kernel", "fuse_norm",
    "fuse_swiglu", "fuse_cross_entropy", "fuse_linear_cross_entropy", "use_l2warp", "use_cache",
    "gradient_checkpointing", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id",
    "decoder_start_token_id", "unk_token_id", "tokenizer_class", "is_decoder", "id2label", "label2id", "num_labels",
    "problem_type", "task_specific_params", "finetuning_task", "prefix", "return_dict", "output_hidden_states", "output_attentions",
    "torchscript", "use_bfloat16", "tf_legacy_loss", "chunk_size_feed_forward", "pruned_heads",
    "tie_encoder_decoder", "cross_attention_hidden_size", "max_length", "min_length", "do_sample", "early_stopping",
    "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p",
    "repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id",
    "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens",
}  # fmt: skip
# The settings that tell the config of a model of theirs from other things in a checkpoint.
KNOWN = {
    *ALLOWED, *DEFAULTS, "vocab_size", "hidden_size", "num_hidden_layers", "expand_k", "expand_v", "intermediate_size",
    "hidden_ratio", "num_heads", "num_kv_heads", "norm_eps",
}  # fmt: skip


def from_fla(
    state_dict: Mapping[str, Any] | str | os.PathLike[str],
    *,
    num_heads: int | None = None,
    norm_eps: float = 1e-6,
    shared_embedding: bool = False,
) -> tuple[Params, RetNetConfig]:
    """Parameters and config of a flash-linear-attention `RetNetForCausalLM`.

    What a path comes with, config.json beside it or metadata in it, is obeyed or refused by name, as by `load_folder`.
    Widths (expand_k, expand_v, intermediate_size), the gate (use_output_gate) and the norm's weight (elementwise_affine)
    are read off the state dict. Its feed-forward and gate must be those of hidden_act "swish". Not supported:
    num_kv_heads, attention layers, convolutions, feature_map.

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
    given = {
        "num_heads": num_heads, "activation": None, "embedding_scale": None, "norm_eps": norm_eps,
        "shared_embedding": shared_embedding,
    }  # fmt: skip
    return load_fla(read(state_dict), places_of(state_dict), "state_dict", given)


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
    demand(config, "flash-linear-attention", LIMITS)
    names = FLA if fuse_norm and config.gate else FLA_UNFUSED
    return theirs(params, names, config, neighbours=_neighbours(config))


def load_fla(
    weights: dict[str, np.ndarray], places: obeyed.Places, file: str, given: Mapping[str, Any]
) -> tuple[Params, RetNetConfig]:
    """`from_fla` by the settings of a file; a setting that is not there has their default, as it has for them.

    places, file: as in `settings.merge`. given: what the caller says of num_heads, activation, embedding_scale, norm_eps
    and shared_embedding, or None. ValueError if settings say another thing than the weights, the caller or what `from_fla`
    supports, or something that is not known here.
    """
    settings, where = obeyed.merge(places, file, KNOWN, {})
    if settings is None and given["norm_eps"] is None:
        raise ValueError(
            f"norm_eps must be given, for {where} holds no settings and no config.json is beside it; "
            f"flash-linear-attention's default is 1e-06"
        )
    defaults = {} if settings is None else DEFAULTS
    settings = settings or {}
    obeyed.allow(settings, where, ALLOWED)
    if "norm_eps" in settings:
        check_number(f"{where}: norm_eps", settings["norm_eps"], minimum=0.0)
    heads = settings.get("num_heads")
    if heads is not None:
        check_integer(f"{where}: num_heads", heads, minimum=1)
    obeyed.allow(settings, where, {"num_kv_heads": (None, heads)})
    obeyed.settle("activation", given["activation"], "swish", "flash-linear-attention")
    obeyed.settle("embedding_scale", given["embedding_scale"], 1.0, "flash-linear-attention")
    norm_eps = obeyed.settle("norm_eps", given["norm_eps"], settings.get("norm_eps"), where)
    heads = obeyed.settle("num_heads", given["num_heads"], heads, where)
    tied = obeyed.settle("shared_embedding", given["shared_embedding"], settings.get("tie_word_embeddings"), where)
    params, config = _converted(weights, heads, 1e-6 if norm_eps is None else norm_eps, bool(tied))
    for name in sorted(settings.keys() - KNOWN - HARMLESS):
        if settings[name] is not None:
            raise ValueError(
                f"{where}: {name} is no setting that is known here, got {settings[name]!r}; "
                f"take it out if it changes nothing of what the model computes"
            )
    if settings.get("intermediate_size") is None and settings.get("hidden_ratio") is not None:
        ratio = check_number(f"{where}: hidden_ratio", settings["hidden_ratio"])
        inner = check_number(f"{where}: hidden_size * hidden_ratio", config.dim * ratio * 2 / 3)
        settings = settings | {"intermediate_size": 256 * -(-int(inner) // 256)}
    shown = shape_settings(config)
    obeyed.match(settings | {name: False for name in defaults if settings.get(name, True) is None}, where, shown)
    absent = {name: value for name, value in defaults.items() if name not in settings}
    obeyed.match(absent, f"{where}, by flash-linear-attention's default", shown)
    return params, config


def shape_settings(config: RetNetConfig) -> dict[str, Any]:
    """Those settings of their config that the shapes of the weights show."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.dim,
        "num_hidden_layers": config.num_layers,
        "expand_k": config.num_heads * config.key_dim / config.dim,
        "expand_v": config.num_heads * config.value_dim / config.dim,
        "intermediate_size": config.ffn_dim,
        "use_output_gate": config.gate,
        "elementwise_affine": config.group_norm_affine,
    }


def config_of(config: RetNetConfig) -> dict[str, Any]:
    """Their config.json of a model within `LIMITS`; it names no special tokens."""
    return {
        "architectures": ["RetNetForCausalLM"],
        "model_type": "retnet",
        **shape_settings(config),
        "num_heads": config.num_heads,
        "num_kv_heads": None,
        "norm_eps": config.norm_eps,
        "hidden_act": "swish",
        "feature_map": None,
        "use_short_conv": False,
        "attn": None,
        "attn_mode": "chunk",
        "fuse_norm": True,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _converted(
    weights: Mapping[str, np.ndarray], num_heads: int | None, norm_eps: float, shared_embedding: bool
) -> tuple[Params, RetNetConfig]:
    """`from_fla` without questions."""
    weights = {key if key.startswith("lm_head.") else f"model.{key}": array for key, array in weights.items()}
    present(weights, FLA["embedding"])  # before heads are asked of weights of another library
    for gate in [key for key in weights if key.endswith(".mlp.gate_proj.weight")]:
        up, down = (gate.replace(".gate_proj.", f".{name}_proj.") for name in ("up", "down"))
        rows, inner = weights[gate].shape[0], weights[down].shape[-1] if down in weights else 0
        if up not in weights and rows == 2 * inner:  # until 2024 one matrix held both
            weights[gate], weights[up] = weights[gate][:inner], weights[gate][inner:]
    names = next((names for names in (FLA, FLA_UNFUSED) if names["group_norm"].format(0) in weights), FLA)
    norm = weights.get(names["group_norm"].format(0))
    if num_heads is None:
        if norm is None:
            raise ValueError("num_heads must be given, for the norm of the heads has no weight that would tell it")
        rows = shape_of(weights, names["w_v"].format(0), 2)[0]
        num_heads, rest = divmod(rows, norm.size) if norm.size else (0, rows)
        if rest or not num_heads:
            raise ValueError(
                f"{names['group_norm'].format(0)} must have shape (value_dim,), a divisor of the rows of "
                f"{names['w_v'].format(0)}, got {norm.shape}"
            )
    config = RetNetConfig(
        **sizes(weights, names, num_heads, shared_embedding),
        rotation="rotary",
        gate=names["w_g"].format(0) in weights,
        group_norm_affine=norm is not None,
        norm_eps=norm_eps,
    )
    for key in [key for key in weights if key.endswith(FREQUENCIES)]:
        recognise(key, weights.pop(key), {"rotary": rotation_frequencies(config.key_dim, "rotary")})
    return ours(weights, names, config, neighbours=_neighbours(config)), config


def _neighbours(config: RetNetConfig) -> np.ndarray:
    """Their columns of W_Q in our order, in which the channels i and i + K/2 of a head are neighbours.

    >>> _neighbours(RetNetConfig(dim=12, num_heads=2))
    array([ 0,  3,  1,  4,  2,  5,  6,  9,  7, 10,  8, 11])
    """
    columns = np.arange(config.num_heads * config.key_dim)
    return columns.reshape(config.num_heads, 2, config.key_dim // 2).swapaxes(1, 2).ravel()
