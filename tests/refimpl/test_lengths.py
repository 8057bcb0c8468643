"""Sequences of different lengths in one call: padded or packed, each gets what it gets alone, to 1e-10."""

import functools
import warnings

import numpy as np
import pytest
import torch
from backends import BACKENDS
from backends import TORCH as TORCH_BACKEND
from ragged import LENGTHS, TIME, at, by_layout, keywords, padding_of, sequences, spans, together

from refimpl import backward, retention_chunkwise, retention_parallel, retention_recurrent
from refimpl.compiled import kernels
from refimpl.conformance.comparison import all_close, close
from refimpl.conformance.libraries import NUMPY
from refimpl.lengths import with_lengths

GAMMA = np.array([0.9, 0.5, 1.0])
FORMS = {
    "parallel": retention_parallel,
    "recurrent": retention_recurrent,
    "chunkwise": functools.partial(retention_chunkwise, chunk_size=4),
}
COMPILED = {
    "recurrent, compiled": kernels.retention_recurrent_numba,
    "chunkwise, compiled": functools.partial(kernels.retention_chunkwise_numba, chunk_size=4),
    "anybody's": with_lengths(lambda q, k, v, gamma: retention_recurrent(q, k, v, gamma)),  # it takes no state
}
BACKWARD = {
    "parallel": backward.retention_parallel_backward,
    "recurrent": backward.retention_recurrent_backward,
    "chunkwise": functools.partial(backward.retention_chunkwise_backward, chunk_size=4),
    "recurrent, compiled": kernels.retention_recurrent_backward_numba,
    "chunkwise, compiled": functools.partial(kernels.retention_chunkwise_backward_numba, chunk_size=4),
}
by_state = pytest.mark.parametrize("with_state", [False, True])


# ---------------------------------------------------------------- retentions


@by_state
@by_layout
@pytest.mark.parametrize("name", FORMS | COMPILED)
def test_each_gets_what_it_gets_alone(name, layout, with_state):
    each = list(sequences(with_state))
    q, k, v, states = together(layout, each)
    out, after = (FORMS | COMPILED)[name](q, k, v, GAMMA, states, **keywords(layout))
    assert (out.shape, after.shape) == (v.shape, (6, 3, 4, 3))
    for s, (place, (q, k, v, state)) in enumerate(zip(spans(layout), each, strict=True)):
        all_close((at(out, place), after[s : s + 1]), retention_recurrent(q, k, v, GAMMA, state))
    assert not padding_of(layout, out).any()


@by_layout
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_every_library_and_every_integer(backend, layout):
    q, k, v, states = together(layout, sequences())
    want = retention_parallel(q, k, v, GAMMA, states, **keywords(layout))
    arrays = [backend.asarray(x) for x in (q, k, v, GAMMA, states)]
    for dtype in ("int32", "uint8"):
        got = retention_chunkwise(*arrays, chunk_size=2, **keywords(layout, backend=backend, dtype=dtype))
        all_close([backend.to_numpy(x) for x in got], want)


def test_lengths_may_be_narrower_than_time():
    """An int8 cannot hold T = 300."""
    q, k, v, _ = next(sequences(False, lengths=(300,)))
    for each in (NUMPY, TORCH_BACKEND):
        arrays = [each.asarray(x) for x in (q, k, v, GAMMA)]
        out, _ = retention_chunkwise(*arrays, lengths=each.asarray(np.array([100]), "int8"))
        close(each.to_numpy(out)[:, :, :100], retention_chunkwise(*(x[:, :, :100] for x in (q, k, v)), GAMMA)[0])


@by_layout
@pytest.mark.parametrize("name", FORMS)
def test_a_nan_spoils_its_own_sequence_alone(name, layout):
    each = list(sequences())
    for x in each[3]:
        x[...] = np.nan
    q, k, v, states = together(layout, each)
    out, after = FORMS[name](q, k, v, GAMMA, states, **keywords(layout))
    for s, place in enumerate(spans(layout)):
        assert np.isfinite(at(out, place)).all() == np.isfinite(after[s]).all() == (s != 3)
    assert not padding_of(layout, out).any()


@by_layout
def test_calls_chain(layout):
    """Each sequence in two parts, split in another place for each."""
    each = list(sequences())
    q, k, v, states = together(layout, each)
    want, end = retention_parallel(q, k, v, GAMMA, states, **keywords(layout))
    first = [n // 2 for n in LENGTHS]
    heads = [(*(x[:, :, :n] for x in tokens), state) for n, (*tokens, state) in zip(first, each, strict=True)]
    q, k, v, states = together(layout, heads)
    _, middle = retention_recurrent(q, k, v, GAMMA, states, **keywords(layout, first))
    tails = [(*(x[:, :, n:] for x in tokens), None) for n, (*tokens, _) in zip(first, each, strict=True)]
    q, k, v, _ = together(layout, tails)
    rest = [n - m for n, m in zip(LENGTHS, first, strict=True)]
    out, after = retention_chunkwise(q, k, v, GAMMA, middle, chunk_size=2, **keywords(layout, rest))
    close(after, end)
    for place, whole, m in zip(spans(layout, rest, max(rest)), spans(layout), first, strict=True):
        close(at(out, place), at(want, whole)[:, :, m:])


def test_a_sequence_of_no_token_keeps_its_state_in_an_array_of_its_own():
    q, k, v, _ = next(sequences(lengths=(5,)))
    state = np.random.default_rng(1).standard_normal((1, 3, 4, 3)).astype(np.float32)
    q, k, v = (x.astype(np.float32) for x in (q, k, v))
    for given in ({"lengths": np.array([0])}, {"lengths": np.array([0]), "padding": "left"}):
        out, after = retention_chunkwise(q, k, v, GAMMA, state, **given)
        assert not out.any()
        assert np.array_equal(after, state)
        assert not np.shares_memory(after, state)
    none = [x[:, :, :0] for x in (q, k, v)]
    for form in FORMS.values():
        out, after = form(*none, GAMMA, np.concatenate([state] * 2), cu_seqlens=np.array([0, 0, 0]))
        assert out.shape == (1, 3, 0, 3)
        assert np.array_equal(after, np.concatenate([state] * 2))
        assert form(*none, GAMMA, cu_seqlens=np.array([0]))[1].shape == (0, 3, 4, 3)


def test_fast_heads_and_long_padding_do_not_overflow():
    """A negative power would: 0.5^-3000."""
    one = np.ones((2, 1, 3000, 1), np.float32)
    state = np.full((2, 1, 1, 1), 8, np.float32)
    for padding in ("right", "left"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lengths = np.array([3000, 2])
            out, after = retention_chunkwise(one, one, one, np.array([0.5]), state, lengths=lengths, padding=padding)
        assert after.ravel().tolist() == [2.0, 3.5]
        assert out[1, 0, :, 0][out[1, 0, :, 0] != 0].tolist() == [5.0, 3.5]


def test_a_slow_head_forgets_at_its_own_rate_in_float32():
    """To the bit as without lengths: a gamma next to 1, rounded to float32, is off in the same direction at every call."""
    gamma, state, plain = np.array([1 - 2.0**-23 / 3]), None, None
    for k in np.random.default_rng(0).standard_normal((50, 1, 1, 1, 1), np.float32):
        _, state = retention_recurrent(k, k, k, gamma, state, lengths=np.array([1]))
        _, plain = retention_recurrent(k, k, k, gamma, plain)
    assert state == plain


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@by_layout
def test_narrow_dtypes_and_autocast(layout, dtype):
    tokens_and_states = together(layout, sequences())
    q, k, v, states = (torch.from_numpy(x) for x in tokens_and_states)
    q, k, v = (x.to(dtype) for x in (q, k, v))
    given = keywords(layout, backend=TORCH_BACKEND)
    gamma = torch.from_numpy(GAMMA)
    want, end = retention_parallel(q.double(), k.double(), v.double(), gamma, states, **given)
    with torch.autocast("cpu", torch.bfloat16):
        out, after = retention_chunkwise(q, k, v, gamma, states.float(), **given)
    assert (out.dtype, after.dtype) == (dtype, torch.float32)
    bound = 3 * torch.finfo(dtype).eps
    assert (out.double() - want).norm() <= bound * want.norm()
    assert (after.double() - end).norm() <= 1e-6 * end.norm()


# ---------------------------------------------------------------- gradients


def leaves_and_weights(layout, each):
    """Leaves q, k, v, gamma, states of torch, and weights of out and state that make a loss; NaN at padding."""
    q, k, v, states = together(layout, each)
    draw = np.random.default_rng(5).standard_normal
    leaves = [None if x is None else torch.tensor(x, requires_grad=True) for x in (q, k, v, GAMMA, states)]
    return leaves, torch.from_numpy(draw(v.shape)), torch.from_numpy(draw((len(each), 3, 4, 3)))


def wanted_gradients(layout, each, weights, state_weights):
    """Of the sum of what each sequence gives alone: of gamma, and of q, k, v and the state of each."""
    gamma, total, parts = torch.tensor(GAMMA, requires_grad=True), 0.0, []
    for s, (place, arrays) in enumerate(zip(spans(layout), each, strict=True)):
        parts.append([torch.tensor(x, requires_grad=True) for x in arrays if x is not None])
        q, k, v, *state = parts[-1]
        out, after = retention_recurrent(q, k, v, gamma, *state)
        total = total + (out * at(weights, place)).sum() + (after * state_weights[s : s + 1]).sum()
    total.backward()
    grad = lambda x: np.zeros(x.shape) if x.grad is None else x.grad.numpy()  # noqa: E731
    return grad(gamma), [[grad(x) for x in leaves] for leaves in parts]


@by_state
@by_layout
@pytest.mark.parametrize("name", FORMS)
def test_gradients_are_those_of_each_alone(name, layout, with_state):
    each = list(sequences(with_state))
    leaves, weights, state_weights = leaves_and_weights(layout, each)
    out, after = FORMS[name](*leaves, **keywords(layout, backend=TORCH_BACKEND))
    ((out * weights).sum() + (after * state_weights).sum()).backward()
    dgamma, wanted = wanted_gradients(layout, each, weights, state_weights)
    close(leaves[3].grad.numpy(), dgamma)
    for s, (place, grads) in enumerate(zip(spans(layout), wanted, strict=True)):
        all_close([at(x.grad.numpy(), place) for x in leaves[:3]], grads[:3])
        if with_state:
            close(leaves[4].grad.numpy()[s : s + 1], grads[3])
    for x in leaves[:3]:
        assert not padding_of(layout, x.grad.numpy()).any()  # exactly 0, though what stands there is NaN


@by_state
@by_layout
@pytest.mark.parametrize("name", BACKWARD)
def test_gradients_by_hand_are_those_of_each_alone(name, layout, with_state):
    each = list(sequences(with_state))
    q, k, v, states = together(layout, each)
    draw = np.random.default_rng(5).standard_normal
    weights, state_weights = draw(v.shape), draw((6, 3, 4, 3))
    given = keywords(layout)
    *grads, dstate = BACKWARD[name](q, k, v, GAMMA, weights, states, state_weights, **given)
    _, wanted = wanted_gradients(layout, each, torch.from_numpy(weights), torch.from_numpy(state_weights))
    for s, (place, want) in enumerate(zip(spans(layout), wanted, strict=True)):
        all_close([at(x, place) for x in grads], want[:3])
        if with_state:
            close(dstate[s : s + 1], want[3])
    for x in grads:
        assert not padding_of(layout, x).any()
    if not with_state:  # the gradient of a state of zeros, and none of the last state
        dstate = BACKWARD[name](q, k, v, GAMMA, weights, **given)[3]
        zeros = np.zeros_like(state_weights)
        close(dstate, BACKWARD[name](q, k, v, GAMMA, weights, zeros, grad_state=zeros, **given)[3])


# ---------------------------------------------------------------- traces


@by_layout
def test_a_compiler_sees_one_graph(layout):
    q, k, v, states = together(layout, sequences())
    given = keywords(layout, backend=TORCH_BACKEND) | ({"max_length": TIME} if layout == "packed" else {})
    lengths = given.pop("lengths" if layout != "packed" else "cu_seqlens")

    def function(q, k, v, gamma, states, lengths):
        name = "lengths" if layout != "packed" else "cu_seqlens"
        return retention_chunkwise(q, k, v, gamma, states, **given, **{name: lengths})

    tensors = [torch.from_numpy(x) for x in (q, k, v, GAMMA, states)]
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        got = compiled(*tensors, lengths)
        all_close([x.numpy() for x in got], [x.numpy() for x in function(*tensors, lengths)])
        with pytest.raises(RuntimeError, match="must lie in" if layout != "packed" else "must begin with 0"):
            compiled(*tensors, lengths + 3)


@by_layout
def test_jax_jits_and_differentiates(layout):
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        each = list(sequences())
        (q, k, v, gamma, states), weights, state_weights = leaves_and_weights(layout, each)
        given = {name: np.asarray(x) if name != "padding" else x for name, x in keywords(layout).items()}
        padding, name = given.pop("padding", "right"), "cu_seqlens" if layout == "packed" else "lengths"
        longest = {"max_length": TIME} if layout == "packed" else {}

        def loss(q, k, v, gamma, states, lengths):
            given = {name: lengths, "padding": padding} | longest
            out, after = retention_parallel(q, k, v, gamma, states, **given)
            return (out * weights.numpy()).sum() + (after * state_weights.numpy()).sum()

        arrays = [jax.numpy.asarray(x.detach().numpy()) for x in (q, k, v, gamma, states)]
        got = jax.jit(jax.grad(loss, argnums=(0, 3, 4)))(*arrays, jax.numpy.asarray(given[name]))
        out, after = retention_parallel(q, k, v, gamma, states, **keywords(layout, backend=TORCH_BACKEND))
        ((out * weights).sum() + (after * state_weights).sum()).backward()
        all_close([np.asarray(x) for x in got], [x.grad.numpy() for x in (q, gamma, states)])
        if layout == "packed":
            longest = {}
            with pytest.raises(ValueError, match=r"max_length must be given where the values of cu_seqlens cannot"):
                jax.jit(loss)(*arrays, jax.numpy.asarray(given[name]))
