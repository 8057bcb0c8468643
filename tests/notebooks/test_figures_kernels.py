"""The pictures of lesson 12, read back."""

from itertools import pairwise

import pytest
from figures import kernels
from paths import ROOT
from plotted import texts

RUNGS = {"slow": {"median": 12.63}, "fast": {"median": 0.36}}
PLANS = {"slow": "in memory", "fast": "on the chip"}


def test_a_ladder_marks_each_time_of_each_rung():
    of_bytes, of_products = {"slow": 4.0, "fast": 0.2}, {"slow": 0.3, "fast": 0.25}
    picture = kernels.ladder(RUNGS, PLANS, of_bytes, of_products, {"fast": [0.4, 0.5]}, title="Found")
    (ax,) = picture.axes
    assert ax.get_title("left") == "Found"
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    wanted = {"bytes": (4.0, 0.2), "products": (0.3, 0.25), "measured": (12.63, 0.36)}
    for mark, (slow, fast) in wanted.items():
        assert lines[kernels.MARKS[mark]["label"]] == [[slow, 0], [fast, 1]]
    assert lines["predicted"] == [[0.4, 1 - kernels.RAISED], [0.5, 1 - kernels.RAISED]]  # a range; "slow" has none
    assert texts(ax.get_yticklabels()) == ["slow\nin memory", "fast\non the chip"]
    assert {"12.63 ms", "0.36 ms"} <= set(texts(ax.texts))
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [0.2]  # the floor
    assert "slow, in memory: 12.63 ms" in picture.description


def test_operators_mark_what_each_kind_took_and_would_take_as_a_copy():
    as_copies, measured = {"products": 1.1, "sums": 1.2}, {"products": 5.3, "sums": 1.3}
    picture = kernels.operators(as_copies, ("products", 3.6), measured, title="Found")
    (ax,) = picture.axes
    assert ax.get_title("left") == "Found"
    assert [bar.get_width() for bar in ax.patches] == [5.3, 1.3]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1.1, 0], [1.2, 1]], [[3.6, 0]]]
    assert texts(ax.get_yticklabels()) == ["products", "sums"]
    assert "products: 5.3, 1.1 as a copy" in picture.description


PERIODS, BUSY = (
    {"v3": 8.4, "v5": 2.8},
    {"scores": 0.36, "Q S": 0.72, "o, new S": 0.9},
)  # µs of a chunk, and of its products


def drawn(plan):
    return {"v3": kernels.in_turn, "v5": kernels.in_groups}[plan](PERIODS[plan], BUSY)


def multiplies(blocks):
    return sorted((begin, length) for _, what, begin, length, _ in blocks if what == "multiply")


@pytest.mark.parametrize("plan", PERIODS)
def test_products_of_a_chunk_take_their_time_and_share_the_product_units(plan):
    products = multiplies(drawn(plan))
    assert sum(length for _, length in products) == pytest.approx(sum(BUSY.values()))
    assert all(begin + length <= after + 1e-9 for (begin, length), (after, _) in pairwise(products))
    assert sum(products[-1]) == pytest.approx(PERIODS[plan])  # the next chunk begins where they end


@pytest.mark.parametrize("plan", PERIODS)
def test_a_lane_does_one_thing_at_a_time(plan):
    for lane in {block[0] for block in drawn(plan)}:
        work = sorted((begin, length) for y, _, begin, length, _ in drawn(plan) if y == lane)
        assert all(begin + length <= after + 1e-9 for (begin, length), (after, _) in pairwise(work))


def test_the_order_of_v5_is_that_of_its_source():
    source = (ROOT / "gpu/kernels/gluon_walk.py").read_text()
    assert "STAGES = gl.constexpr(2)" in source
    assert "mbarrier.init(free.index(i), count=2)" in source  # both groups
    holds, weighs = source[source.index("def _hold") : source.index("def _read")], source[source.index("def _weigh") :]
    steps = ("wait(full", "state[i].to(dtype)", "wait(weighed", "scores.index(stage)", "arrive(free")
    assert [holds.index(step) for step in steps] == sorted(holds.index(step) for step in steps)
    loop = weighs[weighs.index("for chunk in") :]
    steps = ("wait(full", "warpgroup_mma(", "arrive(weighed", "if chunk > first", "chunk + 1)")
    assert [loop.index(step) for step in steps] == sorted(loop.index(step) for step in steps)


def test_groups_that_hold_the_state_take_turns_to_multiply_its_quarters():
    quarter = BUSY["Q S"] / 8
    turns = sorted((begin, lane) for lane, what, begin, length, _ in drawn("v5") if length == pytest.approx(quarter))
    assert [lane for _, lane in turns] == [1, 3] * kernels.PARTS
    rounds = {(lane, round(begin + length, 6)) for lane, what, begin, length, _ in drawn("v5") if what == "round"}
    assert rounds == {(lane, round(begin, 6)) for begin, lane in turns}  # each is rounded before it is multiplied


def test_lanes_draw_chunks_as_long_as_measured():
    picture = kernels.lanes(PERIODS, BUSY)
    (ax,) = picture.axes
    assert {"reads", "scores", "rounds weights and S", "Q S, o, new S", "room", "1", "2", "3"} <= set(texts(ax.texts))
    ends = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert ends == pytest.approx([2.8, 5.6, 8.4])
    assert "8.4 µs a chunk" in picture.description
