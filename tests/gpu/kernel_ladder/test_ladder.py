"""The ladder's results file: a version that fails does not affect the others, and shares are of the floor of the run."""

import json
from datetime import date

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed; it has packages for Linux alone")

from gpu.bench.kernels import FORWARD, SHAPES, inputs, least_bytes, least_flops
from gpu.kernel_ladder import __main__ as ladder

PEAKS = {"copy": {"remark": "", "bytes_per_second": 1e9}, "matrix_product": {"remark": "", "flops_per_second": 1e12}}
TIMES = {"median": 8.0, "spread": 0.5}


@pytest.fixture
def on_a_gpu(monkeypatch):
    """A GPU by name, whose times and rates are made up; what runs, runs on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(ladder, "inputs", lambda *sizes: inputs(*sizes, "cpu"))
    monkeypatch.setattr(ladder, "error", lambda retention, shape: 1e-3)
    monkeypatch.setattr(ladder, "peers", lambda *_: {})
    monkeypatch.setattr(
        ladder,
        "variants",
        lambda *_: ({"graph of v0_torch": lambda: None}, {"v0_torch": {"registers": 9, "spilled_bytes": 4}}),
    )
    monkeypatch.setattr(ladder, "spent", lambda call: ({"aten::bmm": 5.0}, {"sgemm": 4.0}))
    monkeypatch.setattr(ladder, "VERSIONS", ("no_such_version", "v0_torch"))
    monkeypatch.setattr(ladder, "milliseconds", lambda calls, rounds: dict.fromkeys(calls, TIMES))
    monkeypatch.setattr(ladder, "ceilings", lambda rounds, device: PEAKS)


def test_the_file_holds_every_version_and_its_share_of_the_floor(on_a_gpu, tmp_path, capsys):
    ladder.main(tmp_path / "ladder.json", shape="small", time=64, tokens=128, rounds=3)
    result = json.loads((tmp_path / "ladder.json").read_text())
    assert abs(date.fromisoformat(result["date"]) - date.today()).days <= 1
    case = FORWARD, 2, SHAPES["small"].heads, 64, SHAPES["small"].key_dim, SHAPES["small"].value_dim
    floor = 1e3 * max(least_bytes(*case) / 1e9, least_flops(*case) / 1e12)
    assert result["floor_ms"] == pytest.approx(floor)
    assert (result["copy_bytes_per_s"], result["product_flop_per_s"]) == (1e9, 1e12)
    assert result["versions"]["v0_torch"] == {
        "error": 1e-3,
        "registers": 9,
        "spilled_bytes": 4,
        **TIMES,
        "share_of_roofline": pytest.approx(floor / 8),
    }
    assert result["versions"]["graph of v0_torch"] == {**TIMES, "share_of_roofline": pytest.approx(floor / 8)}
    assert result["operators_of_v0_ms"] == {"aten::bmm": 5.0}
    assert result["kernels_of_v0_ms"] == {"sgemm": 4.0}
    assert "No module named" in result["versions"]["no_such_version"]["failed"]
    assert "v0_torch" in capsys.readouterr().out


def test_without_ceilings_nothing_is_written(on_a_gpu, tmp_path, monkeypatch):
    full = PEAKS | {"copy": {"remark": "out of memory"}}
    monkeypatch.setattr(ladder, "ceilings", lambda rounds, device: full)
    with pytest.raises(RuntimeError, match=r"ceilings were not measured: \{.copy.: .out of memory.\}"):
        ladder.main(tmp_path / "ladder.json", shape="small", time=64, tokens=64)
    assert not list(tmp_path.iterdir())
