"""The race of a step: bytes are those of arrays of these shapes and of the record, times those of the record's copy."""

import json

import numpy as np
import pytest
from explorables import DecodingRace
from explorables.node import ask, compute, controls
from explorables.race import MOST
from paths import ROOT

PAPER = json.loads((ROOT / "gpu" / "results" / "paper.json").read_text(encoding="utf-8"))
ROWS = [row for row in PAPER["rows"] if row["section"] == "decoding" and row["status"] == "measured"]
SETTINGS = [
    {},
    {"context": 16, "batch": 0},
    {"context": 68, "batch": 8},
    {"share": "8", "wide": "2"},
    {"share": "4", "batch": 5, "context": 37},
    {"every": "16", "batch": 6},
    {"every": "16", "wide": "2", "share": "4", "context": 41},
]


def of_zeros(shape, bits):
    """Bytes of an array; strides of zero, so that a large one takes no memory."""
    return np.broadcast_to(np.dtype(f"f{bits // 8}").type(0), shape).nbytes


def moves(tokens, texts, share, bits, every, sizes):
    """(read, written, kept) of the pasts of both models, counted over `every` steps one after another.

    The first of these steps finds `every` tokens kept, writes them into the state and keeps its own.
    """
    layers, heads, dim = sizes["layers"], sizes["heads"], sizes["dim"]
    key = of_zeros((texts, layers, dim // share), 16)
    state = of_zeros((texts, layers, heads, sizes["key_dim"], sizes["value_dim"]), bits)
    row = of_zeros((texts, layers, heads, sizes["key_dim"] + sizes["value_dim"]), 16)
    read = written = 0
    for kept in (every, *range(1, every)):
        read += state + (kept * row if every > 1 else 0)
        written += (state if kept == every else 0) + (row if every > 1 else 0)
    return {
        "transformer": (2 * key * (tokens - 1), 2 * key, 2 * key * tokens // texts),
        "retnet": (read / every, written / every, (state + (every * row if every > 1 else 0)) // texts),
    }


def test_bytes_and_times_are_those_of_the_arrays():
    start = {control["name"]: control["value"] for control in controls(DecodingRace)}
    data = DecodingRace.course_data()
    for values, got in zip(SETTINGS, compute(DecodingRace, *SETTINGS), strict=True):
        now = start | values
        tokens, texts = round(2 ** (now["context"] / 4)), 2 ** now["batch"]
        settings = texts, int(now["share"]), 8 * int(now["wide"]), int(now["every"]), data["sizes"]
        want = moves(tokens, *settings)
        assert (got["tokens"], got["texts"]) == (tokens, texts)
        for name, (read, written, kept) in want.items():
            parts = {"weights": data["weights"][name], "read": read, "written": written}
            assert got["moved"][name] == pytest.approx(parts, rel=1e-12), values
            assert got["past"][name] == kept
            assert got["seconds"][name] == pytest.approx(sum(parts.values()) / data["bandwidth"], rel=1e-12)
            assert got["fit"][name] == (data["memory"] - data["held"][name]) // kept
            for place, seconds in got["lines"][name]:
                there = data["weights"][name] + sum(moves(place, *settings)[name][:2])
                assert seconds == pytest.approx(there / data["bandwidth"], rel=1e-12)
        one_token = sum(moves(1, *settings)["transformer"][:2])
        assert got["equal"]["moved"] == pytest.approx(sum(want["retnet"][:2]) / one_token, rel=1e-12)
        assert got["equal"]["kept"] == pytest.approx(want["retnet"][2] * texts / one_token, rel=1e-12)
        assert got["last"] == pytest.approx((data["memory"] - data["held"]["transformer"]) / one_token, rel=1e-12)


def test_a_step_moves_the_bytes_that_the_record_counted():
    """And a dot is drawn for each step that was measured with these settings."""
    plain = [row for row in ROWS if not row["largest"] and not row["compiled"]]
    settings = []
    for row in plain:
        share = row["heads"] // (row["kv_heads"] or row["heads"])
        place = {"context": 4 * (row["context"].bit_length() - 1), "batch": row["batch"].bit_length() - 1}
        settings.append(place | {"share": str(share)})
    for row, got in zip(plain, compute(DecodingRace, *settings), strict=True):
        model = row["model"]
        assert sum(got["moved"][model].values()) == row["moved_bytes"]
        assert got["past"][model] * got["texts"] == row["past_bytes"]
        assert got["seconds"][model] == pytest.approx(row["floor_seconds"], rel=1e-12)
        dots = [dot for dot in got["dots"] if (dot["model"], dot["tokens"]) == (model, row["context"])]
        assert [dot["seconds"] for dot in dots] == [row["seconds"]["median"]]


def test_as_many_texts_fit_as_were_measured():
    """Up to the little that the benchmark's step needs beside weights and pasts, and what each process finds free.

    The benchmark plans with what trial batches took for a text. Where that is more than a text keeps, fewer texts were planned.
    """
    most = [row for row in ROWS if row["largest"] and not row["compiled"]]
    shares = [row["heads"] // (row["kv_heads"] or row["heads"]) for row in most]
    settings = [
        {"context": 4 * (row["context"].bit_length() - 1), "share": str(share)}
        for row, share in zip(most, shares, strict=True)
    ]
    for row, got in zip(most, compute(DecodingRace, *settings), strict=True):
        tried = row["bytes_a_sequence"] * row["batch"] / row["past_bytes"]
        assert 1 <= tried < 1.12
        assert abs(got["fit"][row["model"]] / tried - row["batch"]) <= 1


def test_other_settings_have_no_dots_of_retnet_and_memory_is_that_of_the_benchmark():
    for values in ({"wide": "2"}, {"every": "16"}):
        assert "retnet" not in {dot["model"] for dot in compute(DecodingRace, values)[0]["dots"]}
    assert PAPER["settings"]["memory_share"] == MOST


def test_the_picture_says_what_was_not_measured():
    data = DecodingRace.course_data()
    start = {control["name"]: control["value"] for control in controls(DecodingRace)}
    settings = {"": {}, "RetNet": {"every": "16"}, "Transformer, RetNet": {"batch": 5}}
    questions = [{"what": "picture", "values": start | values, "data": data} for values in settings.values()]
    for missing, drawn in zip(settings, ask("race", questions), strict=True):
        assert (f"{missing}: not measured here" in drawn["svg"]) == bool(missing)
        assert ("not measured here" in drawn["svg"]) == bool(missing)
