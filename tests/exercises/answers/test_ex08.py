"""Exercise 8 against the package: its norm, its row sums, and the parallel form with normalised scores."""

import json
import re
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest

import exercises
from exercises import check
from exercises.answers.ex08 import CHUNK, NEAR_ONE, group_norm, norm_change, normalised_chunk, normalised_step
from refimpl import decay_mask, head_decays, retention_parallel
from refimpl.layers import rms_norm
from refimpl.score_norm import row_sums


@pytest.mark.parametrize("eps", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("time", [0, 1, 5])
def test_the_norm_is_that_of_the_package(time, eps):
    y = np.random.default_rng(time).standard_normal((3, time, 6))
    np.testing.assert_allclose(group_norm(y, eps), rms_norm(y, eps=eps), rtol=1e-14)


@pytest.mark.parametrize("eps", [0.0, 1e-6, 1e-2, 10.0])
def test_the_change_is_that_of_the_norm_of_the_package(eps):
    random = np.random.default_rng(0)
    y, divisor = random.standard_normal((2, 5, 4)), random.uniform(0.1, 30.0, (2, 5))
    after, before = rms_norm(y / divisor[:, :, None], eps=eps), rms_norm(y, eps=eps)
    change = norm_change(y, divisor, eps)[:, :, None]
    np.testing.assert_allclose(after, (1 + change) * before, rtol=1e-12)


@pytest.mark.parametrize("by", [3.0, NEAR_ONE, 1 + 1e-8, 1 - 1e-12])
@pytest.mark.parametrize("eps", [2.0**-40, 1.0])
def test_a_small_change_is_right_to_the_last_digits(eps, by):
    y, divisor = np.full((1, 1, 4), 8.0), np.array([[by]])
    with localcontext(prec=50):
        mean_square, exact = Decimal(64), Decimal(eps)
        wanted = ((mean_square + exact) / (mean_square + Decimal(by) ** 2 * exact)).sqrt() - 1
    np.testing.assert_allclose(norm_change(y, divisor, eps), [[float(wanted)]], rtol=1e-14)


def test_steps_give_the_parallel_form_with_normalised_scores():
    heads, time, key_dim, value_dim = 3, 40, 4, 5
    random, gamma = np.random.default_rng(1), np.append(head_decays(heads - 1), 1.0)
    q, k = random.standard_normal((2, heads, time, key_dim))
    v = random.standard_normal((heads, time, value_dim))
    outs, sums = np.zeros_like(v), np.zeros((heads, time))
    state, row_sum = np.zeros((heads, key_dim, value_dim)), np.zeros(heads)
    for n in range(time):
        outs[:, n], state, row_sum = normalised_step(q[:, n], k[:, n], v[:, n], gamma, state, row_sum)
        sums[:, n] = row_sum
    np.testing.assert_allclose(sums, row_sums(gamma, time), rtol=1e-12)
    np.testing.assert_allclose(sums, decay_mask(gamma, time).sum(axis=-1), rtol=1e-12)
    out, end = retention_parallel(q[None], k[None], v[None], gamma)
    np.testing.assert_allclose(outs, out[0] / np.sqrt(sums)[:, :, None], rtol=0, atol=1e-12)
    np.testing.assert_allclose(state, end[0], rtol=0, atol=1e-12)


def test_the_change_that_the_notebook_quotes():
    gamma = head_decays(1)
    assert row_sums(gamma, 2000)[0, -1] == pytest.approx(32, rel=1e-12)
    change = norm_change(np.full((1, 1, 8), 0.004), np.array([[np.sqrt(32)]]), 1e-6)
    assert round(change[0, 0], 2) == -0.40


def report_of(name, function, capsys):
    exec(f"check('ex08', '{name}')", {"check": check, name: function})
    return " ".join(capsys.readouterr().out.split())


ROUNDED = {
    "a root of a ratio": lambda ms, d, eps: np.sqrt((ms + eps) / (ms + eps * d**2)) - 1,
    "a ratio of roots": lambda ms, d, eps: np.sqrt(ms + eps) / np.sqrt(ms + eps * d**2) - 1,
    "the divisor outside": lambda ms, d, eps: np.sqrt(ms + eps) / (d * np.sqrt(ms / d**2 + eps)) - 1,
}


@pytest.mark.parametrize("change", ROUNDED.values(), ids=ROUNDED)
def test_a_rounded_change_fails_a_visible_check_by_name(change, capsys):
    report = report_of("norm_change", lambda y, d, eps: change(np.mean(y * y, axis=-1), d, eps), capsys)
    assert report.count("FAIL") == 2
    assert "FAIL a small change, to ten digits you subtracted 1 from a ratio close to 1" in report
    assert "FAIL a divisor near 1, to ten digits the same mistake" in report


NEAR = {
    "expm1": (lambda x: np.expm1(0.5 * np.log1p(x)), "write it as (1 - d)(1 + d)"),
    "a quotient": (lambda x: x / (np.sqrt(1 + x) + 1), "write it as (1 - d)(1 + d)"),
    "a root": (lambda x: np.sqrt(1 + x) - 1, "sqrt(1 + x) - 1 loses its digits again"),
}


@pytest.mark.parametrize(("root", "told"), NEAR.values(), ids=NEAR)
@pytest.mark.parametrize("power", [lambda d: d**2, lambda d: d * d])
def test_the_square_of_a_divisor_near_1_is_named(power, root, told, capsys):
    def change(y, d, eps):
        return root(eps * (1 - power(d)) / (np.mean(y * y, axis=-1) + eps * power(d)))

    report = report_of("norm_change", change, capsys)
    assert told in report
    assert "wanted" not in report


def test_dividing_by_the_old_row_sum_is_named(capsys):
    def step(q, k, v, gamma, state, row_sum):
        out, after, new = normalised_step(q, k, v, gamma, state, row_sum)
        return out * np.sqrt(new / row_sum)[:, None], after, new

    report = report_of("normalised_step", step, capsys)
    assert "you divided by the root of r_(n-1), which is 0 before the first token" in report
    assert "Hint" not in report


@pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (5, 2, 7)])
@pytest.mark.parametrize("gamma", [0.5, 31 / 32, 1.0])
def test_chunks_give_what_steps_give(gamma, lengths):
    random = np.random.default_rng(lengths)
    q, k = random.standard_normal((2, sum(lengths), 3))
    v = random.standard_normal((sum(lengths), 2))
    state, row_sum, one, one_sum, start = np.zeros((3, 2)), 0.0, np.zeros((1, 3, 2)), np.zeros(1), 0
    for length in lengths:
        part = slice(start, start + length)
        out, state, sums = normalised_chunk(q[part], k[part], v[part], gamma, state, row_sum)
        row_sum, start = sums[-1], start + length
        for n in range(length):
            token = part.start + n
            wanted, one, one_sum = normalised_step(
                q[token][None], k[token][None], v[token][None], np.array([gamma]), one, one_sum
            )
            np.testing.assert_allclose(out[n], wanted[0], rtol=0, atol=1e-12)
            np.testing.assert_allclose(sums[n], one_sum[0], rtol=1e-12)
        np.testing.assert_allclose(state, one[0], rtol=0, atol=1e-12)


def test_the_code_in_the_notebook_has_two_mistakes_that_a_first_chunk_hides():
    (path,) = Path(exercises.__file__).parent.glob("ex08_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "".join(next(cell["source"] for cell in cells if cell["id"] == "somebodys-code"))
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    mended = code.replace("row_sum + D", "gamma ** j[:, 0] * row_sum + D").replace("state / root[-1]", "state")
    functions = []
    for source in (code, mended):
        exec(source, namespace := {"np": np})
        functions.append(namespace["somebodys_chunk"])
    for one in CHUNK.checks:
        arguments = tuple(one.inputs.values())
        wanted, (broken, right) = normalised_chunk(*arguments), (function(*arguments) for function in functions)
        for came, expected in zip(right, wanted, strict=True):
            np.testing.assert_allclose(came, expected, rtol=0, atol=max(1e-12, one.tolerance))
        assert not np.allclose(broken[1], wanted[1])
        assert np.allclose(broken[0], wanted[0]) == (one.inputs["row_sum"] == 0 or one.inputs["gamma"] == 1)


# What a mistake is told, in several ways to make it.


def _mean_square(y):
    return np.mean(y**2, axis=-1, keepdims=True)


MISPLACED_EPS = {
    "length + eps": (lambda y, eps: y / (np.linalg.norm(y, axis=-1, keepdims=True) + eps), "the length of the row"),
    "root + eps": (lambda y, eps: y / (_mean_square(y) ** 0.5 + eps), "you added eps after the root"),
    "root + root": (lambda y, eps: y / (_mean_square(y) ** 0.5 + eps**0.5), "the root is of their sum"),
    "result + eps": (lambda y, eps: y / _mean_square(y) ** 0.5 + eps, "you added eps to the result"),
    "y + eps": (lambda y, eps: (y + eps) / _mean_square(y) ** 0.5, "you added eps to y before you divided"),
    "square of y + eps": (lambda y, eps: y / _mean_square(y + eps) ** 0.5, "you added eps before you squared"),
    "a floor": (lambda y, eps: y / np.maximum(_mean_square(y), eps) ** 0.5, "you took the larger of the mean square"),
    "a floor of the root": (
        lambda y, eps: y / np.maximum(_mean_square(y) ** 0.5, eps),
        "you took the larger of the root",
    ),
}


@pytest.mark.parametrize(("function", "told"), MISPLACED_EPS.values(), ids=MISPLACED_EPS)
def test_an_eps_in_the_wrong_place_is_named(function, told, capsys):
    report = report_of("group_norm", function, capsys)
    assert "FAIL" in report
    assert told in report
    assert not any(word in report for word in ("wanted", "raised", "Hint", "you forgot eps"))


def test_the_change_of_a_norm_with_eps_outside_is_named(capsys):
    def change(y, divisor, eps):
        root = np.sqrt(np.mean(y * y, axis=-1))
        return (root + eps) / (root + eps * divisor) - 1

    report = report_of("norm_change", change, capsys)
    assert "your c is that of a norm with eps added after the root" in report


def _chunk_with_sums(sums_of, whole=lambda state, row_sum: state):
    def chunk(q, k, v, gamma, state, row_sum):
        j = np.arange(1, len(q) + 1)
        mask = np.tril(gamma ** np.abs(j[:, None] - j))
        sums = sums_of(gamma, j, mask, row_sum)
        old = whole(state, row_sum)
        out = (mask * (q @ k.T)) @ v + gamma ** j[:, None] * (q @ old)
        return out / np.sqrt(sums)[:, None], (k * mask[-1][:, None]).T @ v + gamma ** len(q) * old, sums

    return chunk


TWO_MISTAKES = {
    "cumsum alone": (
        lambda gamma, j, mask, r: np.cumsum(gamma**j),
        "the old r, faded by gamma^j, is missing; and the first token adds gamma, not 1",
    ),
    "cumsum and the old": (
        lambda gamma, j, mask, r: r + np.cumsum(gamma**j),
        "the old r does not fade by gamma^j; and the first token adds gamma, not 1",
    ),
    "columns": (
        lambda gamma, j, mask, r: gamma ** (j - 1) * r + mask.sum(axis=0),
        "the old r fades by gamma^(j-1), not gamma^j; and you sum columns of D, not rows",
    ),
    "counted": (
        lambda gamma, j, mask, r: gamma ** len(j) * r + j,
        "the old r fades by gamma^c for all, not gamma^j; and the ones of the chunk do not fade",
    ),
}


@pytest.mark.parametrize(("sums_of", "told"), TWO_MISTAKES.values(), ids=TWO_MISTAKES)
def test_two_mistakes_in_the_sums_are_both_named(sums_of, told, capsys):
    report = report_of("normalised_chunk", _chunk_with_sums(sums_of), capsys)
    assert f"two mistakes in your sums: {told}" in report


def test_a_state_times_the_old_root_is_named(capsys):
    def sums_of(gamma, j, mask, row_sum):
        return gamma**j * row_sum + mask.sum(axis=1)

    report = report_of(
        "normalised_chunk", _chunk_with_sums(sums_of, lambda state, row_sum: state * np.sqrt(row_sum)), capsys
    )
    assert "you multiplied the old state by its root" in report
    assert "wanted" not in report


def _norm(axis, dtype=np.float64, **more):
    return lambda y, eps: y.astype(dtype) / np.sqrt(np.mean(y.astype(dtype) ** 2, axis=axis, **more) + eps)


def _divides_again(y, d, eps):
    x = eps * (1 - d**2) / (np.mean(y * y, axis=-1) + eps * d**2)
    return np.sqrt(1 + x) / d - 1


def _step(state_of):
    def step(q, k, v, gamma, state, row_sum):
        after, row_sum = state_of(gamma[:, None, None], state, k, v), gamma * row_sum + 1
        return np.einsum("hk,hkv->hv", q, after) / np.sqrt(row_sum)[:, None], after, row_sum

    return step


def _chunk(xi=lambda gamma, j: gamma**j, hand_on=lambda state, root, old: state, old_sum=lambda gamma, j: gamma**j):
    def chunk(q, k, v, gamma, state, row_sum):
        j = np.arange(1, len(q) + 1)
        mask = np.tril(gamma ** np.abs(j[:, None] - j))
        sums = old_sum(gamma, j) * row_sum + mask.sum(axis=1)
        out = (mask * (q @ k.T)) @ v + xi(gamma, j)[:, None] * (q @ state)
        after = (k * mask[-1][:, None]).T @ v + gamma ** len(q) * state
        return out / np.sqrt(sums)[:, None], hand_on(after, np.sqrt(sums[-1]), np.sqrt(row_sum)), sums

    return chunk


WRONG = {
    "no keepdims": ("group_norm", _norm(-1), "keep them as (H, T, 1), with keepdims"),
    "tokens, no keepdims": ("group_norm", _norm((1, 2)), "two mistakes: you took one mean over all tokens"),
    "heads, no keepdims": ("group_norm", _norm((0, 2)), "two mistakes: you took one mean over all heads"),
    "time, no keepdims": ("group_norm", _norm(1), "two mistakes: you averaged over the tokens, axis 1"),
    "float32": ("group_norm", _norm(-1, np.float32, keepdims=True), "your numbers are float32"),
    "the divisor again": ("norm_change", _divides_again, "by the divisor once more"),
    "a mean over heads": (
        "norm_change",
        lambda y, d, eps: norm_change(np.broadcast_to(np.mean(y * y, (0, 2))[:, None] ** 0.5, y.shape), d, eps),
        "you took one mean over all heads",
    ),
    "gamma times both": (
        "normalised_step",
        _step(lambda g, s, k, v: g * (s + k[:, :, None] * v[:, None])),
        "fades the new",
    ),
    "einsum to kv": ("normalised_step", _step(lambda g, s, k, v: g * s + np.einsum("hk,hv->kv", k, v)), "hk,hv->hkv"),
    "gamma^(j-1)": ("normalised_chunk", _chunk(xi=lambda gamma, j: gamma ** (j - 1)), "in out your xi is one step"),
    "the last root": (
        "normalised_chunk",
        _chunk(hand_on=lambda s, root, old: s * root),
        "the state times the last root",
    ),
    "the old root": ("normalised_chunk", _chunk(hand_on=lambda s, root, old: s * old), "the state times the old root"),
    "zeta": ("normalised_chunk", _chunk(old_sum=lambda gamma, j: gamma ** (len(j) - j)), "the old row sum by zeta"),
}


@pytest.mark.parametrize(("name", "function", "told"), WRONG.values(), ids=WRONG)
def test_a_mistake_of_students_is_named(name, function, told, capsys):
    report = report_of(name, function, capsys)
    assert told in report
    assert not any(word in report for word in ("wanted", "raised", "Hint"))
