"""The two ONNX graphs compute what torch computes, for any batch and length; what is missing or impossible is named."""

import importlib.util
import json
import os

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import gpu.__main__ as program
import refimpl
from gpu.models.retnet import RetNet
from gpu.training import export_onnx as exporting
from gpu.training.config import RunConfig
from gpu.training.export_onnx import Decode, Prefill, export_onnx
from gpu.training.run import train
from refimpl.interop import save_folder
from refimpl.training.bpe import Tokenizer

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.usefixtures("one_thread")

# Every operation that a config can ask for, in one of two variants, for each costs seconds; other decays and angles are
# other constants. Without rotation the decode step has no use for a position.
VARIANTS = {
    "default, from bfloat16": ({}, torch.bfloat16),
    "another's": (
        {"gamma_schedule": 0.9, "row_norm": True, "group_norm": "mean", "group_norm_affine": True,
         "ffn": "gelu", "gate": False, "rotation": None, "key_dim": 6, "value_dim": 5, "scale_keys": False,
         "embedding_scale": 2.0, "norm_eps": 1e-5}, torch.float64,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=VARIANTS)
def exported(request, tmp_path_factory):
    """A float32 model, sessions of its two graphs, and the folder."""
    choices, dtype = VARIANTS[request.param]
    config = refimpl.RetNetConfig(**{"vocab_size": 259, "dim": 12, "num_layers": 1, "num_heads": 2} | choices)
    model, out = RetNet(config, seed=3, dtype=dtype), tmp_path_factory.mktemp("onnx")
    paths = export_onnx(model, Tokenizer(((0, 33), (104, 256), (256, 257))), out / "new")
    assert [path.name for path in paths] == ["prefill.onnx", "decode.onnx"] == sorted(os.listdir(out / "new"))[::-1]
    sessions = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in paths]
    return RetNet(config, seed=3, dtype=dtype).float(), *sessions, out / "new"


def close(got, want):
    assert got.shape == tuple(want.shape)
    assert np.abs(got - want.numpy()).max() < 1e-4 * want.abs().max()


@pytest.mark.parametrize(("batch", "length", "steps"), [(1, 1, 70), (3, 65, 5), (2, 7, 3)])
@torch.no_grad()
def test_both_graphs_are_torch_s_model(exported, batch, length, steps):
    """A prompt of any length, then tokens one by one, each with the state and the position that the last one left."""
    model, prefill, decode, _ = exported
    tokens = torch.randint(0, 259, (batch, length + steps), generator=torch.Generator().manual_seed(length))
    wanted, after = model(tokens)
    logits, state = prefill.run(None, {"tokens": tokens[:, :length].numpy()})
    assert logits.dtype == state.dtype == np.float32
    close(logits, wanted[:, :length])
    for n in range(length, length + steps):
        given = {"token": tokens[:, n].numpy(), "state": state, "position": np.full(batch, n)}
        logits, state = decode.run(None, given)
        close(logits, wanted[:, n])
    close(state, torch.stack(after.layers))


@torch.no_grad()
def test_states_of_several_layers_keep_their_order():
    """Of the modules as they are: each layer more takes seconds to export."""
    model = RetNet(refimpl.RetNetConfig(vocab_size=11, dim=12, num_layers=3, num_heads=2), seed=3)
    tokens = torch.arange(12).reshape(2, 6) % 11
    wanted, after = model(tokens)
    logits, state = Prefill(model)(tokens[:, :5])
    close(logits.numpy(), wanted[:, :5])
    logits, state = Decode(model)(tokens[:, 5], state, torch.full((2,), 5))
    close(logits.numpy(), wanted[:, 5])
    close(state.numpy(), torch.stack(after.layers))


@torch.no_grad()
def test_each_sequence_has_a_position_of_its_own(exported):
    model, prefill, decode, _ = exported
    prompts = [torch.arange(5)[None], torch.arange(9)[None]]
    states = [prefill.run(None, {"tokens": prompt.numpy()})[1] for prompt in prompts]
    given = {"token": np.array([7, 8]), "state": np.concatenate(states, axis=1), "position": np.array([5, 9])}
    logits, _ = decode.run(None, given)
    for row, (prompt, token) in enumerate(zip(prompts, (7, 8), strict=True)):
        close(logits[row], model(torch.cat([prompt, torch.tensor([[token]])], dim=1))[0][0, -1])


def test_the_files_say_what_they_hold(exported):
    model, prefill, decode, out = exported
    for session in (prefill, decode):
        found = session.get_modelmeta().custom_metadata_map
        assert refimpl.RetNetConfig(**json.loads(found["config"])) == model.config
        np.testing.assert_array_equal(json.loads(found["gamma"]), refimpl.head_decays(2, model.config.gamma_schedule))
        merges = json.loads(found["vocabulary"])["merges"]
        assert Tokenizer(tuple(map(tuple, merges))).pieces[256:] == [b"\0!", b"h\0!", b"\0!h\0!"]
    assert [each.name for each in decode.get_inputs()] == ["token", "state", "position"]
    assert [each.name for each in prefill.get_inputs()] == ["tokens"]
    assert [each.name for each in prefill.get_outputs()] == [each.name for each in decode.get_outputs()]
    onnx.checker.check_model(str(out / "decode.onnx"), full_check=True)


def test_wrong_graphs_are_noticed(exported):
    """Before a file is written, both graphs run."""
    model, *_, out = exported
    files = {name: (out / f"{name}.onnx").read_bytes() for name in ("prefill", "decode")}
    exporting._assert_same(model, files)
    with pytest.raises(AssertionError, match=r"onnxruntime's logits differ from torch's by \d"):
        exporting._assert_same(RetNet(model.config, seed=4), files)


def test_logits_that_are_all_0_are_the_same(monkeypatch):
    model = RetNet(refimpl.RetNetConfig(vocab_size=9, dim=4, num_layers=1, num_heads=1, embedding_scale=0.0))

    class Session:
        def __init__(self, data, providers):
            self.shape = data

        def run(self, _, given):
            return np.zeros(self.shape, np.float32), None

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    exporting._assert_same(model, {"prefill": (2, 4, 9), "decode": (2, 9)})


def test_what_cannot_be_exported_is_named(tmp_path, monkeypatch):
    model = RetNet(refimpl.RetNetConfig(dim=4, num_layers=1, num_heads=1, score_norm="sum"))
    with pytest.raises(ValueError, match="run must have no score_norm to be exported to ONNX, got 'sum'"):
        export_onnx(model, Tokenizer(), tmp_path)
    model = RetNet(refimpl.RetNetConfig(dim=4, num_layers=1, num_heads=1))
    monkeypatch.setattr(exporting, "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"weights of less than 1,000 bytes in float32 for ONNX, got \d"):
        export_onnx(model, Tokenizer(), tmp_path)
    find_spec = importlib.util.find_spec
    for name in exporting.NEEDED:
        monkeypatch.setattr(exporting, "find_spec", lambda each, name=name: None if each == name else find_spec(each))
        with pytest.raises(ModuleNotFoundError, match=rf"--onnx needs {name}: pip install 'retnet-reference\[onnx\]'"):
            export_onnx(model, Tokenizer(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_exports_a_run_of_byte_pairs(tmp_path, corpus, monkeypatch):
    """Or a file of weights, or a folder of another library; beside them, or where it is told to."""
    config = RunConfig(
        corpus=corpus, vocab_size=258, dim=8, num_layers=1, num_heads=2, steps=2, batch_size=2, window=8, sample_bytes=2
    )
    run, exported = tmp_path / "run", []
    train(config, run)
    shape = refimpl.RetNetConfig(
        vocab_size=300, dim=16, num_layers=1, num_heads=2, rotation="rotary", group_norm_affine=True
    )
    params = refimpl.init_params(shape, 5)
    save_folder(tmp_path / "hub", params, shape)
    monkeypatch.setattr(exporting, "export_onnx", lambda *arguments: exported.append(arguments) or ["a", "b"])
    for words, weights, out in (
        ([str(run)], "best", run),
        ([str(run), "--weights", "last", "--out", str(tmp_path / "new")], "weights", tmp_path / "new"),
        ([str(run / "weights.safetensors")], "weights", run),
        ([str(tmp_path / "hub")], None, tmp_path / "hub"),
    ):
        result = CliRunner().invoke(program.app, ["export", *words, "--onnx"], catch_exceptions=False)
        assert (result.exit_code, result.output) == (0, "onnxruntime gives torch's logits; a and b\n")
        model, tokenizer, where = exported.pop()
        assert where == out
        assert tokenizer == (weights and Tokenizer.load(run / "tokenizer.json"))
        want = RetNet.load(run / f"{weights}.safetensors").head if weights else torch.from_numpy(params["head"])
        assert torch.equal(model.head, want)
    for option in ("--prompt", "--corpus", "--device"):
        result = CliRunner().invoke(program.app, ["export", str(run), "--onnx", option, "cpu"])
        assert f"{option[2:]} must be left out with --onnx" in f"{result.exception}"
