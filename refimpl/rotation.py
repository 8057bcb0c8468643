"""Position as a phase: pairs of channels are rotated by an angle proportional to the position.

The complex number of the pair (x_0, x_1) at position n is multiplied by e^(i n theta) (Eq. 4 and 8,
arXiv:2307.08621v4), so q_n . k_m depends on the positions only through n - m.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from array_api_compat import device as device_of

from .arrays import Array, ArrayT
from .checks import accumulation_dtype, check_arrays, check_choice, check_key_dim, check_positions, check_shape

LADDERS = ("released", "rotary")


def rotation_frequencies(key_dim: int, ladder: str = "released", *, xp: Any = np, device: Any = None) -> Any:
    """Angles theta_i, in radians a token, of the K/2 channel pairs.

    Args:
        key_dim: K, even, at least 2.
        ladder: "released" is 10000**-linspace(0, 1, K/2), the authors' code; "rotary" is
            10000**(-2i/K), as in rotary position embeddings. They agree only at i = 0.
        xp, device: array namespace and device of the result; NumPy by default.

    Returns:
        (K/2,) float64.

    Raises:
        TypeError, ValueError: key_dim is no even integer of at least 2, or ladder is unknown.

    >>> rotation_frequencies(4, "released"), rotation_frequencies(4, "rotary")
    (array([1.e+00, 1.e-04]), array([1.  , 0.01]))
    """
    key_dim = check_key_dim(key_dim)
    check_choice("ladder", ladder, LADDERS)
    pairs = key_dim // 2
    if ladder == "released":
        exponent = xp.linspace(0.0, 1.0, pairs, dtype=xp.float64, device=device)
    else:
        exponent = xp.arange(pairs, dtype=xp.float64, device=device) / pairs
    return 10000.0**-exponent


def rotate(x: ArrayT, offset: int | Array = 0, ladder: str | Array = "released") -> ArrayT:
    """Rotate channel pair i of token n by the angle (offset + n) theta_i.

    (x_0, x_1) becomes (x_0 cos a - x_1 sin a, x_0 sin a + x_1 cos a). Angles are computed in float64,
    where they are exact to 1e-9 at a million tokens (float32: 3e-2).

    Args:
        x: (..., T, K) of a real floating dtype, K even.
        offset: position of the first token, an integer, or integers (B,), one for each entry of x's first axis;
            or (B, T), the position of every token. For a resumed sequence it is the number of tokens before.
        ladder: "released" or "rotary" (see `rotation_frequencies`), or an array (K/2,) of angles.

    Returns:
        An array of x's shape and dtype.

    Raises:
        TypeError, ValueError: x, offset or ladder is not as above.

    >>> rotate(np.asarray([[1.0, 0.0], [1.0, 0.0]]), ladder=np.asarray([np.pi / 2])).round(12)
    array([[1., 0.],
           [0., 1.]])
    """
    return turn(x, *phases(x, offset, ladder))


def phases(x: ArrayT, offset: int | Array = 0, ladder: str | Array = "released") -> tuple[ArrayT, ArrayT]:
    """cos and sin of the angles by which `rotate` rotates x; they depend only on its shape, dtype and device.

    Arguments and errors as for `rotate`. Returns two arrays (T, K/2), or (B, 1, ..., T, K/2) for an array of offsets:
    float64 for float64 x, float32 for narrower x.

    >>> phases(np.ones((2, 2)), ladder=np.asarray([np.pi]))[0]
    array([[ 1.],
           [-1.]])
    """
    xp = check_arrays(x=x)
    if x.ndim < 2:
        raise ValueError(f"x must have at least 2 axes (..., time, key_dim), got shape {tuple(x.shape)}")
    offset = check_positions("offset", offset, x, (x.shape[0], x.shape[-2]) if x.ndim > 2 else ())
    key_dim = check_key_dim(x.shape[-1])
    if isinstance(ladder, str):
        theta = rotation_frequencies(key_dim, ladder, xp=xp, device=device_of(x))
    else:
        check_arrays(x=x, ladder=ladder)
        check_shape("ladder", ladder, (key_dim // 2,), "one angle for each channel pair of x")
        theta = xp.astype(ladder, xp.float64)
    positions = token_positions(offset, x.shape[-2], xp, device_of(x))
    if positions.ndim == 2:
        positions = xp.reshape(positions, (x.shape[0], *(1,) * (x.ndim - 3), x.shape[-2]))
    angle = positions[..., None] * theta
    dtype = accumulation_dtype(xp, x.dtype)
    return xp.astype(xp.cos(angle), dtype), xp.astype(xp.sin(angle), dtype)


def token_positions(position: Any, time: int, xp: Any, device: Any) -> Any:
    """Positions of all tokens, float64: (T,) for that of the first, an int; (B, T) for integers (B,), or for (B, T)."""
    if getattr(position, "ndim", 0):
        position = xp.astype(position, xp.float64)
        if position.ndim == 2:
            return position
        position = position[:, None]
    return position + xp.arange(time, dtype=xp.float64, device=device)


def turn(x: ArrayT, cos: Array, sin: Array) -> ArrayT:
    """`rotate` with given phases: x (..., T, K), cos and sin (T, K/2) in the dtype to compute in."""
    xp = array_namespace(x)
    even, odd = xp.astype(x[..., 0::2], cos.dtype), xp.astype(x[..., 1::2], cos.dtype)
    turned = xp.stack((even * cos - odd * sin, even * sin + odd * cos), axis=-1)
    return xp.astype(xp.reshape(turned, x.shape), x.dtype)
