"""Lesson 7: a picture among noise, read by eight heads."""

import numpy as np

from .explorable import Explorable

FACE = ("..####..", ".#....#.", "#.#..#.#", "#......#", "#.#..#.#", "#..##..#", ".#....#.", "..####..")


class Scales(Explorable):
    """A small picture was written L tokens ago and noise came after it. Move L: which head still hears it? Then make all
    heads equal."""

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
