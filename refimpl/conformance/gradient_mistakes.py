"""The mistake that a wrong gradient usually comes from, where results are right."""

import itertools

import numpy as np

from . import gradients, locations
from .matching import chunk_sizes, explains
from .problems import NAMES, Problem


def by_gradient(kernel, dtype, failure):
    """(name, sentence) of the likely mistake behind a wrong gradient of right results."""
    name = failure.difference.what.rpartition(" ")[2]
    got, want, tolerance = failure.difference.got, failure.difference.want, failure.difference.tolerance
    case, upstream = kernel.scaled(failure.problem), failure.upstream
    factor = kernel.factor(case) if name == "q" else 1.0
    if not got.any():
        return "no gradient", f"no gradient reaches {name}: it is detached on the way, or backward leaves it out"
    if not np.isfinite(got).all():
        return (
            "gradient not finite",
            f"the gradient of {name} is not finite: a power of gamma overflows, or memory is not written",
        )
    as_heads = (lambda x: x[None, :, None, None]) if name == "gamma" else (lambda x: x)
    best = None
    for mistake, guess in _gradient_guesses(kernel, case, upstream, name):
        rest = explains(as_heads(got), as_heads(guess * factor), as_heads(want), tolerance)
        if rest is not None and (best is None or max(rest, tolerance) < best[0] / 10):
            best = max(rest, tolerance), mistake
    if best is not None:
        return best[1]
    if name == "gamma":
        factor = np.sum(got * want) / np.sum(want**2)
        if explains(as_heads(got), as_heads(want * factor), as_heads(want), tolerance) is not None:
            return "gradient scaled", f"the gradient of gamma is {factor:.4g} times what it should be, in every head"
    else:
        size = np.sum(want**2, axis=(0, 2, 3))
        factors = np.sum(got * want, axis=(0, 2, 3)) / np.where(size > 0, size, 1.0)
        scales = np.all(np.abs(factors - 1) > 10 * tolerance)
        if scales and explains(got, want * factors[:, None, None], want, tolerance) is not None:
            scale = (
                f"{np.mean(factors):.4g} times"
                if np.ptp(factors) < 0.01 * np.max(np.abs(factors))
                else "a number times"
            )
            return "gradient scaled", f"the gradient of {name} is {scale} what it should be, in every head"
        placed = locations.by_place(kernel, dtype, failure)
        if placed is not None:
            return placed

    def right(case, dtype):
        gradients.right(kernel, case, dtype, names=(name,))

    return (
        locations.by_precision(dtype, failure.difference)
        or locations.by_size(kernel, dtype, failure.problem, right)
        or (
            "wrong gradient",
            f"the gradient of {name} is wrong, and results are right: backward is not that of forward",
        )
    )


def _gradient_guesses(kernel, case, upstream, name):
    """((name, sentence), a gradient of the argument) of the mistakes that backward passes make."""
    grad_out, grad_state = upstream
    if grad_out is not None and grad_state is not None:
        yield (
            ("gradient of one result lost", "what flows back through the state returned is lost"),
            case.gradients(grad_out, None)[name],
        )
        yield (
            ("gradient of one result lost", "what flows back through out is lost"),
            case.gradients(None, grad_state)[name],
        )
    for size in chunk_sizes(kernel):
        if size < case.time:
            sentence = f"no gradient flows from a chunk of {size} to the one before: the state between them is detached"
            yield ("gradient cut at chunks", sentence), _cut(case, upstream, size)[name]
    if case.state is not None and name != "state":
        alone = Problem(*case.inputs[:4], None).gradients(*upstream)[name]
        yield ("gradient misses a term", f"the gradient of {name} by what is read of the state given is missing"), alone
        yield (
            ("gradient misses a term", f"the gradient of {name} is of the state given alone"),
            case.gradients(*upstream)[name] - alone,
        )
    if name == "gamma":
        terms = case.gamma_terms(*upstream)
        for count in range(1, len(terms)):
            for missing in itertools.combinations(terms, count):
                rest = sum(x for term, x in terms.items() if term not in missing)
                sentence = f"the gradient of gamma by {' and '.join(missing)} is missing"
                yield ("gradient misses a term", sentence), rest
        for b in range(len(case.q)):
            alone = Problem(
                *(x[b : b + 1] for x in case.inputs[:3]),
                case.gamma,
                None if case.state is None else case.state[b : b + 1],
            )
            part = alone.gradients(*(None if g is None else g[b : b + 1] for g in upstream))["gamma"]
            yield ("batches mixed", f"the gradient of gamma is that of sequence {b} alone, want the sum of all"), part
    for one, other in (("q", "k"), ("k", "q")):
        if name == one:
            yield ("gradients swapped", f"the gradient of {one} is that of {other}"), case.gradients(*upstream)[other]
    if name == "state":
        turned = case.gradients(*upstream)[name]
        yield (
            ("state transposed", "the gradient of state is (B, H, V, K), want (B, H, K, V)"),
            turned.mT.reshape(turned.shape),
        )
    g = case.gamma[:, None, None]
    if name in ("k", "v", "state"):
        right = case.gradients(*upstream)[name]
        for power, words in ((1, "one decay too many"), (-1, "one decay too few")):
            yield (words, f"the gradient of {name} has {words}"), right * g**power


def _cut(case, upstream, size):
    """Gradients of every argument where no gradient passes from chunk to chunk."""
    grad_out, grad_state = upstream
    found, state = {name: [] for name in NAMES}, case.state
    for start in range(0, case.time, size):
        part = case.tokens(start, start + size, state)
        stops = start + size >= case.time
        grads = None if grad_out is None else grad_out[:, :, start : start + size], grad_state if stops else None
        for name, x in part.gradients(*grads).items():
            found[name].append(x)
        state = part.reference[1]
    joined = {name: np.concatenate(found[name], axis=2) for name in "qkv"}
    return joined | {"gamma": sum(found["gamma"]), "state": found["state"][0]}
