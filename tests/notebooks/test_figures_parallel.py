"""The pictures of lesson 4, read back: the cells are those of the oracle, and both sides read the same."""

import numpy as np
import pytest
from figures import parallel
from matplotlib.colors import to_rgba
from plotted import axes, images, oracle, texts

GAMMA, T, K, V = 0.5, 5, 3, 2


def frames(picture, label):
    """Rectangles drawn in orange, as (left, top, width, height)."""
    orange = [p for p in axes(picture)[label].patches if p.get_edgecolor() == to_rgba(parallel.ORANGE)]
    return [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in orange]


def term(q, k, v, n, m):
    """What token m gives to o_n, counted from 1; m = 0 stands for all of o_n."""
    if m == 0:
        return oracle((q, k, v), GAMMA, n)[0]
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
    np.testing.assert_allclose(drawn["outputs"], [oracle(tokens, GAMMA, n)[0] for n in range(1, T + 1)], atol=1e-12)


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
        np.testing.assert_allclose(state, oracle(tokens, GAMMA, n)[1], atol=1e-12)
    np.testing.assert_array_equal(drawn["values"], v)


@pytest.mark.parametrize("n", range(1, T + 1))
@pytest.mark.parametrize("m", range(T + 1))
def test_both_sides_read_the_same_term_and_frame_it(tokens, n, m):
    picture = parallel.two_pictures(*tokens, GAMMA, n, m)
    want, drawn = term(*tokens, n, m), images(picture)
    np.testing.assert_allclose(drawn["read left"][0], want, atol=1e-12)
    np.testing.assert_allclose(drawn["read right"][0], want, atol=1e-12)
    cells = (m - 1, n - 1, 1, 1) if m else (0, n - 1, n, 1)
    assert frames(picture, "weights") == [cells]
    (x, y, width, height), *others = frames(picture, "parts")  # narrower, clear of the plus signs
    assert not others
    assert (y, height) == cells[1::2]
    assert (x + width / 2, width) == pytest.approx((cells[0] + cells[2] / 2, cells[2]), abs=0.3)
    assert frames(picture, "values") == [(0, cells[0], V, cells[2])]  # the same tokens m, now downwards
    for number in want:
        assert picture.description.count(f"{number:.3g}") >= 2
    assert ("zero" in picture.description) == (m > n)


def test_tiles_write_the_numbers_that_they_colour():
    v = np.array([[8.0, 0], [0, 4]])
    picture = parallel.two_pictures(np.eye(2), np.eye(2), v, GAMMA, 2)
    drawn = axes(picture)
    assert texts(drawn["weights"].texts) == ["1", "0", "1"]
    assert texts(drawn["values"].texts) == ["8", "0", "0", "4"]
    assert texts(drawn["states"].texts)[:8] == ["8", "0", "0", "0", "4", "0", "0", "4"]
    assert [t.get_position() for t in drawn["values"].texts] == [(0.5, 0.5), (1.5, 0.5), (0.5, 1.5), (1.5, 1.5)]


def test_what_is_compared_shares_a_colour_scale(tokens):
    scale = {name: ax.images[0].get_clim() for name, ax in axes(parallel.in_matrices(*tokens, GAMMA)).items()}
    assert scale["scores"] == scale["mask"] == scale["weights"] != scale["values"] == scale["outputs"]


def test_matrices_of_a_row_are_added_and_a_state_grows_by_the_newest(tokens):
    drawn = axes(parallel.two_pictures(*tokens, GAMMA, 3))
    assert texts(drawn["parts"].texts).count("+") == T * (T - 1) // 2
    assert sum("+ k" in text for text in texts(drawn["states"].texts)) == T - 1
