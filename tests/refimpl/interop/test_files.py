"""Files that are broken, half there, of another kind or not finite are refused, and it is said what they are."""

import functools
import json
import math
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from their_folders import FLA, FLA_JSON, SWISH, fla_folder, load, shards, tensors
from their_models import (
    decoder,
)

from gpu.models.pickles import unpickle
from refimpl import RetNetConfig, init_params
from refimpl.conformance.validation import refused
from refimpl.interop import files, from_fla, from_torchscale, load_folder
from refimpl.weights import save_params


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_weights_that_are_not_finite(tmp_path, key, value):
    broken = tensors(FLA.state_dict())[key]
    broken.view(-1)[7] = value
    index = [int(each) for each in np.unravel_index(7, broken.shape)]
    message = f"{key} must be finite, got {value} at {index}, 1 such in all"
    refused(lambda: load_folder(fla_folder(tmp_path, weights={key: broken})), ValueError, message)
    refused(lambda: from_fla(FLA.state_dict() | {key: broken}), ValueError, message)


def own_nan(path):
    config = RetNetConfig(dim=8, num_layers=1, num_heads=2)
    params = init_params(config)
    params["head"][0, 1] = np.nan
    save_params(path, params, config)


def test_own_weights_and_torchscale_s_that_are_not_finite(tmp_path):
    own_nan(tmp_path / "weights.safetensors")
    refused(lambda: load_folder(tmp_path), ValueError, "head must be finite, got nan at [0, 1], 1 such in all")
    model, _, _ = decoder(SWISH, dtype=np.float32)
    model.layers[0].ffn.fc1.weight.data[2, 3] = math.inf
    with pytest.raises(ValueError, match=r"^layers\.0\.ffn\.fc1\.weight must be finite, got inf at \[2, 3\]"):
        from_torchscale(model.state_dict(), activation="swish")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("pickled", [False, True])
def test_dtypes_that_are_no_weights(tmp_path, dtype, pickled):
    key = "model.norm.weight"
    folder = fla_folder(tmp_path, weights={key: torch.ones(12).to(dtype)})
    if pickled:
        torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    with pytest.raises(TypeError, match=rf"^{re.escape(key)} must be "):
        load(folder)


def test_half_an_index(tmp_path):
    state_dict = tensors(FLA.state_dict())
    index = shards(tmp_path, state_dict)
    (tmp_path / "config.json").write_text(json.dumps(FLA_JSON))
    second = tmp_path / "model-00002-of-00002.safetensors"
    kept = second.read_bytes()
    second.unlink()
    with pytest.raises(FileNotFoundError, match=r"^model\.safetensors\.index\.json: it names 'model-00002-of-00002"):
        load_folder(tmp_path)
    index.unlink()
    second.write_bytes(kept)
    with pytest.raises(
        ValueError, match=r"or one other file of weights .* holds model-00001-of-00002\.safetensors, model-"
    ):
        load_folder(tmp_path)
    index = shards(tmp_path, state_dict)
    safetensors.torch.save_file({"a": torch.ones(1)}, second)
    with pytest.raises(
        ValueError, match=r"^model-00002-of-00002\.safetensors must hold model\..*, as model\.safetensors\.i"
    ):
        load_folder(tmp_path)
    for weight_map, message in (
        ({"a": "../elsewhere.safetensors"}, r"it names '\.\./elsewhere\.safetensors', which is missing"),
        ({}, r"must hold weight_map, a file for each weight, got \{\}"),
    ):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_folder(tmp_path)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FILES = {  # the files of a folder, and what is said of it
    "no such folder": (None, FileNotFoundError, "path: there is no file or folder '"),
    "an empty folder": ({}, ValueError, "holds nothing"),
    "no weights": ({"config.json": "{}", "README.md": "x"}, ValueError, "holds README.md, config.json"),
    "two weights": ({"a.pt": "x", "b.safetensors": "x"}, ValueError, "holds a.pt, b.safetensors"),
    "a pointer": ({"model.safetensors": POINTER}, ValueError, "is a pointer of Git LFS: git lfs pull fetches it"),
    "a pickled pointer": ({"pytorch_model.bin": POINTER}, ValueError, "is a pointer of Git LFS"),
    "a pointer to an index": ({"model.safetensors.index.json": POINTER}, ValueError, "is a pointer of Git LFS"),
    "no checkpoint": ({"model.pt": "hello, world"}, ValueError, "must be a file of safetensors or of torch.save; '"),
    "an empty file": ({"model.safetensors": ""}, ValueError, "path must be a .safetensors file, got '"),
    "an empty pickle": ({"model.pt": ""}, ValueError, "must be a file of safetensors or of torch.save; '"),
    "an index that is no JSON": ({"model.safetensors.index.json": "{"}, ValueError, ".index.json must hold JSON; '"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_hold_no_weights(tmp_path, case):
    contents, error, message = FILES[case]
    for name, text in (contents or {}).items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=re.escape(message)):
        load(tmp_path if contents is not None else tmp_path / "none")


@pytest.mark.parametrize("text", ["{", "[1]", '"retnet"'])
def test_a_config_that_is_none(tmp_path, text):
    (fla_folder(tmp_path) / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^config\.json must hold (a )?JSON"):
        load_folder(tmp_path)


@pytest.mark.parametrize("length", [4, 100, 2000])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_truncated_files(tmp_path, name, length):
    folder = fla_folder(tmp_path)
    torch.save(tensors(FLA.state_dict()), folder / "pytorch_model.bin")
    whole = (folder / name).read_bytes()
    for each in ("model.safetensors", "pytorch_model.bin"):
        (folder / each).unlink()
    (folder / name).write_bytes(whole[:length])
    with pytest.raises(ValueError, match=rf"^path must be a .*'.*{re.escape(name)}'"):
        load(folder)


def test_a_checkpoint_in_place_of_a_state_dict():
    model, _, _ = decoder(SWISH, dtype=np.float32)
    message = "state_dict must map names to arrays, got OrderedDict for model; load_folder reads checkpoints"
    refused(lambda: from_torchscale({"model": model.state_dict()}), TypeError, message)


def test_weights_of_another_library():
    """They are not asked for their heads."""
    model, _, _ = decoder(SWISH, dtype=np.float32)
    for convert, other, name in (
        (from_torchscale, FLA.state_dict(), "embed_tokens.weight"),
        (from_fla, model.state_dict(), "model.embeddings.weight"),
    ):
        refused(functools.partial(convert, other), ValueError, f"state_dict must hold {name}, which is missing")


def test_settings_of_others_in_the_metadata(tmp_path):
    """Any trainer may leave a config there: it is ours beside our weights alone."""
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(tensors(FLA.state_dict()), path, {"config": "not JSON"})
    assert load_folder(path, norm_eps=1e-6)[1].dim == 12


def test_what_else_torch_saves(tmp_path):
    path, state_dict = tmp_path / "x.pt", tensors(FLA.state_dict())
    for content, message in (
        ([1, 2], "path must hold a state dict; '.*' holds list"),
        ({"epoch": 3, "loss": 0.5}, "holds none, but epoch, loss"),
        ({"model": state_dict, "ema": state_dict}, "holds several: model, ema"),
        (
            torch.nn.Linear(2, 2),
            r"'.*x\.pt' pickles torch\.nn\.modules\.linear\.Linear, and unpickling that could run code",
        ),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            load(path)


class Entry:
    """An entry point; without something to give, one whose library is not installed."""

    def __init__(self, gives=None):
        self.gives = gives

    def load(self):
        if self.gives is None:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return self.gives


def test_an_installed_package_announces_its_reader(tmp_path, monkeypatch):
    torch.save(tensors(FLA.state_dict()), tmp_path / "x.pt")
    monkeypatch.setattr(
        files, "entry_points", lambda group: [Entry(), Entry(unpickle)] * (group == "retnet.unpicklers")
    )
    assert load_folder(tmp_path, norm_eps=1e-6)[1].num_heads == 2
    for entries in ([], [Entry()]):
        monkeypatch.setattr(files, "entry_points", lambda group, entries=entries: entries)
        with pytest.raises(
            ModuleNotFoundError, match=r"x\.pt' is a file of torch\.save: reading it needs torch"
        ) as raised:
            load_folder(tmp_path, norm_eps=1e-6)
        assert raised.value.name == "torch"
