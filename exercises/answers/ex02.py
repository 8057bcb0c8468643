"""Exercise 2: the recurrence as a sum, and the basis in which A is diagonal (Eq. 1 and 3, arXiv:2307.08621v4)."""

import numpy as np
from numpy.linalg import eigvals, inv, matrix_power

from ..checking.core import Exercise, problem
from .inputs import one_head
from .recurring import asks_whether_true, collects_rows, float32_arrays, keeps_arguments, mapped, swaps

# Solutions.


def unrolled(q, k, v, A, state):
    """o_n = q_n A^n S_0 + sum over m <= n of q_n A^(n-m) k_m^T v_m: q, k (T, K), v (T, V), A (K, K) -> out (T, V)."""
    out = np.zeros(v.shape)
    for n in range(len(q)):
        for m in range(n + 1):
            out[n] += (q[n] @ matrix_power(A, n - m) @ k[m]) * v[m]
        if state is not None:
            out[n] += q[n] @ matrix_power(A, n + 1) @ state  # counted from 0, token n has had n + 1 steps
    return out


def absorb(q, k, basis):
    """Take q (T, K) to q basis and each column of k^T to basis^-1 k^T -> q (T, K), k (T, K)."""
    return q @ basis, np.linalg.solve(basis, k.T).T


def diagonal_recurrence(q, k, v, basis, decays, state):
    """S_n = A S_(n-1) + k_n^T v_n, o_n = q_n S_n for A = basis diag(decays) basis^-1 -> out (T, V), state (K, V)."""
    q, k = absorb(q, k, basis)
    inner = np.zeros((k.shape[1], v.shape[1])) if state is None else np.linalg.solve(basis, state)
    out = np.zeros(v.shape)
    for n in range(len(q)):
        inner = decays[:, None] * inner + k[n][:, None] * v[n]
        out[n] = q[n] @ inner
    return out, basis @ inner


def decay_and_angle(A):
    """Radius and angle of the eigenvalues gamma e^(+-i theta) of real blocks A (N, 2, 2) -> gamma (N,), theta (N,)."""
    eigenvalue = eigvals(A)[:, 0]
    return np.abs(eigenvalue), np.abs(np.angle(eigenvalue))


def next_reads(reads, count):
    """What q A^j k^T, with A 2 x 2 and unknown, gives after its first four reads: reads (4,) -> following (count,)."""
    trace, minus_det = np.linalg.solve([[reads[1], reads[0]], [reads[2], reads[1]]], reads[2:])
    all_reads = list(reads)
    for _ in range(count):
        all_reads.append(trace * all_reads[-1] + minus_det * all_reads[-2])  # A^2 = trace A - det I
    return np.array(all_reads[4:])


# Wrong answers, each one change away from the solution.


def _sum_with(tokens=lambda n, _: range(n + 1), term=None, steps=lambda n: n + 1, power=matrix_power):
    """`unrolled` with other tokens m, another term, or another power for the state."""

    def function(q, k, v, A, state):
        def usual(n, m):
            return (q[n] @ power(A, n - m) @ k[m]) * v[m]

        out = np.zeros(v.shape)
        for n in range(len(q)):
            for m in tokens(n, len(q)):
                out[n] += usual(n, m) if term is None else term(q, k, v, A, n, m)
            if state is not None:
                out[n] += q[n] @ power(A, steps(n)) @ state
        return out

    return function


UNROLLED_MISTAKES = {
    "leaves out the newest token": (
        _sum_with(tokens=lambda n, _: range(n)),
        "you leave out the newest token: the sum runs to m = n, and A^0 is the identity",
    ),
    "counts one step too many": (
        _sum_with(term=lambda q, k, v, A, n, m: (q[n] @ matrix_power(A, n - m + 1) @ k[m]) * v[m]),
        "your power is one too high: token m is multiplied by A at the n - m tokens after it, not at its own",
    ),
    "takes powers of the entries": (
        _sum_with(power=lambda A, j: A ** float(j)),
        "you raise each entry to the power (A ** j): A^j is the matrix product of A with itself, j times",
    ),
    "multiplies by A once": (
        _sum_with(term=lambda q, k, v, A, n, m: (q[n] @ matrix_power(A, min(n - m, 1)) @ k[m]) * v[m]),
        "you multiply older tokens by A once: it takes A^(n-m), once for each token since",
    ),
    "transposes A": (
        _sum_with(term=lambda q, k, v, A, n, m: (k[m] @ matrix_power(A, n - m) @ q[n]) * v[m]),
        "you transposed A: it is q_n A^(n-m) k_m^T, q on the left; k A^(n-m) q^T is the same with A^T",
    ),
    "swaps the positions of q and k": (
        _sum_with(term=lambda q, k, v, A, n, m: (q[m] @ matrix_power(A, n - m) @ k[n]) * v[m]),
        "you swapped positions: the query is that of the later token n, the key that of the earlier token m",
    ),
    "sees the future": (
        _sum_with(tokens=lambda _, time: range(time)),
        "you sum over all tokens: the output of token n takes only m <= n; for later tokens n - m is negative",
    ),
    "ignores the state": (
        lambda q, k, v, A, state: unrolled(q, k, v, A, None),
        "you ignored the state passed in: counted from 1, output n holds q_n A^n S_0 too; only None adds nothing",
    ),
    "reads the state unfaded": (
        _sum_with(steps=lambda n: 0),
        "you read S_0 as it was: output n, counted from 1, holds q_n A^n S_0",
    ),
    "multiplies the state by A once": (
        _sum_with(steps=lambda n: 1),
        "you multiply S_0 by A once in every output: counted from 1, output n holds q_n A^n S_0",
    ),
    "adds the state with each token": (
        lambda q, k, v, A, state: (
            unrolled(q, k, v, A, None)
            + (0.0 if state is None else np.arange(1, len(q) + 1)[:, None] * (unrolled(q, k, 0 * v, A, state)))
        ),
        "you add the term of S_0 once for each token m: it stands outside that sum, once in each output",
    ),
    **asks_whether_true(unrolled),
    "computes with None": (
        lambda q, k, v, A, state: unrolled(q, k, v, A, np.array(None) if state is None else state),
        "you computed with state = None: None means a state of zeros, which adds nothing",
    ),
    "fades the state one step too few": (
        _sum_with(steps=lambda n: n),
        "S_0 needs one more A: the first token multiplies it once already, so output 1 holds q_1 A S_0",
    ),
}


def _absorb_by(change_q, change_k):
    return lambda q, k, basis: (change_q(q, basis), change_k(k, basis))


ABSORB_MISTAKES = {
    "multiplies rows of k by the inverse": (
        _absorb_by(lambda q, basis: q @ basis, lambda k, basis: k @ inv(basis)),
        "your k is k Lambda^-1: in Lambda^-1 k^T the key is a column, so for rows the inverse is transposed",
    ),
    "takes the transpose for the inverse": (
        _absorb_by(lambda q, basis: q @ basis, lambda k, basis: k @ basis),
        "you used Lambda^T for Lambda^-1: they are equal only if the eigenvectors are orthogonal and of length 1",
    ),
    "takes Lambda for the inverse": (
        _absorb_by(lambda q, basis: q @ basis, lambda k, basis: k @ basis.T),
        "your k is Lambda k^T, as rows: q takes Lambda and k takes Lambda^-1, so that they cancel in q_n k_m^T",
    ),
    "absorbs the wrong way round": (
        _absorb_by(lambda q, basis: q @ inv(basis).T, lambda k, basis: k @ basis),
        "you gave Lambda to k and Lambda^-1 to q: in q Lambda diag(a) Lambda^-1 k^T, Lambda stands beside q",
    ),
    "takes rows for eigenvectors": (
        _absorb_by(lambda q, basis: q @ basis.T, lambda k, basis: k @ inv(basis)),
        "you transposed Lambda: its columns are the eigenvectors, so q_n Lambda is q @ basis",
    ),
    "puts the inverse beside q": (
        _absorb_by(lambda q, basis: q @ inv(basis), lambda k, basis: k @ inv(basis).T),
        "your q is q Lambda^-1: in q Lambda diag(a) Lambda^-1 k^T, Lambda itself stands beside q",
    ),
    "multiplies q from the left": (
        _absorb_by(lambda q, basis: q @ basis.T, lambda k, basis: k @ inv(basis).T),
        "your q is Lambda q^T as rows, so q Lambda^T: a query is a row, and q_n Lambda is q @ basis",
    ),
    "leaves q as it was": (
        _absorb_by(lambda q, basis: q.copy(), lambda k, basis: k @ inv(basis).T),
        "you left q as it was: Lambda stands beside q and goes into it",
    ),
    "leaves k as it was": (
        _absorb_by(lambda q, basis: q @ basis, lambda k, basis: k.copy()),
        "you left k as it was: Lambda^-1 stands beside k^T and goes into it",
    ),
    "takes the rows of k for columns": (
        _absorb_by(lambda q, basis: q @ basis, lambda k, basis: inv(basis) @ k),
        "you multiplied Lambda^-1 by k, whose rows are keys: it takes columns, so transpose k before and after",
    ),
    "solves for the rows of k as columns": (
        _absorb_by(lambda q, basis: q @ basis, lambda k, basis: np.linalg.solve(basis, k)),
        "you solved Lambda X = k, but the rows of k are the keys: solve for k.T, and transpose the result",
    ),
    "returns keys as columns": (
        _absorb_by(lambda q, basis: q @ basis, lambda k, basis: inv(basis) @ k.T),
        "your k has a column per token: transpose Lambda^-1 k^T back, so that each row is a key, shape (T, K)",
    ),
    **swaps(absorb, "q", "k"),
}


# A wrong `absorb` spoils problem 3 too, and is named there as well.
_OF_BOTH = {name: one for name, one in ABSORB_MISTAKES.items() if name != "swaps what it returns"}


def _diagonal_with(
    change=absorb,
    enter=np.linalg.solve,
    leave=lambda basis, inner: basis @ inner,
    step=lambda decays, inner, k, v: decays[:, None] * inner + k[:, None] * v,
    read=lambda basis, inner: inner,
    read_first=False,
    channels=lambda k, basis: len(basis),
):
    """`diagonal_recurrence` with one of its parts replaced."""

    def function(q, k, v, basis, decays, state):
        q, k = change(q, k, basis)
        inner = np.zeros((channels(k, basis), v.shape[1])) if state is None else enter(basis, state)
        out = np.zeros(v.shape)
        for n in range(len(q)):
            before, inner = inner, step(decays, inner, k[n], v[n])
            out[n] = q[n] @ read(basis, before if read_first else inner)
        return out, leave(basis, inner)

    return function


DIAGONAL_MISTAKES = {
    **mapped(lambda change: _diagonal_with(change=change), _OF_BOTH),
    "counts channels in keys as columns": (
        _diagonal_with(change=ABSORB_MISTAKES["returns keys as columns"][0], channels=lambda k, basis: k.shape[1]),
        "your absorb returns a column per token, so k.shape[1] is T, not K: transpose Lambda^-1 k^T back, shape (T, K)",
    ),
    "decays columns": (
        _diagonal_with(step=lambda decays, inner, k, v: decays * inner + k[:, None] * v),
        "you multiplied the columns of the state by a: a_c belongs to row c, diag(a) S is decays[:, None] * S",
    ),
    "does not change q and k": (
        _diagonal_with(change=lambda q, k, basis: (q, k)),
        "you left q and k as they were: in the basis of A's eigenvectors they become q Lambda and Lambda^-1 k^T",
    ),
    "stays in the old basis": (
        _diagonal_with(
            change=lambda q, k, basis: (q, k), enter=lambda basis, state: state, leave=lambda basis, inner: inner
        ),
        "you used a without its basis: diag(a) is A only in the basis Lambda, so q, k and the state must change to it",
    ),
    "takes the state in as it is": (
        _diagonal_with(enter=lambda basis, state: state),
        "you started from S_0 itself: in the new basis it is Lambda^-1 S_0, like the keys it was made of",
    ),
    "takes what absorb returns in the other order": (
        _diagonal_with(change=lambda *arguments: absorb(*arguments)[::-1]),
        "your new q and k are swapped: absorb returns (q, k), in this order",
    ),
    "enters by the inverse transposed": (
        _diagonal_with(enter=lambda basis, state: inv(basis).T @ state),
        "you transposed Lambda^-1 for the state: its columns are sums of keys as columns, so it becomes Lambda^-1 S_0",
    ),
    "changes the state by transposes": (
        _diagonal_with(enter=lambda basis, state: inv(basis).T @ state, leave=lambda basis, inner: basis.T @ inner),
        "you transposed both changes of the state: in goes Lambda^-1 S_0, out comes Lambda times the last state",
    ),
    "exchanges the two changes of the state": (
        _diagonal_with(enter=lambda basis, state: basis @ state, leave=np.linalg.solve),
        "you exchanged the two changes of the state: into the new basis it goes by Lambda^-1, out of it by Lambda",
    ),
    "comes back at every read": (
        _diagonal_with(read=lambda basis, inner: basis @ inner),
        "you took the state back by Lambda before each read: q Lambda reads the state of the new basis",
    ),
    "enters by Lambda": (
        _diagonal_with(enter=lambda basis, state: basis @ state),
        "you started from Lambda S_0: into the new basis it goes by Lambda^-1, out of it by Lambda",
    ),
    "takes the state for one of the new basis": (
        _diagonal_with(enter=lambda basis, state: state, leave=lambda basis, inner: inner),
        "you took S_0 for a state of the new basis, and returned one: the caller's states are Lambda times those",
    ),
    "returns the inner state": (
        _diagonal_with(leave=lambda basis, inner: inner),
        "you returned the state of the new basis: the caller's is Lambda times that",
    ),
    "leaves by the inverse": (
        _diagonal_with(leave=np.linalg.solve),
        "you multiplied the state by Lambda^-1 on the way out: the way back is Lambda",
    ),
    "reads before writing": (
        _diagonal_with(read_first=True),
        "you read the state before writing the new token: o_n takes S_n, not S_(n-1)",
    ),
    "decays the new token": (
        _diagonal_with(step=lambda decays, inner, k, v: decays[:, None] * (inner + k[:, None] * v)),
        "you decay the new token too: a multiplies only the state before it",
    ),
    "ignores the state": (
        _diagonal_with(enter=lambda basis, state: 0 * state),
        "you ignored the state passed in: only None means zero",
    ),
    **asks_whether_true(diagonal_recurrence, at=5),
    **collects_rows(diagonal_recurrence),
    **swaps(diagonal_recurrence, "out", "state"),
}


def _of_eigenvalue(gamma, theta):
    def function(A):
        # The one above the real axis, so that a mistake in the angle is made on the same eigenvalue everywhere.
        eigenvalue = eigvals(A)[:, 0]
        eigenvalue = eigenvalue.real + 1j * np.abs(eigenvalue.imag)
        return gamma(eigenvalue), theta(eigenvalue)

    return function


def _reads_the_entries(A):
    return np.hypot(A[:, 0, 0], A[:, 1, 0]), np.abs(np.arctan2(A[:, 1, 0], A[:, 0, 0]))


def _stretches(A):
    return np.linalg.norm(A, 2, axis=(1, 2)), decay_and_angle(A)[1]


POLAR_MISTAKES = {
    "reads a column of A": (
        _reads_the_entries,
        "you read gamma and theta off a column of A: that works only for a scaled rotation; take the eigenvalues",
    ),
    "takes the real part for the decay": (
        _of_eigenvalue(np.real, np.angle),
        "your gamma is the real part of the eigenvalue: the decay is its radius, np.abs",
    ),
    "takes real parts of the eigenvalues": (
        _of_eigenvalue(lambda x: np.abs(x.real), lambda x: np.angle(x.real + 0j)),
        "you took real parts of the eigenvalues, which loses the turn: keep them complex, np.abs and np.angle take both parts",
    ),
    "takes real parts and keeps their sign": (
        _of_eigenvalue(np.real, lambda x: np.angle(x.real + 0j)),
        "your gamma and theta are those of real parts: the radius of a complex eigenvalue is np.abs, its angle np.angle",
    ),
    "takes the determinant for the decay": (
        _of_eigenvalue(lambda x: np.abs(x) ** 2, np.angle),
        "your gamma is squared: the determinant is the product of both eigenvalues, gamma^2",
    ),
    "takes the determinant for the decay, in theta too": (
        _of_eigenvalue(lambda x: np.abs(x) ** 2, lambda x: np.arccos(x.real / np.abs(x) ** 2)),
        "you took the determinant for gamma: it is gamma^2, so take its root, and theta is right as well",
    ),
    "takes the stretch for the decay": (
        _stretches,
        "your gamma is the largest stretch of one step (a singular value): the eigenvalues govern the powers of A",
    ),
    "loses the quadrant": (
        _of_eigenvalue(np.abs, lambda x: np.abs(np.arctan(x.imag / x.real))),
        "your angle is never above pi/2: arctan of a quotient loses the quadrant; take np.angle or np.arctan2",
    ),
    "takes the other eigenvalue": (
        _of_eigenvalue(np.abs, lambda x: np.where(x.imag > 0, -np.angle(x), np.angle(x))),
        "your theta is negative: of the two eigenvalues take the one with 0 <= theta <= pi",
    ),
    "counts all the way round": (
        _of_eigenvalue(np.abs, lambda x: -np.angle(x) % (2 * np.pi)),
        "your theta is above pi: of the two eigenvalues take the one that does not lie below the real axis",
    ),
    "loses the quadrant, with a sign": (
        _of_eigenvalue(np.abs, lambda x: np.arctan(x.imag / x.real)),
        "your angle is the arctan of a quotient, which is negative above pi/2: take np.angle or np.arctan2",
    ),
    "returns both eigenvalues": (
        lambda A: (np.abs(eigvals(A)), np.angle(eigvals(A))),
        "you returned both eigenvalues of each matrix: one of the pair is enough, and the shape is (N,)",
    ),
    "counts in degrees": (
        _of_eigenvalue(np.abs, lambda x: np.angle(x, deg=True)),
        "your theta is in degrees: radians are wanted",
    ),
    "forgets to divide by the decay": (
        _of_eigenvalue(np.abs, lambda x: np.arccos(x.real)),
        "your theta is the arc cosine of half the trace: half the trace is gamma cos(theta), so divide by gamma first",
    ),
    **swaps(decay_and_angle, "gamma", "theta"),
}


def _goes_on_by(step):
    """`next_reads` with another rule: `step` makes a read of the two before it and of the two coefficients."""

    def function(reads, count):
        coefficients = np.linalg.solve([[reads[1], reads[0]], [reads[2], reads[1]]], reads[2:])
        all_reads = list(reads)
        for _ in range(count):
            all_reads.append(step(all_reads[-1], all_reads[-2], *coefficients))
        return np.array(all_reads[4:])

    return function


def _sums_complex_powers(reads, count):
    trace, minus_det = np.linalg.solve([[reads[1], reads[0]], [reads[2], reads[1]]], reads[2:])
    following = next_reads(reads, count)
    return following + 0j if trace**2 + 4 * minus_det < 0 else following


NEXT_MISTAKES = {
    "returns complex numbers": (
        _sums_complex_powers,
        "you returned complex numbers: two conjugate powers add up to a real read, so return the real part of the sum",
    ),
    "goes on with one power": (
        lambda reads, count: reads[3] * (reads[3] / reads[2]) ** np.arange(1, count + 1),
        "you went on with the last ratio, as one eigenvalue would: two are at work, and the ratio changes",
    ),
    "goes on with the first ratio": (
        lambda reads, count: reads[3] * (reads[1] / reads[0]) ** np.arange(1, count + 1),
        "you went on with the first ratio, as one eigenvalue would: two are at work, and the ratio changes",
    ),
    "goes on in a straight line": (
        lambda reads, count: reads[3] + (reads[3] - reads[2]) * np.arange(1, count + 1),
        "you went on with the last difference: reads are sums of powers, not a straight line",
    ),
    "fits a polynomial": (
        lambda reads, count: np.polyval(np.polyfit(np.arange(4), reads, 3), np.arange(4, 4 + count)),
        "you put a cubic through the four reads: powers of two eigenvalues do not go on like a polynomial",
    ),
    "adds the determinant": (
        _goes_on_by(lambda last, before, trace, minus_det: trace * last - minus_det * before),
        "your second coefficient has the wrong sign: with trace t and determinant d, r_(j+2) = t r_(j+1) - d r_j",
    ),
    "swaps the coefficients": (
        _goes_on_by(lambda last, before, trace, minus_det: minus_det * last + trace * before),
        "you swapped the two coefficients: the trace multiplies the later read, the determinant the earlier one",
    ),
    "repeats the first prediction": (
        lambda reads, count: np.full(count, next_reads(reads, 1)[0]),
        "you predicted r_4 again and again: r_5 follows from r_4 and r_3, and so on",
    ),
    "begins one read early": (
        lambda reads, count: np.append(reads[3:], next_reads(reads, count))[:count],
        "your answer begins with r_3, which is given: the first read to predict is r_4",
    ),
    "begins one read late": (
        lambda reads, count: next_reads(reads, count + 1)[1:],
        "your answer begins with r_5: the first read to predict is r_4",
    ),
    "gives all reads": (
        lambda reads, count: np.append(reads, next_reads(reads, count)),
        "you returned the given reads too: return only the count new ones",
    ),
}


# Checks.

A = np.array([[0.5, -0.2], [0.4, 0.3]])
SHEAR = np.array(
    [[1.0, 1.0], [0.0, 1.0]]
)  # eigenvectors that are not orthogonal, with an inverse that is easy to find by hand
SKEW = np.array([[1.0, 0.5, 0.0], [0.0, 2.0, -1.0], [0.5, 0.0, 1.0]])
TURN = np.array([[0.6, -0.8], [0.8, 0.6]])


def _sum(key_dim, value_dim, time, A, *, state=True, dtype=np.float64):
    q, k, v, _, state = one_head(key_dim, value_dim, time, state=state, dtype=dtype).values()
    return {"q": q, "k": k, "v": v, "A": A.astype(dtype), "state": state}


def _pair(time, basis, *, dtype=np.float64):
    q, k, *_ = one_head(len(basis), 1, time, dtype=dtype).values()
    return {"q": q, "k": k, "basis": basis.astype(dtype)}


def _diagonal(value_dim, time, basis, decays, *, state=True, dtype=np.float64):
    q, k, v, _, state = one_head(len(basis), value_dim, time, state=state, dtype=dtype).values()
    decays = np.array(decays, dtype=dtype)
    return {"q": q, "k": k, "v": v, "basis": basis.astype(dtype), "decays": decays, "state": state}


ONES = np.ones((3, 1))

UNROLLED = problem(
    unrolled,
    ("out",),
    visible={
        "three ones, A = 1/2, from None": (
            {"q": ONES, "k": ONES, "v": ONES, "A": np.array([[0.5]]), "state": None},
            "by hand: 1, then 1/2 + 1 = 3/2, then 1/4 + 1/2 + 1 = 7/4",
        ),
        "four tokens and a matrix, from None": (
            _sum(2, 3, 4, A, state=False),
            "each pair m <= n adds the number q_n A^(n-m) k_m^T times the row v_m",
        ),
        "four tokens, going on from a state": (
            _sum(2, 2, 4, A),
            "run Eq. 1 for two tokens on paper: how many times has A multiplied S_0 in the first output, and the second?",
        ),
        "no token at all (T = 0)": (_sum(2, 3, 0, A), "with T = 0 out has shape (0, V)"),
        "a matrix without an inverse": (
            _sum(2, 3, 4, np.array([[0.0, 1.0], [0.0, 0.0]])),
            "A need not have an inverse or eigenvectors: only powers of 0 and above are needed",
        ),
        **keeps_arguments(_sum(3, 2, 3, 0.3 * SKEW), "build a new array of zeros for the output"),
    },
    hidden={
        "a single token and a state": (_sum(3, 2, 1, 0.3 * SKEW), "try T = 1 with a state: one step of Eq. 1"),
        "a matrix that grows": (
            _sum(2, 2, 6, np.array([[0.9, 0.2], [0.3, 1.1]])),
            "the sum holds for any A, also where its powers grow",
        ),
        **float32_arrays(_sum(3, 4, 8, 0.3 * SKEW, dtype=np.float32)),
    },
    wrong_answers=UNROLLED_MISTAKES,
)

ABSORB = problem(
    absorb,
    ("q", "k"),
    visible={
        "one pair, a shear": (
            {"q": np.array([[2.0, 3.0]]), "k": np.array([[5.0, 1.0]]), "basis": SHEAR},
            "by hand: q Lambda = (2, 2 + 3) = (2, 5); Lambda^-1 = [[1, -1], [0, 1]] takes the column (5, 1) to (4, 1)",
        ),
        "four tokens, three channels": (
            _pair(4, SKEW),
            "q_n k_m^T must not change: with the new q and k, q @ k.T is what it was",
        ),
        "orthogonal eigenvectors": (
            _pair(3, TURN),
            "here Lambda^-1 is Lambda^T, and both q and k become q Lambda and k Lambda",
        ),
        **keeps_arguments(_pair(5, SKEW), "return new arrays"),
    },
    hidden={
        "no token at all (T = 0)": (_pair(0, SKEW), "with T = 0 both have shape (0, K)"),
        "a single channel": (_pair(3, np.array([[4.0]])), "try K = 1: q is multiplied by what k is divided by"),
        "as many tokens as channels": (_pair(3, SKEW), "try T = K, where a forgotten transpose has the right shape"),
        **float32_arrays(_pair(6, SKEW, dtype=np.float32)),
    },
    wrong_answers=ABSORB_MISTAKES,
)

DIAGONAL = problem(
    diagonal_recurrence,
    ("out", "state"),
    visible={
        "one token, a shear, from None": (
            {
                "q": np.array([[2.0, 3.0]]),
                "k": np.array([[5.0, 1.0]]),
                "v": np.array([[1.0, 10.0]]),
                "basis": SHEAR,
                "decays": np.array([0.5, 0.25]),
                "state": None,
            },
            "one token, nothing before it: no decay acts yet, out = (q . k) v = 13 v and the state is k^T v",
        ),
        "four tokens, as many values as keys": (
            _diagonal(2, 4, SHEAR, [0.5, 0.25], state=False),
            "a_c multiplies row c of the state, the one that channel c of the new keys writes and of the new queries reads",
        ),
        "four tokens, going on from a state (V = 2)": (
            _diagonal(2, 4, SKEW, [0.5, -0.25, 0.75]),
            "the state has a row per channel, like the keys, so it changes basis as they do",
        ),
        "no token at all, from None (T = 0)": (
            _diagonal(2, 0, SKEW, [0.5, 0.25, 0.75], state=False),
            "the state is zeros of shape (K, V), out has shape (0, V)",
        ),
        **keeps_arguments(_diagonal(3, 3, SHEAR, [0.9, 0.5])),
    },
    hidden={
        "no token at all, from a state": (
            _diagonal(2, 0, SKEW, [0.5, 0.25, 0.75]),
            "without a token, return the state unchanged and out of shape (0, V)",
        ),
        "one eigenvalue of each kind": (
            _diagonal(4, 6, SKEW, [0.0, -1.0, 1.0]),
            "an eigenvalue may be 0, negative or 1: nothing may divide by it or take its logarithm",
        ),
        "a long sequence that fades fast": (_diagonal(1, 300, SHEAR, [1e-3, 0.9]), "a^-m overflows: fade step by step"),
        **float32_arrays(_diagonal(4, 20, SKEW, [0.5, -0.25, 0.75], dtype=np.float32)),
    },
    wrong_answers=DIAGONAL_MISTAKES,
)

POLAR = problem(
    decay_and_angle,
    ("gamma", "theta"),
    visible={
        "a quarter turn that halves": (
            {"A": np.array([[[0.0, -0.5], [0.5, 0.0]]])},
            "by hand: the eigenvalues solve x^2 + 1/4 = 0, so they are i/2 and -i/2: gamma = 1/2, theta = pi/2",
        ),
        "a matrix that is no scaled rotation": (
            {"A": np.array([[[0.4, -0.9], [0.1, 0.4]]])},
            "by hand: the trace is 0.8 and the determinant 0.25, so the eigenvalues are 0.4 + 0.3i and 0.4 - 0.3i",
        ),
        "three matrices, one that turns by more than pi/2": (
            {"A": np.array([[[-0.3, -0.4], [0.4, -0.3]], [[0.1, 0.4], [-0.3, 0.2]], [[0.9, -0.1], [0.2, 0.7]]])},
            "each matrix has one gamma and one theta, with 0 <= theta <= pi",
        ),
        "a half turn": (
            {"A": np.array([[[-0.5, 0.0], [0.0, -0.5]], [[0.3, 0.6], [-0.4, 0.1]]])},
            "minus one half is 1/2 e^(i pi): what angle does a negative number have?",
        ),
        "no matrix at all (N = 0)": ({"A": np.zeros((0, 2, 2))}, "with N = 0 both have shape (0,)"),
        **keeps_arguments({"A": np.array([[[0.6, -0.5], [0.8, 0.0]], [[0.2, -0.3], [0.5, 0.1]]])}, "return new arrays"),
    },
    hidden={
        "nothing but decay": (
            {"A": 0.9 * np.eye(2)[None]},
            "try a multiple of the identity: its eigenvalue is real and positive",
        ),
        "large entries that do not grow": (
            {"A": np.array([[[0.5, -1.0], [0.25, 0.5]], [[2.0, -1.0], [3.0, -1.0]]])},
            "gamma may be 1: then the powers of A neither grow nor fade, whatever its entries",
        ),
    },
    wrong_answers=POLAR_MISTAKES,
)

_j = np.arange(4.0)

NEXT = problem(
    next_reads,
    ("following",),
    visible={
        "1, 3, 7, 15": (
            {"reads": np.array([1.0, 3.0, 7.0, 15.0]), "count": 3},
            "by hand: the reads are 2 * 2^j - 1, of the eigenvalues 2 and 1, and each is 3 times the last less 2 times the one before",
        ),
        "a quarter turn that doubles": (
            {"reads": np.array([1.0, 2.0, -4.0, -8.0]), "count": 5},
            "by hand: the eigenvalues are 2i and -2i, so t = 0, d = 4, and each read is -4 times the one before the last",
        ),
        "a pair of radius 0.9 and angle 30 degrees": (
            {"reads": 0.9**_j * np.cos(_j * np.pi / 6 - 0.4), "count": 24},
            "three neighbouring reads obey r_(j+2) = t r_(j+1) - d r_j, whatever q and k are",
        ),
        "nothing to predict (count = 0)": (
            {"reads": np.array([1.0, 3.0, 7.0, 15.0]), "count": 0},
            "with count = 0 following has shape (0,)",
        ),
        **keeps_arguments({"reads": np.array([2.0, 1.0, 3.0, -1.0]), "count": 2}, "build a new array"),
    },
    hidden={
        "one eigenvalue of either sign": (
            {"reads": 0.5 * 0.8**_j + 1.5 * (-0.6) ** _j, "count": 8},
            "an eigenvalue may be negative: nothing may take its logarithm",
        ),
        "two equal eigenvalues": (
            {"reads": np.array([0.0, 1.0, 1.8, 2.43]), "count": 6},
            "try the Jordan block of the lesson, read 0, 1, 1.8, 2.43: the relation between three reads holds there too",
        ),
        "a read of 0": (
            {"reads": np.array([1.0, 0.0, -0.5, -0.25]), "count": 4},
            "a read may be 0: nothing may divide by it",
        ),
        "far ahead": (
            {"reads": 0.99**_j * np.cos(_j * 2.0 - 1.0), "count": 300},
            "try count = 300: each read follows from the two before it",
            {"tolerance": 1e-8},
        ),
    },
    wrong_answers=NEXT_MISTAKES,
)

EXERCISE = Exercise("ex02", "The sum and the basis", (UNROLLED, ABSORB, DIAGONAL, POLAR, NEXT))
