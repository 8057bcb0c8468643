"""`python -m refimpl bench`: what it measures, prints and draws, with peers and without them."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from paths import ROOT
from typer.testing import CliRunner

import refimpl.__main__ as program
from gpu.bench import cpu_peers
from refimpl.bench import commands, forms, peers, run, steps, timing
from refimpl.bench.figure import figure, library_of
from refimpl.bench.flops import useful_flops
from refimpl.bench.tables import tables
from refimpl.training.train import TrainConfig

RECORDED = json.loads((ROOT / "refimpl" / "results" / "cpu.json").read_text())


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What the command printed, its folder and its results: all that is measured, in calls as short as they can be."""
    out = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "MATRIX", 256)
        patch.setattr(timing, "PAUSE", 0.0)
        patch.setattr(steps, "STEPS_A_CALL", 2)
        patch.setattr(steps, "TRAINING_SHAPES", ((2, 64), (1, 128)))
        result = bench(out, "--time", "128", "--long", "256", "--rounds", "1", "--peer", "gpu.bench.cpu_peers")
    assert result.exit_code == 0, result.output
    return result.stdout, out, json.loads((out / "results.json").read_text())


def bench(out, *options):
    return CliRunner().invoke(program.app, ["bench", "--out", str(out), *options], env={"COLUMNS": "120"})


def test_bench_measures_everything_there_is(measured):
    printed, out, results = measured
    assert "missing here" not in printed
    names = {"NumPy parallel", "Numba chunkwise C=64", "torch SDPA", "torchscale parallel", "torchscale chunkwise C=64"}
    assert names <= {row["name"] for row in results["rows"]}
    for row in results["rows"]:
        flops = useful_flops(row["form"], 8, 128, 64, 128, row["chunk_size"])
        assert row["gflops"] * row["seconds"] * 1e9 == pytest.approx(flops)
        assert row["share_of_peak"] == pytest.approx(row["gflops"] / row["peak_gflops"])
        assert row["name"] in printed
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")
    for row in results["decode"]:
        assert row["state_steps_per_second"] == pytest.approx(row["states"] / row["seconds"])
    training = [row for row in results["training"] if row["window"] == 64]
    fastest = min(row["seconds"] for row in training if row["library"] == "torch")
    for row in training:
        assert row["of_fastest_torch"] == pytest.approx(row["seconds"] / fastest)
    assert {(row["name"], row["time"]) for row in results["long"]} == {("NumPy", 256), ("Numba", 256)}
    assert {(row["name"], row["states"]) for row in results["decode"]} == {
        (name, 8 * batch) for name in ("NumPy", "Numba") for batch in (1, 8, 64)
    }
    assert {row["window"] for row in results["training"]} == {64, 128}
    assert len(tables(results)) == 4
    for title, lines in tables(results):
        assert title in " ".join(printed.split())
        assert lines


def test_the_rows_are_those_of_the_recorded_file(measured):
    """Names, fields and packages, so that a new run can take the place of the recorded one."""
    _, _, measured = measured
    assert set(RECORDED) == set(measured)
    assert set(RECORDED["versions"]) == set(measured["versions"])
    for section in ("rows", "decode", "training", "long"):
        left_out = {"torchscale chunkwise C=256"} if section == "rows" else set()  # it refuses T = 128
        assert {row["name"] for row in RECORDED[section]} - {row["name"] for row in measured[section]} == left_out
        assert set(measured[section][0]) - set(RECORDED[section][0]) <= {"library", "form"}
        assert set(RECORDED[section][0]) <= set(measured[section][0])
    for row in measured["rows"]:
        assert library_of({"name": row["name"]}) == row["library"]  # as for files written before rows had the field


def test_without_matplotlib_the_tables_are_printed_and_the_command_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "measure", lambda *_: RECORDED)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = bench(tmp_path)
    assert result.exit_code == 0, result.output
    before, after = result.stdout.split("training step")
    assert "missing here: figure: Matplotlib is not installed" in before.partition("NumPy parallel")[0]
    assert "NumPy chunkwise" in after
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    result = bench(tmp_path, "--draw", str(tmp_path / "results.json"))
    assert str(result.exception) == "draw must not be given where Matplotlib is not installed"


def test_drawing_again_takes_the_file_alone(tmp_path):
    source = tmp_path / "cpu.json"
    source.write_text(json.dumps(RECORDED))
    result = CliRunner().invoke(program.app, ["bench", "--draw", str(source)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "cpu.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_shows_the_numbers_of_the_file():
    drawn = figure(RECORDED)
    FigureCanvasAgg(drawn).draw()
    names = {row["name"] for row in RECORDED["rows"]}
    for panel, length in zip(drawn.axes, (512, 2048, 8192), strict=True):
        rows = [row for row in RECORDED["rows"] if row["time"] == length]
        rows.sort(key=lambda row: -row["share_of_peak"])  # fastest first
        assert [label.get_text() for label in panel.get_yticklabels()] == [row["name"] for row in rows]
        assert [bar.get_width() for bar in panel.patches] == [row["share_of_peak"] for row in rows]
        said = [f"{row['share_of_peak']:.0%}, {row['seconds'] * 1e3:.3g} ms" for row in rows]
        assert [text.get_text().strip() for text in panel.texts] == said
        title = panel.get_title().replace("\n", " ")
        assert {name for name in names if name in title} == names - {row["name"] for row in rows}  # not timed
        assert panel.get_xlim() == (0, 1)
        assert all(text.get_window_extent().x1 <= panel.get_window_extent().x1 for text in panel.texts)


def test_a_share_beyond_the_peak_stays_in_the_figure():
    """As where something else kept the machine busy while the peak was measured."""
    row = {"name": "NumPy parallel", "time": 128, "seconds": 1.0, "share_of_peak": 20.0}
    results = {"rows": [row], "machine": {"cores": 1}, "shape": {"heads": 8, "key_dim": 64, "value_dim": 128}}
    drawn = figure(results)
    FigureCanvasAgg(drawn).draw()  # matplotlib's warning would be an error
    ((text,),) = (panel.texts for panel in drawn.axes)
    assert text.get_text() == " 2000%, 1e+03 ms "
    assert drawn.axes[0].get_window_extent().containsx(text.get_window_extent().x0)


# ---------------------------------------------------------------- peers


def test_peers_compute_what_we_compute():
    """The calls that are timed give one another's numbers (torchscale's up to the factors its norm forgives)."""
    found = forms.candidates(128, [cpu_peers])
    assert {each.library for each in found} == {"NumPy", "Numba", "torch", "torchscale"}
    want = next(each for each in found if each.name == "NumPy parallel").call()[0]
    for each in found:
        if each.name == "torch SDPA" or each.form == "backward":
            continue
        got = each.call()
        if each.library == "torchscale":
            got = got.detach().numpy().reshape(1, 128, 8, 128).transpose(0, 2, 1, 3)
            got, target = (x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True)) for x in (got, want))
        else:
            got, target = np.asarray(got[0]), want
        np.testing.assert_allclose(got, target, atol=2e-3, err_msg=each.name)


def test_all_take_the_same_training_step():
    """Loss and norm of the gradient of the first step and, after it, of the second."""
    config = TrainConfig(batch_size=2, window=70, dim=32, num_heads=2)
    found = {each.name: each.call for each in steps.training_steps(config, [cpu_peers])}
    assert set(found) == {
        "NumPy parallel", "NumPy chunkwise", "Numba chunkwise", "torch parallel", "torch chunkwise"
    }  # fmt: skip
    for _ in range(2):
        want, *others = [call() for call in found.values()]
        np.testing.assert_allclose(others, [want] * len(others), rtol=1e-3)


def test_our_peer_is_announced_and_loaded(monkeypatch):
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][peers.GROUP]
    entries = [EntryPoint(name, value, peers.GROUP) for name, value in group.items()]
    monkeypatch.setattr(peers, "entry_points", lambda group: entries)
    assert peers.load_peers() == ([cpu_peers], [])
    assert peers.load_peers(["gpu.bench.cpu_peers"]) == ([cpu_peers], [])


def test_a_peer_whose_library_is_not_there_is_missing(monkeypatch):
    monkeypatch.setattr(peers, "entry_points", lambda group: [EntryPoint("x", "no_such_library", group)])
    assert peers.load_peers() == ([], ["no_such_library: No module named 'no_such_library'"])
    monkeypatch.setattr(peers, "entry_points", lambda group: [])
    assert peers.load_peers()[1] == ["peers: no installed package announces one, and no --peer is given"]
    for name, reason in (("no_such_library", "No module named"), ("json", "has no attribute 'PACKAGES'")):
        with pytest.raises(ValueError, match=rf"peer must be a module .*, got '{name}': .*{reason}"):
            peers.load_peers([name])


def test_a_package_that_is_not_installed_has_no_version():
    found = run.versions([SimpleNamespace(PACKAGES=("no-such-package",))])
    assert found == {"numpy": np.__version__, "numba": found["numba"], "no-such-package": None}


def test_refimpl_measures_without_torch():
    """All its modules can be imported, and give candidates, where nothing has loaded torch."""
    code = (
        "import sys, refimpl.bench.commands; from refimpl.bench import commands, forms, steps; "
        "forms.candidates(8); steps.training_steps(steps.TrainConfig()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


# ---------------------------------------------------------------- timing, memory, operations


def test_a_call_that_is_deleted_is_left_out_of_the_rounds_that_follow():
    calls = {"a": 1, "b": 2}
    rounds = timing.interleave(calls, 2, lambda call: 10 * call)
    assert next(rounds) == {"a": 10, "b": 20}
    del calls["a"]
    assert list(rounds) == [{"b": 20}]


def test_the_first_round_and_the_first_call_of_each_round_do_not_count(monkeypatch):
    now, order = [0.0], []
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0], sleep=lambda _: order.append("-")))

    def call(name, seconds):
        takes = iter(seconds)

        def run():
            order.append(name)
            now[0] += next(takes)

        return run

    seconds = timing.time_calls({"a": call("a", [9, 9, 9, 1, 9, 2]), "b": call("b", [9, 9, 9, 3, 9, 4])}, 2)
    assert seconds == {"a": [1, 2], "b": [3, 4]}
    assert "".join(order) == "-aa-bb" * 3


def test_memory_beyond_the_outputs_is_seen():
    """The NumPy form keeps its outputs twice, once in parts and once whole; the compiled one writes them in place."""
    outputs, length = 8 * 8192 * 128 * 4 / 2**20, 8192
    numpy, numba = (fresh_memory(form, length) for form in ("NumPy", "Numba"))
    if numpy is None:
        pytest.skip("this system does not tell how much memory a process holds")
    assert 0.5 * outputs < numpy < 2 * outputs
    assert numba < 0.2 * outputs


def fresh_memory(form, length):
    """What `memory_beyond` says in a process of its own: this one would reuse memory that it has freed, unseen."""
    program = f"import json; from refimpl.bench.memory import *; print(json.dumps(memory_beyond({form!r}, {length})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def test_useful_operations_are_counted():
    assert useful_flops("parallel", 1, 2, 1, 1) == 12  # three scores, each a product of two and a product with v
    assert useful_flops("chunkwise", 1, 2, 1, 1, 2) == 20  # those and the state: four products a token
    assert useful_flops("backward", 1, 2, 1, 1, 2) == 50
