"""`load_folder` on flash-linear-attention's folders: their logits, or a refusal by name."""

import dataclasses
import functools
import json
import math
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from their_folders import FLA, FLA_JSON, OUT, assert_gives, fla_folder, fla_logits, load, shards, tensors
from their_models import (
    TOKENS,
    VOCAB,
    Fla,
    assert_same_model,
)

from refimpl.conformance.validation import refused
from refimpl.interop import from_fla, load_folder
from refimpl.tree import map_tree


@pytest.mark.parametrize("eps", [1e-6, 1e-5, 1e-2])
def test_a_config_beside_the_weights_is_obeyed(tmp_path, eps):
    folder = fla_folder(tmp_path, {"norm_eps": eps})
    for path in (folder, str(folder), folder / "model.safetensors"):
        params, config = load_folder(path)
        assert config.norm_eps == eps
        assert_gives((params, config), fla_logits(eps))


@pytest.mark.parametrize(
    "fla",
    [Fla(fuse=False), Fla(gate=False), Fla(affine=False, heads=3, values=15), Fla(heads=4, keys=8, values=36)],
    ids=["unfused norm", "no gate", "no norm weight", "other widths"],
)
def test_every_kind_of_theirs(tmp_path, fla):
    """The number of heads, which no weight shows without a norm, comes from config.json."""
    settings = {
        "num_heads": fla.heads, "expand_k": fla.keys / 12, "expand_v": fla.values / 12, "fuse_norm": fla.fuse,
        "use_output_gate": fla.gate, "elementwise_affine": fla.affine,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(FLA_JSON | settings))
    state_dict = fla.state_dict()
    safetensors.torch.save_file(tensors(state_dict, torch.float64), tmp_path / "model.safetensors")
    want = np.stack([fla.logits(state_dict, sentence, 1e-5) for sentence in TOKENS])
    assert_gives(load_folder(tmp_path), want, 1e-10)


def test_what_transformers_saves_in_any_format(tmp_path):
    folder, state_dict = fla_folder(tmp_path / "fla"), tensors(FLA.state_dict())
    want = load_folder(folder)
    (folder / "model.safetensors").unlink()
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = shards(folder, state_dict, name)
        assert_same_model(load(folder), want)
        assert_same_model(load(index), want)
        index.unlink()
    for name in ("pytorch_model.bin", "model.pt", "other.pth"):
        for new in (False, True):  # False: a bare pickle, as before torch 1.6
            torch.save(state_dict, folder / name, _use_new_zipfile_serialization=new)
            assert_same_model(load(folder / name), want)
    assert_same_model(load(folder), want)  # pytorch_model.bin, of several
    fla_folder(folder, {}, {"model.norm.weight": torch.zeros(12)})
    assert np.all(load(folder)[0]["final_norm"] == 0)  # as transformers, which prefers safetensors to .bin


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves(tmp_path, dtype):
    params, config = load_folder(fla_folder(tmp_path, dtype=dtype))
    assert params["head"].dtype == (np.float32 if dtype is torch.bfloat16 else np.float16)
    assert_gives((map_tree(lambda _, array: array.astype(np.float64), params), config), fla_logits(1e-5, dtype), 1e-10)


def test_halves_beside_norms_of_float32(tmp_path):
    norms = {key: value for key, value in tensors(FLA.state_dict()).items() if "norm" in key}
    params, _ = load_folder(fla_folder(tmp_path, weights=norms, dtype=torch.float16))
    assert params["head"].dtype == np.float32
    assert np.array_equal(params["final_norm"], norms["model.norm.weight"])


def test_a_tied_head(tmp_path):
    params, _ = load_folder(fla_folder(tmp_path, {"tie_word_embeddings": True}, {"lm_head.weight": OUT}))
    assert np.array_equal(params["head"], params["embedding"].T)
    fla_folder(tmp_path, {"tie_word_embeddings": True})
    message = "lm_head.weight must be model.embeddings.weight, for they are shared, got another array"
    refused(lambda: load_folder(tmp_path), ValueError, message)


def test_the_width_that_a_ratio_gives(tmp_path):
    """As their GatedMLP computes it: 2/3 of ratio x width, up to a multiple of 256."""
    wide = dataclasses.replace(FLA, inner=256)
    folder = fla_folder(tmp_path, {"intermediate_size": None}, tensors(wide.state_dict()))
    assert load_folder(folder)[1].ffn_dim == 256
    message = "config.json: intermediate_size must be 256, as the weights show, got 512"
    (folder / "config.json").write_text(json.dumps(FLA_JSON | {"intermediate_size": None, "hidden_ratio": 33}))
    refused(lambda: load_folder(folder), ValueError, message)


def test_gate_and_up_in_one_matrix(tmp_path):
    """As until 2024: gate_proj has twice the rows, those of the gate first."""
    state_dict = tensors(FLA.state_dict())
    want = load_folder(fla_folder(tmp_path))
    weights = {}
    for key in [key for key in state_dict if "gate_proj" in key]:
        up = key.replace("gate_proj", "up_proj")
        weights |= {key: torch.cat([state_dict[key], state_dict[up]]), up: OUT}
    assert_same_model(load_folder(fla_folder(tmp_path, weights=weights)), want)
    half = next(iter(weights))
    weights[half] = weights[half][:-1]
    with pytest.raises(ValueError, match=r"^(state_dict must hold |model\.layers\.0\.mlp\.)"):
        load_folder(fla_folder(tmp_path, weights=weights))


CONFIG_JSON = {  # a change of config.json, and what is said of it
    ("hidden_act", "gelu"): "must be 'swish' or 'silu', got 'gelu'",
    ("num_kv_heads", 1): "must be None or 2, got 1",
    ("feature_map", "relu"): "must be None, got 'relu'",
    ("use_short_conv", True): "must be False or None, got True",
    ("attnres_block_size", 2): "must be None, got 2",
    ("attn", "layers"): "must be None, got 'layers'",
    ("quantization_config", "int4"): "must be None, got 'int4'",
    ("hidden_size", 24): "must be 12, as the weights show, got 24",
    ("num_hidden_layers", 3): "must be 2, as the weights show, got 3",
    ("expand_k", 0.5): "must be 1.0, as the weights show, got 0.5",
    ("expand_v", 1): "must be 2.0, as the weights show, got 1",
    ("intermediate_size", 12): "must be 10, as the weights show, got 12",
    ("use_output_gate", False): "must be True, as the weights show, got False",
    ("elementwise_affine", False): "must be True, as the weights show, got False",
    ("vocab_size", 32000): f"must be {VOCAB}, as the weights show, got 32000",
    ("norm_eps", -1.0): "must be at least 0, got -1",
    ("norm_eps", math.inf): "must be finite, got inf",
    ("num_heads", 0): "must be at least 1, got 0",
    ("logit_scale", 2.0): "is no setting that is known here, got 2.0; take it out if it changes nothing of what the model computes",
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CONFIG_JSON.items(), ids=lambda each: each[0])
def test_what_a_config_says_is_refused_by_name(tmp_path, change, message):
    name, value = change
    folder = fla_folder(tmp_path, {name: value})
    refused(lambda: load_folder(folder), ValueError, f"config.json: {name} {message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_eps": None}, "norm_eps must be a number, got None (NoneType)"),
        ({"num_heads": "2"}, "num_heads must be an integer, got '2' (str)"),
        *[
            (
                {"intermediate_size": None, "hidden_ratio": ratio},
                f"hidden_ratio must be a number, got {ratio!r} ({kind})",
            )
            for ratio, kind in (("2", "str"), ([2], "list"), ({}, "dict"), (True, "bool"))
        ],
    ],
)
def test_settings_of_another_type(tmp_path, change, message):
    folder = fla_folder(tmp_path, change)
    refused(lambda: load_folder(folder), TypeError, f"config.json: {message}")


@pytest.mark.parametrize(
    ("ratio", "message"),
    [
        (math.nan, "hidden_ratio must be finite, got nan"),
        (-math.inf, "hidden_ratio must be finite, got -inf"),
        (1e308, "hidden_size * hidden_ratio must be finite, got inf"),
        (-3, "intermediate_size must be 10, as the weights show, got 0"),
    ],
)
def test_ratios_that_are_no_width(tmp_path, ratio, message):
    folder = fla_folder(tmp_path, {"intermediate_size": None, "hidden_ratio": ratio})
    refused(lambda: load_folder(folder), ValueError, f"config.json: {message}")


def test_heads_that_do_not_fit_the_norm(tmp_path):
    with pytest.raises(ValueError, match=r"g_norm_swish_gate\.weight must have shape \(8,\), got \(12,\)"):
        load_folder(fla_folder(tmp_path, {"num_heads": 3}))


def test_what_the_caller_says_must_agree(tmp_path):
    folder = fla_folder(tmp_path)
    assert_same_model(load_folder(folder, norm_eps=1e-5, num_heads=2, activation="swish"), load_folder(folder))
    for arguments, message in (
        ({"norm_eps": 1e-6}, "norm_eps must be 1e-05, as config.json says, got 1e-06"),
        ({"num_heads": 4}, "num_heads must be 2, as config.json says, got 4"),
        ({"activation": "gelu"}, "activation must be 'swish', as flash-linear-attention says, got 'gelu'"),
        ({"embedding_scale": 2.0}, "embedding_scale must be 1.0, as flash-linear-attention says, got 2.0"),
    ):
        refused(functools.partial(load_folder, folder, **arguments), ValueError, message)
    message = "norm_eps must be 1e-05, as config.json beside state_dict says, got 1e-06"
    refused(lambda: from_fla(folder / "model.safetensors"), ValueError, message)


def test_weights_alone_do_not_tell_eps(tmp_path):
    safetensors.torch.save_file(tensors(FLA.state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"^norm_eps must be given, for w\.safetensors holds no settings"):
        load_folder(tmp_path)
    assert load_folder(tmp_path, norm_eps=1e-3)[1].norm_eps == 1e-3


def test_saved_frequencies_are_checked(tmp_path):
    key = "model.layers.0.attn.rotary.inv_freq"
    rotary = torch.tensor([1.0, 10000.0 ** (-1 / 3), 10000.0 ** (-2 / 3)])
    want = load_folder(fla_folder(tmp_path))
    assert_same_model(load_folder(fla_folder(tmp_path, weights={key: rotary})), want)
    with pytest.raises(ValueError, match=re.escape(f"{key} must be one of rotary, got [")):
        load_folder(fla_folder(tmp_path, weights={key: rotary * 2}))
