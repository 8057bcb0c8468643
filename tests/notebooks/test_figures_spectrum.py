"""The picture of lesson 2, read back: the factors of a matrix."""

import numpy as np
from figures import spectrum
from plotted import texts

TURN = [[0.0, 1.0], [-1.0, 0.0]]  # by 90 degrees: eigenvalues i and -i


def test_product_draws_the_matrices_it_gets_with_their_signs():
    matrices = [np.array(TURN) @ np.diag([2.0, 3]), np.array(TURN), np.diag([2.0, 3])]
    picture = spectrum.product(matrices, "abc")
    for ax, matrix, title in zip(picture.axes, matrices, "abc", strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), matrix)
        assert ax.get_title() == title
        assert ax.images[0].get_clim() == (-3, 3)
    assert texts(picture.texts) == ["=", "·"]
    assert "[[0.0, 3.0], [-2.0, 0.0]]" in picture.description
