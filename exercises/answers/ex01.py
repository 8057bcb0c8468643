"""Exercise 1: the retention of one head, one token at a time and over a sequence (Eq. 6, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import one_head
from .recurring import asks_whether_true, collects_rows, float32_arrays, keeps_arguments, mapped, swaps, writes_in_place

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


def retention_documents(q, k, v, gamma, state, first):
    """`retention_loop` over several documents: first (T,), 1 where one begins -> (out (T, V), state of the last one)."""
    if state is None:
        state = np.zeros((q.shape[1], v.shape[1]), dtype=v.dtype)
    out = np.zeros(v.shape, dtype=v.dtype)
    for n in range(len(q)):
        out[n], state = retention_step(q[n], k[n], v[n], gamma, (1 - first[n]) * state)
    return out, state


def replacing_step(q, k, v, gamma, state):
    """S_n = gamma S_(n-1) + k_n^T u with the u that makes k_n S_n = v_n; shapes and order as in `retention_step`."""
    state, longest = gamma * state, np.abs(k).max()
    if longest > 0:
        unit = k / longest  # k @ k and u itself may be too large or too small for a float; this table is not
        state = state + unit[:, None] * (v / longest - unit @ state) / (unit @ unit)
    return q @ state, state


# Wrong answers, each one change away from the solution.


def _step_with(write=lambda gamma, state, new: gamma * state + new, read=lambda q, state: q @ state):
    """The step with another way to write k^T v into the state, or to read from it."""

    def step(q, k, v, gamma, state):
        state = write(gamma, state, k[:, None] * v)
        return read(q, state), state

    return step


_SWAPPED = "your retention_step returns (state, out), which its caller takes for (out, state)"


def _swapped_step(q, k, v, gamma, state):
    return retention_step(q, k, v, gamma, state)[::-1]


def _dot_product(q, k, v, gamma, state):
    state = gamma * state + k.T @ v
    return q @ state, state


def _transposes(q, k, v, gamma, state):
    state = gamma * state + v[:, None] * k
    return q @ state, state


def _transposes_and_reads_so(q, k, v, gamma, state):
    state = gamma * state + v[:, None] * k
    return state @ q, state


def _fades_after_the_read(q, k, v, gamma, state):
    state = state + k[:, None] * v
    return q @ state, gamma * state


def _loop_with(step=retention_step, *, hand_on=True, first=lambda K, V: np.zeros((K, V))):
    """The loop around another step, from another first state, or around one that always starts from the first state."""

    def loop(q, k, v, gamma, state):
        state = start = first(q.shape[1], v.shape[1]) if state is None else state
        out = np.zeros(v.shape)
        for n in range(len(q)):
            out[n], state = step(q[n], k[n], v[n], gamma, state if hand_on else start)
        return out, state

    return loop


def _loses_the_new_state(q, k, v, gamma, state):
    start = np.zeros((q.shape[1], v.shape[1])) if state is None else state
    return _loop_with(hand_on=False)(q, k, v, gamma, state)[0], start


def _skips_token_1(q, k, v, gamma, state):
    out = np.zeros(v.shape)
    out[1:], state = retention_loop(q[1:], k[1:], v[1:], gamma, state)
    return out, state


def _keeps_states_with(collect, first=1):
    """The loop that returns all states from number `first` on, 0 for S_0, made by `collect` of a list."""

    def loop(q, k, v, gamma, state):
        start = np.zeros((q.shape[1], v.shape[1])) if state is None else state
        states = [start]
        for n in range(len(q)):
            states.append(retention_step(q[n], k[n], v[n], gamma, states[-1])[1])
        return retention_loop(q, k, v, gamma, start)[0], collect(states[first:])

    return loop


def _shapes_out_like_q(solution):
    """Put outputs into an array of the shape of q; a row of V numbers fits into a row of K numbers only if V = K."""

    def function(q, k, v, *arguments):
        out, state = solution(q, k, v, *arguments)
        like_q = np.zeros(q.shape)
        for n in range(len(q)):
            like_q[n] = out[n]
        return like_q, state

    message = (
        "your out has the shape of q: an output is a mixture of values, so it has a row of V numbers, the shape of v"
    )
    return {"shapes out like q": (function, message)}


def _returns_too_early(q, k, v, gamma, state):
    return retention_loop(q, k, v, gamma, state)[0], retention_loop(q[:-1], k[:-1], v[:-1], gamma, state)[1]


def _documents_with(
    step=retention_step, *, before=lambda first, state, start: (1 - first) * state, after=lambda first, state: state
):
    """The loop over documents with another step, or another way to clear the state before or after a token."""

    def documents(q, k, v, gamma, state, first):
        state = start = np.zeros((q.shape[1], v.shape[1])) if state is None else state
        out = np.zeros(v.shape)
        for n in range(len(q)):
            out[n], state = step(q[n], k[n], v[n], gamma, before(first[n], state, start))
            state = after(first[n], state)
        return out, state

    return documents


def _begins_anew_at_row_0(q, k, v, gamma, state, first):
    return retention_documents(q, k, v, gamma, state, np.append(1.0, first[1:])[: len(first)])


def _clears_the_new_token(q, k, v, gamma, state, first):
    return retention_documents(q, k * (1 - first[:, None]), v, gamma, state, first)


def _clears_one_token_early(q, k, v, gamma, state, first):
    return retention_documents(q, k, v, gamma, state, np.append(first[1:], 0.0))


def _starts_at_the_first_flag(q, k, v, gamma, state, first):
    out, start = np.zeros(v.shape), int(np.argmax(first)) if first.any() else len(q)
    empty = np.zeros((q.shape[1], v.shape[1]))
    rest = (x[start:] for x in (q, k, v))
    out[start:], state = retention_documents(*rest, gamma, empty, first[start:])
    return out, state


def _cuts_at_the_flags(q, k, v, gamma, state, first):
    starts = np.flatnonzero(first)
    pieces = [slice(*ends) for ends in zip(starts, [*starts[1:], len(q)], strict=True)]
    runs = [retention_loop(q[piece], k[piece], v[piece], gamma, None) for piece in pieces]
    return np.concatenate([out for out, _ in runs]), runs[-1][1]


def _documents_keep_states(collect):
    """The loop over documents that returns the states after all tokens, made by `collect` of a list."""

    def documents(q, k, v, gamma, state, first):
        start = np.zeros((q.shape[1], v.shape[1])) if state is None else state
        ends = [retention_documents(q[:n], k[:n], v[:n], gamma, start, first[:n])[1] for n in range(1, len(q) + 1)]
        return retention_documents(q, k, v, gamma, start, first)[0], collect(ends)

    return documents


def _clears_in_place(q, k, v, gamma, state, first):
    answer = retention_documents(q, k, v, gamma, state, first)
    if state is not None and first[:1].any():  # a later token finds a state of the function's own
        state[...] = 0.0
    return answer


def _documents_in_place(q, k, v, gamma, state, first):
    out, end = retention_documents(q, k, v, gamma, state, first)
    if state is None:
        return out, end
    state[...] = end
    return out, state


def _replaces_with(table, fade=lambda gamma, state: gamma * state, read=lambda q, before, after: q @ after):
    """The replacing step with another table to add, made of k, v, gamma, S_(n-1) and its faded form, unless k is 0."""

    def step(q, k, v, gamma, state):
        faded = fade(gamma, state)
        after = faded + table(k, v, gamma, state, faded) if k.any() else faded
        return read(q, faded, after), after

    return step


def _right_table(k, v, gamma, state, faded):
    return replacing_step(k, k, v, gamma, state)[1] - gamma * state


def _unit(k):
    return k / np.abs(k).max()


def _forms_u(square, guard=lambda k, square: square > 0):
    """Compute u = (v - gamma k S_(n-1)) / (k k^T) as it stands, with `square` for k k^T, where `guard` allows it."""

    def step(q, k, v, gamma, state):
        state = gamma * state
        if guard(k, square(k)):
            state = state + k[:, None] * ((v - k @ state) / square(k))
        return q @ state, state

    return step


def _scales_by(size, table=None, writes=lambda k, size: size != 0):
    """The replacing step with another number for the largest size of an entry, another table, or another test for zeros."""

    def right_table(k, unit, v, longest, faded):
        return unit[:, None] * (v / longest - unit @ faded) / (unit @ unit)

    def step(q, k, v, gamma, state):
        state, longest = gamma * state, size(k)
        if writes(k, longest):
            state = state + (table or right_table)(k, k / longest, v, longest, state)
        return q @ state, state

    return step


def _size(k):
    return np.abs(k).max()


def _adds_to_the_divisor(k, unit, v, longest, faded):
    unit = k / (longest + 1e-8)
    return unit[:, None] * (v / longest - unit @ faded) / (unit @ unit)


def _replaces_in_place(q, k, v, gamma, state):
    state[...] = replacing_step(q, k, v, gamma, state)[1]
    return q @ state, state


_SQUARE = (
    "your k k^T is 0 or too large for a float: divide k by its largest entry first, and work out what that does to u"
)

REPLACING_MISTAKES = {
    "adds": (
        _replaces_with(lambda k, v, gamma, state, faded: k[:, None] * v),
        "you added k^T v as in problem 1: the new key then reads what was there too; u must make k S_n = v",
    ),
    "does not remove the old value": (
        _replaces_with(lambda k, v, gamma, state, faded: _right_table(k, v, gamma, 0 * state, faded)),
        "your u leaves out what the key reads before the write, gamma k S_(n-1): take that away from v",
    ),
    "removes the unfaded value": (
        _replaces_with(lambda k, v, gamma, state, faded: _right_table(k, v, 1.0, state, faded)),
        "you took k S_(n-1) away, but what is there has faded by gamma: take away gamma k S_(n-1)",
    ),
    "does not divide": (
        _replaces_with(lambda k, v, gamma, state, faded: k[:, None] * (v - k @ faded)),
        "your u is not divided by k k^T: k (k^T u) is u times the squared length of k, which may be any number",
    ),
    "divides by the length": (
        _replaces_with(lambda k, v, gamma, state, faded: k[:, None] * (v - k @ faded) / np.hypot.reduce(k)),
        "you divided by the length of k: k (k^T u) is u times the squared length",
    ),
    "divides the old value alone": (
        _replaces_with(
            lambda k, v, gamma, state, faded: (
                k[:, None] * v - _unit(k)[:, None] * (_unit(k) @ faded) / (_unit(k) @ _unit(k))
            )
        ),
        "you divided what is taken away by k k^T, but not v: both are read through the same key",
    ),
    "does not fade": (
        lambda q, k, v, gamma, state: replacing_step(q, k, v, 1.0, state),
        "you forgot the decay: the old state fades to gamma S_(n-1) first, also if the key is zeros",
    ),
    "fades only where it writes": (
        lambda q, k, v, gamma, state: replacing_step(q, k, v, gamma if k.any() else 1.0, state),
        "a key of zeros writes nothing, but it is a token: what is there fades by gamma as always",
    ),
    "fades the new token": (
        lambda q, k, v, gamma, state: (lambda end: (q @ end, end))(gamma * replacing_step(q, k, v, 1.0, state)[1]),
        "you replaced first and faded then, so k reads gamma v: fade first",
    ),
    "forgets all": (
        lambda q, k, v, gamma, state: replacing_step(q, k, v, gamma, 0 * state),
        "you cleared the memory: only what the new key reads is replaced, the rest of gamma S_(n-1) stays",
    ),
    "reads before writing": (
        _replaces_with(_right_table, read=lambda q, before, after: q @ before),
        "you read the state before writing: o_n = q_n S_n takes the new state",
    ),
    "divides by zero": (
        _forms_u(lambda k: k @ k, guard=lambda k, square: True),
        "you divided 0 by 0, or by a square that is 0 as a float: a key of zeros writes nothing, a short one is scaled first",
    ),
    "squares the key": (_forms_u(lambda k: k @ k), _SQUARE),
    "squares the entries": (
        _forms_u(lambda k: (k**2).sum()),
        "your squares of entries are 0 or overflow: divide k by its largest entry first, and work out what that does to u",
    ),
    "squares the norm": (
        _forms_u(lambda k: np.linalg.norm(k) ** 2),
        "np.linalg.norm squares entries, and you square the norm: divide k by its largest entry first",
    ),
    "takes the zeros for the only short key": (
        _forms_u(lambda k: k @ k, guard=lambda k, square: k.any()),
        "you excluded a key of zeros, but k k^T is 0 as a float for a short one too: divide k by its largest entry first",
    ),
    "takes the largest entry": (
        _scales_by(lambda k: k.max()),
        "you divided k by one entry, such as k.max() or k[0]: the largest size, whatever its sign, is np.abs(k).max()",
    ),
    "takes the largest entry of a key that is not zeros": (
        _scales_by(lambda k: k.max(), writes=lambda k, size: k.any()),
        "you divide by the largest entry, which may be 0 where others are negative: take np.abs(k).max()",
    ),
    "takes the largest entry and squares first": (
        _scales_by(
            lambda k: k.max(),
            lambda k, unit, v, size, faded: np.outer(unit, (v / size - unit @ faded) / (unit @ unit)),
        ),
        "you divided k by one of its entries, such as k.max() or k[0]: the largest size of any sign is np.abs(k).max()",
    ),
    "asks for zeros by the sum": (
        _scales_by(_size, writes=lambda k, size: k.sum() != 0),
        "you asked whether the entries of k sum to 0: entries of either sign may cancel, so ask whether all of them are 0",
    ),
    "takes short keys for zeros": (
        _scales_by(_size, writes=lambda k, size: size > 1e-12),
        "you wrote nothing for a short key: only a key of zeros writes nothing, so compare with 0 itself",
    ),
    "loses the scale": (
        _scales_by(_size, lambda k, unit, v, size, faded: unit[:, None] * (v - unit @ faded) / (unit @ unit)),
        "your k, divided by s, reads v now, so k itself reads s times v: v needs a division by s, what k reads does not",
    ),
    "loses the scale in u alone": (
        _scales_by(_size, lambda k, unit, v, size, faded: k[:, None] * (v - unit @ faded) / (unit @ unit)),
        "your u is made with k / s and written with k: write k / s in all places, and work out where s is left",
    ),
    "divides both by the scale": (
        _scales_by(_size, lambda k, unit, v, size, faded: unit[:, None] * (v - unit @ faded) / size / (unit @ unit)),
        "you divided what is taken away by s too: k / s reads it, and k / s writes it back, so only v / s is left",
    ),
    "adds a small number to the scale": (
        _scales_by(lambda k: np.abs(k).max() + 1e-8),
        "you added a small number to s: a key of zeros still gives 0/0, and short keys come out wrong; ask if s is 0",
    ),
    "adds a small number to one divisor": (
        _scales_by(_size, _adds_to_the_divisor, writes=lambda k, size: True),
        "you divided k by s and a small number more, which makes each table a little wrong: ask if s is 0 instead",
    ),
    "writes in place": (
        _replaces_in_place,
        "you changed the caller's state in place (as *= and += do): make a new array",
    ),
    **swaps(replacing_step, "out", "state"),
}


STEP_MISTAKES = {
    "reads before writing": (
        lambda q, k, v, gamma, state: (q @ state, gamma * state + k[:, None] * v),
        "you read the state before writing the new token: o_n = q_n S_n takes the new state S_n, not S_(n-1)",
    ),
    "forgets the decay": (
        lambda q, k, v, gamma, state: retention_step(q, k, v, 1.0, state),
        "you forgot the decay: multiply the old state by gamma, then add the new token",
    ),
    "reads the faded state before writing": (
        lambda q, k, v, gamma, state: (q @ (gamma * state), gamma * state + k[:, None] * v),
        "you read after the fade and before the write: o_n = q_n S_n also takes the new token, k_n^T v_n",
    ),
    "decays the new token": (
        lambda q, k, v, gamma, state: retention_step(q, gamma * k, v, gamma, state),
        "you decay the new token too: gamma multiplies only S_(n-1), and k_n^T v_n is added in full",
    ),
    "takes an average": (
        _step_with(write=lambda gamma, state, new: gamma * state + (1 - gamma) * new),
        "you give the new token the weight 1 - gamma, as an average does: k_n^T v_n is added in full",
    ),
    "swaps the two weights": (
        _step_with(write=lambda gamma, state, new: (1 - gamma) * state + gamma * new),
        "you keep 1 - gamma of the old state: it keeps the share gamma, and k_n^T v_n is added in full",
    ),
    "keeps the other share": (
        _step_with(write=lambda gamma, state, new: (1 - gamma) * state + new),
        "you keep 1 - gamma of the old state: gamma is the share that stays",
    ),
    "fades the new token instead": (
        _step_with(write=lambda gamma, state, new: state + gamma * new),
        "you gave gamma to the new token: it multiplies the old state, and k_n^T v_n is added in full",
    ),
    "fades after the read": (
        _fades_after_the_read,
        "you fade after the write and the read: gamma multiplies S_(n-1) first, then k_n^T v_n is added",
    ),
    "writes without an outer product": (
        lambda q, k, v, gamma, state: (q @ (gamma * state + k * v), gamma * state + k * v),
        "you wrote k * v, entry by entry: k_n^T v_n is a table, k as a column times v as a row, or np.outer(k, v)",
    ),
    "multiplies two rows to a number": (
        _dot_product,
        "k.T is k itself for a row of one axis, so k.T @ v is a number or an error: take np.outer(k, v)",
    ),
    "multiplies two rows with np.dot": (
        lambda q, k, v, gamma, state: (q @ (gamma * state + np.dot(k, v)), gamma * state + np.dot(k, v)),
        "np.dot(k, v) of two rows is a number or an error: the table k^T v is np.outer(k, v)",
    ),
    "makes only k a column": (
        lambda q, k, v, gamma, state: (q @ (gamma * state + k[:, None] @ v), gamma * state + k[:, None] @ v),
        "you made k a column and left v with one axis, which @ cannot join: write k[:, None] * v, or np.outer(k, v)",
    ),
    "swaps q and k": (
        lambda q, k, v, gamma, state: retention_step(k, q, v, gamma, state),
        "you swapped q and k: the key k is written with v, the query q reads",
    ),
    "divides by sqrt(K)": (
        _step_with(read=lambda q, state: q @ state / np.sqrt(len(q))),
        "you divided by sqrt(K): Eq. 6 has no scaling",
    ),
    "does not sum over the keys": (
        _step_with(read=lambda q, state: q[:, None] * state),
        "your read multiplies row i by q[i] and stops there: the rows are then added, which q @ state does",
    ),
    "multiplies entry by entry": (
        _step_with(read=lambda q, state: q * state),
        "your read multiplies entry by entry (*): q_n S_n is a matrix product, q @ state",
    ),
    "lets q multiply the columns": (
        _step_with(read=lambda q, state: (q * state).sum(axis=0)),
        "your read multiplies column j of the state by q[j]: q[i] belongs to row i, as in q @ state",
    ),
    "reads from the other side": (
        _step_with(read=lambda q, state: state @ q),
        "you read with q on the right, S_n q^T: o_n = q_n S_n has q on the left, q @ state",
    ),
    "transposes the outer product": (
        _transposes,
        "you transposed the outer product: k^T v has a row for each entry of k, shape (K, V); yours has shape (V, K)",
    ),
    "keeps the state transposed": (
        _transposes_and_reads_so,
        "your state is v^T k, read from its other side: the equation has k^T v, shape (K, V), with q on the left",
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
            one_head(2, 2, gamma=0.75) | {"state": np.zeros((2, 2))},
            "with a zero state before it, the new state is k^T v, state[i, j] = k[i] v[j], and out[j] sums q[i] state[i, j]",
        ),
        "one token into a memory that holds something": (
            one_head(2, 2, gamma=0.75),
            "what was there fades by gamma, the new token is added, and then q reads the sum",
        ),
        "values wider than keys (K = 2, V = 3)": (
            one_head(2, 3, gamma=0.75),
            "if only this check fails: state has a row for each entry of k and a column for each entry of v",
        ),
        "a memory that never fades (gamma = 1)": (
            one_head(3, 2, gamma=1.0),
            "gamma = 1 is allowed: the new state is the old one plus k^T v",
        ),
        **keeps_arguments(
            one_head(3, 3, gamma=0.9), "build a new state; *=, += and [...] = write into the caller's array"
        ),
    },
    hidden={
        "keys wider than values": (one_head(5, 2, gamma=0.9), "try K = 5, V = 2, and look at the shapes"),
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
            one_head(2, 3, 4, gamma=0.75),
            "the first token fades the state passed in, each later token the state of the one before it",
        ),
        "no token at all, from None (T = 0)": (
            one_head(2, 3, 0, state=False),
            "out has shape (0, V), the state is all zeros: make both before the loop",
        ),
        **keeps_arguments(one_head(3, 3, 5, gamma=0.9)),
    },
    hidden={
        "a long sequence that fades fast": (
            one_head(2, 2, 400, gamma=1e-3),
            "if you use gamma^-n, it overflows: fade step by step, which needs no such power",
        ),
        "a sequence of a single token": (
            one_head(3, 2, 1),
            "T = 1 must give what retention_step gives, with out of shape (1, V)",
        ),
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
        "swaps what its step returns": (_loop_with(_swapped_step), _SWAPPED),
        "loses the new state": (
            _loses_the_new_state,
            "you drop the state that a step returns: give it the name `state`, so that the next token and the caller get it",
        ),
        **asks_whether_true(retention_loop),
        **collects_rows(retention_loop),
        "computes with None": (
            _loop_with(first=lambda K, V: None),
            "you computed with state = None: None means a state of zeros, of shape (K, V); make it before the loop",
        ),
        "makes the first state K by K": (
            _loop_with(first=lambda K, V: np.zeros((K, K))),
            "your first state has shape (K, K): it has a row for each entry of k, a column for each of v, (K, V)",
        ),
        "makes the first state V by K": (
            _loop_with(first=lambda K, V: np.zeros((V, K))),
            "your first state has shape (V, K): the rows belong to k and the columns to v, (K, V)",
        ),
        "skips token 1": (
            _skips_token_1,
            "your loop leaves out token 1: in Python it is row 0, so the loop is `for n in range(len(q))`",
        ),
        "returns all states": (
            _keeps_states_with(np.array),
            "you returned the state after every token: return the last one alone, of shape (K, V)",
        ),
        "returns all states, S_0 too": (
            _keeps_states_with(np.array, first=0),
            "you returned the states from S_0 to S_T: return the last one alone, of shape (K, V)",
        ),
        "returns all states in a list": (
            _keeps_states_with(list),
            "you returned a list of states: return the last one alone, an array of shape (K, V)",
        ),
        "stacks all states": (
            _keeps_states_with(np.stack),
            "you stacked the states of all tokens: return the last one alone, which with no token is the first state",
        ),
        **_shapes_out_like_q(retention_loop),
        "returns the state too early": (
            _returns_too_early,
            "you returned the state of one token too early: return the state after the last token",
        ),
        **swaps(retention_loop, "out", "state"),
    },
)

ONES = np.ones((4, 1))

DOCUMENTS = problem(
    retention_documents,
    RETURNS,
    visible={
        "two documents of two ones at gamma = 1/2": (
            {"q": ONES, "k": ONES, "v": ONES, "gamma": 0.5}
            | {"state": np.array([[8.0]]), "first": np.array([1.0, 0.0, 1.0, 0.0])},
            "by hand: 1, then 1/2 + 1 = 3/2, and the same again: neither sees the 8 of the state, nor the other",
        ),
        "five tokens, the first two belong to the state": (
            one_head(2, 3, 5, gamma=0.75, first=np.array([0.0, 0.0, 1.0, 0.0, 0.0])),
            "the document of the state ends before row 2: rows 0 and 1 still read it, row 2 begins from zeros",
        ),
        "three documents, two of a single token, from None": (
            one_head(3, 2, 4, gamma=0.75, state=False, first=np.array([1.0, 1.0, 0.0, 1.0])),
            "a document of one token reads itself only: out is (q . k) v",
        ),
        "no token at all, from a state (T = 0)": (
            one_head(3, 2, 0, first=np.zeros(0)),
            "no document begins: return the state unchanged and out of shape (0, V)",
        ),
        **keeps_arguments(one_head(3, 3, 5, gamma=0.9, first=np.array([1.0, 0.0, 0.0, 1.0, 0.0]))),
    },
    hidden={
        "no document begins, and nothing fades": (
            one_head(2, 3, 6, gamma=1.0, first=np.zeros(6)),
            "with no flag at all it is retention_loop, from the state passed in; gamma = 1 is allowed",
        ),
        "a document begins at the last token": (
            one_head(2, 2, 5, gamma=0.9, first=np.array([0.0, 1.0, 0.0, 0.0, 1.0])),
            "the state you return belongs to the last document, also if that has one token so far",
        ),
    },
    wrong_answers={
        **mapped(_documents_with, {name: one for name, one in STEP_MISTAKES.items() if name != "writes in place"}),
        "ignores the documents": (
            lambda q, k, v, gamma, state, first: retention_loop(q, k, v, gamma, state),
            "you hand the state on from one document to the next: where first is 1 the token begins from zeros",
        ),
        "clears the state one token late": (
            _documents_with(before=lambda first, state, start: state, after=lambda first, state: (1 - first) * state),
            "you clear the state after the first token of a document: clear it before that token is written",
        ),
        "clears the new token too": (
            _clears_the_new_token,
            "you clear the state after writing: the first token of a document stays in it, only what was before goes",
        ),
        "clears the state one token early": (
            _clears_one_token_early,
            "you clear the state before the last token of a document: first marks where one begins, not where one ends",
        ),
        "goes back to the state passed in": (
            _documents_with(before=lambda first, state, start: first * start + (1 - first) * state),
            "you begin each document from the state passed in: that belongs to the document before, begin from zeros",
        ),
        "ignores the state": (
            lambda q, k, v, gamma, state, first: retention_documents(q, k, v, gamma, None, first),
            "you ignored the state passed in: it belongs to the rows before the first flag",
        ),
        "begins a document at row 0 in any case": (
            _begins_anew_at_row_0,
            "you begin from zeros at row 0 whatever first[0] is: where it is 0, row 0 goes on from the state passed in",
        ),
        "hands the state to row 0 in any case": (
            lambda q, k, v, gamma, state, first: retention_documents(
                q, k, v, gamma, state, np.append(0.0, first[1:])[: len(first)]
            ),
            "your row 0 reads the state passed in also where first[0] is 1: then a new document begins, from zeros",
        ),
        "reads the flags the other way round": (
            lambda q, k, v, gamma, state, first: retention_documents(q, k, v, gamma, state, 1 - first),
            "you clear the state where first is 0: 1 marks the first token of a document",
        ),
        "starts at the first flag": (
            _starts_at_the_first_flag,
            "you leave out the rows before the first flag: they go on with the document of the state passed in",
        ),
        "cuts the rows before the first flag off": (
            _cuts_at_the_flags,
            "you cut at the flags and lost the rows before the first one: they are the end of the document of the state",
        ),
        "returns all states": (
            _documents_keep_states(np.array),
            "you returned the state after every token: return the last one alone, of shape (K, V)",
        ),
        "returns all states in a list": (
            _documents_keep_states(list),
            "you returned a list of states: return the last one alone, an array of shape (K, V)",
        ),
        **_shapes_out_like_q(retention_documents),
        "writes in place": (
            _documents_in_place,
            "you changed the caller's state in place (as *= and += do): make a new array",
        ),
        "swaps what its step returns": (_documents_with(_swapped_step), _SWAPPED),
        "clears in place": (
            _clears_in_place,
            "you cleared the caller's state in place (state[...] = 0, or state *= 0): make a new array of zeros",
        ),
        **asks_whether_true(retention_documents),
        **collects_rows(retention_documents),
        **swaps(retention_documents, "out", "state"),
    },
)

REPLACING = problem(
    replacing_step,
    RETURNS,
    visible={
        "a key of length 2, by hand": (
            {"q": np.array([1.0, 1.0]), "k": np.array([2.0, 0.0]), "v": np.array([6.0]), "gamma": 0.5}
            | {"state": np.array([[4.0], [8.0]])},
            "by hand: gamma S has the rows 2 and 4, and k reads 2 * 2 = 4; for k S = 6 row 0 must be 3, and row 1 stays 4",
        ),
        "one token into a memory that holds something": (
            one_head(3, 2, gamma=0.75),
            "k @ state must be v afterwards: put gamma S + k^T u for S into k S = v, and solve for u",
        ),
        "a key of zeros": (
            one_head(2, 3, gamma=0.75) | {"k": np.zeros(2)},
            "nothing is written, and the state fades as always",
        ),
        "a key without a positive entry, (0, -3)": (
            one_head(2, 3, gamma=0.5) | {"k": np.array([0.0, -3.0])},
            "only a key of zeros writes nothing: if yours writes nothing here, look at how you ask for zeros",
        ),
        "a key with a long negative entry, (1, -1e200)": (
            one_head(2, 3, gamma=0.5) | {"k": np.array([1.0, -1e200])},
            "if you divide k by one of its entries: the divisor must be the largest size of all, whatever its sign",
            {"tolerance": 1e-9},
        ),
        "a key of entries near 1e-200": (
            one_head(2, 3, gamma=0.5) | {"k": np.array([3e-200, -1e-200])},
            "if you form k k^T or u: k k^T is 0 as a float, u too large for one; the table k^T u is neither",
            {"tolerance": 1e-9},
        ),
        "a key of entries near 1e200": (
            one_head(2, 3, gamma=0.5) | {"k": np.array([2e200, -2e200])},
            "if you form k k^T or u: k k^T is too large for a float, u is 0 as one; the table k^T u is neither",
            {"tolerance": 1e-9},
        ),
        **keeps_arguments(
            one_head(3, 3, gamma=0.9), "build a new state; *=, += and [...] = write into the caller's array"
        ),
    },
    hidden={
        **float32_arrays(one_head(4, 2, gamma=0.9, dtype=np.float32)),
    },
    wrong_answers=REPLACING_MISTAKES,
)

EXERCISE = Exercise("ex01", "Retention, one token at a time", (STEP, LOOP, DOCUMENTS, REPLACING))
