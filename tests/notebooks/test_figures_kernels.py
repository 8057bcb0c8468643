"""The pictures of lesson 12, read back."""

from figures import kernels
from matplotlib.colors import to_rgba
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


def test_a_timeline_draws_each_step_as_long_as_it_takes():
    slots = {"one": [("load 1", 1), ("multiply 1", 2)], "two": [("scores 1", 1), ("round 1", 1), ("load 2", 1)]}
    picture = kernels.timeline(slots, title="Found")
    (ax,) = picture.axes
    assert ax.get_title("left") == "Found"
    spans = [(bar.get_x(), bar.get_width()) for bar in ax.patches]
    wanted = [(0, 1), (1, 2), (0, 1), (1, 1), (2, 1)]
    assert [(round(x - 0.02, 6), round(width + 0.04, 6)) for x, width in spans] == wanted
    assert texts(ax.texts) == ["load 1", "multiply 1", "scores 1", "round 1", "load 2"]
    dark = [bar.get_facecolor() == to_rgba(kernels.PURPLE) for bar in ax.patches]
    assert dark == [False, True, False, False, False]
    assert texts(ax.get_yticklabels()) == ["one", "two"]
    assert "not a measurement" in ax.get_xlabel()
    assert "one: load 1, multiply 1. two: scores 1, round 1, load 2." in picture.description
