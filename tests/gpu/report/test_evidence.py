"""The sections on evidence, from made-up results of known answer."""

import re

import jinja2.meta
import numpy as np
import pytest
from recipes import recipe_results

from gpu.report import evidence, page

SIZES = {"a": 2e6, "b": 5e6, "c": 10e6, "d": 22e6}


def made_up(gap=0.05, noise=1e-3):
    """Results of two models on one law, the first one `gap` above the other."""
    rng, rows = np.random.default_rng(0), []
    for size, parameters in SIZES.items():
        for seed in range(2):
            for model, over in (("RetNet", gap), ("Transformer", 0.0)):
                loss = 0.6 + 30 * parameters**-0.3 + over + noise * rng.standard_normal()
                rows.append(
                    {
                        "model": model, "size": size, "seed": seed, "parameters": int(parameters), "tokens": int(20 * parameters),
                        "flops": 120 * parameters**2, "learning_rate": 1e-3, "held_out": loss, "evaluations": [[1, loss]],
                        "seconds": 10.0,
                    }
                )  # fmt: skip
    trial = {
        "model": "RetNet",
        "size": "a",
        "learning_rate": 1e-3,
        "warmup_share": 0.1,
        "held_out": None,
        "seconds": 5.0,
    }
    return {"rows": rows, "trials": [trial], "device": "a device", "versions": {"torch": "2"}, "command": "as typed"}


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        (
            0.05,
            r"at 22\.0 million parameters RetNet is 0\.0(49|50|51) bits per byte behind the Transformer \(\+0\.04\d to \+0\.05\d\); ",
        ),
        (-0.05, r"RetNet is 0\.0(49|50|51) bits per byte ahead of the Transformer \(-0\.05\d to -0\.04\d\); "),
        (0.0, r"which is no difference that these runs can tell from zero \(-0\.00\d to \+0\.00\d\); "),
    ],
)
def test_the_answer_says_who_is_ahead_and_whether_that_is_settled(gap, said):
    text = page.render("scaling", evidence.scaling_values(made_up(gap)))
    assert re.search(said, text)
    assert "| RetNet | a | 0.001 | 10% | diverged |" in text
    assert "in 165 seconds of runs, by `as typed`" in text
    assert "from the smallest size to the largest the difference changes by " in text


def context_results():
    lengths = [
        {"length": n, "edges": [0, n // 2, n], "mean": [1.4, 1.2], "error": [0.01, None], "windows": 4, "whole": [1.3, 0.01]}
        for n in (512, 1024, 4096)
    ]  # fmt: skip
    lags = [(8, 0.2), (64, 0.05), (512, 0.01), (1024, 0.001)]
    forgets = [{"lag": lag, "head": head, "over": over, "error": 0.006} for head in (None, 0) for lag, over in lags]
    rows = [
        {"run": "x", "model": "retnet", "window": 1024, "seed": 0, "lengths": lengths,
         "forgets": {"length": 4096, "windows": 9, "whole": [1.2, 0.01], "rows": forgets}},
        {"run": "y", "model": "transformer", "window": 1024, "seed": 0, "lengths": lengths[:2]},
    ]  # fmt: skip
    return {"rows": rows, "device": "a device", "versions": {"torch": "2"}, "command": "as typed"}


def test_every_marker_is_filled_and_every_value_is_used():
    for name, values in (
        ("scaling", evidence.scaling_values(made_up())),
        ("context", evidence.context_values(context_results())),
        ("recall", evidence.recall_values(recall_results())),
        ("recipe", evidence.recipe_values(recipe_results())),
    ):
        source = (page.TEMPLATES / f"{name}.md").read_text(encoding="utf-8")
        markers = jinja2.meta.find_undeclared_variables(page.environment().parse(source)) - {"macros"}
        assert markers == values.keys()


def test_context_says_how_far_back_a_model_gains():
    values = evidence.context_values(context_results())
    assert values["rows"][0]["reach"] == {None: 512, 0: 512}
    text = page.render("context", values)
    assert (
        "- **RetNet, trained at 1,024:** 1.300 ± 0.010 bits per byte in windows of its own length; 1.300 at 4,096."
        in text
    )
    assert "Forgetting all that is 512 tokens back or more costs nothing that 9 windows can tell from zero." in text
    assert "| all | 8 | +0.200 ± 0.006 |" in text
    assert "| 1 | 64 | +0.050 ± 0.006 |" in text
    assert "- **Transformer, trained at 1,024:** 1.300 ± 0.010 bits per byte in windows of its own length." in text


def test_figures_show_every_run(tmp_path):
    figure = evidence.scaling_figure(made_up())
    left, right, curves = figure.axes
    assert len(curves.lines) == len(made_up()["rows"])
    points = [tuple(line.get_ydata()) for line in left.lines if line.get_linestyle() == "None"]
    assert sorted(y for ys in points for y in ys) == sorted(row["held_out"] for row in made_up()["rows"])
    assert right.get_xlabel() == "FLOPs of training"
    figure.savefig(tmp_path / "scaling.png")
    figure = evidence.context_figure(context_results())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "RetNet, trained at 1,024", "Transformer, trained at 1,024",
    ]  # fmt: skip
    figure.savefig(tmp_path / "context.png")


def recall_results():
    rows = [
        {
            "variant": "RetNet",
            "settings": {"vocab_size": 256},
            "accuracy_by_pairs": [[1.0, 0.5], [0.9, 0.6]],
            "evaluations": [[[1, 3.0], [2, 1.0]], [[1, 3.0], [2, 1.1]]],
            "numbers_kept": 128,
            "quoted": {"most": 0.61},
        },
        {
            "variant": "attention",
            "settings": {"vocab_size": 8192},
            "accuracy_by_pairs": [[1.0, 1.0], None],
            "evaluations": [[[2, 0.1]], None],
            "numbers_kept": 4096,
            "quoted": {},
        },
        {
            "variant": "gated",
            "settings": {"vocab_size": 256},
            "accuracy_by_pairs": [[0.2, 0.1], [1.0, 1.0]],
            "evaluations": [[[2, 3.0]], [[2, 0.0]]],
            "numbers_kept": 128,
            "quoted": {},
        },
        {
            "variant": "linear",
            "settings": {"vocab_size": 256},
            "accuracy_by_pairs": [None, None],
            "evaluations": [None, None],
            "numbers_kept": None,
            "quoted": {},
        },
    ]
    settings = {"pairs": [4, 8]}
    return {"rows": rows, "settings": settings, "seeds": [0, 1], "device": "a device", "versions": {"torch": "2"}, "command": "as typed"}  # fmt: skip


def test_recall_says_who_solves_what_others_fail():
    text = page.render("recall", evidence.recall_values(recall_results()))
    assert "of 8 pairs, *attention* answers at least 99 % rightly in every seed.\n" in text
    assert "Of the others the best is *RetNet* (50% to 60%) and the worst *gated* (10% to 100%).\n" in text
    assert "At least 80 % in every seed: 2 of 3 models with 4 pairs, 1 with 8.\n" in text
    assert "| RetNet | 0.90 to 1.00 | 0.50 to 0.60 | 128 | 0.61 |" in text
    assert "| attention | 1.00 | 1.00 | 4,096 |  |" in text
    assert "every run failed: linear." in text
    assert "What was tried" not in text
    tried = {"rows": [{"variant": "wider", "accuracy_by_pairs": [[0.7, 0.4]]}]}
    text = page.render("recall", evidence.recall_values(recall_results(), tried))
    assert "| wider | 0.70 | 0.40 |\n" in text.partition("What was tried")[2]
    assert "Why do hybrids fail" not in text
    hybrids = {"rows": [{"variant": "mixed", "accuracy_by_pairs": [[1.0, 0.9], [0.3, 0.1]]}]}
    text = page.render("recall", evidence.recall_values(recall_results(), None, hybrids))
    assert "more than 10 % of 8 pairs are answered by *mixed* in 1 of 2 seeds.\n" in text
    assert "| mixed | 1.00 0.30 | 0.90 0.10 |\n" in text
    few, many = evidence.recall_figure(recall_results()).axes[::2]
    middles = [line.get_ydata() for line in (*few.lines, *many.lines) if line.get_linestyle() in ("-", "--")]
    np.testing.assert_allclose(middles, [[0.95, 0.55], [0.6, 0.55], [1.0, 1.0]])


def test_the_recipe_says_which_rates_train_and_what_else_matters(tmp_path):
    text = page.render("recipe", evidence.recipe_values(recipe_results()))
    assert (
        "with a warm-up of 60 of 600 steps the best learning rate is 0.004, at 1.200 ± 0.001 bits per byte; "
        "rates from 0.002 to 0.008 end within 0.05 of that." in text
    )
    assert "- Without a warm-up the best rate ends 0.100 ± 0.002 bits per byte above that.\n" in text
    assert "- **Warm-up of 0 steps:** best at 0.002, 1.300 ± 0.001; within 0.05 from 0.002 to 0.002; the highest rate at which no run failed is 0.004" in text  # fmt: skip
    assert "; no run failed; 0.065 bits per byte lost" in text
    assert "- **depth initialisation:** -0.100 ± 0.002 at 0.002.\n" in text
    assert "- **products in float32:** +0.000 ± 0.002 (no difference) at 0.002.\n" in text
    assert "- **normal initialisation:** a run failed at 0.008.\n" in text
    assert "| other 2 | 0.008 | 60 | 1.900 |  | 5 | 3.00 | 99 | 1 of 2: stopped: the loss is nan at step 70 |" in text
    figure = evidence.recipe_figure(recipe_results())
    (axes,) = figure.axes
    labels = [each.get_text() for each in axes.get_legend().get_texts()]
    assert sorted(labels) == ["one other change", "warm-up of 0 steps", "warm-up of 60 steps"]
    lines = [
        line.get_ydata().tolist() for line in axes.lines if len(line.get_ydata()) > 2 and line.get_linestyle() == "-"
    ]
    np.testing.assert_allclose(lines[0], [1.5, 1.3, 2.0])  # the rate at which a seed failed is left out
    np.testing.assert_allclose(lines[1], [1.40, 1.22, 1.20, 1.24])
    figure.savefig(tmp_path / "recipe.png")


def test_a_recipe_without_a_difference_says_so():
    study = recipe_results()
    for row in study["rows"]:
        if row["settings"]["warmup"] == 0 and row["settings"]["learning_rate"] == 2e-3:
            row["held_out"], row["mean"] = [1.201, 1.203], 1.202
    text = page.render("recipe", evidence.recipe_values(study))
    assert "the highest that was tried" not in text
    assert "Without a warm-up the best rate ends 0.002 ± 0.002 bits per byte above that, which is no difference" in text
    study["rows"] = study["rows"][4:8]
    text = page.render("recipe", evidence.recipe_values(study))
    assert "the best rate ends" not in text
    for row in study["rows"]:
        row["held_out"], row["training"] = row["held_out"][:1], [None]
    text = page.render("recipe", evidence.recipe_values(study))
    assert "at 1.200 bits per byte" in text
    study["rows"] = study["rows"][:3]
    text = page.render("recipe", evidence.recipe_values(study))
    assert "the best learning rate is 0.004, the highest that was tried, at 1.200" in text
    assert "standard errors" not in text.split("</details>")[1]
