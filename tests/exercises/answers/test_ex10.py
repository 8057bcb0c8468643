"""Exercise 10 against the gradients of the package, against differences, and the code in its notebook, mended."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from one_head import assert_close

import exercises
from exercises import check
from exercises.answers.ex10 import (
    BACKWARD,
    CHUNKS,
    EPS,
    GAMMA,
    STEPS,
    best_steps,
    chunks_backward,
    gamma_gradient,
    retention_backward,
)
from refimpl import retention_recurrent
from refimpl.backward import retention_chunkwise_backward, retention_parallel_backward, retention_recurrent_backward


def draw(time, key_dim=3, value_dim=5):
    """q, k, v, grad_out, state and grad_state of one head."""
    random = np.random.default_rng(time)
    shapes = (
        *[(time, key_dim)] * 2,
        *[(time, value_dim)] * 2,
        *[(key_dim, value_dim)] * 2,
    )
    return [random.standard_normal(shape) for shape in shapes]


def of_package(backward, q, k, v, gamma, grad_out, state, grad_state, **more):
    q, k, v, grad_out, state, grad_state = (
        None if x is None else x[None, None] for x in (q, k, v, grad_out, state, grad_state)
    )
    grads = backward(q, k, v, np.array([gamma]), grad_out, state, grad_state, **more)
    return tuple(grad[0, 0] for grad in grads)


def cell(name):
    (path,) = Path(exercises.__file__).parent.glob("ex10_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "".join(next(one["source"] for one in cells if one["id"] == name))


@pytest.mark.parametrize("backward", [retention_recurrent_backward, retention_parallel_backward])
@pytest.mark.parametrize("gamma", [1e-3, 0.9, 1.0])
@pytest.mark.parametrize("time", [0, 1, 13])
def test_gradients_are_those_of_the_package(time, gamma, backward):
    q, k, v, grad_out, state, grad_state = draw(time)
    for before, after in ((state, grad_state), (None, grad_state), (state, None), (None, None)):
        arguments = q, k, v, gamma, grad_out, before, after
        assert_close(retention_backward(*arguments), of_package(backward, *arguments))


@pytest.mark.parametrize("chunk_size", [1, 4, 20])
@pytest.mark.parametrize("time", [0, 1, 13])
def test_gradients_of_chunks_are_those_of_the_package(time, chunk_size):
    q, k, v, *rest = draw(time)
    arguments = q, k, v, 0.9, *rest
    got = chunks_backward(*arguments, chunk_size)
    assert_close(got, of_package(retention_chunkwise_backward, *arguments, chunk_size=chunk_size))
    assert_close(got, retention_backward(*arguments))


def _loss(q, k, v, gamma, grad_out, state, grad_state):
    """The loss of each head, of the package's recurrent form."""
    out, last = retention_recurrent(q[None], k[None], v[None], gamma, state[None])
    return np.sum(out[0] * grad_out, axis=(1, 2)) + np.sum(last[0] * grad_state, axis=(1, 2))


def test_gradients_of_gamma_are_those_of_a_polynomial_fitted_to_the_loss():
    random, heads, time = np.random.default_rng(1), 4, 5
    q, k = random.standard_normal((2, heads, time, 3))
    v, grad_out = random.standard_normal((2, heads, time, 2))
    state, grad_state = random.standard_normal((2, heads, 3, 2))
    gamma = np.array([0.3, 0.6, 0.9, 1.0])
    exact, measured = gamma_gradient(q, k, v, gamma, grad_out, state, grad_state, 2.0**-13)
    nodes = np.linspace(0.2, 1.0, time + 1)  # the loss is a polynomial of degree T in gamma
    losses = np.array([_loss(q, k, v, np.full(heads, at), grad_out, state, grad_state) for at in nodes])
    for head in range(heads):
        fitted = np.polynomial.Polynomial.fit(nodes, losses[:, head], time).deriv()
        np.testing.assert_allclose(exact[head], fitted(gamma[head]), rtol=1e-9)
    np.testing.assert_allclose(measured, exact, rtol=1e-6)


def _loss_of_pairs(q, k, v, gamma, grad_out, state, grad_state):
    """The loss of each head (H,), pair by pair of tokens; gamma may exceed 1, which the package refuses."""
    heads, time = q.shape[:2]
    loss = np.zeros(heads)
    for h in range(heads):
        power = [gamma[h] ** n for n in range(time + 1)]
        last = power[time] * state[h] + sum(power[time - 1 - m] * np.outer(k[h, m], v[h, m]) for m in range(time))
        loss[h] = np.sum(last * grad_state[h])
        for n in range(time):
            loss[h] += power[n + 1] * (q[h, n] @ state[h] @ grad_out[h, n])
            loss[h] += sum(power[n - m] * (q[h, n] @ k[h, m]) * (v[h, m] @ grad_out[h, n]) for m in range(n + 1))
    return loss


@pytest.mark.parametrize("one", GAMMA.checks, ids=lambda one: one.name)
def test_the_measured_gradient_of_gamma_is_that_of_losses_pair_by_pair(one):
    q, k, v, gamma, grad_out, state, grad_state, step = one.inputs.values()
    np.testing.assert_allclose(
        _loss_of_pairs(q, k, v, gamma, grad_out, state, grad_state),
        _loss(q, k, v, gamma, grad_out, state, grad_state),
        rtol=1e-12,
    )
    up, down = (_loss_of_pairs(q, k, v, at, grad_out, state, grad_state) for at in (gamma + step, gamma - step))
    np.testing.assert_allclose(GAMMA.solution(*one.inputs.values())[1], (up - down) / (2 * step), rtol=1e-9)


def test_the_hints_say_what_the_losses_are():
    q, k, v, gamma, grad_out, state, grad_state, step = GAMMA.checks[0].inputs.values()
    losses = [
        _loss(q, k, v, at, grad_out, state, grad_state).item() for at in (gamma, gamma + step, gamma - step, 2 * gamma)
    ]
    assert losses == [13.5, 19.0, 9.5, 26.0]  # 12 gamma^2 + 7 gamma + 7
    exact, measured = GAMMA.solution(*GAMMA.checks[0].inputs.values())
    assert (exact.item(), measured.item()) == (19.0, 19.0)
    assert [grad.ravel().tolist() for grad in BACKWARD.solution(*BACKWARD.checks[0].inputs.values())] == [
        [3.0, 3.5], [2.5, 6.0], [2.5, 3.0], [1.25],
    ]  # fmt: skip


def test_the_code_in_the_notebook_has_two_mistakes_that_one_chunk_hides():
    code = re.search(r"```python\n(.*?)```", cell("somebodys-code"), re.DOTALL).group(1)
    one = code.replace("+ vc @ last.T", "+ gamma ** (c - j) * (vc @ last.T)")
    both = one.replace("last = qc.T @ (gamma**j * gc)", "last = qc.T @ (gamma**j * gc) + gamma**c * last")
    assert code != one != both
    functions = []
    for source in (code, one, both):
        exec(source, namespace := {"np": np})
        functions.append(namespace["somebodys_backward"])
    broken, half, mended = functions
    for one_check in CHUNKS.checks:
        arguments = tuple(one_check.inputs.values())
        wanted = chunks_backward(*arguments)
        assert_close(mended(*arguments), wanted, max(1e-12, 10 * one_check.tolerance))
    q, k, v, grad_out, state, grad_state = draw(7)
    unused = q, k, v, 0.9, grad_out, state, 0.0 * grad_state
    assert_close(broken(*unused, 7), chunks_backward(*unused, 7))
    for function in (broken, half):
        for arguments in ((*unused[:6], grad_state, 3), (*unused[:6], grad_state, 7), (*unused, 2)):
            assert not all(
                np.allclose(*pair) for pair in zip(function(*arguments), chunks_backward(*arguments), strict=True)
            )


@pytest.mark.parametrize(("name", "kept"), [("the code as it stands", ()), ("cut after one chunk", ("vc @ last.T",))])
def test_the_code_in_the_notebook_is_a_named_wrong_answer(name, kept, capsys):
    code = re.search(r"```python\n(.*?)```", cell("somebodys-code"), re.DOTALL).group(1)
    for term in kept:
        code = code.replace(term, f"gamma ** (c - j) * ({term})")
    exec(code, namespace := {"np": np})
    exec("check('ex10', 'chunks_backward')", {"check": check, "chunks_backward": namespace["somebodys_backward"]})
    (message,) = (one.message for one in CHUNKS.wrong_answers if one.name == name)
    report = " ".join(capsys.readouterr().out.split())
    assert message in report
    assert not any(word in report for word in ("wanted", "raised", "Hint"))


@pytest.mark.parametrize("lag", [3, 8, 64])
def test_predicted_steps_have_the_least_bound(lag):
    gamma = np.linspace(0.1, 1.0, 7)
    one_sided, central = best_steps(gamma, lag, np.array([1e-6]))[0]
    f, second, third = (
        gamma**lag,
        lag * (lag - 1) * gamma ** (lag - 2),
        lag * (lag - 1) * (lag - 2) * gamma ** (lag - 3),
    )

    def bounds(one, other):
        return EPS * f / one + one * second / 2, EPS * f / (2 * other) + other**2 * third / 6

    least = bounds(one_sided, central)
    for factor in (0.9, 0.99, 1.01, 1.1):
        for near, best in zip(bounds(factor * one_sided, factor * central), least, strict=True):
            assert np.all(near > best)


POWERS = {
    "**": lambda x, lag: x**lag,
    "a float": lambda x, lag: x ** float(lag),
    "logarithms": lambda x, lag: np.exp(lag * np.log(x)),
    "products": lambda x, lag: np.prod([x] * lag, axis=0),
}


@pytest.mark.parametrize("one", STEPS.checks, ids=lambda one: one.name)
@pytest.mark.parametrize("power", POWERS.values(), ids=POWERS)
def test_the_measured_step_is_the_best_by_far_however_the_power_is_computed(power, one):
    gamma, lag, steps = one.inputs.values()
    errors = []
    for h in steps.tolist():
        up, here, down = (power(at, lag) for at in (gamma + h, gamma, gamma - h))
        slopes = np.array([(up - here) / h, (up - down) / (2 * h)])
        errors.append(np.sqrt(np.mean((slopes - lag * gamma ** (lag - 1)) ** 2, axis=1)))
    errors = np.array(errors)
    assert steps[errors.argmin(axis=0)].tolist() == best_steps(gamma, lag, steps)[1].tolist()
    best, next_best = np.sort(errors, axis=0)[:2]
    assert np.all(next_best > 2.5 * best)


def test_what_the_notebook_says_of_the_best_steps():
    gamma, lag = 0.9, 20
    one_sided, central = best_steps(np.array([gamma]), lag, np.array([1e-6]))[0].ravel()
    slope = lag / gamma  # of f
    second, third = lag * (lag - 1) / gamma**2, lag * (lag - 1) * (lag - 2) / gamma**3
    shares = (EPS / one_sided + one_sided * second / 2) / slope, (EPS / 2 / central + central**2 * third / 6) / slope
    for share in shares:
        digits, exponent = f"{share:.1e}".split("e")
        assert rf"{digits} \cdot 10^{{{int(exponent)}}}" in cell("end")
    assert [round(-np.log10(share)) for share in shares] == [8, 11]  # of 16 digits


# What a mistake is told, in several ways to make it.


def _in_place(q, k, v, gamma, grad_out, state, grad_state):
    S = np.zeros((q.shape[1], v.shape[1])) if state is None else state.copy()
    R = np.zeros((q.shape[1], v.shape[1])) if grad_state is None else grad_state
    dq, dk, dv = np.zeros(q.shape), np.zeros(k.shape), np.zeros(v.shape)
    for n in range(len(q)):
        S = gamma * S + np.outer(k[n], v[n])
        dq[n] = S @ grad_out[n]
    for n in range(len(q) - 1, -1, -1):
        R += np.outer(q[n], grad_out[n])
        dk[n], dv[n] = R @ v[n], R.T @ k[n]
        R *= gamma
    return dq, dk, dv, R


def test_a_gradient_changed_in_place_is_named(capsys):
    exec("check('ex10', 'retention_backward')", {"check": check, "retention_backward": _in_place})
    report = " ".join(capsys.readouterr().out.split())
    assert report.count("FAIL") == 1
    assert "you changed the caller's grad_state in place" in report
