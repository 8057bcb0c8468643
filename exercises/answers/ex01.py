"""Exercise 1: the retention of one head, one token at a time and over a sequence (Eq. 6, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import one_head
from .recurring import float32_arrays, keeps_arguments, mapped, swaps, writes_in_place

RETURNS = ("out", "state")


# Solutions.


def retention_step(q, k, v, gamma, state):
    """S_n = gamma S_(n-1) + k_n^T v_n, o_n = q_n S_n: q, k (K,), v (V,), state (K, V) -> (out (V,), state)."""
    state = gamma * state + k[:, None] * v
    return q @ state, state


def retention_loop(q, k, v, gamma, state):
    """`retention_step` over q, k (T, K), v (T, V), state (K, V) or None -> (out (T, V), state)."""
    if state is None:
        state = np.zeros((q.shape[1], v.shape[1]), dtype=v.dtype)
    out = np.zeros(v.shape, dtype=v.dtype)
    for n in range(len(q)):
        out[n], state = retention_step(q[n], k[n], v[n], gamma, state)
    return out, state


# Wrong answers, each one change away from the solution.


def _transposes(q, k, v, gamma, state):
    state = gamma * state + v[:, None] * k
    return q @ state, state


def _loop_with(step=retention_step, *, hand_on=True):
    """The loop around another step, or around one that always starts from the first state."""

    def loop(q, k, v, gamma, state):
        state = first = np.zeros((q.shape[1], v.shape[1])) if state is None else state
        out = np.zeros(v.shape)
        for n in range(len(q)):
            out[n], state = step(q[n], k[n], v[n], gamma, state if hand_on else first)
        return out, state

    return loop


def _returns_too_early(q, k, v, gamma, state):
    return retention_loop(q, k, v, gamma, state)[0], retention_loop(q[:-1], k[:-1], v[:-1], gamma, state)[1]


STEP_MISTAKES = {
    "reads before writing": (
        lambda q, k, v, gamma, state: (q @ state, gamma * state + k[:, None] * v),
        "you read the state before writing the new token: o_n = q_n S_n takes the new state S_n, not S_(n-1)",
    ),
    "forgets the decay": (
        lambda q, k, v, gamma, state: retention_step(q, k, v, 1.0, state),
        "you forgot the decay: multiply the old state by gamma, then add the new token",
    ),
    "decays the new token": (
        lambda q, k, v, gamma, state: retention_step(q, gamma * k, v, gamma, state),
        "you decay the new token too: gamma multiplies only S_(n-1), and k_n^T v_n is added in full",
    ),
    "transposes the outer product": (
        _transposes,
        "you transposed the outer product: k^T v has a row for each entry of k, shape (K, V); yours has shape (V, K)",
    ),
    **writes_in_place(retention_step),
}


# Checks.

THREE_ONES = {"q": np.ones((3, 1)), "k": np.ones((3, 1)), "v": np.ones((3, 1)), "gamma": 0.5, "state": None}

STEP = problem(
    retention_step,
    RETURNS,
    visible={
        "one token into an empty memory": (
            one_head(2, 2) | {"state": np.zeros((2, 2))},
            "with a zero state before it, the new state is k^T v: state[i, j] = k[i] v[j]",
        ),
        "one token into a memory that holds something": (
            one_head(2, 2, gamma=0.75),
            "what was there fades by gamma, the new token is added, and then q reads the sum",
        ),
        "values wider than keys (K = 2, V = 3)": (
            one_head(2, 3),
            "state has a row for each entry of k and a column for each entry of v",
        ),
        **keeps_arguments(
            one_head(3, 3, gamma=0.9), "build a new state; *=, += and [...] = write into the caller's array"
        ),
    },
    hidden={
        "keys wider than values": (one_head(5, 2, gamma=0.9), "try K = 5, V = 2, and look at the shapes"),
        "a memory that never fades": (
            one_head(3, 2, gamma=1.0),
            "gamma = 1 is allowed: the new state is the old one plus k^T v",
        ),
        "a memory that fades at once": (
            one_head(3, 4, gamma=1e-12),
            "with gamma near 0 the old state almost vanishes, and the new token counts in full",
        ),
        **float32_arrays(one_head(4, 3, gamma=0.9, dtype=np.float32)),
    },
    wrong_answers={
        **STEP_MISTAKES,
        "ignores the state": (
            lambda q, k, v, gamma, state: retention_step(q, k, v, gamma, 0.0 * state),
            "you ignored the state passed in: the new state is gamma times the old one plus the new token",
        ),
        "returns the old state": (
            lambda q, k, v, gamma, state: (retention_step(q, k, v, gamma, state)[0], state),
            "you returned the state of one token too early: return S_n, which holds the new token",
        ),
        **swaps(retention_step, "out", "state"),
    },
)

LOOP = problem(
    retention_loop,
    RETURNS,
    visible={
        "three ones at gamma = 1/2, from None": (
            THREE_ONES,
            "by hand: the state is 1, then 1/2 + 1 = 3/2, then 3/4 + 1 = 7/4, and q = 1 reads it unchanged",
        ),
        "four tokens, going on from a state": (
            one_head(2, 3, 4),
            "the first token fades the state passed in, each later token the state of the one before it",
        ),
        "no token at all, from None (T = 0)": (
            one_head(2, 3, 0, state=False),
            "out has shape (0, V), the state is all zeros: make both before the loop",
        ),
        **keeps_arguments(one_head(3, 3, 5, gamma=0.9)),
    },
    hidden={
        "no token at all, from a state": (one_head(3, 2, 0), "without a token, return the state unchanged"),
        "a sequence of a single token": (
            one_head(3, 2, 1),
            "T = 1 must give what retention_step gives, with out of shape (1, V)",
        ),
        "keys wider than values": (one_head(4, 2, 7, gamma=0.9), "try K = 4, V = 2, and look at the shapes"),
        "a memory that never fades": (
            one_head(2, 2, 6, gamma=1.0),
            "gamma = 1 is allowed: nothing may divide by 1 - gamma",
        ),
        "a long sequence that fades fast": (
            one_head(2, 2, 400, gamma=1e-3),
            "gamma^-n overflows: fade step by step, which needs no such power",
        ),
        **float32_arrays(one_head(4, 3, 50, gamma=0.9, state=False, dtype=np.float32), "float32 arrays, from None"),
    },
    wrong_answers={
        **mapped(_loop_with, STEP_MISTAKES),
        "ignores the state": (
            lambda q, k, v, gamma, state: retention_loop(q, k, v, gamma, None),
            "you ignored the state passed in: only None means zero",
        ),
        "never hands the state on": (
            _loop_with(hand_on=False),
            "you start every token from the same state: hand the state of each token on to the next",
        ),
        "returns the state too early": (
            _returns_too_early,
            "you returned the state of one token too early: return the state after the last token",
        ),
        **swaps(retention_loop, "out", "state"),
    },
)

EXERCISE = Exercise("ex01", "Retention, one token at a time", (STEP, LOOP))
