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


WORKERS = {title: workers for title, (workers, _) in kernels.LANES.items()}
STEPS = {"the plan": 0.67, "a group more": 0.48}


@pytest.mark.parametrize("title", WORKERS)
def test_a_worker_does_what_its_list_says_and_one_thing_at_a_time(title):
    for begin, work in WORKERS[title].values():
        turns = [what for what, many in work for _ in range(many)]
        done = {t: what for what, first, many in kernels.blocks(begin, work) for t in range(first, first + many)}
        for t in range(kernels.TURNS):
            assert done[t] == turns[(t - begin) % len(turns)]


def test_lanes_show_what_the_lesson_says_of_them():
    v3, v5 = (each.values() for each in WORKERS.values())
    share = [[len(kernels.busy(each, kind)) / kernels.TURNS for kind in ("memory", "multiply")] for each in (v3, v5)]
    assert max(share[0]) < 0.5  # v3: memory and product units both wait
    assert share[1][1] > 0.7 > share[1][0]  # v5 is held back by its products
    one, two = ({t for what, first, n in kernels.blocks(*each) if what == "multiply" for t in range(first, first + n)} for each in list(v5)[:2])  # fmt: skip
    assert not one & two  # they take turns


def test_gaps_are_the_turns_between():
    assert kernels.gaps([0, 1, 4, kernels.TURNS - 1]) == [(2, 2), (5, kernels.TURNS - 6)]
    assert kernels.gaps([]) == [(0, kernels.TURNS)]
    assert kernels.gaps(range(kernels.TURNS)) == []


def test_lanes_draw_all_blocks_and_say_what_each_gap_waits_for():
    *axes, _ = kernels.lanes(STEPS, 0.24).axes
    for ax, (workers, waited) in zip(axes, kernels.LANES.values(), strict=True):
        all_blocks = [block for worker in workers.values() for block in kernels.blocks(*worker)]
        drawn = sorted((bar.get_x(), bar.get_width()) for bar in ax.patches if bar.get_height() > 0.5)
        assert drawn == sorted((begin, many) for what, begin, many in all_blocks if what in kernels.LOOKS)
        said = texts(ax.texts)
        assert {what for what, *_ in all_blocks} - set(kernels.LOOKS) <= set(said)
        for kind, reasons in waited.items():
            assert len(kernels.gaps(kernels.busy(workers.values(), kind))) >= len(reasons)
            assert set(reasons) <= set(said)


def test_lanes_mark_each_step_with_its_time():
    picture = kernels.lanes(STEPS, 0.24)
    limit, measured = picture.axes[-1].lines
    assert limit.get_xdata()[0] == 0.24
    assert measured.get_xydata().tolist() == [[0.67, 0], [0.48, 1]]
    assert {"0.67 ms: the plan", "0.48 ms: a group more"} <= set(texts(picture.axes[-1].texts))
    assert "the plan 0.67; a group more 0.48" in picture.description
