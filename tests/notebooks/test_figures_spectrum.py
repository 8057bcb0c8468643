"""The pictures of lesson 2, read back: factors of a matrix, impulse responses, an eigenvalue and its powers."""

import numpy as np
import pytest
from figures import spectrum
from plotted import axes, texts

TURN = [[0.0, 1.0], [-1.0, 0.0]]  # by 90 degrees: eigenvalues i and -i


def dots(ax):
    """The ages and values of a stem plot; the stems must end at the dots."""
    ages, values = ax.lines[0].get_data()
    tops = [[(age, 0), (age, value)] for age, value in zip(ages, values, strict=True)]
    np.testing.assert_array_equal(ax.collections[0].get_segments(), tops)
    return ages, values


def test_product_draws_the_matrices_it_gets_with_their_signs():
    matrices = [np.array(TURN) @ np.diag([2.0, 3]), np.array(TURN), np.diag([2.0, 3])]
    picture = spectrum.product(matrices, "abc")
    for ax, matrix, title in zip(picture.axes, matrices, "abc", strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), matrix)
        assert ax.get_title() == title
        assert ax.images[0].get_clim() == (-3, 3)
    assert texts(picture.texts) == ["=", "·"]
    assert "[[0.0, 3.0], [-2.0, 0.0]]" in picture.description


def test_responses_puts_every_line_into_its_panel():
    grid = np.arange(24.0).reshape(2, 3, 4)
    picture = spectrum.responses(grid, ["up", "down"], ["a", "b", "c"])
    drawn = axes(picture)
    assert list(drawn) == ["up, a", "up, b", "up, c", "down, a", "down, b", "down, c"]
    for r, row in enumerate(("up", "down")):
        for c, column in enumerate("abc"):
            ages, values = dots(drawn[f"{row}, {column}"])
            np.testing.assert_array_equal(ages, range(4))
            np.testing.assert_array_equal(values, grid[r, c])
    assert "up: 3 (a), 7 (b), 11 (c); down: 15 (a)" in picture.description
    assert drawn["down, b"].get_xlabel() == "tokens since the write, j"
    assert [drawn[f"up, {c}"].get_title() for c in "abc"] == ["a", "b", "c"]


def test_eigenvalue_picture_by_hand():
    """a = i/2: powers 1, i/2, -1/4, -i/8, 1/16."""
    picture = spectrum.eigenvalue_picture(0.5, 90, length=4)
    plane, response = (axes(picture)[label] for label in ("plane", "response"))
    powers, eigenvalue, partner = (line.get_xydata() for line in plane.lines[3:])
    np.testing.assert_allclose(powers, [[1, 0], [0, 0.5], [-0.25, 0], [0, -0.125], [0.0625, 0]], atol=1e-15)
    np.testing.assert_allclose([*eigenvalue, *partner], [[0, 0.5], [0, -0.5]], atol=1e-15)
    np.testing.assert_allclose(dots(response)[1], [1, 0, -0.25, 0, 0.0625], atol=1e-15)
    (circle,) = plane.patches
    assert (circle.get_radius(), tuple(circle.get_center())) == (1, (0, 0))


@pytest.mark.parametrize(("radius", "degrees"), [(0.95, 30), (1.0, 45), (1.1, 180), (0.0, 0), (0.6, 0)])
def test_the_response_is_what_a_real_matrix_gives(radius, degrees):
    """The loop of Eq. 1 with a real 2 x 2 matrix, one step at a time."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    state, read = np.array([1.0, 0.0]), []
    for _ in range(25):
        read.append(state[0])
        state = radius * np.array([[c, s], [-s, c]]) @ state
    ax = axes(spectrum.eigenvalue_picture(radius, degrees))["response"]
    np.testing.assert_allclose(dots(ax)[1], read, atol=1e-9)
    low, high = ax.get_ylim()
    assert low <= min(read)
    assert high >= max(read)


@pytest.mark.parametrize(("radius", "word"), [(0.95, "fades"), (1.0, "stays as large"), (1.05, "grows")])
def test_the_picture_says_what_the_radius_decides(radius, word):
    picture = spectrum.eigenvalue_picture(radius, 60)
    assert word in picture.description
    assert word in axes(picture)["response"].get_title()
    assert f"{radius**24 * np.cos(24 * np.pi / 3):.3f}" in picture.description


def test_the_explorer_moves_the_eigenvalue():
    picture = spectrum.eigenvalue_explorer(0.95, 30).move(radius=1.0, degrees=180)
    np.testing.assert_allclose(dots(axes(picture)["response"])[1], (-1.0) ** np.arange(25), atol=1e-12)
