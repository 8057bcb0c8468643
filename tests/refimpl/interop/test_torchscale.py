"""`load_folder` on checkpoints of torchscale, fairseq and syncdoth/RetNet: their logits, or a refusal by name."""

import argparse
import dataclasses
import json
import math
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from their_folders import (
    FLA,
    OUT,
    SCALED,
    SWISH,
    assert_gives,
    load,
    without_none,
)
from their_models import (
    SHAPES,
    VOCAB,
    assert_same_model,
    decoder,
    logits_of,
    recurrent,
    their_config,
    torchscale,
)

from refimpl.conformance.validation import refused
from refimpl.interop import from_fla, from_torchscale, load_folder


def fairseq_cfg(shape, **changes):
    """The settings of a language model in fairseq's words: no eps, which fairseq does not know."""
    cfg = {
        "activation_fn": "gelu", "dropout": 0.1, "decoder_embed_dim": shape.dim, "decoder_value_embed_dim": shape.values,
        "decoder_output_dim": 512, "decoder_ffn_embed_dim": shape.ffn, "decoder_layers": 2,
        "decoder_retention_heads": shape.heads, "decoder_normalize_before": True, "deepnorm": False, "subln": False,
        "share_decoder_input_output_embed": False, "layernorm_embedding": False, "no_scale_embedding": True, "moe_freq": 0,
        "arch": "retnet_base", "adaptive_softmax_cutoff": None,
    }  # fmt: skip
    return cfg | dict(shape.options) | changes


def fairseq(path, model, cfg, prefix="decoder.", where="cfg"):
    """A checkpoint as fairseq's trainer writes it."""
    moments = {0: {"step": 3, "exp_avg": torch.zeros(2)}}
    checkpoint = {
        "args": None, "cfg": None, "criterion": {}, "optimizer_history": [{"num_updates": 3}], "task_state": {},
        "model": {prefix + key: value for key, value in (model.state_dict() | {"version": torch.tensor([3.0])}).items()},
        "extra_state": {"epoch": 1}, "last_optimizer_state": {"state": moments, "param_groups": []},
    } | {where: cfg}  # fmt: skip
    torch.save(checkpoint, path)
    return path


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.heads} heads")
def test_a_fairseq_checkpoint_says_what_its_weights_do_not(tmp_path, shape):
    """Swish is not taken for gelu, nor a scaled embedding for a bare one, nor a shared one for another."""
    model, _, want = decoder(shape, dtype=np.float32)
    path, cfg = tmp_path / "checkpoint_best.pt", fairseq_cfg(shape)
    for content, where in (
        ({"_name": "retnet", "model": cfg, "task": {"data": "x"}}, "cfg"),
        ({"model": argparse.Namespace(**cfg)}, "cfg"),
        (argparse.Namespace(**cfg), "args"),  # fairseq before 0.10
    ):
        params, config = load(fairseq(path, model, content, where=where))
        assert config == want
        assert_gives((params, config), logits_of(model, np.float32, recurrent))


@pytest.mark.parametrize(
    "rename",
    [
        "module.{}", "_orig_mod.{}", "decoder.{}", "model.{}", "module._orig_mod.decoder.{}", "net.{}", "lm.net.model.{}",
        "_forward_module.module.{}",
    ],
)  # fmt: skip
def test_prefixes_of_wrappers(tmp_path, rename):
    model, params, config = decoder(SWISH, dtype=np.float32)
    state_dict = {rename.format(key): value for key, value in model.state_dict().items()}
    assert_same_model(from_torchscale(state_dict, activation="swish"), (params, config))
    torch.save({"state_dict": state_dict, "epoch": 3}, tmp_path / "last.ckpt")
    assert_same_model(load(tmp_path, activation="swish"), (params, config))
    state_dict = {rename.format(key): value for key, value in FLA.state_dict().items()}
    assert_same_model(from_fla(state_dict), from_fla(FLA.state_dict()))


@pytest.mark.parametrize("prefix", ["backbone.", "module.net.backbone.", "transformer."])
def test_a_prefix_of_all_but_the_head(prefix):
    model, params, config = decoder(SWISH, dtype=np.float32)
    theirs = {("" if "output" in key else prefix) + key: value for key, value in model.state_dict().items()}
    assert_same_model(from_torchscale(theirs, activation="swish"), (params, config))
    theirs = {("" if "lm_head" in key else prefix) + key: value for key, value in FLA.state_dict().items()}
    assert_same_model(from_fla(theirs), from_fla(FLA.state_dict()))


@pytest.mark.parametrize("name", ["decay", "angle"])
def test_buffers_are_known_as_exactly_as_they_are_kept(name):
    """Halves may be a rounding off; float32 may not, for a decay of its own would be replaced by the schedule."""
    state_dict, config = decoder(SWISH, dtype=np.float32)[0].state_dict(), decoder(SWISH, dtype=np.float32)[2]
    key = f"retnet_rel_pos.{name}"
    buffer = state_dict[key]
    for kept in (buffer, buffer.bfloat16(), buffer.bfloat16().float(), buffer.half(), buffer.half().double()):
        assert from_torchscale(state_dict | {key: kept}, activation="swish")[1] == config
    for wrong in (buffer * 1.003, buffer * 0.997, buffer * 1.0001, (buffer * 1.003).half(), buffer.double() * 1.003):
        with pytest.raises(ValueError, match=rf"^{re.escape(key)} must be one of released, "):
            from_torchscale(state_dict | {key: wrong}, activation="swish")


def test_wrappers_within_names():
    _, params, config = decoder(SWISH, dtype=np.float32)
    state_dict = decoder(SWISH, dtype=np.float32)[0].state_dict()
    within = {re.sub(r"^(layers\.\d+\.)", r"\1_orig_mod.", key): value for key, value in state_dict.items()}
    assert_same_model(from_torchscale(within, activation="swish"), (params, config))
    both = state_dict | {f"module.{key}": value for key, value in state_dict.items()}
    message = "state_dict must hold one model, got embed_tokens.weight and module.embed_tokens.weight"
    refused(lambda: from_torchscale(dict(sorted(both.items()))), ValueError, message)


def test_a_norm_of_the_embeddings(tmp_path):
    """It depends on the token alone, so the table of embeddings takes it in."""
    torch.manual_seed(1)
    args = their_config(SCALED, layernorm_embedding=True, layernorm_eps=1e-3)
    model = torchscale.RetNetDecoder(args, torch.nn.Embedding(VOCAB, SCALED.dim)).eval()
    torch.nn.init.uniform_(model.layernorm_embedding.weight, 0.5, 1.5)
    cfg = fairseq_cfg(SCALED, layernorm_embedding=True, layernorm_eps=1e-3)
    params, config = load(fairseq(tmp_path / "c.pt", model, {"model": cfg}))
    assert (config.embedding_scale, config.norm_eps) == (1.0, 1e-3)
    assert_gives((params, config), logits_of(model, np.float32, recurrent))
    fairseq(tmp_path / "c.pt", model, {"model": cfg | {"layernorm_embedding": False}})
    message = "cfg: layernorm_embedding must be True, as the weights show, got False"
    refused(lambda: load(tmp_path), ValueError, message)


SYNCDOTH = {"retnet_rel_pos.": "rel_pos.", "layer_norm": "rms_norm", "layernorm": "rms_norm"}


@pytest.mark.parametrize("renamed", [False, True], ids=["as of 2023", "as Nucleus-X"])
def test_syncdoth(tmp_path, renamed):
    """The same layers in transformers' clothes; its decays may be those of the paper's experiments."""
    torch.manual_seed(1)
    args = their_config(SCALED, layernorm_embedding=True)
    model = torchscale.RetNetDecoder(args, torch.nn.Embedding(VOCAB, SCALED.dim)).eval()
    model.retnet_rel_pos.decay = torch.log(1 - torch.exp(torch.linspace(math.log(1 / 32), math.log(1 / 512), 2)))
    state_dict = {f"model.{key}": value for key, value in model.state_dict().items()}
    state_dict["lm_head.weight"] = state_dict.pop("model.output_projection.weight")
    settings = fairseq_cfg(SCALED, layernorm_embedding=True, use_lm_decay=True, use_glu=True, layernorm_eps=1e-6)
    settings |= {"model_type": "retnet", "architectures": ["RetNetForCausalLM"], "tie_word_embeddings": False}
    settings |= {"vocab_size": VOCAB}
    if renamed:
        for old, new in SYNCDOTH.items():
            state_dict = {key.replace(old, new): value for key, value in state_dict.items()}
        settings = {name.replace("layernorm", "rms_norm"): value for name, value in settings.items()}
        settings |= {"model_type": "nucleus_x", "groupnorm_eps": 1e-6}
    safetensors.torch.save_file(state_dict, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    params, config = load_folder(tmp_path)
    assert config.gamma_schedule == "paper"
    assert_gives((params, config), logits_of(model, np.float32, recurrent))
    (tmp_path / "config.json").write_text(json.dumps(settings | {"use_lm_decay": False}))
    message = "config.json: use_lm_decay must be True, as the weights show, got False"
    refused(lambda: load_folder(tmp_path), ValueError, message)


CFG = {  # a change of fairseq's cfg, and what is said of it
    ("activation_fn", "relu"): "cfg: activation_fn must be 'gelu' or 'swish', got 'relu'",
    ("deepnorm", True): "cfg: deepnorm must be False, got True",
    ("decoder_normalize_before", False): "cfg: decoder_normalize_before must be True, got False",
    ("moe_freq", 2): "cfg: moe_freq must be 0, got 2",
    ("multiway", True): "cfg: multiway must be False, got True",
    ("xpos_rel_pos", True): "cfg: xpos_rel_pos must be False, got True",
    ("use_glu", False): "cfg: use_glu must be True, got False",
    ("groupnorm_eps", 1e-5): "cfg: groupnorm_eps must be 1e-06, got 1e-05",
    ("decoder_embed_dim", 512): "cfg: decoder_embed_dim must be 48, as the weights show, got 512",
    ("decoder_value_embed_dim", 96): "cfg: decoder_value_embed_dim must be 36, as the weights show, got 96",
    ("decoder_ffn_embed_dim", 21): "cfg: decoder_ffn_embed_dim must be 20, as the weights show, got 21",
    ("decoder_layers", 3): "cfg: decoder_layers must be 2, as the weights show, got 3",
    ("decoder_retention_heads", 4): "retnet_rel_pos.decay must have shape (4,), got (3,)",
    ("vocab_size", 50): f"cfg: vocab_size must be {VOCAB}, as the weights show, got 50",
    ("layernorm_embedding", True): "cfg: layernorm_embedding must be False, as the weights show, got True",
    ("share_decoder_input_output_embed", True): "output_projection.weight must be embed_tokens.weight, for they are shared, "
    "got another array",
    ("no_scale_embedding", OUT): "embedding_scale must be given, for cfg holds no no_scale_embedding",
    ("activation_fn", OUT): "activation must be given, 'gelu' or 'swish', for cfg holds no activation_fn; norm_eps and "
    "embedding_scale too, unless they are 1e-06 and 1 (or all of them in a config.json beside it)",
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CFG.items(), ids=lambda each: each[0])
def test_what_a_cfg_says_is_refused_by_name(tmp_path, change, message):
    model, _, _ = decoder(SWISH, dtype=np.float32)
    cfg = without_none(fairseq_cfg(SWISH), dict([change]))
    fairseq(tmp_path / "c.pt", model, {"model": cfg})
    refused(lambda: load(tmp_path), ValueError, message)


def test_torchscale_weights_without_settings(tmp_path):
    """They do not show the activation: it is asked for, or stands in config.json."""
    model, _, config = decoder(SWISH, eps=1e-4, dtype=np.float32)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"^activation must be given, 'gelu' or 'swish', for w\.pt holds no"):
        load(tmp_path)
    params, got = load(tmp_path, activation="swish", norm_eps=1e-4)
    assert got == config
    assert_gives((params, got), logits_of(model, np.float32, recurrent))
    settings = {"activation_fn": "swish", "layernorm_eps": 1e-4, "no_scale_embedding": True}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert load(tmp_path)[1] == config
    safetensors.torch.save_file(model.state_dict(), tmp_path / "w.safetensors")
    message = "activation must be 'swish', as config.json beside state_dict says, got 'gelu'"
    refused(lambda: from_torchscale(tmp_path / "w.safetensors"), ValueError, message)


@pytest.mark.parametrize("paper", [False, True])
def test_decays_without_their_buffer(tmp_path, paper):
    """Where the buffers were not saved, use_lm_decay tells the schedule; torchscale knows one alone."""
    model, _, config = decoder(SWISH, dtype=np.float32)
    state_dict = {key: value for key, value in model.state_dict().items() if "rel_pos" not in key}
    torch.save({"model": state_dict, "config": fairseq_cfg(SWISH, use_lm_decay=paper)}, tmp_path / "w.pt")
    assert load(tmp_path)[1] == dataclasses.replace(config, gamma_schedule="paper" if paper else "released")


def test_halves_beside_buffers_of_float32(tmp_path):
    """Buffers are no weights: halves stay halves."""
    state_dict = decoder(SWISH, dtype=np.float32)[0].state_dict()
    halves = {key: value if "rel_pos" in key else value.half() for key, value in state_dict.items()}
    torch.save(halves, tmp_path / "w.pt")
    assert load(tmp_path, activation="swish")[0]["head"].dtype == np.float16


def test_settings_in_two_places_must_agree(tmp_path):
    model, _, config = decoder(SWISH, eps=1e-4, dtype=np.float32)
    fairseq(tmp_path / "c.pt", model, {"model": fairseq_cfg(SWISH)})
    (tmp_path / "config.json").write_text(json.dumps({"activation_fn": "swish", "layernorm_eps": 1e-4}))
    assert load(tmp_path)[1] == config  # each says a part
    (tmp_path / "config.json").write_text(json.dumps({"activation_fn": "gelu"}))
    message = "activation_fn must be the same in cfg and in config.json, got 'swish' and 'gelu'"
    refused(lambda: load(tmp_path), ValueError, message)
