"""The benchmark of models: rows that say what was measured, arithmetic of bytes, time limits, figures."""

import dataclasses
import itertools
import json
import math
import re
import sys

import matplotlib
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from typer.testing import CliRunner

from gpu.__main__ import app
from gpu.bench import decoding as benchmark_decoding
from gpu.bench import figures
from gpu.bench import run as benchmark
from gpu.bench.config import BenchmarkConfig
from gpu.bench.decoding import decoding_work, largest_work, past_bytes, random_memory
from gpu.bench.rows import IDENTITY, colour, label, new_row, with_identity
from gpu.bench.timing import Deadline, LeftOutError
from gpu.bench.training import MOST_COMPILED_CHUNKS, training_candidates
from gpu.kernels.peers import PEERS
from gpu.kernels.registry import RETENTIONS
from gpu.models.baseline import Memory
from gpu.models.build import build, build_random
from gpu.models.registry import MODELS
from gpu.report import figures as benchmark_figures
from gpu.report.page import FOLDER
from gpu.sampling.generate import Step
from refimpl.libraries import values_trusted

TINY = {
    "dim": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 256, "rounds": 3, "compile": False, "times": (8, 16),
    "tokens": 32, "chunk_sizes": (4,), "contexts": (4, 8), "batches": (1, 2), "grouped": True,
    "models": tuple(MODELS),
}  # fmt: skip
CONFIG = BenchmarkConfig(**TINY)


@pytest.fixture(scope="module", autouse=True)
def quick(one_thread):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpu.bench.timing.LEAST_SECONDS", 0.0)
        patch.setattr(benchmark_decoding, "CPU_MEMORY", 2**18)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, quick):
    """Results of a whole run on the CPU, its folder and what it printed."""
    out, lines = tmp_path_factory.mktemp("bench"), []
    results = benchmark.run(CONFIG, benchmark.SECTIONS, out, "cpu", command="the command", progress=lines.append)
    return results, out, lines


# ---------------------------------------------------------------- what a run leaves


def test_files_hold_what_was_measured_and_on_what(run):
    results, out, _ = run
    for section in ("training", "decoding"):
        stored = json.loads((out / f"{section}.json").read_text())
        assert stored == json.loads(json.dumps(results[section]))
        assert (stored["command"], stored["versions"]["torch"]) == ("the command", torch.__version__)
        assert stored["settings"]["dim"] == 32
        assert stored["device"] == "cpu, 1 threads"
        assert [line.partition(":")[0] for line in stored["missing"]] == [
            "CUDA graphs", "peak memory", "free memory", "flash attention", "fused kernels", "flash-linear-attention",
            *(peer.label for peer in PEERS.values()), "torch.compile",
        ]  # fmt: skip


def test_every_row_is_there_with_a_median_between_its_extremes(run):
    results, _, _ = run
    names = {(row["name"], row["time"]) for row in results["training"]["rows"]}
    kinds = "RetNet, C = 4", "RetNet, parallel", *(model.label for name, model in MODELS.items() if name != "retnet")
    assert names == {(name, t) for name in kinds for t in (8, 16)}
    rows = results["decoding"]["rows"]
    assert {(row["name"], row["context"], "most" if row["largest"] else row["batch"]) for row in rows} == {
        (name, context, batch)
        for name in ("Transformer, grouped", *(model.label for model in MODELS.values()))
        for context in (4, 8)
        for batch in (1, 2, "most")
    }
    for row in results["training"]["rows"] + rows:
        assert row["status"] == "measured"
        seconds = row["seconds"]
        (low, high), median = seconds["quartiles"], seconds["median"]
        assert 0 < seconds["min"] <= low <= median <= high <= seconds["max"]
        assert row["rounds"] == 3
        tokens = row["tokens"] if row["section"] == "training" else row["batch"]
        assert row["tokens_per_second"] == pytest.approx(tokens / median)
        assert row["peak_bytes"] is None  # there is no way to ask on a CPU
        assert not row["compiled"]


def test_training_takes_equal_tokens_and_equal_parameters(run):
    rows = run[0]["training"]["rows"]
    assert {row["tokens"] for row in rows} == {32}
    assert {(row["time"], row["batch"]) for row in rows} == {(8, 4), (16, 2)}
    counts = [row["parameters"] for row in rows]
    assert max(counts) / min(counts) < 1.02
    rate = run[0]["training"]["ceilings"]["matrix_product"]["flops_per_second"]
    for row in rows:
        assert row["flops"] == 6 * row["parameters"] * 32
        assert row["share_of_matrix_product"] == pytest.approx(row["flops"] / row["seconds"]["median"] / rate)


def test_ceilings_are_measured_in_the_same_run(run):
    found = run[0]["decoding"]["ceilings"]
    assert found["copy"]["bytes"] == 2 * 2 * 2**23  # two bytes a number, read and written
    assert found["matrix_product"]["flops"] == 2 * 512**3
    for name, amount in (("copy", "bytes"), ("matrix_product", "flops")):
        assert found[name][f"{amount}_per_second"] == found[name][amount] / found[name]["seconds"]["median"]


# ---------------------------------------------------------------- bytes


def test_states_and_caches_have_the_bytes_of_their_formulas(run):
    for row in run[0]["decoding"]["rows"]:
        a_layer = {
            "retnet": 4 * 8 * 16 * 4,  # H K V, four bytes
            "transformer": 2 * (row["kv_heads"] or 0) * 8 * row["context"] * 2,  # k and v, two bytes
            "linear": 4 * 8 * 9 * 4,  # H width (width + 1), four bytes
            "gru": 32 * 2,  # d, two bytes
            "retention": 4 * 8 * 16 * 4,
            "gated": 4 * 8 * 16 * 4,
        }[row["model"]]
        past = "bfloat16" if row["model"] in ("transformer", "gru") else "float32"
        assert row["past_bytes"] == a_layer * 2 * row["batch"]
        assert row["weight_bytes"] == 2 * row["parameters"]
        assert row["dtypes"] == {"parameters": "bfloat16", "past": past}


def test_formulas_at_the_paper_s_size_without_allocating_it():
    config = BenchmarkConfig(size="6.7B")
    retnet, transformer = config.run("retnet"), config.run("transformer")
    assert past_bytes(retnet, 8192, 1) == 32 * 16 * 256 * 512 * 4
    assert past_bytes(transformer, 8192, 3) == 3 * 2 * 2 * 32 * 4096 * 8192
    assert transformer.num_heads == 32  # heads of 128 channels
    assert config.run("transformer", kv_heads=8).kv_heads == 8
    for run in (retnet, transformer):
        model = build_random(run, "meta", torch.bfloat16)
        assert 6.0e9 < sum(weight.numel() for weight in model.parameters()) < 7.6e9


def test_the_floor_is_the_bytes_that_must_move_over_the_bandwidth(run):
    bandwidth = run[0]["decoding"]["ceilings"]["copy"]["bytes_per_second"]
    for row in run[0]["decoding"]["rows"]:
        table = 256 * 32 * 2  # of the embedding, which is not read
        passes = 1 if row["model"] == "transformer" else 2  # a state is written too
        assert row["moved_bytes"] == row["weight_bytes"] - table + passes * row["past_bytes"]
        assert row["floor_seconds"] == row["moved_bytes"] / bandwidth
        assert row["share_of_copy_bandwidth"] == row["floor_seconds"] / row["seconds"]["median"]
        assert row.get("latency_seconds") == (row["seconds"]["median"] if row["batch"] == 1 else None)


def test_the_largest_batch_is_what_the_share_of_memory_holds(run):
    for row in (row for row in run[0]["decoding"]["rows"] if row["largest"]):
        each = row["past_bytes"] // row["batch"]
        assert row["batch"] == row["planned_batch"] == int((0.9 * 2**18 - row["weight_bytes"]) // each) > 1
        assert (row["free_bytes"], row["limit"]) == (2**18, "memory")
    run_config = CONFIG.run("transformer")
    small = largest_work(run_config, 8, "cpu", 0.5).facts["batch"]
    assert small < largest_work(run_config, 8, "cpu", 0.9).facts["batch"]


def test_the_largest_batch_is_halved_until_it_fits(monkeypatch):
    tried, real = [], benchmark_decoding.decoding_work

    def narrow(run, context, batch, device):
        tried.append(batch)
        if batch > 5:
            raise torch.OutOfMemoryError("too large")
        return real(run, context, batch, device)

    monkeypatch.setattr(benchmark_decoding, "decoding_work", narrow)
    facts = largest_work(CONFIG.run("retnet"), 8, "cpu", 0.9).facts
    assert facts["batch"] == tried[-1] <= 5 < tried[-2]
    assert all(later == earlier // 2 for earlier, later in itertools.pairwise(tried))
    monkeypatch.setattr(benchmark_decoding, "CPU_MEMORY", 10)
    with pytest.raises(torch.OutOfMemoryError, match="not even one"):
        largest_work(CONFIG.run("retnet"), 8, "cpu", 0.9)


def test_what_a_sequence_takes_is_asked_of_no_more_than_a_kernel_takes(monkeypatch):
    """By two batches, the second twice the first, of 100,000 bytes a sequence beside 7 that stay."""
    tried = []
    work = lambda run, context, batch, device: tried.append(batch) or 1  # noqa: E731
    monkeypatch.setattr(benchmark_decoding, "decoding_work", work)
    monkeypatch.setattr(benchmark_decoding, "start_of_peak", lambda device: 0)
    monkeypatch.setattr(benchmark_decoding, "peak_since", lambda before, device: 7 + 100_000 * tried[-1])
    runs = (CONFIG.run("transformer"), CONFIG.run("transformer", kv_heads=1), CONFIG.run("retnet", retention="fla"))
    for context in (4, 2**18):
        for run in runs:
            each = benchmark_decoding.bytes_a_sequence(run, context, "cuda")
            assert each == max(100_000, past_bytes(run, context, 1))
            assert tried[-1] == 2 * tried[-2]
            assert 1 <= tried[-1] * run.num_heads <= 65535
    assert len(set(tried)) > 3
    assert benchmark_decoding.most_sequences(CONFIG.run("gru")) == 65535  # which has no heads
    fused = dataclasses.replace(CONFIG, num_heads=16).run("retnet", retention="triton")  # whose grid has one axis
    benchmark_decoding.bytes_a_sequence(fused, 4, "cuda")
    assert tried[-1] * 16 > 65535


# ---------------------------------------------------------------- what is timed


@torch.no_grad()
def test_decoding_in_bfloat16_keeps_states_in_float32_and_is_a_step_of_the_model():
    """What is timed is one step of `Step`, or of the baseline on its cache, with finite logits."""
    for name in MODELS:
        work = decoding_work(CONFIG.run(name), 8, 3, "cpu")
        logits = work.call()
        assert logits.dtype == torch.bfloat16
        assert torch.isfinite(logits).all()
        assert logits.shape[0] == 3
    step = decoding_work(CONFIG.run("retnet"), 8, 3, "cpu").call.func
    assert isinstance(step, Step)
    assert step.state.position.tolist() == [7] * 3
    step(torch.zeros(3, dtype=torch.int64))
    assert {layer.dtype for layer in step.state.layers} == {torch.float32}
    assert step.state.position.tolist() == [8] * 3


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in MODELS if name != "retnet"])
def test_a_baseline_s_step_goes_on_in_place(name):
    """A state moves on in the memory that it had; a cache holds the new token at its last place."""
    model = build_random(CONFIG.run(name), "cpu", torch.float32)
    memory = random_memory(model, 8, 2)
    kept = benchmark_decoding.tensors(memory)
    before, tokens = [x.clone() for x in kept], torch.tensor([1, 2])
    want, after = model(tokens[:, None], Memory(7, tuple(map(copy_of, memory.layers))))
    torch.testing.assert_close(benchmark_decoding.baseline_step(model, tokens, memory), want)
    for x, old, new in zip(kept, before, benchmark_decoding.tensors(after), strict=True):
        torch.testing.assert_close(x, new)
        assert not torch.equal(x, old)


def copy_of(layer):
    return tuple(x.clone() for x in layer) if isinstance(layer, tuple) else layer.clone()


def test_a_cache_is_full_but_for_its_last_place():
    model = build_random(CONFIG.run("transformer"), "cpu", torch.bfloat16)
    memory = random_memory(model, 8, 2)
    keys, values = memory.layers[0]
    assert memory.position == 7
    assert keys.shape == (2, 4, 8, 8)
    assert 0.5 < keys.float().std() < 1.5
    assert not torch.equal(keys, values)


@pytest.mark.parametrize("name", ["retnet", "transformer", "gru"])
def test_random_models_have_the_shape_of_built_ones(name):
    config = CONFIG.run(name)
    torch.manual_seed(0)
    random, built = build_random(config, "cpu", torch.float32), build(config)
    shapes = [{key: (x.shape, x.dtype) for key, x in model.state_dict().items()} for model in (random, built)]
    assert shapes[0] == shapes[1]
    for weight in random.parameters():
        deviation = 32**-0.5 if weight.ndim > 1 else 0.0
        assert float(weight.detach().std(correction=0)) == pytest.approx(deviation, rel=0.25)
    with values_trusted(), torch.no_grad():
        assert torch.isfinite(random(torch.zeros(1, 5, dtype=torch.int64))[0]).all()


def test_compiled_rows_come_last_and_long_loops_are_left_out():
    config = BenchmarkConfig(**TINY | {"compile": True, "chunk_sizes": (4, 64), "times": (512,), "tokens": 512})
    order = [(group.compiled, group.section) for group in benchmark.groups(config, benchmark.SECTIONS, "cpu")]
    assert order == sorted(order, key=lambda group: group[0])
    assert {compiled for compiled, _ in order} == {False, True}
    last = training_candidates(config, 512, True, "cpu")[-1]
    assert last.row["chunk_size"] == 4
    with pytest.raises(LeftOutError, match="would unroll 128 chunks"):
        last.build()
    assert MOST_COMPILED_CHUNKS < 128


def test_the_fastest_compiled_steps_are_replayed_too_where_there_is_a_gpu():
    def found(compiled, device):
        rows = [each.row for each in training_candidates(BenchmarkConfig(), 2048, compiled, device)]
        return [(row["model"], row["retention"]) for row in rows if row["cuda_graph"]]

    assert found(True, "cpu") == found(False, "cuda") == []
    replayed = found(True, "cuda")
    assert ("transformer", None) in replayed
    assert not {("retnet", "parallel"), ("retnet", "chunkwise")} & set(replayed)


def test_peers_share_memory_unless_they_are_large():
    for size, together in (("25M", {5, 4, 2, 1}), ("1.3B", {1})):
        config = BenchmarkConfig(size=size)
        found = list(benchmark.groups(config, benchmark.SECTIONS, "cpu"))
        assert {len(group.candidates) for group in found} == together
        assert sum(len(group.candidates) for group in found) == 2 * (5 + 4 + 2 * 5 * 3)


# ---------------------------------------------------------------- time limits


def test_what_the_time_does_not_allow_is_left_out_and_said(tmp_path):
    results = benchmark.run(CONFIG, ["decoding"], tmp_path, "cpu", deadline=Deadline(0), progress=lambda _: None)
    assert {row["status"] for row in results["decoding"]["rows"]} == {"left out"}
    lines = benchmark.left_out(results)
    assert len(lines) == len(results["decoding"]["rows"]) == 42
    assert lines[0] == "decoding: RetNet, batch 1, context 4: not reached"
    assert lines[-1] == "decoding: Gated retention, batch as many as fit, context 8: not reached"
    assert json.loads((tmp_path / "decoding.json").read_text())["rows"] == results["decoding"]["rows"]


# ---------------------------------------------------------------- figures and the command


def test_the_decoding_figure_shows_the_numbers_of_the_file(run, without_names):
    results = run[0]["decoding"]
    axes = benchmark_figures.decoding_figure(results).axes
    for above, below, batch in zip(axes[::2], axes[1::2], (1, 2, "largest"), strict=True):
        rates = {each.get_label(): each.lines[0].get_xydata().tolist() for each in above.containers}
        sizes = {line.get_label(): line.get_ydata().tolist() for line in below.lines}
        rows = [row for row in results["rows"] if ("largest" if row["largest"] else row["batch"]) == batch]
        assert rates.keys() == sizes.keys() == {row["name"] for row in rows}
        assert len(below.lines) == len(sizes) == 7
        for name in rates:
            mine = [row for row in rows if row["name"] == name]
            assert rates[name] == [[row["context"], row["tokens_per_second"]] for row in mine]
            assert sizes[name] == [row["batch"] if batch == "largest" else row["past_bytes"] / 2**20 for row in mine]


def test_the_training_figure_shows_the_numbers_of_the_file(run):
    results = run[0]["training"]
    figure = benchmark_figures.training_figure(results)
    for panel, length in zip(figure.axes, (8, 16), strict=True):
        bars = [bar.get_width() for bar in panel.patches]
        rows = [row for row in results["rows"] if row["time"] == length]
        rows.sort(key=lambda row: -row["tokens_per_second"])  # fastest first
        assert bars == [row["tokens_per_second"] for row in rows]
        assert [text.get_text() for text in panel.get_yticklabels()] == [label(with_identity(row)) for row in rows]


def test_both_figures_give_a_model_the_same_colour_and_show_its_whole_name(run):
    results = json.loads(json.dumps(run[0]))
    who = [{"model": "retnet", "retention": name} for name in ("triton", "fla")] + [{"model": "transformer"}]
    for section in ("training", "decoding"):
        template = next(row for row in results[section]["rows"] if row["status"] == "measured")
        results[section]["rows"] = [template | IDENTITY | each for each in who]
    results["training"]["rows"].append(results["training"]["rows"][1] | {"compiled": True})
    figure = benchmark_figures.training_figure(results["training"])
    panel = figure.axes[0]
    colours = [matplotlib.colors.to_hex(bar.get_facecolor()) for bar in panel.patches]
    curves = benchmark_figures.decoding_figure(results["decoding"]).axes[0].containers
    assert colours[:3] == [each.lines[0].get_color() for each in curves] == [colour(IDENTITY | each) for each in who]
    assert len(set(colours[:3])) == 3
    assert len({each.lines[0].get_marker() for each in curves}) == 3
    assert [bool(bar.get_hatch()) for bar in panel.patches] == [False, False, False, True]
    FigureCanvasAgg(figure).draw()
    assert min(label.get_window_extent().x0 for label in panel.get_yticklabels()) >= 0.1 * figure.dpi


def test_training_panels_have_one_scale_and_say_what_was_not_measured(run):
    results = json.loads(json.dumps(run[0]["training"]))
    del results["rows"][0]
    first, second = benchmark_figures.training_figure(results).axes
    assert first.get_xlim() == second.get_xlim()
    assert [sum("not measured" in text.get_text() for text in panel.texts) for panel in (first, second)] == [1, 0]


@pytest.fixture
def without_names(monkeypatch):
    """Of lines, for which a figure is drawn once a panel, to see where there is room."""
    monkeypatch.setattr(figures, "name_lines", lambda *given, **how: None)


def test_the_decoding_figure_says_what_else_ended_a_batch(run, without_names):
    results = json.loads(json.dumps(run[0]["decoding"]))
    title = "as many sequences as fit"
    assert benchmark_figures.decoding_figure(results).axes[4].get_title() == title
    for row in results["rows"]:
        row |= {"limit": "the grid of a kernel"} if row["largest"] else {}
    title += "\nor as the grid of a kernel takes"
    assert benchmark_figures.decoding_figure(results).axes[4].get_title() == title


def test_figures_show_memory_where_it_is_known_and_only_what_was_measured(run, without_names):
    results = json.loads(json.dumps(run[0]["decoding"]))
    for row in results["rows"]:
        row["peak_bytes"] = 2**30 * row["context"]
    results["rows"][0] |= {"status": "failed", "remark": "by this test"}
    figure = benchmark_figures.decoding_figure(results)
    above, below = figure.axes[:2]
    assert below.get_ylabel() == "peak memory, GiB"
    assert {tuple(line.get_ydata()) for line in below.lines} == {(8,), (4, 8)}
    shown = {each.get_label(): list(each.lines[0].get_xdata()) for each in above.containers}
    others = "Transformer, grouped", *(model.label for name, model in MODELS.items() if name != "retnet")
    assert shown == {"RetNet": [8]} | {name: [4, 8] for name in others}


def test_figures_are_drawn_again_from_the_files_alone(run, tmp_path):
    for section in ("training", "decoding"):
        (tmp_path / f"{section}.json").write_text((run[1] / f"{section}.json").read_text())
    assert CliRunner().invoke(app, ["bench", "--draw", str(tmp_path)]).exit_code == 0
    for section in ("training", "decoding"):
        assert (tmp_path / f"{section}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileNotFoundError, match=r"draw: there is no training\.json or decoding\.json"):
        benchmark_figures.draw(tmp_path / "nowhere")


def test_the_command_measures_says_what_is_missing_and_draws(tmp_path, monkeypatch):
    typed = "bench decoding --dim 16 --num-layers 1 --num-heads 2 --context 4 --batch 1 --no-largest --rounds 1"
    arguments = [*typed.split(), "--remark", "Nothing else ran."]
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "missing here: CUDA graphs" in result.output
    assert (tmp_path / "decoding.png").exists()
    stored = json.loads((tmp_path / "decoding.json").read_text())
    assert (stored["command"], stored["remark"]) == (f"python -m gpu {typed}", "Nothing else ran.")
    rows = stored["rows"]
    assert [row["name"] for row in rows] == ["RetNet", "Transformer"]
    for row in rows:
        assert f"{row['tokens_per_second']:,.0f}" in result.output
    assert not (tmp_path / "training.json").exists()


def test_the_table_says_what_was_not_measured():
    row = {"name": "RetNet", "compiled": True, "time": 2048, "status": "does not fit", "remark": "out of memory"}
    headings, (line,) = benchmark.table("training", [row])
    assert line[:3] == ["2,048", "RetNet, compiled", "does not fit: out of memory"]
    assert len(line) == len(headings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "3B"}, "size must be one of 'tiny', '25M', '1.3B', '2.7B', '6.7B', got '3B'"),
        ({"models": ("lstm",)}, "models must be one of 'retnet'"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"tokens": 100}, "tokens must be a multiple of each of times, got 100 and 8"),
        ({"contexts": ()}, "contexts must hold at least one value"),
        ({"contexts": (0,)}, "contexts must be at least 1, got 0"),
        ({"memory_share": 1.5}, r"memory_share must lie in \(0, 1\], got 1.5"),
        ({"num_heads": 2}, "grouped must be False unless 4 divides the 2 heads of attention"),
        ({"dim": 30, "grouped": False}, "dim must be a multiple of num_heads = 4"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkConfig(**TINY | change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--minutes 0", "minutes must be above 0, got 0"),
        ("speed", "sections must be one of 'training', 'decoding', 'kernels', 'paper', got 'speed'"),
        ("paper training", "sections: paper must be the only one, got paper, training"),
        ("--device abacus", "device must be one that torch can use here, got 'abacus'"),
    ],
)
def test_impossible_options_are_refused(options, message, tmp_path):
    arguments = ["bench", "--device", "cpu", "--out", str(tmp_path), *options.split()]
    with pytest.raises(ValueError, match=re.escape(message)):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.filterwarnings("default")  # flash-linear-attention warns of much while it is imported
@pytest.mark.skipif(not torch.cuda.is_available(), reason="peak memory, events and graphs need a GPU")
def test_on_a_gpu_graphs_run_and_memory_is_known(tmp_path):
    results = benchmark.run(CONFIG, ["training", "decoding"], tmp_path, "cuda", progress=lambda _: None)
    for section in results:
        for row in results[section]["rows"]:
            assert row["status"] == "measured", (row["name"], row["remark"])
            assert row["peak_bytes"] > 2 * row["parameters"]
    for row in results["decoding"]["rows"]:
        assert row["cuda_graph"]
        assert row["peak_bytes"] >= row["past_bytes"] + row["weight_bytes"]
        assert math.isfinite(row["share_of_copy_bandwidth"])


def test_every_kernel_is_measured_where_it_runs(monkeypatch):
    """Each row of the registry, in training and, with a decode step of its own, in decoding; elsewhere it is missing."""

    def measured():
        training = training_candidates(CONFIG, 16, False, "cpu")
        decoding = benchmark_decoding.decoding_candidates(CONFIG, 8, 1, False, "cpu")
        return [{each.row["retention"] for each in found} for found in (training, decoding)]

    assert measured() == [{None, "parallel", "chunkwise"}, {None}]
    assert "fused kernels: not measured without an NVIDIA GPU and Triton" in benchmark.missing("cpu", CONFIG)
    for name in ("has_fused", "has_fla", "has_mlstm"):
        monkeypatch.setattr(f"gpu.kernels.registry.{name}", lambda device: True)
    steps = {name for name, each in RETENTIONS.items() if each.step}
    assert measured() == [{None, *RETENTIONS}, {None, *steps}]
    assert not any("without" in line for line in benchmark.missing("cpu", CONFIG))


@pytest.mark.parametrize("section", ["training", "decoding", "kernels", "paper"])
def test_rows_of_old_files_get_their_identity_by_name(section):
    """The recorded files say less than today's rows, and are labelled and drawn as before."""
    rows = json.loads((FOLDER / f"{section}.json").read_text())["rows"]
    for row in rows:
        filled = with_identity({name: row[name] for name in row if name not in ("retention", "attention", "grouped")})
        if not row.get("chunk_size"):
            assert label(filled, compiled=False) == row["name"]
        assert label(with_identity(row), compiled=False) == row["name"]
        assert with_identity(row).keys() >= IDENTITY.keys()
        assert colour(with_identity(row)).startswith("#")


def test_a_new_row_and_the_row_of_an_old_file_are_the_same():
    for fields in (
        {"model": "retnet", "retention": "triton"}, {"model": "transformer", "grouped": True, "attention": "flash"},
        {"model": "transformer", "attention": "unfused"}, {"model": "gru"}, {"retention": "fla"}, {"attention": "cudnn"},
    ):  # fmt: skip
        new = new_row("a section", **fields)
        assert with_identity({"section": "a section", "name": new["name"]}) == new
