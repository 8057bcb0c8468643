"""Lessons 0, 4 and 6: the parallel, the recurrent and the chunkwise form of one retention, row by row."""

import numpy as np

from .explorable import Explorable


class Forms(Explorable):
    """Each token n reads all tokens m up to it: it adds up their values v, weighted by q·k and by γ for each token between.
    This one sum is computed in three orders (Eq. 5, 6, 7 of the paper). Point at a cell: its partners in the other forms
    light up. Then set the chunk size to 1, and to 9."""

    module = "forms"

    @classmethod
    def course_data(cls):
        """q, k (9, 4) and v (9, 3), all positive, so that darker is larger."""
        rng = np.random.default_rng(0)
        parts = {"q": rng.uniform(0.5, 1, (9, 4)), "k": rng.uniform(0.5, 1, (9, 4)), "v": rng.uniform(0, 1, (9, 3))}
        return {name: part.round(3).tolist() for name, part in parts.items()}
