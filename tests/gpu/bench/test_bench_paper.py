"""The paper's cost tables: equal terms for all, attention that is really unfused, and what fits."""

import contextlib
import dataclasses
import gc
import itertools
import json
import re
import sys
import types

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from gpu.__main__ import app
from gpu.bench import paper as benchmark_paper
from gpu.bench import run as benchmark
from gpu.bench.config import PAPER, QUICK, BenchmarkConfig
from gpu.bench.decoding import random_state
from gpu.bench.paper import SECTION, TRAINING, unfused
from gpu.kernels.registry import step_of
from gpu.models import operations
from gpu.models.attention import Attention
from gpu.models.baseline import Baseline
from gpu.models.build import build_random
from gpu.models.retnet import RetNet
from gpu.numerics import layer_caller
from gpu.report import page, paper
from gpu.sampling import generate
from refimpl import retention_step
from refimpl.libraries import values_trusted

SMALL = {"dim": 32, "num_layers": 2, "rounds": 1, "contexts": (4, 8), "times": (16,), "tokens": 16, "batches": (1,)}
TINY = BenchmarkConfig(**QUICK | SMALL)

CEILINGS = {"matrix_product": {"flops_per_second": 1e12}, "copy": {"bytes_per_second": 1e10}}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Those of a whole run on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpu.bench.timing.LEAST_SECONDS", 0.0)
        patch.setattr("gpu.bench.decoding.CPU_MEMORY", 2**19)
        gc.freeze()  # what is there is neither looked through again and again nor counted
        alive = []
        results = benchmark.run(
            TINY, ["paper"], tmp_path_factory.mktemp("paper"), "cpu", progress=lambda _: alive.append(models_alive())
        )
        gc.unfreeze()
    assert alive == [0] * len(results["paper"]["rows"])  # each begins with the memory to itself
    return results["paper"]["rows"]


def models_alive():
    """How many models there are in memory, without those that are frozen."""
    gc.collect()
    return sum(type(each) in (RetNet, Baseline) for each in gc.get_objects())


# ---------------------------------------------------------------- what is measured


def test_all_of_a_setup_train_on_the_same_terms(rows):
    trained = [row for row in rows if row["section"] == "training"]
    assert len(trained) == 6
    for first in (0, 3):
        trio = trained[first : first + 3]
        assert [(row["model"], row["attention"], row["retention"]) for row in trio] == [
            ("transformer", "unfused", None), ("transformer", None, None), ("retnet", None, "chunkwise"),
        ]  # fmt: skip
        for name in ("size", "time", "tokens", "batch", "recompute", "vocab_size", "parameters_in", "compiled"):
            assert len({row[name] for row in trio}) == 1, name
        counts = [row["parameters"] for row in trio]
        assert max(counts) / min(counts) < 1.02
    for row in trained:
        assert row["status"] == "measured", row["remark"]
        width = {"float32": 4, "bfloat16": 2}[row["parameters_in"]]
        assert row["optimizer_bytes"] == 4 * width * row["parameters"]
        assert row["dtypes"]["parameters"] == row["parameters_in"]
        assert row["tokens_per_second"] == pytest.approx(16 / row["seconds"]["median"])
    assert {row["recompute"] for row in trained} == {False, True}


def test_decoding_is_that_of_the_benchmark(rows):
    decoded = [row for row in rows if row["section"] == "decoding"]
    assert [(row["largest"], row["context"], row["name"]) for row in decoded] == list(
        itertools.product((False, True), (4, 8), ("RetNet", "Transformer"))
    )
    assert {row["status"] for row in decoded} == {"measured"}
    assert {row["size"] for row in decoded} == {"tiny"}


def test_the_paper_s_sizes_and_what_is_compiled(monkeypatch):
    for name in ("has_fused", "has_fla"):  # of which the tables leave out the latter
        monkeypatch.setattr(f"gpu.kernels.registry.{name}", lambda device: True)
    found = list(SECTION.groups(BenchmarkConfig(**PAPER), "cpu"))
    assert {len(group.candidates) for group in found} == {1}
    assert [group.compiled for group in found] == sorted(group.compiled for group in found)
    rows = [group.candidates[0].row for group in found]
    assert [row["compiled"] for row in rows] == [group.compiled for group in found]
    fields = "size", "recompute", "parameters_in", "compiled", "name"
    assert {tuple(row[name] for name in fields) for row in rows if row["section"] == "training"} == {
        (size, recompute, dtype, compiled, name)
        for size, recompute, dtype in (
            ("1.3B", False, "float32"), ("1.3B", True, "float32"), ("2.7B", True, "float32"), ("6.7B", True, "bfloat16")
        )
        for compiled in (False, True)
        for name in ("Transformer, unfused", "Transformer", "RetNet, fused")
        if not (compiled and ("unfused" in name or size != "1.3B"))
    }  # fmt: skip
    decoded = [row for row in rows if row["section"] == "decoding"]
    assert {row["name"] for row in decoded} == {"RetNet, fused", "Transformer", "Transformer, grouped"}
    assert {row["context"] for row in decoded if not row["compiled"]} == {2048, 8192, 32768, 65536}
    assert {row["context"] for row in decoded if row["compiled"]} == {8192}
    assert {row["kv_heads"] for row in decoded} == {None, 32, 8}


def test_what_fits_by_arithmetic():
    """The table at the top of gpu/bench/paper.py: parameters, GB of AdamW, GB of scores in a layer and in all."""
    table = {
        line.split()[0]: line.replace(",", "").split() for line in benchmark_paper.__doc__.splitlines() if "e9" in line
    }
    for size in {setup.size for setup in TRAINING}:
        config = BenchmarkConfig(size=size, vocab_size=PAPER["vocab_size"])
        counts = [
            sum(weight.numel() for weight in build_random(config.run(model), "meta", torch.float32).parameters())
            for model in ("retnet", "transformer")
        ]
        scores = 2 * config.attention_heads * benchmark_paper.TIME**2
        assert table[size][1:5] == [
            f"{counts[0] / 1e9:.2f}e9", f"{16 * counts[0] / 1e9:.0f}",
            f"{scores / 1e9:.1f}", f"{config.num_layers * scores / 1e9:.0f}",
        ]  # fmt: skip
        assert counts[1] == pytest.approx(counts[0], rel=0.01)


# ---------------------------------------------------------------- attention that is not fused


class Operations(TorchDispatchMode):
    """The names of what is computed."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        out = function(*args, **(kwargs or {}))
        sizes = [x.numel() for x in (out if isinstance(out, tuple) else (out,)) if isinstance(x, torch.Tensor)]
        self.largest = max([self.largest, *sizes])
        return out


def test_without_flash_attention_there_are_scores():
    time = 64
    config = types.SimpleNamespace(dim=32, num_heads=2, kv_heads=2)
    layer, x = Attention(config).bfloat16(), torch.randn(1, time, 32).bfloat16()
    shared, seen, outs = Attention.shared(config, 0, time, "cpu"), {}, []
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    for name, around in (("fused", contextlib.nullcontext), ("unfused", unfused)):
        with around(), Operations() as seen[name]:
            out, _ = layer(x, shared)
            out.float().sum().backward()
        outs.append(out)
    assert any("flash_attention" in name for name in seen["fused"].names)
    assert not any("flash" in name for name in seen["unfused"].names)
    assert any("softmax" in name for name in seen["unfused"].names)
    assert seen["unfused"].largest == 2 * time**2 > seen["fused"].largest
    assert torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed() == before
    torch.testing.assert_close(*outs, rtol=0.05, atol=0.02)


# ---------------------------------------------------------------- what a compiler makes of it


@torch.library.custom_op("retnet_test::mixer", mutates_args=())
def mixer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Keeps what the fused kernels keep: their inputs."""
    return v + q.sum() + k.sum()


mixer.register_fake(lambda q, k, v: torch.empty_like(v))
mixer.register_autograd(
    lambda ctx, grad: tuple(x * grad.sum() for x in ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


@torch.library.custom_op("retnet_test::rms_norm", mutates_args=())
def fused_rms_norm(x: torch.Tensor, weight: torch.Tensor | None, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A GPU's kernel, which keeps x, weight and the reciprocal roots; a CPU composes the norm and keeps more."""
    root = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)
    return (x * root * (1.0 if weight is None else weight)).to(x.dtype).contiguous(), root


fused_rms_norm.register_autograd(
    lambda ctx, grad, _: (grad, None if ctx.saved_tensors[1] is None else grad.sum((0, 1)), None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:2], output[1]),
)


def rms_norm_of_a_gpu(x, shape, weight=None, eps=1e-6):
    """torch.nn.functional.rms_norm, which autocast gives halves in float32 on a GPU."""
    x = x.float() if torch.is_autocast_enabled("cpu") else x
    return fused_rms_norm(x, weight, eps)[0]


def kept_bytes(model, compiled):
    """Bytes that a layer keeps of a token for the backward pass, over d."""
    time, dim, counts, layer = 24, 512, [], None  # a length that no width has
    torch.compiler.reset()
    for depth in (1, 2):
        config = BenchmarkConfig(dim=dim, num_layers=depth, num_heads=2, times=(time,), tokens=time, vocab_size=256)
        run = config.run(model)
        net, storages = build_random(run, "cpu", torch.float32), {}
        weights = {weight.untyped_storage().data_ptr() for weight in net.parameters()}

        def pack(x, weights=weights, storages=storages):
            if x.untyped_storage().data_ptr() not in weights and time in x.shape:
                storages[x.untyped_storage().data_ptr()] = x
            return x

        how = {"retention": lambda q, k, v, gamma, state: (mixer(q, k, v), gamma)} if model == "retnet" else {}
        layer = layer or layer_caller(dataclasses.replace(run, compile=compiled), "aot_eager_decomp_partition")
        with values_trusted(), torch.autocast("cpu", torch.bfloat16), saved_tensors_hooks(pack, lambda x: x):
            net(torch.zeros(1, time, dtype=torch.int64), layer=layer, **how)
        counts.append(sum(x.untyped_storage().nbytes() for x in storages.values()))
    return (counts[1] - counts[0]) / time / dim


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of what Dynamo does and imports
@pytest.mark.parametrize("compiled", [False, True])
def test_what_a_layer_keeps_is_what_the_module_says(compiled, monkeypatch):
    monkeypatch.setattr(operations, "LARGE", 0)  # as if the layer were large
    if not compiled:  # a compiler takes the norm apart on a GPU too
        monkeypatch.setattr(torch.nn.functional, "rms_norm", rms_norm_of_a_gpu)
    kept = [kept_bytes(model, compiled) for model in ("retnet", "transformer")]
    found = " ".join(benchmark_paper.__doc__.split())
    said = re.search(r"keeps (\d+) d bytes .* \(flash\) (\d+) d; .* is cheap, (\d+) d and (\d+) d\.", found).groups()
    assert kept == pytest.approx([float(number) for number in said[2 * compiled :][:2]], abs=1.0)
    assert kept[0] < kept[1]
    if not compiled:
        monkeypatch.undo()
        monkeypatch.setattr(torch.nn.functional, "rms_norm", rms_norm_of_a_gpu)
        again = kept_bytes("retnet", compiled) - kept[0]
        assert again == pytest.approx(12, abs=0.1)  # for small layers: normed output, activated gate, their product


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_fused_step_is_one_graph_and_writes_its_state_in_place(monkeypatch):
    def step(q, k, v, gamma, state=None, *, out_state=None):
        out, after = retention_step(q, k, v, gamma, state)
        return out, after if out_state is None else out_state.copy_(after)

    monkeypatch.setitem(sys.modules, "gpu.kernels.triton_retention", types.SimpleNamespace(retention_step_triton=step))
    model = build_random(TINY.run("retnet"), "cpu", torch.bfloat16)
    start, graphs, outs = random_state(model.config, 9, 3, "cpu"), [], []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    compiled = layer_caller(dataclasses.replace(TINY.run("retnet"), compile=True), backend)
    for retention, how in ((retention_step, {}), (step_of("triton"), {}), (step_of("triton"), {"layer": compiled})):
        buffers = generate._map_state(torch.clone, start)
        move = generate.Step(model, buffers, retention=generate._in_place(retention), **how)
        logits = move(torch.tensor([1, 2, 3]))
        assert all(x is y for x, y in zip(move.state.layers, buffers.layers, strict=True))
        outs.append((logits.float(), *buffers.layers))
    assert len(graphs) == 1
    for out in outs[1:]:
        for got, want in zip(out, outs[0], strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3)
    assert not torch.equal(outs[2][1], start.layers[0])
    assert step_of("triton")(*(torch.ones(1, 1, 1, 2),) * 3, torch.ones(1))[1].shape == (1, 1, 2, 2)


# ---------------------------------------------------------------- the page and the table


def test_the_page_has_room_for_rows_of_a_cpu(rows):
    text = page.render("paper", paper.values({"device": "cpu", "command": "", "ceilings": CEILINGS, "rows": rows}))
    assert "| tiny | float32 | unknown, " in text


def test_the_table_names_sizes_and_settings(rows):
    headings, lines = benchmark.table("paper", rows)
    assert {len(line) for line in lines} == {len(headings)}
    assert lines[0][:3] == ["tiny", "T = 16, float32", "Transformer, unfused"]
    assert lines[-1][:3] == ["tiny", "batch as many as fit, context 8", "Transformer"]


def test_the_command_takes_minutes_and_leaves_the_rest_out(tmp_path):
    arguments = ["bench", "paper", "--device", "cpu", "--minutes", "1e-9", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    stored = json.loads((tmp_path / "paper.json").read_text())["rows"]
    assert {row["status"] for row in stored} == {"left out"}
    assert len(stored) > 10
