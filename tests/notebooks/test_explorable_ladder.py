"""What kernels move and keep: every byte and product is counted by walking the tiles, or by torch's own operators."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from explorables import Ladder
from explorables.ladder import PLANS, PREDICTED, REGISTER_BYTES, WORDS
from explorables.node import compute
from paths import ROOT

from gpu.bench.kernel_floor import least_bytes
from refimpl import retention_chunkwise
from refimpl.bench.flops import useful_flops
from refimpl.libraries import values_trusted

DATA = Ladder.course_data()
TIME, TOKENS, H, K, V = (DATA[name] for name in ("time", "tokens", "heads", "key_dim", "value_dim"))
START = {"plan": "operators", "step": 3, "chunk": 8, "columns": 7, "measured": "hidden"}
SETTINGS = [
    {"plan": plan, "chunk": chunk, "columns": columns}
    for plan in ("token", "states", "chip", "groups") for chunk, columns in ((4, 9), (6, 6), (6, 7), (7, 8), (9, 4))
]  # fmt: skip


class Walk:
    """The accesses of kernels that walk the tiles of one head: each array once a kernel, all that is asked for, products."""

    def __init__(self):
        self.places, self.asked, self.flops = {}, 0, 0

    def access(self, kernel, array, place, rows, columns, size=2):
        self.places[kernel, array, place] = rows * columns * size
        self.asked += rows * columns * size

    @property
    def moved(self):
        return sum(self.places.values())

    def product(self, rows, inner, columns):
        self.flops += 2 * rows * inner * columns


def walked(plan, C, columns, time):
    """A `Walk` through one head of `time` tokens, a multiple of C."""
    seen, tiles = Walk(), range(-(-V // columns))
    for j in tiles:
        if plan == "states":
            rows = min(columns, 128, K)
            for i in range(-(-K // rows)):
                for c in range(time // C):
                    seen.access("states", "k", (c, i), C, rows)
                    seen.access("states", "v", (c, j), C, min(columns, V))
                    seen.access("states", "S", (c, i, j), rows, min(columns, V))
                    seen.product(rows, C, min(columns, V))
        for c in range(time // (1 if plan == "token" else C)):
            n, wide = (1 if plan == "token" else C), min(columns, V)
            for name in "qk":
                seen.access("outputs", name, c, n, K)
            for name in "vo":
                seen.access("outputs", name, (c, j), n, wide)
            if plan == "token":
                seen.flops += 5 * K * wide  # decay, multiply and add, multiply and add
                continue
            seen.product(n, K, n)
            seen.product(n, n, wide)
            seen.product(n, K, wide)
            if plan == "states":
                seen.access("outputs", "S", (c, j), K, wide)
            else:
                seen.product(K, n, wide)
    return seen


def test_bytes_and_products_are_those_of_a_walk_through_the_tiles():
    time = 512  # the costs are in proportion to the tokens
    for values, got in zip(SETTINGS, compute(Ladder, *SETTINGS), strict=True):
        C, columns = 2 ** values["chunk"], 2 ** values["columns"]
        seen, heads = walked(values["plan"], C, columns, time), H * TOKENS // time
        for name in ("moved", "asked", "flops"):
            assert got[name] == pytest.approx(heads * getattr(seen, name), rel=1e-12), (values, name)
        assert got["memory_ms"] == pytest.approx(1e3 * got["moved"] / DATA["copy"])
        peak = DATA["float32" if values["plan"] == "token" else "product"]
        assert got["product_ms"] == pytest.approx(1e3 * got["flops"] / peak)


def moved_by_torch(C):
    """Bytes that torch's operators read and write at the size of the record, (B, T, H, width) in memory; nothing is computed."""
    torch = pytest.importorskip("torch")
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten

    class Moved(TorchDispatchMode):
        total = 0

        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            out = operator(*args, **(kwargs or {}))
            if not operator.is_view and "_unsafe_view" not in str(operator):
                arrays = [x for x in tree_flatten((args, kwargs, out))[0] if isinstance(x, torch.Tensor)]
                self.total += sum(x.numel() * x.itemsize for x in arrays)
            return out

    sizes = [(TOKENS // TIME, TIME, H, width) for width in (K, K, V)]
    q, k, v = (torch.empty(size, dtype=torch.bfloat16, device="meta").transpose(1, 2) for size in sizes)
    with Moved() as moved, values_trusted():
        retention_chunkwise(q, k, v, torch.empty(H, dtype=torch.float64, device="meta"), chunk_size=C)
    return moved.total


@pytest.mark.parametrize("chunk", [6, 8, 9])
def test_operators_move_what_torch_moves(chunk):
    """Up to the decay tables, which batches share."""
    (got,) = compute(Ladder, {"plan": "operators", "chunk": chunk})
    assert got["moved"] == got["asked"] == pytest.approx(moved_by_torch(2**chunk), rel=0.04)
    C = 2**chunk
    assert got["product_ms"] == pytest.approx(1e3 * got["flops"] / DATA["float32"])
    causal = useful_flops("chunkwise", H, TOKENS, K, V, C)
    assert got["flops"] == pytest.approx(causal + H * TOKENS * (C - 1) * (K + V))  # both halves of the scores


def test_a_step_loads_keeps_and_stores_what_a_program_needs():
    (chip, token, states, operators, wide) = compute(
        Ladder,
        *({"plan": p, "chunk": 6, "columns": 7} for p in ("chip", "token", "states", "operators")),
        {"plan": "chip", "columns": 9},
    )
    C, w = 64, 128
    assert chip["loads"] == [["tiles of q, k", 2 * 2 * C * K], ["tile of v", 2 * C * w]]
    state, scores, outputs = 4 * K * w, 4 * C * C, ["o, while it is summed", 4 * C * w]
    assert chip["holds"] == [["state S", state], ["S in 16 bits", state / 2], ["scores and D", 2 * scores], outputs]
    assert chip["stores"] == states["stores"] == [["tile of o", 2 * C * w]]
    assert token["loads"] == [["q, k of a token", 2 * 2 * K], ["v, its columns", 2 * w]]
    assert token["holds"] == [["state S", 4 * K * w]]
    assert token["stores"] == [["o, its columns", 2 * w]]
    assert states["loads"] == [*chip["loads"], ["S, from the first kernel", 2 * K * w]]
    assert states["holds"] == [["scores", scores], outputs]
    assert operators["holds"] == operators["stores"] == []
    whole = sum(size for _, size in operators["loads"])
    parts = [["scores, D: 5 \u00d7 16.4 kB", 5 * scores], ["S: 12 \u00d7 524 kB", 12 * 4 * K * V]]
    assert operators["loads"][:2] == parts
    assert operators["loads"][2] == ["q, k, v, o and copies", 4 * C * (12 * K + 15 * V) + C * (12 * K + 20 * V)]
    assert operators["moved"] == whole * H * TOKENS // C
    for got in (chip, token, states, operators, wide):
        assert got["held"] == sum(size for _, size in got["holds"])
        assert got["share"] == got["held"] / REGISTER_BYTES
    assert states["share"] < chip["share"] == 1 < wide["share"]  # v3 leaves no register for anything else
    rows = H * TOKENS // TIME
    assert [x["at_once"] for x in (chip, token, states, operators)] == [4 * rows, 4 * rows, 4 * rows * TIME // C, None]


def test_three_groups_hold_the_state_and_the_scores():
    settings = (
        {"plan": plan, "chunk": 6, "columns": power} for plan, power in (("chip", 7), ("groups", 7), ("groups", 8))
    )
    chip, groups, wide = compute(Ladder, *settings)
    state, sixteen, both, outputs = (size for _, size in chip["holds"])
    assert [size for _, size in groups["holds"]] == [state, sixteen / 4, both / 2, outputs]  # D is not kept
    assert groups["held"] == sum(size for _, size in groups["holds"])
    assert state == REGISTER_BYTES / 2
    assert groups["share"] == 0.75 < 1 < wide["share"]  # nothing overflows in v5
    for name in ("loads", "stores", "at_once", "moved", "asked", "flops"):
        assert groups[name] == chip[name]


def test_the_plan_without_scores_draws_none():
    from explorables.node import ask

    settings = [START | {"plan": plan} for plan in ("token", "chip")]
    token, chip = ask("ladder", [{"what": "picture", "values": values, "data": DATA} for values in settings])
    assert "no scores" in token["svg"]
    assert "never computed" in chip["svg"]
    assert token["svg"].count("<rect") < chip["svg"].count("<rect")


def test_rungs_are_those_of_the_record_with_their_own_plans():
    record = json.loads((ROOT / "gpu" / "results" / "ladder.json").read_text())
    (got,) = compute(Ladder, {})
    names = [name for name, row in record["versions"].items() if re.match(r"v\d", name) and "median" in row]
    assert [rung["name"] for rung in got["rungs"]] == names
    assert set(PLANS) <= set(names)
    floor = least_bytes("forward", TOKENS // TIME, H, TIME, K, V)
    assert got["floor"] == floor
    assert got["floor_ms"] == pytest.approx(1e3 * floor / record["copy_bytes_per_s"])
    for rung in got["rungs"]:
        assert rung["ms"] == record["versions"][rung["name"]]["median"]
        if rung["name"] not in PLANS:
            assert rung["memory_ms"] is rung["product_ms"] is None
            continue
        plan, C, columns = PLANS[rung["name"]]
        values = {"plan": plan, "chunk": int(np.log2(C)), "columns": int(np.log2(columns))}
        (same,) = compute(Ladder, values)
        for name in ("moved", "asked", "flops", "memory_ms", "product_ms"):
            assert rung[name] == same[name]
        assert rung["ms"] > rung["memory_ms"]


def test_the_plans_are_those_of_the_ladder():
    """Chunks and columns stand in the sources of the rungs; the last takes its tiles from the table."""
    folder = Path(ROOT / "gpu" / "kernel_ladder")
    text = {name: (folder / f"{name}.py").read_text() for name in PLANS}
    assert f"chunk_size={PLANS['v0_torch'][1]}" in text["v0_torch"]
    assert f"BV={PLANS['v1_naive'][2]}" in text["v1_naive"]
    assert f"C = {PLANS['v2_chunks'][1]} " in text["v2_chunks"]
    assert f"TILE = {PLANS['v2_chunks'][2]}\n" in text["v2_chunks"]
    assert "C={1}, BV={2}".format(*PLANS["v3_fused"]) in text["v3_fused"]
    assert f"chunk_size={PLANS['v4_tuned'][1]}" in text["v4_tuned"]
    chunk, group = re.search(
        r"CHUNK, KEYS, VALUES = (\d+), \d+, (\d+)", (folder.parent / "kernels/gluon_walk.py").read_text()
    ).groups()
    assert PLANS["v5_on_chip"] == ("groups", int(chunk), 2 * int(group))


def test_predictions_are_those_of_the_rungs_files():
    versions = json.loads((ROOT / "gpu" / "results" / "ladder.json").read_text())["versions"]
    for name, guess in PREDICTED.items():
        assert versions[name]["predicted_ms"] in guess
        if len(guess) == 2:
            assert "{:.1f} to {:.1f} ms".format(*guess) in versions[name]["prediction"]
    assert set(PLANS) == set(PREDICTED)
    assert "Chunks of 256 tokens" in versions["v4_tuned"]["prediction"]  # the rung has chunks of another size
    assert PLANS["v4_tuned"][1] != 256


def test_a_rung_whose_plan_is_not_known_is_shown_by_its_time():
    from explorables.node import ask

    data = DATA | {"rungs": [*DATA["rungs"], {"name": "v9_new", "ms": 0.3, "plan": None}]}
    (drawn,) = ask("ladder", [{"what": "picture", "values": START, "data": data}])
    assert "v9_new" in drawn["svg"]
    assert "NaN" not in drawn["svg"]


def test_measured_times_are_hidden_until_they_are_asked_for():
    from explorables.node import ask

    settings = [START | {"measured": measured} for measured in ("hidden", "shown")]
    pictures = ask("ladder", [{"what": "picture", "values": values, "data": DATA} for values in settings])
    hidden, shown = (picture["svg"] for picture in pictures)
    assert shown != hidden
    assert len(shown) > len(hidden)
    assert "measured (hidden)" in hidden
    assert "measured (hidden)" not in shown


def test_each_rung_stands_beside_the_name_of_its_plan():
    from explorables.node import ask

    controls, drawn = ask("ladder", [{"what": "controls"}, {"what": "picture", "values": START, "data": DATA}])
    assert controls[0]["options"] == WORDS  # what other pictures of the lesson call them
    assert drawn["svg"].count("two kernels, states in memory") == 2
    assert drawn["svg"].count("one operator after another") == 1  # the plan that is chosen
    assert drawn["svg"].count("the reference, C = 256") == 1  # v0, whose chunks are not always the picture's


def test_the_picture_opens_as_v0_and_shows_registers_where_a_plan_keeps_something():
    from explorables.node import ask

    (opened,) = compute(Ladder, {})
    assert opened["moved"] == opened["rungs"][0]["moved"]
    settings = [START | {"plan": plan} for plan in WORDS]
    pictures = ask("ladder", [{"what": "picture", "values": values, "data": DATA} for values in settings])
    assert [plan for plan, drawn in zip(WORDS, pictures, strict=True) if ">registers<" not in drawn["svg"]] == [
        "operators"
    ]
