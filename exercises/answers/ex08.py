"""Exercise 8: the group norm, what its eps costs, and normalised scores (Eq. 5, 7 and 8, arXiv:2307.08621v4)."""

import itertools

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import small_numbers
from .recurring import float32_arrays, keeps_arguments

# Solutions.


def group_norm(y, eps):
    """y / sqrt(mean(y^2) + eps), the mean over the values of one head at one token: y (H, T, V) -> (H, T, V)."""
    return y / np.sqrt(np.mean(y * y, axis=-1, keepdims=True) + eps)


def norm_change(y, divisor, eps):
    """c with group_norm(y / divisor) = (1 + c) group_norm(y): y (H, T, V), divisor (H, T) -> c (H, T)."""
    mean_square = np.mean(y * y, axis=-1)
    # 1 - d^2 in two factors: the square of a divisor near 1 is rounded, and 1 less it has lost digits.
    ratio_less_one = eps * (1 - divisor) * (1 + divisor) / (mean_square + eps * divisor**2)
    return np.expm1(np.log1p(ratio_less_one) / 2)


def normalised_step(q, k, v, gamma, state, row_sum):
    """One token in H heads -> (out (H, V), state (H, K, V), row_sum (H,)): q S_n divided by sqrt(r_n)."""
    state = gamma[:, None, None] * state + k[:, :, None] * v[:, None, :]
    row_sum = gamma * row_sum + 1
    out = (q[:, None, :] @ state)[:, 0, :]
    return out / np.sqrt(row_sum)[:, None], state, row_sum


def normalised_chunk(q, k, v, gamma, state, row_sum):
    """A chunk of one head -> (out (c, V), state (K, V), sums (c,)): q_n S_n / sqrt(r_n), the state, r_n of each token."""
    place = np.arange(1, len(q) + 1)
    mask = np.tril(gamma ** np.abs(np.subtract.outer(place, place)))
    fade = gamma**place
    sums = mask.sum(axis=1) + fade * row_sum
    read = (q @ k.T * mask) @ v + fade[:, None] * (q @ state)
    return read / np.sqrt(sums)[:, None], k.T @ (v * mask[-1][:, None]) + fade[-1] * state, sums


# Wrong answers, each one change away from the solution.


def _norm_over(axis, *, keepdims=True):
    return lambda y, eps: y / np.sqrt(np.mean(y * y, axis=axis, keepdims=keepdims) + eps)


def _norm_by(divide):
    """The norm with another divisor, a function of the mean square and eps."""
    return lambda y, eps: y / divide(np.mean(y * y, axis=-1, keepdims=True), eps)


def _norms_in_place(y, eps):
    y[...] = group_norm(y, eps)
    return y


def _change_with(change):
    """Another function of the mean square, the divisor and eps."""
    return lambda y, divisor, eps: change(np.mean(y * y, axis=-1), divisor, eps)


def _ratio_less_one(mean_square, divisor, eps):
    return eps * (1 - divisor) * (1 + divisor) / (mean_square + eps * divisor**2)


def _change_of(ratio_less_one):
    return np.expm1(np.log1p(ratio_less_one) / 2)


def _change_outside(root, divisor, eps):
    """The change of y / (root + eps)."""
    return eps * (1 - divisor) / (root + eps * divisor)


def _root_ratio(mean_square, divisor, eps):
    return np.sqrt((mean_square + eps) / (mean_square + eps * divisor**2))


def _step_with(
    *,
    sums=lambda gamma, before: gamma * before + 1,
    divide=lambda out, row_sum: out / np.sqrt(row_sum),
    keep=lambda state, row_sum: state,
    keep_sum=lambda row_sum: row_sum,
):
    """The step with another row sum, another normalisation, or other things handed on."""

    def step(q, k, v, gamma, state, row_sum):
        state = gamma[:, None, None] * state + k[:, :, None] * v[:, None, :]
        row_sum = sums(gamma, row_sum)
        out = divide((q[:, None, :] @ state)[:, 0, :], row_sum[:, None])
        return out, keep(state, row_sum[:, None, None]), keep_sum(row_sum)

    return step


def _step_of_a_divided_state(keep):
    """The step of somebody who takes the state that came for a divided one; keep: what is handed on, of state and root."""

    def step(q, k, v, gamma, state, row_sum):
        whole = state * np.sqrt(row_sum)[:, None, None]
        out, state, row_sum = normalised_step(q, k, v, gamma, whole, row_sum)
        return out, keep(state, np.sqrt(row_sum)[:, None, None]), row_sum

    return step


def _chunk_of_a_divided_state(keep):
    """The chunk of somebody who takes the state that came for a divided one; keep: what is handed on, of state and root."""

    def chunk(q, k, v, gamma, state, row_sum):
        out, after, sums = normalised_chunk(q, k, v, gamma, state * np.sqrt(row_sum), row_sum)
        return out, keep(after, np.sqrt(sums[-1])), sums

    return chunk


def _reads_before_writing(q, k, v, gamma, state, row_sum):
    _, after, row_sum = normalised_step(q, k, v, gamma, state, row_sum)
    return (q[:, None, :] @ state)[:, 0, :] / np.sqrt(row_sum)[:, None], after, row_sum


def _gamma_along_the_values(q, k, v, gamma, state, row_sum):
    state = gamma * state + k[:, :, None] * v[:, None, :]
    row_sum = gamma * row_sum + 1
    return (q[:, None, :] @ state)[:, 0, :] / np.sqrt(row_sum)[:, None], state, row_sum


def _writes_across_the_heads(q, k, v, gamma, state, row_sum):
    before, row_sum = gamma[:, None, None] * state, gamma * row_sum + 1
    after = before + np.outer(k, v)
    return (q[:, None, :] @ after)[:, 0] / np.sqrt(row_sum)[:, None], after, row_sum


def _with_state(after, q, gamma, row_sum):
    """The answer of the step with another new state."""
    row_sum = gamma * row_sum + 1
    return (q[:, None, :] @ after)[:, 0] / np.sqrt(row_sum)[:, None], after, row_sum


def _fades_the_write(q, k, v, gamma, state, row_sum):
    return _with_state(gamma[:, None, None] * (state + k[:, :, None] * v[:, None, :]), q, gamma, row_sum)


def _adds_all_heads(q, k, v, gamma, state, row_sum):
    return _with_state(gamma[:, None, None] * state + k.T @ v, q, gamma, row_sum)


def _reads_across_the_heads(q, k, v, gamma, state, row_sum):
    _, after, row_sum = normalised_step(q, k, v, gamma, state, row_sum)
    return q @ after / np.sqrt(row_sum)[:, None], after, row_sum


def _steps_in_place(q, k, v, gamma, state, row_sum):
    out, state[...], row_sum[...] = normalised_step(q, k, v, gamma, state, row_sum)
    return out, state, row_sum


def _divides_by_the_old(q, k, v, gamma, state, row_sum):
    out, after, new = normalised_step(q, k, v, gamma, state, row_sum)
    return out * np.sqrt(new / row_sum)[:, None], after, new


def _old_row_sum(q, k, v, gamma, state, row_sum):
    return *normalised_step(q, k, v, gamma, state, row_sum)[:2], row_sum + 0.0


def _fresh_sums(gamma, length):
    """The row sums of a chunk that nothing came before."""
    return np.cumsum(gamma ** np.arange(length))


def _chunk_with(
    *,
    sums=lambda gamma, j, before: gamma**j * before + _fresh_sums(gamma, len(j)),
    divide=lambda inside, past, sums: (inside + past) / np.sqrt(sums),
    keep=lambda state, last: state,
):
    """The chunk with other row sums, another normalisation, or another state handed on."""

    def chunk(q, k, v, gamma, state, row_sum):
        zero = np.zeros_like(state)
        before = normalised_chunk(q, k, v, gamma, state, row_sum)
        right, root = before[2], np.sqrt(before[2])[:, None]
        inside = normalised_chunk(q, k, v, gamma, zero, row_sum)[0] * root
        changed = sums(gamma, np.arange(1, len(q) + 1), row_sum) + 0.0 * right
        out = divide(inside, before[0] * root - inside, changed[:, None])
        return out, keep(before[1], changed[-1]), changed

    return chunk


def _replace_state(answer, change):
    out, state, sums = answer
    return out, change(state), sums


def _reads_by(xi):
    """The chunk that reads the old state by another xi, a function of gamma, j and c."""

    def chunk(q, k, v, gamma, state, row_sum):
        out, after, sums = normalised_chunk(q, k, v, gamma, state, row_sum)
        place = np.arange(1.0, len(q) + 1.0)
        other = (xi(gamma, place, len(q)) - gamma**place)[:, None] * (q @ state)
        return out + other / np.sqrt(sums)[:, None], after, sums

    return chunk


def _chunk_as_it_stands(sums, *, divided=False):
    """The code of the statement with other row sums, made of gamma, j (c, 1), D and the row sum before the chunk."""

    def chunk(q, k, v, gamma, state, row_sum):
        place = np.arange(1.0, len(q) + 1.0)[:, None]
        mask = np.tril(gamma ** np.abs(place - place.T))
        changed = sums(gamma, place.astype(int), mask, row_sum)
        root = np.sqrt(changed)[:, None]
        read = (mask * (q @ k.T)) @ v + (q @ state) * gamma**place
        after = normalised_chunk(q, k, v, gamma, state, row_sum)[1]
        return read / root, after / root[-1] if divided else after, changed

    return chunk


# What is wrong with the row sum from before the chunk, as a function of gamma, j and that sum, and how it is told.
OLD_SUMS = {
    "unfaded": (lambda gamma, j, before: before, "the old r does not fade by gamma^j"),
    "dropped": (lambda gamma, j, before: 0.0 * before, "the old r, faded by gamma^j, is missing"),
    "one step too near": (
        lambda gamma, j, before: gamma ** (j - 1) * before,
        "the old r fades by gamma^(j-1), not gamma^j",
    ),
    "faded by gamma^c": (
        lambda gamma, j, before: gamma ** len(j) * before,
        "the old r fades by gamma^c for all, not gamma^j",
    ),
    "faded by gamma": (lambda gamma, j, before: gamma * before, "the old r fades by gamma for all, not gamma^j"),
}
# The same for what the tokens of the chunk add.
NEW_SUMS = {
    "gamma first": (lambda gamma, j: np.cumsum(gamma**j), "the first token adds gamma, not 1"),
    "ones that do not fade": (lambda gamma, j: j, "the ones of the chunk do not fade"),
    "columns": (lambda gamma, j: _fresh_sums(gamma, len(j))[::-1], "you sum columns of D, not rows"),
    "its own one": (lambda gamma, j: 1.0, "each token adds its own 1 alone"),
}


def _two_mistakes_in_sums():
    """Each pair of a mistake in the old row sum with one in the new, and each of the old with a divided state."""
    for (name, (old, told)), (other, (new, also)) in itertools.product(OLD_SUMS.items(), NEW_SUMS.items()):
        if (name, other) != ("faded by gamma", "its own one"):  # "one step for all tokens" below
            both = _chunk_with(sums=lambda gamma, j, before, old=old, new=new: old(gamma, j, before) + new(gamma, j))
            yield f"{name}, {other}", (both, f"two mistakes in your sums: {told}; and {also}")
    for name, (old, told) in OLD_SUMS.items():
        if name != "unfaded":  # the code as it was
            both = _chunk_with(
                sums=lambda gamma, j, before, old=old: old(gamma, j, before) + _fresh_sums(gamma, len(j)),
                keep=lambda state, last: state / np.sqrt(last),
            )
            yield (
                f"{name}, a divided state",
                (both, f"two mistakes: in sums {told}; and your state is divided by a root"),
            )


# Checks.


def _values(*shape, size=1.0, dtype=np.float64):
    return (size * small_numbers(np.random.default_rng(shape), *shape)).astype(dtype)


def _token(key_dim, value_dim, gamma, row_sum, *, dtype=np.float64):
    """Arguments of the step, a head for each gamma; where row_sum is 0 no token came before, so the state is zero."""
    gamma, row_sum = np.array(gamma, dtype=dtype), np.array(row_sum, dtype=dtype)
    heads, random = len(gamma), np.random.default_rng([len(gamma), key_dim, value_dim])
    shapes = (heads, key_dim), (heads, key_dim), (heads, value_dim), (heads, key_dim, value_dim)
    q, k, v, state = (small_numbers(random, *shape, dtype=dtype) for shape in shapes)
    state[row_sum == 0] = 0.0
    return {"q": q, "k": k, "v": v, "gamma": gamma, "state": state, "row_sum": row_sum}


def _chunk(time, key_dim, value_dim, gamma, row_sum, *, dtype=np.float64):
    """Arguments of a chunk; where row_sum is 0 no token came before, so the state is zero."""
    random = np.random.default_rng([time, key_dim, value_dim, 8])
    shapes = (time, key_dim), (time, key_dim), (time, value_dim), (key_dim, value_dim)
    q, k, v, state = (small_numbers(random, *shape, dtype=dtype) for shape in shapes)
    return {"q": q, "k": k, "v": v, "gamma": gamma, "state": state if row_sum else 0 * state, "row_sum": row_sum}


NORM = problem(
    group_norm,
    ("normed",),
    visible={
        "one head, two tokens": (
            {"y": np.array([[[1.0, 5.0, 7.0], [5.0, -5.0, 5.0]]]), "eps": 11.0},
            "by hand: the mean of 1, 25 and 49 is 25, 25 + 11 = 36, and its root is 6: 1/6, 5/6 and 7/6",
        ),
        "two heads of different size": (
            {
                "y": np.array([[[0.1, 0.5, 0.7], [0.3, 0.1, 0.2]], [[10.0, 50.0, 70.0], [40.0, 20.0, 10.0]]]),
                "eps": 0.01,
            },
            "a loud head must not make a quiet one quieter: each head has its own mean square",
        ),
        "two heads, three tokens, four values": (
            {"y": _values(2, 3, 4), "eps": 0.5},
            "y has shape (H, T, V): each head at each token is normalised by its own V values",
        ),
        "no eps": (
            {"y": _values(2, 2, 3, size=1e-9), "eps": 0.0},
            "with eps = 0 only the mean square is left under the root: nothing else may be added",
        ),
        "no token at all (T = 0)": (
            {"y": _values(2, 0, 3), "eps": 1e-6},
            "with T = 0 the answer has the shape of y, (H, 0, V)",
        ),
        **keeps_arguments(
            {"y": _values(3, 2, 4), "eps": 0.1}, "build a new array; /=, -= and [...] = write into the caller's"
        ),
    },
    hidden={
        "a row of zeros": (
            {"y": np.array([[[0.0, 0.0, 0.0], [2.0, 3.0, 6.0]], [[1.0, 4.0, 2.0], [5.0, 1.0, 3.0]]]), "eps": 0.01},
            "try a row of zeros, as padding gives: zero divided by the root of eps is zero, not NaN",
        ),
        "values as small as the root of eps": (
            {"y": _values(2, 3, 8, size=1e-3), "eps": 1e-6},
            "try values of 0.001 with eps = 1e-6: eps counts as much as they do",
        ),
        "wide heads": ({"y": _values(3, 2, 9), "eps": 0.25}, "try V = 9: the mean runs over all nine values"),
        **float32_arrays({"y": _values(4, 5, 16, dtype=np.float32), "eps": 1e-6}),
    },
    wrong_answers={
        "subtracts the mean": (
            lambda y, eps: group_norm(y - np.mean(y, axis=-1, keepdims=True), eps),
            "you subtracted the mean, as LayerNorm does: the released norm only divides by the root mean square",
        ),
        "divides by the standard deviation": (
            lambda y, eps: y / np.sqrt(np.var(y, axis=-1, keepdims=True) + eps),
            "you divided by the standard deviation, which takes the mean off: use the mean of y squared",
        ),
        "divides by V - 1": (
            lambda y, eps: y / np.sqrt(np.sum(y * y, axis=-1, keepdims=True) / (y.shape[-1] - 1) + eps),
            "you divided the sum of squares by V - 1: this is a plain mean over all V values",
        ),
        "sums the squares": (
            lambda y, eps: y / np.sqrt(np.sum(y * y, axis=-1, keepdims=True) + eps),
            "you summed the squares: take their mean, or wider heads come out smaller",
        ),
        "the length of the row": (
            lambda y, eps: y / (np.linalg.norm(y, axis=-1, keepdims=True) + eps),
            "you divided by the length of the row plus eps: take the mean of the squares, add eps, then the root",
        ),
        "the square of the mean": (
            lambda y, eps: y / np.sqrt(np.mean(y, axis=-1, keepdims=True) ** 2 + eps),
            "you squared the mean: square y first, then take the mean",
        ),
        "multiplies": (
            lambda y, eps: y * np.sqrt(np.mean(y * y, axis=-1, keepdims=True) + eps),
            "you multiplied by the root: divide by it",
        ),
        "the mean of absolute values": (
            lambda y, eps: y / (np.mean(np.abs(y), axis=-1, keepdims=True) + eps),
            "you divided by the mean of absolute values: square y, take the mean, add eps, take the root",
        ),
        "adds eps to the result": (
            lambda y, eps: group_norm(y, 0.0) + eps,
            "you added eps to the result: it belongs under the root, to the mean square",
        ),
        "adds eps to y": (
            lambda y, eps: (y + eps) / np.sqrt(np.mean(y * y, axis=-1, keepdims=True)),
            "you added eps to y before you divided: it belongs under the root, to the mean square",
        ),
        "adds eps before the square": (
            lambda y, eps: y / np.sqrt(np.mean((y + eps) ** 2, axis=-1, keepdims=True)),
            "you added eps before you squared: it is added to the mean square",
        ),
        "eps inside the mean": (
            lambda y, eps: y / np.sqrt((np.sum(y * y, axis=-1, keepdims=True) + eps) / y.shape[-1]),
            "you added eps to the sum of squares and then divided by V: it is added to their mean",
        ),
        "the root of eps": (
            _norm_by(lambda mean_square, eps: np.sqrt(mean_square) + np.sqrt(eps)),
            "you took the root of the mean square and that of eps: add first, the root is of their sum",
        ),
        "eps as a floor": (
            _norm_by(lambda mean_square, eps: np.sqrt(np.maximum(mean_square, eps))),
            "you took the larger of the mean square and eps: eps is added",
        ),
        "eps as a floor of the root": (
            _norm_by(lambda mean_square, eps: np.maximum(np.sqrt(mean_square), eps)),
            "you took the larger of the root and eps: eps is added to the mean square, under the root",
        ),
        "subtracts eps": (
            _norm_by(lambda mean_square, eps: np.sqrt(mean_square - eps)),
            "you subtracted eps: it is added to the mean square",
        ),
        "the root of the length": (
            lambda y, eps: y / np.sqrt(np.linalg.norm(y, axis=-1, keepdims=True) + eps),
            "you took the root of the length of the row, which is a root already: use the mean of the squares",
        ),
        "eps squared": (
            _norm_by(lambda mean_square, eps: np.sqrt(mean_square + eps**2)),
            "you squared eps: it is added to the mean square as it is",
        ),
        "one mean for all": (
            lambda y, eps: y / np.sqrt(np.sum(y * y) / max(y.size, 1) + eps),
            "you took one mean over everything: each head at each token has a mean of its own, over the last axis",
        ),
        "loses the axis": (
            lambda y, eps: y / np.sqrt(np.mean(y * y, axis=-1) + eps),
            "your mean squares have shape (H, T) and meet the wrong axes of y: keep them as (H, T, 1), with keepdims",
        ),
        "all tokens together, without their axis": (
            _norm_over((1, 2), keepdims=False),
            "two mistakes: you took one mean over all tokens; and it lost its axes: average over the last axis, with keepdims",
        ),
        "all heads together, without their axis": (
            _norm_over((0, 2), keepdims=False),
            "two mistakes: you took one mean over all heads; and it lost its axes: average over the last axis, with keepdims",
        ),
        "over time, without the axis": (
            _norm_over(1, keepdims=False),
            "two mistakes: you averaged over the tokens, axis 1; and the axis is lost: average over the last, with keepdims",
        ),
        "all heads together": (_norm_over((0, 2)), "you took one mean over all heads: each head is a group of its own"),
        "all tokens together": (
            _norm_over((1, 2)),
            "you took one mean over all tokens, later ones too: each token is normalised by itself",
        ),
        "over the heads": (
            _norm_over(0),
            "you averaged over the heads, axis 0: the values of one head lie along the last axis",
        ),
        "over time": (
            _norm_over(1),
            "you averaged over the tokens, axis 1: the values of one head lie along the last axis",
        ),
        "eps outside the root": (
            _norm_by(lambda mean_square, eps: np.sqrt(mean_square) + eps),
            "you added eps after the root: it belongs under it, to the mean square",
        ),
        "eps twice": (
            _norm_by(lambda mean_square, eps: np.sqrt(mean_square + eps) + eps),
            "you added eps twice, under the root and after it: it belongs only under the root",
        ),
        "without a root": (
            _norm_by(lambda mean_square, eps: mean_square + eps),
            "you forgot the root: divide by the root of the mean square plus eps",
        ),
        "forgets eps": (
            _norm_by(lambda mean_square, eps: np.sqrt(np.maximum(mean_square, 1e-300))),
            "you forgot eps: it is added to the mean square, under the root",
        ),
        "writes in place": (
            _norms_in_place,
            "you changed the caller's y: make a new array, the caller may still need the old one",
        ),
    },
)

# A divisor for which all ways to round the ratio give the same number, and so the same mistake the same name.
NEAR_ONE = 1 + 75_026_894 * 2.0**-52


CHANGE = problem(
    norm_change,
    ("change",),
    visible={
        "mean square 25, eps 11, divisor 2": (
            {"y": np.array([[[1.0, 5.0, 7.0]]]), "divisor": np.array([[2.0]]), "eps": 11.0},
            "by hand: y becomes y/6, y/2 becomes y / sqrt(25 + 44), so the change is 6 / sqrt(69) - 1",
        ),
        "two heads, three tokens": (
            {"y": _values(2, 3, 4), "divisor": np.array([[1.0, 1.5, 1.75], [1.0, 2.0, 3.0]]), "eps": 0.25},
            "change has an entry for each head and token; where the divisor is 1 nothing changes",
        ),
        "a divisor below 1": (
            {"y": _values(1, 2, 3), "divisor": np.array([[0.5, 0.25]]), "eps": 0.5},
            "dividing by less than 1 makes y larger: eps counts less, and the change is positive",
        ),
        "a small change, to ten digits": (
            {"y": np.full((1, 2, 4), 8.0), "divisor": np.array([[2.0, 4.0]]), "eps": 1e-7},
            "1 subtracted from a ratio so close to 1 leaves eight digits: find the ratio less 1 first, by hand",
        ),
        "a divisor near 1, to ten digits": (
            {"y": np.ones((1, 1, 4)), "divisor": np.array([[NEAR_ONE]]), "eps": 1.0},
            "the square of a number near 1 is rounded, and 1 less it has lost digits: what are the two factors of 1 - d^2?",
        ),
        "no eps": (
            {"y": _values(2, 2, 3), "divisor": np.array([[2.0, 4.0], [1.5, 3.0]]), "eps": 0.0},
            "with eps = 0 the norm forgets any positive factor, so the change is 0",
        ),
        **keeps_arguments(
            {"y": _values(2, 2, 3), "divisor": np.array([[2.0, 4.0], [1.5, 3.0]]), "eps": 0.1},
            "build new arrays; /= and [...] = write into the caller's",
        ),
    },
    hidden={
        "small changes both ways": (
            {"y": _values(2, 1, 5), "divisor": np.array([[3.0], [0.25]]), "eps": 1e-9},
            "try eps = 1e-9 with divisors of 3 and 1/4: ten digits of each change",
        ),
        "values at the size of eps": (
            {"y": _values(2, 2, 8, size=4e-3), "divisor": np.array([[1.0, 5.5], [11.0, 22.5]]), "eps": 1e-5},
            "try values of 0.004 and eps = 1e-5: their mean square is as small as eps, and the change is large",
        ),
        "large values": (
            {"y": _values(1, 3, 4, size=10.0), "divisor": np.array([[1.5, 2.0, 4.0]]), "eps": 1e-6},
            "try values of 10 and eps = 1e-6: 1 subtracted from a ratio so close to 1 leaves half its digits; you need ten",
        ),
        **float32_arrays(
            {
                "y": _values(2, 2, 4, dtype=np.float32),
                "divisor": np.array([[1.5, 2.0], [3.0, 4.0]], dtype=np.float32),
                "eps": 0.1,
            }
        ),
    },
    wrong_answers={
        "subtracts 1 from a rounded ratio": (
            _change_with(lambda *arguments: _root_ratio(*arguments) - 1),
            "you subtracted 1 from a ratio close to 1, which loses digits: find x, the ratio under the root less 1, as a fraction",
        ),
        "subtracts 1 from the root": (
            _change_with(lambda *arguments: np.sqrt(1 + _ratio_less_one(*arguments)) - 1),
            "your x is right, but sqrt(1 + x) - 1 loses its digits again: take x / (sqrt(1 + x) + 1)",
        ),
        "subtracts 1 under the root": (
            _change_with(lambda *arguments: _change_of(_root_ratio(*arguments) ** 2 - 1)),
            "you subtracted 1 from the ratio to get x, which loses digits: work x out by hand, as one fraction",
        ),
        "squares a divisor near 1": (
            _change_with(
                lambda mean_square, divisor, eps: _change_of(eps * (1 - divisor**2) / (mean_square + eps * divisor**2))
            ),
            "1 - d^2 loses digits where d is near 1, because d^2 is rounded: write it as (1 - d)(1 + d)",
        ),
        "divides the ratio by the divisor": (
            _change_with(
                lambda mean_square, divisor, eps: np.sqrt(1 + _ratio_less_one(mean_square, divisor, eps)) / divisor - 1
            ),
            "you divided by the divisor once more: sqrt(1 + x) is the ratio of the norms already, y / d is in it",
        ),
        "one mean for all heads": (
            lambda y, divisor, eps: _change_of(
                _ratio_less_one(np.mean(y * y, axis=(0, 2), keepdims=True)[..., 0], divisor, eps)
            ),
            "you took one mean over all heads: each row has a mean square of its own, over the last axis",
        ),
        "the denominator of the other norm": (
            _change_with(
                lambda mean_square, divisor, eps: _change_of(eps * (1 - divisor) * (1 + divisor) / (mean_square + eps))
            ),
            "the denominator of your x is mean square + eps: with the divisor there it is mean square + eps d^2",
        ),
        "eps outside the root": (
            _change_with(lambda mean_square, divisor, eps: _change_outside(np.sqrt(mean_square), divisor, eps)),
            "your c is that of a norm with eps added after the root: add it to the mean square, d^2 meets eps under the root",
        ),
        "eps on the length of the row": (
            lambda y, divisor, eps: _change_outside(np.linalg.norm(y, axis=-1), divisor, eps),
            "your c is that of the length of the row plus eps: the norm takes the root of the mean square plus eps",
        ),
        "the root of eps": (
            _change_with(lambda mean_square, d, eps: _change_outside(np.sqrt(mean_square), d, np.sqrt(eps))),
            "your c is that of a norm with two roots: add eps to the mean square first, the root is of their sum",
        ),
        "eps squared": (
            lambda y, divisor, eps: norm_change(y, divisor, eps**2),
            "you squared eps: it is added to the mean square as it is",
        ),
        "believes in invariance": (
            _change_with(lambda mean_square, divisor, eps: 0 * divisor),
            "you returned no change: that is right only for eps = 0, because eps is not divided along with y",
        ),
        "returns the ratio": (
            _change_with(_root_ratio),
            "you returned the ratio of the two norms: the change is that ratio minus 1",
        ),
        "the sign reversed": (
            lambda y, divisor, eps: -norm_change(y, divisor, eps),
            "your sign is reversed: a divisor above 1 makes the result smaller, a negative change",
        ),
        "the sign of x reversed": (
            lambda y, divisor, eps: _change_of(-_ratio_less_one(np.mean(y * y, axis=-1), divisor, eps)),
            "the sign of your x is reversed: the ratio under the root less 1 is eps (1 - d^2) / (mean square + eps d^2)",
        ),
        "the first order": (
            _change_with(lambda *arguments: _ratio_less_one(*arguments) / 2),
            "you took x / 2 for sqrt(1 + x) - 1: that is right for tiny x only",
        ),
        "sums the squares": (
            lambda y, divisor, eps: norm_change(y * np.sqrt(y.shape[-1]), divisor, eps),
            "you summed the squares of y: the norm takes their mean",
        ),
        "multiplies by the divisor": (
            lambda y, divisor, eps: norm_change(y, 1 / divisor, eps),
            "you multiplied y by the divisor: y is divided by it",
        ),
        "one mean for all": (
            lambda y, divisor, eps: _change_of(_ratio_less_one(np.mean(y * y), divisor, eps)),
            "you took one mean over everything: each row has a mean square of its own, over the last axis",
        ),
        "a divisor without the axis of the values": (
            lambda y, divisor, eps: group_norm(y / divisor, eps) / group_norm(y, eps) - 1,
            "your divisor, of shape (H, T), meets the values of y: give it a last axis, divisor[..., None]",
        ),
        "compares the other way round": (
            _change_with(lambda *arguments: np.expm1(-np.log1p(_ratio_less_one(*arguments)) / 2)),
            "you compared the norm before dividing with the one after: divide by the one before",
        ),
        "the divisor not squared": (
            _change_with(lambda mean_square, divisor, eps: _change_of(_ratio_less_one(mean_square, divisor**0.5, eps))),
            "you divided the mean square by the divisor: it is a square, so it falls by the divisor squared",
        ),
        "divides only the mean square": (
            _change_with(lambda mean_square, divisor, eps: divisor * _root_ratio(mean_square, divisor, eps) - 1),
            "you divided y by the divisor only under the root: the numerator is y / divisor too",
        ),
        "without a root": (
            _change_with(_ratio_less_one),
            "you compared the mean squares: the norm divides by their roots",
        ),
        "against no eps": (
            _change_with(lambda mean_square, divisor, eps: np.sqrt(mean_square / (mean_square + eps * divisor**2)) - 1),
            "you compared with a norm without eps: compare y / divisor with y, both with eps",
        ),
    },
)

STEP = problem(
    normalised_step,
    ("out", "state", "row_sum"),
    visible={
        "the third of three ones at gamma = 1/2": (
            {
                "q": np.array([[1.0]]),
                "k": np.array([[1.0]]),
                "v": np.array([[1.0]]),
                "gamma": np.array([0.5]),
                "state": np.array([[[1.5]]]),
                "row_sum": np.array([1.5]),
            },
            "by hand: state and row sum are both 1.5/2 + 1 = 1.75, and out is 1.75 / sqrt(1.75)",
        ),
        "the first token of two heads": (
            _token(2, 3, [0.5, 0.75], [0.0, 0.0]),
            "before the first token the row sum is 0, after it 1: divide by the root of the one after",
        ),
        "a later token of two heads": (
            _token(3, 2, [0.5, 0.75], [1.5, 1.75]),
            "each head has its own gamma and its own row sum: r_n = gamma r_(n-1) + 1",
        ),
        "a head that never fades, gamma = 1": (
            _token(2, 3, [1.0, 0.5], [3.0, 1.75]),
            "at gamma = 1 the row sum counts the tokens, and nothing may divide by 1 - gamma",
        ),
        **keeps_arguments(_token(2, 2, [0.5, 0.9], [1.75, 2.71])),
    },
    hidden={
        "as many heads as keys and values": (
            _token(3, 3, [0.5, 0.75, 0.875], [1.5, 1.75, 1.875]),
            "try H = K = V = 3: no shape gives away an axis mixed up with another",
        ),
        "a head that fades at once": (
            _token(2, 2, [1e-12], [1.0]),
            "with gamma near 0 the row sum stays near 1, and only the new token is left",
        ),
        **float32_arrays(_token(8, 16, [0.5, 0.75, 0.875, 0.9375], [1.5, 1.75, 1.875, 1.9375], dtype=np.float32)),
    },
    wrong_answers={
        "does not normalise": (
            _step_with(divide=lambda out, row_sum: out),
            "you did not normalise: divide q S_n by the root of the row sum",
        ),
        "without a root": (
            _step_with(divide=lambda out, row_sum: out / row_sum),
            "you divided by the row sum itself: divide by its root",
        ),
        "multiplies": (
            _step_with(divide=lambda out, row_sum: out * np.sqrt(row_sum)),
            "you multiplied by the root of the row sum: divide by it",
        ),
        "an outer product of all heads": (
            _writes_across_the_heads,
            "np.outer flattens the heads into one table: write k[:, :, None] * v[:, None, :], a table for each head",
        ),
        "reads every head with every query": (
            _reads_across_the_heads,
            "q @ state lets each query read each head, (H, H, V): give q an axis, q[:, None, :] @ state, and drop it again",
        ),
        "fades the new token's write": (
            _fades_the_write,
            "your state fades the new token too: S_n = gamma S_(n-1) + k^T v adds the write in full",
        ),
        "adds the writes of all heads": (
            _adds_all_heads,
            "you sum the writes over the heads, as einsum does with an index that is not kept: write hk,hv->hkv",
        ),
        "adds gamma": (
            _step_with(sums=lambda gamma, before: before + gamma),
            "you added gamma to the row sum: gamma multiplies what was there, r_n = gamma r_(n-1) + 1",
        ),
        "the row sum does not fade": (
            _step_with(sums=lambda gamma, before: before + 1),
            "your row sum counts the tokens: it fades like the state, r_n = gamma r_(n-1) + 1",
        ),
        "fades the new token too": (
            _step_with(sums=lambda gamma, before: gamma * (before + 1)),
            "your row sum fades the new token too: D has ones on its diagonal, so 1 is added in full",
        ),
        "the sum of squares": (
            _step_with(sums=lambda gamma, before: gamma**2 * before + 1),
            "you summed the squares of the row of D: sum the row itself, r_n = gamma r_(n-1) + 1",
        ),
        "hands on the normalised state": (
            _step_with(keep=lambda state, row_sum: state / np.sqrt(row_sum)),
            "you handed on a state divided by the root: only out is divided, or the next token divides it again",
        ),
        "hands on the state divided by the row sum": (
            _step_with(keep=lambda state, row_sum: state / row_sum),
            "you handed on a state divided by the row sum: hand on the state of Eq. 6 as it is",
        ),
        "divides by the old row sum": (
            _divides_by_the_old,
            "you divided by the root of r_(n-1), which is 0 before the first token: divide by that of the new r_n",
        ),
        "undoes a division": (
            _step_of_a_divided_state(lambda state, root: state),
            "you multiplied the old state by its root: no state was divided, only out, so take it as it comes",
        ),
        "keeps the state divided": (
            _step_of_a_divided_state(lambda state, root: state / root),
            "you keep the state divided, and multiply by the old root: the state of Eq. 6 is never divided, only out is",
        ),
        "hands on the old row sum": (
            _old_row_sum,
            "you handed on the row sum that came in: return r_n = gamma r_(n-1) + 1, the next token needs it",
        ),
        "hands on the root": (
            _step_with(keep_sum=np.sqrt),
            "you handed on the root of the row sum: the next token needs the row sum itself",
        ),
        "gamma along the values": (
            _gamma_along_the_values,
            "gamma meets the wrong axis of the state: a head is the first of three axes, so make it gamma[:, None, None]",
        ),
        "the row sum along the values": (
            _step_with(divide=lambda out, row_sum: out / np.sqrt(row_sum[:, 0])),
            "the row sum meets the wrong axis of out: there is one for each head, the first axis of (H, V)",
        ),
        "reads before writing": (
            _reads_before_writing,
            "you read the state before writing the new token: o_n takes the new state S_n",
        ),
        "writes in place": (
            _steps_in_place,
            "you changed the caller's state or row_sum in place (as *= and += do): make new arrays",
        ),
    },
)

CHUNK = problem(
    normalised_chunk,
    ("out", "state", "sums"),
    visible={
        "two ones from nothing at gamma = 1/2": (
            {name: np.ones((2, 1)) for name in "qkv"} | {"gamma": 0.5, "state": np.zeros((1, 1)), "row_sum": 0.0},
            "by hand: state 1, then 3/2, and sums 1, then 3/2; out is 1 and 1.5 / sqrt(1.5), and 3/2 is handed on",
        ),
        "the next two ones": (
            {name: np.ones((2, 1)) for name in "qkv"} | {"gamma": 0.5, "state": np.full((1, 1), 1.5), "row_sum": 1.5},
            "by hand: r_3 = 1.5/2 + 1 = 1.75, r_4 = 1.75/2 + 1 = 1.875, and the states are the same two numbers",
        ),
        "five tokens after others": (
            _chunk(5, 2, 3, 0.75, 2.5),
            "call normalised_step of problem 3 token by token, with one head: it must give the same",
        ),
        "a head that never fades, gamma = 1": (
            _chunk(3, 2, 2, 1.0, 4.0),
            "at gamma = 1 the row sums count all tokens, those before the chunk too: 5, 6, 7",
        ),
        **keeps_arguments(_chunk(4, 3, 3, 0.5, 1.5)),
    },
    hidden={
        "a longer chunk": (_chunk(9, 3, 2, 0.9, 7.5), "try c = 9 at gamma = 0.9, after a row sum of 7.5"),
        "keys wider than values": (_chunk(4, 5, 2, 0.75, 3.0), "try K = 5, V = 2, and look at the shapes"),
        "a first chunk": (_chunk(6, 2, 3, 0.875, 0.0), "try a zero state and row_sum = 0: the sums start at 1"),
        **float32_arrays(_chunk(12, 4, 3, 0.9, 5.0, dtype=np.float32)),
    },
    wrong_answers={
        "leaves the code as it was": (
            _chunk_as_it_stands(lambda gamma, j, D, before: before + D.sum(axis=1), divided=True),
            "both mistakes are still there: one is in `sums`, the other in the state that is handed on",
        ),
        "the sums as a column": (
            _chunk_as_it_stands(lambda gamma, j, D, before: gamma**j * before + D.sum(axis=1, keepdims=True)),
            "your sums are a column, (c, 1): j is one, so take gamma ** j[:, 0]",
        ),
        "a column plus a row": (
            _chunk_as_it_stands(lambda gamma, j, D, before: gamma**j * before + D.sum(axis=1)),
            "your sums are a table, (c, c): gamma ** j is a column and D.sum(axis=1) a row, so take j[:, 0]",
        ),
        "a column of sums": (
            lambda *arguments: (*normalised_chunk(*arguments)[:2], normalised_chunk(*arguments)[2][:, None]),
            "you return sums as a column, (c, 1): return sums[:, 0], of shape (c,)",
        ),
        "the first token adds gamma": (
            _chunk_with(sums=lambda gamma, j, before: gamma**j * before + np.cumsum(gamma**j)),
            "the first token adds gamma in your row sums: D has ones on its diagonal, so it adds gamma^0 = 1",
        ),
        "sums of the columns": (
            _chunk_as_it_stands(lambda gamma, j, D, before: gamma ** j[:, 0] * before + D.sum(axis=0)),
            "you summed the columns of D: r_n is the sum of row n, axis 1",
        ),
        "hands on a divided state": (
            _chunk_with(keep=lambda state, last: state / np.sqrt(last)),
            "you hand on a state divided by a root: the next chunk divides again, so hand on the state of Eq. 7 as it is",
        ),
        "undoes a division": (
            _chunk_of_a_divided_state(lambda state, root: state),
            "you multiplied the old state by its root: no state was divided, only out, so take it as it comes",
        ),
        "keeps the state divided": (
            _chunk_of_a_divided_state(lambda state, root: state / root),
            "you keep the state divided, and multiply by the old root: the state of Eq. 7 is never divided, only out is",
        ),
        "reads the state times the old root": (
            lambda q, k, v, gamma, state, row_sum: (
                normalised_chunk(q, k, v, gamma, state * np.sqrt(row_sum), row_sum)[0],
                *normalised_chunk(q, k, v, gamma, state, row_sum)[1:],
            ),
            "in out you multiplied the old state by its root: no state was divided, so read it as it comes",
        ),
        "xi one step too near": (
            _reads_by(lambda gamma, j, c: gamma ** (j - 1)),
            "in out your xi is one step too near: the first token finds gamma times the old state, so it is gamma^j, j from 1",
        ),
        "hands on a state times the last root": (
            _chunk_with(keep=lambda state, last: state * np.sqrt(last)),
            "you hand on the state times the last root: no state was divided, only out, so hand it on as it is",
        ),
        "hands on a state times the old root": (
            lambda q, k, v, gamma, state, row_sum: _replace_state(
                normalised_chunk(q, k, v, gamma, state, row_sum), lambda after: after * np.sqrt(row_sum)
            ),
            "you hand on the state times the old root: no state was divided, only out, so hand it on as it is",
        ),
        "undoes a division in the state alone": (
            lambda q, k, v, gamma, state, row_sum: (
                normalised_chunk(q, k, v, gamma, state, row_sum)[0],
                *normalised_chunk(q, k, v, gamma, state * np.sqrt(row_sum), row_sum)[1:],
            ),
            "in the state you multiplied the old one by its root: no state was divided, only out, so take it as it comes",
        ),
        "the old row sum in reverse": (
            _chunk_with(sums=lambda gamma, j, before: gamma ** (len(j) - j) * before + _fresh_sums(gamma, len(j))),
            "you faded the old row sum by zeta, gamma^(c-j): token j finds gamma^j of it, like xi",
        ),
        "its own one alone": (
            _chunk_with(sums=lambda gamma, j, before: gamma**j * before + 1),
            "your sums add 1 for the token itself alone: those before it in the chunk count too, as in a row of D",
        ),
        **dict(_two_mistakes_in_sums()),
        "the old row sum does not fade": (
            _chunk_with(sums=lambda gamma, j, before: before + _fresh_sums(gamma, len(j))),
            "the row sum from before the chunk does not fade in your sums: token j finds gamma^j of it",
        ),
        "starts the row sums again": (
            _chunk_with(sums=lambda gamma, j, before: _fresh_sums(gamma, len(j))),
            "your row sums start again at 1 in each chunk: the tokens before the chunk count too, faded by gamma^j",
        ),
        "the row sum one step too near": (
            _chunk_with(sums=lambda gamma, j, before: gamma ** (j - 1) * before + _fresh_sums(gamma, len(j))),
            "the old row sum fades one step too little: the first token already finds gamma r, so it is gamma^j, j from 1",
        ),
        "gamma^c on every row": (
            _chunk_with(sums=lambda gamma, j, before: gamma ** len(j) * before + _fresh_sums(gamma, len(j))),
            "you faded the old row sum by gamma^c for every token: token j finds gamma^j of it, like xi",
        ),
        "gamma on every row": (
            _chunk_with(sums=lambda gamma, j, before: gamma * before + _fresh_sums(gamma, len(j))),
            "you faded the old row sum by gamma for every token: token j finds gamma^j of it, like xi",
        ),
        "nothing fades inside": (
            _chunk_with(sums=lambda gamma, j, before: gamma**j * before + j),
            "your row sums add 1 for each token of the chunk: those ones fade too, as in a row of D",
        ),
        "one step for all tokens": (
            _chunk_with(sums=lambda gamma, j, before: gamma * before + 1 + 0.0 * j),
            "all your row sums are that of the first token: r_n = gamma r_(n-1) + 1 goes on inside the chunk",
        ),
        "without a root": (
            _chunk_with(divide=lambda inside, past, sums: (inside + past) / sums),
            "you divided by the row sums themselves: divide by their roots",
        ),
        "divides only the chunk": (
            _chunk_with(divide=lambda inside, past, sums: inside / np.sqrt(sums) + past),
            "you divided only what comes from the chunk: what is read of the state is divided by sqrt(r_n) too",
        ),
        "does not normalise": (
            _chunk_with(divide=lambda inside, past, sums: inside + past),
            "you did not normalise: divide row n of out by sqrt(r_n)",
        ),
        "hands on a state divided by r": (
            _chunk_with(keep=lambda state, last: state / last),
            "you handed on a state divided by the row sum: hand on the state of Eq. 7 as it is",
        ),
    },
)

EXERCISE = Exercise("ex08", "Group norm and normalised scores", (NORM, CHANGE, STEP, CHUNK))
