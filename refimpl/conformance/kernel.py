"""A kernel to be tested: any function, and in what it is declared to differ from the contract of `refimpl.retention`."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..checks import check_choice, check_integer, check_number
from .comparison import TOLERANCES, Failure, difference
from .libraries import NUMPY, Library
from .problems import NAMES, Problem, problem

LAYOUTS = ("bhtk", "bthk")
REFUSALS = ("shapes", "all", "none")
NOT_MEANT = "if the kernel is not meant for this, "
OF_DTYPES = re.compile(r"type|float|double|half", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Kernel:
    """A retention, the library of its arrays, and its declared options: those of `refimpl.conformance.check`."""

    retention: Callable
    library: Library = NUMPY
    layout: str = "bhtk"
    scale: float | str = 1.0
    gradients: bool | tuple = False
    state: bool = True
    returns_state: bool = True
    empty: bool = True
    widths: tuple = ()
    chunk_sizes: tuple = ()
    time_multiple: int = 1
    gamma_dtype: str | None = None
    smallest_gamma: float = 0.0
    refusals: str = "shapes"
    deterministic: bool = True
    nan_reach: int = 0
    tolerances: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not callable(self.retention):
            raise TypeError(f"retention must be a function, got {type(self.retention).__name__}")
        check_choice("layout", self.layout, LAYOUTS)
        check_choice("refusals", self.refusals, REFUSALS)
        if isinstance(self.scale, str):
            check_choice("scale", self.scale, ("a number", "1/sqrt(K)"))
        else:
            check_number("scale", self.scale)
        check_choice("gamma_dtype", self.gamma_dtype, (None, "float32", "float64"))
        for name in ("state", "returns_state", "empty", "deterministic"):
            check_choice(name, getattr(self, name), (True, False))
        for name in ("widths", "chunk_sizes"):
            if not isinstance(getattr(self, name), tuple | list):
                raise TypeError(f"{name} must be a tuple, got {type(getattr(self, name)).__name__}")
        for pair in self.widths:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ValueError(f"widths must hold pairs (K, V), got {pair!r}")
        if not check_number("smallest_gamma", self.smallest_gamma, minimum=0.0) <= 1.0:
            raise ValueError(f"smallest_gamma must be at most 1, got {self.smallest_gamma:g}")
        check_integer("time_multiple", self.time_multiple, minimum=1)
        check_integer("nan_reach", self.nan_reach, minimum=0)
        for size in self.chunk_sizes:
            check_integer("chunk_sizes", size, minimum=1)
        for name in self.gradients if isinstance(self.gradients, tuple) else ():
            check_choice("gradients", name, NAMES)
        for name in self.tolerances:
            check_choice("tolerances", name, (*TOLERANCES, "state"))
        if self.gradients and not self.library.differentiates:
            raise ValueError(f"gradients must be False for arrays of {self.library.name}, which has no autograd")

    # ------------------------------------------------------------ problems that the kernel takes

    def problem(self, dtype, batch, heads, time, key_dim, value_dim, **how):
        """A problem of about these sizes, rounded to what the kernel gets: see `refimpl.conformance.problems.problem`."""
        if self.widths:
            key_dim, value_dim = min(self.widths, key=lambda pair: abs(pair[0] - key_dim) + abs(pair[1] - value_dim))
        time = -(-time // self.time_multiple) * self.time_multiple
        with_state = how.pop("with_state", True) and self.state
        if how.get("gamma"):
            how["gamma"] = tuple(max(gamma, self.smallest_gamma) for gamma in how["gamma"])
        sizes = batch, heads, time, key_dim, value_dim
        library = self.library if dtype == "bfloat16" else NUMPY  # the others are rounded alike everywhere
        return _rounded(library, dtype, self._gamma_dtype(), sizes, tuple(how.items()), with_state)

    def _gamma_dtype(self):
        return self.gamma_dtype or ("float64" if "float64" in self.library.dtypes else "float32")

    def tolerance(self, dtype, what="out"):
        """The relative error allowed for a result, "out" or "state", of inputs of a dtype."""
        allowed = self.tolerances.get(dtype, TOLERANCES[dtype])
        return self.tolerances.get("state", allowed) if what == "state" and dtype.endswith("16") else allowed

    def scaled(self, case):
        """The problem without scale that has the same answer."""
        return case if self.scale == 1.0 else _scaled(case, self.factor(case))

    def factor(self, case):
        """What the kernel multiplies the scores of a problem with."""
        return case.q.shape[3] ** -0.5 if self.scale == "1/sqrt(K)" else float(self.scale)

    # ------------------------------------------------------------ calls

    def arrays(self, case, dtype):
        """(q, k, v, gamma, state) of a problem, as the kernel takes them."""
        if self.layout == "bthk":
            case = Problem(*(np.ascontiguousarray(x.swapaxes(1, 2)) for x in case.inputs[:3]), *case.inputs[3:])
        return case.arrays(self.library, dtype, self._gamma_dtype())

    def __call__(self, q, k, v, gamma, state=None):
        """(out, state) as the kernel returns them; a kernel that returns out alone has a state of None."""
        with what_it_raises(self._described(q, v, gamma, state), lambda said: self._advice(said, q, gamma, state)):
            results = self.retention(q, k, v, gamma, *(() if state is None else (state,)))
        if not self.returns_state:
            return (results[0] if isinstance(results, tuple) else results), None
        if not isinstance(results, tuple | list) or len(results) != 2:
            message = f"the kernel must return (out, state), got {type(results).__name__}"
            raise Failure(
                message, mistake=("returns no state", f"{message}; declare returns_state=False if that is meant")
            )
        return tuple(results)

    def run(self, case, dtype, arrays=None):
        """(out, state) of a problem in NumPy's float64, out as (B, H, T, V); the state None if none is returned."""
        return self.to_numpy(self(*(self.arrays(case, dtype) if arrays is None else arrays)))

    def to_numpy(self, results):
        """Results of the kernel in NumPy's float64, as (B, H, T, V) and (B, H, K, V)."""
        out, state = (None if x is None else self.library.to_numpy(x) for x in results)
        return out.swapaxes(1, 2) if self.layout == "bthk" else out, state

    def _described(self, q, v, gamma, state):
        """The sizes of a call in words, and the dtypes where they differ."""
        sizes = f"q {tuple(q.shape)}, v {tuple(v.shape)}, {'no state' if state is None else 'a state'}"
        others = self._of_other_dtypes(q, gamma, state)
        return f"{sizes}; q in {self.library.dtype_of(q)}, {others}" if others else sizes

    def _of_other_dtypes(self, q, gamma, state):
        """gamma and the state with their dtypes, if these are not q's; "" if both are."""
        dtypes = {"gamma": gamma, "the state": state}
        dtypes = {name: self.library.dtype_of(x) for name, x in dtypes.items() if x is not None}
        return " and ".join(f"{name} in {dtype}" for name, dtype in dtypes.items() if dtype != self.library.dtype_of(q))

    def _advice(self, said, q, gamma, state):
        """What may have to be converted or declared for a kernel that does not take a call; said: what it raised."""
        if q.shape[1 if self.layout == "bthk" else 2] == 0:
            return f"{NOT_MEANT}declare empty=False"
        others = self._of_other_dtypes(q, gamma, state) if OF_DTYPES.search(said) else ""
        convert = f"a kernel also gets {others}: convert what differs; " if others else ""
        with_state = "" if state is None else "state=False, "
        options = "dtypes=, gamma_dtype=, widths=, time_multiple=, smallest_gamma= or layout="
        return f"{convert}{NOT_MEANT}declare {with_state}{options}"

    def with_chunk_size(self, size):
        """The kernel at one of the chunk sizes that it takes."""
        sized = functools.partial(self.retention, chunk_size=size)
        return dataclasses.replace(self, retention=sized, chunk_sizes=(size,))

    # ------------------------------------------------------------ judging

    def right(self, case, dtype, results=None, *, factor=1.0, about="", want=None):
        """Demand the right out and state for a problem; results: those of a call that has been made."""
        results = self.run(case, dtype) if results is None else results
        want = self.scaled(case).reference if want is None else want
        for what, got, wanted in zip(("out", "state"), results, want, strict=True):
            if got is None:
                continue
            found = difference(what, got, wanted, factor * self.tolerance(dtype, what))
            if found is not None:
                raise Failure(f"{case}{about}: {found}", problem=case, results=results, difference=found)


@functools.lru_cache(maxsize=64)
def _scaled(case, factor):
    return Problem(case.q * factor, *case.inputs[1:])


@functools.lru_cache(maxsize=256)
def _rounded(library, dtype, gamma_dtype, sizes, how, with_state):
    return problem(*sizes, **dict(how), with_state=with_state).rounded(library, dtype, gamma_dtype)


@contextlib.contextmanager
def what_it_raises(case, advice):
    """Turn an exception of the kernel into a `Failure` that quotes it; advice: what was raised -> what to do about it."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:  # a kernel may raise anything there is
        lines = f"{error}".strip().splitlines()
        said = f"{type(error).__name__}: {lines[-1] if lines else ''}".rstrip(": ")
        raise Failure(f"{case}: raised {said}", mistake=("raises", advice(said)), raised=error) from error
