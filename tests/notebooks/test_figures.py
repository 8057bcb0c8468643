"""The pictures show the numbers they claim to: every assertion reads back what was plotted.

nbval does not compare pictures, so this is where a wrong one is caught.
"""

import os
import subprocess
import sys
from base64 import b64decode
from io import BytesIO

import figures
import numpy as np
import pytest
from figures import forms, memory, style
from figures.__main__ import main
from paths import NOTEBOOKS
from PIL import Image

from refimpl.oracle import retention_oracle

GAMMA = 0.5


@pytest.fixture
def tokens():
    rng = np.random.default_rng(3)
    return rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 2))


@pytest.fixture
def amounts():
    rng = np.random.default_rng(4)
    return rng.uniform(size=(6, 3)), rng.uniform(size=(6, 3)), rng.uniform(size=(6, 2))


def oracle(tokens, gamma, n):
    """Output of token n and the state after it, by the oracle."""
    out, state = retention_oracle(*(x[None, None, :n] for x in tokens), np.array([gamma]))
    return out[0, 0, -1] if n else np.zeros(tokens[2].shape[1]), state[0, 0]


def drawn(picture):
    """The first image of each axes, by the label of the axes."""
    return {ax.get_label(): np.asarray(ax.images[0].get_array()) for ax in picture.axes if ax.images}


def written_numbers(ax):
    """The numbers that stand in the cells, as (row, column) -> text."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts}


def test_outer_products_add_up_to_the_state():
    k, v = np.array([[1.0, 0, 2], [0, -1, 1]]), np.array([[2.0, 1], [0, 3]])
    images = [np.asarray(ax.images[0].get_array()) for ax in memory.outer_products(k, v, ("a", "b")).axes]
    np.testing.assert_array_equal(images[0], [[2, 1], [0, 0], [4, 2]])
    np.testing.assert_array_equal(images[1], [[0, 0], [0, -3], [0, 3]])
    np.testing.assert_array_equal(images[2], k.T @ v)


def test_a_heat_map_writes_the_number_it_colours():
    k, v = np.array([[1.0, 0]]), np.array([[0.25, -3.0]])
    ax = memory.outer_products(k, v, ("a",)).axes[0]
    assert written_numbers(ax) == {(0, 0): "0.25", (0, 1): "-3", (1, 0): "0", (1, 1): "0"}
    assert ax.get_xlabel() == "value channel"
    assert ax.get_ylabel() == "key channel"


def test_signed_scales_are_symmetric_so_that_zero_is_pale():
    states = np.array([[[1.0, -4.0]], [[2.0, 0.0]]])
    for ax in memory.states_over_time(states, ("a", "b"), GAMMA).axes:
        assert ax.images[0].get_clim() == (-4, 4)


def test_states_over_time_draws_every_state_in_order():
    states = np.arange(24.0).reshape(4, 3, 2)
    axes = memory.states_over_time(states, "abcd", GAMMA).axes
    assert len(axes) == 4
    for n, ax in enumerate(axes):
        np.testing.assert_array_equal(ax.images[0].get_array(), states[n])
        assert f"token {n + 1}" in ax.get_title()
        assert "abcd"[n] in ax.get_title()


def test_curves_draw_the_lines_marks_and_names_they_get():
    x, lines = np.arange(1, 5), {"up": np.arange(4.0), "down": -np.arange(4.0)}
    picture = figures.curves(
        x, lines, xlabel="x (tokens)", ylabel="y", description="d", log="x", marks=[(2, 1, "here")]
    )
    (ax,) = picture.axes
    for line, (name, y) in zip(ax.lines, lines.items(), strict=False):
        np.testing.assert_array_equal(line.get_xydata(), np.column_stack([x, y]))
        assert line.get_label() == name
    assert [tuple(xy) for xy in ax.lines[2].get_xydata()] == [(2, 1)]
    assert [t.get_text() for t in ax.texts] == ["here"]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "linear", "x (tokens)", "y")


def test_lines_differ_without_their_colour():
    assert len({style["linestyle"] for style in style.LINES}) == len(style.LINES)


@pytest.mark.parametrize("n", range(6))
def test_step_picture_shows_one_step_of_eq_6(tokens, n):
    images = drawn(memory.step_picture(*tokens, GAMMA, n))
    out, state = oracle(tokens, GAMMA, n)
    np.testing.assert_allclose(images["state"], state, atol=1e-12)
    np.testing.assert_allclose(images["read"][0], out, atol=1e-12)
    np.testing.assert_allclose(images["kept"] + images["written"], images["state"], atol=1e-12)
    if n:
        np.testing.assert_allclose(images["kept"], GAMMA * oracle(tokens, GAMMA, n - 1)[1], atol=1e-12)
        np.testing.assert_allclose(images["written"], np.outer(tokens[1][n - 1], tokens[2][n - 1]), atol=1e-12)


def test_moving_the_token_slider_redraws_the_state(tokens):
    stepper = memory.state_stepper(*tokens, GAMMA)
    for n in (3, 5, 1, 0):
        before = stepper.screen.value
        stepper.move(token=n)
        np.testing.assert_allclose(drawn(stepper.picture)["state"], oracle(tokens, GAMMA, n)[1], atol=1e-12)
        assert stepper.screen.value == stepper.picture.png() != before
        assert f"Token {n}" in stepper.words.value


def test_moving_the_decay_slider_redraws_the_state(tokens):
    stepper = memory.state_stepper(*tokens, GAMMA)
    stepper.move(token=4)
    for gamma in (1.0, 0.05):
        stepper.move(decay=gamma)
        np.testing.assert_allclose(drawn(stepper.picture)["state"], oracle(tokens, gamma, 4)[1], atol=1e-12)


def test_the_stepper_is_labelled_bounded_and_says_what_it_shows(tokens):
    stepper = memory.state_stepper(*tokens, GAMMA, names=("a", "b", "pear", "d", "e"))
    assert stepper.children == (*stepper.controls.values(), stepper.screen, stepper.words)
    assert (stepper.controls["token"].min, stepper.controls["token"].max, stepper.controls["decay"].max) == (0, 5, 1.0)
    assert stepper.controls["token"].description == "token n"
    assert stepper.controls["decay"].description == "decay \N{GREEK SMALL LETTER GAMMA}"
    stepper.move(token=3)
    assert "Token 3 (pear)" in stepper.words.value
    for number in oracle(tokens, GAMMA, 3)[0]:
        assert f"{round(number, 3)}" in stepper.words.value


def test_where_no_widget_can_be_shown_there_is_its_picture_in_the_same_size(tokens):
    stepper = memory.state_stepper(*tokens, GAMMA)
    picture = stepper.move(token=3)
    shown, metadata = stepper._repr_mimebundle_()
    assert shown["application/vnd.jupyter.widget-view+json"]["model_id"] == stepper.model_id
    assert b64decode(shown["image/png"]) == picture.png()
    assert metadata["image/png"] == {"alt": picture.description, "width": int(stepper.screen.width)}


def test_no_label_has_a_tooltip_that_reads_null(tokens):
    for control in memory.state_stepper(*tokens, GAMMA).controls.values():
        assert control.tooltip == control.description


def test_three_forms_draws_one_function_three_ways(amounts):
    q, k, v = amounts
    picture = forms.three_forms(q, k, v, gamma=0.75, chunk_size=2)
    want = retention_oracle(q[None, None], k[None, None], v[None, None], np.array([0.75]))[0][0, 0]
    images = drawn(picture)
    for form in ("parallel", "recurrent", "chunkwise"):
        np.testing.assert_allclose(images[f"{form} output"].T, want, atol=1e-12)
    assert 0 <= picture.difference < 1e-12
    assert any(f"{picture.difference:.1e}" in text.get_text() for text in picture.texts)


def test_three_forms_draws_matrix_states_and_blocks(amounts):
    q, k, v = amounts
    axes = {ax.get_label(): ax for ax in forms.three_forms(q, k, v, gamma=0.75, chunk_size=2).axes}
    states = [oracle(amounts, 0.75, n)[1] for n in range(1, 7)]
    scores = np.array([[0.75 ** (n - m) * q[n] @ k[m] if n >= m else 0 for m in range(6)] for n in range(6)])

    matrix = axes["parallel"].images[0].get_array()
    np.testing.assert_allclose(matrix.filled(0), scores, atol=1e-12)
    np.testing.assert_array_equal(matrix.mask, np.triu(np.ones((6, 6), dtype=bool), 1))  # the future is left out

    chain = [image.get_array() for image in axes["recurrent"].images]
    np.testing.assert_allclose(chain, states, atol=1e-12)

    block, carried = axes["chunkwise"].images[0::2], axes["chunkwise"].images[1::2]
    for index, image in enumerate(block):
        part = slice(2 * index, 2 * index + 2)
        np.testing.assert_allclose(image.get_array().filled(0), scores[part, part], atol=1e-12)
        assert image.get_extent() == [2 * index, 2 * index + 2, 2 * index + 2, 2 * index]
    np.testing.assert_allclose([image.get_array() for image in carried], [states[1], states[3]], atol=1e-12)


def test_three_forms_reports_a_form_that_disagrees(amounts, monkeypatch):
    right = forms.retention_chunkwise
    monkeypatch.setattr(forms, "retention_chunkwise", lambda *args, **kw: (right(*args, **kw)[0] + 0.5, None))
    assert forms.three_forms(*amounts, gamma=0.75, chunk_size=2).difference == pytest.approx(0.5)


def test_main_writes_the_same_bytes_twice(tmp_path, capsys):
    path, written = tmp_path / "three_forms.png", []
    for _ in range(2):
        main(tmp_path)
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert written[0].startswith(b"\x89PNG")
    assert b"tEXt" not in written[0]  # no date, no version
    assert b"tIME" not in written[0]
    assert "largest difference" in capsys.readouterr().out


def test_a_picture_shows_itself_with_a_description(tokens):
    picture = memory.step_picture(*tokens, GAMMA, 2)
    data, metadata = picture._repr_mimebundle_()
    assert set(data) == {"image/png", "text/plain"}
    full, small = BytesIO(), Image.open(BytesIO(b64decode(data["image/png"]))).convert("RGB")
    picture.savefig(full, format="png", dpi=130)
    wrong = np.abs(np.asarray(Image.open(full).convert("RGB"), dtype=int) - np.asarray(small, dtype=int))
    assert wrong.mean() < 1  # of 255: the palette of 256 colours is not seen
    assert data["text/plain"] == metadata["image/png"]["alt"] == picture.description != ""


def test_importing_figures_leaves_pyplot_alone():
    code = "import sys, figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=NOTEBOOKS, check=False).returncode == 0


def test_colour_scales_survive_grey():
    from matplotlib import colormaps

    luminance = colormaps[style.AMOUNT](np.linspace(0, 1, 64))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert np.all(np.diff(luminance) < 0)  # light to dark, all the way


def test_a_new_environment_prints_nothing(tmp_path):
    """Without a font cache matplotlib looks for fonts, and says so on stderr unless told not to."""
    program = """
import logging, time, threading
class Eager(threading.Timer):  # matplotlib speaks after five seconds of looking: here at once
    def __init__(self, _, function, *more): super().__init__(0.0, function, *more)
threading.Timer = Eager
import figures
"""
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=NOTEBOOKS, env=environment, capture_output=True, text=True, check=True
    )
    assert list(tmp_path.glob("fontlist*.json"))  # it did look
    assert run.stderr == ""
