"""`save_folder`: what another library loads computes our logits; a model that it lacks is refused, with all reasons."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from backends import small_model
from paths import ROOT
from their_models import TOKENS, VOCAB, Config, Fla, assert_same_model, gap, logits_of, recurrent, torchscale

from gpu.training.config import RunConfig
from refimpl import RetNetConfig, forward, init_params
from refimpl.interop import load_folder, save_folder, saving
from refimpl.interop.files import read_safetensors
from refimpl.tree import flatten, map_tree
from refimpl.weights import load_pretrained

FLA = {"vocab_size": VOCAB, "dim": 16, "num_heads": 2, "ffn_dim": 10, "rotation": "rotary", "norm_eps": 1e-3}
TORCHSCALE = {"vocab_size": VOCAB, "dim": 16, "num_heads": 2, "ffn_dim": 10, "row_norm": True, "norm_eps": 1e-3}


def model(dtype=np.float64, **options):
    """(params, config) whose norm weights differ from 1 and from each other."""
    params, config = small_model(dtype, seed=1, **options)
    rng = np.random.default_rng(2)
    return map_tree(lambda _, x: x * rng.uniform(0.5, 2, x.shape).astype(dtype) if x.ndim == 1 else x, params), config


def as_their_loop(folder):
    """Logits of flash-linear-attention as a literal loop, by what its config.json says."""
    settings = json.loads((folder / "config.json").read_text())
    widths = {name: round(settings[f"expand_{name[0]}"] * settings["hidden_size"]) for name in ("keys", "values")}
    loop = Fla(
        settings["hidden_size"], settings["num_heads"], inner=settings["intermediate_size"],
        affine=settings["elementwise_affine"], gate=settings["use_output_gate"], fuse=settings["fuse_norm"], **widths,
    )  # fmt: skip
    state_dict = read_safetensors(folder / "model.safetensors")
    assert set(state_dict) == set(loop.state_dict())
    assert settings["num_hidden_layers"] == 2
    return np.stack([loop.logits(state_dict, sentence, settings["norm_eps"]) for sentence in TOKENS])


def as_torchscale(folder):
    """Logits of the authors' decoder, built from config.json alone."""
    settings = json.loads((folder / "config.json").read_text())
    embedding = torch.nn.Embedding(settings["vocab_size"], settings["decoder_embed_dim"])
    decoder = torchscale.RetNetDecoder(Config(**settings), embedding).eval().double()
    state_dict = read_safetensors(folder / "model.safetensors")
    decoder.load_state_dict({key: torch.from_numpy(value) for key, value in state_dict.items()}, strict=True)
    return logits_of(decoder, np.float64, recurrent)


FLA_MODELS = {
    "as it is": {},
    "a norm with weight": {"group_norm_affine": True},
    "no gate": {"gate": False},
    "other widths": {"key_dim": 6, "value_dim": 5, "num_heads": 3},
    "a scale of the embeddings": {"embedding_scale": 4.0},
    "keys that are not scaled": {"scale_keys": False},
    "the paper's decays of one head": {"gamma_schedule": "paper", "num_heads": 1},
    "the paper's decays of five heads": {"gamma_schedule": "paper", "num_heads": 5, "key_dim": 4},
    "one decay that is the released one": {"gamma_schedule": 1 - 2**-5, "num_heads": 1},
    "one pair, which every ladder turns alike": {"rotation": "released", "num_heads": 8},
    "row_norm, which eps 0 forgives": {"row_norm": True, "norm_eps": 0.0},
    "score_norm, which eps 0 forgives": {"score_norm": "sum", "norm_eps": 0.0},
}


@pytest.mark.parametrize("options", FLA_MODELS.values(), ids=FLA_MODELS)
def test_the_logits_of_fla(tmp_path, options):
    params, config = model(**FLA | options)
    save_folder(tmp_path / "new" / "fla", params, config)
    want, _ = forward(params, TOKENS, config)
    assert gap(as_their_loop(tmp_path / "new" / "fla"), want) < 1e-12
    assert gap(forward(*swapped(load_folder(tmp_path / "new" / "fla")))[0], want) < 1e-12


def swapped(model):
    return model[0], TOKENS, model[1]


TORCHSCALE_MODELS = {
    "as it is": {},
    "a norm with weight": {"group_norm_affine": True},
    "gelu": {"ffn": "geglu"},
    "the root of the width": {"embedding_scale": 4.0},
    "another scale of the embeddings": {"embedding_scale": 3.0},
    "keys that are not scaled": {"scale_keys": False},
    "the paper's decays": {"gamma_schedule": "paper"},
    "the other ladder": {"rotation": "rotary"},
    "no row_norm, which eps 0 forgives": {"row_norm": False, "norm_eps": 0.0},
}


@pytest.mark.parametrize("options", TORCHSCALE_MODELS.values(), ids=TORCHSCALE_MODELS)
def test_the_logits_of_torchscale(tmp_path, options):
    params, config = model(**TORCHSCALE | options)
    save_folder(tmp_path / "torchscale", params, config, "torchscale")
    want, _ = forward(params, TOKENS, config)
    assert gap(as_torchscale(tmp_path / "torchscale"), want) < 1e-12
    assert gap(forward(*swapped(load_folder(tmp_path / "torchscale")))[0], want) < 1e-12


@pytest.mark.parametrize(("library", "options"), [("fla", FLA), ("torchscale", TORCHSCALE)])
def test_what_needs_no_change_comes_back_to_the_bit(tmp_path, library, options):
    params, config = model(np.float32, **options)
    save_folder(
        tmp_path / "it", map_tree(lambda _, x: torch.nn.Parameter(torch.from_numpy(x)), params), config, library
    )
    assert_same_model(load_folder(tmp_path / "it"), (params, config))
    assert sorted(path.name for path in (tmp_path / "it").iterdir()) == ["config.json", "model.safetensors"]


PAIRS = "config.rotation must be 'rotary' for flash-linear-attention, got 'released': it rotates pair i by 10000**(-2 i / K)"
ROWS = (
    "config.row_norm must be True for torchscale, got False: it always divides by the root of the row sums of D; only a"
)


@pytest.mark.parametrize("make", [load_pretrained, lambda: (init_params(RunConfig().retnet), RunConfig().retnet)])
def test_why_the_shipped_model_and_a_default_run_are_in_neither(tmp_path, make):
    """The shipped model's 'paper' decays are no reason: for 5 heads they are the released ones."""
    params, config = make()
    for library, reason in (("fla", PAIRS), ("torchscale", ROWS)):
        with pytest.raises(
            ValueError, match=f"has no model that computes the same: {re.escape(reason)}[^;]*(; only[^;]*)?$"
        ):
            save_folder(tmp_path / "new", params, config, library)
    assert not any(tmp_path.iterdir())


REFUSALS = {
    "fla": {
        "rotation": None, "gamma_schedule": "paper", "row_norm": True, "score_norm": "sum", "group_norm": "mean",
        "ffn": "geglu", "key_dim": 258,
    },
    "torchscale": {
        "row_norm": False, "gate": False, "group_norm": None, "ffn": "gelu", "key_dim": 6, "gamma_schedule": 0.9,
        "rotation": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("library", REFUSALS)
def test_every_setting_that_a_library_lacks_has_its_reason(tmp_path, library):
    base, lacking = FLA if library == "fla" else TORCHSCALE, REFUSALS[library]
    assert lacking.keys() == saving.REASONS[library].keys()
    for name, value in lacking.items():
        params, config = model(**base | {name: value})
        with pytest.raises(ValueError, match=rf"the same: config\.{name} must be .*, got {re.escape(repr(value))}: "):
            save_folder(tmp_path / "new", params, config, library)
    params, config = model(**base | lacking)
    with pytest.raises(ValueError, match="the same: ") as all_at_once:
        save_folder(tmp_path / "new", params, config, library)
    assert all(f"config.{name} must be" in str(all_at_once.value) for name in lacking)
    params, config = model(**base | {"rotation": None, "num_heads": 8})  # one pair that is not rotated
    with pytest.raises(ValueError, match=r"the same: config\.rotation must be "):
        save_folder(tmp_path / "new", params, config, library)
    assert not any(tmp_path.iterdir())


def test_what_is_not_written(tmp_path, monkeypatch):
    params, config = model(**FLA)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name in ("full", "file"):
        with pytest.raises(
            FileExistsError, match=rf"^path must be a new or an empty folder, got '.*{name}', which is not"
        ):
            save_folder(tmp_path / name, params, config)
    with pytest.raises(ValueError, match=r"library must be one of 'fla', 'torchscale', got 'jax'"):
        save_folder(tmp_path / "new", params, config, "jax")
    params["layers"][1]["ffn"]["w_1"][2, 3] = np.nan
    with pytest.raises(
        ValueError, match=r"^params: layers\.1\.ffn\.w_1 must be finite, got nan at \[2, 3\], 1 such in all"
    ):
        save_folder(tmp_path / "new", params, config)
    params["layers"][1]["ffn"]["w_1"][2, 3] = 0
    write = saving.write_atomically

    def full_for_config(path, data):
        if path.name == "config.json":
            raise OSError("disk full")
        write(path, data)

    monkeypatch.setattr(saving, "write_atomically", full_for_config)
    with pytest.raises(OSError, match="disk full"):
        save_folder(tmp_path / "new", params, config)
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file", "empty"}
    monkeypatch.undo()
    save_folder(tmp_path / "empty", params, config)
    assert_same_model(load_folder(tmp_path / "empty"), (params, config))


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.float16, 1e6), (np.float16, 1e-9), (np.float32, 1e40), (np.float32, 1e-44)]
)
@pytest.mark.parametrize(("library", "options"), [("fla", FLA), ("torchscale", TORCHSCALE)])
def test_a_factor_that_a_dtype_does_not_hold(tmp_path, library, options, dtype, scale):
    params, config = model(dtype, **options, embedding_scale=scale)
    with pytest.raises(
        ValueError, match=r"^params: embedding must keep its numbers when the library's factor is multip"
    ):
        save_folder(tmp_path / "new", params, config, library)
    assert not any(tmp_path.iterdir())


def test_other_factors_that_a_dtype_does_not_hold(tmp_path):
    params, config = model(np.float16, **FLA, scale_keys=False)
    params["layers"][1]["retention"]["w_k"][2, 3] = 60000
    message = (
        "params: layers.1.retention.w_k must keep its numbers when the library's factor is multiplied in, got 60000.0 "
    )
    with pytest.raises(
        ValueError, match=rf"^{re.escape(message)}times 2\.82843 at \[2, 3\], which float16 does not hold: "
    ):
        save_folder(tmp_path / "new", params, config)
    for weight in (1e-7, 6e4):
        params, config = model(np.float16, **TORCHSCALE, group_norm_affine=True)
        params["layers"][0]["retention"]["group_norm"][1] = weight
        params["layers"][0]["retention"]["w_o"] *= np.float16(8)
        with pytest.raises(ValueError, match=r"^params: layers\.0\.retention\.w_o must keep its numbers"):
            save_folder(tmp_path / "new", params, config, "torchscale")
    assert not any(tmp_path.iterdir())


def test_halves_take_a_factor_that_they_hold(tmp_path):
    params, config = model(np.float16, **TORCHSCALE, group_norm_affine=True, embedding_scale=0.3)
    save_folder(tmp_path / "new", params, config, "torchscale")
    wide = lambda tree: map_tree(lambda _, x: x.astype(np.float64), tree)  # noqa: E731
    again, after = load_folder(tmp_path / "new")
    assert gap(forward(wide(again), TOKENS, after)[0], forward(wide(params), TOKENS, config)[0]) < 2e-3


def test_empty_folders_by_other_names(tmp_path, monkeypatch):
    """The one where somebody works, and the ends of links: each stays where it is."""
    params, config = model(**FLA)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "ahead").symlink_to("new")
    monkeypatch.chdir(tmp_path / "here")
    for path in (".", "../link", "../ahead"):
        save_folder(path, params, config)
        assert_same_model(load_folder(path), (params, config))
    for name in ("here", "there", "new"):
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["config.json", "model.safetensors"]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "ahead").is_symlink()
    with pytest.raises(FileExistsError, match=r"^path must be a new or an empty folder, got '.*here', which is not"):
        save_folder("", params, config)


def test_a_full_disk_leaves_an_empty_folder_empty(tmp_path, monkeypatch):
    def full(path, state_dict):
        raise OSError("disk full")

    monkeypatch.setattr(saving, "write_safetensors", full)
    with pytest.raises(OSError, match="disk full"):
        save_folder(tmp_path, *model(**FLA))
    assert not any(tmp_path.iterdir())


def test_the_params_given_are_left_as_they_are(tmp_path):
    params, config = model(**TORCHSCALE, group_norm_affine=True, embedding_scale=3.0, scale_keys=False)
    before = {name: array.copy() for name, array in flatten(params).items()}
    save_folder(tmp_path / "new", params, config, "torchscale")
    assert all(np.array_equal(array, before[name]) for name, array in flatten(params).items())


THEIR_OWN = """
import sys, triton, numpy, torch
first = triton.autotune  # without a GPU no configuration can be timed: take the first
triton.autotune = lambda configs, key, **options: first(configs[:1], key)
import fla
from transformers import AutoModelForCausalLM
folder, tokens, out = sys.argv[1:]
model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
assert type(model).__module__ == "fla.models.retnet.modeling_retnet"
assert not any(report.values()), report
with torch.no_grad():
    numpy.save(out, model.eval()(torch.from_numpy(numpy.load(tokens))).logits.numpy())
model.save_pretrained(folder + ".again")
"""


def test_transformers_with_fla_loads_it(tmp_path):
    """Their own code, kernels in Triton's interpreter; and what it saves is read back here."""
    for name in ("fla", "transformers"):
        pytest.importorskip(name, reason="flash-linear-attention is not installed; it is not needed otherwise")
    options = {"group_norm_affine": True, "embedding_scale": 3.0, "scale_keys": False, "norm_eps": 1e-5}
    params, config = model(np.float32, **FLA | options)
    save_folder(tmp_path / "fla", params, config)
    np.save(tmp_path / "tokens.npy", TOKENS)
    arguments = [str(tmp_path / name) for name in ("fla", "tokens.npy", "logits.npy")]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", THEIR_OWN, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert gap(np.load(tmp_path / "logits.npy"), forward(params, TOKENS, config)[0]) < 1e-5
    assert_same_model(load_folder(tmp_path / "fla.again"), load_folder(tmp_path / "fla"))


def test_fla_reads_no_other_key():
    """The keys of its RetNetConfig 0.6.0, written out, for where it is not installed: each of ours is one of them."""
    known = """attn_mode hidden_size expand_k expand_v hidden_ratio intermediate_size num_hidden_layers num_heads num_kv_heads
        feature_map hidden_act use_short_conv conv_size use_output_gate max_position_embeddings elementwise_affine norm_eps
        attn use_cache pad_token_id bos_token_id eos_token_id tie_word_embeddings initializer_range fuse_norm fuse_swiglu
        fuse_cross_entropy fuse_linear_cross_entropy use_l2warp vocab_size attnres_block_size"""
    of_transformers = {"architectures", "model_type", "torch_dtype"}
    config = RetNetConfig(dim=8, num_layers=1, num_heads=2, rotation="rotary")
    assert saving.fla.config_of(config).keys() <= set(known.split()) | of_transformers
