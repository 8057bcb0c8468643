"""Laws through losses, and their crossings: every number is that of gpu.evidence.laws."""

import json

import numpy as np
from explorables import Crossing
from explorables.crossing import DRAWS
from explorables.node import compute
from paths import ROOT

from gpu.evidence import claims
from gpu.evidence.laws import LEVELS, PowerLaw, crossing, fit, seed_deviation
from gpu.evidence.scaling import drawn_means

SETTINGS = [
    {}, {"seeds": 1}, {"seeds": DRAWS}, {"seeds": 77, "law": "line"}, {"sizes": "short"}, {"law": "line", "sizes": "short"},
]  # fmt: skip
START = {"seeds": 0, "law": "floor", "sizes": "all"}


def test_numbers_are_those_of_the_laws():
    models = Crossing.course_data()["models"]
    every = [x for model in models for x in model["x"]]
    low, high = min(every), 1000 * max(every)
    for values, got in zip(SETTINGS, compute(Crossing, *SETTINGS), strict=True):
        now = START | values
        laws = []
        for model in models:
            end = len(model["x"]) - (now["sizes"] == "short")
            means, weights = np.array(model["means"]), model["weights"][:end]
            laws.append(fit(model["x"][:end], means[:, :end], weights=weights, floor=now["law"] == "floor"))
        rows = [PowerLaw(*(part[1:] for part in law)) for law in laws]
        here = [PowerLaw(*(part[now["seeds"]] for part in law)) for law in laws]
        for law, shown in zip(here, got["laws"], strict=True):
            np.testing.assert_allclose(list(shown.values()), law, rtol=1e-9, err_msg=str(values))
        np.testing.assert_allclose(
            got["here"], crossing(*(PowerLaw(*map(np.array, law)) for law in here), low, high)[0]
        )
        found = crossing(*rows, low, high)
        kept = np.sort(found[~np.isnan(found)])
        np.testing.assert_allclose(got["crossings"], kept, rtol=1e-9)
        np.testing.assert_allclose(got["share"], len(kept) / DRAWS)
        np.testing.assert_allclose(got["middle"], np.quantile(kept, LEVELS) if len(kept) else [np.nan] * 3, rtol=1e-9)
        np.testing.assert_allclose(got["grid"], np.geomspace(low, high, 61), rtol=1e-12)
        for law, band in zip(rows, got["bands"], strict=True):
            np.testing.assert_allclose(band, np.quantile(law(np.geomspace(low, high, 61)), LEVELS, axis=0).T, rtol=1e-9)
        apart = rows[0](np.geomspace(low, high, 61)) - rows[1](np.geomspace(low, high, 61))
        np.testing.assert_allclose(got["between"], np.quantile(apart, LEVELS, axis=0).T, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got["ahead"], np.mean(rows[0](2e9) < rows[1](2e9)), rtol=1e-12)
        missed = [
            model["means"][now["seeds"]][-1] - law(model["x"][-1]) for model, law in zip(models, here, strict=True)
        ]
        np.testing.assert_allclose(got["missed"], missed, rtol=1e-6, atol=1e-9)


def test_losses_and_draws_are_those_of_the_record_and_of_the_analysis():
    rows = json.loads((ROOT / "gpu" / "results" / "scaling.json").read_text(encoding="utf-8"))["rows"]
    models, again = Crossing.course_data()["models"], drawn_means(rows)
    assert [model["name"] for model in models] == list(again)
    for model in models:
        means, weights = again[model["name"]]
        np.testing.assert_allclose(model["weights"], weights, rtol=1e-12)
        np.testing.assert_allclose(model["means"][1:], means[:DRAWS], atol=1e-6)
        for x, mean in zip(model["x"], model["means"][0], strict=True):
            own = [row["held_out"] for row in rows if (row["model"], row["parameters"]) == (model["name"], x)]
            np.testing.assert_allclose(mean, np.mean(own), atol=1e-6)
    for place, size in enumerate(dict.fromkeys(row["size"] for row in sorted(rows, key=lambda row: row["parameters"]))):
        seeds = [[r["held_out"] for r in rows if (r["model"], r["size"]) == (m["name"], size)] for m in models]
        deviation, _ = seed_deviation(seeds)
        for model, own in zip(models, seeds, strict=True):
            np.testing.assert_allclose(model["errors"][place], deviation / np.sqrt(len(own)), atol=1e-6)


def test_errors_of_the_gap_are_those_of_lesson_14():
    measured = claims.losses()
    sizes = [name for name in measured if name.startswith("RetNet")]
    names = [(name, name.replace("RetNet", "Transformer")) for name in sizes]
    for error, (_, ours, theirs, median) in zip(
        Crossing.course_data()["gap_errors"], claims.trial(measured, *names), strict=True
    ):
        over = np.subtract(ours, theirs)
        np.testing.assert_allclose(error, max(over.std(ddof=1), median) / np.sqrt(len(over)), atol=1e-6)
