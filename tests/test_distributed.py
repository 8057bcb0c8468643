"""Several processes that train one model: torchrun's environment, DistributedDataParallel, FSDP2, weights gathered whole."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import in_processes
from torch.distributed.tensor import DTensor

import refimpl
from gpu import distributed
from gpu.check_processes import TOLERANCE, passed
from gpu.module import RetNet

CONFIG = refimpl.RetNetConfig(vocab_size=17, dim=16, num_layers=3, num_heads=2)


def test_torchrun_finds_two_processes_equal_to_one(tmp_path):
    """The command that is run on GPUs, on two CPU processes: it asserts, and its file shows what."""
    command = "-m torch.distributed.run --standalone --nproc-per-node 2 -m gpu.check_processes --device cpu --dim 16"
    result = subprocess.run(
        [sys.executable, *command.split(), "--layers", "2", "--tokens", "256", "--out", str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "rows.json").read_text())
    assert (results["processes"], results["backend"]) == (2, "gloo")
    rows = {(row["what"], row["dtype"]): row for row in results["rows"]}
    exact = [row for (what, dtype), row in rows.items() if dtype == "float64"]
    assert len(exact) == 5
    off = [value for row in exact for name, value in row.items() if name.endswith(" off")]
    assert len(off) == 6 + 2 + 2 + 2 + 2
    assert max(off) < TOLERANCE
    held = {what: row["parameters held"] / row["parameters"] for (what, _), row in rows.items() if "parameters" in row}
    assert held == {"training, replicate": 1.0, "training, shard": 0.5}


def test_a_difference_is_an_error():
    assert passed({"what": "x", "dtype": "float64", "out off": TOLERANCE})
    for wrong in (2 * TOLERANCE, float("nan")):
        with pytest.raises(AssertionError, match="x, float64: out off by"):
            passed({"what": "x", "dtype": "float64", "out off": wrong})


def layers_gathered():
    """While each layer of a sharded model computes: which layers hold whole parameters; and their shares at rest."""
    with distributed.processes("cpu") as device:
        model = distributed.shard(RetNet(CONFIG), device)
        seen = []
        for layer in model.layers:
            first = layer.get_submodule("retention")
            layer.register_forward_pre_hook(lambda *_: seen.append([gathered(each) for each in model.layers]))
            assert isinstance(first.w_q, DTensor)
        model(torch.zeros((1, 4), dtype=torch.int64))[0].sum().backward()
        return seen, [gathered(layer) for layer in model.layers], model.layers[0].retention.w_q.grad.to_local().shape


def gathered(layer):
    return not isinstance(layer.retention.w_q, DTensor)


def test_a_sharded_model_gathers_one_layer_at_a_time():
    for seen, after, shape in in_processes(2, layers_gathered, join=False):
        assert seen == [[True, False, False], [False, True, False], [False, False, True]]
        assert after == [False, False, False]
        assert shape == (8, 16)  # half of a gradient


def save_in_both_ways(folder):
    with distributed.processes("cpu") as device:
        for name, share in (("ddp", distributed.replicate), ("fsdp", distributed.shard)):
            model = share(RetNet(CONFIG, seed=5), device)
            distributed.save(model, folder / name)
            assert (folder / name).exists()  # on every process: they wait for the first
            assert len(distributed.gather_weights(model)) == (33 if dist.get_rank() == 0 else 0)
        return distributed.is_first()


def refusal():
    with pytest.raises(ValueError, match="batch must hold a multiple of 2 sequences") as refused:
        distributed.own_rows(np.zeros((3, 4)))
    return str(refused.value), distributed.own_rows(np.arange(4)).tolist()


def test_a_batch_that_does_not_divide_is_refused():
    message = "batch must hold a multiple of 2 sequences, one part a process, got 3"
    assert in_processes(2, refusal) == [(message, [0, 1]), (message, [2, 3])]


def test_whole_weights_are_saved_once(tmp_path):
    assert in_processes(2, save_in_both_ways, tmp_path, join=False) == [True, False]
    want = RetNet(CONFIG, seed=5).state_dict()
    for name in ("ddp", "fsdp"):
        got = RetNet.load(tmp_path / name)
        assert got.config == CONFIG
        for key, weight in got.state_dict().items():
            np.testing.assert_array_equal(weight, want[key])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ddp", "fsdp"]


def test_a_process_that_torchrun_did_not_start_is_refused(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert not distributed.launched()
    assert distributed.is_first()
    message = "processes must be started by torchrun, as in: torchrun --nproc-per-node 2 -m gpu ..."
    with pytest.raises(ValueError, match=re.escape(message)), distributed.processes("cpu"):
        pass
