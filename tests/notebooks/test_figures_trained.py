"""The pictures of lesson 9, read back: the bits of every byte, what each head costs, how much past helps."""

import numpy as np
import pytest
from figures import trained
from figures.style import INK, SHARE
from legible import CONTRAST, contrast, turned
from matplotlib.colors import to_rgb, to_rgba
from plotted import axes, check_line, numbers, texts


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


def test_moving_the_writer_shows_another_text():
    samples = {
        (prompt, temperature): (
            np.frombuffer((prompt + letter * 30).encode(), np.uint8),
            np.concatenate([np.full(2, np.nan), np.full(30, cost)]),
        )
        for prompt in ("ab", "cd")
        for temperature, letter, cost in ((0.0, "x", 1.0), (0.7, "y", 3.0))
    }
    widget = trained.writer(samples, length=20, longest=30)
    said = "Temperature 0.0, 20 bytes after the prompt in bold, 1.00 bits each: ab" + 20 * "x"
    assert widget.picture.description == said
    picture = widget.move(prompt="cd", temperature=0.7, length=10)
    assert "".join(text_of(picture).values()) == "cd" + "y" * 10
    np.testing.assert_array_equal(axes(picture)["text"].images[0].get_array().compressed(), np.full(10, 3.0))


def test_heads_writes_what_each_head_costs():
    rise = np.array([[0.1, -0.001, 0.3], [0.02, 0.5, 0.25]])
    picture = trained.heads(rise, np.array([32.0, 128.4, 512.0]), ["layer 1", "all layers"])
    (ax,) = picture.axes
    np.testing.assert_array_equal(ax.images[0].get_array(), rise)
    assert ax.images[0].get_clim() == (0, 0.5)
    assert numbers(ax) == {(i, h): f"{value:.3f}" for (i, h), value in np.ndenumerate(rise)}
    assert texts(ax.get_xticklabels()) == ["0\n32", "1\n128", "2\n512"]
    assert texts(ax.get_yticklabels()) == ["layer 1", "all layers"]
    assert "the most in row all layers, head 1: 0.50" in picture.description


def test_past_marks_the_least_and_the_window_of_training():
    contexts, bits = np.array([2, 4, 8, 16]), np.array([3.0, 2.5, 2.0, 2.25])
    picture = trained.past(contexts, bits, 2.125, 12)
    (ax,) = picture.axes
    curve, least, everything, window = ax.lines
    check_line(curve, contexts, bits)
    check_line(least, [8], [2.0])
    assert list(everything.get_ydata()) == [2.125, 2.125]
    assert list(window.get_xdata()) == [12, 12]
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "c (bytes)", "bits per byte")
    assert len({line.get_linestyle() for line in (curve, everything, window)}) == 3  # told apart without colour
    assert "least with 8 (2.00), 2.25 with 16, 2.12 with all" in picture.description
    assert "trained on windows of 12 bytes" in picture.description
