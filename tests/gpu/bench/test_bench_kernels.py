"""The benchmark's section on kernels: floors worked by hand, what is timed, errors, targets, figure and page."""

import dataclasses
import functools
import itertools
import json
import math
import re
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from runs import losses

from gpu.bench import accuracy as benchmark_accuracy
from gpu.bench import compile_ahead, figures, kernel_calls, kernel_floor
from gpu.bench import kernels as benchmark_kernels
from gpu.bench import run as benchmark
from gpu.bench import targets as benchmark_targets
from gpu.bench.config import BenchmarkConfig
from gpu.bench.graph import Recorded
from gpu.bench.kernel_calls import ATTENTION, KERNELS
from gpu.bench.kernel_floor import BOTH, FORWARD, SHAPES, STEP, Shape
from gpu.bench.kernels import kernel_row
from gpu.bench.timing import Deadline, LeftOutError
from gpu.kernels import registry as retentions
from gpu.kernels.peers import PEERS
from gpu.kernels.registry import FLA, RETENTIONS
from gpu.report import costs, page
from gpu.report import figures as benchmark_figures
from gpu.training.config import RunConfig
from refimpl import head_decays, retention_chunkwise
from refimpl.libraries import values_trusted

pytest.importorskip("triton", reason="Triton is not installed; it has packages for Linux alone")

CONFIG = BenchmarkConfig(
    dim=32, num_layers=1, num_heads=2, vocab_size=256, rounds=1, compile=False, times=(8,), tokens=8, chunk_sizes=(4,),
    contexts=(4,), batches=(1,), kernel_tokens=20,
)  # fmt: skip
TINY = Shape(2, 64, 16)  # as many channels as one head of attention has
FLASH, CUDNN = ATTENTION
OURS, REFERENCE = (RETENTIONS[name].kernel_label for name in ("triton", "chunkwise"))
IDENTITY = {name: kernel.identity for name, kernel in KERNELS.items()}
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
PEAKS = {"matrix_product": {"flops_per_second": 8e14}, "copy": {"bytes_per_second": 4.3e12}}  # as on an H200


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Results of the section on the CPU: our kernels in the interpreter, torch's own attention, no CUDA graphs."""
    if ON_GPU:
        pytest.skip("where there is a GPU, kernels are compiled for it, and the interpreter is off")
    out, lines = tmp_path_factory.mktemp("kernels"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpu.bench.timing.LEAST_SECONDS", 0.0)
        for module in (retentions, benchmark_kernels):
            patch.setattr(module, "has_fused", lambda device: True)
        patch.setattr(kernel_calls, "has_flash", lambda device: True)
        patch.setattr(retentions, "find_spec", lambda name: None)
        patch.setattr(benchmark_kernels, "compile_ahead", lambda every: [f"{len(every)} jobs"])
        for shape in SHAPES:
            patch.setitem(SHAPES, shape, TINY)
        patch.setattr(benchmark_kernels, "PLAN", (("large", 16, (8, 16)), ("small", 64, (16, 64))))
        patch.setattr(benchmark_kernels, "BATCHES", (1, 2))
        for module in (benchmark_kernels, kernel_calls):
            patch.setattr(module, "STEPS", 2)
        patch.setattr(benchmark_accuracy, "TIMES", (5, 1000))
        results = benchmark.run(CONFIG, ["kernels"], out, "cpu", command="the command", progress=lines.append)
        stored = json.loads((out / "kernels.json").read_text())
    return results["kernels"], stored, lines


# ---------------------------------------------------------------- what must be done


def test_operations_are_those_counted_by_hand():
    """One head, K 2, V 3: a token of chunks of one costs 2 (K + V) + 4 K V = 34; the parallel form T (T + 1) 5 in all."""
    count = functools.partial(kernel_floor.least_flops, heads=1, key_dim=2, value_dim=3)
    assert count(FORWARD, 1, time=1) == 1 * 2 * 5
    assert count(FORWARD, 1, time=5) == 5 * 6 * 5
    assert count(FORWARD, 1, time=6) == 6 * 34 < 6 * 7 * 5
    assert count(FORWARD, 7, time=6) == 7 * 6 * 34
    assert count(BOTH, 1, time=6) == 3 * 6 * 34
    assert count(FORWARD, 1, time=6, attention=True) == 6 * 7 * 5


def test_floors_at_the_paper_s_shape_are_those_of_its_formulas():
    """0.19 ms forwards, by the bytes, and 0.52 ms with gradients, by operations."""

    def floor(what, heads, time, key_dim, value_dim, **settings):
        sizes = what, 16384 // time, heads, time, key_dim, value_dim
        row = {
            "what": what, "seconds": {"median": 1e-3}, "flops": kernel_floor.least_flops(*sizes, **settings),
            "moved_bytes": kernel_floor.least_bytes(*sizes),
        }  # fmt: skip
        found = kernel_floor.roofline(row, PEAKS)
        assert found["share_of_roofline"] == found["floor_seconds"] / 1e-3
        return found["floor_seconds"]

    paper, tokens_heads = (16, 4096, 256, 512), 16384 * 16
    assert SHAPES["large"] == (16, 256, 512)
    moved = tokens_heads * 2 * (2 * 256 + 2 * 512)  # two bytes a number
    assert floor(FORWARD, *paper) == pytest.approx(moved / 4.3e12) == pytest.approx(1.87e-4, 1e-2)
    made = tokens_heads * (2 * 768 + 4 * 256 * 512)
    assert floor(BOTH, *paper) == pytest.approx(3 * made / 8e14) == pytest.approx(5.17e-4, 1e-2)
    # Attention over 4,096 channels: T (T + 1) / 2 scores a head, 128 products each, twice.
    scores = 32 * 16384 * 16385 // 2
    assert floor(FORWARD, 32, 16384, 128, 128, attention=True) == pytest.approx(scores * 2 * 2 * 128 / 8e14)


def test_a_step_reads_and_writes_its_state():
    moved = 20 * kernel_floor.step_bytes(1, 16, 256, 512)
    assert moved == 20 * 16 * (2 * 4 * 256 * 512 + 2 * (2 * 256 + 2 * 512))
    row = {"what": STEP, "steps": 20, "seconds": {"median": 4e-6}, "flops": 0, "moved_bytes": moved}
    found = kernel_floor.roofline(row, PEAKS)
    assert found["step_seconds"] == 4e-6 / 20
    assert found["steps_per_second"] == pytest.approx(5e6)
    assert found["share_of_copy_bandwidth"] == pytest.approx(moved / 4e-6 / 4.3e12)
    assert found["share_of_roofline"] == pytest.approx(found["share_of_copy_bandwidth"])


def test_without_ceilings_there_is_no_floor():
    row = {"what": FORWARD, "seconds": {"median": 1.0}, "flops": 1, "moved_bytes": 1}
    assert kernel_floor.roofline(row, {"matrix_product": {}, "copy": {}}) == {
        "floor_seconds": None, "share_of_roofline": None,
    }  # fmt: skip


# ---------------------------------------------------------------- what is timed


@pytest.mark.parametrize("name", [OURS, REFERENCE])
def test_both_retentions_compute_the_same_in_a_layout_that_costs_no_copy(name):
    function, leaves, grad = KERNELS[name].make(TINY, 8, 16, DEVICE)
    want, _, _ = KERNELS[REFERENCE].make(TINY, 8, 16, DEVICE)
    assert all(x.transpose(1, 2).is_contiguous() for x in (*leaves, grad))
    assert [x.shape for x in leaves] == [(2, 2, 8, 64), (2, 2, 8, 64), (2, 2, 8, 16)]
    out, reference = function(*leaves).float(), want(*leaves).float()
    assert out.shape == grad.shape
    assert (out - reference).norm() <= 2e-2 * reference.norm()
    if name == OURS:
        assert function(*leaves).stride() == grad.stride()


def fake_fla(monkeypatch, **functions):
    """Let the modules of flash-linear-attention, which needs a GPU, hold these functions."""
    for name in ("fla", "fla.ops", "fla.ops.retention", "fla.ops.simple_gla"):
        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**functions))


def test_others_get_the_same_numbers_in_their_own_layout(monkeypatch):
    seen = []

    def chunk_retention(q, k, v, scale):
        seen.append((q, k, v, scale))
        return v, None

    fake_fla(monkeypatch, chunk_retention=chunk_retention)
    function, leaves, grad = KERNELS[FLA].make(TINY, 8, 16, "cpu")
    ours = kernel_calls.inputs(TINY, 8, 16, "cpu")
    assert function(*leaves) is leaves[2]
    assert seen[0][3] == 1.0  # no scale inside
    for x, y in zip((*leaves, grad), ours[:4], strict=True):
        assert x.is_contiguous()
        assert torch.equal(x, y.transpose(1, 2))


def test_a_step_of_either_kernel_goes_on_from_the_one_before(monkeypatch):
    seen = []

    def fused_recurrent_retention(q, k, v, scale, initial_state, output_final_state):
        seen.append((q.shape, v.shape, scale, output_final_state, initial_state))
        return v, initial_state + 1

    fake_fla(monkeypatch, fused_recurrent_retention=fused_recurrent_retention)
    kernel_calls.step_work("fla", TINY, 3, False, "cpu").call()
    assert len(seen) == kernel_calls.STEPS
    for before, after in itertools.pairwise(seen):
        assert after[:4] == ((3, 1, 2, 64), (3, 1, 2, 16), 1.0, True)
        assert torch.equal(after[4], before[4] + 1)

    states = []
    monkeypatch.setattr("gpu.kernels.fused_step.fused_step", lambda *xs: (states.append(xs[4]), xs[4]))
    work = kernel_calls.step_work("triton", TINY, 3, False, "cpu")
    work.call()
    assert work.tokens == 3 * len(states) == 3 * kernel_calls.STEPS
    assert all(state is states[0] for state in states)  # in place
    assert states[0].shape == (3, 2, 64, 16)
    assert states[0].dtype == torch.float32


def test_steps_of_a_replay_write_the_state_once_a_call(monkeypatch):
    """As many steps as are kept: the first finds all places taken, as the first of the next call does."""
    seen = []
    monkeypatch.setattr("gpu.kernels.triton_replay.replay_step_triton", lambda *xs: seen.append((xs[4], xs[5])))
    work = kernel_calls.step_work("triton", TINY, 3, False, "cpu", replay=kernel_calls.STEPS)
    seen.clear()  # of the calls that timed the CPU
    work.call()
    assert [slots for _, slots in seen] == [kernel_calls.STEPS, *range(1, kernel_calls.STEPS)]
    assert {tuple(x.shape for x in buffers[:3]) for buffers, _ in seen} == {
        ((3, 2, 64, 16), (3, 2, kernel_calls.STEPS, 64), (3, 2, kernel_calls.STEPS, 16))
    }
    plain, replayed = (
        {row["batch"]: row["moved_bytes"] for row in rows_of_steps() if row["replay"] == replay}
        for replay in (None, 20)
    )
    assert {batch: round(plain[batch] / replayed[batch], 2) for batch in plain} == dict.fromkeys(plain, 1.84)


def rows_of_steps():
    """The rows that a GPU measures of steps of the fused kernels, at the large shape."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retentions, "has_fused", lambda device: True)
        return [each.row for batch in (1, 64) for each in benchmark_kernels.step_candidates("large", batch, "cpu")]


class Repeated:
    """In place of `Recorded` where there is no GPU: a graph that makes the call again and writes where it wrote."""

    def __init__(self, call, device):
        self.call, self.graph = call, self
        self.result = [x.detach() for x in call()]

    def replay(self):
        for x, y in zip(self.result, self.call(), strict=True):
            x.copy_(y.detach())


@pytest.mark.parametrize("what", [FORWARD, BOTH])
@pytest.mark.parametrize("name", [OURS, FLASH])
def test_a_graph_computes_what_the_call_does(monkeypatch, name, what):
    recorded = []

    def record(call, where):
        assert where == DEVICE
        recorded.append((Recorded if ON_GPU else Repeated)(call, where))
        return recorded[-1]

    monkeypatch.setattr(kernel_calls, "Recorded", record)
    with values_trusted():
        work = kernel_calls.kernel_work(name, what, TINY, 8, 16, DEVICE, cuda_graph=True)
        (graph,) = recorded
        want = [x.detach().clone() for x in graph.call()]
        assert len(want) == (1 if what == FORWARD else 3)
        with torch.no_grad():
            for x in graph.result:
                x.fill_(math.nan)
        work.call()
    assert work.tokens == 16
    assert all(x.shape == y.shape and torch.allclose(x, y, rtol=1e-2) for x, y in zip(graph.result, want, strict=True))
    assert all(x.abs().max() > 0 for x in want)


def test_a_graph_of_theirs_copies_no_decays_from_the_host(monkeypatch):
    seen = []

    def chunk_simple_gla(q, k, v, g_gamma, scale):
        seen.append((g_gamma, scale))
        return v * 2, None

    fake_fla(monkeypatch, chunk_simple_gla=chunk_simple_gla)
    monkeypatch.setattr(kernel_calls, "Recorded", Repeated)
    work = kernel_calls.kernel_work(FLA, FORWARD, TINY, 8, 16, "cpu", cuda_graph=True)
    work.call()
    assert seen[0][0] is seen[1][0]
    assert {scale for _, scale in seen} == {1.0}
    torch.testing.assert_close(seen[0][0], torch.tensor([1 - 2**-5, 1 - 2**-6]).log())


def fake_peers(monkeypatch, off=0.0):
    """Let the packages of the peers hold retention in their layouts; off: what is added to the decay."""

    def simple_gla(q, k, v, g_gamma, scale, chunk_size=64):
        seen.append((q.shape, chunk_size))
        assert scale == 1.0
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return retention_chunkwise(q, k, v, g_gamma.exp().double() - off)[0].transpose(1, 2), None

    def siging(q, k, v, i, f, normalize, chunk_size, autocast_kernel_dtype):
        seen.append((q.shape, chunk_size))
        assert not normalize
        assert i.shape == f.shape == q.shape[:3]
        assert all(x.is_contiguous() for x in (q, k, v, i, f))
        assert torch.equal(i.sigmoid(), torch.ones_like(i))
        gamma = f.double().sigmoid()
        assert torch.equal(gamma, gamma[:1, :, :1].expand_as(gamma))
        return retention_chunkwise(q * q.shape[3] ** -0.5, k, v, gamma[0, :, 0] - off)[0]

    seen = []
    fake_fla(monkeypatch, chunk_simple_gla=simple_gla, fused_chunk_simple_gla=simple_gla)
    for name in ("mlstm_kernels", "mlstm_kernels.torch", "mlstm_kernels.torch.chunkwise"):
        module = types.SimpleNamespace(mlstm_siging_chunkwise__xl_chunk=siging)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(kernel_calls, "CHECKED", 128)
    kernel_calls.check_peer.cache_clear()
    return seen


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_retention_in_its_own_layout(name, monkeypatch):
    seen, row = fake_peers(monkeypatch), PEERS[name]
    function, leaves, grad = KERNELS[row.label].make(TINY, 128, 256, "cpu")
    q, k, v, *_, gamma = kernel_calls.inputs(TINY, 128, 256, "cpu")
    want, _ = retention_chunkwise(q, k, v, gamma)
    out = function(*leaves)
    assert grad.shape == out.shape
    assert grad.shape[0] == 2
    out = out.transpose(1, 2) if row.time_first else out
    assert (out.float() - want.float()).norm() <= 1e-2 * want.float().norm()
    assert [shape[0] for shape, _ in seen] == [1, 2]  # the check comes first
    assert {chunk for _, chunk in seen} == {64 if name == "fla_fused" else 128}


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_computes_something_else_is_not_timed(name, monkeypatch):
    fake_peers(monkeypatch, off=0.1)
    with pytest.raises(ArithmeticError, match=f"out of {re.escape(PEERS[name].label)} is off by .* of retention's"):
        KERNELS[PEERS[name].label].make(TINY, 128, 256, "cpu")


def test_a_peer_for_narrow_heads_is_left_out_at_wide_ones(monkeypatch):
    fake_peers(monkeypatch)
    with pytest.raises(LeftOutError, match="heads have 128 key channels, more than 64"):
        KERNELS[PEERS["fla_fused"].label].make(Shape(2, 128, 16), 128, 256, "cpu")


def test_peers_are_measured_where_they_are_installed(monkeypatch):
    names = {row.label for row in PEERS.values()}
    assert not names & set(kernel_calls.kernels_here(128, "cpu"))
    for name in ("has_fla", "has_mlstm"):
        monkeypatch.setattr(retentions, name, lambda device: True)
    assert names <= set(kernel_calls.kernels_here(128, "cpu"))
    assert not names & set(kernel_calls.kernels_here(100, "cpu"))  # not a multiple of their chunk


@pytest.fixture
def stand_in(monkeypatch):
    """Our retention behind flash-linear-attention's axes, scale, decays and results, because that needs a GPU."""

    def kernel(q, k, v, g_gamma, scale, initial_state, output_final_state):
        assert output_final_state
        assert g_gamma.dtype == torch.float32
        q, k, v = (x.transpose(1, 2) for x in (scale * q, k, v))
        out, state = retention_chunkwise(q, k, v, g_gamma.exp(), initial_state, chunk_size=64)
        return out.transpose(1, 2), state

    fake_fla(monkeypatch, chunk_simple_gla=kernel, fused_recurrent_simple_gla=kernel)
    monkeypatch.setattr("gpu.kernels.fla.find_spec", lambda name: True)


def test_flash_linear_attention_is_called_under_the_contract(stand_in):
    """Chunks from a state, then steps, as one retention."""
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 20, width, generator=draw) for width in (8, 8, 5))
    gamma, state = head_decays(3, xp=torch), torch.randn(2, 3, 8, 5, generator=draw)
    want = retention_chunkwise(q, k, v, gamma, state, chunk_size=4)
    outs = []
    for piece in (slice(0, 18), slice(18, 19), slice(19, 20)):
        retention = retentions.RETENTIONS["fla"](4) if piece.start == 0 else retentions.step_of("fla")
        out, state = retention(*(x[:, :, piece] for x in (q, k, v)), gamma, state)
        outs.append(out)
    torch.testing.assert_close((torch.cat(outs, 2), state), want, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(not (ON_GPU and retentions.has_fla("cuda")), reason="flash-linear-attention needs a GPU")
def test_on_a_gpu_flash_linear_attention_is_a_retention():
    """In bfloat16: outputs, the state and gradients from a state, and a step."""
    draw = torch.Generator("cuda").manual_seed(0)
    normal = functools.partial(torch.randn, device="cuda", generator=draw)
    q, k, v = (normal(2, 100, 4, width, dtype=torch.bfloat16).transpose(1, 2) for width in (64, 64, 128))
    gamma, state = head_decays(4, xp=torch, device="cuda"), normal(2, 4, 64, 128)
    for name, function in (("all", retentions.RETENTIONS["fla"](64)), ("one", retentions.step_of("fla"))):
        arguments = [x[:, :, : 1 if name == "one" else None] for x in (q, k, v)] + [state]
        results = []
        for retention, convert in ((function, torch.clone), (retention_chunkwise, torch.Tensor.double)):
            leaves = [convert(x).requires_grad_(name == "all") for x in arguments]
            found = retention(*leaves[:3], gamma, leaves[3])
            grads = torch.autograd.grad(found[0].double().square().sum(), leaves) if name == "all" else ()
            results.append((*found, *grads))
        for got, want in zip(*results, strict=True):
            assert (got.double() - want).norm() <= 2e-2 * want.norm()


def test_a_run_trains_with_flash_linear_attention(stand_in):
    tokens = np.random.default_rng(0).integers(0, 256, (2, 71))
    theirs, ours = (
        RunConfig(dim=32, num_layers=2, num_heads=2, window=70, batch_size=2, retention=name)
        for name in ("fla", "chunkwise")
    )
    found = [losses(config, (tokens[:, :-1], tokens[:, 1:]), 1e-2, 2) for config in (theirs, ours)]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_flash_linear_attention_is_asked_for_by_name_where_it_is_not_installed(monkeypatch):
    for module in ("fla", "registry"):
        monkeypatch.setattr(f"gpu.kernels.{module}.find_spec", lambda name: None)
    for ask in (lambda: retentions.RETENTIONS["fla"](64), lambda: retentions.step_of("fla")):
        with pytest.raises(ValueError, match="must not be 'fla' where flash-linear-attention is not installed"):
            ask()
    assert not retentions.has_fla("cpu")


def test_short_calls_are_measured_as_graphs_too(monkeypatch):
    def graphs(name, time, device):
        found = benchmark_kernels.kernel_candidates(name, BOTH, time, 65536, device)
        assert all(each.build.keywords["cuda_graph"] == each.row["cuda_graph"] for each in found)
        rows = [(each.row["name"], each.row["cuda_graph"]) for each in found]
        assert {name for name, graph in rows if not graph} == {OURS, FLA, FLASH, REFERENCE}
        return [name for name, graph in rows if graph]

    monkeypatch.setattr(benchmark_kernels, "kernels_here", lambda *_: [OURS, FLA, FLASH, REFERENCE])
    for time in (2048, 8192, 65536):
        assert graphs("small", time, "cuda") == [OURS, FLA, FLASH]
        assert graphs("small", time, "cpu") == []
        assert graphs("large", time, "cuda") == ([OURS, FLA, FLASH] if time == 2048 else [])


def test_a_run_may_measure_some_shapes_alone(monkeypatch):
    """Their groups, with the steps if those are of one of them, their compilations, and their errors."""
    assert set(BenchmarkConfig().shapes) == set(SHAPES)
    step = lambda shape, batch, device: [SimpleNamespace(row={"shape": shape, "what": STEP})]  # noqa: E731
    monkeypatch.setattr(benchmark_kernels, "kernels_here", lambda *_: [OURS])
    monkeypatch.setattr(benchmark_kernels, "step_candidates", step)
    for shapes, steps in ((("large",), len(benchmark_kernels.BATCHES)), (("small", "square"), 0)):
        rows = [group[0].row for group in benchmark_kernels.kernel_groups(65536, "cpu", shapes)]
        assert {row["shape"] for row in rows} == set(shapes)
        assert [row["what"] for row in rows].count(STEP) == steps
        assert {shape for _, shape, *_ in compile_ahead.jobs(shapes, "cpu")} == set(shapes)
    with pytest.raises(ValueError, match="shapes must be one of 'large', 'small', 'square', got 'wide'"):
        BenchmarkConfig(shapes=("wide",))


def test_attention_has_as_many_channels():
    function, leaves, grad = kernel_calls.attention(torch.nn.attention.SDPBackend.MATH, TINY, 8, 16, "cpu")
    assert [x.shape for x in (*leaves, grad)] == [(2, 1, 8, 128)] * 4
    assert torch.equal(function(*leaves)[:, :, 0], leaves[2][:, :, 0])  # the first token sees itself alone


def test_every_row_says_what_it_is_of(run):
    rows = run[0]["rows"]
    measured = [row for row in rows if row["status"] == "measured"]
    cases = {(row["shape"], row["what"], row["batch"], row["time"]) for row in rows if row["what"] != STEP}
    sizes = ("large", 2, 8), ("large", 1, 16), ("small", 1, 16)  # 64 tokens are more than kernel_tokens
    assert cases == {(shape, what, batch, time) for shape, batch, time in sizes for what in (FORWARD, BOTH)}
    assert {row["name"] for row in rows if row["what"] == BOTH} == {OURS, FLASH, CUDNN, REFERENCE}
    assert {(row["name"], row["batch"], row["cuda_graph"]) for row in rows if row["what"] == STEP} == {
        (name, batch, False) for name in (OURS, f"{OURS}, replay of 2") for batch in (1, 2)
    }  # fmt: skip
    assert {row["name"] for row in measured} >= {OURS, FLASH, REFERENCE}
    assert all(row["name"] == CUDNN for row in rows if row["status"] != "measured")  # it needs a GPU
    for row in measured:
        assert row["floor_seconds"] > 0
        assert row["share_of_roofline"] == row["floor_seconds"] / row["seconds"]["median"]
        calls = 2 if row["what"] == STEP else 1
        assert row["tokens_per_second"] == pytest.approx(calls * row["tokens"] / row["seconds"]["median"])
    for row in (row for row in rows if row["name"] in ATTENTION):
        assert (row["heads"], row["key_dim"], row["value_dim"]) == (1, 128, 128)


def test_the_file_holds_all_of_it(run):
    results, stored, lines = run
    assert stored == json.loads(json.dumps(results))
    assert (stored["command"], stored["versions"]["torch"]) == ("the command", torch.__version__)
    assert "kernels: large, forward, T = 8" in lines
    assert "kernels: not compiled ahead: 18 jobs" in lines  # three shapes: 2 of ours, 2 T of 2 dtypes
    assert "flash-linear-attention: not measured without an NVIDIA GPU, Triton and its own package" in stored["missing"]
    titles = [title for title, _ in benchmark.tables({"kernels": results})]
    assert titles == [f"kernels, {results['device']}", "errors against float64", "targets"]
    for _, (headings, texts) in benchmark.tables({"kernels": results}):
        assert {len(text) for text in texts} == {len(headings)}


def test_without_a_gpu_nothing_runs_and_that_is_said(tmp_path):
    lines = []
    results = benchmark.run(CONFIG, ["kernels"], tmp_path, "cpu", progress=lines.append)
    assert (results["kernels"]["rows"], results["kernels"]["accuracy"]) == ([], [])
    assert "kernels: nothing is measured, because the fused ones do not run here" in lines
    assert benchmark.tables(results) == []
    assert "fused kernels: not measured without an NVIDIA GPU and Triton" in results["kernels"]["missing"]


def test_kernels_are_compiled_by_running_them_once_in_processes_that_report_what_failed(monkeypatch):
    monkeypatch.setitem(SHAPES, "small", TINY)
    ran = []
    monkeypatch.setattr(compile_ahead, "errors", lambda *arguments: ran.append(arguments))
    assert compile_ahead.job(REFERENCE, "small", 8, 16, "cpu") is None
    assert compile_ahead.job("float32", "small", 8, 8, "cpu") is None
    assert ran == [(64, 16, 8, torch.float32, "cpu")]
    every = [("nothing", "small", 8, 8, "cpu"), (REFERENCE, "small", 8, 8, "cpu")]
    assert compile_ahead.compile_ahead(every, workers=1) == ["nothing, small: KeyError: 'nothing'"]


def test_processes_that_compile_run_each_configuration_once(monkeypatch):
    from triton.runtime.autotuner import Autotuner

    for name in ("do_bench", "check_disk_cache"):
        monkeypatch.setattr(Autotuner, name, None)
    compile_ahead.run_each_once()
    tuner, calls = Autotuner.__new__(Autotuner), []
    times = tuner.do_bench(lambda: calls.append(1), quantiles=(0.5, 0.2, 0.8))
    assert (calls, times) == ([1], [1.0] * 3)
    assert not tuner.check_disk_cache("key", [], lambda: calls.append(2))
    assert calls == [1, 2]


# ---------------------------------------------------------------- errors


def test_errors_are_measured_for_every_case(run):
    rows = run[0]["accuracy"]
    assert {(row["shape"], row["dtype"], row["time"]) for row in rows} == {
        (shape, dtype, time) for shape in SHAPES for dtype in ("bfloat16", "float32") for time in (5,)
    }
    for row in rows:
        assert row["status"] == "measured", row["remark"]
        assert row["same_bits"]
        bound = 1e-6 if row["dtype"] == "float32" else 2e-2  # the interpreter cuts bfloat16 off
        assert all(0 < row[name] <= bound for name in ("out", "dq", "dk", "dv"))


def test_an_error_of_one_head_is_not_hidden():
    want = torch.ones(1, 2, 3, 4, dtype=torch.float64)
    got = want.clone()
    got[:, 0] *= 1.25
    assert benchmark_accuracy.worst_head(got, want) == 0.25
    got[:, 1, 2, 3] = math.nan
    assert math.isnan(benchmark_accuracy.worst_head(got, want))


def test_a_wrong_kernel_and_one_that_leaves_memory_unwritten_are_found(monkeypatch):
    def unwritten(q, k, v, gamma, state):
        return v * torch.empty_like(v)[:, :, :1], state * 1.0 + 0.0 * (q.sum() + k.sum())

    rows = []
    monkeypatch.setattr(benchmark_accuracy, "RETENTIONS", {"triton": lambda chunk: unwritten})
    monkeypatch.setattr(benchmark_accuracy, "TIMES", (3,))
    benchmark_accuracy.measure(SHAPES, 8, "cpu", rows, deadline=Deadline(), keep=lambda: None)
    assert all(row["status"] == "failed" and "errors must be numbers" in row["remark"] for row in rows)
    assert not torch.are_deterministic_algorithms_enabled()
    late = []
    benchmark_accuracy.measure(SHAPES, 8, "cpu", late, deadline=Deadline(0), keep=lambda: None)
    assert {(row["status"], row["remark"]) for row in late} == {("left out", "not reached")}


# ---------------------------------------------------------------- targets


def timed(name, what, time, seconds, shape="large", batch=1, graph=False, **more):
    row = kernel_row(IDENTITY[name], what, shape, SHAPES[shape], batch, time, cuda_graph=graph)
    seconds = dict.fromkeys(("min", "median", "max"), seconds)
    return row | {"status": "measured", "remark": "", "seconds": seconds} | more


def made_up():
    """A run in which forwards is 2 and 3 times as fast as theirs, with gradients 2 and 5 times, attention half as fast."""
    rows = []
    for time, forward, both in ((2048, 2.0, 5.0), (4096, 3.0, 2.0)):
        rows += [timed(OURS, FORWARD, time, 1.0), timed(FLA, FORWARD, time, forward)]
        rows += [timed(OURS, BOTH, time, 1.0), timed(FLA, BOTH, time, both)]
        rows += [timed(FLASH, BOTH, time, 4.0), timed(CUDNN, BOTH, time, 2.0 if time == 4096 else 0.5)]
    for graph, ours in ((False, 1.0), (True, 0.5)):
        rows += [timed(name, FORWARD, 2048, t, "small", graph=graph) for name, t in ((OURS, ours), (FLA, 1.2))]
    rows.append(timed(OURS, STEP, 1, 1.0, batch=64, graph=True, share_of_copy_bandwidth=0.9))
    rows += [timed(OURS, STEP, 1, 1.0, graph=True), timed(FLA, STEP, 1, 3.0, graph=True), timed(FLA, STEP, 1, 12.0)]
    errors = dict.fromkeys(benchmark_accuracy.RESULTS, 2e-3) | {"status": "measured", "same_bits": True}
    return rows, [{"dtype": "bfloat16", **errors, "dk": 2e-2}, {"dtype": "float32", **errors} | {"out": math.inf}]


def verdict(found, words, aim=False):
    (target,) = (each for each in found if each["name"].startswith(words) and each["aim"] == aim)
    return target["got"], target["met"]


def test_a_target_is_met_if_the_worst_of_its_rows_meets_it():
    found = benchmark_targets.targets(*made_up())
    shape = "H 16, K 256, V 512"
    assert verdict(found, f"forward over {FLA}, {shape}, T 2,048 to 4,096") == (2.0, True)
    assert verdict(found, f"forward over {FLA}, {shape}", aim=True) == (2.0, False)
    assert verdict(found, f"forward + backward over {FLA}, {shape}") == (2.0, False)
    attention = f"forward + backward over {FLASH} or {CUDNN}, {shape}"
    assert verdict(found, f"{attention}, T 4,096 to 4,096") == (2.0, True)  # the faster of both
    assert verdict(found, f"{attention}, T 2,048", aim=True) == (0.5, False)
    assert verdict(found, f"forward over {FLA}, H 8, K 64, V 128, T 2,048 to 2,048") == (1.2, False)
    assert verdict(found, f"forward, CUDA graph, over {FLA}, H 8, K 64, V 128, T 2,048 to 2,048") == (2.4, True)
    assert verdict(found, f"forward + backward, CUDA graph, over {FLA}, H 8") == (None, None)  # no such row
    assert verdict(found, "a step's share") == (0.9, True)
    assert verdict(found, f"steps a second, batch 1, CUDA graph, over {FLA}'s launched") == (12.0, True)
    assert verdict(found, f"steps a second, batch 1, CUDA graph, over {FLA}'s in a", aim=True) == (3.0, False)
    assert verdict(found, "relative RMS error, bfloat16, out, state") == (2e-3, True)
    assert verdict(found, "relative RMS error, bfloat16, dq") == (2e-2, False)
    assert verdict(found, "relative RMS error, float32") == (math.inf, False)
    assert verdict(found, "share of checks") == (1.0, True)


def test_what_was_not_measured_is_no_success():
    rows, accuracy = made_up()
    rows[1]["status"] = accuracy[0]["status"] = "failed"
    found = benchmark_targets.targets(rows, accuracy)
    assert verdict(found, f"forward over {FLA}, H 16") == (3.0, None)
    assert verdict(found, "relative RMS error, bfloat16, out") == (None, None)
    assert {each["met"] for each in benchmark_targets.targets([], [])} == {None}
    texts = [text[1:] for text in benchmark_targets.table(found)[1] if text[0].startswith("forward over")]
    assert ["at least 1.60", "3.00", "not known"] in texts


# ---------------------------------------------------------------- figure and page


@pytest.fixture
def without_names(monkeypatch):
    """Of lines, for which a figure is drawn once a panel, to see where there is room."""
    monkeypatch.setattr(figures, "name_lines", lambda *given, **how: None)


def test_the_figure_shows_times_over_the_floor_of_retention(run, without_names):
    figure = benchmark_figures.kernels_figure(run[0])
    assert [axes.get_ylabel() for axes in figure.axes] == ["time / least time of a retention", ""] * 2
    assert all(left.get_ylim() == right.get_ylim() for left, right in (figure.axes[:2], figure.axes[2:]))
    measured = [row for row in run[0]["rows"] if row["status"] == "measured"]
    for axes, case in zip(figure.axes, itertools.product((FORWARD, BOTH), ("large", "small")), strict=True):
        here = [row for row in measured if (row["what"], row["shape"]) == case]
        floors = {row["time"]: row["floor_seconds"] for row in here if row["name"] == OURS}
        shown = {each.get_label(): each.lines[0].get_xydata() for each in axes.containers}
        assert shown.keys() == {row["name"] for row in here}
        for name, points in shown.items():
            rows = [row for row in here if row["name"] == name]
            np.testing.assert_allclose(
                points, [(row["time"], row["seconds"]["median"] / floors[row["time"]]) for row in rows]
            )
        (dotted,) = (line for line in axes.lines if line.get_label() == "attention's own floor")
        own = [(row["time"], row["floor_seconds"] / floors[row["time"]]) for row in here if row["name"] == FLASH]
        np.testing.assert_allclose(dotted.get_xydata(), own)


def test_the_figure_stands_without_what_failed(run):
    steps = [row for row in run[0]["rows"] if row["what"] == STEP]
    assert [len(axes.containers) for axes in benchmark_figures.kernels_figure(run[0] | {"rows": steps}).axes] == [0, 0]
    others = [row for row in run[0]["rows"] if row["name"] in ATTENTION]
    for axes in benchmark_figures.kernels_figure(run[0] | {"rows": others}).axes:
        assert not any(each.lines[0].get_xdata().size for each in axes.containers)


def with_graphs(results):
    """The results, with every row of the shortest length at the small shape a second time as a graph, twice as fast."""
    graphs = []
    for row in results["rows"]:
        if (row["shape"], row["time"], row["status"]) == ("small", 16, "measured"):
            half = {name: row["seconds"][name] / 2 for name in ("min", "median", "max")}
            graphs.append(
                row | {"cuda_graph": True, "seconds": half, "share_of_roofline": 2 * row["share_of_roofline"]}
            )
    return results | {"rows": results["rows"] + graphs}


def test_graphs_have_lines_of_their_own(run, without_names):
    for axes, count in zip(benchmark_figures.kernels_figure(with_graphs(run[0])).axes, (0, 3, 0, 3), strict=True):
        shown = {each.get_label(): each.lines[0] for each in axes.containers}
        graphs = [name for name in shown if name.endswith(", CUDA graph")]
        assert len(graphs) == count
        assert len(shown) == 3 + count
        for name in graphs:
            plain = shown[name.removesuffix(", CUDA graph")]
            np.testing.assert_allclose(shown[name].get_ydata(), plain.get_ydata() / 2)
            assert (shown[name].get_linestyle(), shown[name].get_markerfacecolor()) == (
                "None",
                "none",
            )  # hollow, no line


def test_graphs_are_told_apart_in_tables_and_among_what_was_left_out(run, tmp_path):
    results = with_graphs(run[0])
    (tmp_path / "kernels.json").write_text(json.dumps(results))
    text = page.render("kernels", costs.kernels(tmp_path))
    assert text.count("| small | forward, T = 16 | fused kernels | 16 |") == 1
    assert text.count("| small | forward, T = 16, CUDA graph | fused kernels | 16 |") == 1
    rows = [row | {"status": "left out", "remark": "not reached"} for row in results["rows"]]
    lines = benchmark.left_out({"kernels": {"rows": rows}})
    assert len(set(lines)) == len(lines)
    assert "kernels: fused kernels, small, forward, T = 16, CUDA graph: not reached" in lines


def test_the_page_has_the_section_if_there_is_a_file(run, tmp_path):
    assert costs.kernels(tmp_path) is None
    (tmp_path / "kernels.json").write_text(json.dumps(run[1]))
    found = costs.kernels(tmp_path)
    text = page.render("kernels", found)
    for row in (row for row in run[0]["rows"] if row["status"] == "measured"):
        assert f"| {1e6 * row['seconds']['median'] / row.get('steps', 1):,.1f} |" in text
    for target in run[0]["targets"]:
        assert target["name"] in text
    for row in run[0]["accuracy"]:
        assert f"| {row['dq']:.1e} |" in text
    assert found["failed"] == sum(row["status"] != "measured" for row in run[0]["rows"]) > 0
    (tmp_path / "kernels.json").write_text(json.dumps(run[1] | {"rows": []}))
    assert costs.kernels(tmp_path) is None


@pytest.mark.filterwarnings("default")  # flash-linear-attention warns of much while it is imported
@pytest.mark.skipif(not ON_GPU, reason="kernels are compiled and graphs recorded on a GPU")
def test_on_a_gpu_all_of_it_runs_and_is_right(tmp_path):
    config = dataclasses.replace(CONFIG, kernel_tokens=2048)
    result = benchmark.run(config, ["kernels"], tmp_path, "cuda", progress=lambda _: None)["kernels"]
    for row in result["rows"] + result["accuracy"]:
        assert row["status"] == "measured", (row.get("name"), row["remark"])
    for what in (FORWARD, BOTH, STEP):
        assert {row["cuda_graph"] for row in result["rows"] if row["what"] == what} == {True, False}
    errors = [each for each in result["targets"] if "error" in each["name"] or "same bits" in each["name"]]
    assert [each["met"] for each in errors] == [True] * 4
