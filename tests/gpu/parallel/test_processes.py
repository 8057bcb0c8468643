"""Several processes that train one model: torchrun's environment, DistributedDataParallel, FSDP2, weights gathered whole."""

import json
import re
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import in_processes
from torch.distributed.tensor import DTensor
from typer.testing import CliRunner

import refimpl
from gpu import check_processes as program
from gpu.bench import processes as measures
from gpu.bench.processes import TOLERANCES, attempt, evaluate, worst
from gpu.models.retnet import RetNet
from gpu.parallel import processes as distributed

SMALL = "--layers 2 --tokens 256 --length 16 --length 32 --work 32 --rounds 2"
CONFIG = refimpl.RetNetConfig(vocab_size=17, dim=16, num_layers=3, num_heads=2)


def checked(words):
    """The exit status of the program that torchrun starts, in this process, and what it printed."""
    measures.STEPS, measures.LENGTH = 5, 201  # in a process of its own
    sys.argv = ["check_processes", *words]
    result = CliRunner().invoke(program.app, words)
    return result.exit_code, result.output


def test_the_program_finds_two_processes_equal_to_one(tmp_path):
    """What is run on GPUs, on two CPU processes: it asserts, and its file shows what."""
    words = ["--device", "cpu", "--dim", "16", *SMALL.split(), "--out", str(tmp_path / "rows.json")]
    for status, output in in_processes(2, checked, words, join=False):
        assert status == 0, output
    results = json.loads((tmp_path / "rows.json").read_text())
    assert (results["processes"], results["backend"]) == (2, "gloo")
    assert results["command"].startswith("torchrun --nproc-per-node 2 -m gpu.check_processes --device cpu --dim 16 ")
    rows = {(row["what"], row.get("dtype", row.get("precision"))): row for row in results["rows"]}
    exact = [row for (what, dtype), row in rows.items() if dtype == "float64"]
    assert len(exact) == 1 + 2 + 3
    off = [value for row in exact for name, value in row.items() if name.endswith(" off")]
    assert len(off) == 6 + 2 * 2 + 3 * 4
    assert max(off) < TOLERANCES[torch.float64]
    held = {what: row["parameters held"] / row["parameters"] for (what, _), row in rows.items() if "parameters" in row}
    assert held == {"training, data": 1.0, "training, sharded": 0.5, "training, sequence": 1.0}
    timed = {(row["what"], row["window"]): row for row in results["rows"] if "window" in row}
    for kind, length in (("data", "batch_size"), ("sharded", "batch_size"), ("sequence", "window")):
        for window, batch in ((16, 2), (32, 1)):
            row = timed[f"scaling, {kind}", window]
            assert (row["retention"], row["batch"], row["rounds"]) == ("chunkwise", batch, 2)
            assert row["tokens/s, one process"] == timed["scaling, data", window]["tokens/s, one process"]
            for name in (f"2 times the {length}", "same batch"):
                speed, efficiency = row[f"tokens/s, {name}"], row[f"efficiency, {name}"]
                if (name, batch) == ("same batch", 1) and kind != "sequence":  # one window is not shared out
                    assert speed is efficiency is None
                else:
                    assert efficiency == pytest.approx(speed / (2 * row["tokens/s, one process"]))
                    least, most = row[f"efficiency from, to, {name}"]
                    assert 0 < least <= most
    for window in (16, 32):
        parts = timed["a step in parts, sequence", window]
        ms = {name: parts[f"ms, {name}"] for name in ("alone", "together", "totals", "exchanges", "unexplained")}
        assert min(ms["totals"], ms["exchanges"], parts["ms, retentions"], parts["ms, all_reduce of gradients"]) > 0
        assert ms["together"] == pytest.approx(sum(ms.values()) - ms["together"], abs=1e-3)


@pytest.mark.parametrize(
    ("off", "dtype", "failed"),
    [
        ({"out off": 1e-10}, torch.float64, None),
        ({"out off": 2e-10}, torch.float64, "out off by 2.0e-10"),
        ({"out off": float("nan")}, torch.float64, "out off by nan"),
        ({"first off": 2e-6, "losses off": 3e-4}, torch.float32, None),
        ({"first off": 2e-5, "losses off": 5e-4}, torch.float32, "first off by 2.0e-05, losses off by 5.0e-04"),
    ],
)
def test_a_difference_above_what_is_allowed_is_a_failure(off, dtype, failed):
    """By the dtype, or by the row itself."""
    row = evaluate({"what": "x"} | off, dtype, {name: 4e-4 for name in off if name == "losses off"})
    assert row.get("failed") == failed
    assert row["allowed"] == {name: 4e-4 if name == "losses off" else TOLERANCES[dtype] for name in off}


def rows_of_a_mixed_lot():
    """What is written when one measure raises on one process and the next is well."""

    def bad():
        if dist.get_rank() == 1:
            raise MemoryError("no room")

    return [attempt(measure, {"what": "x"}) for measure in (bad, lambda: {"what": "y"})], worst(
        float("nan") if dist.get_rank() else 1.0
    )


def test_a_measure_that_fails_on_one_process_does_not_lose_the_others():
    for rows, nan in in_processes(2, rows_of_a_mixed_lot):
        assert rows == [{"what": "x", "failed": "process 1: MemoryError: no room"}, {"what": "y"}]
        assert nan != nan


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


def weights_in_both_ways():
    """{name: array} that `gather_weights` has on this process, of each way to share a model out."""
    with distributed.processes("cpu") as device:
        models = [share(RetNet(CONFIG, seed=5), device) for share in (distributed.replicate, distributed.shard)]
        return [{name: x.numpy() for name, x in distributed.gather_weights(model).items()} for model in models]


def test_whole_weights_are_gathered_on_the_first_process():
    first, second = in_processes(2, weights_in_both_ways, join=False)
    assert second == [{}, {}]
    want = RetNet(CONFIG, seed=5).state_dict()
    for got in first:
        assert sorted(got) == sorted(want)
        for name, weight in got.items():
            np.testing.assert_array_equal(weight, want[name])


def agreements():
    """What the first process computes, and raises, and the largest number, as this process has them."""

    def refuse():
        raise ValueError(f"refused by {dist.get_rank()}")

    with pytest.raises(ValueError, match="refused by 0"):
        distributed.on_first(refuse)
    return distributed.on_first(dist.get_rank), distributed.largest(dist.get_rank())


def test_processes_agree_on_what_the_first_says_and_on_the_largest():
    assert in_processes(2, agreements) == [(0, 1)] * 2
    assert (distributed.on_first(lambda: 3), distributed.largest(2)) == (3, 2)


def test_a_process_that_torchrun_did_not_start_is_refused(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with distributed.joined("cuda:3") as device:
        assert device == "cuda:3"
    assert not distributed.launched()
    assert distributed.is_first()
    message = "processes must be started by torchrun, as in: torchrun --nproc-per-node 2 -m gpu ..."
    with pytest.raises(ValueError, match=re.escape(message)), distributed.processes("cpu"):
        pass


def test_torchrun_chooses_each_process_s_gpu(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = "device must be cpu or cuda under torchrun, which gives each process a GPU, got 'cuda:3'"
    with pytest.raises(ValueError, match=message), distributed.joined("cuda:3"):
        pass
