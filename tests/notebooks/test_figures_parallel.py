"""Lesson 4's pictures: the cells of both are those of the oracle, and what is read below them is the same."""

import numpy as np
import pytest
from figures import parallel

from refimpl.oracle import retention_oracle

GAMMA, T, K, V = 0.5, 5, 3, 2


@pytest.fixture
def tokens():
    rng = np.random.default_rng(5)
    return rng.normal(size=(T, K)), rng.normal(size=(T, K)), rng.normal(size=(T, V))


def images(picture):
    return {ax.get_label(): ax.images[0].get_array() for ax in picture.axes}


def frames(picture, label):
    """Rectangles drawn in orange, as (left, top, width, height)."""
    (ax,) = (ax for ax in picture.axes if ax.get_label() == label)
    orange = parallel.ORANGE
    return [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in ax.patches if _hex(p) == orange]


def _hex(patch):
    return "#" + "".join(f"{round(255 * x):02X}" for x in patch.get_edgecolor()[:3])


def oracle(q, k, v, n):
    out, state = retention_oracle(q[None, None, :n], k[None, None, :n], v[None, None, :n], np.array([GAMMA]))
    return out[0, 0, -1], state[0, 0]


def term(q, k, v, n, m):
    """What token m gives to o_n, counted from 1."""
    return GAMMA ** (n - m) * (q[n - 1] @ k[m - 1]) * v[m - 1] if m <= n else np.zeros(V)


def tile(image, row, column):
    """Matrix row, column of the image that `_tiles` draws with gaps."""
    return image[row * (K + 1) : row * (K + 1) + K, column * (V + 1) : column * (V + 1) + V]


def test_in_matrices_draws_eq_5(tokens):
    q, k, v = tokens
    drawn = images(parallel.in_matrices(*tokens, GAMMA))
    np.testing.assert_allclose(drawn["scores"], [[q[n] @ k[m] for m in range(T)] for n in range(T)], atol=1e-12)
    by_hand = [[GAMMA ** (n - m) if n >= m else 0 for m in range(T)] for n in range(T)]
    np.testing.assert_array_equal(drawn["mask"], by_hand)
    np.testing.assert_allclose(drawn["weights"], drawn["scores"] * by_hand, atol=1e-12)
    np.testing.assert_array_equal(drawn["values"], v)
    np.testing.assert_allclose(drawn["outputs"], [oracle(*tokens, n)[0] for n in range(1, T + 1)], atol=1e-12)


def test_both_pictures_hold_every_pair_and_no_future(tokens):
    q, k, v = tokens
    drawn = images(parallel.two_pictures(*tokens, GAMMA, n=3))
    for n in range(1, T + 1):
        for m in range(1, T + 1):
            weight, part = drawn["weights"][n - 1, m - 1], tile(drawn["parts"], n - 1, m - 1)
            if m > n:
                assert weight is np.ma.masked
                assert part.mask.all()
            else:
                assert weight == pytest.approx(GAMMA ** (n - m) * (q[n - 1] @ k[m - 1]), abs=1e-12)
                want = GAMMA ** (n - m) * np.outer(k[m - 1], v[m - 1])
                np.testing.assert_allclose(part.filled(np.nan), want, atol=1e-12)
        state = tile(drawn["states"], n - 1, 0).filled(np.nan)
        np.testing.assert_allclose(state, oracle(*tokens, n)[1], atol=1e-12)
    np.testing.assert_array_equal(drawn["values"], v)


@pytest.mark.parametrize("n", range(1, T + 1))
@pytest.mark.parametrize("m", range(T + 1))
def test_both_sides_read_the_same_term_and_frame_it(tokens, n, m):
    picture = parallel.two_pictures(*tokens, GAMMA, n, m)
    want = term(*tokens, n, m) if m else oracle(*tokens, n)[0]
    drawn = images(picture)
    np.testing.assert_allclose(drawn["read left"][0], want, atol=1e-12)
    np.testing.assert_allclose(drawn["read right"][0], want, atol=1e-12)
    cells = (m - 1, n - 1, 1, 1) if m else (0, n - 1, n, 1)
    assert frames(picture, "weights") == frames(picture, "parts") == [cells]
    assert frames(picture, "values") == [(0, cells[0], V, cells[2])]  # the same tokens m, now downwards
    for number in want:
        assert picture.description.count(f"{number:.3g}") >= 2
    assert ("zero" in picture.description) == (m > n)


def test_tiles_write_the_numbers_that_they_colour():
    v = np.array([[8.0, 0], [0, 4]])
    picture = parallel.two_pictures(np.eye(2), np.eye(2), v, GAMMA, 2)
    texts = {ax.get_label(): [t.get_text() for t in ax.texts] for ax in picture.axes}
    assert texts["weights"] == ["1", "0", "1"]
    assert texts["values"] == ["8", "0", "0", "4"]
    assert texts["states"][:8] == ["8", "0", "0", "0", "4", "0", "0", "4"]
    (values,) = (ax for ax in picture.axes if ax.get_label() == "values")
    assert [t.get_position() for t in values.texts] == [(0.5, 0.5), (1.5, 0.5), (0.5, 1.5), (1.5, 1.5)]


def test_moving_the_sliders_picks_the_cell(tokens):
    explorer = parallel.two_pictures_explorer(*tokens, GAMMA)
    assert [c.description for c in explorer.controls.values()] == ["token n", "past token m"]
    assert (explorer.controls["token"].min, explorer.controls["token"].max) == (1, T)
    for n, m in ((4, 2), (4, 0), (2, 5)):
        drawn = images(explorer.move(token=n, term=m))
        want = term(*tokens, n, m) if m else oracle(*tokens, n)[0]
        np.testing.assert_allclose(drawn["read right"][0], want, atol=1e-12)
        assert explorer.words.value.count(f"o_{n}") == 2
