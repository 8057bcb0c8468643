"""A scaling study on made-up runs: the plan's sizes and rates, what a stopped one repeats, and laws of known answer."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from paths import ROOT

from gpu.evidence import scaling
from gpu.models.baseline import parameters
from gpu.models.build import _shape
from gpu.training.config import RunConfig

PLAN = """
vocab_size = 256
batch_size = 4
window = 16
[plan]
tokens_per_parameter = 2
learning_rates = [4e-3, 1e-3, 2e-3, 5e-4]
warmup_shares = [0.0, 0.1]
[sizes.a]
dim = 16
num_layers = 2
num_heads = 2
seeds = [0, 1, 2]
[sizes.b]
dim = 32
num_layers = 2
num_heads = 2
seeds = [0, 1]
[sizes.c]
dim = 64
num_layers = 2
num_heads = 2
seeds = [0, 1]
[sizes.d]
dim = 64
num_layers = 5
num_heads = 2
[models.RetNet]
[models.Transformer]
model = "transformer"
sizes.d = { num_heads = 4 }
"""
LAWS = {"retnet": (0.5, 9.0, 0.2), "transformer": (0.5, 4.0, 0.12)}  # equal where N^0.08 = 9/4: at 25 thousand


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN)
    return scaling.read_plan(tmp_path / "plan.toml")


def loss(config):
    """A made-up run: a law, a best rate that falls with the root of the width, a better warm-up, and seeds that differ."""
    floor, scale, exponent = LAWS[config.model]
    best = 2e-3 * (16 / config.dim) ** 0.5
    off = 0.05 * np.log(config.learning_rate / best) ** 2 + 0.01 * (config.warmup == 0)
    seed = np.random.default_rng([config.seed, config.dim]).normal() * 1e-3
    return floor + scale * scaling.body(config) ** -exponent + off + seed


@pytest.fixture
def made_up(monkeypatch):
    """Runs that take no time; a list of the names that were trained."""
    trained = []

    def run_all(runs, out, devices, console=None, finished=lambda results: None, fresh=False):
        results = {}
        for name, config in runs.items():
            trained.append(name)
            assert (config.seed == 3) is (out.name == "rates")  # rates are chosen by a seed that no size has
            results[name] = {
                "parameters": scaling.body(config) + 2 * 256 * config.dim, "seconds": 1.0, "evaluations": [[1, 2.0]],
                "bits_per_byte": {"held_out": loss(config)}, "device": "none", "versions": {},
            }  # fmt: skip
            finished(results)
        return results

    monkeypatch.setattr(scaling, "run_all", run_all)
    return trained


def test_the_plan_says_what_runs(plan):
    assert plan.sizes == ["a", "b", "c", "d"]
    config = plan.run("Transformer", "d", 1e-3, 0.1, seed=1)
    assert (config.model, config.num_heads, config.once, config.seed) == ("transformer", 4, True, 1)
    assert abs(config.steps * 4 * 16 - 2 * scaling.body(config)) <= 32
    assert config.warmup == round(0.1 * config.steps)
    assert plan.run("RetNet", "d", 1e-3, 0.1).num_heads == 2


def test_sizes_of_the_study_are_matched_within_one_per_cent():
    plan = scaling.read_plan(ROOT / "gpu" / "studies" / "scaling.toml")
    counts = []
    for size in plan.sizes:
        ours, theirs = (plan.run(model, size, 1e-3, 0.02) for model in plan.models)
        counts.append(scaling.body(ours))
        other = parameters(_shape(theirs)) - 2 * theirs.vocab_size * theirs.dim
        assert other == pytest.approx(counts[-1], rel=0.01)
        assert (ours.steps, ours.batch_size, ours.window) == (theirs.steps, theirs.batch_size, theirs.window)
        assert ours.steps * ours.batch_size * ours.window == pytest.approx(20 * counts[-1], rel=0.01)
    steps = [big / small for small, big in itertools.pairwise(counts)]
    assert len(counts) >= 4
    assert all(2 <= step <= 3 for step in steps), steps
    assert [len(seeds) for seeds in plan.seeds.values()][:2] == [3, 3]


def test_rates_are_found_at_two_sizes_and_carried_on(plan, made_up, tmp_path):
    results = scaling.run_plan(plan, tmp_path, ["cpu"], command="as typed")
    assert json.loads((tmp_path / "scaling.json").read_text()) == json.loads(json.dumps(results))
    assert len(made_up) == 2 * 2 * 4 * 2 + 2 * (3 + 2 + 2 + 1)
    for model in plan.models:
        rates = [results["chosen"][model][size][0] for size in plan.sizes]
        assert rates[0] == pytest.approx(2e-3, rel=0.02)
        assert rates[1] == pytest.approx(2e-3 * 0.5**0.5, rel=0.02)
        counts = [scaling.body(plan.run(model, size, 1.0, 0.0)) for size in plan.sizes]
        power = np.log(rates[1] / rates[0]) / np.log(counts[1] / counts[0])
        np.testing.assert_allclose(rates[2:], [rates[1] * (n / counts[1]) ** power for n in counts[2:]], rtol=0.01)
        assert {share for _, share in results["chosen"][model].values()} == {0.1}
    assert all(row["evaluations"] and row["seconds"] and row["flops"] for row in results["rows"])
    assert {"command", "device", "versions", "trials", "plan"} <= results.keys()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("[sizes.a]", "[sizes]\ne = 3\n[sizes.a]", r"sizes\.e must be a table of keys, got 3"),
        ("[models.RetNet]", "[models]\nGRU = 3\n[models.RetNet]", r"models\.GRU must be a table of keys, got 3"),
        ("[models.RetNet]", "[models.RetNet]\nsizes = 3", r"models\.RetNet\.sizes must be a table of keys, got 3"),
        ("[models.RetNet]", "[models.RetNet]\nsizes.a = 3", r"models\.RetNet\.sizes\.a must be a table of keys, got 3"),
    ],
)
def test_what_is_no_table_is_named(before, after, message, tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN.replace(before, after, 1))
    with pytest.raises(TypeError, match=message):
        scaling.read_plan(tmp_path / "plan.toml")


def test_a_text_too_short_for_the_largest_size_is_known_before_the_first_run(plan, made_up, tmp_path):
    with pytest.raises(ValueError, match=r"once: steps x batch_size x window = .* fewer steps, or a longer text"):
        scaling.run_plan(plan._replace(tokens_per_parameter=30), tmp_path, ["cpu"])
    assert not made_up


def test_a_rate_never_rises_with_the_size():
    assert scaling.transferred([1e6, 4e6, 9e6], 1e-3, 2e-3) == [1e-3, 2e-3, 2e-3]
    assert scaling.transferred([1e6, 4e6, 16e6], 8e-3, 1e-3) == [8e-3, 1e-3, 5e-4]
    assert scaling.lowest({1e-3: 1.0, 2e-3: 1.1}) == 1e-3


def test_a_model_that_always_diverges_is_named(plan):
    trials = [
        {"model": model, "size": size, "learning_rate": 1e-3, "warmup_share": 0.0, "held_out": None if model == "RetNet" else 1.0}
        for model in plan.models for size in ("a", "b")
    ]  # fmt: skip
    with pytest.raises(
        ValueError, match="learning_rates: every run of RetNet diverged at a size; lower rates are needed"
    ):
        scaling.choose(plan, trials)


def test_the_analysis_finds_the_laws_and_their_crossing(plan, made_up, tmp_path):
    found = scaling.analysis(scaling.run_plan(plan, tmp_path, ["cpu"]))
    for name, (floor, scale, exponent) in zip(plan.models, LAWS.values(), strict=True):
        low, middle, high = found["models"][name]["laws"]["floor"]["exponent"]
        assert low < middle < high
        assert middle == pytest.approx(exponent, abs=0.02)  # the transferred rates are not the best ones
        x = np.array(found["x_drawn"])
        bottom, _, top = np.array(found["models"][name]["laws"]["floor"]["curve"])
        inside = (bottom <= floor + scale * x**-exponent) & (floor + scale * x**-exponent <= top)
        assert inside[:10].all()  # near the sizes that were run
        assert abs(found["models"][name]["missed"]["floor"]) < 0.05
    truth = (9 / 4) ** (1 / 0.08)
    crossing = found["crossing"]["floor"]
    assert crossing["share"] > 0.9
    assert crossing["quantiles"][0] < truth < crossing["quantiles"][2]
    gaps = {x: gap for x, gap, _ in found["gaps"]}
    first, last = min(gaps), max(gaps)
    assert gaps[first] > 0 > gaps[last]
    assert found["change"][0] == pytest.approx(gaps[last] - gaps[first])
    assert found["change"][1][2] < 0
    others = scaling.analysis(scaling.run_plan(plan, tmp_path, ["cpu"]), against="flops")
    assert min(others["models"]["RetNet"]["x"]) > 1e9


def test_gaps_are_of_one_size_where_a_model_lacks_runs_of_another(plan, made_up, tmp_path):
    results = scaling.run_plan(plan, tmp_path, ["cpu"])
    whole = scaling.analysis(results)["gaps"]
    rows = [row for row in results["rows"] if (row["model"], row["size"]) != ("Transformer", "a")]
    some = scaling.analysis(results | {"rows": rows})["gaps"]
    assert [gap[:2] for gap in some] == [gap[:2] for gap in whole[1:]]
    assert scaling.analysis(results | {"rows": [row for row in rows if row["model"] == "RetNet"]})["change"] is None


def test_more_tokens_or_wider_heads_cost_more():
    config = RunConfig(dim=64, num_layers=3, num_heads=2, window=128, vocab_size=512)
    count = scaling.body(config)
    retnet = scaling.training_flops(config, count)
    assert retnet > 6 * (count + 512 * 64)
    transformer = dataclasses.replace(config, model="transformer")
    longer = dataclasses.replace(transformer, window=256)
    assert scaling.training_flops(longer, count) > scaling.training_flops(transformer, count)
    assert scaling.training_flops(dataclasses.replace(config, window=256), count) == retnet


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("tokens_per_parameter", "tokens", "plan: unknown key 'tokens'"),
        ("learning_rates = [4e-3, 1e-3, 2e-3, 5e-4]", "learning_rates = []", r"learning_rates must be a list of numbers, got \[\]"),
        ("tokens_per_parameter = 2", "tokens_per_parameter = 0", "tokens_per_parameter must be above 0, got 0"),
        ("warmup_shares = [0.0, 0.1]", "warmup_shares = [0.0, 10]", r"warmup_shares must be shares of a run below 1, got \[0.0, 10\]"),
        ("seeds = [0, 1, 2]", "seeds = [0, 0]", r"seeds must be a list of different integers, got \[0, 0\] for size 'a'"),
        ("seeds = [0, 1, 2]", "seeds = 3", "seeds must be a list of different integers, got 3 for size 'a'"),
        ("dim = 16", "dim = 96", "sizes must go from the smallest to the largest"),
        ("window = 16", "window = 16\nsteps = 3", "steps must be left to the plan"),
        ("sizes.d =", "sizes.e =", "sizes of Transformer must be among a, b, c, d, got 'e'"),
        ("batch_size", "batchsize", "unknown key 'batchsize'"),
        ("[models.RetNet]\n[models.Transformer]\nmodel = \"transformer\"\nsizes.d = { num_heads = 4 }", "", "models must be a table"),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused(before, after, message, tmp_path):
    (tmp_path / "plan.toml").write_text(PLAN.replace(before, after, 1))
    with pytest.raises(ValueError, match=message):
        scaling.read_plan(tmp_path / "plan.toml")
