"""The pictures of lesson 9, read back: the bits of every byte, what each head costs, how much past helps."""

import numpy as np
import pytest
from figures import trained
from figures.style import INK, SHARE
from legible import CONTRAST, contrast, turned
from matplotlib.colors import to_rgb, to_rgba
from plotted import axes, check_line, texts


def text_of(picture):
    """The characters that the outlines spell, {(row, column): character}; row 0 is the lowest."""
    cells = {}
    for patch in axes(picture)["text"].patches:
        row = round(patch.get_path().get_extents().y0 // trained.LEADING)
        for column, character in enumerate(patch.get_label()):
            if character != " ":
                assert (row, column) not in cells  # no character is drawn twice
                cells[row, column] = character
    return cells


TEXT = "A $5 note, and a\nline" + "x" * 100
TOKENS = np.frombuffer(TEXT.encode(), np.uint8)
BITS = np.concatenate([np.full(3, np.nan), np.linspace(0, 8, len(TOKENS) - 3)])


def test_surprise_shades_every_byte_and_writes_it_into_its_cell():
    picture = trained.surprise(TOKENS, BITS, description="d")
    ax = axes(picture)["text"]
    shaded = ax.images[0].get_array()
    assert shaded.shape == (2, trained.COLUMNS)
    np.testing.assert_allclose(shaded.filled(np.nan).ravel()[: len(BITS)], BITS)
    assert shaded.mask.ravel()[len(BITS) :].all()
    assert ax.images[0].get_clim() == (0, 8)
    want = {
        (1 - n // trained.COLUMNS, n % trained.COLUMNS): "¶" if character == "\n" else character
        for n, character in enumerate(TEXT)
        if character != " "
    }
    assert text_of(picture) == want
    assert axes(picture)["scale"].get_xlabel() == "bits that the byte cost"


def test_characters_stand_in_their_cells():
    """The outline of a character lies between the borders of its cell: the advance is that of the font."""
    tokens = np.full(trained.COLUMNS, ord(" "))
    tokens[[0, 45, -1]] = ord("o")
    (patch,) = axes(trained.surprise(tokens, np.zeros(len(tokens)), description="d"))["text"].patches
    path = patch.get_path()
    x = path.vertices[path.codes != path.CLOSEPOLY, 0]
    for column in (0, 45, trained.COLUMNS - 1):
        inside = x[(x > column - 0.4) & (x < column + 1.4)]
        assert column < inside.min() < column + 0.3
        assert column + 0.7 < inside.max() < column + 1


def test_given_bytes_are_bold_and_all_letters_dark():
    patches = axes(trained.surprise(TOKENS, BITS, description="d"))["text"].patches
    assert "A $" in {patch.get_label().strip() for patch in patches}
    assert {patch.get_facecolor() for patch in patches} == {to_rgba(INK)}
    ink = SHARE(1.0)[:3], to_rgb(INK)
    assert (
        min(contrast(*ink), contrast(*map(turned, ink))) >= CONTRAST
    )  # on the darkest cell; paths are no texts to `legible`


@pytest.mark.parametrize(("token", "want"), [(65, "A"), (10, "¶"), (200, "·"), (0, "·"), (36, "$")])
def test_a_byte_is_shown_as_one_character(token, want):
    assert trained.shown(token) == want


def test_a_text_without_letters_is_drawn():
    picture = trained.surprise(np.full(3, 32), np.zeros(3), description="d")
    assert list(axes(picture)["text"].patches) == []
    (cells,) = (image.get_array() for image in axes(picture)["text"].images)
    assert cells.compressed().tolist() == [0.0, 0.0, 0.0]
    assert picture.png().startswith(b"\x89PNG")


def test_heads_writes_what_each_head_costs_and_its_error():
    rise, error = np.array([[0.1, -0.001, 0.3], [0.02, 0.5, -0.0001]]), np.full((2, 3), 0.0123)
    picture = trained.heads(rise, error, np.array([32.0, 128.4, 512.0]), ["layer 1", "all layers"])
    (ax,) = picture.axes
    np.testing.assert_array_equal(ax.images[0].get_array(), rise)
    assert ax.images[0].get_clim() == (0.005, 0.5)
    assert [text.get_text() for text in ax.texts] == [
        f"{value} ± 0.012" for value in ("0.100", "-0.001", "0.300", "0.020", "0.500", "0.000")
    ]
    assert texts(ax.get_xticklabels()) == ["0\n32", "1\n128", "2\n512"]
    assert texts(ax.get_yticklabels()) == ["layer 1", "all layers"]
    assert "the most in row all layers, head 1: 0.50" in picture.description


def test_bars_reach_one_standard_error_up_and_down():
    x, y, error = np.array([2, 4, 8]), np.array([3.0, 0.5, 0.1]), np.array([0.3, 0.1, 0.2])
    picture = trained.bars(x, y, error, xlabel="c", ylabel="bits", description="d", level=0.25)
    (ax,) = picture.axes
    (container,) = ax.containers
    line, _, (drawn,) = container.lines
    check_line(line, x, y)
    np.testing.assert_allclose([segment[:, 1] for segment in drawn.get_segments()], np.stack([y - error, y + error], 1))
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "c", "bits")
    assert texts(ax.get_xticklabels()) == ["2", "4", "8"]
    assert picture.description == "d"
    assert [list(each.get_ydata()) for each in ax.lines if each.get_linestyle() == "--"] == [[0.25, 0.25]]


def test_dots_stand_from_the_top_down_and_are_filled_where_the_bar_leaves_zero_out():
    look = {"reach": 3, "xlabel": "bits", "description": "d", "title": "t", "colors": {"b": "#444444"}}
    picture = trained.dots(["a", "b"], [0.4, -0.1], [0.1, 0.05], **look)
    (ax,) = picture.axes
    marks, drawn = zip(*((line, drawn) for line, _, (drawn,) in (each.lines for each in ax.containers)), strict=True)
    for row, mark in enumerate(marks):
        check_line(mark, [[0.4, -0.1][row]], [row])
    assert [mark.get_markerfacecolor() == "white" for mark in marks] == [False, True]
    assert [mark.get_color() for mark in marks] == ["#0072B2", "#444444"]
    (first,), (second,) = (each.get_segments() for each in drawn)
    np.testing.assert_allclose([first[:, 0], second[:, 0]], [[0.1, 0.7], [-0.25, 0.05]])
    assert (texts(ax.get_yticklabels()), picture.description) == (["a", "b"], "d")
    assert ax.get_title("left") == "t"
    assert ax.get_xlabel() == "bits\nbars: 3 standard errors; filled: settled"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_dots_of_one_name_share_a_row():
    look = {"reach": 3, "xlabel": "bits", "description": "d", "colors": ["#0072B2", "#444444", "#0072B2"]}
    (ax,) = trained.dots(["a", "a", "b"], [0.4, -0.1, 0.2], [0.1, 0.05, 0.1], **look).axes
    marks = [each.lines[0] for each in ax.containers]
    np.testing.assert_allclose([mark.get_ydata()[0] for mark in marks], [-0.15, 0.15, 1])
    assert [mark.get_color() for mark in marks] == look["colors"]
    assert texts(ax.get_yticklabels()) == ["a", "b"]


def test_seeds_stand_in_rows_from_the_top_down_and_hide_none():
    look = {"xlabel": "right", "level": 0.25, "level_name": "chance", "description": "d", "title": "t"}
    picture = trained.seeds({"a": [0.5, 0.5, 0.1], "b": [0.2, 0.9]}, colors={"b": "#0072B2"}, **look)
    (ax,) = picture.axes
    level, first, second = ax.lines
    assert list(level.get_xdata()) == [0.25, 0.25]
    for mark, values, row in ((first, [0.5, 0.5, 0.1], 0), (second, [0.2, 0.9], 1)):
        check_line(mark, values, row + np.linspace(-0.2, 0.2, len(values)))
        assert (mark.get_marker(), mark.get_linestyle()) == ("o", "None")
    assert [mark.get_color() for mark in (first, second)] == ["#444444", "#0072B2"]
    assert (texts(ax.get_yticklabels()), texts(ax.texts)) == (["a", "b"], ["chance"])
    assert (ax.get_title("left"), ax.get_xlabel(), picture.description) == ("t", "right\na dot: a seed", "d")
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
