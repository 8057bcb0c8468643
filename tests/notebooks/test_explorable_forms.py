"""The three forms: every number is refimpl's, and the difference is measured between the three."""

from itertools import combinations

import numpy as np
import pytest
from explorables import Forms
from explorables.node import compute

from refimpl import decay_mask, retention_chunkwise, retention_parallel, retention_recurrent, retention_step

START = {"n": 8, "m": 2, "gamma": 0.75, "size": 3}
SETTINGS = [
    {}, {"n": 1}, {"n": 9}, {"m": 1}, {"m": 9}, {"gamma": 0.5}, {"gamma": 1}, {"size": 1}, {"size": 9},
    {"n": 5, "m": 5, "gamma": 0.93, "size": 4}, {"n": 3, "m": 7, "gamma": 0.61, "size": 7},
]  # fmt: skip


def test_numbers_are_those_of_the_three_forms():
    data = {name: np.array(part) for name, part in Forms.course_data().items()}
    inputs = [data[name][None, None] for name in "qkv"]
    for values, got in zip(SETTINGS, compute(Forms, *SETTINGS), strict=True):
        n, m, gamma, size = (START | values).values()
        gammas = np.array([float(gamma)])
        mask = decay_mask(gammas, 9)[0]
        scores = data["q"] @ data["k"].T
        states = [retention_recurrent(*(x[:, :, :t] for x in inputs), gammas)[1][0, 0] for t in range(1, 10)]
        ends = [min(end, 9) for end in range(size, 9 + size, size)]
        want = {
            "weights": scores * mask,
            "writes": [retention_step(*(x[:, :, [t]] for x in inputs), gammas)[1][0, 0] for t in range(9)],
            "states": states, "carried": [states[end - 1] for end in ends], "ends": ends, "start": (n - 1) // size * size,
            "parallel": retention_parallel(*inputs, gammas)[0][0, 0],
            "recurrent": retention_recurrent(*inputs, gammas)[0][0, 0],
            "chunkwise": retention_chunkwise(*inputs, gammas, chunk_size=size)[0][0, 0],
            "lag": n - m, "score": scores[n - 1, m - 1], "decay": mask[n - 1, m - 1], "weight": (scores * mask)[n - 1, m - 1],
        }  # fmt: skip
        want["largest"] = want["parallel"].max()
        difference = got.pop("difference")
        assert got.keys() == want.keys()
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-12, err_msg=name)
        shown = [np.array(got[name]) for name in ("parallel", "recurrent", "chunkwise")]
        assert difference == max(np.abs(a - b).max() for a, b in combinations(shown, 2))
        assert difference == pytest.approx(0, abs=1e-12)
