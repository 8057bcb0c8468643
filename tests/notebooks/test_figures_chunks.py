"""The pictures of lesson 6, read back: blocks with their states, and masks."""

import numpy as np
import pytest
from figures import chunks
from plotted import axes, numbers, oracle, rectangles, texts

GAMMA, TIMES = "\N{GREEK SMALL LETTER GAMMA}", "\N{MULTIPLICATION SIGN}"


def image(ax):
    return np.ma.filled(ax.images[0].get_array(), 0.0)


@pytest.fixture
def written():
    """k and v of twelve tokens."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 3)), rng.normal(size=(12, 2))


@pytest.mark.parametrize(("size", "lengths"), [(4, (4, 4, 4)), (5, (5, 5, 2)), (1, (1,) * 12), (12, (12,))])
def test_blocks_draws_the_decays_of_eq_7(written, size, lengths):
    drawn = axes(chunks.blocks(*written, 0.5, size))
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


def test_blocks_shades_what_is_read_from_a_state_and_names_it(written):
    ax = axes(chunks.blocks(*written, 0.5, 5))["blocks"]
    left_of_the_blocks = [(0, 5, 5, 5), (0, 10, 10, 2)]
    assert rectangles(ax, filled=True, shift=0.5) == left_of_the_blocks
    assert [text for text in texts(ax.texts) if "S" in text] == ["reads $S_{5}$", "reads $S_{10}$"]


def test_blocks_writes_the_numbers_it_colours(written):
    drawn = axes(chunks.blocks(*(x[:4] for x in written), 0.5, 2))
    scores = {place: text for place, text in numbers(drawn["blocks"]).items() if "S" not in text}
    assert scores == {(0, 0): "1", (1, 0): ".50", (1, 1): "1", (2, 2): "1", (3, 2): ".50", (3, 3): "1"}
    assert numbers(drawn["xi"]) == {(0, 0): ".50", (1, 0): ".25", (2, 0): ".50", (3, 0): ".25"}
    assert numbers(drawn["zeta"]) == {(0, 0): ".50", (0, 1): "1", (0, 2): ".50", (0, 3): "1"}


@pytest.mark.parametrize(("size", "ends"), [(4, (4, 8, 12)), (5, (5, 10, 12)), (12, (12,))])
def test_blocks_draws_each_state_and_what_it_keeps(written, size, ends):
    picture = chunks.blocks(*written, 0.8, size)
    ax = axes(picture)["states"]
    assert len(ax.images) == len(ends)
    for shown, end in zip(ax.images, ends, strict=True):
        np.testing.assert_allclose(shown.get_array(), oracle((written[0], *written), 0.8, end)[1], atol=1e-14)
    words = texts(ax.texts)
    assert [word for word in words if word.startswith("$S_")] == [f"$S_{{{end}}}$" for end in ends]
    kept = [f"{TIMES} ${GAMMA}^{{{c}}}$ = {0.8**c:.2f}" for c in np.diff(ends).tolist()]
    assert [word for word in words if word.startswith(TIMES)] == kept
    assert words.count("$\\mathbf{K}^T(\\mathbf{V}⊙ζ)$") == len(ends)
    assert f"after tokens {', '.join(map(str, ends))}" in picture.description


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
