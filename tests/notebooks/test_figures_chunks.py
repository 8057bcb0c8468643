"""The pictures of lesson 6, read back: blocks and their cost, masks, errors."""

import numpy as np
import pytest
from figures import chunks
from plotted import axes, check_line, numbers, rectangles, texts

K, V = 4, 8


def image(ax):
    return np.ma.filled(ax.images[0].get_array(), 0.0)


@pytest.mark.parametrize(("size", "lengths"), [(4, (4, 4, 4)), (5, (5, 5, 2)), (1, (1,) * 12), (12, (12,))])
def test_blocks_draws_the_decays_of_eq_7(size, lengths):
    drawn = axes(chunks.blocks(0.5, 12, size, K, V))
    starts, mask = np.cumsum((0, *lengths[:-1])).tolist(), np.zeros((12, 12))
    for start, c in zip(starts, lengths, strict=True):
        for n in range(c):
            mask[start + n, start : start + n + 1] = [0.5 ** (n - m) for m in range(n + 1)]
    xi = [0.5**j for c in lengths for j in range(1, c + 1)]
    zeta = [0.5 ** (c - j) for c in lengths for j in range(1, c + 1)]
    np.testing.assert_allclose(image(drawn["xi"])[:, 0], xi, atol=1e-15)
    np.testing.assert_allclose(image(drawn["zeta"])[0], zeta, atol=1e-15)
    np.testing.assert_allclose(image(drawn["blocks"]), mask, atol=1e-15)
    assert rectangles(drawn["blocks"], shift=0.5) == [(s, s, c, c) for s, c in zip(starts, lengths, strict=True)]


def test_blocks_shades_what_is_read_from_a_state_and_names_it():
    ax = axes(chunks.blocks(0.5, 12, 5, K, V))["blocks"]
    left_of_the_blocks = [(0, 5, 5, 5), (0, 10, 10, 2)]
    assert rectangles(ax, filled=True, shift=0.5) == left_of_the_blocks
    assert [text for text in texts(ax.texts) if "S" in text] == ["$S_{[1]}$", "$S_{[2]}$"]


def test_blocks_writes_the_numbers_it_colours():
    drawn = axes(chunks.blocks(0.5, 4, 2, K, V))
    scores = {place: text for place, text in numbers(drawn["blocks"]).items() if "S" not in text}
    assert scores == {(0, 0): "1", (1, 0): ".50", (1, 1): "1", (2, 2): "1", (3, 2): ".50", (3, 3): "1"}
    assert numbers(drawn["xi"]) == {(0, 0): ".50", (1, 0): ".25", (2, 0): ".50", (3, 0): ".25"}
    assert numbers(drawn["zeta"]) == {(0, 0): ".50", (0, 1): "1", (0, 2): ".50", (0, 3): "1"}


def test_blocks_draws_the_cost_of_every_chunk_size_and_marks_this_one():
    picture = chunks.blocks(0.9, 12, 5, K, V)
    drawn = axes(picture)
    for label, index in (("operations", 0), ("memory", 1)):
        line, dot = drawn[label].lines
        want = [chunks.cost(12, size, K, V)[index] for size in range(1, 13)]
        check_line(line, range(1, 13), want)
        check_line(dot, [5], [want[4]])
        assert f"{want[4]:,}" in drawn[label].get_title()
        assert f"{want[4]:,}" in picture.description
    assert "3 chunks, the last one of 2" in picture.description
    assert drawn["memory"].get_xlabel() == "chunk size C (tokens)"


def test_cost_by_hand():
    """Eq. 7 with K = V = 1: a chunk of c has scores 2 c^2, their use 2 c^2, a read 2 c and a write 2 c."""
    assert chunks.cost(4, 2, 1, 1) == (2 * (2 * 4 * (1 + 1) + 4 * 2), 4 + 1)
    assert chunks.cost(3, 2, 1, 1) == ((2 * 4 * 2 + 4 * 2) + (2 * 1 * 2 + 4), 4 + 1)  # a tail of one token
    assert chunks.cost(8, 4, 3, 5)[0] == 8 * (2 * 4 * (3 + 5) + 4 * 3 * 5)  # T (2 C (K + V) + 4 K V)


def test_the_explorer_moves_both_decays_and_cost():
    drawn = axes(chunks.explorer(0.8, 12, 4, K, V).move(size=6, decay=0.5))
    assert image(drawn["xi"])[5, 0] == 0.5**6
    check_line(drawn["operations"].lines[1], [6], [chunks.cost(12, 6, K, V)[0]])


def test_masks_draws_each_with_its_blocks_and_leaves_zeros_out():
    masks = {"a": np.tril(np.ones((5, 5))), "b": np.full((5, 5), 1.5)}
    drawn = axes(chunks.masks(masks, 2))
    assert list(drawn) == ["a", "b"]
    for name, mask in masks.items():
        array = drawn[name].images[0].get_array()
        np.testing.assert_array_equal(array.filled(0), mask)
        np.testing.assert_array_equal(np.ma.getmaskarray(array), mask == 0)
        assert drawn[name].images[0].get_clim() == (0, 1.5)  # one scale for all
        assert rectangles(drawn[name], shift=0.5) == [(0, 0, 2, 2), (2, 2, 2, 2), (4, 4, 1, 1)]
    assert numbers(drawn["b"])[(0, 4)] == "1.50"
    assert (drawn["a"].get_xlabel(), drawn["a"].get_ylabel()) == ("past token m", "token n")


def test_errors_draws_percent_for_both_names():
    picture = chunks.errors({"x": (0.2, 0.01), "y": (0.5, 0.002)}, ("fast", "slow"))
    (ax,) = picture.axes
    points = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert points == {"fast": [[20.0, 0], [50.0, 1]], "slow": [[1.0, 0], [0.2, 1]]}
    assert texts(ax.get_yticklabels()) == ["x", "y"]
    assert set(texts(ax.texts)) == {"20 %", "50 %", "1 %", "0.2 %"}
    assert ax.get_xscale() == "log"
    assert len({line.get_marker() for line in ax.lines}) == 2  # told apart without colour
    low, high = ax.get_xlim()
    assert low < 0.2 < 50 < high
    assert "x 20 %" in picture.description
