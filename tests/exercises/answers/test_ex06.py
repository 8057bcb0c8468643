"""Exercise 6 against the package: its solutions are the package's forms, its weights those of the states."""

from itertools import pairwise

import numpy as np
import pytest
from one_head import assert_close, draw, of_package

from exercises import check
from exercises.answers.ex06 import CHUNKS, join_pieces, retention_chunk, retention_chunks, state_weights
from refimpl import retention_chunkwise, retention_parallel

NO_ZETA = next(wrong.function for wrong in CHUNKS.wrong_answers if wrong.name == "no zeta")


@pytest.mark.parametrize("gamma", [1e-12, 0.5, 31 / 32, 1.0])
@pytest.mark.parametrize("time", [1, 7, 64])
def test_a_chunk_is_the_parallel_form(time, gamma):
    arguments = draw(time, 5, 3, gamma)
    assert_close(retention_chunk(*arguments), of_package(retention_parallel, *arguments))


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 8, 64])
@pytest.mark.parametrize("time", [0, 1, 7, 16])
def test_chunks_are_the_chunkwise_form(time, chunk_size):
    arguments = draw(time, gamma=31 / 32)
    for one in (arguments, (*arguments[:4], None)):
        wanted = of_package(retention_chunkwise, *one, chunk_size=chunk_size)
        assert_close(retention_chunks(*one, chunk_size), wanted)


@pytest.mark.parametrize(("time", "chunk_size"), [(8, 4), (9, 4), (3, 5), (5, 1), (0, 2)])
def test_weights_are_those_of_the_two_states(time, chunk_size):
    # With a key of its own for each token, row t of the state is the weight of token t.
    arguments = np.eye(time), np.eye(time), np.ones((time, 1)), 0.9, None, chunk_size
    wanted = retention_chunks(*arguments)[1][:, 0], NO_ZETA(*arguments)[1][:, 0]
    assert_close(state_weights(0.9, time, chunk_size), wanted)


@pytest.mark.parametrize(("gamma", "factor"), [(31 / 32, 1.255), (511 / 512, 1.015)])
def test_the_factor_that_the_notebook_quotes(gamma, factor):
    with_zeta, without_zeta = (weights.sum() for weights in state_weights(gamma, 64, 16))
    assert without_zeta / with_zeta == pytest.approx(16 * (1 - gamma) / (1 - gamma**16), rel=1e-12)
    assert round(without_zeta / with_zeta, 3) == factor


@pytest.mark.parametrize("lengths", [(), (7,), (3, 0, 5), (1, 9, 2, 4)])
def test_pieces_join_to_the_states_of_one_pass(lengths):
    q, k, v, gamma, state = draw(sum(lengths))
    ends = np.cumsum([0, *lengths])
    zero = np.zeros_like(state)

    def after(start, stop, state):
        part = slice(start, stop)
        return of_package(retention_parallel, q[part], k[part], v[part], gamma, state)[1]

    alone = [after(start, stop, zero) for start, stop in pairwise(ends)]
    states = np.array(alone).reshape(-1, *state.shape)
    wanted = [after(0, end, state) for end in ends]
    before, last = join_pieces(states, np.array(lengths, dtype=float), gamma, state)
    assert_close(before, np.array(wanted[:-1]).reshape(states.shape))
    assert_close(last, wanted[-1])


# What a mistake is told, in several ways to make it.


def report_of(name, function, capsys):
    exec(f"check('ex06', '{name}')", {"check": check, name: function})
    return " ".join(capsys.readouterr().out.split())


def _plus(faded, new):
    return faded + new


def _added_in_place(faded, new):
    faded += new
    return faded


def _filled(faded, new):
    written = np.zeros(faded.shape)
    written[...] = new
    return faded + written


@pytest.mark.parametrize("add", [_plus, _added_in_place, _filled])
def test_values_times_keys_are_named_also_where_shapes_cannot_tell(add, capsys):
    def chunk(q, k, v, gamma, state):
        out, after = retention_chunk(q, k, v, gamma, state)
        faded = gamma ** len(q) * state
        return out, add(faded + 0.0, (after - faded).T)

    def chunks(q, k, v, gamma, state, chunk_size):
        state = np.zeros((q.shape[1], v.shape[1])) if state is None else state
        out = np.zeros(v.shape)
        for start in range(0, len(q), chunk_size):
            part = slice(start, start + chunk_size)
            out[part], state = chunk(q[part], k[part], v[part], gamma, state)
        return out, state

    for report in report_of("retention_chunk", chunk, capsys), report_of("retention_chunks", chunks, capsys):
        assert report.count("FAIL") >= 2
        assert "the keys come first, K^T V" in report
        assert not any(word in report for word in ("Hint", "raised", "wanted")), "every failure has the same name"


def _loop(q, k, v, gamma, state, chunk_size, *, chunk=retention_chunk, starts=None, begins_with=lambda state: state):
    state = np.zeros((q.shape[1], v.shape[1])) if state is None else state
    out = np.zeros(v.shape)
    for start in range(0, len(q), chunk_size) if starts is None else starts(len(q), chunk_size):
        one = slice(start, start + chunk_size)
        out[one], state = chunk(q[one], k[one], v[one], gamma, begins_with(state))
    return out, state


def _chunk(lag=lambda j: j - j.T, keys=lambda zeta: 1.0, whole=lambda c: c):
    def chunk(q, k, v, gamma, state):
        j = np.arange(1, len(q) + 1)[:, None]
        mask = np.where(lag(j) >= 0, gamma ** np.maximum(lag(j), 0), 0.0)
        zeta = gamma ** (len(q) - j)
        out = (q @ k.T * mask) @ v + gamma**j * (q @ state)
        return out, (k * keys(zeta)).T @ (v * zeta) + gamma ** whole(len(q)) * state

    return chunk


CHUNKS_WRONG = {
    "gamma^(c-1)": (_chunk(whole=lambda c: c - 1), "you faded the old state one step too little"),
    "j.T - j": (_chunk(lag=lambda j: j.T - j), "your mask is transposed"),
    "zeta twice": (_chunk(keys=lambda zeta: zeta), "you faded keys and values by zeta"),
}


@pytest.mark.parametrize(("chunk", "told"), CHUNKS_WRONG.values(), ids=CHUNKS_WRONG)
def test_a_wrong_chunk_is_named_alone_and_in_a_loop(chunk, told, capsys):
    for name, function in ("retention_chunk", chunk), ("retention_chunks", lambda *a: _loop(*a, chunk=chunk)):
        report = report_of(name, function, capsys)
        assert told in report
        assert not any(word in report for word in ("wanted", "Hint"))


LOOPS = {
    "zeros for every chunk": (
        lambda *a: _loop(*a, begins_with=np.zeros_like),
        "you start every chunk from zeros",
    ),
    "range(0, T - 1, chunk_size)": (
        lambda *a: _loop(*a, starts=lambda time, size: range(0, time - 1, size)),
        "your range ends at T - 1",
    ),
    "float32": (
        lambda q, k, v, *more: retention_chunks(q, k, v.astype(np.float32), *more),
        "your numbers are float32",
    ),
}


@pytest.mark.parametrize(("function", "told"), LOOPS.values(), ids=LOOPS)
def test_a_wrong_loop_is_named(function, told, capsys):
    report = report_of("retention_chunks", function, capsys)
    assert told in report
    assert not any(word in report for word in ("wanted", "Hint", "raised"))


def _joined(length=lambda lengths, i: lengths[i], order=range):
    def join(states, lengths, gamma, state):
        before = np.zeros(states.shape)
        for i in order(len(states)):
            before[i] = state
            state = gamma ** length(lengths, i) * state + states[i]
        return before, state

    return join


PIECES_WRONG = {
    "all so far": (_joined(lambda lengths, i: lengths[: i + 1].sum()), "you faded by the lengths of all pieces so far"),
    "one too few": (_joined(lambda lengths, i: lengths[i] - 1), "you faded one step too little"),
    "reversed": (_joined(order=lambda n: reversed(range(n))), "your loop begins with the last piece"),
}


@pytest.mark.parametrize(("function", "told"), PIECES_WRONG.values(), ids=PIECES_WRONG)
def test_pieces_joined_wrongly_are_named(function, told, capsys):
    report = report_of("join_pieces", function, capsys)
    assert told in report
    assert "wanted" not in report


def _appended(states, lengths, gamma, state):
    before = []
    for own, length in zip(states, lengths, strict=True):
        before.append(state)
        state = gamma**length * state + own
    return before, state


def _from_the_piece_before(states, lengths, gamma, state):
    before = np.zeros_like(states)
    before[0] = state
    for i in range(1, len(states)):
        before[i] = gamma ** lengths[i - 1] * before[i - 1] + states[i - 1]
    return before, gamma ** lengths[-1] * before[-1] + states[-1]


def _last_apart(states, lengths, gamma, state):
    before, _ = join_pieces(states, lengths, gamma, state)
    return before, gamma ** lengths[-1] * before[-1] + states[-1]


def _appended_one_more(states, lengths, gamma, state):
    before, after = _appended(states[:-1], lengths[:-1], gamma, state)
    before = [*before, after] if len(states) else []
    return join_pieces(states, lengths, gamma, state)[0], gamma ** [*lengths][-1] * before[-1] + states[-1]


NO_PIECE = {
    "np.array": (lambda *a: (np.array(_appended(*a)[0]), _appended(*a)[1]), "np.array([]) has shape (0,)"),
    "np.stack": (lambda *a: (np.stack(_appended(*a)[0]), _appended(*a)[1]), "which np.stack refuses"),
    "a first piece": (_from_the_piece_before, "there is none at index 0"),
    "a last piece": (_last_apart, "there is none at index -1"),
    "a last entry": (_appended_one_more, "your list is empty and has no last entry"),
}


@pytest.mark.parametrize(("function", "told"), NO_PIECE.values(), ids=NO_PIECE)
def test_what_fails_without_a_piece_is_named(function, told, capsys):
    report = report_of("join_pieces", function, capsys)
    assert report.count("FAIL") == 1
    assert "FAIL no piece at all (N = 0) with no piece" in report
    assert told in report
