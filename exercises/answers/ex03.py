"""Exercise 3: rotation, the scores that depend only on n - m, and states whose keys move (Eq. 4, arXiv:2307.08621v4)."""

import numpy as np

from ..checking.core import Exercise, problem
from .inputs import small_numbers
from .recurring import float32_arrays, keeps_arguments, mapped, swaps

# Solutions.


def rotate(x, theta, offset):
    """Turn channel pair (2i, 2i + 1) of token n by (offset + n) theta_i: x (T, K), theta (K/2,) -> out (T, K)."""
    angle = (offset + np.arange(len(x)))[:, None] * theta.astype(np.float64)
    even, odd = x[:, 0::2], x[:, 1::2]
    out = np.empty(x.shape)
    out[:, 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    out[:, 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return out


def score_at_lag(q, k, theta, lag):
    """q . k for a query that stands `lag` tokens after the key: q, k (K,), theta (K/2,), lag (L,) -> score (L,)."""
    angle = lag[:, None] * theta
    aligned = q[0::2] * k[0::2] + q[1::2] * k[1::2]
    crossed = q[0::2] * k[1::2] - q[1::2] * k[0::2]
    return np.cos(angle) @ aligned + np.sin(angle) @ crossed


def join(q, out, first, second, gamma, theta, start):
    """Make of the second half, read from position 0 and zeros, what it is after the first: q (T, K) not turned, out (T, V).

    first, second: the states of both halves (K, V), theta (K/2,), start: the tokens of the first half -> out, state.
    """
    time = len(q)
    faded = gamma ** np.arange(1.0, time + 1.0)[:, None]
    # Each column of a state is a sum of keys, so it turns as they do.
    cos, sin = (f(start * theta.astype(np.float64))[:, None] for f in (np.cos, np.sin))
    turned = np.empty(second.shape)
    turned[0::2] = second[0::2] * cos - second[1::2] * sin
    turned[1::2] = second[0::2] * sin + second[1::2] * cos
    return out + faded * (rotate(q, theta, start) @ first), gamma**time * first + turned


def repair(w, heads):
    """Columns of each head from pairs (i, i + K/2) to pairs (2i, 2i + 1): w (d, H K), H heads -> repaired (d, H K)."""
    width = w.shape[1] // heads
    order = np.arange(width).reshape(2, width // 2).T.ravel()  # 0, K/2, 1, K/2 + 1 ...
    return w.reshape(len(w), heads, width)[:, :, order].reshape(w.shape)


# Wrong answers, each one change away from the solution.


def _angles(x, theta, offset):
    return (offset + np.arange(len(x)))[:, None] * theta.astype(np.float64)


def _join(even, odd):
    return np.stack((even, odd), axis=-1).reshape(len(even), 2 * even.shape[1])


def _turn(even, odd, angle):
    return even * np.cos(angle) - odd * np.sin(angle), even * np.sin(angle) + odd * np.cos(angle)


def _rotate_by(angles=_angles, turn=_turn, join=_join):
    """`rotate` with one of its parts replaced."""
    return lambda x, theta, offset: join(*turn(x[:, 0::2], x[:, 1::2], angles(x, theta, offset)))


def _pairs_halves(x, theta, offset):
    half = x.shape[1] // 2
    return np.concatenate(_turn(x[:, :half], x[:, half:], _angles(x, theta, offset)), axis=1)


def _tiles_the_angles(x, theta, offset):
    angle = np.tile(_angles(x, theta, offset), 2)
    crossed = _join(-x[:, 1::2], x[:, 0::2])
    return x * np.cos(angle) + crossed * np.sin(angle)


def _takes_the_partner_from_the_other_half(x, theta, offset):
    half, angle = x.shape[1] // 2, np.repeat(_angles(x, theta, offset), 2, axis=1)
    return x * np.cos(angle) + np.concatenate((-x[:, half:], x[:, :half]), axis=1) * np.sin(angle)


def _uses_the_new_even(even, odd, angle):
    even = even * np.cos(angle) - odd * np.sin(angle)
    return even, even * np.sin(angle) + odd * np.cos(angle)


def _sets_the_angle(even, odd, angle):
    length = np.hypot(even, odd)
    return length * np.cos(angle), length * np.sin(angle)


def _rounds_the_angles(x, theta, offset):
    position = (offset + np.arange(len(x))).astype(x.dtype)
    return position[:, None] * theta.astype(x.dtype)


def _angles_of_float32_theta(x, theta, offset):
    """Angles as positions in float32 give them: float64 where theta is."""
    return (offset + np.arange(len(x))).astype(np.float32)[:, None] * theta


def _rotates_in_place(x, theta, offset):
    x[...] = rotate(x, theta, offset)
    return x


ROTATE_MISTAKES = {
    "pairs the halves": (_pairs_halves, "you paired channel i with i + K/2: a pair is channels 2i and 2i + 1"),
    "takes the partner from the other half": (
        _takes_the_partner_from_the_other_half,
        "your angles are right, but the partner of channel i is its neighbour in the pair, not channel i + K/2",
    ),
    "turns backwards": (
        _rotate_by(angles=lambda *arguments: -_angles(*arguments)),
        "you turned the other way: (1, 0) goes to (cos, sin), not to (cos, -sin)",
    ),
    "starts one position late": (
        _rotate_by(angles=lambda x, theta, offset: _angles(x, theta, offset + 1)),
        "you turned the first row by one step too much: row 0 is at position offset",
    ),
    "ignores the offset": (
        _rotate_by(angles=lambda x, theta, _: _angles(x, theta, 0)),
        "you ignored offset: row n is at position offset + n",
    ),
    "takes positions without their sign": (
        _rotate_by(
            angles=lambda x, theta, offset: np.abs(offset + np.arange(len(x)))[:, None] * theta.astype(np.float64)
        ),
        "you took positions without their sign: a row before position 0 turns the other way",
    ),
    "takes the offset without its sign": (
        _rotate_by(angles=lambda x, theta, offset: _angles(x, theta, abs(offset))),
        "you took offset without its sign: it may be negative, row n then stands at offset + n all the same",
    ),
    "starts at position 0 at the earliest": (
        _rotate_by(angles=lambda x, theta, offset: _angles(x, theta, max(offset, 0))),
        "you took a negative offset for 0: row n stands at position offset + n, also before position 0",
    ),
    "adds the offset to the angle": (
        _rotate_by(angles=lambda x, theta, offset: offset + _angles(x, theta, 0)),
        "you added offset to the angle: it is a position, so the angle is (offset + n) theta",
    ),
    "counts in degrees": (
        _rotate_by(angles=lambda *arguments: np.deg2rad(_angles(*arguments))),
        "you turned theta into radians: it is in radians already",
    ),
    "adds in both channels": (
        _rotate_by(
            turn=lambda even, odd, angle: (
                even * np.cos(angle) + odd * np.sin(angle),
                even * np.sin(angle) + odd * np.cos(angle),
            )
        ),
        "you have + in both channels: the new even channel is x_0 cos - x_1 sin",
    ),
    "turns every token alike": (
        _rotate_by(angles=lambda x, theta, _: np.broadcast_to(theta, (len(x), len(theta)))),
        "you turned every token by theta: the angle is the position times theta",
    ),
    "keeps only the cosines": (
        _rotate_by(turn=lambda even, odd, angle: (even * np.cos(angle), odd * np.cos(angle))),
        "you only multiplied by cosines: a turn also carries part of each channel over to the other, with the sine",
    ),
    "sets the angle": (
        _rotate_by(turn=_sets_the_angle),
        "you put each pair at the angle (offset + n) theta: it turns on by that angle from where it points already",
    ),
    "uses the new even channel for the odd one": (
        _rotate_by(turn=_uses_the_new_even),
        "you computed the odd channel from the even one after its turn: both need the old values",
    ),
    "puts the even channels first": (
        _rotate_by(join=lambda even, odd: np.concatenate((even, odd), axis=1)),
        "your channels come back in another order, even ones first: channel 2i + 1 belongs beside channel 2i",
    ),
    "gives the angles to the wrong pairs": (
        _tiles_the_angles,
        "you repeated the row of angles (tile): both channels of a pair take one angle, theta_0 twice, then theta_1 twice",
    ),
    "computes in float32": (
        _rotate_by(angles=lambda x, theta, offset: _rounds_the_angles(x.astype(np.float32), theta, offset)),
        "you made theta or the positions float32: make theta float64 and leave the positions integers",
    ),
    "rounds the angles to float32": (
        _rotate_by(angles=_rounds_the_angles),
        "you computed position * theta in float32, which is off by a visible angle far from 0: compute it in float64",
    ),
    "leaves theta in float32": (
        _rotate_by(angles=_angles_of_float32_theta),
        "your position * theta is right where theta is float64, and float32 where theta is: theta.astype(np.float64) first",
    ),
    "returns complex pairs": (
        lambda x, theta, offset: (x[:, 0::2] + 1j * x[:, 1::2]) * np.exp(1j * _angles(x, theta, offset)),
        "you returned K/2 complex numbers a row: write real parts to even channels, imaginary parts to odd ones, (T, K)",
    ),
    "writes in place": (_rotates_in_place, "you turned the caller's x in place: fill a new array"),
}


def _as_complex(x):
    return x[0::2] + 1j * x[1::2]


def _score_by(read):
    """A score made of the complex pairs of q and k, and of the phases (L, K/2)."""
    return lambda q, k, theta, lag: read(_as_complex(q), _as_complex(k), np.exp(1j * lag[:, None] * theta))


def _score_with(turn):
    """A score that turns the query by lag, with another `rotate`."""
    return lambda q, k, theta, lag: np.array([turn(q[None], theta, one)[0] @ k for one in lag])


# Mistakes of problem 1 that spoil problem 2 too; the others give the numbers of a mistake in the table below.
_OF_BOTH = (
    "starts one position late",
    "adds the offset to the angle",
    "counts in degrees",
    "adds in both channels",
    "uses the new even channel for the odd one",
    "puts the even channels first",
    "gives the angles to the wrong pairs",
    "takes the partner from the other half",
)


def _scores_halves(q, k, theta, lag):
    half = len(q) // 2
    q, k = q[:half] + 1j * q[half:], k[:half] + 1j * k[half:]
    return (np.exp(1j * lag[:, None] * theta) @ (q * k.conj())).real


SCORE_MISTAKES = {
    **mapped(_score_with, {name: ROTATE_MISTAKES[name] for name in _OF_BOTH}),
    "turns the wrong way": (
        _score_by(lambda q, k, phase: (phase.conj() @ (q * k.conj())).real),
        "your query turns backwards: it is the later one, turned further than the key; look at the sign of lag",
    ),
    "turns both": (
        _score_by(lambda q, k, phase: ((phase * q * (phase * k).conj()).sum(axis=1)).real),
        "your score does not depend on lag: if q and k turn by the same angle nothing changes; turn only q",
    ),
    "keeps only the cosines": (
        _score_by(lambda q, k, phase: phase.real @ (q * k.conj()).real),
        "you left out the sines: the turned even channel of q holds part of the odd one, and the other way round",
    ),
    "multiplies the dot product by the cosines": (
        lambda q, k, theta, lag: (q @ k) * np.cos(lag[:, None] * theta).sum(axis=1),
        "you multiplied the whole dot product by cosines: each pair turns by its own angle, before the sum",
    ),
    "does not conjugate k": (
        _score_by(lambda q, k, phase: (phase @ (q * k)).real),
        "you multiplied q by k: the dot product of two pairs is the real part of q times the conjugate of k",
    ),
    "returns the complex sum": (
        _score_by(lambda q, k, phase: phase @ (q * k.conj())),
        "you returned the complex sum: the dot product is its real part",
    ),
    "takes the modulus": (
        _score_by(lambda q, k, phase: np.abs(phase @ (q * k.conj()))),
        "you took the modulus of the complex sum: the dot product is its real part, and may be negative",
    ),
    "takes the lengths for the pairs": (
        _score_by(lambda q, k, phase: phase.real @ (np.abs(q) * np.abs(k))),
        "you took |q| |k| cos(lag theta): at lag 0 q and k already have an angle between them, which adds to lag theta",
    ),
    "takes the place in lag for the lag": (
        lambda q, k, theta, lag: score_at_lag(q, k, theta, np.arange(len(lag))),
        "you took the lags to be 0, 1, 2 and so on: they are the entries of lag, in any order, negative ones too",
    ),
    "counts on from the first lag": (
        lambda q, k, theta, lag: score_at_lag(q, k, theta, lag[0] + np.arange(len(lag))),
        "you counted on from lag[0]: lag may leave numbers out, and may be empty; take each entry as it is",
    ),
    "takes the distance for the lag": (
        lambda q, k, theta, lag: score_at_lag(q, k, theta, np.abs(lag)),
        "you used |lag|: before and after are not the same, a negative lag turns q back",
    ),
    "turns the turned query again": (
        lambda q, k, theta, lag: score_at_lag(q, k, theta, np.cumsum(lag)),
        "each lag turns q on from where the lag before left it (as *= in a loop does): turn the q you were given for each lag",
    ),
    "turns the caller's query again": (
        _score_with(_rotates_in_place),
        "your rotate changes its x in place, so each lag turns q on from where the last one left it: fill a new array",
    ),
    "leaves out the way back from complex numbers": (
        _score_with(ROTATE_MISTAKES["returns complex pairs"][0]),
        "your turned q has K/2 complex numbers, k has K real ones: make k complex too, or write the parts of q back to channels",
    ),
    "pairs the halves": (_scores_halves, "you paired channel i with i + K/2: a pair is channels 2i and 2i + 1"),
}


def _turn_rows(state, angle):
    """Turn the pairs of rows of a state, as the keys in it, each by its own angle (K/2,)."""
    even, odd = _turn(state[0::2], state[1::2], angle[:, None])
    return np.stack((even, odd), axis=1).reshape(state.shape)


def _join_with(
    faded=lambda gamma, time: gamma ** np.arange(1.0, time + 1.0)[:, None],
    query=rotate,
    old=lambda first, theta, start: first,
    new=lambda second, theta, start: _turn_rows(second, start * theta),
    whole=lambda gamma, time: gamma**time,
    read=lambda out, term: out + term,
):
    """`join` with one of its parts replaced: the decay of the first state in the outputs, the queries, either state."""

    def function(q, out, first, second, gamma, theta, start):
        theta, time = theta.astype(np.float64), len(q)
        term = faded(gamma, time) * (query(q, theta, start) @ old(first, theta, start))
        return read(out, term), whole(gamma, time) * first + new(second, theta, start)

    return function


def _turns_columns(second, theta, start):
    even, odd = _turn(second[:, 0::2], second[:, 1::2], start * theta)
    return np.stack((even, odd), axis=-1).reshape(second.shape)


def _turns_half_rows(second, theta, start):
    half = len(second) // 2
    angle = (start * theta)[:, None]
    return np.concatenate(_turn(second[:half], second[half:], angle))


def _joins_in_place(q, out, first, second, gamma, theta, start):
    joined, state = join(q, out, first, second, gamma, theta, start)
    out[...] = joined
    return out, state


def _joins_state_in_place(q, out, first, second, gamma, theta, start):
    joined, state = join(q, out, first, second, gamma, theta, start)
    second[...] = state
    return joined, second


def _turns_the_first_state(first, theta, start):
    return _turn_rows(first, start * theta)


def _join_states(state):
    """`join` with another last state, made of both states, gamma^T, theta in float64 and start."""

    def function(q, out, first, second, gamma, theta, start):
        end = state(first, second, gamma ** len(q), theta.astype(np.float64), start)
        return join(q, out, first, second, gamma, theta, start)[0], end

    return function


def _rotates_queries_in_float32(q, out, first, second, gamma, theta, start):
    query = _rotate_by(angles=_angles_of_float32_theta)(q, theta, start)
    faded = gamma ** np.arange(1.0, len(q) + 1.0)[:, None]
    return out + faded * (query @ first), join(q, out, first, second, gamma, theta, start)[1]


def _rotates_rows_as_tokens(second, theta, start):
    return rotate(second.T, theta, start).T


def _in_its_dtype(theta, start):
    return np.float32(start) * theta


JOIN_MISTAKES = {
    "leaves the state of the second half as it is": (
        _join_with(new=lambda second, theta, start: second),
        "you added the second state as it is: its keys stood at positions from 0, and must stand from start on, turned further",
    ),
    "turns the second state backwards": (
        _join_with(new=lambda second, theta, start: _turn_rows(second, -start * theta)),
        "you turned the second state backwards: its keys move on to later positions, so they turn further by start * theta",
    ),
    "turns the whole sum": (
        lambda q, out, first, second, gamma, theta, start: (
            join(q, out, first, second, gamma, theta, start)[0],
            _turn_rows(gamma ** len(q) * first + second, start * theta.astype(np.float64)),
        ),
        "you turned the first state too: its keys stand where they stood, only those of the second half move on",
    ),
    "turns the first state instead": (
        _join_states(
            lambda first, second, left, theta, start: left * _turns_the_first_state(first, theta, start) + second
        ),
        "you turned the first state and not the second: keys of the first half stand where they stood, the others move on",
    ),
    "turns the first state as tokens": (
        _join_states(lambda first, second, left, theta, start: left * rotate(first.T, theta, start).T + second),
        "you gave the first state to rotate: its keys stand where they stood; the second turns, all its columns alike",
    ),
    "turns both states as tokens": (
        _join_states(lambda first, second, left, theta, start: rotate((left * first + second).T, theta, start).T),
        "you gave the sum of both states to rotate: only the second turns, and all its columns alike, by start * theta",
    ),
    "turns the first state as tokens, and the second": (
        _join_states(
            lambda first, second, left, theta, start: (
                left * rotate(first.T, theta, start).T + _turn_rows(second, start * theta)
            )
        ),
        "you turned the first state by rotate beside the second: keys of the first half stand where they stood",
    ),
    "turns the second state by one token": (
        _join_with(new=lambda second, theta, start: _turn_rows(second, theta)),
        "you turned the second state by theta: each of its keys moves on by start tokens",
    ),
    "turns by its own length": (
        lambda q, out, first, second, gamma, theta, start: (
            join(q, out, first, second, gamma, theta, start)[0],
            join(q, out, first, second, gamma, theta, len(q))[1],
        ),
        "you turned the second state by T theta, with T its own length: it moves on by start, the length of the first half",
    ),
    "turns the rows of a state as tokens": (
        _join_with(new=_rotates_rows_as_tokens),
        "rotate gives each row of its x a further angle: all columns of the second state turn alike, by start * theta",
    ),
    "pairs the halves of the rows": (
        _join_with(new=_turns_half_rows),
        "you paired row i of the state with row i + K/2: rows belong to channels of keys, so a pair is rows 2i and 2i + 1",
    ),
    "turns columns": (
        _join_with(new=_turns_columns),
        "you turned the columns of the second state: channels of keys are its rows, shape (K, V)",
    ),
    "rotates the state itself": (
        _join_with(new=rotate),
        "rotate turns pairs of columns, each row further: here pairs of rows turn, all columns alike, by start * theta",
    ),
    "fades the outputs of the second half": (
        lambda q, out, first, second, gamma, theta, start: (
            join(q, gamma ** len(q) * out, first, second, gamma, theta, start)[0],
            join(q, out, first, second, gamma, theta, start)[1],
        ),
        "you faded out: what the queries read of their own half is right already, only what they read of the first fades",
    ),
    "fades the outputs of the second half by token": (
        lambda q, out, first, second, gamma, theta, start: (
            join(q, gamma ** np.arange(1.0, len(q) + 1.0)[:, None] * out, first, second, gamma, theta, start)[0],
            join(q, out, first, second, gamma, theta, start)[1],
        ),
        "you faded out by gamma^(n + 1): what a query reads of its own half has faded already, only the first state fades",
    ),
    "adds nothing to the outputs": (
        _join_with(read=lambda out, term: out),
        "you left the outputs as they were: the queries of the second half also read what is left of the first state",
    ),
    "returns only the new term": (
        _join_with(read=lambda out, term: term),
        "you returned only what is read of the first state: add it to out",
    ),
    "does not turn the queries": (
        _join_with(query=lambda q, theta, start: q),
        "your queries are not turned: query n of the second half stands at position start + n",
    ),
    "turns the queries from 0": (
        _join_with(query=lambda q, theta, start: rotate(q, theta, 0)),
        "your queries read the first state from positions 0, 1, ...: query n of the second half stands at start + n",
    ),
    "turns the queries from start + 1": (
        _join_with(query=lambda q, theta, start: rotate(q, theta, start + 1)),
        "your queries stand one position late: counted from 0, query n of the second half is at start + n",
    ),
    "turns all queries alike": (
        _join_with(query=lambda q, theta, start: _turn_rows(q.T, start * theta).T),
        "you turned all queries by start * theta: query n stands at start + n, and was given before any turn",
    ),
    "does not fade the first state in the outputs": (
        _join_with(faded=lambda gamma, time: 1.0),
        "your queries read the first state unfaded: by query n, counted from 0, gamma^(n + 1) of it is left",
    ),
    "fades the first state one step too few": (
        _join_with(faded=lambda gamma, time: gamma ** np.arange(float(time))[:, None]),
        "your decay is off by one: the first token of the second half has faded the first state once already when it reads",
    ),
    "fades the first state alike in all outputs": (
        _join_with(faded=lambda gamma, time: gamma**time),
        "you faded the first state by gamma^T for all queries: by query n, counted from 0, gamma^(n + 1) of it is left",
    ),
    "fades by position": (
        lambda q, out, first, second, gamma, theta, start: (
            out + gamma ** (start + np.arange(1.0, len(q) + 1.0))[:, None] * (rotate(q, theta, start) @ first),
            join(q, out, first, second, gamma, theta, start)[1],
        ),
        "you faded the first state by its position too: what it forgot within the first half is forgotten in it already",
    ),
    "drops the first state": (
        _join_with(whole=lambda gamma, time: 0.0),
        "your state holds the second half alone: gamma^T of the first is left in it",
    ),
    "does not fade the first state at the end": (
        _join_with(whole=lambda gamma, time: 1.0),
        "you added the first state unfaded: after the T tokens of the second half gamma^T of it is left",
    ),
    "fades the first state by start": (
        lambda q, out, first, second, gamma, theta, start: (
            join(q, out, first, second, gamma, theta, start)[0],
            gamma**start * first + _turn_rows(second, start * theta.astype(np.float64)),
        ),
        "you faded the first state by gamma^start: it fades at each token of the second half, gamma^T with T = len(q)",
    ),
    "fades the second state": (
        lambda q, out, first, second, gamma, theta, start: (
            join(q, out, first, second, gamma, theta, start)[0],
            join(q, out, first, gamma ** len(q) * second, gamma, theta, start)[1],
        ),
        "you faded the second state: what it holds has faded within the second half already, only the first fades further",
    ),
    "rounds the angles to float32": (
        lambda q, out, first, second, gamma, theta, start: (
            join(q, out, first, second, gamma, theta, start)[0],
            gamma ** len(q) * first + _turn_rows(second, _in_its_dtype(theta, start).astype(np.float64)),
        ),
        "your start * theta is float32 where theta is, off by a visible angle far from 0: make theta float64 first",
    ),
    "rounds the angles of the queries to float32": (
        _rotates_queries_in_float32,
        "your angles of queries are float32 where theta is, off by a visible angle far from 0: make theta float64 first",
    ),
    "writes outputs in place": (
        _joins_in_place,
        "you added to the caller's out in place (as += does): make a new array",
    ),
    "writes the state in place": (
        _joins_state_in_place,
        "you turned the caller's second state in place: make a new array",
    ),
    **swaps(join, "out", "state"),
}


def _reorders(order):
    """`repair` with another order of the columns of a head, made of their number."""

    def function(w, heads):
        width = w.shape[1] // heads
        return w.reshape(len(w), heads, width)[:, :, order(width)].reshape(w.shape)

    return function


def _halves(width):
    return np.arange(width).reshape(2, width // 2)


def _order_of_all(columns, heads):
    return repair(np.arange(float(columns))[None], heads)[0].astype(int)


def _takes_heads_for_the_last_axis(w, heads):
    table = w.reshape(len(w), -1, heads)
    return table[:, _halves(table.shape[1]).T.ravel()].reshape(w.shape)


def _repairs_the_first_head(w, heads):
    width = w.shape[1] // heads
    return np.concatenate([repair(w[:, :width], 1), w[:, width:]], axis=1)


def _repairs_in_place(w, heads):
    w[...] = repair(w, heads)
    return w


REPAIR_MISTAKES = {
    "takes all heads for one": (
        lambda w, heads: repair(w, 1),
        "you paired column i with column i + H K / 2 across the heads: each head has K columns and pairs of its own",
    ),
    "takes the heads for the last axis": (
        _takes_heads_for_the_last_axis,
        "your heads alternate from column to column: the K columns of a head stand side by side",
    ),
    "repairs the first head only": (
        _repairs_the_first_head,
        "you reordered the columns of the first head only: each head has its own K columns, to be reordered alike",
    ),
    "goes the other way": (
        _reorders(lambda width: np.argsort(_halves(width).T.ravel())),
        "you went the other way, from neighbours to halves: new column 1 is old column K/2, not the other way round",
    ),
    "swaps the two of a pair": (
        _reorders(lambda width: _halves(width)[::-1].T.ravel()),
        "you swapped the two channels of each pair, so it turns backwards: the one from the first half comes first",
    ),
    "swaps the halves": (
        _reorders(lambda width: _halves(width)[::-1].ravel()),
        "you swapped the two halves of each head: columns i and i + K/2 must become neighbours",
    ),
    "reorders rows": (
        lambda w, heads: w[_order_of_all(w.shape[1], heads)],
        "you reordered the rows of w, which belong to the channels of x: queries are made of columns, w[:, order]",
    ),
    "changes nothing": (lambda w, heads: w.copy(), "you left the columns where they were: there is the bug"),
    "writes in place": (_repairs_in_place, "you reordered the caller's w in place: return a new array"),
}


# Checks.


def _rows(time, theta, offset, *, dtype=np.float64, theta_dtype=np.float64):
    random = np.random.default_rng([time, len(theta)])
    x = small_numbers(random, time, 2 * len(theta), dtype=dtype)
    return {"x": x, "theta": np.array(theta, dtype=theta_dtype), "offset": offset}


def _two(theta, lag, *, dtype=np.float64):
    random = np.random.default_rng(len(theta))
    q, k = (small_numbers(random, 2 * len(theta), dtype=dtype) for _ in range(2))
    return {"q": q, "k": k, "theta": np.array(theta, dtype=dtype), "lag": np.array(lag, dtype=dtype)}


ROTATE = problem(
    rotate,
    ("out",),
    visible={
        "a quarter turn a token": (
            {"x": np.array([[1.0, 2.0]] * 4), "theta": np.array([np.pi / 2]), "offset": 0},
            "by hand: (1, 2) at position 0, then (-2, 1), (-1, -2), (2, -1)",
        ),
        "two pairs, each with its own angle": (
            _rows(3, [0.5, 0.1], 0),
            "at position 2 channels 0 and 1 have turned by 2 * 0.5, channels 2 and 3 by 2 * 0.1",
        ),
        "going on at position 5": (
            _rows(3, [0.5, 0.1], 5),
            "the first row is at position 5, the last at position 7",
        ),
        "from position -2 on": (
            _rows(4, [0.5, 0.1], -2),
            "positions are -2, -1, 0, 1: before 0 a row turns the other way, by a negative angle",
        ),
        "x in float32, a million tokens on": (
            _rows(2, [0.7, 0.03], 1_000_000, dtype=np.float32),
            "if only this fails: near 700,000 float32 numbers are 1/16 apart, so compute position * theta in float64",
            {"tolerance": 1e-4},
        ),
        "x and theta in float32, a million tokens on": (
            _rows(2, [0.7, 0.03], 1_000_000, dtype=np.float32, theta_dtype=np.float32),
            "if only this fails: positions in float32 times theta in float32 are float32, so make theta float64 first",
            {"tolerance": 1e-4},
        ),
        "no token at all (T = 0)": (_rows(0, [0.5, 0.1], 3), "with T = 0 out has shape (0, K)"),
        **keeps_arguments(_rows(3, [1.0, 0.1, 0.01], 2), "fill a new array; x[:, 0::2] = ... writes into the caller's"),
    },
    hidden={
        "a position before 0": (
            _rows(40, [0.9**i for i in range(8)], -7),
            "offset may be negative: rows at positions -7, -6 and so on, here with K = 16 and T = 40",
        ),
        "float32 arrays near 0": (
            _rows(5, [0.5, 0.1], 0, dtype=np.float32, theta_dtype=np.float32),
            "try x made with dtype=np.float32: the answer must be right to float32 precision",
            {"tolerance": 1e-5},
        ),
    },
    wrong_answers=ROTATE_MISTAKES,
)

SCORE = problem(
    score_at_lag,
    ("score",),
    visible={
        "a quarter turn a token": (
            {
                "q": np.array([1.0, 2.0]),
                "k": np.array([0.0, 1.0]),
                "theta": np.array([np.pi / 2]),
                "lag": np.arange(4.0),
            },
            "by hand: q turns to (1, 2), (-2, 1), (-1, -2), (2, -1); its dot product with (0, 1) is 2, 1, -2, -1",
        ),
        "two pairs, lags 0 to 4": (
            _two([0.5, 0.1], range(5)),
            "rotate q at position 7 and k at position 7 - lag with your rotate: the dot product is the score",
        ),
        "a key after the query": (_two([0.8, 0.2], [-3, -1, 2]), "lag is n - m and may be negative"),
        "no lag at all (L = 0)": (_two([0.5, 0.1], []), "with L = 0 score has shape (0,)"),
        **keeps_arguments(_two([1.0, 0.1, 0.01], [1, 10]), "make new arrays"),
    },
    hidden={
        "a million tokens apart": (
            _two([1.0, 0.01, 0.0001], [999_999, 1_000_000]),
            "if you loop over positions: any lag costs the same, no such loop is needed",
            {"tolerance": 1e-8},
        ),
        "many pairs": (_two([0.8**i for i in range(16)], range(-5, 20)), "try K = 32"),
        **float32_arrays(_two([0.5, 0.1], range(10), dtype=np.float32)),
    },
    wrong_answers=SCORE_MISTAKES,
)


def _halves_of_a_text(value_dim, time, theta, gamma, start, *, dtype=np.float64):
    random = np.random.default_rng([value_dim, time, len(theta)])
    width = 2 * len(theta)
    shapes = (time, width), (time, value_dim), (width, value_dim), (width, value_dim)
    q, out, first, second = (small_numbers(random, *shape, dtype=dtype) for shape in shapes)
    second = second if time else np.zeros(second.shape)  # nothing was read
    angles = {"gamma": gamma, "theta": np.array(theta, dtype=dtype), "start": start}
    return {"q": q, "out": out, "first": first, "second": second} | angles


JOIN = problem(
    join,
    ("out", "state"),
    visible={
        "a quarter turn a token, by hand": (
            {"q": np.array([[1.0, 0.0]]), "out": np.array([[5.0]]), "first": np.array([[2.0], [4.0]])}
            | {"second": np.array([[1.0], [3.0]]), "gamma": 0.5, "theta": np.array([np.pi / 2]), "start": 1},
            "by hand: at position 1 q is (0, 1) and reads 4/2 of the first state; the second's column turns to (-3, 1)",
        ),
        "three tokens after five, two pairs": (
            _halves_of_a_text(3, 3, [0.5, 0.1], 0.75, 5),
            "make both halves with rotate and the loop of exercise 1, and compare with the whole text in one run",
        ),
        "as many values as channels": (
            _halves_of_a_text(4, 2, [0.5, 0.1], 0.75, 4),
            "if only this fails: rows of a state belong to channels of keys, columns to values",
        ),
        "a second half without tokens (T = 0)": (
            _halves_of_a_text(2, 0, [0.5, 0.1], 0.5, 3),
            "with T = 0 out has shape (0, V) and the state is the first one",
        ),
        "float32 arrays after a million tokens": (
            _halves_of_a_text(2, 2, [0.7, 0.03], 0.75, 1_000_000, dtype=np.float32),
            "if only this fails: near 700,000 float32 numbers are 1/16 apart, so compute all angles in float64",
            {"tolerance": 1e-4},
        ),
        **keeps_arguments(_halves_of_a_text(3, 4, [1.0, 0.1, 0.01], 0.9, 6)),
    },
    hidden={
        "a first half without tokens": (
            _halves_of_a_text(3, 4, [0.5, 0.1], 0.9, 0) | {"first": np.zeros((4, 3))},
            "with start = 0 and no first state nothing moves: out and the second state are right already",
        ),
        "a head that never fades": (
            _halves_of_a_text(2, 5, [0.9**i for i in range(6)], 1.0, 11),
            "gamma = 1 is allowed: the first state is read in full",
        ),
        "halves of unequal length": (
            _halves_of_a_text(5, 12, [1.0, 0.2], 0.5, 2),
            "T and start are different numbers: what fades by T, and what turns by start?",
        ),
    },
    wrong_answers=JOIN_MISTAKES,
)


def _columns(rows, heads, width, *, dtype=np.float64):
    return {
        "w": small_numbers(np.random.default_rng([rows, heads, width]), rows, heads * width, dtype=dtype),
        "heads": heads,
    }


REPAIR = problem(
    repair,
    ("repaired",),
    visible={
        "one head of three pairs (K = 6)": (
            {"w": np.arange(6.0)[None], "heads": 1},
            "by hand: the pairs of the training are (0, 3), (1, 4), (2, 5), so the columns become 0, 3, 1, 4, 2, 5",
        ),
        "two heads of two pairs (K = 4)": (
            {"w": np.array([[0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]]), "heads": 2},
            "by hand: 0, 2, 1, 3 and 10, 12, 11, 13: no column leaves its head",
        ),
        "five rows, three heads of three pairs": (
            _columns(5, 3, 6),
            "all rows are reordered alike; x @ repaired then has the old channels in the new order",
        ),
        **keeps_arguments(_columns(2, 2, 6), "w[:, order] makes a new array, w[...] = writes into the caller's"),
    },
    hidden={
        "heads of a single pair": (_columns(3, 4, 2), "try K = 2: there is one pair, and both pairings are the same"),
        "a wide head": (_columns(1, 2, 64), "try K = 64"),
        "as many heads as columns in each": (
            _columns(4, 4, 4),
            "try H = K, where two axes mixed up still have the right shape",
        ),
        **float32_arrays(_columns(3, 2, 8, dtype=np.float32)),
    },
    wrong_answers=REPAIR_MISTAKES,
)

EXERCISE = Exercise("ex03", "Rotation", (ROTATE, SCORE, JOIN, REPAIR))
