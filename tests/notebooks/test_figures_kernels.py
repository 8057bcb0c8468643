"""The pictures of lesson 12, read back."""

import pytest
from figures import kernels
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


@pytest.mark.parametrize("title", kernels.LANES)
def test_a_worker_does_what_its_list_says_and_one_thing_at_a_time(title):
    for begin, work in kernels.LANES[title].values():
        turns = [what for what, many in work for _ in range(many)]
        done = {t: what for what, first, many in kernels.blocks(begin, work) for t in range(first, first + many)}
        for t in range(kernels.TURNS):
            assert done.get(t) == turns[(t - begin) % len(turns)]


def test_lanes_show_what_the_lesson_says_of_them():
    v2, v3, v5 = (each.values() for each in kernels.LANES.values())
    share = [
        [len(kernels.busy(each, kind)) / kernels.TURNS for kind in ("memory", "multiply")] for each in (v2, v3, v5)
    ]
    assert share[0][1] < 0.5 < 0.75 < share[0][0] < 1  # v2 is held back by memory
    assert max(share[1]) < 0.5  # v3 by neither: both wait
    assert share[2][1] > 0.7 > share[2][0]  # v5 by its products
    one, two = ({t for what, first, n in kernels.blocks(*each) if what == "multiply" for t in range(first, first + n)} for each in list(v5)[:2])  # fmt: skip
    assert not one & two  # they take turns


def test_lanes_draw_all_blocks():
    for ax, each in zip(kernels.lanes().axes, kernels.LANES.values(), strict=True):
        drawn = sorted((bar.get_x(), bar.get_width()) for bar in ax.patches if bar.get_height() > 0.5)
        wanted = sorted((begin, many) for worker in each.values() for _, begin, many in kernels.blocks(*worker))
        assert drawn == wanted
