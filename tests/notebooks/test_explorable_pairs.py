"""Pairs against the width of a state: predictions are those of refimpl, measurements those of the record."""

import json

import numpy as np
import pytest
from explorables import Pairs
from explorables.node import compute
from paths import ROOT

from refimpl.training.capacity import exact_pairs, predicted
from refimpl.training.train import TrainConfig

SETTINGS = [{"width": width, "pairs": pairs} for width in range(5) for pairs in (0, 2, 3, 6)]


@pytest.fixture(scope="module")
def study():
    return json.loads((ROOT / "gpu" / "results" / "recall.json").read_text(encoding="utf-8"))


def test_numbers_are_those_of_the_formulas_and_of_the_record(study):
    data, settings = Pairs.course_data(), study["settings"]
    for values, got in zip(SETTINGS, compute(Pairs, *SETTINGS, data=data), strict=True):
        key_dim, heads = 4 * 2 ** values["width"], settings["num_heads"]
        pairs = min(2 ** values["pairs"], data["pairs"][-1])
        room = TrainConfig(
            task="recall", pairs=(pairs,), window=max(settings["window"], 4 * pairs), key_dim=key_dim, value_dim=2 * key_dim,
            vocab_size=settings["vocab_size"], dim=settings["dim"], num_heads=heads, rotation=settings["rotation"],
            gamma_schedule=settings["gamma_schedule"],
        )  # fmt: skip
        alike = {"model": "retnet", "key_dim": key_dim, "value_dim": 2 * key_dim, "num_heads": heads}
        rows = [row for row in study["rows"] if alike.items() <= (settings | row["settings"]).items()]
        shares = [np.mean([each for each in row["accuracy_by_pairs"] if each], axis=0) for row in rows]
        measured = [each[settings["pairs"].index(pairs)] for each in shares if pairs in settings["pairs"]]
        want = {
            "key_width": key_dim, "asked_for": pairs, "limited": pairs < 2 ** values["pairs"], "numbers": heads * key_dim * 2 * key_dim,
            "cache": 2 * settings["dim"] * 2 * pairs, "equal": heads * key_dim * 2 * key_dim / (4 * settings["dim"]),
            "exact": exact_pairs(key_dim, heads), "least": predicted(room, pairs, False), "most": predicted(room, pairs),
            "chance": 1 / pairs,
            "measured": measured[0] if measured else None,
        }  # fmt: skip
        assert got.keys() == want.keys()
        for name, value in want.items():
            assert got[name] == (None if value is None else pytest.approx(value, abs=1e-6)), (values, name)


def test_every_trained_model_is_drawn(study):
    models = Pairs.course_data()["models"]
    assert [model["name"] for model in models] == [
        row["variant"] for row in study["rows"] if any(row["accuracy_by_pairs"])
    ]
    for model in models:
        assert len(model["shares"]) == len(study["settings"]["pairs"])
        assert all(0 <= share <= 1 for share in model["shares"])
