"""Files that are broken, half there, of another kind or not finite are refused, and it is said what they are."""

import functools
import json
import math
import os
import re

import numpy as np
import pytest
import safetensors.torch
import torch
from their_folders import FLA, FLA_JSON, SWISH, fla_folder, load, shards, tensors
from their_models import assert_same_model, decoder

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
        ({"epoch": 3, "loss": 0.5}, "holds none, but epoch, loss$"),
        ({f"number{n}": n for n in range(9)}, "holds none, but number0, number1, number2 and 6 more$"),
        ({}, "holds nothing$"),
        ({"model": {}}, "holds none, but model$"),
        (state_dict | {"ema": state_dict}, r"holds several: ema, x\.pt itself$"),
        ({"model": state_dict, "ema": state_dict}, "holds several: model, ema"),
        (
            torch.nn.Linear(2, 2),
            r"'.*x\.pt' pickles torch\.nn\.modules\.linear\.Linear, and unpickling that could run code",
        ),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=message):
            load(path)


def test_what_trainers_leave_beside_weights(tmp_path):
    """A model is what names a matrix; generators, scalers, norms of gradients and counts are none."""
    state_dict, path = tensors(FLA.state_dict()), tmp_path / "x.pt"
    want = load_folder(fla_folder(tmp_path / "fla"), norm_eps=1e-5)
    for content in (
        {"model": state_dict, "rng": {"cpu": torch.get_rng_state()}, "best": np.float64(0.5), "out": tmp_path},
        {"model": state_dict, "scaler": {"scale": torch.tensor(1.0)}, "grad_norms": {"a": torch.ones(3)}},
        {
            "model": state_dict,
            "numpy": np.random.default_rng(0).random(3),
            "optimizer": {"state": {0: {"m": torch.ones(2, 2)}}},
        },
        {"model": state_dict | {"model.norm._extra_state": None, "epoch": 3}},
        state_dict | {"epoch": 3, "model.norm._extra_state": None, "loss": np.float32(1.0)},
    ):
        torch.save(content, path)
        assert_same_model(load(path, norm_eps=1e-5), want)


def test_tensors_without_numbers_and_sparse_ones(tmp_path):
    key = "model.norm.weight"
    for tensor in (torch.ones(12, device="meta"), torch.ones(12).to_sparse(), [[1.0], [1.0, 2.0]]):
        state_dict = tensors(FLA.state_dict()) | {key: tensor}
        with pytest.raises(TypeError, match=rf"^{re.escape(key)} must be a dense array that NumPy reads, got "):
            from_fla(state_dict)
        if not isinstance(tensor, list):
            torch.save(state_dict, tmp_path / "x.pt")
            with pytest.raises(TypeError, match=rf"^{re.escape(key)} must be a dense array that NumPy reads, got "):
                load(tmp_path, norm_eps=1e-5)


def test_a_file_of_torch_save_by_another_name(tmp_path):
    want = load_folder(fla_folder(tmp_path))
    for new in (True, False):
        torch.save(tensors(FLA.state_dict()), tmp_path / "model.safetensors", _use_new_zipfile_serialization=new)
        assert_same_model(load(tmp_path), want)


@pytest.mark.parametrize("name", [3, None, ["a"], {}, "", ".", "..", "sub", "a/b", "none.safetensors"])
def test_an_index_that_names_no_file(tmp_path, name):
    index = shards(tmp_path, tensors(FLA.state_dict()))
    (tmp_path / "sub").mkdir()
    weight_map = json.loads(index.read_text())["weight_map"] | {"model.norm.weight": name}
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(FileNotFoundError, match=re.escape(f"{index.name}: it names {name!r}, which is missing in")):
        load_folder(tmp_path)


@pytest.mark.parametrize("part", ["g_norm", "g_proj", "norm.weight"])
def test_weights_of_shards_that_the_index_leaves_out(tmp_path, part):
    index = shards(tmp_path, tensors(FLA.state_dict()))
    weight_map = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {key: file for key, file in weight_map.items() if part not in key}}))
    with pytest.raises(ValueError, match=rf"must name every weight of model-0000.*, .*{part}.* is missing$"):
        load_folder(tmp_path, norm_eps=1e-5)


DEEP = ("[" * 100_000, '{"a":' * 100_000)


@pytest.mark.parametrize("text", DEEP, ids=["lists", "objects"])
def test_json_without_end(tmp_path, text):
    folder = fla_folder(tmp_path / "fla")
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"^config\.json must hold JSON; '.*' does not: "):
        load_folder(folder)
    shards(tmp_path, tensors(FLA.state_dict())).write_text(text)
    with pytest.raises(ValueError, match=r"^model\.safetensors\.index\.json must hold JSON; '.*' does not: "):
        load_folder(tmp_path)
    safetensors.torch.save_file(tensors(FLA.state_dict()), tmp_path / "w.safetensors", {"config": text})
    assert load_folder(tmp_path / "w.safetensors", norm_eps=1e-5)[1].dim == 12  # anybody's


def make_folder(path):
    path.mkdir()


def make_link_to_nothing(path):
    path.symlink_to("nothing")


@pytest.mark.parametrize("make", [make_folder, make_link_to_nothing, os.mkfifo])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "pytorch_model.bin.index.json"])
def test_what_is_no_file(tmp_path, make, name):
    """A pipe would be waited for, and a link to nothing is not nothing: what it names is not passed over."""
    folder = fla_folder(tmp_path)
    if name.startswith("pytorch"):
        (folder / "model.safetensors").unlink()
    (folder / name).unlink(missing_ok=True)
    torch.save(tensors(FLA.state_dict()), folder / "pytorch_model.bin.pt")
    make(folder / name)
    message = f"{name} must be a file; {str(folder / name)!r} is a folder, a pipe or a link to nothing"
    refused(lambda: load(folder), ValueError, message)
    if name == "config.json":
        refused(lambda: from_fla(folder / "model.safetensors", norm_eps=1e-5), ValueError, message)
    elif make is not make_link_to_nothing and name == "model.safetensors":
        refused(lambda: from_fla(folder / name), ValueError, message)


@pytest.mark.parametrize("path", [None, 3, b"x", ["x"]])
def test_what_is_no_path(path):
    message = f"path must be a str or a path, got {path!r} ({type(path).__name__})"
    refused(lambda: load_folder(path), TypeError, message)


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
