"""The chunks: outputs, masks and errors of the right form and of six wrong ones are those of NumPy, for any cuts."""

import numpy as np
import pytest
from explorables import Chunks
from explorables.node import ask, compute

from refimpl import decay_mask, retention_parallel, retention_recurrent

TIME = 12
MISTAKES = ("none", "zeta", "own", "xi", "late", "tail", "step")
CUTS = [(3, 7, 9), (0, 12, 12), (12, 0, 0), (1, 1, 1), (2, 4, 6), (11, 5, 5), (4, 8, 12), (9, 2, 12)]
Q, K, V = (np.array(rows) for rows in Chunks.course_data().values())


def operations(sizes):
    """Of the four matrix products of each chunk, K = V = 4: a multiply-add counts as two, blocks of scores are whole."""
    return sum(2 * c * c * (4 + 4) + 4 * c * 4 * 4 for c in map(int, sizes))


def setting(cuts, gamma, mistake):
    return {**{f"cut{i + 1}": place for i, place in enumerate(cuts)}, "gamma": gamma, "mistake": mistake}


def ends_of(cuts):
    return sorted({place for place in (*cuts, TIME) if place})


def broken_chunk(q, k, v, gamma, state, longest, mistake):
    """Eq. 7 for one chunk, in matrices, with a mistake."""
    c = len(q)
    j = np.arange(1, c + 1)
    xi, zeta, whole = gamma**j, gamma ** (c - j), gamma**c
    if mistake == "zeta":
        zeta = np.ones(c)
    elif mistake == "xi":
        xi = xi / gamma
    elif mistake == "late":
        zeta = zeta * gamma
    elif mistake == "tail":
        zeta, whole = gamma ** (longest - j), gamma**longest
    elif mistake == "step":
        whole = gamma
    after = k.T @ np.diag(zeta) @ v + whole * state
    seen = after if mistake == "own" else state
    return np.tril(q @ k.T * gamma ** abs(j[:, None] - j)) @ v + np.diag(xi) @ q @ seen, after


def broken_form(q, k, v, gamma, ends, mistake):
    starts, state, outs = [0, *ends[:-1]], np.zeros((q.shape[1], v.shape[1])), []
    longest = max(end - start for start, end in zip(starts, ends, strict=True))
    for start, end in zip(starts, ends, strict=True):
        part = slice(start, end)
        out, state = broken_chunk(q[part], k[part], v[part], gamma, state, longest, mistake)
        outs.append(out)
    return np.concatenate(outs), state


def one_by_one(gamma):
    out, state = retention_recurrent(*(x[None, None] for x in (Q, K, V)), np.array([gamma]))
    return out[0, 0], state[0, 0]


@pytest.mark.parametrize("gamma", [0.5, 0.8, 0.97, 1.0])
def test_numbers_are_those_of_numpy(gamma):
    asked = [setting(cuts, gamma, mistake) for cuts in CUTS for mistake in MISTAKES]
    expected = [(ends_of(cuts), mistake) for cuts in CUTS for mistake in MISTAKES]
    want, state = one_by_one(gamma)
    ones = np.ones((TIME, 1))
    for (ends, mistake), got in zip(expected, compute(Chunks, *asked), strict=True):
        sizes = np.diff([0, *ends])
        assert (got["ends"], got["sizes"]) == (ends, sizes.tolist())
        mask, _ = broken_form(ones, ones, np.eye(TIME), gamma, ends, mistake)
        np.testing.assert_allclose(got["mask"], mask, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got["right"], decay_mask(np.array([gamma]), TIME)[0], rtol=0, atol=1e-12)
        out, last = broken_form(Q, K, V, gamma, ends, mistake)
        errors = np.abs(out - want).max(axis=1) / np.abs(want).max()
        np.testing.assert_allclose(got["errors"], errors, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got["largest"], errors.max(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            got["stateError"], np.abs(last - state).max() / np.abs(state).max(), rtol=0, atol=1e-12
        )
        if mistake == "none":
            assert max(got["largest"], got["stateError"]) < 1e-14
        work = {name: (each["scores"] + each["states"], each["steps"]) for name, each in got["work"].items()}
        assert work["pairs"] == (2 * TIME**2 * 8, 1)
        assert work["single"] == (operations([1] * TIME), TIME)
        assert work["chunks"] == (operations(sizes), len(sizes))


def test_uneven_chunks_are_the_package_called_chunk_by_chunk():
    outs, state, start = [], None, 0
    for end in ends_of((3, 7, 9)):
        part = [x[None, None, start:end] for x in (Q, K, V)]
        out, state = retention_parallel(*part, np.array([0.8]), state)
        outs.append(out[0, 0])
        start = end
    got = compute(Chunks, {})[0]
    want, last = one_by_one(0.8)
    np.testing.assert_allclose(np.concatenate(outs), want, rtol=0, atol=1e-12)
    np.testing.assert_allclose(state[0, 0], last, rtol=0, atol=1e-12)
    assert got["largest"] < 1e-14


@pytest.mark.parametrize(
    ("cuts", "mistake", "seen"),
    [
        # In one chunk only a chunk that reads its own state gives itself away.
        *(((12, 12, 12), mistake, "nothing") for mistake in ("xi", "tail", "step")),
        *(((12, 12, 12), mistake, "state") for mistake in ("zeta", "late")),
        ((12, 12, 12), "own", "outputs"),
        # With two chunks nothing crosses a whole chunk, and a short one at the end spoils the state alone.
        ((7, 12, 12), "step", "state"),
        ((7, 12, 12), "tail", "state"),
        ((5, 12, 12), "tail", "outputs"),
        ((6, 12, 12), "tail", "nothing"),
        *(((3, 7, 9), mistake, "outputs") for mistake in MISTAKES[1:]),
        # Chunks of one token hide what zeta does to their own tokens; the last one is the longest.
        ((1, 2, 3), "zeta", "state"),
        ((1, 2, 3), "late", "outputs"),
        ((1, 2, 3), "step", "state"),
    ],
)
def test_where_a_mistake_shows(cuts, mistake, seen):
    got = compute(Chunks, setting(cuts, 0.8, mistake))[0]
    wrong = (got["largest"] > 1e-9, got["stateError"] > 1e-9)
    assert wrong[0] == (seen == "outputs")
    if seen != "outputs":
        assert wrong[1] == (seen == "state")
    question = {"what": "describe", "values": setting(cuts, 0.8, mistake), "data": Chunks.course_data()}
    words = ask("chunks", [question])[0]
    assert ("are wrong" in words, "every output is right" in words, "shows nowhere" in words) == tuple(
        seen == each for each in ("outputs", "state", "nothing")
    )


def test_what_the_words_say_of_each_mistake():
    """In the mask: zeta gives a past chunk one weight, the two off-by-ones are 1/gamma and gamma, and so on."""
    cuts, gamma = (3, 7, 9), 0.8
    masks = {
        mistake: np.array(got["mask"]) / np.where(np.tril(np.ones((TIME, TIME))), np.array(got["right"]), 1)
        for mistake, got in zip(
            MISTAKES, compute(Chunks, *(setting(cuts, gamma, mistake) for mistake in MISTAKES)), strict=True
        )
    }
    through = np.zeros((TIME, TIME), dtype=bool)
    for start, end in ((3, 7), (7, 9), (9, 12)):
        through[start:end, :start] = True
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(masks["xi"][through], 1 / gamma, **close)
    np.testing.assert_allclose(masks["late"][through], gamma, **close)
    right = np.array(compute(Chunks, {})[0]["right"])
    no_zeta = masks["zeta"] * right
    np.testing.assert_allclose(no_zeta[7:, 3:7], no_zeta[7:, 3:4] * np.ones(4), **close)
    assert np.triu(masks["own"], 1).any()
    assert not any(np.triu(masks[mistake], 1).any() for mistake in MISTAKES if mistake != "own")
    np.testing.assert_allclose(masks["step"][7:9, :3], gamma ** (1 - 4), **close)  # over the chunk of 4 tokens
    np.testing.assert_allclose(masks["step"][3:7, :3], 1, **close)  # neighbours
    np.testing.assert_allclose(masks["tail"][3:7, :3], gamma, **close)  # the longest chunk has 4, this one 3
