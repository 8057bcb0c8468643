"""Checks of a package that offers the names of refimpl: its forms of retention agree, its rotation and its model are right.

A check is a function of a package, or of a package and a `Library`; it raises AssertionError. Those that draw their problems
stand in `drawn`. The tables at the end say which kind of evidence a check is.
"""

import functools
import warnings

import array_api_compat
import numpy as np

from ..oracle import model_oracle, rotation_oracle
from ..retention import retention_parallel
from ..tree import map_tree
from .comparison import CLOSE, all_close, close
from .libraries import NUMPY
from .problems import FULL

CHUNK_SIZES = (1, 7, 64, 300)


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


def run(retention, problem, library=NUMPY, dtype="float64"):
    """(out, state) of a problem, brought back to NumPy."""
    return tuple(library.to_numpy(x) for x in retention(*problem.arrays(library, dtype)))


def run_in_parts(parts, problem, library=NUMPY):
    """(out, state) from several (retention, stop) calls that chain."""
    arrays = problem.arrays(library)
    gamma, state, start, outs = arrays[3], arrays[4], 0, []
    for retention, stop in parts:
        out, state = retention(*problem.part(arrays, start, stop), gamma, state)
        outs.append(library.to_numpy(out))
        start = stop
    return np.concatenate(outs, axis=2), library.to_numpy(state)


def forms_agree(package):
    """Every form gives what the parallel form gives on a long text."""
    forms_agree_on(package, FULL())


def forms_agree_on(package, case):
    """Every form gives what the parallel form gives on a problem."""
    offered = forms(package)
    want = run(offered["parallel"], case)
    for name, form in offered.items():
        for got, other in zip(run(form, case), want, strict=True):
            assert np.max(np.abs(got - other), initial=0.0) <= CLOSE, f"{name} differs from parallel"


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


def mask_gradients_are_finite(package, library):
    """The gradient of early rows of a long mask, which see nothing of the tokens after them."""
    gamma = library.asarray(np.array([0.5, 31 / 32])).requires_grad_()
    package.decay_mask(gamma, 3000, rows=slice(0, 3)).sum().backward()
    assert np.isfinite(library.to_numpy(gamma.grad)).all()


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


def sequences_rotate_side_by_side(package, library):
    """A batch of sequences, each at its own position, is rotated as each is alone."""
    x = np.random.default_rng(4).standard_normal((2, 3, 5, 4))
    alone = [package.rotate(x[:1], 7), package.rotate(x[1:], 1000)]
    offsets = library.asarray(np.array([7, 1000]), "int64")
    close(library.to_numpy(package.rotate(library.asarray(x), offsets)), np.concatenate(alone))


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


LAYOUTS = {  # of sequences of 5, 0 and 2 tokens: keywords, and (row, first token) of each
    "padded on the right": ({"lengths": np.array([5, 0, 2])}, ((0, 0), (1, 0), (2, 0))),
    "padded on the left": ({"lengths": np.array([5, 0, 2]), "padding": "left"}, ((0, 0), (1, 5), (2, 3))),
    "packed": ({"cu_seqlens": np.array([0, 5, 5, 7])}, ((0, 0), (0, 5), (0, 5))),
}


def sequences_in_one_call_are_alone(package):
    """Outputs and states of sequences of different lengths, padded with NaN or packed, from a state."""
    rng, gamma = np.random.default_rng(6), np.array([0.9, 0.5])
    states = rng.standard_normal((3, 2, 4, 4))
    for name, (given, places) in LAYOUTS.items():
        shape = (1, 2, 7, 4) if name == "packed" else (3, 2, 5, 4)
        q, k, v = rng.standard_normal((3, *shape))
        parts = [np.s_[row : row + 1, :, at : at + n] for (row, at), n in zip(places, (5, 0, 2), strict=True)]
        padding = np.ones(shape, bool)
        for part in parts:
            padding[part] = False
        for x in (q, k, v):
            x[padding] = np.nan
        for form in (package.retention_parallel, package.retention_recurrent, package.retention_chunkwise):
            out, after = form(q, k, v, gamma, states, **given)
            for i, part in enumerate(parts):
                want = retention_parallel(q[part], k[part], v[part], gamma, states[i : i + 1])
                all_close((out[part], after[i : i + 1]), want)
            assert not out[padding].any(), f"outputs at padding are not 0, {name}"


def texts_in_one_call_are_alone(package):
    """Logits of texts of different lengths, each at its own position."""
    config = package.RetNetConfig(vocab_size=11, dim=16, num_layers=2, num_heads=2, row_norm=True)
    params = package.init_params(config, dtype=np.float64)
    texts = [np.random.default_rng(n).integers(0, 11, (1, n)) for n in (5, 0, 2)]
    for name, (given, places) in LAYOUTS.items():
        tokens = np.full((1, 7) if name == "packed" else (3, 5), -100)
        for text, (row, at) in zip(texts, places, strict=True):
            tokens[row, at : at + text.size] = text
        logits, state = package.forward(params, tokens, config, **given)
        for text, (row, at) in zip(texts, places, strict=True):
            close(logits[row : row + 1, at : at + text.size], package.forward(params, text, config)[0])
        assert list(state.position) == [5, 0, 2], f"position is {state.position}, {name}"


LIBRARY_CHECKS = {  # check of a package and a library: (kind of evidence, what the library must be or have)
    mask_gradients_are_finite: ("property", "autograd"),
    sequences_rotate_side_by_side: ("property", None),
}
CHECKS = {  # check of a package: kind of evidence
    forms_agree: "agreement",
    rotation_equals_oracle: "oracle",
    model_equals_oracle: "oracle",
    halves_of_a_model_are_close: "oracle",
    long_masks_are_finite: "property",
    rotation_is_relative: "property",
    rotation_resumes: "property",
    model_resumes: "property",
    sequences_go_on_side_by_side: "property",
    sequences_in_one_call_are_alone: "property",
    texts_in_one_call_are_alone: "property",
}
