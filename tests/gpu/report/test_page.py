"""The page of GPU results: its values are what the files say, and the renderer fills every marker of every template."""

import contextlib
import json
import re
import shutil
import statistics

import jinja2
import jinja2.meta
import pytest
from matplotlib.figure import Figure

from gpu.bench.figures import processes_figure
from gpu.bench.processes import rates
from gpu.report import costs, figures, page, studies
from gpu.report.results import read

PICTURES = {
    "scaling.png",
    "context.png",
    "long.png",
    "recall.png",
    "ablations_once.png",
    "recipe.png",
    "compare.png",
    "training.png",
    "decoding.png",
    "kernels.png",
    "processes.png",
}


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(page.FOLDER, tmp_path / "results", ignore=shutil.ignore_patterns("*.png", "README.md"))
    return tmp_path / "results"


@contextlib.contextmanager
def changed(folder, name):
    """What a results file holds; what the body makes of it is written back."""
    results = read(folder, name)
    yield results
    (folder / name).write_text(json.dumps(results), encoding="utf-8")


def section(text, title):
    """The lines of one section of a page."""
    (found,) = (part for part in text.split("\n## ") if part.startswith(f"{title}\n"))
    return found.splitlines()[1:]


def variants(rows):
    return [row["variant"] for row in rows]


# ---------------------------------------------------------------- the page


def test_the_stored_page_is_that_of_the_stored_files():
    assert (page.FOLDER / "README.md").read_text(encoding="utf-8") == page.page(page.FOLDER)


def test_every_link_of_the_page_is_there(folder, monkeypatch):
    empty = dict.fromkeys(
        figures.FIGURES, lambda results: Figure(figsize=(1, 1))
    )  # test_figures_on_a_page.py draws them
    monkeypatch.setattr(figures, "FIGURES", empty)
    written = page.report(folder)
    assert {path.name for path in written} == {"README.md", *PICTURES}
    text = (folder / "README.md").read_text(encoding="utf-8")
    headings = re.findall(r"^##+ (.+)$", text, re.MULTILINE)
    anchors = {f"#{page.anchor(heading)}" for heading in headings}
    assert len(anchors) == len(headings)
    links = set(re.findall(r"\]\(([^)]+)\)", text))
    assert links <= anchors | PICTURES | {"../kernel_ladder", "https://arxiv.org/abs/2507.01004"}
    assert links >= PICTURES
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    contents = [line for line in section(text, "Contents") if line]
    assert contents == [f"- [{title}](#{page.anchor(title)})" for title in titles if title != "Contents"]
    assert (page.FOLDER / "../kernel_ladder").is_dir()
    assert all((folder / picture).read_bytes().startswith(b"\x89PNG") for picture in PICTURES)


def test_figures_come_first_and_long_tables_are_folded():
    text = page.page()
    assert sum(line.startswith("- ") for line in section(text, "Summary")) == 10
    for part in text.split("\n## ")[1:]:
        _, *lines = filter(None, part.splitlines())
        assert lines[0].startswith("![") == ("![" in part)
        shown = re.sub(r"<details>.*?</details>", "", part, flags=re.DOTALL)
        assert sum(line.startswith("| ") for line in shown.splitlines()) <= 45
        for table in re.findall(r"(?:^\|.*\n)+", shown, re.MULTILINE):
            assert table.count("\n") <= 20


def test_the_markdown_is_well_formed():
    text = page.page()
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>") > 3
    assert not re.search(r"{[{%]|[%}]}|None|Undefined|\bnan\b| ,| \.\s|\n\n\n", text)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        heading, rule, *lines = table.splitlines()
        assert set(rule) <= set("|:- ")
        assert {line.count("|") for line in lines} == {heading.count("|")} == {rule.count("|")}, heading


@pytest.mark.parametrize("name", ["compare", "ablations", "sweep_demo", "training", "decoding", "processes"])
def test_a_file_that_is_missing_is_named(folder, name):
    (folder / f"{name}.json").unlink()
    with pytest.raises(FileNotFoundError, match=rf"report: there is no {name}\.json in "):
        page.report(folder)
    assert not list(folder.glob("*.png")), "drawn before the rest was read"


def test_sections_without_a_file_are_left_out(folder):
    titles = re.findall(r"^## (.+)$", page.page(folder), re.MULTILINE)
    for name in ("kernels", "ladder", "paper"):
        (folder / f"{name}.json").unlink()
    text = page.page(folder)
    assert [title for title in titles if f"## {title}\n" not in text] == [
        "Kernels", "The kernel ladder", "The paper's cost tables",
    ]  # fmt: skip
    assert "#kernels" not in text


# ---------------------------------------------------------------- the renderer


def markers(name):
    """What a template needs to be filled."""
    source = (page.TEMPLATES / f"{name}.md").read_text(encoding="utf-8")
    return jinja2.meta.find_undeclared_variables(page.environment().parse(source)) - {"macros"}


@pytest.mark.parametrize("compute", page.SECTIONS, ids=lambda compute: compute.__name__)
def test_every_marker_is_filled_and_every_value_is_used(compute):
    values = compute(page.FOLDER)
    assert values is not None, "it was not measured"
    assert markers(compute.__name__) == values.keys()


def test_every_template_is_used():
    names = {path.stem for path in page.TEMPLATES.iterdir()}
    assert names == {compute.__name__ for compute in page.SECTIONS} | {"page", "summary", "macros"}


def test_a_marker_without_a_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="'study' is undefined"):
        page.render("comparison", {"rows": [], "gap": 0, "ahead": [], "behind": [], "lowest_step": 1, "last_step": 1})


# ---------------------------------------------------------------- values of what was trained


def test_the_comparison_is_that_of_the_file(folder):
    retnet, transformer = read(folder, "compare.json")["rows"]
    found = studies.comparison(folder)
    gap = statistics.fmean(retnet["held_out"]) - statistics.fmean(transformer["held_out"])
    assert found["gap"] == pytest.approx(gap)
    assert gap > 0
    assert found["ahead"] == [250, 500, 750, 1000, 1250]
    assert found["behind"] == [1500, 1750, 2000]
    assert (found["lowest_step"], found["last_step"]) == (1500, 2000)
    assert found["rows"][0]["lowest"][0] == pytest.approx(retnet["lowest"])
    assert found["passes"] == found["tokens"] / found["corpus_bytes"]
    for row in found["rows"]:
        assert row["bytes_per_second"] * row["seconds"] == pytest.approx(found["tokens"])
    for gap, words in ((0.25, "0.250 bits per byte behind"), (-0.25, "0.250 bits per byte ahead of")):
        assert f"At the end RetNet is {words} the Transformer." in page.render("comparison", found | {"gap": gap})


def test_a_model_that_learns_no_better_is_nowhere_ahead(folder):
    with changed(folder, "compare.json") as study:
        for row in study["rows"]:
            row["evaluations"] = [[[step, 2.0] for step, _ in each] for each in row["evaluations"]]
    found = studies.comparison(folder)
    assert found["ahead"] == []
    assert "is ahead" not in page.render("comparison", found)


def test_how_often_a_text_is_read_is_known_for_the_text_of_the_card_alone(folder):
    with changed(folder, "compare.json") as study:
        study["settings"]["corpus"] = "another"
    found = studies.comparison(folder)
    assert found["passes"] is None
    assert "A run reads" not in page.render("comparison", found)


def test_the_curves_are_the_evaluations(folder):
    study = read(folder, "compare.json")
    lines = page.curves(study).axes[0].lines
    assert [line.get_xydata().tolist() for line in lines] == [
        [list(map(float, point)) for point in each] for row in study["rows"] for each in row["evaluations"]
    ]


def test_other_ablations_make_other_verdicts(folder):
    found = studies.ablations(folder)
    assert variants(found["not_reproduced"]) == ["no group norm"]
    assert [row["worse_seeds"] for row in found["study"]["rows"]] == [0, 3, 2, 3, 3, 3, 3, 3]
    assert variants(found["order"])[0] == variants(found["quoted_order"])[0] == "no decay"
    assert "| no gate | 9,048,192 |" in page.page(folder)
    with changed(folder, "ablations.json") as study:
        first, other = study["rows"][:2]
        other["held_out"] = [loss - 0.5 for loss in first["held_out"]]
        other["mean"], other["over"], other["over_deviation"] = first["mean"] - 0.5, -0.5, 0.0
    found = studies.ablations(folder)
    assert variants(found["not_reproduced"]) == ["no gate", "no group norm"]
    assert variants(found["order"])[-1] == "no gate"
    (line,) = (line for line in page.page(folder).splitlines() if line.startswith("| no gate | 9,048,192 |"))
    assert line.endswith("| -0.500 ± 0.000 | 0 of 3 | 27.84 † | 3.509 † |")


def test_what_is_reproduced_is_read_from_what_is_quoted(folder):
    def reproduced():
        found = studies.ablations(folder)
        return [(names, variants(rows)) for names, rows in found["reproduced"]], variants(found["not_quoted"])

    perplexity, loss = "perplexity, 200M", "loss, 400M"
    assert reproduced() == (
        [
            ([perplexity, loss], ["no gate", "no decay", "one decay for all heads", "narrow heads"]),
            ([perplexity], ["linear attention"]),
        ],
        ["no rotation"],
    )
    with changed(folder, "ablations.json") as study:
        rows = {row["variant"]: row for row in study["rows"]}
        rows["no gate"]["quoted"][loss] = rows["RetNet"]["quoted"][loss] - 0.1
        rows["linear attention"]["quoted"] = {}
    assert reproduced() == (
        [([perplexity], ["no gate"]), ([perplexity, loss], ["no decay", "one decay for all heads", "narrow heads"])],
        ["no rotation", "linear attention"],
    )


def test_the_best_learning_rate_has_the_lowest_loss_and_a_run_may_diverge(folder):
    with changed(folder, "sweep_demo.json") as results:
        results["rows"][1]["held_out"] = None
    sweep = studies.learning_rates(folder)["sweeps"][2]
    retnet = sweep["models"][0]
    assert retnet["losses"][sweep["rates"][1]] is None
    assert retnet["losses"][retnet["best"]] == min(filter(None, retnet["losses"].values()))
    assert "| 0.5 M | retnet | 2.024 | - | **2.014** | 2.042 |" in page.page(folder)


# ---------------------------------------------------------------- values of what it costs


def test_retnet_is_compared_with_the_transformer_of_the_same_terms(folder):
    found = costs.training(folder)
    rows = found["results"]["rows"]
    assert len(found["pairs"]) == 6

    def terms(row):
        return row["time"], row["compiled"], row["cuda_graph"]

    for pair in found["pairs"]:
        retnet, other = pair["retnet"], pair["transformer"]
        assert (retnet["model"], other["model"]) == ("retnet", "transformer")
        assert terms(retnet) == terms(other)
        assert pair["speed"] == retnet["tokens_per_second"] / other["tokens_per_second"]
        alike = [row for row in rows if terms(row) == terms(other)]
        rates = [row["tokens_per_second"] for row in alike if row["model"] == "retnet" and row["status"] == "measured"]
        assert retnet["tokens_per_second"] == max(rates)
    decoded = costs.decoding(folder)["pairs"]
    assert len(decoded) == 15
    assert all(pair["retnet"]["context"] == pair["transformer"]["context"] for pair in decoded)


def test_what_a_spread_is_stands_once_on_the_page(folder):
    assert page.page(folder).count("± is") == 1
    with changed(folder, "training.json") as results:
        results["rows"][0]["rounds"] = 2
    assert set(costs.training(folder)["rounds"]) == {2, 7}
    assert "median of 2 to 7 rounds" in page.page(folder)
    with changed(folder, "training.json") as results:
        [row.update(status="failed") for row in results["rows"]]
    assert "±" not in "\n".join(section(page.page(folder), "Training speed"))


def test_workspace_is_the_difference_of_rows_that_keep_the_same_bytes(folder):
    with changed(folder, "decoding.json") as results:
        for row in results["rows"]:
            row["peak_bytes"] = row["weight_bytes"] + row["past_bytes"]
    assert costs.decoding(folder)["workspace"] == 0
    assert "libraries set aside" not in page.page(folder)
    with changed(folder, "decoding.json") as results:
        results["rows"][0]["peak_bytes"] += 3 * 2**20
    assert costs.decoding(folder)["workspace"] == 3 * 2**20
    assert "3.0 MiB" in "\n".join(section(page.page(folder), "Decoding"))


def test_rows_that_stopped_at_another_limit_than_memory_are_named(folder):
    def end_at(limit):
        with changed(folder, "decoding.json") as results:
            for row in results["rows"]:
                row |= {"limit": limit} if row["largest"] else {}

    most = [row["batch"] for row in read(folder, "decoding.json")["rows"] if row["largest"]]
    end_at("the edge of a test")
    (found,) = costs.decoding(folder)["limits"]
    assert found["limit"] == "the edge of a test"
    assert sorted(found["batches"]) == sorted(most)
    assert [model["contexts"] for model in found["models"]] == [None] * 4
    assert f"{min(most):,} to {max(most):,} sequences" in page.page(folder)
    end_at("memory")
    assert costs.decoding(folder)["limits"] == []


def test_a_row_above_its_floor_is_explained_and_only_then(folder):
    def set_share(value):
        with changed(folder, "kernels.json") as results:
            for row in results["rows"]:
                if (row["name"], row["what"], row["batch"]) == ("fused kernels", "step", 1) and row["cuda_graph"]:
                    row["share_of_roofline"] = value
                elif row["share_of_roofline"]:
                    row["share_of_roofline"] = min(row["share_of_roofline"], 1.0)

    set_share(1.25)
    (row,) = costs.kernels(folder)["above_floor"]
    assert (row["share_of_roofline"], row["state_bytes"]) == (1.25, 8 * 2**20)
    text = page.page(folder)
    assert "- fused kernels, large, step, batch 1, CUDA graph, at 125.0%, with a state of 8.0 MiB\n" in text
    set_share(1.0)
    assert costs.kernels(folder)["above_floor"] == []
    assert "above 100%" not in page.page(folder)


def test_kernels_are_compared_with_peers_that_do_the_same(folder):
    case = {"what": "forward", "shape": "small", "time": 8192, "cuda_graph": True}
    with changed(folder, "kernels.json") as results:
        results["rows"] = [row for row in results["rows"] if row | case == row]
        seconds = {row["name"]: row["seconds"]["median"] for row in results["rows"]}
    (found,) = costs.kernels(folder)["ratios"]
    fused = seconds["fused kernels"]
    assert found["what"] == "forward"
    assert found["fla"] == [seconds["flash-linear-attention"] / fused]
    assert found["attention"] == [min(seconds["flash attention"], seconds["cuDNN attention"]) / fused]


def test_a_later_run_of_one_shape_stands_below_the_first(folder):
    """Its own shares of the floor, by how the kernels are called, and how many rows it did not reach."""
    with changed(folder, "kernels_small.json") as results:
        for row in results["rows"]:
            if row["name"] == "fused kernels" and row["what"] == "forward":
                row["share_of_roofline"] = row["time"] / 2**17 if row["cuda_graph"] else 0.25
        results["rows"][-1]["status"] = "left out"
    (found,) = (each for each in costs.kernels(folder)["again"] if each["shape"] == "small")
    assert found["ratios"][0]["shares"] == {False: [0.25] * 3, True: [1 / 64, 1 / 16, 0.5]}
    text = page.page(folder)
    assert re.search(r"^\| small \| forward \| .* \| 25% \| 2% to 50% \|$", text, re.MULTILINE)
    assert f"Not measured: 1 of {len(results['rows'])} rows; kernels_small.json says why.\n" in text


def test_the_ladder_shows_what_was_predicted_and_what_failed(folder):
    with changed(folder, "ladder.json") as results:
        tuned = results["versions"]["v4_tuned"]
        results["versions"]["v3_fused"] = {"predicted_ms": 0.7, "prediction": "why", "failed": "ArithmeticError: off"}
        results["versions"]["v2_chunks"] = {"failed": "at a shape that nothing was predicted of"}
    text = page.page(folder)
    assert f"| v4_tuned | {tuned['predicted_ms']:g} | {tuned['median']:.3f} |" in text
    assert "| v3_fused | 0.7 | failed: ArithmeticError: off |  |  |  |" in text
    assert "| v2_chunks |  | failed: at a shape that nothing was predicted of |  |  |  |" in text
    assert "| | predicted, ms | ms | spread, ms | of floor | error |" in text
    assert "from the 10th to the 90th percentile" in " ".join(text.split())
    assert results["floor_ms"] / tuned["median"] == pytest.approx(tuned["share_of_roofline"])


# ---------------------------------------------------------------- values of several GPUs


def test_rows_that_raised_are_shown_with_their_words(folder):
    """Such a row has no dtype and no speeds: `attempt` of gpu.check_processes keeps what it was given and why it failed."""
    with changed(folder, "processes.json") as results:
        for row in results["rows"]:
            if (row["what"], row.get("dtype")) == ("training, data", "float64"):
                row["failed"] = "norms off by 3"
            if row["what"] in ("sequence-parallel retention", "scaling, data"):
                kind = row["what"].partition(",")[0]
                row.clear()
                row |= {"what": kind, "with": ["data", "3"], "failed": "process 1: RuntimeError: two\nlines"}
    found = costs.processes(folder)
    assert [row["what"] for row in found["off"]] == ["training, data"]
    assert [row["what"] for row in found["raised"]] == ["sequence-parallel retention"] * 3 + ["scaling"] * 2
    assert [row["what"] for row in found["scaling"]] == ["sharded", "sequence"] * 2
    lines = section(page.page(folder), "Several GPUs")
    assert "- sequence-parallel retention, data, 3: process 1: RuntimeError: two lines" in lines
    assert "- scaling, data, 3: process 1: RuntimeError: two lines" in lines
    assert "- training, data in float64: norms off by 3" in lines
    sharded = next(row for row in read(folder, "processes.json")["rows"] if row["what"] == "scaling, sharded")
    speeds = [sharded[f"tokens/s, {name}"] for name in ("one process", "2 times the batch_size", "same batch")]
    ranges = [sharded[f"efficiency from, to, {name}"] for name in ("2 times the batch_size", "same batch")]
    shares = [
        f"{speed:,.0f} ({speed / speeds[0] / 2:.0%}, {low:.0%} to {high:.0%})"
        for speed, (low, high) in zip(speeds[1:], ranges, strict=True)
    ]
    assert f"| sharded | 8,192 | 16 | {speeds[0]:,.0f} | {shares[0]} | {shares[1]} |" in lines

    with changed(folder, "processes.json") as results:
        results["rows"] = [{"what": "scaling_row", "with": ["data", "3"], "failed": "it did not come to an end"}]
    found = costs.processes(folder)
    assert (found["scaling"], found["loss_errors"]) == ([], [])
    text = page.page(folder)
    assert "- scaling_row, data, 3: it did not come to an end" in section(text, "Several GPUs")
    assert "|" not in "\n".join(section(text, "Several GPUs"))


def test_rows_timed_in_rounds_say_their_spread_and_what_a_step_is_made_of(folder):
    """One baseline a window; a single window, which is not shared out, has no speed for the same batch."""
    common = {"window": 8192, "batch": 1, "rounds": 5}
    parts = {"alone": 100.0, "together": 104.0, "retentions": 20.0, "totals": 1.5, "exchanges": 0.5}
    with changed(folder, "processes.json") as results:
        results["rows"] = [
            {"what": f"scaling, {kind}", **common, "tokens/s, one process": 1000.0}
            | rates("2 times the x", [1800.0, 1900.0, 1850.0], [1000.0] * 3, 2)
            | rates("same batch", [1500.0] if kind == "sequence" else None, [1000.0], 2)
            for kind in ("data", "sequence")
        ] + [
            {"what": "a step in parts, sequence", **common}
            | {f"ms, {name}": x for name, x in (parts | {"all_reduce of gradients": 0.7, "unexplained": 2.0}).items()}
        ]
    found = costs.processes(folder)
    assert [row["what"] for row in found["longest"]] == ["data", "sequence"]
    lines = section(page.page(folder), "Several GPUs")
    assert "| data | 8,192 | 1 | 1,000 | 1,850 (92%, 90% to 95%) | not divided |" in lines
    assert "| sequence | 8,192 | 1 | 1,000 | 1,850 (92%, 90% to 95%) | 1,500 (75%, 75%) |" in lines
    assert "| 8,192 | 100.00 | 104.00 | 20.00 | 1.50 | 0.50 | 0.70 | 2.00 |" in lines
    assert "On 8 GPUs LASP-2 reaches 87% and ZeCO 95% of" in " ".join(lines)
    shown = processes_figure(read(folder, "processes.json")).axes[0]
    drawn = {tuple(line.get_ydata()) for line in shown.lines}
    assert {(0.925,), (0.75,)} <= drawn


# ---------------------------------------------------------------- the files


def test_what_the_page_says_of_every_file_is_true_of_every_file(folder):
    for path in {*folder.glob("*.json")} - {folder / "corpus.json"}:  # which holds no measurement
        results = read(folder, path.name)
        assert results["device"]
        assert results.get("torch") or results["versions"]["torch"]


@pytest.mark.parametrize("name", ["ladder.json", "processes.json"])
def test_a_command_is_that_of_the_file_where_it_is_kept(folder, name):
    with changed(folder, name) as results:
        results["command"] = "typed in a test"
    assert "`typed in a test`" in page.page(folder)
    with changed(folder, name) as results:
        del results["command"]
    module = {"ladder.json": "gpu.kernel_ladder`", "processes.json": "gpu.check_processes`"}[name]
    assert f"-m {module}" in page.page(folder)


def test_the_readme_says_how_large_the_measured_models_are(folder):
    readme = (page.FOLDER / "../README.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"at about (\d+) M parameters", readme)
    for name in ("training.json", "decoding.json"):
        counts = [row["parameters"] / 1e6 for row in read(folder, name)["rows"] if "parameters" in row]
        assert counts == pytest.approx([float(said)] * len(counts), rel=0.05)
