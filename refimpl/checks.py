"""Input checks at the door: every public function of the package asks here, once, before it computes.

A check either returns what the caller needs or raises `TypeError` (wrong kind of thing) or
`ValueError` (right kind, wrong shape or range) with a message that names the argument, what came
and what is wanted. Nothing is broadcast or cast down. Values are looked at
where a wrong one would spoil everything unseen (gamma, tokens); a NaN in q, k or v shows itself in what comes out.
"""

import math
import operator
from contextlib import contextmanager

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj

# Nothing wider, which would be computed in less than it came in, nothing narrower, and in native byte order.
DTYPES = ("float16", "bfloat16", "float32", "float64")
_NUMPY_DTYPES = frozenset(map(np.dtype, (np.float16, np.float32, np.float64)))
_trusted = False  # of the process: autograd recomputes in threads of its own, and torch.compile reads a global alone


@contextmanager
def values_trusted():
    """Inside, no value of gamma or tokens is looked at; shapes and dtypes are still checked.

    For a loop whose values have passed the door: each look makes the CPU wait for the GPU, breaks the graph of a compiler, and
    is forbidden in a CUDA graph.
    """
    global _trusted
    before, _trusted = _trusted, True
    try:
        yield
    finally:
        _trusted = before


def values_are_trusted():
    """Whether the caller is inside `values_trusted`."""
    return _trusted


def _backend(array):
    """The name of an array's library, be it of a subclass."""
    return array_namespace(array).__name__.removeprefix("array_api_compat.")


def check_arrays(**arrays):
    """Return the one array namespace of all `arrays`, each a real floating array on one device.

    The first argument sets the backend and the device; the others must follow it.
    """
    (first_name, first), *_ = arrays.items()
    if all(type(array) is np.ndarray and array.dtype in _NUMPY_DTYPES for array in arrays.values()):
        return array_namespace(first)  # nothing else to ask: in a decode step the questions would cost the most
    place = None
    for name, array in arrays.items():
        if array is first or type(array) is not type(first):  # else its library has been asked after
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
        if array is not first and device(array) != place:
            raise ValueError(f"{name} must be on device {place} like {first_name}, got device {device(array)}")
    return array_namespace(first)


def check_integer(name, value, minimum):
    """Return `value` as an int of at least `minimum` (None: any); floats and bools are refused."""
    try:
        if isinstance(value, bool):
            raise TypeError
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r} ({type(value).__name__})") from None
    if minimum is not None and value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return value


def check_positions(name, positions, like, shape=None, minimum=None):
    """Return how many tokens came before: an int of at least `minimum`, or an array (B,) of integers, one a sequence.

    like: an array of the library that an array must be of; shape: what its shape must be, by default any (B,).
    """
    if not is_array_api_obj(positions) or positions.ndim == 0:
        return check_integer(name, positions, minimum)
    xp = check_arrays(like=like)
    if _backend(positions) != _backend(like) or not xp.isdtype(positions.dtype, "integral"):
        raise TypeError(
            f"{name} must be an integer or an array of integers of {_backend(like)}, "
            f"got one of {_backend(positions)} and {positions.dtype}"
        )
    check_shape(name, positions, positions.shape[:1] if shape is None else shape, "one for each sequence")
    return positions


def check_number(name, value, minimum=None):
    """Return `value` as a finite float of at least `minimum` (None: any)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r} ({type(value).__name__})") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {number}")
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum:g}, got {number:g}")
    return number


def check_key_dim(key_dim):
    """Return K if channels can turn in pairs: an even integer of at least 2."""
    key_dim = check_integer("key_dim", key_dim, minimum=2)
    if key_dim % 2:
        raise ValueError(f"key_dim must be even, for channels turn in pairs, got {key_dim}")
    return key_dim


def check_choice(name, value, choices):
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_shape(name, array, shape, meaning):
    """Demand the exact `shape`; `meaning` says in words where it comes from."""
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{name} must have shape {tuple(shape)} ({meaning}), got {tuple(array.shape)}")


def check_gamma(gamma):
    """Return the namespace of `gamma`: rank 1, float32 or float64, every head in (0, 1]."""
    xp = check_arrays(gamma=gamma)
    if gamma.ndim != 1:
        raise ValueError(f"gamma must have shape (heads,), one decay a head, got {tuple(gamma.shape)}")
    if gamma.dtype not in (xp.float32, xp.float64):
        # 1 - 2**-9 is already 1 in bfloat16, 1 - 2**-12 in float16: a head that should forget would not.
        raise TypeError(f"gamma must be float32 or float64, got {gamma.dtype}")
    if values_are_trusted():
        return xp
    # Written so that NaN, which compares false with everything, is caught too.
    inside = (gamma > 0) & (gamma <= 1)
    if not bool(xp.all(inside)):
        head = next(h for h in range(gamma.shape[0]) if not bool(inside[h]))
        raise ValueError(f"gamma must lie in (0, 1], got {float(gamma[head]):g} at head {head}")
    return xp


def check_numpy(**arrays):
    """Demand NumPy arrays, for code that is not written in the array API; None stands for an absent argument."""
    for name, array in arrays.items():
        if array is not None and not isinstance(array, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")


def check_state(name, state, shape, dtype):
    """Demand a state of `shape` (B, H, K, V) in the accumulation dtype for inputs of `dtype`."""
    check_shape(name, state, shape, "batch, heads, key_dim, value_dim")
    xp = array_namespace(state)
    wanted = accumulation_dtype(xp, dtype)
    if state.dtype != wanted:
        wanted = xp.empty(0, dtype=wanted).dtype  # prints as dtypes of arrays do
        raise TypeError(f"{name} must have dtype {wanted} when q is {dtype}, got {state.dtype}")


def accumulation_dtype(xp, dtype):
    """float64 for float64, float32 for everything narrower: decays and states are never halves."""
    return xp.float64 if dtype == xp.float64 else xp.float32


def check_tokens(q, k, v, state=None, **others):
    """Check what every sequence mixer shares and return its namespace; others are arrays that must be of the same kind.

    q, k (B, H, T, K) and v (B, H, T, V) of one real floating dtype; state None or (B, H, K, V) in the accumulation
    dtype (float64 for float64 inputs, float32 otherwise).
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


def check_retention(q, k, v, gamma, state=None):
    """`check_tokens`, and gamma (H,) float32 or float64 in (0, 1]; returns the namespace."""
    xp = check_tokens(q, k, v, state, gamma=gamma)
    check_gamma(gamma)
    check_shape("gamma", gamma, (q.shape[1],), "one decay for each head of q")
    return xp
