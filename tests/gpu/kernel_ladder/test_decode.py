"""The launches of a decode step, which are timed one kind after another: all of them, in order, and with their bytes."""

import json
from types import SimpleNamespace

import anew
import pytest
import torch

import refimpl

pytest.importorskip("triton", reason="Triton is not installed; it has packages for Linux alone")

from gpu.kernel_ladder import decode
from gpu.kernels import triton_model_step as fused
from gpu.models.retnet import RetNet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # on a CPU in Triton's interpreter, which conftest.py turns on
CONFIG = refimpl.RetNetConfig(vocab_size=11, dim=16, num_layers=2, num_heads=2)


def a_step(batch):
    """A step of a random state, the tokens for it, and a copy of the state."""
    model, draw = RetNet(CONFIG, seed=3).to(DEVICE), torch.Generator().manual_seed(0)
    shape = batch, CONFIG.num_heads, CONFIG.key_dim, CONFIG.value_dim
    layers = tuple(torch.randn(shape, generator=draw).to(DEVICE) for _ in range(CONFIG.num_layers))
    state = refimpl.State(torch.full((batch,), 5, device=DEVICE), layers)
    tokens = torch.arange(batch, device=DEVICE) % CONFIG.vocab_size
    return fused.FusedStep(model, state), tokens, [x.clone() for x in (state.position, *layers)]


@pytest.mark.parametrize("wide", [1, 99])
def test_the_launches_of_one_sequence_are_the_step(wide, monkeypatch):
    monkeypatch.setattr(fused, "WIDE", wide)
    step, tokens, before = a_step(1)
    found = decode.launches(step, tokens)
    want = step.head.result.clone()
    step.head.result.fill_(torch.nan)
    for kept, old in zip((step.state.position, *step.state.layers), before, strict=True):
        kept.copy_(old)
    for launch in found:
        launch.call()
    assert torch.equal(step.head.result, want)
    counts = {kind: len(each) for kind, each in decode.by_kind(found).items()}
    assert counts["retain"] == CONFIG.num_layers
    assert sum(counts.values()) == (9 * 2 + 4 if wide == 1 else 5 * 2 + 2)


def test_bytes_are_of_each_array_once_and_of_states_twice(monkeypatch):
    monkeypatch.setattr(fused, "WIDE", 1)
    step, tokens, before = a_step(1)
    kinds = decode.by_kind(decode.launches(step, tokens))
    read = kinds["multiply 16 16+16+32+32"][0]
    assert read.bytes == 4 * (16 + 16 * 96 + 96)  # the input, the weights, one sum of each column
    parts, angles, gate = 4 * 96, 2 * 4 * CONFIG.key_dim // 2, 4 * 32
    others = parts + 4 + angles + 8 * CONFIG.num_heads + 2 * gate + step.stats.nbytes  # 4: the sum of squares
    assert kinds["retain"][0].bytes == 2 * before[1].nbytes + others
    assert kinds["start"][0].bytes == 0


def test_operations_of_torch_are_launches_too(monkeypatch):
    monkeypatch.setattr(fused, "MOST", 2)
    step, tokens, _ = a_step(3)
    kinds = decode.by_kind(decode.launches(step, tokens))
    q_and_k = kinds["mm.out 3x16 16x16 3x16"]
    assert len(q_and_k) == 2 * CONFIG.num_layers
    assert q_and_k[0].bytes == 4 * (3 * 16 + 16 * 16 + 3 * 16)
    assert not any("view" in kind or "empty" in kind for kind in kinds)


@pytest.mark.parametrize(("few", "name"), [(few, name) for few, ways in decode.WAYS.items() for name in ways])
def test_every_way_is_one_of_the_step_and_is_undone(few, name):
    old = {key: getattr(fused, key) for key in ("WIDE", "PREPARED", "STATE", "MANY")}
    way = decode.WAYS[few][name]
    for key, value in way.items():
        assert key in old
        assert set(value) <= set(old[key]) if isinstance(value, dict) else isinstance(value, int)
    with decode.changed(way):
        assert ({key for key in old if getattr(fused, key) != old[key]}) == set(way)
    assert {key: getattr(fused, key) for key in old} == old


@pytest.mark.parametrize("batch", [1, 20])
def test_the_table_and_the_file_hold_each_kind_and_way(batch, monkeypatch, tmp_path, capsys):
    """Without a GPU, calls that compute anew stand in for graphs."""
    if DEVICE == "cpu":
        monkeypatch.setattr(decode, "DEVICE", "cpu")
        monkeypatch.setattr(
            decode, "Recorded", lambda call, device: SimpleNamespace(graph=anew.record(call, device)[0])
        )
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(
        decode, "WAYS", {True: {"as it is": {}, "fails": {"STATE": {"BV": 3}}}, False: {"as it is": {}}}
    )
    monkeypatch.setattr(decode, "ceilings", lambda rounds, device: {"copy": {"bytes_per_second": 1e9}})
    monkeypatch.setattr(
        decode, "milliseconds", lambda calls, rounds: {key: {"median": 8.0, "spread": 0.5} for key in calls}
    )
    decode.main(size="tiny", batch=batch, layers=1, vocab_size=256, rounds=3, out=tmp_path / "step.json")
    result, printed = json.loads((tmp_path / "step.json").read_text()), capsys.readouterr().out
    names = {(row["what"], row["name"]) for row in result["rows"]}
    assert ("step", "as it is") in names
    assert ("kernel", "retain") in names
    assert ("step", "fails") not in names
    assert ("fails: " in printed) == (batch == 1)
    assert (("kernel", "torch.mm 64 64") in names) == (batch == 1)
    for row in result["rows"]:
        assert row["share_of_copy_bandwidth"] == pytest.approx(row["bytes"] / 8e-3 / 1e9)
