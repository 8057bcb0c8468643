"""A wrong result as a sum of the terms of a right one: which are missing, scaled, or decayed too often."""

import functools

import numpy as np

from .matching import chunk_sizes, explains, wrong_results

TERMS = {
    "itself": "what a token reads of itself",
    "near": "what it reads of its chunk",
    "far": "what it reads of earlier chunks",
    "start": "what it reads of the state given",
}
LEFT = {
    "near": "what the last chunk leaves in the state",
    "far": "what earlier chunks leave in the state",
    "start": "what the state given leaves in the state",
}


@functools.lru_cache(maxsize=1)  # one problem is asked about with many chunk sizes
def _scores(case):
    """The decayed scores of a problem (B, H, T, T), and its tokens' reads of themselves."""
    lag = np.arange(case.time)[:, None] - np.arange(case.time)[None, :]
    scores = (case.q @ case.k.mT) * np.where(lag >= 0, case.gamma[:, None, None] ** np.maximum(lag, 0), 0.0)
    return scores, np.diagonal(scores, axis1=-2, axis2=-1)[..., None] * case.v


def out_terms(case, size):
    """{term: its part of out}, with chunks of `size`."""
    n = np.arange(case.time)
    scores, itself = _scores(case)
    near, far = np.zeros(itself.shape), np.zeros(itself.shape)
    for start in range(0, case.time, size):
        chunk = slice(start, start + size)
        near[:, :, chunk] = np.tril(scores[:, :, chunk, chunk], -1) @ case.v[:, :, chunk]
        far[:, :, chunk] = scores[:, :, chunk, :start] @ case.v[:, :, :start]
    terms = {"itself": itself, "near": near, "far": far}
    if case.state is not None:
        terms["start"] = (case.q @ case.state) * case.gamma[:, None, None] ** (n + 1)[:, None]
    return terms


def state_terms(case, size):
    """{term: its part of the state}, with chunks of `size`."""
    n, g = np.arange(case.time), case.gamma[:, None, None]
    written = case.v * g ** (case.time - 1 - n)[:, None]
    last = (n // size == (case.time - 1) // size)[:, None]
    terms = {"near": case.k.mT @ (written * last), "far": case.k.mT @ (written * ~last)}
    if case.state is not None:
        terms["start"] = g**case.time * case.state
    return terms


def by_terms(kernel, dtype, case, results):
    """Each head as a sum of its terms times factors: which factors are not 1, and whether they are powers of gamma."""
    tolerance = kernel.tolerance(dtype)
    wrong = wrong_results(case, results, tolerance)
    if not wrong or case.time > 700 or not all(np.isfinite(got).all() for _, got, _ in wrong):
        return None
    what, got, want = wrong[0]
    found = []
    for size in chunk_sizes(kernel):
        parts = {name: x for name, x in (state_terms if what == "state" else out_terms)(case, size).items() if x.any()}
        factors, guess = _factors(parts, got, tolerance)
        if factors and explains(got, guess, want, tolerance) is not None:
            found.append((len(factors), size, factors, set(factors) == set(parts)))
    if not found:
        return None
    _, size, factors, every = min(found, key=lambda each: each[0])
    return _in_words(what, case, size, factors, every)


def _factors(parts, got, tolerance):
    """{term: a factor for each head} of those that are not 1, and the sum of terms that they give."""
    factors, guess = {name: np.ones(got.shape[1]) for name in parts}, np.zeros(got.shape)
    for h in range(got.shape[1]):
        y = got[:, h].ravel()
        size = max(np.linalg.norm(x[:, h]) for x in parts.values())
        kept = [name for name, x in parts.items() if np.linalg.norm(x[:, h]) > 1e-4 * size]
        solved = np.linalg.lstsq(np.stack([parts[name][:, h].ravel() for name in kept], axis=1), y, rcond=None)[0]
        for name, factor in zip(kept, solved, strict=True):
            share = np.linalg.norm(y) / np.linalg.norm(parts[name][:, h])
            slack = min(max(30 * tolerance, 1e-6) * share, 0.2)
            if abs(factor - 1) > slack:
                factors[name][h] = 0.0 if abs(factor) < slack else factor
        guess[:, h] = sum(factors[name][h] * x[:, h] for name, x in parts.items())
    return {name: x for name, x in factors.items() if np.any(x != 1)}, guess


def _in_words(what, case, size, factors, every):
    """The mistake of the terms whose factors, one a head, are not 1; every: whether these are all terms."""
    words = LEFT if what == "state" else TERMS
    named = " and ".join(words[name] for name in factors)
    chunks = f" (chunks of {size})" if {"near", "far"} & set(factors) and not every else ""
    numbers, gamma = np.stack(list(factors.values())), np.log(case.gamma)
    if not numbers.any():
        missing = {"start": "initial state ignored", "itself": "strict mask", "far": "state lost between chunks"}
        name = missing.get(next(iter(factors)), "missing term") if len(factors) == 1 else "missing term"
        return name, f"{named} is missing from {what}{chunks}"
    if np.all(numbers != 1) and np.ptp(numbers) <= 0.02 * np.max(np.abs(numbers)):
        factor = _power_of_width(float(np.mean(numbers)), case.q.shape[3])
        if every:
            return "scale of its own", f"{what} is {factor} times what it should be; declare scale= if that is meant"
        return "scale in one term", f"{named} is multiplied by {factor}{chunks}"
    with np.errstate(divide="ignore", invalid="ignore"):
        powers = (np.log(numbers) / gamma)[:, gamma < -1e-3]
    power = np.round(np.median(powers)) if powers.size else 0.0
    if power and np.max(np.abs(powers - power)) < 0.1 * abs(power) ** 0.5:
        tail = -case.time % size
        if what == "state" and power == tail:
            return (
                "wrong chunk length in the tail",
                f"{named} has {tail} decays too many: the last chunk has its own length",
            )
        many = f"{abs(power):.0f} decay{'s' if abs(power) > 1 else ''} too {'many' if power > 0 else 'few'}"
        return f"one decay too {'many' if power > 0 else 'few'}", f"{named} has {many}{chunks}"
    if np.all(numbers != 1):
        return "scale in one term", f"{named} is multiplied by a number of its own in each head{chunks}"
    return None


def _power_of_width(factor, key_dim):
    for power, text in ((-0.5, "K^-0.5"), (0.5, "K^0.5"), (-1, "1/K"), (1, "K")):
        if key_dim > 1 and abs(factor / key_dim**power - 1) < 0.01:
            return f"{factor:.4g} = {text}"
    return f"{factor:.4g}"
