"""Lesson 7: a picture among noise, read by eight heads."""

import numpy as np

from .explorable import Explorable

FACE = ("..####..", ".#....#.", "#.#..#.#", "#......#", "#.#..#.#", "#..##..#", ".#....#.", "..####..")


class Scales(Explorable):
    """A small picture was written into the state L tokens ago, and noise after it. A head forgets within its window, 1/(1 − γ)
    tokens. Move L: which head hears the picture best? Then make all heads equal: move "next window" to × 1."""

    module = "scales"

    @classmethod
    def course_data(cls):
        """The picture as signs, and one noise of size 1 for all heads: their reads differ by its size alone."""
        noise = np.random.default_rng(7).standard_normal(64)
        noise = (noise - noise.mean()) / noise.std()
        return {
            "picture": [1 if pixel == "#" else -1 for row in FACE for pixel in row],
            "noise": noise.round(4).tolist(),
        }
