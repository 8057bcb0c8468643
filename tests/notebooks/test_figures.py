"""What all pictures share, and those of lesson 1 and the README: every assertion reads back what was plotted.

nbval does not compare pictures, so these tests have to catch a wrong one.
"""

import os
import re
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from xml.etree import ElementTree

import figures
import numpy as np
import pytest
from figures import memory, style
from legible import CONTRAST, contrast, turned
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from paths import NOTEBOOKS
from PIL import Image
from plotted import check_line, images, numbers, oracle, texts

GAMMA = 0.5


@pytest.fixture
def amounts():
    rng = np.random.default_rng(4)
    return rng.uniform(size=(6, 3)), rng.uniform(size=(6, 3)), rng.uniform(size=(6, 2))


def test_outer_products_add_up_to_the_state():
    k, v = np.array([[1.0, 0, 2], [0, -1, 1]]), np.array([[2.0, 1], [0, 3]])
    drawn = [ax.images[0].get_array() for ax in memory.outer_products(k, v, ("a", "b")).axes]
    np.testing.assert_array_equal(drawn, [[[2, 1], [0, 0], [4, 2]], [[0, 0], [0, -3], [0, 3]], k.T @ v])


def test_a_heat_map_writes_the_number_it_colours():
    k, v = np.array([[1.0, 0]]), np.array([[0.25, -3.0]])
    ax = memory.outer_products(k, v, ("a",)).axes[0]
    assert numbers(ax) == {(0, 0): "0.25", (0, 1): "-3", (1, 0): "0", (1, 1): "0"}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("value channel", "key channel")


def test_signed_scales_are_symmetric_so_that_zero_is_pale():
    states = np.array([[[1.0, -4.0]], [[2.0, 0.0]]])
    for ax in memory.states_over_time(states, ("a", "b"), GAMMA).axes:
        assert ax.images[0].get_clim() == (-4, 4)


def test_states_over_time_draws_every_state_in_order():
    states = np.arange(24.0).reshape(4, 3, 2)
    panels = memory.states_over_time(states, "abcd", GAMMA).axes
    for n, (ax, state, name) in enumerate(zip(panels, states, "abcd", strict=True), 1):
        np.testing.assert_array_equal(ax.images[0].get_array(), state)
        assert f"token {n}" in ax.get_title()
        assert name in ax.get_title()


def test_curves_draw_the_lines_marks_and_names_they_get():
    x, lines = np.arange(1, 5), {"up": np.arange(4.0), "down": -np.arange(4.0)}
    labels = {"xlabel": "x (tokens)", "ylabel": "y", "description": "d"}
    (ax,) = figures.curves(x, lines, **labels, title="found", log="x", marks=[(2, 1, "here")]).axes
    assert ax.get_title("left") == "found"
    for line, (name, y) in zip(ax.lines, lines.items(), strict=False):
        check_line(line, x, y, name)
    check_line(ax.lines[2], [2], [1])
    assert texts(ax.texts) == ["here", "up", "down"]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "linear", "x (tokens)", "y")


def test_curves_refuse_more_lines_than_they_can_tell_apart():
    with pytest.raises(ValueError, match="lines must be at most 4, one for each style, got 5"):
        figures.curves([1, 2], {str(n): [n, n] for n in range(5)}, xlabel="", ylabel="", description="five lines")


def test_curves_take_the_look_of_a_line():
    looks, lines = {"b": {"color": "#123456", "linestyle": ":"}}, {"a": [1, 2], "b": [2, 3]}
    (ax,) = figures.curves([1, 2], lines, xlabel="x", ylabel="y", description="d", title="t", looks=looks).axes
    assert ax.get_title(loc="left") == "t"
    drawn = [(line.get_color(), line.get_linestyle()) for line in ax.lines]
    assert drawn == [(style.LINES[0]["color"], "-"), ("#123456", ":")]
    assert ax.texts[1].get_color() == "#123456"


def test_curves_draw_a_band_around_a_line():
    x, y, half = np.arange(3), np.arange(3.0), np.array([0.1, 0.2, 0.3])
    labels = {"xlabel": "x", "ylabel": "y", "description": "d"}
    (ax,) = figures.curves(x, {"bare": -y, "measured": y}, **labels, spread={"measured": half}).axes
    (band,) = ax.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.round(9).tolist()}
    assert corners == {*zip(x, (y - half).round(9), strict=True), *zip(x, (y + half).round(9), strict=True)}
    assert band.get_facecolor()[0, :3].tolist() == list(to_rgb(ax.lines[1].get_color()))


def test_lines_differ_without_their_colour():
    assert len({style["linestyle"] for style in style.LINES}) == len(style.LINES)


@pytest.mark.parametrize("n", range(6))
def test_step_picture_shows_one_step_of_eq_6(tokens, n):
    drawn = images(memory.step_picture(*tokens, GAMMA, n))
    out, state = oracle(tokens, GAMMA, n)
    np.testing.assert_allclose(drawn["state"], state, atol=1e-12)
    np.testing.assert_allclose(drawn["read"][0], out, atol=1e-12)
    np.testing.assert_allclose(drawn["kept"] + drawn["written"], drawn["state"], atol=1e-12)
    if n:
        np.testing.assert_allclose(drawn["kept"], GAMMA * oracle(tokens, GAMMA, n - 1)[1], atol=1e-12)
        np.testing.assert_allclose(drawn["written"], np.outer(tokens[1][n - 1], tokens[2][n - 1]), atol=1e-12)


def test_moving_token_decay_and_question_redraws_the_state(tokens):
    q, k, v = tokens
    stepper = memory.state_stepper({"x": q[0], "y": q[1]}, k, v, GAMMA, ("a", "b", "pear", "d", "e"), token=2)
    assert "Token 2 (b)" in stepper.words.value
    for n, gamma, asked in ((3, GAMMA, "x"), (3, GAMMA, "y"), (0, GAMMA, "y"), (4, 1.0, "x"), (4, 0.05, "x")):
        before = stepper.screen.value
        picture = stepper.move(token=n, decay=gamma, asked=asked)
        out, state = oracle((np.tile(q["xy".index(asked)], (len(k), 1)), k, v), gamma, n)
        np.testing.assert_allclose(images(picture)["state"], state, atol=1e-12)
        assert stepper.screen.value == picture.html() != before
        assert f"Token {n}" in stepper.words.value
        assert ("Token 3 (pear)" in stepper.words.value) == (n == 3)
        assert n == 0 or all(f"{round(number, 3)}" in stepper.words.value for number in out)


def test_where_no_widget_can_be_shown_there_is_its_picture_in_the_same_size(tokens):
    stepper = memory.state_stepper({"x": tokens[0][0]}, *tokens[1:], GAMMA)
    picture = stepper.move(token=3)
    shown = stepper._repr_mimebundle_()
    assert shown["application/vnd.jupyter.widget-view+json"]["model_id"] == stepper.model_id
    assert shown["text/html"] == picture.html() == stepper.screen.value


def test_a_picture_shows_itself_with_a_description(tokens):
    picture = memory.step_picture(*tokens, GAMMA, 2)
    picture.description += ' <"&'
    data = picture._repr_mimebundle_()
    assert set(data) == {"text/html", "text/plain"}
    image = ElementTree.fromstring(re.search("<img .*?>", data["text/html"])[0].replace(">", "/>"))
    assert image.get("alt") == data["text/plain"] == picture.description
    assert image.get("width") == "840"
    png = b64decode(image.get("src").removeprefix("data:image/png;base64,"))
    full, small = BytesIO(), Image.open(BytesIO(png)).convert("RGB")
    picture.savefig(full, format="png", dpi=130)
    wrong = np.abs(np.asarray(Image.open(full).convert("RGB"), dtype=int) - np.asarray(small, dtype=int))
    assert wrong.mean() < 1  # of 255: nobody sees the palette of 256 colours


def test_importing_figures_leaves_pyplot_alone():
    code = "import sys, figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=NOTEBOOKS, check=False).returncode == 0


def test_colour_scales_survive_grey():
    for scale in (style.AMOUNT, style.SHARE):
        luminance = colormaps.get_cmap(scale)(np.linspace(0, 1, 64))[:, :3] @ [0.2126, 0.7152, 0.0722]
        assert np.all(np.diff(luminance) < 0)  # light to dark, all the way


@pytest.mark.parametrize("scale", [style.SHARE, style.SIGNED])
def test_ink_is_legible_on_every_cell_in_both_themes(scale):
    ink = np.array(to_rgb(style.INK))
    for cell in scale(np.linspace(0, 1, 64))[:, :3]:
        assert min(contrast(ink, cell), contrast(turned(ink), turned(cell))) >= CONTRAST


def test_a_new_environment_prints_nothing(tmp_path):
    """Without a font cache matplotlib looks for fonts, and says so on stderr unless told not to."""
    program = """
import logging, time, threading
class Eager(threading.Timer):  # matplotlib logs after five seconds of looking: here at once
    def __init__(self, _, function, *more): super().__init__(0.0, function, *more)
threading.Timer = Eager
import figures
"""
    options = {"cwd": NOTEBOOKS, "env": {**os.environ, "MPLCONFIGDIR": str(tmp_path)}}
    run = subprocess.run([sys.executable, "-c", program], **options, capture_output=True, text=True, check=True)
    assert list(tmp_path.glob("fontlist*.json"))  # it did look
    assert run.stderr == ""
