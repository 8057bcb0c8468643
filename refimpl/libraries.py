"""What array libraries do beyond the standard, where retention has to know: tracing, devices, autocast.

No library is named here. A function asks the namespace of an array for what it offers, and does without where there is
nothing.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj

P = ParamSpec("P")
R = TypeVar("R")

# Globals and not context variables: autograd recomputes in other threads, and a compiler can only read a global.
_trusted, _trusting, _lock = False, 0, threading.Lock()


@contextmanager
def values_trusted() -> Iterator[None]:
    """Within, nobody looks at the values of gamma and tokens, for a loop whose values are its own.

    Nothing needs this: a look never makes a device wait and never stops a trace. It saves some small operations a layer.
    """
    _count_trust(1)
    try:
        yield
    finally:
        _count_trust(-1)


def _count_trust(change: int) -> None:
    """Count those inside `values_trusted`, which threads may enter and leave in any order."""
    global _trusted, _trusting
    with _lock:
        _trusting += change
        _trusted = _trusting > 0


def values_are_trusted() -> bool:
    """True inside `values_trusted`."""
    return _trusted


def check_values(array: Any, inside: Callable[[Any], Any], wanted: str, found: Callable[[], str]) -> None:
    """Raise a ValueError unless every value is inside, as early as that costs nothing.

    At once for values in the host's memory. On a device, or in a graph that a compiler makes, the library's own assertion
    is put into the queue, where there is one: it raises with the next synchronisation. A trace that has no values, of
    jax.jit or of a vmap over this array, is not stopped and not checked.

    inside: takes the array, returns booleans of its shape. wanted: the message. found: what came, for the end of it.
    """
    if _trusted or 0 in array.shape:
        return
    xp = array_namespace(array)
    every = xp.all(inside(array))
    good, operators = True, getattr(xp, "ops", None)
    try:
        if not is_compiling(xp) and is_on_host(array):
            good = bool(every)
        elif operators:
            operators.aten._assert_async.msg(every, wanted)
    except (TypeError, RuntimeError):  # so libraries say that they trace
        return
    if not good:
        raise ValueError(f"{wanted}, got {found()}")


def is_compiling(xp: Any) -> bool:
    """True while the library of this namespace makes a graph of the Python code that runs."""
    compiler = getattr(xp, "compiler", None)
    return compiler is not None and compiler.is_compiling()


def is_on_host(array: Any) -> bool:
    """True if the CPU can read an array without waiting for a device."""
    return isinstance(array, np.ndarray) or "cpu" in str(device(array)).lower()


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """The function in the dtypes of its arguments also inside the autocast of their library.

    Autocast would round the products of float32 arrays to halves and still return float32.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next((x for x in (*args, *kwargs.values()) if is_array_api_obj(x)), None)
        if first is None or type(first) is np.ndarray:
            return function(*args, **kwargs)
        xp = array_namespace(first)
        kind = getattr(device(first), "type", None)
        if not hasattr(xp, "autocast") or kind == "meta" or not xp.is_autocast_enabled(kind):
            return function(*args, **kwargs)
        with xp.autocast(kind, enabled=False):
            return function(*args, **kwargs)

    return call
