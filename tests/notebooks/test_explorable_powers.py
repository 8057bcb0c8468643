"""The powers: A is a change of basis around a turn that shrinks, its powers are those of NumPy, and one number does it."""

import numpy as np
from explorables import Powers
from explorables.node import compute

from refimpl import rotate

START = {"radius": 0.95, "degrees": 30, "n": 5, "mixing": 1}
SETTINGS = [
    {},
    {"radius": 0.5, "degrees": 0, "n": 0, "mixing": 0},
    {"radius": 1.1, "degrees": 180, "n": 24, "mixing": 1},
    {"radius": 1.0, "degrees": 90, "n": 7, "mixing": 0.3},
    {"radius": 1.03, "degrees": 55, "n": 19, "mixing": 0},
    {"degrees": 0},
    {"degrees": 180},
    {"mixing": 0},
    {"n": 24},
]


def test_numbers_are_those_of_the_matrix_and_of_the_eigenvalue():
    ages = np.arange(25)
    for values, got in zip(SETTINGS, compute(Powers, *SETTINGS), strict=True):
        radius, degrees, n, mixing = (START | values).values()
        theta = np.deg2rad(float(degrees))
        turn = rotate(np.eye(2)[:, None], 1, np.array([theta]))[:, 0].T  # of a column, as `rotate` turns a row
        basis = np.array([[1, mixing], [0, 1 - 0.5 * mixing]])
        A = radius * basis @ turn @ np.linalg.inv(basis)
        a = (radius * np.exp(1j * theta)) ** ages
        path = np.array([np.linalg.matrix_power(A, j) @ [1, 0] for j in ages])
        with np.errstate(divide="ignore"):
            want = {
                "A": A,
                "path": path,
                "power": np.linalg.matrix_power(A, n),
                "spiral": np.stack([a.real, a.imag], axis=1),
                "envelope": np.hypot(1, mixing) * radius**ages,
                "left": radius**n,
                "turned": n * degrees % 360,
                "period": np.float64(360) / degrees,
                "half": np.log(2) / np.abs(np.log(np.float64(radius))),
                "largest": np.abs(A).max(),
            }
        assert got.keys() == want.keys()
        for name, value in want.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-12, atol=1e-12, err_msg=f"{name} at {values}")
        assert np.abs(np.linalg.eigvals(A) - a[1]).min() < 1e-7
        np.testing.assert_allclose(got["path"], np.array(got["spiral"]) @ basis.T, rtol=1e-11, atol=1e-11)
        assert np.all(np.abs(path[:, 0]) <= np.array(got["envelope"]) * (1 + 1e-12))
