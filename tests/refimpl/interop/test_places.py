"""Settings in several places of a checkpoint and beside it: all are obeyed, and two that differ are refused."""

import argparse
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from their_folders import FLA, FLA_JSON, OUT, SWISH, assert_gives, fla_folder, load, tensors, without_none
from their_models import VOCAB, decoder, logits_of, recurrent

from refimpl.conformance.validation import refused
from refimpl.interop import from_fla, from_torchscale, load_folder

MODEL, _, CONFIG = decoder(SWISH, eps=1e-5, dtype=np.float32)
WEIGHTS = {key: value.clone() for key, value in MODEL.state_dict().items()}
NO_EPS = {
    "activation_fn": "swish", "no_scale_embedding": True, "decoder_embed_dim": 48, "decoder_value_embed_dim": 36,
    "decoder_ffn_embed_dim": 20, "decoder_layers": 2, "decoder_retention_heads": 3, "vocab_size": VOCAB,
}  # fmt: skip
EPS = {"layernorm_eps": 1e-5}
SETTINGS = NO_EPS | EPS


def space(**settings):
    return argparse.Namespace(**settings)


def checkpoint(path, **beside):
    torch.save({"model": WEIGHTS, **beside}, path / "model.pt")
    return path


EVERYWHERE = {
    "args and config": {"args": space(**NO_EPS), "config": EPS},
    "model within cfg, and cfg": {"cfg": {"model": NO_EPS, **EPS}},
    "a namespace within cfg, and cfg": {"cfg": {"model": space(**NO_EPS), **EPS}},
    "config within hyper_parameters": {"hyper_parameters": {"config": SETTINGS, "lr": 1e-3}},
    "config within model within hyper_parameters": {"hyper_parameters": {"model": {"config": SETTINGS}}},
    "any name": {"settings_of_mine": SETTINGS},
    "model_args beside args of a trainer": {"model_args": SETTINGS, "args": space(lr=1e-3, debug=False)},
    "args of nothing beside config": {"args": space(debug=False, resume=None), "config": SETTINGS},
    "the file itself": SETTINGS,
    "the file and cfg": {"cfg": NO_EPS, **EPS},
    "argparse's None": {"args": space(**NO_EPS, layernorm_eps=None), "config": EPS},
    "the same twice": {"args": space(**SETTINGS), "cfg": {"model": SETTINGS}},
}


@pytest.mark.parametrize("beside", EVERYWHERE.values(), ids=EVERYWHERE)
def test_every_place_is_obeyed(tmp_path, beside):
    params, config = load(checkpoint(tmp_path, **beside))
    assert config == CONFIG
    assert_gives((params, config), logits_of(MODEL, np.float32, recurrent))


@pytest.mark.parametrize("name", ["config", "model_config"])
def test_metadata_are_obeyed(tmp_path, name):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(WEIGHTS, path, {name: json.dumps(SETTINGS), "format": "pt"})
    assert load_folder(path, activation="swish")[1] == CONFIG
    message = "norm_eps must be 1e-05, as config says, got 1e-06".replace("config", name)
    refused(lambda: from_torchscale(path, activation="swish"), ValueError, message)
    safetensors.torch.save_file(WEIGHTS, path, {name: json.dumps(each) for name, each in SETTINGS.items()})
    assert load_folder(path)[1] == CONFIG


def test_metadata_of_fla_beside_others(tmp_path):
    """One by one, as texts; what else stands there is of something else."""
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(tensors(FLA.state_dict()), path, {"norm_eps": "1e-3", "format": "pt", "step": "7"})
    assert load_folder(path)[1].norm_eps == from_fla(path, norm_eps=1e-3)[1].norm_eps == 1e-3
    refused(lambda: from_fla(path), ValueError, "norm_eps must be 0.001, as state_dict says, got 1e-06")


def test_settings_in_one_of_the_shards(tmp_path):
    names, files = sorted(WEIGHTS), ["a.safetensors", "b.safetensors"]
    for n, file in enumerate(files):
        safetensors.torch.save_file(
            {name: WEIGHTS[name] for name in names[n::2]}, tmp_path / file, {"c": json.dumps(SETTINGS)}
        )
    weight_map = {name: files[n % 2] for n, name in enumerate(names)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert load_folder(tmp_path)[1] == CONFIG


DIFFERENT = [  # what is in the checkpoint, in config.json, and what is said
    ({"cfg": SETTINGS, "args": space(layernorm_eps=1e-6)}, None, "layernorm_eps must be the same in cfg and in args, got 1e-05 and 1e-06"),
    ({"cfg": {"model": SETTINGS, "layernorm_eps": 1e-6}}, None, "layernorm_eps must be the same in cfg and in cfg, got 1e-06 and 1e-05"),
    ({"cfg": SETTINGS | {"rms_norm_eps": 1e-6}}, None, "layernorm_eps must be the same in cfg and in cfg as rms_norm_eps, got 1e-05 and 1e-06"),
    ({"cfg": SETTINGS}, {"rms_norm_eps": 1e-6}, "layernorm_eps must be the same in cfg and in config.json as rms_norm_eps, got 1e-05 and 1e-06"),
    ({"cfg": SETTINGS}, {"num_attention_heads": 4}, "decoder_retention_heads must be the same in cfg and in config.json as num_attention_heads, got 3 and 4"),
    ({"cfg": SETTINGS}, {"num_hidden_layers": 9}, "decoder_layers must be the same in cfg and in config.json as num_hidden_layers, got 2 and 9"),
    ({"cfg": NO_EPS | EPS, "layernorm_eps": 2}, None, "layernorm_eps must be the same in model.pt and in cfg, got 2 and 1e-05"),
]  # fmt: skip


@pytest.mark.parametrize(("beside", "settings", "message"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_places_that_differ(tmp_path, beside, settings, message):
    checkpoint(tmp_path, **beside)
    if settings:
        (tmp_path / "config.json").write_text(json.dumps(settings))
    refused(lambda: load(tmp_path), ValueError, message)


def test_syncdoth_s_other_names(tmp_path):
    renamed = {
        "decoder_embed_dim": "hidden_size", "decoder_ffn_embed_dim": "intermediate_size",
        "decoder_layers": "num_hidden_layers", "decoder_retention_heads": "num_attention_heads",
    }  # fmt: skip
    bare = {key: value for key, value in WEIGHTS.items() if "rel_pos" not in key}
    torch.save(bare, tmp_path / "model.pt")
    settings = {renamed.get(name, name): value for name, value in SETTINGS.items()}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert load(tmp_path)[1] == CONFIG
    (tmp_path / "config.json").write_text(json.dumps(settings | {"hidden_size": 64}))
    message = "config.json: decoder_embed_dim must be 48, as the weights show, got 64"
    refused(lambda: load(tmp_path), ValueError, message)


def test_fla_s_config_beside_other_things(tmp_path):
    def saved(**beside):
        torch.save({"state_dict": tensors(FLA.state_dict()), **beside}, tmp_path / "model.pt")
        return tmp_path

    assert load(saved(config={"model": {"num_heads": 2}, "norm_eps": 1e-3}, lr=0.1))[1].norm_eps == 1e-3
    message = "model_config: hidden_act must be 'swish' or 'silu', got 'relu'"
    refused(lambda: load(saved(model_config=FLA_JSON | {"hidden_act": "relu"}), norm_eps=1e-5), ValueError, message)


# ---------------------------------------------------------------- a path given to from_fla or from_torchscale

BESIDE = "config.json beside state_dict"
PATHS = {  # changes of config.json, arguments, what is said
    from_fla: [
        ({"hidden_act": "relu"}, {}, f"{BESIDE}: hidden_act must be 'swish' or 'silu', got 'relu'"),
        ({"feature_map": "elu"}, {}, f"{BESIDE}: feature_map must be None, got 'elu'"),
        ({"attn": {"layers": [0]}}, {}, f"{BESIDE}: attn must be None, got {{'layers': [0]}}"),
        ({"use_short_conv": True}, {}, f"{BESIDE}: use_short_conv must be False or None, got True"),
        ({"model_type": "gla"}, {}, f"{BESIDE}: model_type must be 'retnet', got 'gla'"),
        ({"use_output_gate": False}, {}, f"{BESIDE}: use_output_gate must be True, as the weights show, got False"),
        ({"tie_word_embeddings": True}, {}, f"shared_embedding must be True, as {BESIDE} says, got False"),
        ({}, {"shared_embedding": True}, f"shared_embedding must be False, as {BESIDE} says, got True"),
        ({}, {"num_heads": 3}, f"num_heads must be 2, as {BESIDE} says, got 3"),
        ({"rope_theta": 5e5}, {}, f"{BESIDE}: rope_theta is no setting that is known here, got 500000.0; take it out if it "
         "changes nothing of what the model computes"),
    ],
    from_torchscale: [
        ({"decoder_normalize_before": False}, {}, f"{BESIDE}: decoder_normalize_before must be True, got False"),
        ({"deepnorm": True}, {}, f"{BESIDE}: deepnorm must be False, got True"),
        ({"groupnorm_eps": 1e-3}, {}, f"{BESIDE}: groupnorm_eps must be 1e-05, got 0.001"),
        ({"use_lm_decay": True}, {}, f"{BESIDE}: use_lm_decay must be False, as the weights show, got True"),
        ({"use_glu": False}, {}, f"{BESIDE}: use_glu must be True, got False"),
        ({"decoder_layers": 7}, {}, f"{BESIDE}: decoder_layers must be 2, as the weights show, got 7"),
        ({}, {"num_heads": 6}, f"num_heads must be 3, as {BESIDE} says, got 6"),
        ({"share_decoder_input_output_embed": True}, {}, f"shared_embedding must be True, as {BESIDE} says, got False"),
        ({"gate_fn": "gelu"}, {}, f"{BESIDE}: gate_fn must be 'swish', got 'gelu'"),
        ({"embed_scale": 5.0}, {}, f"{BESIDE}: embed_scale must be 1.0, got 5.0"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("convert", "change", "arguments", "message"), [(convert, *row) for convert, rows in PATHS.items() for row in rows]
)
def test_a_path_brings_its_whole_config(tmp_path, convert, change, arguments, message):
    if convert is from_fla:
        path, arguments = fla_folder(tmp_path, change) / "model.safetensors", {"norm_eps": 1e-5} | arguments
    else:
        path, arguments = tmp_path / "w.safetensors", {"activation": "swish", "norm_eps": 1e-5} | arguments
        safetensors.torch.save_file(WEIGHTS, path)
        (tmp_path / "config.json").write_text(json.dumps(SETTINGS | change))
    refused(lambda: convert(path, **arguments), ValueError, message)


def test_a_path_whose_config_agrees(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({key: value for key, value in WEIGHTS.items() if "rel_pos" not in key}, path)
    (tmp_path / "config.json").write_text(json.dumps(SETTINGS | {"use_lm_decay": True}))
    _, config = from_torchscale(path, activation="swish", norm_eps=1e-5, score_norm="sum")
    assert (config.num_heads, config.gamma_schedule, config.score_norm) == (3, "paper", "sum")
    tied = fla_folder(tmp_path / "fla", {"tie_word_embeddings": True}, {"lm_head.weight": OUT}) / "model.safetensors"
    params, _ = from_fla(tied, norm_eps=1e-5, shared_embedding=True)
    assert np.array_equal(params["head"], params["embedding"].T)


# ---------------------------------------------------------------- values of another kind


@pytest.mark.parametrize("value", ["False", "false", "no", 2, []])
def test_what_is_neither_true_nor_false(tmp_path, value):
    folder = fla_folder(tmp_path, {"tie_word_embeddings": value}, {"lm_head.weight": OUT})
    refused(lambda: load(folder), ValueError, f"config.json: tie_word_embeddings must be True or False, got {value!r}")
    for name in ("share_decoder_input_output_embed", "use_lm_decay", "no_scale_embedding"):
        (tmp_path / "t").mkdir(exist_ok=True)
        checkpoint(tmp_path / "t", cfg=SETTINGS | {name: value})
        refused(lambda: load(tmp_path / "t"), ValueError, f"cfg: {name} must be True or False, got {value!r}")


def test_none_is_as_good_as_false(tmp_path):
    names = (
        "deepnorm",
        "moe_freq",
        "multiway",
        "use_xmoe",
        "xpos_rel_pos",
        "use_lm_decay",
        "share_decoder_input_output_embed",
    )
    assert load(checkpoint(tmp_path, args=space(**SETTINGS, **dict.fromkeys(names))))[1] == CONFIG


@pytest.mark.parametrize("value", [False, 0, 0.0, "", {}])
@pytest.mark.parametrize("name", ["use_rotary", "embedding_multiplier"])
def test_unknown_settings_of_fla_that_are_empty(tmp_path, name, value):
    with pytest.raises(ValueError, match=rf"^config\.json: {name} is no setting that is known here, got "):
        load_folder(fla_folder(tmp_path, {name: value}))


@pytest.mark.parametrize("name", ["use_output_gate", "elementwise_affine"])
def test_their_defaults_where_config_json_says_nothing(tmp_path, name):
    lacks = {"use_output_gate": "g_proj", "elementwise_affine": "g_norm"}[name]
    weights = {key: OUT for key in FLA.state_dict() if f".{lacks}" in key}
    if lacks == "g_proj":
        weights |= {
            key.replace("g_norm_swish_gate", "g_norm"): tensors(FLA.state_dict())[key]
            for key in FLA.state_dict() if "g_norm" in key
        } | {key: OUT for key in FLA.state_dict() if "g_norm" in key}  # fmt: skip
    by_default = (
        f"config.json, by flash-linear-attention's default: {name} must be False, as the weights show, got True"
    )
    refused(lambda: load_folder(fla_folder(tmp_path, {name: OUT}, weights)), ValueError, by_default)
    for value in (False, None):
        assert load_folder(fla_folder(tmp_path, {name: value}, weights))[1].dim == 12
    message = f"config.json: {name} must be True, as the weights show, got False"
    refused(lambda: load_folder(fla_folder(tmp_path, {name: None})), ValueError, message)


def test_one_name_twice_in_a_file(tmp_path):
    text = json.dumps(without_none(FLA_JSON, {}))
    (fla_folder(tmp_path) / "config.json").write_text(text.replace("{", '{"norm_eps": 1e-3, ', 1))
    with pytest.raises(ValueError, match=r"does not: it says norm_eps twice, 0\.001 and 1e-05$"):
        load_folder(tmp_path)
