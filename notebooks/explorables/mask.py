"""Lesson 5: brush the decay mask, and see how many states a loop needs for it."""

import numpy as np

from .explorable import Explorable


class DecayMask(Explorable):
    """Cell (n, m) says how much of token m is left at token n. A loop over tokens that keeps one state can only multiply all
    of it by one number, its factor: each row is the row above times the factor. One painted cell, and one state is not
    enough: clear the paint, brush other cells, or choose another mask.

    data: decays (T,), the decay of each token where each has its own.
    """

    module = "mask"

    @classmethod
    def course_data(cls):
        """Twelve decays from 0.5 to 1, drawn once."""
        return {"decays": np.random.default_rng(5).uniform(0.5, 1.0, 12).round(2).tolist()}
