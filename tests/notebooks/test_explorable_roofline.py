"""The forms under a roof: every number is that of refimpl.bench, and the bytes are those of counting one by one."""

import pytest
from explorables import Roofline
from explorables.node import ask, compute

from refimpl.bench.flops import bytes_moved
from refimpl.bench.roof import CACHE, flops_of, predict, recorded

START = {"time": 9, "size": 6, "key": 6, "value": 7, "cached": False, "python": False}
BOTH = {"cached": True, "python": True}
SETTINGS = [
    {}, {"cached": True}, {"python": True}, BOTH, {"time": 4, "size": 12}, {"time": 16, "size": 0}, {"time": 16, "size": 12, **BOTH},
    {"key": 2, "value": 9, "size": 3}, {"key": 9, "value": 9, **BOTH}, {"key": 9, "value": 9, "size": 9, "cached": True},
]  # fmt: skip
ROOFS = [
    Roofline.course_data()["roof"],
    {"peak": 3e10, "memory": 5e9, "cache": 2e11, "recurrent": 1e-6, "chunkwise": 3e-6},
]


def sides(form, T, C):
    """The lengths of the blocks in which a form works."""
    return {"parallel": [T], "recurrent": [1] * T, "chunkwise": [min(C, T - start) for start in range(0, T, C)]}[form]


@pytest.mark.parametrize("roof", ROOFS, ids=["recorded", "another"])
def test_numbers_are_those_of_refimpl(roof):
    data = {"roof": roof, "cache": CACHE}
    for values, got in zip(SETTINGS, compute(Roofline, *SETTINGS, data=data), strict=True):
        now = START | values
        T, C, K, V = 2 ** now["time"], 2 ** min(now["size"], now["time"]), 2 ** now["key"], 2 ** now["value"]
        options = {"cached": now["cached"], "python": now["python"]}
        assert [got[name] for name in ("T", "C", "K", "V")] == [T, C, K, V]
        seconds, flops = {}, {}
        for form, each in got["forms"].items():
            tokens, inner = bytes_moved(form, 1, T, K, V, C)
            flops[form] = each["flops"]
            assert each["flops"] == flops_of(form, T, K, V, C)
            assert each["moved"] + each["near"] == tokens + inner
            assert each["near"] in ((0, inner) if now["cached"] else (0,))
            assert each["intensity"] == pytest.approx(each["flops"] / each["moved"], rel=1e-12)
            seconds[form] = predict(form, roof, T, K, V, C, **options)
            assert each["seconds"] == pytest.approx(seconds[form], rel=1e-12)
            assert each["rate"] == pytest.approx(each["flops"] / seconds[form], rel=1e-12)
            parts = each["parts"]
            steps = len(sides(form, T, C)) * roof["recurrent" if form == "recurrent" else "chunkwise"]
            assert parts["steps"] == pytest.approx(steps if now["python"] else 0, rel=1e-12)
            assert parts[each["limit"]] == max(parts.values())
            assert each["seconds"] == pytest.approx(
                max(parts[n] for n in ("arithmetic", "memory", "cache")) + parts["steps"]
            )
        by_size = {2**x: predict("chunkwise", roof, T, K, V, 2**x, **options) for x in range(now["time"] + 1)}
        assert got["chunks"] == pytest.approx(list(by_size.values()), rel=1e-12)
        assert by_size[got["best"]] == pytest.approx(min(by_size.values()), rel=1e-12)
        assert seconds[got["fastest"]] == min(seconds.values())
        assert flops[got["least"]] == min(flops.values())
        assert got["ridge"] == pytest.approx(roof["peak"] / roof["memory"], rel=1e-12)


def test_a_chunk_of_one_token_is_the_loop_with_a_score_besides():
    (got,) = compute(Roofline, START | {"size": 0}, data=Roofline.course_data())
    T, K, V = (got[name] for name in ("T", "K", "V"))
    assert got["forms"]["chunkwise"]["flops"] == got["forms"]["recurrent"]["flops"] + 2 * T * (K + V)
    assert got["least"] == "recurrent"


@pytest.mark.parametrize(("T", "C"), [(1, 1), (7, 3), (8, 4), (5, 9)])
@pytest.mark.parametrize("form", ["parallel", "recurrent", "chunkwise"])
def test_bytes_are_those_of_counting_one_by_one(form, T, C):
    K, V, tokens, inner = 3, 5, 0, 0
    for _ in range(T):
        tokens += 4 * (2 * K + 2 * V)  # q, k, v read, out written
    for side in sides(form, T, C):
        inner += 0 if form == "parallel" else 4 * 2 * K * V  # the state, read and written
        for n in range(side):
            inner += 0 if form == "recurrent" else 4 * 2 * (n + 1)  # the scores of one row
    assert bytes_moved(form, 1, T, K, V, C) == (tokens, inner)
    assert bytes_moved(form, 6, T, K, V, C) == (6 * tokens, 6 * inner)


def test_the_roof_is_the_one_on_record():
    assert Roofline.course_data()["roof"] == recorded()["roof"]
    assert Roofline.under(ROOFS[1], size=4).data["roof"] == ROOFS[1]


def test_the_picture_says_whose_roof_it_draws():
    assert "roof on record: its corner is at 2.56 FLOPs a byte" in Roofline.still()[0]
    data = {"roof": ROOFS[1], "cache": CACHE, "whose": "just measured"}
    (got,) = ask(Roofline.module, [{"what": "picture", "values": {}, "data": data}])
    assert "roof just measured: its corner is at 6" in got["svg"]
