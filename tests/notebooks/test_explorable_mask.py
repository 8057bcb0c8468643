"""The decay mask: its ranks and factors are those of NumPy, for each law and for what is painted over it."""

import numpy as np
import pytest
from explorables import DecayMask
from explorables.node import ask, compute

from refimpl import decay_mask

TIME = 12
LAG = np.subtract.outer(np.arange(TIME), np.arange(TIME))
DECAYS = np.array(DecayMask.course_data()["decays"])
STROKE = {f"{n},{m}": 0.3 for n, m in ((4, 1), (5, 1), (5, 2), (6, 2), (12, 12))}
DIAGONAL = {f"{n},{n}": 0.05 * n for n in range(1, TIME + 1)}
NOTHING = {f"{n},{m}": 0 for n in range(1, TIME + 1) for m in range(1, n)}
ZERO_ROW = {f"6,{m}": 0 for m in range(1, 7)}


def mask_of(law, gamma, painted):
    future, lag = LAG < 0, np.maximum(LAG, 0)
    if law in ("retnet", "ones"):
        mask = decay_mask(np.array([gamma if law == "retnet" else 1], dtype=np.float64), TIME)[0]
    elif law == "two":
        mask = sum(decay_mask(np.array([gamma, gamma / 2]), TIME)) / 2
    elif law == "own":
        log = np.cumsum(np.log(DECAYS))
        mask = np.exp(log[:, None] - log[None, :])
    else:
        mask = 1 / (1 + lag) if law == "power" else (lag < 4).astype(float)
    mask = np.where(future, 0.0, mask)
    for cell, value in painted.items():
        n, m = map(int, cell.split(","))
        mask[n - 1, m - 1] = value
    return mask


def settings():
    for law in ("retnet", "own", "ones", "two", "power", "window"):
        for painted in ({}, {"9,4": 1}, STROKE, DIAGONAL, NOTHING, ZERO_ROW):
            yield {"law": law, "gamma": 0.8, "painted": painted}
    for gamma in (0.5, 1, 0.93):
        for law in ("retnet", "two"):
            yield {"law": law, "gamma": gamma, "painted": STROKE}
            yield {"law": law, "gamma": gamma, "painted": {}}


def test_numbers_are_those_of_numpy():
    asked = list(settings())
    for values, got in zip(asked, compute(DecayMask, *asked), strict=True):
        mask = mask_of(**values)
        np.testing.assert_allclose(got["mask"], mask, rtol=0, atol=1e-12)
        blocks = [mask[n:, :n] for n in range(1, TIME)]
        singular = [np.linalg.svd(block, compute_uv=False) for block in blocks]
        for ours, theirs in zip(got["singular"], singular, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)

        def rank(block, share):
            return int(np.linalg.matrix_rank(block, tol=share * np.linalg.norm(block, 2)))

        assert got["ranks"] == [rank(block, 1e-9) for block in blocks]
        assert got["states"] == max(got["ranks"])
        assert got["nearly"] == max(rank(block, 0.01) for block in blocks)
        assert got["cut"] == int(np.argmax(got["ranks"])) + 1
        for n, factor in enumerate(got["factors"]):
            above, now = mask[n - 1, : n - 1], mask[n, : n - 1]
            one = n > 1 and above.any() and rank(np.array([above, now]), 1e-9) < 2
            assert (factor is not None) == one, (values, n)
            if one:
                np.testing.assert_allclose(factor * above, now, rtol=0, atol=1e-9)
                np.testing.assert_allclose(factor, np.linalg.lstsq(above[:, None], now)[0][0], rtol=0, atol=1e-12)
        if got["states"] < 2:
            assert got["clash"] is None
            continue
        cut, found = got["cut"], got["clash"]
        cells = mask[np.ix_(found["rows"], found["columns"])]
        np.testing.assert_allclose(found["cells"], cells, rtol=0, atol=1e-12)
        assert min(found["rows"]) >= cut > max(found["columns"])
        i, j = np.triu_indices(TIME - cut, 1)
        c, d = np.triu_indices(cut, 1)
        below = mask[cut:, :cut]
        sizes = below[i][:, c] * below[j][:, d] - below[i][:, d] * below[j][:, c]
        np.testing.assert_allclose(found["size"], np.abs(sizes).max(), rtol=1e-8, atol=0)
        np.testing.assert_allclose(found["size"], np.abs(np.linalg.det(cells)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("law", "painted", "states"),
    [
        ("retnet", {}, 1),
        ("own", {}, 1),
        ("ones", {}, 1),
        ("two", {}, 2),
        ("window", {}, 3),
        ("power", {}, 6),
        ("retnet", DIAGONAL, 1),
        ("retnet", ZERO_ROW, 1),
        ("retnet", NOTHING, 0),
        ("retnet", {"9,4": 1}, 2),
        ("retnet", {"12,1": 0.0}, 2),
    ],
)
def test_what_a_loop_with_one_state_computes(law, painted, states):
    """A decay of each token's own is as cheap as one gamma; the diagonal is free; a window and a power law are not."""
    asked = {"law": law, "painted": painted}
    assert compute(DecayMask, asked)[0]["states"] == states
    question = {"what": "describe", "values": asked, "data": DecayMask.course_data()}
    words = ask("mask", [question])[0]
    assert ("No loop with one number" in words) == (states > 1)


def test_a_loop_of_as_many_states_computes_the_mask():
    """The claim itself: with rank r below the diagonal, r numbers carried from token to token give all of the mask."""
    for law in ("retnet", "own", "two", "window", "power"):
        mask = mask_of(law, 0.8, STROKE)
        states = compute(DecayMask, {"law": law, "painted": STROKE})[0]["states"]
        width, bases = 0, [np.zeros((0, 0))]
        for n in range(1, TIME):  # what the future can still tell of the past: an orthonormal basis of each block
            u, s, _ = np.linalg.svd(mask[n:, :n], full_matrices=False)
            bases.append(u[:, s > 1e-9 * s[0]])
        state, got = np.zeros((0, TIME)), np.diag(np.diag(mask))
        for n in range(1, TIME):
            rest = bases[n - 1][1:] if n > 1 else np.zeros((TIME - n, 0))
            written = np.outer(bases[n].T @ mask[n:, n - 1], np.eye(TIME)[n - 1])
            state = (bases[n].T @ rest) @ state + written  # (r, T): one row a state
            got[n] += bases[n][0] @ state
            width = max(width, len(state))
        np.testing.assert_allclose(got, mask, rtol=0, atol=1e-7)
        assert width == states


def test_a_row_of_zeros_is_named():
    question = {"what": "describe", "values": {"painted": ZERO_ROW}, "data": DecayMask.course_data()}
    assert "A row of zeros is a token that reads nothing" in ask("mask", [question])[0]
