"""Input checks: every public function of the package checks its arguments here, once, before it computes.

A check either returns what the caller needs or raises `TypeError` (wrong kind of thing) or `ValueError` (right kind,
wrong shape or range). The message names the argument, what came and what is wanted. Nothing is broadcast or cast down.
Values are checked only where a wrong one would silently spoil the result (gamma, tokens), and as `libraries.check_values`
does it, which never waits for a device; a NaN in q, k or v shows up in the output.
"""

import math
import operator
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj

from .arrays import Array
from .libraries import check_values

# In native byte order. A wider dtype would be computed with fewer digits than it came with.
DTYPES = ("float16", "bfloat16", "float32", "float64")
_NUMPY_DTYPES = frozenset(map(np.dtype, (np.float16, np.float32, np.float64)))


def _backend(array: Any) -> str:
    """The name of an array's library, also for subclasses."""
    return array_namespace(array).__name__.removeprefix("array_api_compat.")


def check_arrays(**arrays: Any) -> Any:
    """Return the array namespace of all `arrays`: real floating arrays of one library, on one device.

    The first argument sets the library and the device; the others must match it.
    """
    (first_name, first), *_ = arrays.items()
    if all(type(array) is np.ndarray and array.dtype in _NUMPY_DTYPES for array in arrays.values()):
        return array_namespace(first)  # the usual case: in a decode step the checks below would cost most of the time
    place = None
    for name, array in arrays.items():
        if array is first or type(array) is not type(first):  # the type of the first has been checked
            if not is_array_api_obj(array) or isinstance(array, np.ma.MaskedArray):
                raise TypeError(
                    f"{name} must be an array (NumPy, torch or another array-API library), got {type(array).__name__}"
                )
            if array is not first and _backend(array) != _backend(first):
                raise TypeError(
                    f"{name} must be an array of {_backend(first)} like {first_name}, got one of {_backend(array)}"
                )
        if f"{array.dtype}".rpartition(".")[2] not in DTYPES:
            raise TypeError(f"{name} must have dtype {', '.join(DTYPES)}, got {array.dtype}")
        place = device(first) if place is None else place
        if array is not first and None not in (place, device(array)) and device(array) != place:  # None: traced
            raise ValueError(f"{name} must be on device {place} like {first_name}, got device {device(array)}")
    return array_namespace(first)


def check_integer(name: str, value: Any, minimum: int | None) -> int:
    """Return `value` as an int of at least `minimum` (None: any); floats and bools raise a TypeError."""
    try:
        if isinstance(value, bool):
            raise TypeError
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})") from None
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return value


def check_positions(
    name: str, positions: Any, like: Array, shape: tuple[int | None, ...], minimum: int | None = None
) -> Any:
    """Return positions: an int of at least `minimum`, or integers (B,), those of first tokens, or (B, T), of all tokens.

    like: an array whose library an array of positions must share. shape: (B, T), of which B may be None, for any.
    """
    if not is_array_api_obj(positions) or positions.ndim == 0:
        return check_integer(name, positions, minimum)
    wanted = tuple(positions.shape[i] if n is None else n for i, n in enumerate(shape[: positions.ndim]))
    meaning = "one for each token" if positions.ndim == 2 else "one for each sequence"
    return check_integers(name, positions, like, wanted, meaning, "an integer or an array of integers")


def check_integers(
    name: str, array: Any, like: Array, shape: Sequence[Any], meaning: str, wanted: str = "an array of integers"
) -> Any:
    """Return an array of integers of this shape, of the library of `like`; meaning, wanted: words for the message."""
    xp, library = check_arrays(like=like), _backend(like)
    if not is_array_api_obj(array):
        raise TypeError(f"{name} must be {wanted} of {library}, got {type(array).__name__}")
    if _backend(array) != library or not xp.isdtype(array.dtype, "integral"):
        raise TypeError(f"{name} must be {wanted} of {library}, got one of {_backend(array)} and {array.dtype}")
    if None not in (device(like), device(array)) and device(like) != device(array):  # None: traced
        raise ValueError(f"{name} must be on device {device(like)}, got device {device(array)}")
    check_shape(name, array, shape, meaning)
    return array


def check_number(name: str, value: Any, minimum: float | None = None) -> float:
    """Return `value` as a finite float of at least `minimum` (None: any)."""
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, got {number:g}")
    return number


def check_key_dim(key_dim: Any) -> int:
    """Return K, an even integer of at least 2: channels rotate in pairs."""
    key_dim = check_integer("key_dim", key_dim, minimum=2)
    if key_dim % 2:
        raise ValueError(f"key_dim must be even, for channels turn in pairs, got {key_dim}")
    return key_dim


def check_choice(name: str, value: Any, choices: Collection[Any]) -> Any:
    """Return `value` if it is one of `choices`."""
    if not any(isinstance(value, type(choice)) and value == choice for choice in choices):  # 1 is not True here
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_shape(name: str, array: Array, shape: Sequence[Any], meaning: str) -> None:
    """Require the exact `shape`; `meaning` says in words what its axes are or where they come from."""
    got, wanted = tuple(array.shape), tuple(shape)
    if got != wanted:
        swapped = "; its axes 1 and 2 are swapped" if (*got[:1], *got[2:3], *got[1:2], *got[3:]) == wanted else ""
        raise ValueError(f"{name} must have shape {wanted} ({meaning}), got {got}{swapped}")


def check_gamma(gamma: Any) -> Any:
    """Return the namespace of `gamma`: (heads,) float32 or float64, each in (0, 1]."""
    xp = check_arrays(gamma=gamma)
    if gamma.ndim != 1:
        raise ValueError(f"gamma must have shape (heads,), one decay a head, got {tuple(gamma.shape)}")
    if gamma.dtype not in (xp.float32, xp.float64):
        # 1 - 2**-9 is 1 in bfloat16 and 1 - 2**-12 is 1 in float16: such a head would never forget.
        raise TypeError(f"gamma must be float32 or float64, got {gamma.dtype}")
    # The comparison is also false for NaN.
    inside = lambda gamma: (gamma > 0) & (gamma <= 1)  # noqa: E731
    check_values(gamma, inside, "gamma must lie in (0, 1]", lambda: _first_outside(gamma, inside(gamma)))
    return xp


def _first_outside(gamma: Any, inside: Any) -> str:
    head = next(h for h in range(gamma.shape[0]) if not bool(inside[h]))
    value = gamma[head]  # float() of a tensor that requires a gradient warns, and a strict array has no item()
    return f"{value.item() if hasattr(value, 'item') else float(value):g} at head {head}"


def check_numpy(**arrays: Any) -> None:
    """Require NumPy arrays, for code that is not written in the array API; an absent argument is None."""
    for name, array in arrays.items():
        if array is not None and not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")


def check_state(name: str, state: Array, shape: Sequence[int], dtype: Any) -> None:
    """Require a state of `shape` (B, H, K, V) in the accumulation dtype for inputs of `dtype`."""
    check_shape(name, state, shape, "batch, heads, key_dim, value_dim")
    xp = array_namespace(state)
    wanted = accumulation_dtype(xp, dtype)
    if state.dtype != wanted:
        wanted = xp.empty(0, dtype=wanted).dtype  # prints like the dtype of an array
        raise TypeError(f"{name} must have dtype {wanted} when q is {dtype}, got {state.dtype}")


def accumulation_dtype(xp: Any, dtype: Any) -> Any:
    """float64 for float64, float32 for all narrower dtypes: decays and states are never halves."""
    return xp.float64 if dtype == xp.float64 else xp.float32


def check_one_token(q: Array) -> None:
    """Require a q (B, H, 1, K)."""
    if q.shape[2] != 1:
        raise ValueError(f"q must hold one token (time = 1; take q[:, :, n : n + 1]), got time = {q.shape[2]}")


def check_tokens(q: Array, k: Array, v: Array, state: Array | None = None, **others: Array) -> Any:
    """Check the arguments that every sequence mixer has and return their namespace.

    Shapes and dtypes are those of the contract in `refimpl.retention`. others: more arrays of the same library.
    """
    xp = check_arrays(q=q, k=k, v=v, **others, **({} if state is None else {"state": state}))
    for name, array, width in (("q", q, "key_dim"), ("k", k, "key_dim"), ("v", v, "value_dim")):
        if array.ndim != 4:
            raise ValueError(f"{name} must have 4 axes (batch, heads, time, {width}), got shape {tuple(array.shape)}")
        if array.dtype != q.dtype:
            raise TypeError(f"{name} must have dtype {q.dtype} like q, got {array.dtype}")
    batch, heads, time, key_dim = q.shape
    check_shape("k", k, q.shape, "that of q")
    check_shape("v", v, (batch, heads, time, v.shape[3]), "batch, heads and time of q, then value_dim")
    if state is not None:
        check_state("state", state, (batch, heads, key_dim, v.shape[3]), q.dtype)
    return xp


def check_retention(q: Array, k: Array, v: Array, gamma: Array, state: Array | None = None) -> Any:
    """Check the arguments of a retention by the contract in `refimpl.retention` and return their namespace."""
    if getattr(q, "ndim", 0) == 4 and getattr(gamma, "ndim", 0) == 1 and q.shape[1] != gamma.shape[0] == q.shape[2]:
        raise ValueError(
            f"q must have axes (batch, heads, time, key_dim), got shape {tuple(q.shape)} for {gamma.shape[0]} heads: swap "
            "axes 1 and 2 of q, k and v"
        )
    xp = check_tokens(q, k, v, state, gamma=gamma)
    check_gamma(gamma)
    check_shape("gamma", gamma, (q.shape[1],), "one decay for each head of q")
    return xp
