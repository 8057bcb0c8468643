"""Sampling: prompts are read chunkwise, then each new token costs one recurrent step (Eq. 6).

Here too: which drafted tokens a model that reads several at once accepts.
"""

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from .arrays import ArrayT, Params
from .checks import check_integer, check_number
from .config import RetNetConfig
from .model import State, decode_step, forward
from .retention import retention_chunkwise


def sample(
    params: Params,
    prompt: np.ndarray,
    config: RetNetConfig,
    new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    state: State | None = None,
) -> Iterator[tuple[np.ndarray, State]]:
    """Continue a batch of prompts of one length, token by token.

    Args:
        params, config: a model, NumPy arrays.
        prompt: (B, T) integers in [0, vocab_size), T at least 1.
        new_tokens: N, how many to draw, at least 0.
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_k: draw only from the k likeliest tokens; None is all.
        top_p: of these, draw from the fewest likeliest whose probabilities reach this sum, in (0, 1]; None is 1.
        seed: of the draws; the same one draws the same tokens.
        state: a `State` that the prompts continue, or None.

    Returns:
        An iterator of N times tokens (B,) int64, and the `State` after all tokens before them.

    Raises:
        TypeError, ValueError: an argument is not as above; what `forward` raises.
        FloatingPointError: logits are not finite.

    >>> from refimpl import init_params
    >>> config = RetNetConfig(vocab_size=5, dim=8, num_layers=1, num_heads=2)
    >>> drawn = sample(init_params(config), np.array([[1, 2]]), config, 3, temperature=0)
    >>> len([tokens for tokens, _ in drawn])
    3
    """
    check_sampling(new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    rng = np.random.default_rng(seed)
    if prompt.ndim != 2 or 0 in prompt.shape:
        raise ValueError(f"prompt must have shape (batch, time), both at least 1, got {prompt.shape}")
    every, state = forward(params, prompt, config, retention=retention_chunkwise, state=state)
    first = _finite(every[:, -1])

    def drawn(logits: np.ndarray, state: State) -> Iterator[tuple[np.ndarray, State]]:
        for n in range(new_tokens):
            tokens = draw(_finite(logits), rng.random(len(logits)), temperature, top_k, top_p)
            yield tokens, state
            if n + 1 < new_tokens:
                logits, state = decode_step(params, tokens, config, state)

    return drawn(first, state)  # after all checks, so that they come at the call and not at the first token


def _finite(logits: np.ndarray) -> np.ndarray:
    if not np.isfinite(logits).all():
        raise FloatingPointError("logits are not finite: the weights may be broken")
    return logits


def check_sampling(new_tokens: Any, *, temperature: Any, top_k: Any, top_p: Any, seed: Any) -> None:
    """Check the arguments of `sample`."""
    check_integer("new_tokens", new_tokens, minimum=0)
    if check_integer("seed", seed, minimum=0) >= 2**63:  # torch's generators take no more
        raise ValueError(f"seed must be below 2**63, got {seed}")
    if isinstance(temperature, bool) or not isinstance(temperature, Real):
        raise TypeError(f"temperature must be a number, got {temperature!r} ({type(temperature).__name__})")
    if temperature != 0 and not 1e-6 <= float(temperature) < float("inf"):
        raise ValueError(f"temperature must be 0 or from 1e-6 to finite, got {temperature}")
    if top_k is not None:
        check_integer("top_k", top_k, minimum=1)
    if top_p is not None and not 0 < check_number("top_p", top_p) <= 1:
        raise ValueError(f"top_p must lie in (0, 1], got {top_p:g}")


def draw(
    logits: ArrayT, uniform: ArrayT, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Any:
    """Tokens (B,) from logits (B, vocab): where the sum of probabilities, likeliest first, passes uniform (B,) in [0, 1).

    >>> draw(np.log([[0.2, 0.5, 0.3]] * 3), np.array([0.4, 0.6, 0.9]))
    array([1, 2, 0])
    """
    xp: Any = array_namespace(logits)
    if temperature == 0:
        return xp.argmax(logits, axis=-1)
    order, kept = _likeliest_first(logits, temperature, top_k, top_p)
    reached = xp.cumulative_sum(kept, axis=-1)
    passed = xp.sum(reached <= uniform[:, None] * reached[:, -1:], axis=-1)
    last = xp.sum(kept > 0, axis=-1) - 1  # if the product rounds up to the whole sum
    return xp.take_along_axis(order, xp.minimum(passed, last)[:, None], axis=-1)[:, 0]


def probabilities(
    logits: ArrayT, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Any:
    """The probabilities (B, vocab), in float64, with which `draw` takes each token.

    >>> probabilities(np.log([[0.2, 0.5, 0.3]]), top_k=2).round(3)
    array([[0.   , 0.625, 0.375]])
    """
    xp: Any = array_namespace(logits)
    if temperature == 0:
        likeliest = xp.argmax(logits, axis=-1, keepdims=True)
        return xp.astype(xp.arange(logits.shape[-1], device=device(logits)) == likeliest, xp.float64)
    order, kept = _likeliest_first(logits, temperature, top_k, top_p)
    rank, most = xp.argsort(order, axis=-1), kept.shape[-1]
    found = xp.take_along_axis(kept, xp.minimum(rank, xp.full_like(rank, most - 1)), axis=-1)
    found = xp.where(rank < most, found, xp.zeros_like(found))
    return found / xp.sum(found, axis=-1, keepdims=True)


def draw_from(probabilities: ArrayT, uniform: ArrayT) -> Any:
    """Tokens (B,): where the sum of probabilities (B, vocab), of any scale, passes uniform (B,) in [0, 1) of its total.

    >>> draw_from(np.array([[0.2, 0.0, 0.5, 0.3]] * 3), np.array([0.1, 0.2, 0.9]))
    array([0, 2, 3])
    """
    xp: Any = array_namespace(probabilities)
    reached = xp.cumulative_sum(probabilities, axis=-1)
    total = reached[:, -1]
    passed = xp.minimum(uniform * total, total * (1 - 2.0**-53))  # the product may round up to the whole sum
    return xp.sum(reached <= passed[:, None], axis=-1)


def verify(drafted: ArrayT, draft: ArrayT, model: ArrayT, uniform: ArrayT) -> tuple[Any, Any]:
    """How many drafted tokens stand, and the token after them, so that the text follows the model's distribution alone.

    Token x is accepted with probability min(1, p(x) / q(x)), in order until one is not. In its place comes a draw from what q
    lacks of p, max(p - q, 0), and after D accepted ones a draw from p: arXiv:2211.17192v2, Algorithm 1. A drafted token that
    is certain has q(x) = 1.

    Args:
        drafted: (B, D) integers, drawn from draft.
        draft: q (B, D, vocab), the probabilities of each drafted token before it was drawn.
        model: p (B, D + 1, vocab), those of the model after each of no, one, ... D drafted tokens.
        uniform: (B, D + 1) in [0, 1), independent of what drafted was drawn with.

    Returns:
        count (B,), from 0 to D, and the token after the accepted ones (B,).

    >>> p, q = np.array([[[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]]), np.array([[[0.0, 1.0, 0.0]]])
    >>> verify(np.array([[1]]), q, p, np.array([[0.4, 0.0]])), verify(np.array([[1]]), q, p, np.array([[0.6, 0.0]]))
    ((array([1]), array([0])), (array([0]), array([2])))
    """
    xp: Any = array_namespace(drafted, model)
    most = drafted.shape[1]
    p, q = (xp.take_along_axis(x[:, :most, :], drafted[..., None], axis=-1)[..., 0] for x in (model, draft))
    refused = xp.astype(uniform[:, :most] * q >= p, xp.int64)
    count = xp.sum(xp.cumulative_sum(refused, axis=1) == 0, axis=1)
    place = xp.broadcast_to(count[:, None, None], (count.shape[0], 1, model.shape[2]))
    p, q = (
        xp.take_along_axis(x, place, axis=1)[:, 0, :]
        for x in (model, xp.concat([draft, xp.zeros_like(model[:, :1, :])], axis=1))
    )
    return count, draw_from(lacking(p, q), uniform[:, most])


def lacking(p: ArrayT, q: ArrayT) -> Any:
    """What probabilities q lack of p, (B, vocab), of any scale: max(p - q, 0), or p where only rounding is left of it.

    >>> lacking(np.array([[0.2, 0.5, 0.3]]), np.array([[0.6, 0.3, 0.1]])).round(1)
    array([[0. , 0.2, 0.2]])
    """
    xp: Any = array_namespace(p, q)
    rest = xp.clip(p - q, 0, None)
    return xp.where(xp.sum(rest, axis=-1, keepdims=True) > 0, rest, p)


def _likeliest_first(logits: Any, temperature: float, top_k: int | None, top_p: float | None) -> tuple[Any, Any]:
    """Tokens (B, vocab) by falling logits, and the probabilities of the first k of them, 0 beyond top_p; of any scale."""
    xp: Any = array_namespace(logits)
    order = xp.argsort(logits, axis=-1, descending=True, stable=True)
    scores = xp.astype(xp.take_along_axis(logits, order, axis=-1), xp.float64)[:, :top_k] / temperature
    kept = xp.exp(scores - scores[:, :1])
    kept = kept / xp.sum(kept, axis=-1, keepdims=True)
    if top_p is not None:
        likelier = xp.cumulative_sum(kept, axis=-1) - kept
        kept = xp.where(likelier < top_p, kept, xp.zeros_like(kept))  # the likeliest always stays: nothing is likelier
    return order, kept
