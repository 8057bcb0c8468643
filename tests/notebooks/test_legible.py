"""What `legible` calls a fault of a picture; lessons are looked at in test_notebooks.py."""

import pytest
from figures import curves, style
from legible import faults


def _picture(change):
    picture = curves([1, 2], {"up": [1, 2], "down": [2, 1]}, xlabel="x", ylabel="y", description="Two lines.")
    change(picture, picture.axes[0])
    return picture


BROKEN = {
    "has 7 points": lambda picture, ax: ax.set_xlabel("x", fontsize=7),
    "'y' has a contrast of 2.8": lambda picture, ax: ax.set_ylabel("y", color="#999999"),
    "in a dark theme": lambda picture, ax: ax.text(
        1.4, 1.5, "here", color=style.INK, bbox={"fc": "#E69F00", "ec": "none"}
    ),
    "2 lines look alike": lambda picture, ax: ax.lines[1].set(color=style.BLUE, linestyle="-"),
    "no description": lambda picture, ax: setattr(picture, "description", " "),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_cannot_be_read_is_found(fault):
    assert list(faults(_picture(lambda picture, ax: None))) == []
    found = list(faults(_picture(BROKEN[fault])))
    assert len(found) == 1
    assert fault in found[0]


def test_hues_of_a_dark_theme_stay_and_its_ground_is_that_of_jupyterlab():
    from colorsys import rgb_to_hsv

    from legible import turned
    from matplotlib.colors import to_hex, to_rgb

    assert to_hex(turned(to_rgb("white"))) == "#111111"
    for color in (style.BLUE, style.ORANGE, style.GREEN):
        before, after = (rgb_to_hsv(*each)[0] for each in (to_rgb(color), turned(to_rgb(color))))
        assert abs(before - after) < 0.05
