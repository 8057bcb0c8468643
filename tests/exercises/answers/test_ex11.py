"""Exercise 11 against the package and its conformance suite, against arrays of the sizes, and against counting one by one."""

import json
from pathlib import Path

import numpy as np
import pytest
from one_head import assert_close

import exercises
from exercises import check
from exercises.answers.ex11 import CHUNK, KERNEL, RATE, best_chunk, decode_rate, retention_kernel
from refimpl import retention_chunkwise
from refimpl.bench.roof import KEY_DIM, TIME, VALUE_DIM
from refimpl.compiled.one_head import compile_one_head
from refimpl.conformance import check as conforms


@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
@pytest.mark.parametrize(("time", "chunk_size"), [(0, 3), (1, 1), (13, 4), (12, 4), (5, 40)])
def test_the_kernel_is_the_package_s_form(time, chunk_size, gamma):
    random = np.random.default_rng(time)
    q, k = random.standard_normal((2, time, 3))
    v, state = random.standard_normal((time, 5)), random.standard_normal((3, 5))
    got = retention_kernel(q, k, v, gamma, state, chunk_size)
    batch = (x[None, None] for x in (q, k, v))
    wanted = retention_chunkwise(*batch, np.array([gamma]), state[None, None], chunk_size=chunk_size)
    assert_close(got, tuple(x[0, 0] for x in wanted))


def test_the_kernel_conforms_when_numba_has_compiled_it():
    report = conforms(compile_one_head(retention_kernel), gradients=False, chunk_sizes=(1, 7), nan_reach=63)
    assert report.passed


@pytest.mark.parametrize("one", RATE.checks, ids=lambda one: one.name)
def test_the_rate_is_that_of_one_step_counted_part_by_part(one):
    batch, weights, state, bits, peak, bandwidth = one.inputs.values()
    rate, limit = decode_rate(*one.inputs.values())
    for texts, got in zip(batch.tolist(), rate.tolist(), strict=True):
        flops = moved = 0.0
        moved += weights * bits[0] / 8
        for _ in range(int(texts)):
            flops += 2 * weights + 5 * state
            moved += state * bits[1] / 8 + state * bits[1] / 8
        assert got == pytest.approx(texts / max(flops / peak, moved / bandwidth), rel=1e-11)
        assert got < min(limit) * (1 + 1e-12)
    many = np.array([1e15])
    assert decode_rate(many, weights, state, bits, np.inf, bandwidth)[0] == pytest.approx(limit[:1], rel=1e-6)
    assert decode_rate(many, weights, state, bits, peak, np.inf)[0] == pytest.approx(limit[1:], rel=1e-12)


def test_some_checks_are_held_back_by_memory_and_some_by_arithmetic():
    held = set()
    for one in RATE.checks:
        rate, _ = decode_rate(*one.inputs.values())
        weights, state, peak = (one.inputs[name] for name in ("weights", "state", "peak"))
        held |= set(np.isclose(rate, peak / (2 * weights + 5 * state)).tolist())
    assert held == {True, False}


@pytest.mark.parametrize("one", CHUNK.checks, ids=lambda one: one.name)
def test_the_best_chunk_is_that_of_counting_one_by_one(one):
    time, per_chunk, per_score = one.inputs.values()
    for length, size, cost in zip(time.tolist(), *best_chunk(*one.inputs.values()), strict=True):
        costs = []
        for C in range(1, int(length) + 1):
            chunks = len(range(0, int(length), C))
            scores = sum(n % C + 1 for n in range(int(length)))
            costs.append(chunks * per_chunk + scores * per_score)
        assert (size, cost) == (1 + np.argmin(costs), min(costs))


def test_what_the_hints_say_by_hand():
    out, state = KERNEL.solution(*KERNEL.checks[0].inputs.values())
    assert (out.ravel().tolist(), state.item()) == ([8.0, 12.0, 8.0], 8.0)
    rate, _ = RATE.solution(*RATE.checks[0].inputs.values())
    np.testing.assert_allclose(1 / rate, [0.024, 0.028 / 2])
    _, per_chunk, per_score = CHUNK.checks[0].inputs.values()
    costs = [-(-6 // C) * per_chunk + sum(n % C + 1 for n in range(6)) * per_score for C in range(1, 7)]
    assert costs == [42, 27, 24, 25, 28, 27]


def test_what_the_notebook_says_of_powers():
    (path,) = Path(exercises.__file__).parent.glob("ex11_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (text,) = ("".join(cell["source"]) for cell in cells if cell["id"] == "end")
    assert f"$T K V$ = {TIME * KEY_DIM * VALUE_DIM:,} powers" in text
    assert "$C + 1 = 65$" in text


# What a mistake is told, in several ways to make it.


def report_of(name, function, capsys):
    exec(f"check('ex11', '{name}')", {"check": check, name: function})
    return " ".join(capsys.readouterr().out.split())


def _state_in_place(q, k, v, gamma, state, chunk_size):
    out = np.zeros(v.shape)
    for n in range(len(q)):
        for i in range(q.shape[1]):
            for j in range(v.shape[1]):
                state[i, j] = gamma * state[i, j] + k[n, i] * v[n, j]
                out[n, j] += q[n, i] * state[i, j]
    return out, state


def test_a_state_changed_in_place_is_named(capsys):
    report = report_of("retention_kernel", _state_in_place, capsys)
    assert report.count("FAIL") >= 1
    assert "you changed the caller's state" in report


def _with_loops_of_its_own(q, k, v, gamma, state, chunk_size):
    """The state first, from a copy, and outputs after it."""
    T, out, S = len(q), np.zeros(v.shape), state.copy()
    for start in range(0, T, chunk_size):
        end = min(start + chunk_size, T)
        S = S * gamma ** (end - start)
        for m in range(start, end):
            S = S + gamma ** (end - 1 - m) * np.outer(k[m], v[m])
        for n in range(start, end):
            out[n] = gamma ** (n - start + 1) * (q[n] @ S)
            for m in range(start, n + 1):
                out[n] += gamma ** (n - m) * (q[n] @ k[m]) * v[m]
    return out, S


def test_outputs_from_the_state_after_are_named(capsys):
    report = report_of("retention_kernel", _with_loops_of_its_own, capsys)
    assert "your outputs read the state after the chunk" in report
    assert not any(word in report for word in ("wanted", "raised", "Hint"))


def test_numbers_for_arrays_are_told(capsys):
    report = report_of("best_chunk", lambda time, a, b: best_chunk(time, a, b)[0].astype(int), capsys)
    assert "it must return a tuple of 2 arrays" in report
