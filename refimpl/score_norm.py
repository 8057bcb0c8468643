"""How the paper normalises retention scores, and in which forms each normalisation can be computed.

Group normalisation with eps 0 cancels a positive factor per token and head. The row sums of D are such a factor and are
known in every form. So is the sum of a row of scores, by a recurrence of its own (lesson 8); the sum of their absolute
values needs the whole row. Both sums are offered where the released code takes them: only in the parallel form.
"""

from typing import Any

from array_api_compat import array_namespace, device

from .arrays import Array, ArrayT
from .checks import check_choice, check_gamma, check_integer, check_positions
from .decay import decay_mask
from .rotation import token_positions


def row_sums(gamma: ArrayT, time: int, position: int | Array = 0) -> ArrayT:
    """Sum of row n of the decay mask D: (1 - gamma^n) / (1 - gamma), and n for gamma = 1 (Eq. 5).

    Recurrently it is r_n = gamma r_(n-1) + 1. n counts from 1 at the beginning of the text.

    Args:
        gamma: (H,) float32 or float64 in (0, 1].
        time: T, the number of tokens.
        position: the number of tokens before the first, an integer, or integers (B,), one for each sequence; or (B, T),
            before every token.

    Returns:
        (H, T) float64, or (B, H, T) for an array of positions.

    Raises:
        TypeError, ValueError: an argument is not as above.

    >>> import numpy as np
    >>> row_sums(np.asarray([0.5, 1.0]), 3)
    array([[1.  , 1.5 , 1.75],
           [1.  , 2.  , 3.  ]])
    """
    check_gamma(gamma)
    time = check_integer("time", time, minimum=0)
    return row_sums_of(gamma, time, check_positions("position", position, gamma, (None, time), minimum=0))


def row_sums_of(gamma: Array, time: int, position: Any) -> Any:
    """`row_sums` for arguments that have been checked."""
    xp = array_namespace(gamma)
    n = 1 + token_positions(position, time, xp, device(gamma))
    n = n if n.ndim == 1 else n[:, None, :]
    decay = xp.astype(gamma, xp.float64)[:, None]
    endless = decay == 1
    forgotten = xp.where(endless, xp.ones_like(decay), 1 - decay)
    # By expm1 and log1p, because 1 - gamma^n loses all digits where gamma^n is close to 1.
    kept = -xp.expm1(n * xp.log1p(-xp.where(endless, xp.zeros_like(decay), forgotten)))
    return xp.where(endless, n + xp.zeros_like(kept), kept / forgotten)


def score_scale(q: Any, k: Any, gamma: Array, kind: str, row_norm: bool = False) -> Any:
    """The paper's divisor of row n of the scores R = Q K^T * D: max(|sum_m R_nm|, 1), or max(sum_m |R_nm|, 1).

    Args:
        q, k: (B, H, T, K), of the whole text from its first token.
        gamma: (H,).
        kind: "sum" or "absolute".
        row_norm: whether R was divided by the roots of `row_sums`.

    Returns:
        (B, H, T, 1) in q's dtype.

    Raises:
        ValueError: kind is neither.

    >>> import numpy as np
    >>> q, k = np.ones((1, 1, 2, 1)), np.asarray([3.0, -2.0]).reshape(1, 1, 2, 1)
    >>> score_scale(q, k, np.asarray([1.0]), "sum").ravel(), score_scale(q, k, np.asarray([1.0]), "absolute").ravel()
    (array([3., 1.]), array([3., 5.]))
    """
    check_choice("kind", kind, ("sum", "absolute"))
    xp = array_namespace(q, k)
    scores = (q @ k.mT) * xp.astype(decay_mask(gamma, q.shape[2]), q.dtype)
    if row_norm:
        scores = scores / xp.astype(xp.sqrt(row_sums(gamma, q.shape[2])), q.dtype)[:, :, None]
    if kind == "absolute":
        scores = xp.abs(scores)
    total = xp.abs(xp.sum(scores, axis=-1, keepdims=True))
    return xp.where(total > 1, total, xp.ones_like(total))
