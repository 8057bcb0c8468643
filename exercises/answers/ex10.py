"""Exercise 10: gradients of one head by hand, of its decay, of its chunks, and the step of differences (Eq. 6 and 7)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import small_numbers
from .recurring import asks_whether_true, float32_arrays, keeps_arguments, swaps

RETURNS = ("dq", "dk", "dv", "dstate")
EPS = 2.0**-52  # the distance from 1 to the next float64


# Solutions.


def retention_backward(q, k, v, gamma, grad_out, state, grad_state):
    """The gradients of the recurrent form -> dq, dk (T, K), dv (T, V), dstate (K, V)."""
    empty = np.zeros((q.shape[1], v.shape[1]), dtype=v.dtype)
    state = empty if state is None else state
    running = empty if grad_state is None else grad_state
    dq, dk, dv = np.zeros(q.shape, q.dtype), np.zeros(k.shape, k.dtype), np.zeros(v.shape, v.dtype)
    for n in range(len(q)):
        state = gamma * state + np.outer(k[n], v[n])
        dq[n] = state @ grad_out[n]
    for n in reversed(range(len(q))):
        running = running + np.outer(q[n], grad_out[n])  # of S_n
        dk[n], dv[n] = running @ v[n], k[n] @ running
        running = gamma * running  # of S_(n-1), so far
    return dq, dk, dv, running + empty


def gamma_gradient(q, k, v, gamma, grad_out, state, grad_state, step):
    """The gradient of gamma of each head, q, k (H, T, K), v (H, T, V), gamma (H,) -> exact (H,), measured (H,)."""
    before, fade = [], gamma[:, None, None]
    for n in range(q.shape[1]):
        before.append(state)
        state = fade * state + k[:, n, :, None] * v[:, n, None, :]
    exact, running = np.zeros(len(gamma)), grad_state
    for n in reversed(range(q.shape[1])):
        running = running + q[:, n, :, None] * grad_out[:, n, None, :]
        exact += np.sum(running * before[n], axis=(1, 2))
        running = fade * running
    first = before[0] if before else state
    up, down = (_loss(q, k, v, gamma + h, grad_out, first, grad_state) for h in (step, -step))
    return exact, (up - down) / (2 * step)


def _loss(q, k, v, gamma, grad_out, state, grad_state):
    """The loss of each head (H,), whose gradients are grad_out at the outputs and grad_state at the last state."""
    loss = np.zeros(len(gamma))
    for n in range(q.shape[1]):
        state = gamma[:, None, None] * state + k[:, n, :, None] * v[:, n, None, :]
        loss += np.einsum("hk,hkv,hv->h", q[:, n], state, grad_out[:, n])
    return loss + np.sum(state * grad_state, axis=(1, 2))


def chunks_backward(q, k, v, gamma, grad_out, state, grad_state, chunk_size):
    """The gradients of the chunkwise form -> dq, dk (T, K), dv (T, V), dstate (K, V)."""
    parts, before = [slice(start, start + chunk_size) for start in range(0, len(q), chunk_size)], []
    for one in parts:
        before.append(state)
        left = gamma ** np.arange(len(q[one]) - 1, -1, -1)[:, None]
        state = (left * k[one]).T @ v[one] + gamma ** len(left) * state
    pieces, running = [], grad_state + 0.0
    for one, held in zip(reversed(parts), reversed(before), strict=True):
        *grads, running = _one_chunk(q[one], k[one], v[one], gamma, grad_out[one], held, running)
        pieces.insert(0, grads)
    dq, dk, dv = (np.concatenate([x[:0], *(piece[i] for piece in pieces)]) for i, x in enumerate((q, k, v)))
    return dq, dk, dv, running


def _one_chunk(q, k, v, gamma, grad_out, state, grad_state):
    c = len(q)
    age = np.arange(c)[:, None] - np.arange(c)
    mask = np.tril(gamma ** np.maximum(age, 0))
    read, left = gamma ** np.arange(1, c + 1)[:, None], gamma ** np.arange(c - 1, -1, -1)[:, None]
    scores, dscores = mask * (q @ k.T), mask * (grad_out @ v.T)
    dq = dscores @ k + read * grad_out @ state.T
    dk = dscores.T @ q + left * v @ grad_state.T
    dv = scores.T @ grad_out + left * k @ grad_state
    return dq, dk, dv, (read * q).T @ grad_out + gamma**c * grad_state


def best_steps(gamma, lag, step):
    """The best steps for differences of gamma^lag, gamma (N,), step (M,) -> predicted (2, N), measured (2,)."""
    one_sided = gamma * np.sqrt(2 * EPS / (lag * (lag - 1)))
    central = gamma * np.cbrt(1.5 * EPS / (lag * (lag - 1) * (lag - 2)))
    errors = [
        [np.mean((slope - lag * gamma ** (lag - 1)) ** 2) for slope in _slopes(gamma, lag, one)]
        for one in step.tolist()
    ]
    return np.array([one_sided, central]), step[np.argmin(errors, axis=0)]


def _slopes(gamma, lag, step):
    up, here, down = (gamma + step) ** lag, gamma**lag, (gamma - step) ** lag
    return (up - here) / step, (up - down) / (2 * step)


# Wrong answers, each one change away from the solution.


def _backward_with(
    *,
    faded=lambda gamma, state, new: gamma * state + new,
    first=lambda state: state,
    reads=lambda before, after, last: after,
    last=lambda gamma, grad_state: grad_state,
    used=lambda gamma, passed, own: passed + own,
    handed=lambda gamma, passed, own: gamma * (passed + own),
    at_start=lambda gamma, running, total: running,
    own=lambda q, k, grad_out: np.outer(q, grad_out),
    keys=lambda total, q, v, grad_out: total @ v,
    values=lambda total, q, k: k @ total,
    order=lambda time: reversed(range(time)),
    dtype=float,
):
    """The gradients with another step.

    faded: of the forward pass. first: the state to begin with. reads: the state that dq reads, of the one before the
    token, after it and after all. last: the gradient to begin with. used: the gradient dk and dv use, of what is passed
    back and of the token's own; handed: what goes on to the token before. at_start: dstate, of what is handed on and of
    the gradient used at the first token.
    """

    def backward(q, k, v, gamma, grad_out, state, grad_state):
        empty = np.zeros((q.shape[1], v.shape[1]))
        states = [first(empty if state is None else state) + 0.0]
        for n in range(len(q)):
            states.append(faded(gamma, states[-1], np.outer(k[n], v[n])))
        total = running = last(gamma, empty if grad_state is None else grad_state).astype(dtype)
        dq, dk, dv = np.zeros(q.shape), np.zeros(k.shape), np.zeros(v.shape)
        for n in order(len(q)):
            mine = own(q[n], k[n], grad_out[n]).astype(dtype)
            total, running = used(gamma, running, mine).astype(dtype), handed(gamma, running, mine).astype(dtype)
            dq[n] = reads(states[n], states[n + 1], states[-1]) @ grad_out[n]
            dk[n], dv[n] = keys(total, q[n], v[n], grad_out[n]), values(total, q[n], k[n])
        return dq, dk, dv, at_start(gamma, running, total) + empty

    return backward


def _right_but(change):
    """The right gradients with `change` made to (dq, dk, dv, dstate), which gets the arguments too."""

    def backward(*arguments):
        return change(*retention_backward(*arguments), *arguments)

    return backward


def _fades_the_gradient_in_place(*arguments):
    grads = retention_backward(*arguments)
    if arguments[6] is not None:
        arguments[6][...] = grads[3]
    return grads


def _fades_the_state_in_place(q, k, v, gamma, grad_out, state, grad_state):
    grads = retention_backward(q, k, v, gamma, grad_out, state, grad_state)
    if state is not None:
        for n in range(len(q)):
            state *= gamma
            state += np.outer(k[n], v[n])
    return grads


def _values_times_keys(q, k, v, gamma, grad_out, state, grad_state):
    running = np.zeros((q.shape[1], v.shape[1])) if grad_state is None else grad_state
    dq, dk, dv, _ = retention_backward(q, k, v, gamma, grad_out, state, grad_state)
    for n in reversed(range(len(q))):
        running = running + np.outer(grad_out[n], q[n])
        dk[n], dv[n] = running @ v[n], k[n] @ running
        running = gamma * running
    return dq, dk, dv, running


def _state_the_wrong_way_round(q, k, v, gamma, grad_out, state, grad_state):
    dq, *others = retention_backward(q, k, v, gamma, grad_out, state, grad_state)
    state = np.zeros((q.shape[1], v.shape[1])) if state is None else state
    for n in range(len(q)):
        state = gamma * state + np.outer(k[n], v[n])
        dq[n] = grad_out[n] @ state
    return dq, *others


def _gamma_with(
    *,
    gradient=lambda running, own, fade: running + own,
    pairs=lambda before, after: before,
    first=lambda state: state,
    of_last=lambda grad_state, fade: grad_state,
    handed=lambda running, fade: fade * running,
    total=lambda sums, gamma: sums,
    slope=lambda loss, gamma, step: (loss(gamma + step) - loss(gamma - step)) / (2 * step),
    loss_of_last=lambda grad_state: grad_state,
    loss_first=lambda state: state,
    weights=lambda grad_out: grad_out,
):
    """The gradient of gamma with another step.

    gradient: that of a state, of what is passed back and of the token's own. pairs: the state it meets. slope: the
    measurement. loss_of_last, loss_first, weights: what the loss of the measurement takes for grad_state, state, grad_out.
    """

    def both(q, k, v, gamma, grad_out, state, grad_state, step):
        fade = gamma[:, None, None]
        states = [first(state)]
        for n in range(q.shape[1]):
            states.append(fade * states[-1] + k[:, n, :, None] * v[:, n, None, :])
        sums, running = np.zeros(len(gamma)), of_last(grad_state, fade)
        for n in reversed(range(q.shape[1])):
            own = q[:, n, :, None] * grad_out[:, n, None, :]
            sums += np.sum(gradient(running, own, fade) * pairs(states[n], states[n + 1]), axis=(1, 2))
            running = handed(running + own, fade)

        def loss(gamma):
            return _loss(q, k, v, gamma, weights(grad_out), loss_first(state), loss_of_last(grad_state))

        return total(sums, gamma), slope(loss, gamma, step)

    return both


def _both_twice(at):
    def both(*arguments):
        return (gamma_gradient(*arguments)[at],) * 2

    return both


def _chunks_with(
    *,
    handed=lambda own, old, gamma, c, size: own + gamma**c * old,
    state_after=lambda own, old, gamma, c: own + gamma**c * old,
    read=lambda gamma, j, c: gamma**j,
    own_read=lambda gamma, j, c: gamma**j,
    key_left=lambda gamma, j, c: gamma ** (c - j),
    value_left=lambda gamma, j, c: gamma ** (c - j),
    mask=lambda gamma, age: np.tril(gamma ** np.maximum(age, 0)),
    score_mask=None,
    turned=lambda dscores: dscores.T,
    states=lambda before, after, first: before,
    running_for=lambda running, grad_state: running,
    begins=lambda grad_state, gamma: grad_state + 0.0,
    backwards=True,
):
    """The gradients of chunks with another table of decays, or another gradient handed from chunk to chunk.

    handed: the gradient of the state before a chunk, of what the chunk adds and of the gradient after it. read, own_read:
    the decays of the state that dq and dstate use. key_left, value_left: those of dk and dv. states: those before the chunks.
    begins: the gradient after the last chunk.
    """

    def backward(q, k, v, gamma, grad_out, state, grad_state, chunk_size):
        starts, before = list(range(0, len(q), chunk_size)), [state]
        for start in starts:
            one = slice(start, start + chunk_size)
            c = len(q[one])
            own = (gamma ** np.arange(c - 1, -1, -1)[:, None] * k[one]).T @ v[one]
            before.append(state_after(own, before[-1], gamma, c))
        dq, dk, dv, running = np.zeros(q.shape), np.zeros(k.shape), np.zeros(v.shape), begins(grad_state, gamma)
        for i in reversed(range(len(starts))) if backwards else range(len(starts)):
            one = slice(starts[i], starts[i] + chunk_size)
            held, after = states(before[i], before[i + 1], state), running_for(running, grad_state)
            c = len(q[one])
            j = np.arange(1.0, c + 1)[:, None]
            decays = mask(gamma, j - j.T)
            of_scores = decays if score_mask is None else score_mask(gamma, j - j.T)
            scores, dscores = decays * (q[one] @ k[one].T), of_scores * (grad_out[one] @ v[one].T)
            dq[one] = dscores @ k[one] + read(gamma, j, c) * (grad_out[one] @ held.T)
            dk[one] = turned(dscores) @ q[one] + key_left(gamma, j, c) * (v[one] @ after.T)
            dv[one] = turned(scores) @ grad_out[one] + value_left(gamma, j, c) * (k[one] @ after)
            own = q[one].T @ (own_read(gamma, j, c) * grad_out[one])
            running = handed(own, after, gamma, c, chunk_size)
        return dq, dk, dv, running

    return backward


def _cut(own, old, gamma, c, size):
    return own


def _no_decay(gamma, j, c):
    return 1.0


def _steps_with(*, predicted=lambda one_sided, central: (one_sided, central), measured=lambda errors, step: None):
    """The right steps with a change.

    predicted: of the two rows of the right ones. measured: of errors (M, 2, N) and step (M,), or None for the right ones.
    """

    def steps(gamma, lag, step):
        rows, found = best_steps(gamma, lag, step)
        exact = lag * gamma ** (lag - 1)
        errors = np.array([[slope - exact for slope in _slopes(gamma, lag, one)] for one in step.tolist()])
        other = measured(errors, step)
        return np.array(predicted(*rows)), found if other is None else other

    return steps


def _with_roots(*, eps=EPS, one_sided=2.0, central=1.5, scale=lambda gamma: gamma, power=(1 / 2, 1 / 3), last=None):
    """Predicted steps with another rounding error or another factor; `last`: of lag, instead of lag (lag - 1) (lag - 2)."""

    def steps(gamma, lag, step):
        factors = lag * (lag - 1), lag * (lag - 1) * (lag - 2) if last is None else last(lag)
        rows = [
            scale(gamma) * (factor * eps / of_lag) ** root
            for factor, of_lag, root in zip((one_sided, central), factors, power, strict=True)
        ]
        return np.array(rows), best_steps(gamma, lag, step)[1]

    return steps


def _steps_relative(gamma, lag, step):
    slope = lag * gamma ** (lag - 1)
    return _steps_with(measured=lambda errors, step: step[np.argmin(_root_mean_square(errors / slope), axis=0)])(
        gamma, lag, step
    )


def _root_mean_square(errors):
    return np.sqrt(np.mean(errors**2, axis=2))


# Checks.


def _one(key_dim, value_dim, time, gamma=0.5, *, state=True, grad_state=True, dtype=np.float64, **more):
    """Arguments of a backward pass of one head; the same for the same sizes."""
    random = np.random.default_rng([10, key_dim, value_dim, time])
    shapes = {"q": (time, key_dim), "k": (time, key_dim), "v": (time, value_dim)}
    drawn = {name: small_numbers(random, *shape, dtype=dtype) for name, shape in shapes.items()}
    grad_out = small_numbers(random, time, value_dim, dtype=dtype)
    before, after = small_numbers(random, 2, key_dim, value_dim, dtype=dtype)
    ends = {"state": before if state else None, "grad_state": after if grad_state else None}
    return drawn | {"gamma": gamma, "grad_out": grad_out} | ends | more


def _heads(time, key_dim, value_dim, *gamma, step=2.0**-10):
    random = np.random.default_rng([10, time, key_dim, value_dim])
    heads = len(gamma)
    q, k = small_numbers(random, 2, heads, time, key_dim)
    v, grad_out = small_numbers(random, 2, heads, time, value_dim)
    state, grad_state = small_numbers(random, 2, heads, key_dim, value_dim)
    ends = {"gamma": np.array(gamma), "grad_out": grad_out, "state": state, "grad_state": grad_state, "step": step}
    return {"q": q, "k": k, "v": v} | ends


ONES = np.ones((2, 1))
BY_HAND = {"q": ONES, "k": ONES, "v": np.array([[1.0], [2.0]]), "gamma": 0.5, "grad_out": ONES}
BY_HAND |= {"state": np.array([[4.0]]), "grad_state": np.array([[2.0]])}


def _by_hand(**more):
    heads = {name: value if name == "gamma" else value[None] for name, value in BY_HAND.items()}
    return heads | {"gamma": np.array([0.5])} | more


def _search(low, high, count, lag, *exponents):
    return {"gamma": np.linspace(low, high, count), "lag": lag, "step": 10.0 ** np.array(exponents)}


# Gammas for which the mean square, the mean size and relative errors are least at different steps.
MIXED = _search(0.02, 0.06, 10_000, 3, *np.arange(-5.15, -10.5, -0.5))
MIXED |= {"gamma": np.concatenate([MIXED["gamma"], np.linspace(0.9, 1.0, 100)])}

BACKWARD_MISTAKES = {
    "dq reads the state before": (
        _backward_with(reads=lambda before, after, last: before),
        "dq reads S_(n-1): token n is written before it is read, o_n = q_n S_n, so dq_n takes S_n",
    ),
    "dq reads the last state": (
        _backward_with(reads=lambda before, after, last: last),
        "dq reads the last state for all tokens: dq_n takes S_n, so keep the states or run forwards for dq",
    ),
    "the states without the state passed in": (
        _backward_with(first=lambda state: 0.0 * state),
        "dq leaves out S_0: the states begin with the state passed in, not with zeros",
    ),
    "states that do not fade": (
        _backward_with(faded=lambda gamma, state, new: state + new),
        "dq reads states that do not fade: S_n = gamma S_(n-1) + k_n^T v_n",
    ),
    "states that fade after the write": (
        _backward_with(faded=lambda gamma, state, new: gamma * (state + new)),
        "dq reads states that fade after the write: gamma multiplies S_(n-1) alone, S_n = gamma S_(n-1) + k_n^T v_n",
    ),
    "no gradient of the last state": (
        _backward_with(last=lambda gamma, grad_state: 0.0 * grad_state),
        "you left out grad_state: the last state is used after the text, so dS_T begins with it",
    ),
    "fades before the last token": (
        _backward_with(last=lambda gamma, grad_state: gamma * grad_state),
        "grad_state fades once too often: it is the gradient of S_T itself, so it enters dS_T as it is",
    ),
    "fades at the top of the loop": (
        _backward_with(last=lambda gamma, grad_state: gamma * grad_state, at_start=lambda gamma, running, total: total),
        "gamma comes too early: add q_n^T do_n, use dS_n, then fade it, so grad_state enters as it is and dS_0 = gamma dS_1",
    ),
    "adds its own after use": (
        _backward_with(used=lambda gamma, passed, own: passed),
        "you add q_n^T do_n after you use dS_n: dk_n and dv_n need it, because o_n reads what token n wrote",
    ),
    "fades before use": (
        _backward_with(used=lambda gamma, passed, own: gamma * (passed + own)),
        "you multiply by gamma before dk_n and dv_n: they take dS_n as it is, it fades on the way to dS_(n-1)",
    ),
    "no fading backwards": (
        _backward_with(handed=lambda gamma, passed, own: passed + own),
        "your gradient does not fade on the way back: S_n holds gamma S_(n-1), so dS_(n-1) gets gamma dS_n",
    ),
    "the newest fades alone": (
        _backward_with(handed=lambda gamma, passed, own: passed + gamma * own),
        "on the way back only the token's own part fades: gamma multiplies all of dS_n",
    ),
    "its own does not fade": (
        _backward_with(handed=lambda gamma, passed, own: gamma * passed + own),
        "you fade dS_(n+1) and hand q_n^T do_n on unfaded: gamma multiplies all of dS_n on the way to S_(n-1)",
    ),
    "cut at each token": (
        _backward_with(handed=lambda gamma, passed, own: 0.0 * passed),
        "your gradient is cut at each token: dS_n goes on to S_(n-1), times gamma",
    ),
    "its own part alone": (
        _backward_with(handed=lambda gamma, passed, own: gamma * own),
        "you hand on the token's own part alone: dS_n is what later tokens passed back plus q_n^T do_n, and all of it goes on",
    ),
    "runs forwards": (
        _backward_with(order=range),
        "your loop for dS runs forwards: dS_n needs dS_(n+1), so begin with the last token",
    ),
    "dstate does not fade": (
        _backward_with(at_start=lambda gamma, running, total: total),
        "dstate is dS_1: S_1 holds gamma S_0, so dS_0 = gamma dS_1",
    ),
    "no dstate": (
        _backward_with(at_start=lambda gamma, running, total: 0.0 * running),
        "dstate is zero: every output reads what is left of S_0, so dS_0 = gamma dS_1",
    ),
    "dstate past the tokens": (
        _right_but(
            lambda dq, dk, dv, dstate, q, k, v, gamma, grad_out, state, grad_state: (
                dq, dk, dv, np.zeros(dstate.shape) if grad_state is None else gamma ** len(q) * grad_state,
            )
        ),
        "dstate holds gamma^T grad_state alone: the tokens on the way read the state too, so dS_0 = gamma dS_1",
    ),
    "keys for values": (
        _right_but(lambda dq, dk, dv, dstate, *_: (dq, dv, dk, dstate)),
        "you exchanged dk and dv: dk_n = v_n dS_n^T is as wide as k, dv_n = k_n dS_n as wide as v",
    ),
    "queries for keys in dv": (
        _backward_with(values=lambda total, q, k: q @ total),
        "dv takes q: v_n entered the state times k_n, so dv_n = k_n dS_n",
    ),
    "gradients for values in dk": (
        _backward_with(keys=lambda total, q, v, grad_out: total @ grad_out),
        "dk takes do: k_n entered the state times v_n, so dk_n = v_n dS_n^T",
    ),
    "keys for queries in dS": (
        _backward_with(own=lambda q, k, grad_out: np.outer(k, grad_out)),
        "your dS_n takes k: o_n = q_n S_n, so do_n reaches the state through q_n",
    ),
    "values times keys": (
        _values_times_keys,
        "your q_n^T do_n is transposed, (V, K): the gradient has the shape of the state, (K, V), so q comes first",
    ),
    "the state the wrong way round": (
        _state_the_wrong_way_round,
        "dq takes do_n S_n: do has V entries and S is (K, V), so transpose the state, do_n S_n^T",
    ),
    "float32": (
        _backward_with(dtype=np.float32),
        "you summed dS in float32: float64 arguments need float64 sums",
    ),
}  # fmt: skip


BACKWARD = problem(
    retention_backward,
    RETURNS,
    visible={
        "two tokens at gamma = 1/2, a state of 4": (
            BY_HAND,
            "by hand: S is 3 and 7/2; dS_2 = 2 + 1 = 3 and dS_1 = 3/2 + 1 = 5/2; dstate = 5/4",
        ),
        "three tokens (K = V = 2)": (
            _one(2, 2, 3),
            "dq_n = do_n S_n^T, dk_n = v_n dS_n^T, dv_n = k_n dS_n, with dS_n after token n added its own part",
        ),
        "five tokens (K = 2, V = 3)": (
            _one(2, 3, 5, gamma=0.75),
            "dS_n = q_n^T do_n + gamma dS_(n+1), where grad_state takes the place of gamma dS_(T+1)",
        ),
        "from None, to None": (
            _one(3, 2, 4, state=False, grad_state=False),
            "None means zeros of shape (K, V), for the state and for its gradient",
        ),
        "no token at all (T = 0)": (
            _one(2, 3, 0),
            "with T = 0 the last state is the first one, so dstate is grad_state",
        ),
        **keeps_arguments(_one(3, 3, 4, gamma=0.75)),
    },
    hidden={
        "a memory that never fades": (
            _one(2, 3, 6, gamma=1.0),
            "gamma = 1 is allowed: nothing may divide by 1 - gamma",
        ),
        "from None, to a gradient": (
            _one(4, 3, 5, gamma=0.9, state=False),
            "try state = None with a grad_state: the two are independent",
        ),
        "from a state, to None": (
            _one(2, 5, 3, gamma=0.75, grad_state=False),
            "try grad_state = None with a state: the two are independent",
        ),
        "a long text": (_one(3, 4, 60, gamma=0.9), "try T = 60 at gamma = 0.9"),
        **float32_arrays(_one(4, 3, 20, gamma=0.9, dtype=np.float32)),
    },
    wrong_answers={
        **BACKWARD_MISTAKES,
        **asks_whether_true(retention_backward, at=5),
        "fades the gradient in place": (
            _fades_the_gradient_in_place,
            "you changed the caller's grad_state in place (as *= and += do): make a new array",
        ),
        "fades the state in place": (
            _fades_the_state_in_place,
            "you changed the caller's state in place (as *= and += do): make a new array",
        ),
    },
)

GAMMA = problem(
    gamma_gradient,
    ("exact", "measured"),
    visible={
        "two tokens at gamma = 1/2, a state of 4": (
            _by_hand(step=0.25),
            "by hand: 5/2 * 4 + 3 * 3 = 19; the loss at 3/4 and 1/4 is 19 and 19/2, so measured is 19 too",
        ),
        "two heads, four tokens": (
            _heads(4, 2, 3, 0.5, 0.9),
            "gamma stands before S_(n-1) in S_n, so each token adds the sum of dS_n * S_(n-1), entry by entry",
        ),
        "three heads that differ, a wide step": (
            _heads(5, 3, 2, 0.3, 0.75, 1.0, step=0.125),
            "measured has an error of its own at this step: it is what the two losses say, not exact",
        ),
        "no token at all (T = 0)": (
            _heads(0, 2, 3, 0.5, 0.9),
            "with T = 0 gamma is not used, so both are 0, of shape (H,)",
        ),
        **keeps_arguments(_heads(3, 2, 2, 0.5, 0.75)),
    },
    hidden={
        "a single token": (_heads(1, 3, 3, 0.5), "try T = 1: gamma meets S_0 alone"),
        "many heads": (_heads(7, 3, 4, 0.2, 0.5, 0.75, 0.9, 1.0, step=2.0**-6), "try five heads and T = 7"),
        "a long text": (_heads(60, 2, 2, 0.97, 0.99), "try T = 60 with slow heads"),
    },
    wrong_answers={
        "the state after the token": (
            _gamma_with(pairs=lambda before, after: after),
            "exact pairs dS_n with S_n: gamma stands before S_(n-1) in S_n, so that is what dS_n meets",
        ),
        "the gradient passed back": (
            _gamma_with(gradient=lambda running, own, fade: running),
            "exact takes dS_n before q_n^T do_n is added: o_n reads S_n too, so add it first",
        ),
        "its own gradient alone": (
            _gamma_with(gradient=lambda running, own, fade: own),
            "exact takes q_n^T do_n alone: S_n also reaches the loss through all later tokens, so take all of dS_n",
        ),
        "exact without the first state": (
            _gamma_with(first=lambda state: 0.0 * state),
            "exact leaves out S_0: the state passed in fades too, by gamma at the first token",
        ),
        "exact without the last gradient": (
            _gamma_with(of_last=lambda grad_state, fade: 0.0 * grad_state),
            "exact leaves out grad_state: gamma also changes the last state, so dS_T begins with grad_state",
        ),
        "the last gradient fades first": (
            _gamma_with(of_last=lambda grad_state, fade: fade * grad_state),
            "in exact grad_state fades before the last token: it is the gradient of S_T itself, so it enters dS_T as it is",
        ),
        "nothing fades backwards": (
            _gamma_with(handed=lambda running, fade: running),
            "in exact the gradient does not fade on the way back: dS_(n-1) gets gamma dS_n",
        ),
        "cut at each token": (
            _gamma_with(handed=lambda running, fade: 0.0 * running),
            "in exact the gradient is cut at each token: dS_n goes on to S_(n-1), times gamma",
        ),
        "the logarithm of gamma": (
            _gamma_with(total=lambda sums, gamma: gamma * sums),
            "exact has a factor gamma too many: dS_n meets S_(n-1), neither of them times gamma",
        ),
        "divided by gamma": (
            _gamma_with(total=lambda sums, gamma: sums / gamma),
            "exact is divided by gamma: S_(n-1) is already free of the gamma that stands before it in S_n",
        ),
        "one number for all heads": (
            _gamma_with(total=lambda sums, gamma: np.full(sums.shape, sums.sum())),
            "exact has the sum over the heads: each head has a gamma and a gradient of its own",
        ),
        "all heads in one loss": (
            _gamma_with(
                slope=lambda loss, gamma, h: np.full(gamma.shape, (loss(gamma + h) - loss(gamma - h)).sum() / 2 / h)
            ),
            "measured moves all gammas and takes one loss: the loss of a head alone says what its gamma does",
        ),
        "a one-sided difference": (
            _gamma_with(slope=lambda loss, gamma, step: (loss(gamma + step) - loss(gamma)) / step),
            "measured is the difference of gamma + step and gamma: take gamma + step and gamma - step",
        ),
        "the difference below": (
            _gamma_with(slope=lambda loss, gamma, step: (loss(gamma) - loss(gamma - step)) / step),
            "measured is the difference of gamma and gamma - step: take gamma + step and gamma - step",
        ),
        "divides by one step": (
            _gamma_with(slope=lambda loss, gamma, step: (loss(gamma + step) - loss(gamma - step)) / step),
            "measured is twice too large: gamma + step and gamma - step are 2 step apart",
        ),
        "half a step to each side": (
            _gamma_with(slope=lambda loss, gamma, step: (loss(gamma + step / 2) - loss(gamma - step / 2)) / step),
            "measured goes half a step to each side: go a whole step, to gamma + step and gamma - step",
        ),
        "does not divide": (
            _gamma_with(slope=lambda loss, gamma, step: loss(gamma + step) - loss(gamma - step)),
            "measured is the difference of the losses: divide it by 2 step",
        ),
        "the sign of the difference": (
            _gamma_with(slope=lambda loss, gamma, step: (loss(gamma - step) - loss(gamma + step)) / (2 * step)),
            "measured has the wrong sign: loss at gamma + step less loss at gamma - step",
        ),
        "a relative step": (
            _gamma_with(slope=lambda loss, gamma, h: (loss(gamma * (1 + h)) - loss(gamma * (1 - h))) / (2 * h * gamma)),
            "measured multiplies gamma by 1 + step: add step to gamma",
        ),
        "a loss of the outputs alone": (
            _gamma_with(loss_of_last=lambda grad_state: 0.0 * grad_state),
            "measured leaves the last state out of the loss: add the sum of grad_state * S_T",
        ),
        "a loss of the last state alone": (
            _gamma_with(weights=lambda grad_out: 0.0 * grad_out),
            "measured leaves the outputs out of the loss: add the sum of grad_out * out",
        ),
        "a loss of unweighted outputs": (
            _gamma_with(weights=np.ones_like),
            "measured sums the outputs: the loss is the sum of grad_out * out, so that its gradient is grad_out",
        ),
        "a loss from zeros": (
            _gamma_with(loss_first=lambda state: 0.0 * state),
            "measured starts from zeros: the text begins with the state passed in",
        ),
        "exact twice": (
            _both_twice(0),
            "you returned exact twice: measured comes from two losses, without the gradient",
        ),
        "measured twice": (
            _both_twice(1),
            "you returned measured twice: exact is a sum over the tokens and has no error of the step",
        ),
        **swaps(gamma_gradient, "exact", "measured"),
    },
)

CHUNKS = problem(
    chunks_backward,
    RETURNS,
    visible={
        "two chunks of one token at gamma = 1/2": (
            BY_HAND | {"chunk_size": 1},
            "by hand, as in problem 1: dq is 3, 7/2, dk 5/2, 6, dv 5/2, 3 and dstate 5/4",
        ),
        "one chunk, after which the state is used": (
            _one(2, 3, 4, chunk_size=4),
            "dk and dv of token j meet grad_state through what token j left in the state: gamma^(c-j) of it",
        ),
        "seven tokens in chunks of three": (
            _one(2, 2, 7, gamma=0.75, chunk_size=3),
            "what a chunk hands on to the chunk before is its own part and what it was handed, faded by gamma^c",
        ),
        "five tokens in chunks of two, K and V differ": (
            _one(3, 2, 5, gamma=0.9, chunk_size=2),
            "the last chunk holds one token: it fades by its own length, c = 1",
        ),
        "no token at all (T = 0)": (
            _one(3, 2, 0, chunk_size=4),
            "with T = 0 there is no chunk, and dstate is grad_state",
        ),
        **keeps_arguments(_one(3, 3, 6, gamma=0.75, chunk_size=4)),
    },
    hidden={
        "many chunks": (_one(2, 4, 23, gamma=0.9, chunk_size=4), "try T = 23 and chunk_size = 4"),
        "a memory that never fades": (
            _one(2, 3, 6, gamma=1.0, chunk_size=4),
            "gamma = 1 is allowed: nothing may divide by 1 - gamma",
        ),
        "a chunk longer than the text": (_one(4, 2, 5, chunk_size=9), "try T = 5 and chunk_size = 9"),
        **float32_arrays(_one(4, 3, 50, gamma=0.9, dtype=np.float32, chunk_size=16)),
    },
    wrong_answers={
        "the code as it stands": (
            _chunks_with(handed=_cut, key_left=_no_decay),
            "both mistakes are still there: one is in dk, the other in what a chunk hands on to the chunk before",
        ),
        "cut after one chunk": (
            _chunks_with(handed=_cut),
            "dk is right within a chunk, but a chunk hands on its own part alone: add gamma^c of what it was handed",
        ),
        "no decay in dk": (
            _chunks_with(key_left=_no_decay),
            "what is handed on is right now, but dk does not fade: token j is in the state with gamma^(c-j)",
        ),
        "the decay of reading in dk": (
            _chunks_with(key_left=lambda gamma, j, c: gamma**j),
            "dk fades by gamma^j: that is for what token j reads; what it wrote fades by gamma^(c-j) until the chunk ends",
        ),
        "the decay of a whole chunk in dk": (
            _chunks_with(key_left=lambda gamma, j, c: gamma**c),
            "dk fades by gamma^c: only what came before the chunk does, token j has faded by gamma^(c-j)",
        ),
        "one step too far in dk": (
            _chunks_with(key_left=lambda gamma, j, c: gamma ** (c - j + 1)),
            "dk fades once too often: the last token of a chunk has just been written, so it has gamma^0 = 1",
        ),
        "one step too far in dk and dv": (
            _chunks_with(
                key_left=lambda gamma, j, c: gamma ** (c - j + 1), value_left=lambda gamma, j, c: gamma ** (c - j + 1)
            ),
            "dk and dv fade once too often: dv was right, the last token of a chunk has gamma^0 = 1 in both",
        ),
        "no decay in dk and dv": (
            _chunks_with(key_left=_no_decay, value_left=_no_decay),
            "dk and dv do not fade: dv was right, and dk needs the same gamma^(c-j)",
        ),
        "no decay of what was handed": (
            _chunks_with(handed=lambda own, old, gamma, c, size: own + old),
            "what a chunk was handed goes on unfaded: S fades by gamma^c over the chunk, and so does its gradient",
        ),
        "gamma for gamma^c": (
            _chunks_with(handed=lambda own, old, gamma, c, size: own + gamma * old),
            "what a chunk was handed fades by gamma: c tokens pass, so by gamma^c",
        ),
        "gamma^chunk_size": (
            _chunks_with(handed=lambda own, old, gamma, c, size: own + gamma**size * old),
            "what a chunk was handed fades by gamma^chunk_size: the last chunk may be short, take its own length c",
        ),
        "all that is handed fades": (
            _chunks_with(handed=lambda own, old, gamma, c, size: gamma**c * (own + old)),
            "you fade the chunk's own part by gamma^c as well: gamma^j is in it already",
        ),
        "its own part is lost": (
            _chunks_with(handed=lambda own, old, gamma, c, size: gamma**c * old),
            "a chunk hands on only what it was handed: its own outputs read the state too, so add that part",
        ),
        "grad_state fades first": (
            _chunks_with(begins=lambda grad_state, gamma: gamma * grad_state),
            "grad_state fades before the last token uses it: it is the gradient of the state after that token, take it as it is",
        ),
        "zeta one power too high in the states": (
            _chunks_with(state_after=lambda own, old, gamma, c: gamma * own + gamma**c * old),
            "dq reads states whose writes fade once too often: zeta_j = gamma^(c-j), the last token of a chunk has gamma^0 = 1",
        ),
        "grad_state at every chunk": (
            _chunks_with(running_for=lambda running, grad_state: grad_state),
            "every chunk starts from grad_state: that is the gradient after the last one, each hands its own on",
        ),
        "its own part one step too near": (
            _chunks_with(own_read=lambda gamma, j, c: gamma ** (j - 1)),
            "your dstate is one step too near: the first token of a chunk reads gamma of the state before it, gamma^j was right",
        ),
        "no decay of its own part": (
            _chunks_with(own_read=_no_decay),
            "the chunk's own part does not fade: token j reads gamma^j of the state before the chunk",
        ),
        "dq one step too near": (
            _chunks_with(read=lambda gamma, j, c: gamma ** (j - 1)),
            "dq takes gamma^(j-1) of the state before the chunk: gamma^j was right, it fades before the first token reads it",
        ),
        "dq reads the state after": (
            _chunks_with(states=lambda before, after, first: after),
            "dq reads the state after the chunk: it takes the one before it, the chunk's own tokens are in the scores",
        ),
        "dq reads the first state": (
            _chunks_with(states=lambda before, after, first: first),
            "dq reads the state passed in at every chunk: each chunk has a state of its own before it",
        ),
        "chunks forwards": (
            _chunks_with(backwards=False),
            "your chunks run forwards: the gradient comes from the end, so begin with the last chunk",
        ),
        "scores not turned round": (
            _chunks_with(turned=lambda scores: scores),
            "dk and dv take the scores as they are: a key meets later queries, so transpose them",
        ),
        "no mask in the gradient of the scores": (
            _chunks_with(score_mask=lambda gamma, age: 1.0),
            "the gradient of the scores has no D: the mask multiplied the scores, so it multiplies their gradient",
        ),
        "a mask that sees the future": (
            _chunks_with(mask=lambda gamma, age: gamma ** np.abs(age)),
            "your mask lets a token see later ones: D_jm = 0 for j < m, as in the code you were given",
        ),
    },
)

STEPS = problem(
    best_steps,
    ("predicted", "measured"),
    visible={
        "lag 3, steps of 100 between": (
            _search(0.3, 0.9, 20, 3, -2, -4, -6, -8, -10, -12),
            "for gamma^3 the rules are gamma sqrt(eps / 3) and gamma cbrt(eps / 4); measured is 1e-8 and 1e-6",
        ),
        "lag 20, the steps in another order": (
            _search(0.8, 1.0, 25, 20, -7, -1, -11, -3, -9, -5),
            "the derivatives are lag gamma^(lag-1), then each time the exponent once more; measured is a step, not its number",
        ),
        "many small gammas, a few near 1": (
            MIXED,
            "the mean of the squared errors decides: not the mean of the errors or of their sizes, nor errors relative to f'",
        ),
        **keeps_arguments(
            _search(0.5, 0.9, 20, 4, -2, -4, -6, -8), hint="build new arrays; *=, += and sort() change them"
        ),
    },
    hidden={
        "lag 64": (_search(0.9, 0.99, 40, 64, -1, -3, -5, -7, -9, -11), "try lag = 64"),
        "gammas far apart": (
            _search(0.05, 1.0, 60, 3, -10, -6, -2, -12, -4, -14, -8),
            "try gammas from 0.05 to 1: the best step for one gamma is proportional to it",
        ),
    },
    wrong_answers={
        "a square root for both": (
            _with_roots(power=(1 / 2, 1 / 2)),
            "predicted takes a square root for the central difference: its error grows with delta^2, so take a cube root",
        ),
        "a cube root for both": (
            _with_roots(power=(1 / 3, 1 / 3)),
            "predicted takes a cube root for the one-sided difference: its error grows with delta, so take a square root",
        ),
        "no roots": (
            _with_roots(power=(1, 1)),
            "predicted has no roots: set the derivative of the error by delta to 0 and solve for delta",
        ),
        "where both errors are equal": (
            _with_roots(central=3.0),
            "predicted makes both errors of the central difference equal: that is not the least sum, set its derivative to 0",
        ),
        "the rounding of one value": (
            _with_roots(one_sided=1.0),
            "predicted halves the rounding error of the one-sided difference: it is eps f / delta in all",
        ),
        "the rounding of two steps": (
            _with_roots(central=6.0),
            "predicted divides the rounding error by delta / 2 in the central difference: by 2 delta, as the values are so far apart",
        ),
        "rounding over one step": (
            _with_roots(one_sided=4.0, central=3.0),
            "predicted doubles the rounding error in both: eps f / delta one-sided, eps f / (2 delta) central",
        ),
        "no half in Taylor's series": (
            _with_roots(one_sided=1.0, central=0.25),
            "predicted leaves out the 1/2 and the 1/6 of Taylor's series: delta f''/2 and delta^2 f'''/6",
        ),
        "the rounding of float32": (
            _with_roots(eps=2.0**-23),
            "predicted takes eps of float32: float64 has eps = 2^-52",
        ),
        "half of eps": (
            _with_roots(eps=2.0**-53),
            "predicted takes 2^-53 for eps: here eps is 2^-52, and each value is off by half of that at most",
        ),
        "no gamma": (
            _with_roots(scale=lambda gamma: np.ones(gamma.shape)),
            "predicted is the same for all gammas: f / f'' holds gamma^2, f / f''' gamma^3, whose roots are gamma",
        ),
        "the second derivative twice": (
            _with_roots(last=lambda lag: lag * (lag - 1)),
            "predicted takes f'' for the central difference: there the term of f'' cancels, f''' is the first that is left",
        ),
        "powers of lag": (
            lambda gamma, lag, step: (
                np.array([gamma * np.sqrt(2 * EPS / lag**2), gamma * np.cbrt(1.5 * EPS / lag**3)]),
                best_steps(gamma, lag, step)[1],
            ),
            "predicted takes lag^2 and lag^3: the exponent falls by 1 each time, lag (lag - 1) and lag (lag - 1) (lag - 2)",
        ),
        "rows exchanged": (
            _steps_with(predicted=lambda one_sided, central: (central, one_sided)),
            "the rows of predicted are exchanged: one-sided first, central second",
        ),
        "measured exchanged": (
            _steps_with(measured=lambda errors, step: step[np.argmin(_root_mean_square(errors), axis=0)][::-1]),
            "the entries of measured are exchanged: one-sided first, central second",
        ),
        "the number of the step": (
            _steps_with(measured=lambda errors, step: np.argmin(_root_mean_square(errors), axis=0).astype(float)),
            "measured holds the number of the step: return the step itself, step[number]",
        ),
        "the smallest step": (
            _steps_with(measured=lambda errors, step: np.full(2, step.min())),
            "measured is the smallest step: there rounding is largest, compare with lag gamma^(lag-1) at each step",
        ),
        "the largest step": (
            _steps_with(measured=lambda errors, step: np.full(2, step.max())),
            "measured is the step with the largest error: you want the least",
        ),
        "signed errors": (
            _steps_with(measured=lambda errors, step: step[np.argmin(errors.mean(axis=2), axis=0)]),
            "measured compares errors with their sign: square them before you average",
        ),
        "the mean size of the errors": (
            _steps_with(measured=lambda errors, step: step[np.argmin(np.abs(errors).mean(axis=2), axis=0)]),
            "measured takes the mean of the errors or of their sizes: square each error before you average",
        ),
        "relative errors": (
            _steps_relative,
            "measured divides the errors by the slope: the mean square of the errors themselves is asked for",
        ),
        "one-sided twice": (
            _steps_with(measured=lambda errors, step: np.full(2, step[np.argmin(_root_mean_square(errors)[:, 0])])),
            "measured is that of the one-sided difference twice: the central one has a step of its own",
        ),
        "central twice": (
            _steps_with(measured=lambda errors, step: np.full(2, step[np.argmin(_root_mean_square(errors)[:, 1])])),
            "measured is that of the central difference twice: the one-sided one has a step of its own",
        ),
        "the errors": (
            _steps_with(measured=lambda errors, step: _root_mean_square(errors).min(axis=0)),
            "measured holds the least errors: return the steps that have them",
        ),
        **swaps(best_steps, "predicted", "measured"),
    },
)

EXERCISE = Exercise("ex10", "Backpropagation by hand", (BACKWARD, GAMMA, CHUNKS, STEPS))
