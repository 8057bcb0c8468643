"""Names stand beside the ends of their lines and do not overlap."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from refimpl.bench.drawing import name_lines


@pytest.fixture
def named():
    """(panel, {name: its annotation}) of two lines that end together, one that ends early, and two that get no name."""
    panel = Figure(figsize=(6, 4)).add_subplot()
    for name, end, value in (("one", 10, 1.0), ("two", 10, 1.001), ("early", 5, 0.5), ("_hidden", 10, 0.2)):
        panel.plot([0, end], [0.0, value], label=name)
    panel.plot([0, 10], [np.nan, np.nan], label="nothing")
    name_lines(panel, fontsize=9.0)
    return panel, {text.get_text(): text for text in panel.texts}


def test_every_line_that_is_there_is_named_in_its_colour(named):
    panel, texts = named
    assert set(texts) == {"one", "two", "early"}
    for line in panel.lines:
        if line.get_label() in texts:
            assert texts[line.get_label()].get_color() == line.get_color()


def test_names_beside_the_panel_lie_apart_and_in_order_and_one_that_ends_early_at_its_end(named):
    panel, texts = named
    panel.figure.draw_without_rendering()
    one, two = (Text.get_window_extent(texts[name]) for name in ("one", "two"))  # without the hair
    assert one.y1 <= two.y0
    assert one.x0 > panel.get_window_extent().x1
    assert tuple(texts["early"].xy) == (5, 0.5)
    assert texts["early"].get_window_extent().x1 < panel.get_window_extent().x1
