"""Deliberate bugs, each of which the suite must kill.

A mutant is refimpl with one idea broken by replacing text in its sources, most of them mistakes that
public re-implementations have made. It is imported as a package of its own and put before every
check there is, by kind of evidence: agreement of the forms, the oracle, properties, paper facts,
validation. `only` names the one kind that must see it, for mutants that show why that kind is needed.
"""

import contextlib
import functools
import importlib
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from backends import BACKENDS, NUMPY, TORCH, kernel_of
from hypothesis import settings

import refimpl
from refimpl.conformance import contract, drawn, paper_facts, validation
from refimpl.conformance import gradients as of_gradients
from refimpl.conformance import package as of_package

FORMS = ("parallel", "recurrent", "step", "chunkwise C=7")
# (check, library, dtype): the contract in float64 on NumPy; what depends on narrower dtypes, and on autograd, in those.
CONTRACT = [
    *((check, NUMPY, "float64") for check in contract.CHECKS if check not in of_gradients.CHECKS),
    *((check, NUMPY, "float32") for check in (contract.holds_for_slow_heads, contract.keeps_dtypes)),
    *((check, TORCH, "bfloat16") for check in (contract.holds_for_slow_heads, contract.keeps_dtypes)),
    *((check, TORCH, "float16") for check in (contract.holds_for_slow_heads, contract.keeps_dtypes)),
    (of_gradients.gradients_are_right, TORCH, "float64"),
]
# Long ones, in which the step shows nothing that recurrent does not: it takes the same steps, one in each call.
OF_MANY_TOKENS = {
    contract.chains, contract.gives_the_same_bits, contract.holds_at_every_length, contract.holds_at_every_width,
    contract.holds_for_many_heads_and_sequences, contract.holds_for_slow_heads, contract.holds_for_long_texts,
    contract.starts_afresh, contract.takes_any_strides, of_gradients.gradients_are_right,
}  # fmt: skip
SOURCES = Path(refimpl.__file__).parent


@dataclass(frozen=True)
class Mutant:
    """A name, what it breaks ((file, old text, new text), ...), and the only kind of check to see it, if one."""

    name: str
    edits: tuple
    only: str | None = None


def _mutant(name, file, old, new, *more, only=None):
    rest = iter(more)
    return Mutant(name, ((file, old, new), *zip(rest, rest, rest, strict=True)), only)


MUTANTS = (
    # Eq. 5: the mask
    _mutant("mask is strict: token n does not see itself", "decay.py", "[future, powers]", "[future, 0.0 * powers[:, :1], powers[:, 1:]]"),
    _mutant("mask is not causal", "decay.py", "future = xp.zeros_like(powers)", "future = xp.flip(powers, axis=1)"),
    _mutant(
        "mask multiplies after the power: inf * 0",
        "decay.py",
        "return xp.reshape(xp.take(table, cells, axis=1), (gamma.shape[0], *lag.shape))",
        "visible = xp.astype(lag >= 0, xp.float64)\n"
        "    return xp.astype(_power(xp, gamma, xp.astype(lag, xp.float64)) * visible, table.dtype)",
    ),
    _mutant("mask decays by gamma^(n-m+1)", "decay.py", "_power(xp, gamma, xp.arange(", "_power(xp, gamma, 1.0 + xp.arange("),
    _mutant("scores are k_n . q_m", "retention.py", "((q @ k.mT) * mask)", "((k @ q.mT) * mask)"),
    # Eq. 7: between chunks
    _mutant("zeta is missing, as in the paper's pseudocode", "retention.py", "(v * zeta)", "v"),
    _mutant("xi is missing", "retention.py", "(q @ state) * xi", "(q @ state)"),
    _mutant("xi starts at gamma^0", "decay.py", "_power(xp, gamma, j),", "_power(xp, gamma, j - 1),"),
    _mutant("zeta ends at gamma^1", "decay.py", "_power(xp, gamma, length - j)", "_power(xp, gamma, length - j + 1)"),
    _mutant("old state is carried undecayed", "retention.py", "carry(whole, state, k.mT @ (v * zeta))", "state + k.mT @ (v * zeta)"),
    _mutant(
        "chunk reads the state after itself: R_i for R_(i-1)",
        "retention.py",
        "out = ((q @ k.mT) * mask) @ v + (q @ state) * xi\n    return out, carry(whole, state, k.mT @ (v * zeta))",
        "state = carry(whole, state, k.mT @ (v * zeta))\n    return ((q @ k.mT) * mask) @ v + (q @ state) * xi, state",
    ),
    _mutant("ragged tail is dropped", "retention.py", "range(0, q.shape[2], chunk_size)", "range(0, q.shape[2] - chunk_size + 1, chunk_size)"),
    _mutant(
        "ragged tail uses the decays of a full chunk",
        "retention.py",
        "tables[length] = chunk_tables(gamma, length, q.dtype)",
        "mask, xi, zeta, whole = chunk_tables(gamma, chunk_size, q.dtype)\n"
        "            tables[length] = mask[:, :length, :length], xi[:, :length], zeta[:, :length], whole",
    ),
    # Eq. 6: the step
    _mutant(
        "step reads before it writes",
        "retention.py",
        "state = carry(decay, state, k.mT * v)\n    return q @ state, state",
        "return q @ state, carry(decay, state, k.mT * v)",
    ),
    _mutant("step decays the new token too", "retention.py", "carry(decay, state, k.mT * v)", "carry(decay, state + k.mT @ v, 0.0)"),
    _mutant("step forgets nothing", "retention.py", "carry(decay, state, k.mT * v)", "state + k.mT @ v"),
    _mutant("step forgets everything", "retention.py", "carry(decay, state, k.mT * v)", "k.mT @ v"),
    # state and precision
    _mutant("empty call hands the caller's own state back", "retention.py", "elif q.shape[2] == 0:", "elif False:", only="property"),
    _mutant("given state is ignored", "retention.py", "    if state is None:\n        state =", "    if True:\n        state ="),
    _mutant("given state is overwritten", "retention.py", "    state = carry(decay, state, k.mT * v)", "    state *= decay[0] + decay[1]\n    state += k.mT @ v"),
    _mutant(
        "halves are computed in halves",
        "retention.py",
        "q, k, v = (_astype(x, accumulation_dtype(xp, dtype)) for x in (q, k, v))",
        "pass",
        "retention.py",
        "dtype=q.dtype, device=device(q))",
        "dtype=accumulation_dtype(xp, dtype), device=device(q))",
        "retention.py",
        "state = carry(decay, state, k.mT * v)\n    return q @ state, state",
        "state = _astype((decay[0] + decay[1]) * _astype(state, v.dtype) + k.mT @ v, v.dtype)\n"
        "    return q @ state, _astype(state, accumulation_dtype(array_namespace(v), v.dtype))",
        "retention.py",
        "out = ((q @ k.mT) * mask) @ v + (q @ state) * xi\n    return out, carry(whole, state, k.mT @ (v * zeta))",
        "state, wide = _astype(state, v.dtype), state.dtype\n"
        "    out = ((q @ k.mT) * mask) @ v + (q @ state) * xi\n"
        "    return out, _astype(carry(whole, state, k.mT @ (v * zeta)), wide)",
    ),
    _mutant("carried decay is rounded to float32", "decay.py", "return tuple(xp.astype(part, dtype)[..., None, None] for part in (whole, decay - whole))", "return xp.astype(decay, dtype)[..., None, None], xp.zeros((1, 1, 1), dtype=dtype)", only="oracle"),
    _mutant("tables are made of a gamma rounded to float32", "decay.py", "xp.astype(gamma, xp.float64), (-1,)", "xp.astype(xp.astype(gamma, xp.float32), xp.float64), (-1,)"),
    _mutant("longdouble is computed in less", "checks.py", 'if f"{array.dtype}".rpartition(".")[2] not in DTYPES:', 'if not array_namespace(array).isdtype(array.dtype, "real floating"):', only="validation"),
    # bugs that all forms share: they agree with one another and are all wrong
    _mutant(
        "every head decays like head 0",
        "retention.py",
        "    gamma = _astype(gamma, xp.float64)",
        "    gamma = _astype(gamma[:1] + 0 * gamma, xp.float64)",
        "retention.py",
        "    state = carry(decay, state, k.mT * v)",
        "    state = carry([part[:1] for part in decay], state, k.mT * v)",
    ),
    _mutant(
        "every form scales q by K^-1/2",
        "retention.py",
        "for x in (q, k, v))\n",
        "for x in (q * q.shape[3] ** -0.5, k, v))\n",
    ),
    # Eq. 4 and 8: rotation and heads
    _mutant(
        "rotation turns backwards",
        "rotation.py",
        "even * cos - odd * sin, even * sin + odd * cos",
        "even * cos + odd * sin, odd * cos - even * sin",
    ),
    _mutant("rotation ignores its offset", "rotation.py", "positions = token_positions(offset, ", "positions = token_positions(0, "),
    _mutant("rotation counts from 1", "rotation.py", "positions = token_positions(", "positions = 1 + token_positions("),
    _mutant("all sequences stand where the first does", "rotation.py", "position = position[:, None]", "position = position[:1, None] + 0 * position[:, None]"),
    _mutant("rotation pairs halves, not neighbours", "rotation.py", "x[..., 0::2], cos.dtype), xp.astype(x[..., 1::2]", "x[..., : x.shape[-1] // 2], cos.dtype), xp.astype(x[..., x.shape[-1] // 2 :]"),
    _mutant(
        "rotation angles in float32",
        "rotation.py",
        "angle = positions[..., None] * theta",
        "angle = xp.astype(positions, xp.float32)[..., None] * xp.astype(theta, xp.float32)",
    ),
    _mutant("released frequencies are the rotary ones", "rotation.py", 'if ladder == "released":', "if False:"),
    _mutant("heads start at 1 - 2^-4", "decay.py", "-5.0 - STEPS", "-4.0 - STEPS"),
    _mutant("log decays are logs of rounded decays", "decay.py", "xp.log1p(-forgotten)", "xp.astype(xp.log(xp.astype(1.0 - forgotten, xp.float32)), xp.float64)", only="paper facts"),
    _mutant("values are as wide as keys", "config.py", '("value_dim", 2 * self.key_dim)', '("value_dim", self.key_dim)', only="paper facts"),
    # the layer and the model
    _mutant("gate is missing", "layers.py", "gated = operations.swish(gate) * merged", "gated = merged"),
    _mutant("k is not scaled by 1/sqrt(K)", "layers.py", "config.key_dim**-0.5 if config.scale_keys else 1.0", "1.0"),
    _mutant("heads are interleaved", "layers.py", "(batch, time, num_heads, width // num_heads)), (0, 2, 1, 3))", "(batch, time, width // num_heads, num_heads)), (0, 3, 1, 2))", only="oracle"),
    _mutant("k is scaled by the values' width", "layers.py", "config.key_dim**-0.5 if", "config.value_dim**-0.5 if", only="oracle"),
    _mutant("residual around the feed-forward is missing", "model.py", "x = y + feed_forward(", "x = feed_forward(", only="oracle"),
    _mutant("residual around retention is missing", "model.py", "y = x + y", "pass", only="oracle"),
    _mutant("feed-forward has no activation", "layers.py", "getattr(operations, activation)(inner)", 'inner if kind == "swiglu" else getattr(operations, activation)(inner)', only="oracle"),
    _mutant("error function is summed in halves", "layers.py", "wide = xp.astype(x, accumulation_dtype(xp, x.dtype), copy=False)  # the sum", "wide = x  # the sum", only="oracle"),
    _mutant("gamma schedule of the config is ignored", "layers.py", "config.gamma_schedule, xp=xp", '"released", xp=xp', only="oracle"),
    _mutant("rotation of the config is ignored", "layers.py", "phases_of(queries, position, config.rotation)", "phases_of(queries, position)", only="oracle"),
    _mutant("row sums forget the position", "layers.py", "row_sums_of(gamma, q.shape[2], position)", "row_sums_of(gamma, q.shape[2], 0)"),
    _mutant("all layers are one", "tree.py", "return [map_tree(function, branch, join(i)) for i, branch in enumerate(tree)]", "return [map_tree(function, tree[0], join(0))] * len(tree)", only="paper facts"),
    _mutant("w_v starts twice as large", "model.py", '"w_v": 2**-2.5', '"w_v": 2**-1.5', only="paper facts"),
    _mutant("model resumes at position 0", "model.py", "State(end, tuple(after))", "State(0, tuple(after))"),
    # sequences of different lengths
    _mutant("state decays over padding too", "lengths.py", "decay ** xp.astype(sequences.lengths, xp.float64)[:, None]", "decay ** xp.astype(0 * sequences.lengths + n.shape[1], xp.float64)[:, None]", only="property"),
    _mutant("a sequence sees the token before it", "sequences.py", "self.aligned >= 0)", "self.aligned >= -1)", only="property"),
    _mutant("positions count padding", "sequences.py", "            return self.place + before", "            return 0 * self.place + array_namespace(self.place).arange(self.place.shape[1]) + before", only="property"),
    _mutant("a text goes on after its padding", "model.py", "before + sequences.lengths", "before + 0 * sequences.lengths + tokens.shape[1]", only="property"),
    # validation
    _mutant("NaN passes as a gamma", "checks.py", "gamma: (gamma > 0) & (gamma <= 1)", "gamma: ~((gamma <= 0) | (gamma > 1))", only="validation"),
    _mutant("gamma is not compared with the heads", "checks.py", 'check_shape("gamma", gamma, (q.shape[1],), "one decay for each head of q")', "pass", only="validation"),
)  # fmt: skip


@contextlib.contextmanager
def mutated_package(mutant, folder):
    """Import refimpl with the mutant's edits, from a copy in `folder`, under a name of its own."""
    name = "mutant_" + re.sub(r"\W+", "_", mutant.name)
    sources = {path.name: path.read_text(encoding="utf-8") for path in SOURCES.glob("*.py")}
    for file, old, new in mutant.edits:
        assert sources[file].count(old) == 1, (
            f"{mutant.name}: {old!r} stands {sources[file].count(old)} times in {file}"
        )
        sources[file] = sources[file].replace(old, new)
    (folder / name).mkdir()
    for file, text in sources.items():
        (folder / name / file).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[module]


def every_check(package, retention=True):
    """(kind, label, call) of every check there is, bound to a package; checks of one label ask the same of several forms.

    Quick checks come first. retention: whether those of a retention are wanted.
    """
    for fact in paper_facts.FACTS:
        yield "paper facts", fact.__name__, functools.partial(fact, package)
    for check, (kind, feature) in of_package.LIBRARY_CHECKS.items():
        yield kind, check.__name__, functools.partial(check, package, fitting(feature))
    for check, kind in of_package.CHECKS.items():
        yield kind, check.__name__, functools.partial(check, package)
    for refusal in validation.RETENTION_REFUSALS:
        call = functools.partial(validation.retention_refuses, package.retention_parallel, refusal)
        yield "validation", refusal.message, call
    for refusal in validation.PACKAGE_REFUSALS:
        yield "validation", refusal.message, functools.partial(validation.package_refuses, package, refusal)
    if retention:
        yield from _of_retention(package)
    for check, kind in drawn.CHECKS.items():
        yield kind, check.__name__, functools.partial(check, package)


def reaches_retention(mutant):
    """Whether a mutant's edits can change what a retention does; if not, it is the unbroken one, which survives."""
    after = {
        "rotation.py",
        "score_norm.py",
        "config.py",
        "layers.py",
        "tree.py",
        "model.py",
        "lengths.py",
        "sequences.py",
    }  # import it, or nothing of it, or are for lengths, of which checks of a retention give none
    return not {file for file, *_ in mutant.edits} <= after


def _of_retention(package):
    # One chunk size and, where a check runs on it, NumPy are enough to kill, and quick.
    offered = {name: form for name, form in of_package.forms(package).items() if name in FORMS}
    for check, library, dtype in CONTRACT:
        for name, form in offered.items():
            if name == "step" and check in OF_MANY_TOKENS:
                continue
            if name == "parallel" and check is contract.holds_for_long_texts:
                continue  # the mask of 2,100 tokens takes longest of all
            kernel = kernel_of(form, name, library, slack=1 if check is contract.holds_for_slow_heads else 3)
            if contract.CHECKS[check].declared(kernel) is None:
                yield contract.CHECKS[check].kind, check.__name__, functools.partial(check, kernel, dtype)
    for check, kind in drawn.RETENTION_CHECKS.items():
        for form in offered.values():
            yield kind, check.__name__, functools.partial(check, form)


def fitting(feature):
    """The first array library that has a feature; NumPy, if none is asked for."""
    return next(backend for backend in BACKENDS if backend.has(feature))


def killers(checks, *, one_is_enough=False, failures=AssertionError):
    """The checks, (kind, label, call), that fail by assertion and those that crash, each as {kind: [label]}.

    A crash is no proof that the check looked; `failures` are the exceptions by which it says so. The first assertion of
    each kind is enough; with one_is_enough, so is the first of all.
    """
    found, crashed = {}, {}
    settings.load_profile("few")
    try:
        for kind, label, call in checks:
            if kind in found or label in crashed.get(kind, ()):
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    call()
            except failures as failure:
                if getattr(failure, "raised", None) is not None:
                    crashed.setdefault(kind, []).append(label)
                    continue
                found.setdefault(kind, []).append(label)
                if one_is_enough:
                    break
            except Exception:  # a mutant may fail in any way there is
                crashed.setdefault(kind, []).append(label)
    finally:
        settings.load_profile("tests")
    return found, crashed
