"""`load_folder` on models that cannot be expressed here, and on what this package wrote."""

import dataclasses
import json
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from their_folders import assert_gives, fla_folder, load
from their_models import (
    TOKENS,
    assert_same_model,
)

from gpu.models.retnet import RetNet
from refimpl import RetNetConfig
from refimpl.conformance.validation import refused
from refimpl.interop import load_folder
from refimpl.tree import map_tree
from refimpl.weights import PRETRAINED, load_pretrained


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["retnet.retentions.0.W_Q", "retnet.layer_norms_1.0.weight", "embed.weight"],
            "Jamie-Stirling/RetNet: its xPos",
        ),
        (
            ["model.blocks.0.msr.qkv.weight", "model.embedding.weight", "lm_head.weight"],
            "before October 2023: its xPos",
        ),
        (["layers.0.retention.w_q", "embedding"], "a model of refimpl without their config"),
        (
            ["h.0.attn.c_attn.weight", "wte.weight"],
            "2 weights that are of no RetNet known here, h.0.attn.c_attn.weight",
        ),
    ],
)
def test_a_family_that_no_config_computes(tmp_path, names, message):
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"^path must hold a RetNet; .*{re.escape(message)}"):
        load(tmp_path)


def test_another_model_of_the_same_library(tmp_path):
    folder = fla_folder(tmp_path, {"model_type": "gla"})
    message = "config.json: model_type must be 'retnet', got 'gla'"
    refused(lambda: load_folder(folder), ValueError, message)


def test_own_folders(tmp_path):
    params, config = load_folder(PRETRAINED.parent)
    assert_same_model((map_tree(lambda _, array: array.astype(np.float32), params), config), load_pretrained())
    small = RetNetConfig(dim=8, num_layers=1, num_heads=2, norm_eps=1e-3, ffn="geglu")
    model = RetNet(small, seed=1)
    for name in ("weights.safetensors", "best.safetensors", "checkpoint.safetensors"):
        model.save(tmp_path / name)
    params, config = load_folder(tmp_path)
    assert config == small
    assert_gives((params, config), model(torch.from_numpy(TOKENS))[0].detach().numpy())
    assert_same_model(load_folder(tmp_path / "best.safetensors", norm_eps=1e-3, activation="gelu"), (params, config))
    message = "norm_eps must be 0.001, as weights.safetensors says, got 1e-06"
    refused(lambda: load_folder(tmp_path, norm_eps=1e-6), ValueError, message)


def test_own_weights_in_bfloat16(tmp_path):
    small = RetNetConfig(dim=8, num_layers=1, num_heads=2)
    weights = {name: value.detach().bfloat16() for name, value in RetNet(small, seed=1).state_dict().items()}
    metadata = {"config": json.dumps(dataclasses.asdict(small))}
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors", metadata)
    params, config = load_folder(tmp_path)
    assert config == small
    assert np.array_equal(params["head"], weights["head"].float())


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RetNetConfig)])
def test_own_weights_whose_config_is_not_whole(tmp_path, name):
    small = RetNetConfig(dim=8, num_layers=4, num_heads=4, norm_eps=1e-3)
    RetNet(small, seed=1).save(tmp_path / "weights.safetensors")
    weights = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    config = dataclasses.asdict(small)
    del config[name]
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors", {"config": json.dumps(config)})
    message = f"weights.safetensors must hold a whole config, for a default may be wrong; it lacks {name}"
    refused(lambda: load_folder(tmp_path), ValueError, message)


@pytest.mark.parametrize("text", ["{", "[1]", "null", "[" * 100_000])
def test_own_weights_whose_config_is_none(tmp_path, text):
    RetNet(RetNetConfig(dim=8, num_layers=1, num_heads=2), seed=1).save(tmp_path / "weights.safetensors")
    weights = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors", {"config": text})
    with pytest.raises(ValueError, match=r"^weights\.safetensors must hold a JSON object as its config, got "):
        load_folder(tmp_path)


def test_a_checkpoint_of_somebody_else(tmp_path):
    """Its name does not make it a run of ours."""
    (fla_folder(tmp_path) / "model.safetensors").rename(tmp_path / "checkpoint.safetensors")
    assert load_folder(tmp_path)[1].norm_eps == 1e-5


def test_a_run_that_is_not_finished_and_a_baseline(tmp_path):
    metadata = {"config": json.dumps({"mixer": "transformer", "dim": 8})}
    safetensors.torch.save_file({"embedding.weight": torch.ones(1)}, tmp_path / "baseline.safetensors", metadata)
    with pytest.raises(ValueError, match=r"baseline\.safetensors is of a baseline or is a run's checkpoint: .*'mixer'"):
        load_folder(tmp_path)
    (tmp_path / "baseline.safetensors").unlink()
    safetensors.torch.save_file({"weight.embedding": torch.ones(1)}, tmp_path / "checkpoint.safetensors", metadata)
    with pytest.raises(
        ValueError, match=r"holds a checkpoint alone: python -m gpu train --out .* --resume finishes it"
    ):
        load_folder(tmp_path)
    with pytest.raises(
        ValueError, match=r"checkpoint\.safetensors is of a baseline or is a run's checkpoint: .*'mixer'"
    ):
        load_folder(tmp_path / "checkpoint.safetensors")
