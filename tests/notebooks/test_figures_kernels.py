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


@pytest.mark.parametrize("lane", kernels.LANES)
def test_a_lane_does_one_thing_at_a_time_and_never_pauses(lane):
    work = kernels.LANES[lane]
    assert [begin for _, begin, *_ in work] == pytest.approx([0, *(begin + many for _, begin, many, _ in work[:-1])])
    assert work[-1][1] + work[-1][2] == pytest.approx(kernels.TURNS)


def test_a_wait_of_v5_ends_with_the_last_block_that_it_waits_for():
    waits = [
        (begin + many, said) for work in kernels.LANES.values() for what, begin, many, said in work if what == "wait"
    ]
    assert {said for _, said in waits} == set(kernels.ENDED_BY)
    for end, said in waits:
        causes = kernels.ends(kernels.ENDED_BY[said])
        assert len(causes) == (2 if said == "room" else 1)  # both groups free what was read
        assert max(done for _, done in causes) == pytest.approx(end)


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
    bars = [bar for bar in kernels.lanes().axes[0].patches if bar.get_width() == pytest.approx(kernels.QUARTER)]
    assert len(bars) == 4 * 4  # of two groups and two chunks
    begins = sorted(bar.get_x() for bar in bars)
    assert all(b - a > 0.99 * kernels.QUARTER for a, b in pairwise(begins))


def test_lanes_draw_all_blocks_and_an_arrow_for_each_cause():
    picture = kernels.lanes()
    (ax,) = picture.axes
    every = [block for work in kernels.LANES.values() for block in work]
    turns = sum(what == "take turns" for what, *_ in every)
    assert sum(bar.get_height() == 0.5 for bar in ax.patches) == len(every) + 4 * turns
    assert [text for text in texts(ax.texts) if text] == [said for *_, said in every]
    causes = sum(len(kernels.ends(kernels.ENDED_BY[said])) for what, _, _, said in every if what == "wait")
    assert texts(ax.texts).count("") == causes == 6
    assert "not to scale" in picture.description
