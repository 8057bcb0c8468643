"""Lesson 2: a matrix and its factors."""

import numpy as np

from .style import equation, new_picture, styled


@styled
def product(matrices, titles):
    """The first matrix as the product of the others, as heat maps. matrices: real (N, M); titles: as many strings."""
    limit = max(np.abs(matrix).max() for matrix in matrices) or 1
    said = f"Heat maps: {np.round(matrices[0], 3).tolist()} as a product of {len(matrices) - 1} matrices."
    picture = new_picture(2.1 * len(matrices), 2.4, said)
    signs = ("=", *"·" * (len(matrices) - 2))
    labels = {"xlabel": "column", "ylabel": "row"}
    equation(picture, titles, matrices, titles, signs, limit=limit, **labels, wspace=0.6, left=0.08, right=0.97)
    return picture
