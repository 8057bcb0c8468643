"""Pairs against the width of a state: predictions are those of refimpl, measurements those of the record."""

import json

import pytest
from explorables import Pairs
from explorables.node import compute
from paths import ROOT

from refimpl.training.capacity import exact_pairs, predicted
from refimpl.training.train import TrainConfig

SETTINGS = [
    {"width": width, "pairs": pairs, "tokens": tokens}
    for width in range(4)
    for pairs in (0, 3, 6)
    for tokens in ("256", "8192")
]


@pytest.fixture(scope="module")
def study():
    return json.loads((ROOT / "gpu" / "results" / "recall.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data():
    return Pairs.course_data()


def test_numbers_are_those_of_the_formulas_and_of_the_record(study, data):
    settings = study["settings"]
    for values, got in zip(SETTINGS, compute(Pairs, *SETTINGS, data=data), strict=True):
        key_dim, heads, pairs, tokens = 8 * 2 ** values["width"], 4, 2 ** values["pairs"], int(values["tokens"])
        room = TrainConfig(
            task="recall", pairs=(pairs,), window=settings["window"], key_dim=key_dim, value_dim=2 * key_dim,
            vocab_size=tokens, dim=settings["dim"], num_heads=heads, rotation=settings["rotation"],
            gamma_schedule=settings["gamma_schedule"],
        )  # fmt: skip
        alike = {
            "model": "retnet",
            "key_dim": key_dim,
            "value_dim": 2 * key_dim,
            "num_heads": heads,
            "vocab_size": tokens,
        }
        rows = [row for row in study["rows"] if alike.items() <= (settings | row["settings"]).items()]
        assert len(rows) == (tokens == 256 or key_dim == 32)
        measured = [
            seed[settings["pairs"].index(pairs)] for row in rows for seed in row["accuracy_by_pairs"] if pairs > 1
        ]
        want = {
            "key_width": key_dim, "asked_for": pairs, "numbers": heads * key_dim * 2 * key_dim,
            "cache": 2 * settings["dim"] * 2 * pairs, "equal": heads * key_dim * 2 * key_dim / (4 * settings["dim"]),
            "exact": exact_pairs(key_dim, heads), "least": predicted(room, pairs, False), "most": predicted(room, pairs),
            "chance": 1 / pairs, "measured": sorted(measured),
        }  # fmt: skip
        assert got.keys() == want.keys()
        for name, value in want.items():
            assert got[name] == pytest.approx(value, abs=1e-6), (values, name)


def test_every_trained_model_is_drawn(study, data):
    models = [model for part in data["vocabularies"].values() for model in part["models"]]
    trained = [row for row in study["rows"] if any(row["accuracy_by_pairs"])]
    assert sorted(model["shares"] for model in models) == [
        [pytest.approx(seed, abs=1e-6) for seed in shares]
        for shares in sorted(row["accuracy_by_pairs"] for row in trained)
    ]
    assert all(any(row["variant"].startswith(model["name"]) for row in trained) for model in models)
    assert not any("tokens" in model["name"] for model in models)
