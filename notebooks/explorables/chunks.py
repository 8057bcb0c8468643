"""Lesson 6: cut a text into chunks anywhere, and see what six mistakes do to it."""

import numpy as np

from .explorable import Explorable


class Chunks(Explorable):
    """Inside a chunk all pairs are computed at once (blue); what came before is read from one state (orange). Drag the cuts:
    the work changes, and each output stays equal to that of one token at a time. Then make a mistake, and move the cuts
    until it hides.

    data: q, k (T, K) and v (T, V), lists of rows.
    """

    module = "chunks"

    @classmethod
    def course_data(cls):
        """Twelve tokens of random numbers, with K = V = 4."""
        rng = np.random.default_rng(6)
        return {name: rng.normal(size=(12, 4)).round(2).tolist() for name in "qkv"}
