"""Exercise 1: the retention of one head, one token at a time and over a sequence (Eq. 6, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Check, Exercise, Problem, WrongAnswer
from .inputs import small_numbers

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


def _reads_before_writing(q, k, v, gamma, state):
    return q @ state, gamma * state + k[:, None] * v


def _forgets_the_decay(q, k, v, gamma, state):
    return retention_step(q, k, v, 1.0, state)


def _decays_the_new_token(q, k, v, gamma, state):
    return retention_step(q, gamma * k, v, gamma, state)


def _transposes(q, k, v, gamma, state):
    state = gamma * state + v[:, None] * k
    return q @ state, state


def _writes_in_place(q, k, v, gamma, state):
    state *= gamma
    state += k[:, None] * v
    return q @ state, state


def _ignores_the_state(q, k, v, gamma, state):
    return retention_step(q, k, v, gamma, 0.0 * state)


def _returns_the_old_state(q, k, v, gamma, state):
    return retention_step(q, k, v, gamma, state)[0], state


def _swaps(function):
    return lambda *arguments: function(*arguments)[::-1]


def _loop_with(step):
    """The loop around another step: a mistake in the step shows in the loop too."""

    def loop(q, k, v, gamma, state):
        state = np.zeros((q.shape[1], v.shape[1])) if state is None else state
        out = np.zeros(v.shape)
        for n in range(len(q)):
            out[n], state = step(q[n], k[n], v[n], gamma, state)
        return out, state

    return loop


def _starts_from_zero(q, k, v, gamma, state):
    return retention_loop(q, k, v, gamma, None)


def _keeps_the_first_state(q, k, v, gamma, state):
    state = np.zeros((q.shape[1], v.shape[1])) if state is None else state
    out, end = np.zeros(v.shape), state
    for n in range(len(q)):
        out[n], end = retention_step(q[n], k[n], v[n], gamma, state)
    return out, end


def _returns_too_early(q, k, v, gamma, state):
    return retention_loop(q, k, v, gamma, state)[0], retention_loop(q[:-1], k[:-1], v[:-1], gamma, state)[1]


STEP_MISTAKES = (
    WrongAnswer(
        "reads before writing",
        _reads_before_writing,
        "you read the state before writing the new token: o_n = q_n S_n takes the new state S_n, not S_(n-1)",
    ),
    WrongAnswer(
        "forgets the decay",
        _forgets_the_decay,
        "you forgot the decay: multiply the old state by gamma, then add the new token",
    ),
    WrongAnswer(
        "decays the new token",
        _decays_the_new_token,
        "you decay the new token too: gamma multiplies S_(n-1) alone, k_n^T v_n is added in full",
    ),
    WrongAnswer(
        "transposes the outer product",
        _transposes,
        "you transposed the outer product: k^T v has a row for each entry of k, shape (K, V); yours has shape (V, K)",
    ),
    WrongAnswer(
        "writes in place",
        _writes_in_place,
        "you changed the caller's state in place (as *= and += do): make a new array, the caller may still need the old",
    ),
)


# Checks.


def _arguments(key_dim, value_dim, time=None, *, gamma=0.5, start="state", dtype=np.float64):
    """Arguments for either function: without `time` those of one token. start: "state", "zero" or "none"."""
    random = np.random.default_rng([key_dim, value_dim, time or 0])
    tokens = () if time is None else (time,)

    def draw(*shape):
        return small_numbers(random, *shape, dtype=dtype)

    arguments = {"q": draw(*tokens, key_dim), "k": draw(*tokens, key_dim), "v": draw(*tokens, value_dim)}
    state = draw(key_dim, value_dim)
    return arguments | {"gamma": gamma, "state": {"state": state, "zero": 0 * state, "none": None}[start]}


THREE_ONES = {"q": np.ones((3, 1)), "k": np.ones((3, 1)), "v": np.ones((3, 1)), "gamma": 0.5, "state": None}

STEP = Problem(
    "retention_step",
    RETURNS,
    retention_step,
    checks=(
        Check(
            "one token into an empty memory",
            _arguments(2, 2, start="zero"),
            "with a zero state before it, the new state is k^T v: state[i, j] = k[i] v[j]",
        ),
        Check(
            "one token into a memory that holds something",
            _arguments(2, 2, gamma=0.75),
            "what was there fades by gamma, the new token is added, and then q reads the sum",
        ),
        Check(
            "values wider than keys (K = 2, V = 3)",
            _arguments(2, 3),
            "state has a row for each entry of k and a column for each entry of v",
        ),
        Check(
            "the arguments stay as they were",
            _arguments(3, 3, gamma=0.9),
            "build a new state; *=, += and [...] = write into the caller's array",
            keeps_inputs=True,
        ),
        Check(
            "keys wider than values",
            _arguments(5, 2, gamma=0.9),
            "try K = 5, V = 2, and look at the shapes",
            hidden=True,
        ),
        Check(
            "a memory that never fades",
            _arguments(3, 2, gamma=1.0),
            "gamma = 1 is allowed: the new state is the old one plus k^T v",
            hidden=True,
        ),
        Check(
            "a memory that fades at once",
            _arguments(3, 4, gamma=1e-12),
            "with gamma near 0 almost nothing of the old state is left, and all of the new token",
            hidden=True,
        ),
        Check(
            "float32 arrays",
            _arguments(4, 3, gamma=0.9, dtype=np.float32),
            "try arrays made with dtype=np.float32: the answer must be right to float32",
            tolerance=1e-5,
            hidden=True,
        ),
    ),
    wrong_answers=(
        *STEP_MISTAKES,
        WrongAnswer(
            "ignores the state",
            _ignores_the_state,
            "you ignored the state passed in: the new state is gamma times the old one plus the new token",
        ),
        WrongAnswer(
            "returns the old state",
            _returns_the_old_state,
            "you returned the state of one token too early: return S_n, which holds the new token",
        ),
        WrongAnswer(
            "swaps what it returns", _swaps(retention_step), "you returned (state, out): the order is (out, state)"
        ),
    ),
)

LOOP = Problem(
    "retention_loop",
    RETURNS,
    retention_loop,
    checks=(
        Check(
            "three ones at gamma = 1/2, from None",
            THREE_ONES,
            "by hand: the state is 1, then 1/2 + 1 = 3/2, then 3/4 + 1 = 7/4, and q = 1 reads just that",
        ),
        Check(
            "four tokens, going on from a state",
            _arguments(2, 3, 4),
            "the first token fades the state passed in, each later token the state of the one before it",
        ),
        Check(
            "no token at all, from None (T = 0)",
            _arguments(2, 3, 0, start="none"),
            "out has shape (0, V), the state is all zeros: make both before the loop",
        ),
        Check(
            "the arguments stay as they were",
            _arguments(3, 3, 5, gamma=0.9),
            "build new arrays; *=, += and [...] = write into the caller's",
            keeps_inputs=True,
        ),
        Check(
            "no token at all, from a state",
            _arguments(3, 2, 0),
            "without a token the state comes back as it went in",
            hidden=True,
        ),
        Check(
            "a sequence of a single token",
            _arguments(3, 2, 1),
            "T = 1 must give what retention_step gives, with out of shape (1, V)",
            hidden=True,
        ),
        Check(
            "keys wider than values",
            _arguments(4, 2, 7, gamma=0.9),
            "try K = 4, V = 2, and look at the shapes",
            hidden=True,
        ),
        Check(
            "a memory that never fades",
            _arguments(2, 2, 6, gamma=1.0),
            "gamma = 1 is allowed: nothing may divide by 1 - gamma",
            hidden=True,
        ),
        Check(
            "a long sequence that fades fast",
            _arguments(2, 2, 400, gamma=1e-3),
            "gamma^-n overflows: fade step by step, which needs no such power",
            hidden=True,
        ),
        Check(
            "float32 arrays, from None",
            _arguments(4, 3, 50, gamma=0.9, start="none", dtype=np.float32),
            "try arrays made with dtype=np.float32: the answer must be right to float32",
            tolerance=1e-5,
            hidden=True,
        ),
    ),
    wrong_answers=(
        *(WrongAnswer(mistake.name, _loop_with(mistake.function), mistake.message) for mistake in STEP_MISTAKES),
        WrongAnswer(
            "ignores the state",
            _starts_from_zero,
            "you ignored the state passed in: only None means zero",
        ),
        WrongAnswer(
            "never hands the state on",
            _keeps_the_first_state,
            "you start every token from the same state: hand the state of each token on to the next",
        ),
        WrongAnswer(
            "returns the state too early",
            _returns_too_early,
            "you returned the state of one token too early: return the state after the last token",
        ),
        WrongAnswer(
            "swaps what it returns", _swaps(retention_loop), "you returned (state, out): the order is (out, state)"
        ),
    ),
)

EXERCISE = Exercise("ex01", "Retention, one token at a time", (STEP, LOOP))
