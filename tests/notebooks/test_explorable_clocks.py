"""The clocks: scores of turned hands are those of `refimpl.rotate`, and depend on the distance alone."""

import numpy as np
from explorables import Clocks
from explorables.node import compute

from refimpl import rotate

SETTINGS = [
    {},
    {"degrees": 0, "lag": 0, "m": 0, "between": -180, "gamma": 0.7},
    {"degrees": 180, "lag": 12, "m": 30, "between": 180, "gamma": 1},
    {"degrees": 55, "lag": 7, "m": 19, "between": 65, "gamma": 0.83},
    {"degrees": 0, "gamma": 0.9, "between": 0},
]


def test_numbers_are_those_of_the_rotation():
    start = {"degrees": 30, "lag": 2, "m": 3, "between": -90, "gamma": 0.9}
    for values, got in zip(SETTINGS, compute(Clocks, *SETTINGS), strict=True):
        degrees, lag, m, between, gamma = (start | values).values()
        theta = np.deg2rad([float(degrees)])
        q, k = ([np.cos(angle), np.sin(angle)] for angle in np.deg2rad([60.0 + between, 60.0]))

        def turned(x, n, theta=theta):
            return rotate(np.array(x)[None], n, theta)[0]

        scores = [turned(q, m + j) @ turned(k, m) for j in range(13)]
        fade = gamma ** np.arange(13.0)
        want = {
            "query": turned(q, m + lag),
            "key": turned(k, m),
            "score": turned(q, m + lag) @ turned(k, m),
            "scores": scores,
            "fade": fade,
            "weights": scores * fade,
            "best": np.round(scores * fade, 9).argmax(),
            "everywhere": [turned(q, place + lag) @ turned(k, place) for place in range(31)],
        }
        assert got.keys() == want.keys()
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(got["everywhere"], np.cos(np.deg2rad(between + degrees * lag)), rtol=0, atol=1e-12)
