"""What retention does in the traces, graphs and autocast of array libraries: nothing is stopped, nothing is changed."""

import contextlib
import warnings

import numpy as np
import pytest
import torch

import refimpl
from refimpl import retention_chunkwise, retention_parallel, retention_recurrent, retention_step
from refimpl.libraries import values_are_trusted, values_trusted

FORMS = {
    "parallel": retention_parallel,
    "recurrent": retention_recurrent,
    "chunkwise": lambda *args: retention_chunkwise(*args, chunk_size=4),
}
BAD = r"gamma must lie in \(0, 1\], got 1.5 at head 1"


def arrays(time=5, heads=2):
    """q, k, v, gamma and a state, float64."""
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((2, 2, heads, time, 4))
    v, state = rng.standard_normal((2, heads, time, 3)), rng.standard_normal((2, heads, 4, 3))
    return q, k, v, np.array([0.9, 0.5])[:heads], state


def tensors(**kwargs):
    return [torch.from_numpy(x) for x in arrays(**kwargs)]


@pytest.fixture
def jax():
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield jax


def jax_arrays(jax):
    return [jax.numpy.asarray(x) for x in arrays()]


def both(result):
    return [np.asarray(x) for x in result]


def equal(got, want):
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FORMS)
class TestTorch:
    def test_a_plain_call_is_one_compiled_graph(self, name):
        def function(q, k, v, gamma, state):
            return FORMS[name](q, k, v, gamma, state)

        torch.compiler.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = torch.compile(function, fullgraph=True, backend="aot_eager")(*tensors())
        equal(got, FORMS[name](*arrays()))

    def test_a_plain_call_is_exported_and_still_refuses_a_bad_gamma(self, name):
        class Module(torch.nn.Module):
            def forward(self, *args):
                return FORMS[name](*args)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(Module(), tuple(tensors())).module()
        q, k, v, gamma, state = tensors()
        equal(program(q, k, v, gamma, state), FORMS[name](*arrays()))
        with pytest.raises(RuntimeError, match="gamma must lie in"):
            program(q, k, v, torch.tensor([0.9, 1.5], dtype=torch.float64), state)

    def test_vmap_over_everything_and_over_gamma(self, name):
        q, k, v, gamma, state = tensors()
        gammas = torch.stack([gamma, gamma / 2])
        twice = [torch.stack([x, 2 * x]) for x in (q, k, v)]
        got = torch.func.vmap(FORMS[name])(*twice, gammas, torch.stack([state] * 2))
        equal((x[1] for x in got), FORMS[name](2 * q, 2 * k, 2 * v, gamma / 2, state))

    def test_derivatives_by_functions(self, name):
        q, k, v, gamma, state = tensors()
        loss = lambda gamma, q: FORMS[name](q, k, v, gamma, state)[0].square().sum()  # noqa: E731
        got = torch.func.grad(loss, argnums=(0, 1))(gamma, q)
        gamma, q = gamma.clone().requires_grad_(), q.clone().requires_grad_()
        equal(got, torch.autograd.grad(loss(gamma, q), (gamma, q)))

    def test_a_bad_gamma_is_refused_at_once_on_the_cpu(self, name):
        q, k, v, _, state = tensors()
        for bad in (torch.tensor([0.9, 1.5]), torch.tensor([0.9, 1.5], requires_grad=True)):
            with pytest.raises(ValueError, match=BAD):
                FORMS[name](q, k, v, bad, state)

    def test_autocast_changes_nothing(self, name):
        q, k, v, gamma, state = (x.float() for x in tensors(time=40))
        want = FORMS[name](q, k, v, gamma, state)
        with torch.autocast("cpu", torch.bfloat16):
            got = FORMS[name](q, k, v, gamma, state)
            as_keywords = retention_chunkwise(chunk_size=40, state=state, k=k, q=q, v=v, gamma=gamma)
        for one, other in zip((*got, *as_keywords), (*want, *want), strict=True):
            assert one.dtype == torch.float32
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
        assert all(torch.equal(one, other) for one, other in zip(got, want, strict=True))


@pytest.mark.parametrize("name", FORMS)
class TestJax:
    def test_jit_vmap_and_gradients(self, jax, name):
        given, form, want = jax_arrays(jax), FORMS[name], FORMS[name](*arrays())
        equal(form(*given), want)
        twice = [jax.numpy.stack([x, x / 2]) for x in given]
        loss = lambda *args: sum((x**2).sum() for x in form(*args))  # noqa: E731
        gradients = jax.grad(loss, argnums=(0, 1, 2, 3, 4))
        # In one graph, which is compiled once.
        mapped, jitted, slopes = jax.jit(
            lambda given, twice: (jax.vmap(form)(*twice), form(*given), gradients(*given))
        )(given, twice)
        equal(jitted, want)
        equal((x[1] for x in mapped), form(*(np.asarray(x) / 2 for x in given)))
        leaves = [x.requires_grad_() for x in tensors()]
        equal(slopes, torch.autograd.grad(sum((x**2).sum() for x in form(*leaves)), leaves))

    def test_a_bad_gamma_is_refused_where_it_has_values(self, jax, name):
        q, k, v, _, state = jax_arrays(jax)
        with pytest.raises(ValueError, match=BAD):
            FORMS[name](q, k, v, jax.numpy.asarray([0.9, 1.5]), state)


def test_a_step_is_traced_too(jax):
    q, k, v, gamma, state = jax_arrays(jax)
    token = [x[:, :, :1] for x in (q, k, v)]
    equal(jax.jit(retention_step)(*token, gamma, state), retention_step(*token, gamma, state))


def test_a_model_is_one_compiled_graph_and_refuses_bad_tokens():
    config = refimpl.RetNetConfig(vocab_size=7, dim=8, num_layers=1, num_heads=2)
    params = refimpl.tree.map_tree(lambda _, x: torch.from_numpy(x), refimpl.init_params(config))
    tokens = torch.tensor([[1, 2, 3]])

    def logits(tokens):
        return refimpl.forward(params, tokens, config, retention=retention_chunkwise)[0]

    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(logits, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(tokens), logits(tokens))
        with pytest.raises(RuntimeError, match=r"tokens must lie in \[0, 7\)"):
            compiled(torch.tensor([[1, 2, 9]]))
    with pytest.raises(ValueError, match=r"tokens must lie in \[0, 7\), got 9"):
        logits(torch.tensor([[1, 2, 9]]))


def test_threads_may_leave_the_trust_in_any_order():
    first, second = values_trusted(), values_trusted()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert values_are_trusted()
    second.__exit__(None, None, None)
    assert not values_are_trusted()


@pytest.mark.parametrize("place", ["q", "k", "v"])
@pytest.mark.parametrize(("name", "first_spoilt"), [("recurrent", 5), ("chunkwise", 4), ("parallel", 0)])
def test_what_a_nan_spoils(name, first_spoilt, place):
    """As the contract in `refimpl.retention` says: a NaN in q its own token; one in k or v all that follows, and its chunk."""
    q, k, v, gamma, state = arrays(time=11)
    clean, _ = FORMS[name](q, k, v, gamma, state)
    {"q": q, "k": k, "v": v}[place][:, :, 5] = np.nan
    out, after = FORMS[name](q, k, v, gamma, state)
    spoilt = np.isnan(out).any(axis=(0, 1, 3))
    if place == "q":
        assert list(np.flatnonzero(spoilt)) == [5]
        assert np.isfinite(after).all()
        return
    assert list(np.flatnonzero(spoilt)) == list(range(first_spoilt, 11))
    np.testing.assert_allclose(out[:, :, :first_spoilt], clean[:, :, :first_spoilt], rtol=0, atol=1e-12)
    assert np.isnan(after).all()


def test_inputs_of_another_layout_are_recognised():
    q, k, v, gamma, state = arrays()
    turned = [x.swapaxes(1, 2) for x in (q, k, v)]
    with pytest.raises(
        ValueError, match=r"q must have axes \(batch, heads, time, key_dim\), .* for 2 heads: swap axes 1 and 2"
    ):
        retention_parallel(*turned, gamma, state)
    for name in ("k", "v"):
        mixed = {"q": q, "k": k, "v": v, "gamma": gamma} | {name: {"k": k, "v": v}[name].swapaxes(1, 2)}
        with pytest.raises(ValueError, match=f"^{name} must have shape .*; its axes 1 and 2 are swapped"):
            retention_parallel(**mixed)


def test_the_parallel_form_refuses_what_memory_cannot_hold():
    long = np.broadcast_to(np.zeros(1, np.float32), (1, 1, 2_000_000, 1))
    with pytest.raises(MemoryError, match=r"q must be a shorter text .* 2,000,000 tokens: .* GiB; retention_chunkwise"):
        retention_parallel(long, long, long, np.array([0.9]))


@pytest.mark.parametrize(("dtype", "needed"), [(np.float64, 3400), (np.float32, 1900), (np.float16, 1900)])
def test_the_parallel_form_takes_what_memory_just_holds(dtype, needed, monkeypatch):
    """5^2 cells, each with 2 scores in 2 rows of 3 heads, 3 decays, in the dtype of the state, and 16 bytes."""
    q, k, v, _, _ = (x.astype(dtype) for x in arrays(time=5, heads=3))
    for page, fits in ((needed // 10, True), (needed // 10 - 1, False)):
        monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": page, "SC_PHYS_PAGES": 10}.get)
        with contextlib.nullcontext() if fits else pytest.raises(MemoryError):
            retention_parallel(q, k, v, np.array([0.9, 0.7, 0.5]))
