"""The contract: one suite of checks that every retention passes, whoever computes it. Needs hypothesis.

A check is a function of (retention, backend), of a package that offers the names of refimpl, or of both kinds of
argument, (package, backend); it raises AssertionError when the contract is broken. The tables at the end say which kind
of evidence a check is (agreement of the forms among themselves, the oracle, or a property of any retention) and which
backends it fits. Array libraries are handed in; only NumPy is imported here.
"""

import functools
import math
import warnings
from dataclasses import dataclass

import array_api_compat
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ..oracle import model_oracle, retention_oracle, rotation_oracle
from ..retention import retention_parallel, retention_recurrent
from ..tree import map_tree

TOLERANCE = 1e-10  # float64, absolute, on unit normal inputs
# Relative RMS error against the float64 oracle of the rounded inputs, at T = 257. What is seen is 3e-7 for
# float32; for halves it is the rounding of the result itself, 2^-9 / sqrt(3) and 2^-12 / sqrt(3).
PRECISION = {"float32": 1e-6, "bfloat16": 2.5e-3, "float16": 3.2e-4}
CHUNK_SIZES = (1, 7, 64, 300)


# ---------------------------------------------------------------- what is tested, and on what


@dataclass(frozen=True)
class Backend:
    """An array library: `asarray` takes a NumPy array there, `to_numpy` brings it back as float64."""

    name: str
    namespace: object

    def asarray(self, x, dtype="float64"):
        """A NumPy array as an array of the library."""
        return self.namespace.asarray(x, dtype=getattr(self.namespace, dtype))

    def to_numpy(self, x):
        """An array of the library as a float64 NumPy array."""
        if hasattr(x, "detach"):  # a torch tensor, which NumPy cannot read while it has a gradient or is a half
            x = x.detach().to("cpu", self.namespace.float64)
        return np.asarray(x, dtype=np.float64)

    def has(self, feature):
        """Whether the library is numpy or offers bfloat16 or autograd; None asks for nothing."""
        return feature is None or feature == self.name or hasattr(self.namespace, feature)


NUMPY = Backend("numpy", np)


def scan(step):
    """A whole-sequence retention made of one-token steps; no token, no step, so `retention_parallel` takes T = 0."""

    def retention(q, k, v, gamma, state=None):
        if q.shape[2] == 0:
            return retention_parallel(q, k, v, gamma, state)
        outs = []
        for n in range(q.shape[2]):
            out, state = step(q[:, :, n : n + 1, :], k[:, :, n : n + 1, :], v[:, :, n : n + 1, :], gamma, state)
            outs.append(out)
        return array_api_compat.array_namespace(q).concat(outs, axis=2), state

    return retention


def forms(package):
    """Every form of retention a package offers, by name."""
    chunkwise = {
        f"chunkwise C={size}": functools.partial(package.retention_chunkwise, chunk_size=size) for size in CHUNK_SIZES
    }
    return {
        "parallel": package.retention_parallel,
        "recurrent": package.retention_recurrent,
        "step": scan(package.retention_step),
    } | chunkwise


@dataclass(frozen=True)
class Problem:
    """Inputs of a retention and what the oracle says of them, as float64 NumPy arrays."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    gamma: np.ndarray
    state: np.ndarray | None

    @functools.cached_property
    def answer(self):
        """(out, state) by the oracle."""
        return retention_oracle(self.q, self.k, self.v, self.gamma, self.state)

    @property
    def time(self):
        """T, the number of tokens."""
        return self.q.shape[2]

    def arrays(self, backend, dtype="float64"):
        """Copies of (q, k, v, gamma, state); gamma stays float64, the state is never a half."""
        wide = "float64" if dtype == "float64" else "float32"
        state = None if self.state is None else backend.asarray(self.state.copy(), wide)
        qkv = (backend.asarray(x.copy(), dtype) for x in (self.q, self.k, self.v))
        return *qkv, backend.asarray(self.gamma.copy()), state

    def part(self, arrays, start, stop):
        """q, k, v of tokens start ... stop."""
        return tuple(x[:, :, start:stop, :] for x in arrays[:3])


@functools.lru_cache
def problem(batch, heads, time, key_dim, value_dim, seed=0, gamma=None, with_state=True):
    """A seeded problem; gamma defaults to 1 - 2**(-5 - h), whose head 0 forgets fastest."""
    rng = np.random.default_rng(seed)
    q, k = rng.standard_normal((2, batch, heads, time, key_dim))
    v = rng.standard_normal((batch, heads, time, value_dim))
    state = rng.standard_normal((batch, heads, key_dim, value_dim)) if with_state else None
    return Problem(q, k, v, np.array(gamma or [1 - 2.0 ** (-5 - h) for h in range(heads)]), state)


@st.composite
def problems(draw):
    """Any small problem: lengths from 0, widths from 1, gamma from 1e-3 to 1, with and without a state."""
    heads = draw(st.integers(1, 3))
    gamma = draw(st.tuples(*[st.one_of(st.just(1.0), st.just(1e-3), st.floats(1e-3, 1.0))] * heads))
    sizes = [draw(st.integers(low, high)) for low, high in ((1, 2), (0, 24), (1, 6), (1, 6))]
    return problem(
        sizes[0], heads, *sizes[1:], seed=draw(st.integers(0, 99)), gamma=gamma, with_state=draw(st.booleans())
    )


FULL = functools.partial(problem, 2, 4, 257, 16, 24)  # large enough for every chunk size
SMALL = functools.partial(problem, 2, 3, 19, 4, 6)


def close(got, want, tolerance=TOLERANCE):
    """Same shape, and no element further off than tolerance; NaN is never close."""
    assert got.shape == want.shape, f"shape {got.shape}, want {want.shape}"
    worst = float(np.max(np.abs(got - want), initial=0.0))
    assert worst <= tolerance, f"off by {worst:.1e}, allowed {tolerance:.0e}"


def all_close(got, want, *tolerance):
    """`close` for each of (out, state), or of any other results."""
    for one, other in zip(got, want, strict=True):
        close(one, other, *tolerance)


def relative_rms(got, want):
    """Root mean square of the error over that of the answer."""
    return math.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))


def run(retention, problem, backend=NUMPY, dtype="float64"):
    """(out, state) of a problem, brought back to NumPy."""
    return tuple(backend.to_numpy(x) for x in retention(*problem.arrays(backend, dtype)))


def run_in_parts(parts, problem, backend=NUMPY):
    """(out, state) from several (retention, stop) calls that chain."""
    arrays = problem.arrays(backend)
    gamma, state, start, outs = arrays[3], arrays[4], 0, []
    for retention, stop in parts:
        out, state = retention(*problem.part(arrays, start, stop), gamma, state)
        outs.append(backend.to_numpy(out))
        start = stop
    return np.concatenate(outs, axis=2), backend.to_numpy(state)


# ---------------------------------------------------------------- against the oracle


def equals_oracle(retention, backend):
    """Float64 within 1e-10, from a zero and a non-zero state, at the size the README quotes."""
    for case in (FULL(), FULL(with_state=False)):
        all_close(run(retention, case, backend), case.answer)


def equals_oracle_drawn(retention, backend):
    """Float64 within 1e-10 on whatever hypothesis draws."""

    @given(problems())
    def check(case):
        all_close(run(retention, case, backend), case.answer)

    check()


def is_precise(retention, backend, dtypes=("float32",)):
    """Narrow inputs, decays and state in float32: relative RMS within PRECISION of out, of 1e-6 of the state."""
    for dtype in dtypes:
        rounded = _rounded(backend, dtype)
        out, state = run(retention, rounded, backend, dtype)
        for what, got, want, bound in (
            ("out", out, rounded.answer[0], PRECISION[dtype]),
            ("state", state, rounded.answer[1], PRECISION["float32"]),
        ):
            error = relative_rms(got, want)
            assert error <= bound, f"{dtype} {what} is off by {error:.1e} relative RMS, allowed {bound:.1e}"


@functools.lru_cache
def _rounded(backend, dtype):
    """The full-size problem with q, k, v rounded to dtype and the state to float32."""
    # No gamma here is a float32 number: rounding it would cost 2e-6 at this length.
    case = FULL(gamma=(0.9991, 0.99913, 0.9997, 0.97))
    there_and_back = lambda x, dtype: backend.to_numpy(backend.asarray(x, dtype))  # noqa: E731
    qkv = (there_and_back(x, dtype) for x in (case.q, case.k, case.v))
    return Problem(*qkv, case.gamma, there_and_back(case.state, "float32"))


def halves_are_precise(retention, backend):
    """bfloat16 and float16 inputs, on a library that has both."""
    is_precise(retention, backend, ("bfloat16", "float16"))


def mixes_equal_oracle(package):
    """Any form, at any chunk size, for any part of any split: within 1e-10 of the oracle, at full size."""
    offered = forms(package)

    @settings(max_examples=30)
    @given(_mix(offered, FULL().time))
    def check(mix):
        all_close(run_in_parts(_parts(package, offered, mix), FULL()), FULL().answer)

    check()


def model_equals_oracle(package):
    """Logits of models with K, V, d and the feed-forward of unlike sizes, several heads and layers; from a split too."""
    tokens = np.random.default_rng(7).integers(0, 11, (2, 6))
    shape = {"vocab_size": 11, "dim": 10, "num_layers": 2, "num_heads": 3, "key_dim": 4, "value_dim": 5, "ffn_dim": 7}
    for options, gamma, theta in (
        ({}, [31 / 32, 63 / 64, 127 / 128], [1.0, 1e-4]),
        (
            {"gamma_schedule": "paper", "rotation": "rotary", "ffn": "gelu", "group_norm": "mean", "row_norm": True},
            [31 / 32, 127 / 128, 511 / 512],
            [1.0, 0.01],
        ),
        ({"gamma_schedule": 0.5, "ffn": "geglu", "embedding_scale": 3.0, "norm_eps": 0.1}, [0.5] * 3, [1.0, 1e-4]),
    ):
        config = package.RetNetConfig(**shape, **options)
        params = package.init_params(config, dtype=np.float64)
        rng = np.random.default_rng(8)
        for layer in params["layers"]:  # a norm weight of one would hide that it is applied
            layer["retention_norm"], layer["ffn_norm"] = rng.uniform(0.5, 2.0, (2, 10))
        params["final_norm"] = rng.uniform(0.5, 2.0, 10)
        want = model_oracle(params, tokens, config, gamma, theta)
        logits, _ = package.forward(params, tokens, config)
        close(logits, want)
        head, state = package.forward(params, tokens[:, :2], config, retention=package.retention_chunkwise)
        tail, _ = package.forward(params, tokens[:, 2:], config, retention=package.retention_recurrent, state=state)
        close(np.concatenate([head, tail], axis=1), want)


def halves_of_a_model_are_close(package):
    """A model with the paper's feed-forward in float16, also where the sum of its error function is beyond float16."""
    config = package.RetNetConfig(vocab_size=11, dim=16, num_layers=1, num_heads=2, ffn="gelu")
    params = package.init_params(config, dtype=np.float16)
    params["layers"][0]["ffn"]["w_1"] *= 20  # the activation gets up to 32
    tokens = np.random.default_rng(9).integers(0, 11, (2, 6))
    with np.errstate(over="ignore", invalid="ignore"):
        got, _ = package.forward(params, tokens, config)
    want, _ = package.forward(map_tree(lambda _, x: x.astype(np.float64), params), tokens, config)
    assert got.dtype == np.float16
    close(got, want, 1e-2)


def rotation_equals_oracle(package):
    """Complex multiplication, at positions up to 10^5, on both ladders, and for leading axes of any number."""
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 8))
    for offset in (0, 1, 1000, 100_000):
        for ladder in ("released", "rotary"):
            theta = package.rotation_frequencies(8, ladder)
            close(package.rotate(x, offset, ladder), rotation_oracle(x, theta, offset))
            close(package.rotate(x[0, 0], offset, theta), rotation_oracle(x[0, 0], theta, offset))
            half = package.rotate(x.astype(np.float16), offset, ladder)
            assert half.dtype == np.float16
            assert np.abs(half - rotation_oracle(x.astype(np.float16), theta, offset)).max() < 2e-3  # one rounding of 4


# ---------------------------------------------------------------- agreement of the forms alone


def forms_agree(package):
    """Every form gives what the parallel form gives, on the whole sequence and on drawn problems."""
    offered = forms(package)

    def check(case):
        want = run(offered["parallel"], case)
        for name, form in offered.items():
            for got, other in zip(run(form, case), want, strict=True):
                assert np.max(np.abs(got - other), initial=0.0) <= TOLERANCE, f"{name} differs from parallel"

    check(FULL())
    given(problems())(check)()


def mixes_agree(package):
    """Any form for any part of any split gives what the parallel form gives on the whole."""
    offered = forms(package)
    want = run(offered["parallel"], SMALL())

    @given(_mix(offered, SMALL().time))
    def check(mix):
        all_close(run_in_parts(_parts(package, offered, mix), SMALL()), want)

    check()


def _mix(offered, time):
    """Lists of (form name or chunk size, stop), stops rising to `time`."""
    how = st.one_of(st.sampled_from(sorted(offered)), st.integers(1, time + 2))
    stops = st.lists(st.integers(0, time), max_size=4).map(lambda cuts: [*sorted(cuts), time])
    return stops.flatmap(lambda cuts: st.tuples(*[st.tuples(how, st.just(stop)) for stop in cuts]))


def _parts(package, offered, mix):
    """A drawn mix as `run_in_parts` wants it."""
    chunkwise = lambda size: functools.partial(package.retention_chunkwise, chunk_size=size)  # noqa: E731
    return [(offered[how] if isinstance(how, str) else chunkwise(how), stop) for how, stop in mix]


def any_chunk_size_equals_oracle(package):
    """Drawn chunk sizes, dividing T or not, smaller and larger than it."""

    @given(problems(), st.integers(1, 30))
    def check(case, size):
        all_close(run(functools.partial(package.retention_chunkwise, chunk_size=size), case), case.answer)

    check()


# ---------------------------------------------------------------- properties of any retention


def chains(retention, backend):
    """Two calls, the second from the state of the first, are one call: at every split, the ends included."""
    whole = run(retention, SMALL(), backend)
    for split in range(SMALL().time + 1):
        parts = [(retention, split), (retention, SMALL().time)]
        all_close(run_in_parts(parts, SMALL(), backend), whole)


def empty_sequence_keeps_state(retention, backend):
    """T = 0: nothing comes out, the state equals the one that went in but is a copy, and is zero if none did."""
    case = problem(2, 3, 0, 4, 6)
    arrays = case.arrays(backend)
    out, state = retention(*arrays)
    assert out.shape == (2, 3, 0, 6)
    assert np.array_equal(backend.to_numpy(state), case.state)
    state[...] = 7.0
    assert np.array_equal(backend.to_numpy(arrays[-1]), case.state)
    out, state = run(retention, problem(2, 3, 0, 4, 6, with_state=False), backend)
    assert out.shape == (2, 3, 0, 6)
    assert state.shape == (2, 3, 4, 6)
    assert not state.any()


def single_token(retention, backend):
    """T = 1 from nothing: o = (q . k) v and S = k^T v, whatever gamma is."""
    case = problem(2, 3, 1, 4, 6, with_state=False)
    out, state = run(retention, case, backend)
    close(out, np.sum(case.q * case.k, axis=-1, keepdims=True) * case.v)
    close(state, case.k[..., 0, :, None] * case.v[..., 0, None, :])


def is_causal(retention, backend):
    """Changing token n changes nothing that came out before n."""
    case, n = SMALL(), 11
    changed = Problem(
        *(np.concatenate([x[:, :, :n], x[:, :, n:] + 1], axis=2) for x in (case.q, case.k, case.v)),
        case.gamma,
        case.state,
    )
    close(run(retention, changed, backend)[0][:, :, :n], run(retention, case, backend)[0][:, :, :n], 1e-12)


def keeps_dtypes(retention, backend):
    """out has v's dtype; the state is float64 for float64 and float32 for everything narrower."""
    for dtype in ("float64", "float32", *(("bfloat16", "float16") if backend.has("bfloat16") else ())):
        out, state = retention(*SMALL().arrays(backend, dtype))
        wide = "float64" if dtype == "float64" else "float32"
        assert out.dtype == getattr(backend.namespace, dtype), f"out is {out.dtype} for {dtype} inputs"
        assert state.dtype == getattr(backend.namespace, wide), f"state is {state.dtype} for {dtype} inputs"


def leaves_inputs_alone(retention, backend):
    """No argument is written to, the state least of all."""
    arrays = SMALL().arrays(backend)
    retention(*arrays)
    for x, old in zip(arrays, SMALL().arrays(NUMPY), strict=True):
        assert np.array_equal(backend.to_numpy(x), old)


def owns_its_results(retention, backend):
    """What one call returned stays as it is when the next call computes something else."""
    first = retention(*SMALL().arrays(backend))
    before = [backend.to_numpy(x).copy() for x in first]
    retention(*SMALL(seed=1).arrays(backend))
    for x, old in zip(first, before, strict=True):
        assert np.array_equal(backend.to_numpy(x), old)


def survives_fast_and_long(retention, backend):
    """gamma = 1e-3 over 1,500 tokens: gamma^T underflows to 0, nothing overflows, and float32 results are right."""
    case = problem(1, 2, 1500, 2, 2, gamma=(1e-3, 31 / 32))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        results = run(retention, case, backend, "float32")
    assert not warned, f"warned: {warned[0].message}"
    for got, want in zip(results, run(retention_recurrent, case), strict=True):
        assert relative_rms(got, want) <= 1e-5


def gradients_are_right(retention, backend):
    """Autograd of out and state by q, k, v, gamma and state, against finite differences in float64.

    Every entry of every derivative for a short text; for one of several chunks, the derivative along one direction.
    """
    gradcheck = backend.namespace.autograd.gradcheck
    for time, gamma, directions in ((5, (0.9, 0.5), False), (70, (0.99, 0.9), True)):
        arrays = [x.requires_grad_() for x in problem(1, 2, time, 2, 3, gamma=gamma).arrays(backend)]
        try:
            gradcheck(retention, arrays, eps=1e-6, atol=1e-7, rtol=1e-6, fast_mode=directions)
        except RuntimeError as error:
            raise AssertionError(f"gradients at T = {time}: {error}") from error


def long_masks_are_finite(package):
    """The last rows of a mask over 100,000 tokens: finite, in [0, 1], no overflow on the way, even backwards."""
    gamma = np.array([1e-3, 31 / 32, 1.0])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        rows = package.decay_mask(gamma, 100_000, rows=slice(99_996, None))
        first = package.decay_mask(gamma.astype(np.float32), 100_000, rows=slice(0, 2))
    assert not warned, f"warned: {warned[0].message}"
    assert rows.shape == (3, 4, 100_000)
    for mask in (rows, first):
        assert np.isfinite(mask).all()
        assert mask.min() >= 0.0
        assert mask.max() == 1.0


def mask_gradients_are_finite(package, backend):
    """The gradient of early rows of a long mask, which see nothing of the tokens after them."""
    gamma = backend.asarray(np.array([0.5, 31 / 32])).requires_grad_()
    package.decay_mask(gamma, 3000, rows=slice(0, 3)).sum().backward()
    assert np.isfinite(backend.to_numpy(gamma.grad)).all()


def rotation_is_relative(package):
    """q_n . k_m depends on n - m alone: shifting both by the same offset changes no score."""
    q, k = np.random.default_rng(1).standard_normal((2, 6, 8))
    scores = package.rotate(q) @ package.rotate(k).T
    for offset in (1, 77, 4096):
        close(package.rotate(q, offset) @ package.rotate(k, offset).T, scores)
        assert np.max(np.abs(package.rotate(q, offset) @ package.rotate(k).T - scores)) > 0.1


def rotation_resumes(package):
    """Rotating x in two parts, the second with an offset, is rotating x; norms stay."""
    x = np.random.default_rng(2).standard_normal((1, 2, 9, 4))
    whole = package.rotate(x)
    close(np.concatenate([package.rotate(x[:, :, :5]), package.rotate(x[:, :, 5:], 5)], axis=2), whole)
    close(np.sum(whole**2, axis=-1), np.sum(x**2, axis=-1))


def model_resumes(package):
    """Logits of forward, in any form, in two parts and token by token, are one another's."""
    config = package.RetNetConfig(vocab_size=11, dim=16, num_layers=2, num_heads=2)
    params = package.init_params(config, dtype=np.float64)
    tokens = np.random.default_rng(3).integers(0, 11, (2, 13))
    want, end = package.forward(params, tokens, config)
    assert end.position == 13
    for form in forms(package).values():
        first, state = package.forward(params, tokens[:, :6], config, retention=form)
        second, state = package.forward(params, tokens[:, 6:], config, retention=form, state=state)
        close(np.concatenate([first, second], axis=1), want)
        all_close(state.layers, end.layers)
    state, steps = None, []
    for n in range(13):
        logits, state = package.decode_step(params, tokens[:, n], config, state)
        steps.append(logits)
    close(np.stack(steps, axis=1), want)
    assert state.position == 13


def sequences_rotate_side_by_side(package, backend):
    """A batch of sequences, each at its own position, is rotated as each is alone."""
    x = np.random.default_rng(4).standard_normal((2, 3, 5, 4))
    alone = [package.rotate(x[:1], 7), package.rotate(x[1:], 1000)]
    offsets = backend.asarray(np.array([7, 1000]), "int64")
    close(backend.to_numpy(package.rotate(backend.asarray(x), offsets)), np.concatenate(alone))


def sequences_go_on_side_by_side(package):
    """A batch of sequences of different lengths, each at its own position, goes on as each does alone."""
    config = package.RetNetConfig(vocab_size=11, dim=16, num_layers=2, num_heads=2, row_norm=True)
    params = package.init_params(config, dtype=np.float64)
    tokens = np.random.default_rng(5).integers(0, 11, (2, 9))
    alone = [package.forward(params, tokens[:1, :2], config)[1], package.forward(params, tokens[1:, :6], config)[1]]
    layers = tuple(np.concatenate(pair) for pair in zip(*(state.layers for state in alone), strict=True))
    together = package.State(np.array([2, 6]), layers)
    got, after = package.forward(params, tokens[:, 6:], config, retention=package.retention_chunkwise, state=together)
    want = [package.forward(params, tokens[i : i + 1, 6:], config, state=state)[0] for i, state in enumerate(alone)]
    close(got, np.concatenate(want))
    assert list(after.position) == [5, 9]


# ---------------------------------------------------------------- the suite

RETENTION_CHECKS = {  # check: (kind of evidence, what the backend must be or have)
    equals_oracle: ("oracle", None),
    equals_oracle_drawn: ("oracle", "numpy"),
    is_precise: ("oracle", None),
    halves_are_precise: ("oracle", "bfloat16"),
    chains: ("property", None),
    empty_sequence_keeps_state: ("property", None),
    single_token: ("property", None),
    is_causal: ("property", "numpy"),
    keeps_dtypes: ("property", None),
    leaves_inputs_alone: ("property", None),
    owns_its_results: ("property", None),
    survives_fast_and_long: ("oracle", "numpy"),
    gradients_are_right: ("property", "autograd"),
}
BACKEND_CHECKS = {  # of a package and a backend: the same
    mask_gradients_are_finite: ("property", "autograd"),
    sequences_rotate_side_by_side: ("property", None),
}
PACKAGE_CHECKS = {  # check: kind of evidence
    forms_agree: "agreement",
    mixes_agree: "agreement",
    mixes_equal_oracle: "oracle",
    any_chunk_size_equals_oracle: "oracle",
    rotation_equals_oracle: "oracle",
    model_equals_oracle: "oracle",
    halves_of_a_model_are_close: "oracle",
    long_masks_are_finite: "property",
    rotation_is_relative: "property",
    rotation_resumes: "property",
    model_resumes: "property",
    sequences_go_on_side_by_side: "property",
}


def checks_for(backend, checks=RETENTION_CHECKS):
    """The checks of a table that fit a backend."""
    return [check for check, (_, feature) in checks.items() if backend.has(feature)]
