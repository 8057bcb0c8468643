"""Lesson 10: a loss pulls at one output, and its gradient goes back through the states."""

import numpy as np

from .explorable import Explorable


class Gradient(Explorable):
    """Above, a retention runs forwards; below, the gradient of a loss runs backwards through the same states, from the output
    at which the loss pulls. Move n and m, and see what reaches token m. Then let every output pull.

    data: q, k (T, K), v (T, V), and pull (T, V), the gradient of the loss at each output; lists of rows.
    """

    module = "gradient"

    @classmethod
    def course_data(cls):
        """Eight tokens of random numbers, with K = 3 and V = 2."""
        rng = np.random.default_rng(10)
        return {
            name: rng.normal(size=(8, width)).round(2).tolist()
            for name, width in (("q", 3), ("k", 3), ("v", 2), ("pull", 2))
        }
