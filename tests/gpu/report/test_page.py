"""The page of GPU results: it says what the files say, and no number in it is typed."""

import json
import re
import shutil
import statistics

import pytest

from gpu.report import page as report

PICTURES = {"compare.png", "training.png", "decoding.png", "kernels.png"}


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(report.FOLDER, tmp_path / "results", ignore=shutil.ignore_patterns("*.png", "README.md"))
    return tmp_path / "results"


def test_the_stored_page_is_that_of_the_stored_files():
    assert (report.FOLDER / "README.md").read_text(encoding="utf-8") == report.page(report.FOLDER)


def test_every_link_of_the_page_is_there(folder):
    written = report.report(folder)
    assert {path.name for path in written} == {"README.md", *PICTURES}
    links = re.findall(r"\]\(([^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert set(links) == {"../kernel_ladder", *PICTURES}
    assert (report.FOLDER / "../kernel_ladder").is_dir()
    assert all((folder / link).read_bytes().startswith(b"\x89PNG") for link in PICTURES)


def change(folder, name, function):
    results = json.loads((folder / name).read_text(encoding="utf-8"))
    function(results)
    (folder / name).write_text(json.dumps(results), encoding="utf-8")


def test_other_results_make_another_page(folder):
    def better(study):
        first, other = study["rows"][:2]
        other["held_out"] = [loss - 0.5 for loss in first["held_out"]]
        other["mean"], other["over"], other["over_deviation"] = first["mean"] - 0.5, -0.5, 0.0

    page = report.page(folder)
    assert "no gate | 9,048,192" in page
    assert "worse in 0 of 3" not in page
    change(folder, "ablations.json", better)
    page = report.page(folder)
    (line,) = (line for line in page.splitlines() if line.startswith("| no gate"))
    assert "| -0.500 ± 0.000 | worse in 0 of 3 seeds | 27.84 † | 3.509 † |" in line
    assert "Not worse in every seed here, so not reproduced: no gate, no group norm. All others are worse" in page


def test_what_theirs_say_is_read_from_what_is_quoted(folder):
    assert (
        "Worse in the quoted figures too: no gate, no decay, one decay for all heads, narrow heads (perplexity, 200M †; loss, 400M †); "
        "linear attention (perplexity, 200M †). Not among these: no rotation." in report.page(folder)
    )

    def otherwise(study):
        rows = {row["variant"]: row for row in study["rows"]}
        rows["no gate"]["quoted"]["loss, 400M"] = rows["RetNet"]["quoted"]["loss, 400M"] - 0.1
        rows["linear attention"]["quoted"] = {}

    change(folder, "ablations.json", otherwise)
    assert (
        "Worse in the quoted figures too: no gate (perplexity, 200M †); no decay, one decay for all heads, narrow heads (perplexity, 200M "
        "†; loss, 400M †). Not among these: no rotation, linear attention." in report.page(folder)
    )


def test_what_it_says_of_the_comparison(folder):
    study = report.read(folder, "compare.json")
    retnet, transformer = study["rows"]
    text = report.comparison(study)[-2]
    gap = statistics.fmean(transformer["held_out"]) - statistics.fmean(retnet["held_out"])
    assert gap < 0
    assert f"At the end RetNet is {-gap:.3f} bits per byte behind the Transformer." in text
    assert "ahead at steps 250" in text
    for row in study["rows"]:  # one that learns no better from the first evaluation on
        row["evaluations"] = [[[step, 2.0] for step, _ in each] for each in row["evaluations"]]
    assert report.comparison(study)[-2].endswith("behind the Transformer.")


def test_the_curves_are_the_evaluations(folder):
    study = report.read(folder, "compare.json")
    lines = report.curves(study).axes[0].lines
    assert [line.get_xydata().tolist() for line in lines] == [
        [list(map(float, point)) for point in each] for row in study["rows"] for each in row["evaluations"]
    ]


def test_what_is_missing_is_named(folder):
    (folder / "sweep_demo.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"report: there is no sweep_demo\.json in "):
        report.report(folder)


def test_rows_that_failed_are_shown(folder):
    def fail(results):
        results["rows"][0]["failed"] = "out by 3"

    change(folder, "processes.json", fail)
    assert "Beyond what was allowed: sequence-parallel retention in float64: out by 3" in report.page(folder)


def test_rows_that_raised_are_shown_with_their_words(folder):
    """Such a row has no dtype and no speeds: `attempt` of gpu.check_processes keeps what it was given and why it failed."""

    def raised(results):
        for row in results["rows"]:
            if (row["what"], row.get("dtype")) == ("training, data", "float64"):
                row["failed"] = "norms off by 3"
            if row["what"] in ("sequence-parallel retention", "scaling, data"):
                kind = row["what"].partition(",")[0]
                row.clear()
                row |= {"what": kind, "with": ["data", "3"], "failed": "process 1: RuntimeError: two\nlines"}

    change(folder, "processes.json", raised)
    page = report.page(folder)
    assert "Failed: sequence-parallel retention, data, 3: process 1: RuntimeError: two lines; " in page
    assert "; scaling, data, 3: process 1: RuntimeError: two lines.\n" in page
    assert "| data | " not in page
    rows = report.read(folder, "processes.json")["rows"]
    (sharded,) = (row for row in rows if row["what"] == "scaling, sharded")
    assert (
        f"| sharded | {sharded['tokens/s, one process']:,.0f} | {sharded['tokens/s, 2 times the batch_size']:,.0f} ("
        in page
    )
    assert "Beyond what was allowed: training, data in float64: norms off by 3.\n" in page

    def all_raised(results):
        results["rows"] = [{"what": "scaling_row", "with": ["data", "3"], "failed": "it did not come to an end"}]

    change(folder, "processes.json", all_raised)
    assert report.page(folder).endswith("`.\n\nFailed: scaling_row, data, 3: it did not come to an end.\n")


def test_the_page_says_how_far_measurements_of_one_gpu_are_apart(folder):
    def alone(values):
        def change(results):
            rows = [row for row in results["rows"] if "tokens/s, one process" in row]
            results["rows"] = rows[: len(values)]
            for row, value in zip(rows, values, strict=False):
                row["tokens/s, one process"] = value

        return change

    change(folder, "processes.json", alone([100.0, 150.0]))
    assert "the fastest of these is 50% above the slowest." in report.page(folder)
    change(folder, "processes.json", alone([100.0]))
    assert "above the slowest" not in report.page(folder)


def test_the_ladder_shows_what_was_predicted_and_what_failed(folder):
    def fall(results):
        results["versions"]["v3_fused"] = {"predicted_ms": 0.7, "prediction": "why", "failed": "ArithmeticError: off"}
        results["versions"]["v2_chunks"] = {"failed": "at a shape that nothing was predicted of"}

    results = report.read(folder, "ladder.json")
    tuned = results["versions"]["v4_tuned"]
    change(folder, "ladder.json", fall)
    page = report.page(folder)
    assert f"| v4_tuned | {tuned['predicted_ms']:g} | {tuned['median']:.3f} |" in page
    assert "| v3_fused | 0.7 | failed: ArithmeticError: off |  |  |  |" in page
    assert "| v2_chunks |  | failed: at a shape that nothing was predicted of |  |  |  |" in page
    assert "|  | predicted, ms | ms | spread, ms | of floor | error |" in page
    assert "The spread is from the 10th to the 90th percentile of the rounds." in page
    assert results["floor_ms"] / tuned["median"] == pytest.approx(tuned["share_of_roofline"])


def test_what_the_page_says_of_every_file_is_true_of_every_file(folder):
    for path in folder.glob("*.json"):
        results = report.read(folder, path.name)
        assert results["device"]
        assert results.get("torch") or results["versions"]["torch"]


@pytest.mark.parametrize("name", ["ladder.json", "processes.json"])
def test_a_command_is_that_of_the_file_where_it_is_kept(folder, name):
    change(folder, name, lambda results: results.update(command="typed in a test"))
    assert "`typed in a test`" in report.page(folder)


def test_each_table_with_a_spread_says_what_it_is(folder):
    """Studies have seeds, the rest has rounds, and the ladder percentiles."""
    sections = dict(part.split("\n", 1) for part in report.page(folder).split("\n## "))
    seeds, rounds = "± is the standard deviation over seeds", "± is the largest deviation of a round's seconds"
    for title, text in sections.items():
        assert (seeds in text) == (title in ("RetNet and the Transformer", "Ablations")), title
        assert (rounds in text) == (title in ("Training speed", "Decoding", "Kernels")), title
        assert ("±" in text) == (seeds in text or rounds in text), title
    change(folder, "training.json", lambda results: results["rows"][0].update(rounds=2))
    assert f"{rounds} from their median, over 2 to 7 rounds." in report.page(folder)
    change(folder, "training.json", lambda results: [row.update(status="failed") for row in results["rows"]])
    (training,) = (part for part in report.page(folder).split("\n## ") if part.startswith("Training speed"))
    assert "±" not in training


def test_what_libraries_set_aside_is_the_difference_of_rows_that_keep_the_same_bytes(folder):
    def peaks(results):
        for row in results["rows"]:
            row["peak_bytes"] = row["weight_bytes"] + row["past_bytes"]

    change(folder, "decoding.json", peaks)
    assert "libraries set aside" not in report.page(folder)

    def one(results):
        results["rows"][0]["peak_bytes"] += 3 * 2**20

    change(folder, "decoding.json", one)
    assert "keep the same bytes at every context differ by up to 3.0 MiB, probably such a workspace, or" in report.page(
        folder
    )


def test_rows_that_ended_at_a_grid_are_named_beside_the_table(folder):
    def limit(words):
        def change(results):
            for row in results["rows"]:
                row |= {"limit": words} if row["largest"] else {}

        return change

    most = [row["batch"] for row in report.read(folder, "decoding.json")["rows"] if row["largest"]]
    change(folder, "decoding.json", limit("the edge of a test"))
    assert f"These ended at the edge of a test, {min(most):,} to {max(most):,} sequences" in report.page(folder)
    change(folder, "decoding.json", limit("memory"))
    assert "These ended at" not in report.page(folder)


def test_a_row_above_its_floor_is_explained_and_only_then(folder):
    def share(value):
        def change(results):
            for row in results["rows"]:
                if (row["name"], row["what"], row["batch"]) == ("fused kernels", "step", 1) and row["cuda_graph"]:
                    row["share_of_roofline"] = value
                elif row["share_of_roofline"]:
                    row["share_of_roofline"] = min(row["share_of_roofline"], 1.0)

        return change

    change(folder, "kernels.json", share(1.25))
    assert (
        "Above 100% of its floor: fused kernels, large, step, batch 1, CUDA graph, at 125.0% with a state of 8.0 MiB. A floor "
        "takes bytes to move as fast as in a copy of 1.0 GiB" in report.page(folder)
    )
    change(folder, "kernels.json", share(1.0))
    assert "of its floor:" not in report.page(folder)


def test_the_readme_says_how_large_the_measured_models_are(folder):
    readme = (report.FOLDER / "../../README.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"at about (\d+) M parameters", readme)
    for name in ("training.json", "decoding.json"):
        counts = [row["parameters"] / 1e6 for row in report.read(folder, name)["rows"] if "parameters" in row]
        assert counts == pytest.approx([float(said)] * len(counts), rel=0.05)
