"""How fast a head forgets: the gamma of each head, and the tables of its powers.

Everything here is a power of gamma with a non-negative exponent, computed in float64. The product
gamma**n * gamma**-m is never formed: its second factor overflows float32 after 2,794 tokens.
Equations: arXiv:2307.08621v4.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as device_of

from .arrays import Array, ArrayT
from .checks import check_choice, check_gamma, check_integer

SCHEDULES = ("released", "paper", "quarter")
STEPS = {"released": 1.0, "quarter": 0.25}  # by which log2 of what a head forgets falls from head to head


def check_schedule(name: str, schedule: Any) -> str | float:
    """Return `schedule` if it names a schedule or is a gamma in (0, 1]; `name` is that of the argument."""
    if isinstance(schedule, str):
        return check_choice(name, schedule, SCHEDULES)
    names = ", ".join(map(repr, SCHEDULES))
    try:
        if isinstance(schedule, bool):
            raise TypeError
        number = float(schedule)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be one of {names} or a gamma in (0, 1], got {schedule!r}") from None
    if not 0 < number <= 1:
        raise ValueError(f"{name} must be one of {names} or a gamma in (0, 1], got {schedule!r}")
    return number


def head_decays(
    num_heads: int, schedule: str | float = "released", *, log: bool = False, xp: Any = np, device: Any = None
) -> Any:
    """Decay gamma of each head, or its natural logarithm (Eq. 8).

    Head h forgets the share 1 - gamma_h of its state at each token, so it remembers about
    1 / (1 - gamma_h) tokens.

    Args:
        num_heads: H, at least 1.
        schedule: "released" is gamma_h = 1 - 2**(-5 - h) (Eq. 8 and the authors' code); "paper" is
            1 - exp(linspace(log(1/32), log(1/512), H)), the setting of the paper's experiments;
            "quarter" is 1 - 2**(-5 - h / 4), of the authors' later submission; a number in (0, 1] is
            one gamma for all heads, as in the ablations.
        log: return log(gamma), by log1p. It is accurate in any dtype; gamma itself rounds to 1 in
            float32 from head 20 on.
        xp, device: array namespace and device of the result; NumPy by default.

    Returns:
        (H,) float64.

    Raises:
        TypeError, ValueError: num_heads is no integer of at least 1, or schedule is unknown.

    >>> head_decays(3)
    array([0.96875  , 0.984375 , 0.9921875])
    >>> 1 / (1 - head_decays(4, "released"))   # tokens remembered
    array([ 32.,  64., 128., 256.])
    """
    check_integer("num_heads", num_heads, minimum=1)
    schedule = check_schedule("schedule", schedule)
    if not isinstance(schedule, str):
        gamma = xp.full((num_heads,), schedule, dtype=xp.float64, device=device)
        return xp.log(gamma) if log else gamma
    if schedule in STEPS:
        log2_forgotten = -5.0 - STEPS[schedule] * xp.arange(num_heads, dtype=xp.float64, device=device)
    else:
        log2_forgotten = xp.linspace(-5.0, -9.0, num_heads, dtype=xp.float64, device=device)
    forgotten = 2.0**log2_forgotten
    return xp.log1p(-forgotten) if log else 1.0 - forgotten


def decay_mask(gamma: ArrayT, time: int, *, rows: slice | None = None) -> ArrayT:
    """The decay mask D of the parallel form: D_nm = gamma^(n-m) for n >= m, else 0 (Eq. 5).

    The mask is applied before the power is taken: above the diagonal n - m is negative, gamma^(n-m)
    would overflow, and inf * 0 is NaN.

    Args:
        gamma: (H,) float32 or float64 in (0, 1].
        time: T, the number of tokens.
        rows: a slice of the rows n to compute; None for all T of them.

    Returns:
        (H, R, T) in gamma's dtype, R the number of rows.

    Raises:
        TypeError, ValueError: gamma is not as above, time is not an integer of at least 0, or
            rows is not a slice.

    >>> decay_mask(np.asarray([0.5]), 3)
    array([[[1.  , 0.  , 0.  ],
            [0.5 , 1.  , 0.  ],
            [0.25, 0.5 , 1.  ]]])
    """
    check_gamma(gamma)
    time = check_integer("time", time, minimum=0)
    if not (rows is None or isinstance(rows, slice)):
        raise TypeError(f"rows must be a slice or None, got {type(rows).__name__}")
    return decay_mask_of(gamma, time, rows)


def chunk_decays(gamma: ArrayT, length: int) -> tuple[ArrayT, ArrayT, ArrayT]:
    """The decays xi, zeta and gamma^c of a chunk of c tokens (Eq. 7), for j = 1 ... c.

    xi_j = gamma^j is the share of the state before the chunk that token j still sees; zeta_j =
    gamma^(c-j) is the share of token j that is left in the state after the chunk; gamma^c is the
    share of the state before that is left after it. A shorter last chunk uses its own length c.

    Args:
        gamma: (H,) float32 or float64 in (0, 1].
        length: c, at least 0.

    Returns:
        xi (H, c), zeta (H, c), whole (H,), in gamma's dtype.

    Raises:
        TypeError, ValueError: gamma is not as above, or length is not an integer of at least 0.

    >>> xi, zeta, whole = chunk_decays(np.asarray([0.5]), 3)
    >>> xi, zeta, whole
    (array([[0.5  , 0.25 , 0.125]]), array([[0.25, 0.5 , 1.  ]]), array([0.125]))
    """
    check_gamma(gamma)
    length = check_integer("length", length, minimum=0)
    return chunk_decays_of(gamma, length)


def decay_mask_of(gamma: Array, time: int, rows: slice | None = None, *, dtype: Any = None) -> Any:
    """`decay_mask` for arguments that have been checked; reading the values of gamma would make a GPU wait.

    dtype: of the result, gamma's by default. Each power is computed once and copied to all cells of its lag.
    """
    xp, device = array_namespace(gamma), device_of(gamma)
    powers = _power(xp, gamma, xp.arange(time, dtype=xp.float64, device=device))
    future = xp.zeros_like(powers)  # for the lags -T ... -1, whose powers are not computed
    table = xp.astype(xp.concat([future, powers], axis=1), dtype or gamma.dtype)
    positions = xp.arange(time, device=device)
    # Not slice(None) in place of None: torch.compile of torch 2.11 cannot follow slice.indices.
    queries = positions if rows is None else xp.arange(*rows.indices(time), device=device)
    lag = queries[:, None] - positions[None, :]
    cells = xp.reshape(lag + time, (-1,))
    return xp.reshape(xp.take(table, cells, axis=1), (gamma.shape[0], *lag.shape))


def chunk_decays_of(gamma: Array, length: int) -> tuple[Any, Any, Any]:
    """`chunk_decays` for arguments that have been checked."""
    xp = array_namespace(gamma)
    j = xp.arange(1, length + 1, dtype=xp.float64, device=device_of(gamma))
    whole = xp.full((1,), length, dtype=xp.float64, device=device_of(gamma))
    return _power(xp, gamma, j), _power(xp, gamma, length - j), _power(xp, gamma, whole)[:, 0]


def in_two_parts(decay: Array, dtype: Any) -> tuple[Any, Any]:
    """Decays (H,) as the nearest integer, 0 or 1, and the rest: (H, 1, 1) of dtype each; `carry` uses them. Also (..., H).

    A decay near 1 rounded to float32 is off by up to 3e-8, by the same error at every token; its rest is not.
    """
    xp = array_namespace(decay)
    whole = xp.round(decay)
    return tuple(xp.astype(part, dtype)[..., None, None] for part in (whole, decay - whole))


def carry(decay: tuple[Any, Any], state: Any, written: Any) -> Any:
    """decay * state + written; decay is in two parts, as `in_two_parts` gives it."""
    high, low = decay
    return high * state + (low * state + written)


def _power(xp: Any, gamma: Any, exponents: Any) -> Any:
    """gamma_h ** exponents: (H,) and exponents of any shape S give (H, *S), computed in float64."""
    base = xp.reshape(xp.astype(gamma, xp.float64), (-1,) + (1,) * exponents.ndim)
    return xp.astype(base**exponents, gamma.dtype)
