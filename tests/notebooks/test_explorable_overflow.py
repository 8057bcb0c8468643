"""The decay mask in float32: numbers are those of NumPy's float32, bit for bit, and so are the counts of what is lost."""

import itertools

import numpy as np
import pytest
from explorables import Overflow
from explorables.node import compute

from refimpl import decay_mask


def powers(gamma, exponents):
    """The power in float64, rounded once to float32."""
    with np.errstate(all="ignore"):
        return (np.float64(gamma) ** np.asarray(exponents, dtype=np.float64)).astype(np.float32)


def rows_of(recipe, gamma, n, T):
    """Rows n (R,) of the mask by a recipe, tokens counted from 1: (R, T) float32."""
    m = np.arange(1, T + 1)
    visible = n[:, None] >= m
    with np.errstate(all="ignore"):
        if recipe == "split":
            return np.where(visible, powers(gamma, n)[:, None] * powers(gamma, -m), np.float32(0))
        if recipe == "late":
            table = powers(gamma, np.arange(1 - T, T))  # each lag once
            return table[n[:, None] - m + T - 1] * visible.astype(np.float32)
    return decay_mask(np.array([gamma], dtype=np.float32), T, rows=slice(n[0] - 1, n[-1]))[0]


def counted(recipe, gamma, T):
    lost, infinite, undefined = [], 0, 0
    for start in range(1, T + 1, 512):
        n = np.arange(start, min(start + 512, T + 1))
        rows = rows_of(recipe, gamma, n, T)
        assert rows.dtype == np.float32
        lost.extend(n[~np.isfinite(rows).all(axis=1)].tolist())
        infinite += int(np.isinf(rows).sum())
        undefined += int(np.isnan(rows).sum())
    return lost, infinite, undefined


@pytest.mark.parametrize("recipe", ["split", "late", "early"])
def test_numbers_are_those_of_float32(recipe):
    places = itertools.cycle([(0, 0), (1, 1), (0, 1), (1, 0), (0.9, 0.89), (0.2, 0.95), (0.995, 0.5)])
    lengths = {1: (4, 8, 10), 3: (9.75, 10.5), 5: (4, 11.45, 11.5, 11.75), 6: (12.5,), 8: (11, 13)}
    asked = [
        {"recipe": recipe, "power": power, "length": length, "row": row, "column": column}
        for power, many in lengths.items()
        for length, (row, column) in zip(many, places, strict=False)
    ]
    for values, got in zip(asked, compute(Overflow, *asked), strict=True):
        gamma, T = 1 - 2.0 ** -values["power"], round(2 ** values["length"])
        n, m = (max(1, int(values[part] * T + 0.5)) for part in ("row", "column"))
        assert (got["gamma"], got["T"], got["n"], got["m"]) == (gamma, T, n, m)
        j = np.arange(1, 40_000)
        assert got["infiniteFrom"] == j[np.isinf(powers(gamma, -j))][0]
        assert got["zeroFrom"] == j[powers(gamma, j) == 0][0]
        assert got["highest"][0] == min(T, got["infiniteFrom"] - 1)
        assert got["lowest"][0] == min(T, got["zeroFrom"] - 1)
        want = {
            "highest": [got["highest"][0], powers(gamma, -got["highest"][0])],
            "lowest": [got["lowest"][0], powers(gamma, got["lowest"][0])],
            "shrunk": powers(gamma, n),
            "grown": powers(gamma, -m),
            "entry": rows_of(recipe, gamma, np.array([n]), T)[0, m - 1],
            "right": rows_of("early", gamma, np.array([n]), T)[0, m - 1],
        }
        for name, value in want.items():
            given = np.array(got[name], dtype=np.float64)
            assert np.array_equal(given, given.astype(np.float32), equal_nan=True), "it is a float32"
            np.testing.assert_array_equal(given, np.asarray(value, dtype=np.float64), err_msg=name)
        lost, infinite, undefined = counted(recipe, gamma, T)
        assert (got["lost"], got["infinite"], got["undefinedEntries"]) == (len(lost), infinite, undefined), values
        assert (got["firstLost"], got["lastLost"]) == ((lost[0], lost[-1]) if lost else (0, 0))
        assert lost == list(range(got["firstLost"], got["lastLost"] + 1)) or not lost


def test_the_numbers_of_the_lesson():
    """The last finite power of heads 0, 1 and 3, and the first text of which the late mask loses a token."""
    heads = compute(Overflow, *({"power": power} for power in (5, 6, 8)))
    assert [got["infiniteFrom"] - 1 for got in heads] == [2794, 5633, 22668]
    found = compute(Overflow, *({"recipe": "late", "length": float(np.log2(T))} for T in (2795, 2796, 2850)))
    assert [(got["T"], got["lost"], got["undefinedEntries"]) for got in found] == [
        (2795, 0, 0),
        (2796, 1, 1),
        (2850, 55, 1540),
    ]
