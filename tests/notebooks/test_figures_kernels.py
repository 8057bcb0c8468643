"""The pictures of lesson 12, read back."""

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


def test_operators_mark_what_each_kind_took_and_would_take_as_a_copy():
    as_copies, measured = {"products": 1.1, "sums": 1.2}, {"products": 5.3, "sums": 1.3}
    picture = kernels.operators(as_copies, ("products", 3.6), measured, title="Found")
    (ax,) = picture.axes
    assert ax.get_title("left") == "Found"
    assert [bar.get_width() for bar in ax.patches] == [5.3, 1.3]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1.1, 0], [1.2, 1]], [[3.6, 0]]]
    assert texts(ax.get_yticklabels()) == ["products", "sums"]
    assert "products: 5.3, 1.1 as a copy" in picture.description


def test_bars_are_as_long_as_the_product_units_are_busy():
    picture = kernels.busy({"one,\n8 warps": 0.23, "two": 0.69}, title="Found")
    (ax,) = picture.axes
    assert ax.get_title("left") == "Found"
    whole, part = (list(bars) for bars in ax.containers)
    assert [bar.get_width() for bar in whole] == [1, 1]
    assert [bar.get_width() for bar in part] == [0.23, 0.69]
    assert texts(ax.get_yticklabels()) == ["one,\n8 warps", "two"]
    assert {"23%", "69%"} <= set(texts(ax.texts))
    assert "one, 8 warps: 23%; two: 69%" in picture.description
