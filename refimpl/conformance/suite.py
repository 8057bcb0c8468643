"""`check`: the whole suite on a retention of anybody's."""

import time
from collections.abc import Mapping, Sequence

from ..arrays import Retention
from ..checks import check_choice
from .comparison import TOLERANCES, Failure
from .contract import CHECKS, planned
from .diagnosis import diagnose
from .kernel import Kernel
from .libraries import library as library_of
from .report import FAILED, PASSED, SKIPPED, ConformanceError, Report, Row


def check(
    retention: Retention,
    *,
    library: str = "numpy",
    dtypes: str | Sequence[str] | None = None,
    device: str = "cpu",
    layout: str = "bhtk",
    scale: float | str = 1.0,
    gradients: bool | Sequence[str] | None = None,
    state: bool = True,
    returns_state: bool = True,
    empty: bool = True,
    widths: Sequence[tuple[int, int]] = (),
    chunk_sizes: Sequence[int] = (),
    time_multiple: int = 1,
    gamma_dtype: str | None = None,
    smallest_gamma: float = 0.0,
    refusals: str = "shapes",
    deterministic: bool = True,
    nan_reach: int = 0,
    tolerances: Mapping[str, float] | None = None,
    stop: bool = False,
) -> Report:
    """Run the oracle, the contract and the refusals on a retention (q, k, v, gamma, state) -> (out, state).

    What a kernel does not do is declared, and is no failure then. NumPy is all that is needed until a library is named.

    Args:
        retention: the function; it is called with arrays of the library, by place, without a state where there is none.
        library: "numpy", "torch", "jax" or "cupy".
        dtypes: of q, k and v: "float64", "float32", "float16", "bfloat16"; by default float64 and float32, if the library
            has both.
        device: where arrays are made: "cpu", "cuda", ...
        layout: "bhtk", or "bthk" for q, k, v and out (B, T, H, width); the state is (B, H, K, V) in both.
        scale: what the kernel multiplies scores with: a number, or "1/sqrt(K)".
        gradients: whether autograd gives those of every argument, or a tuple of the arguments; by default True if the
            library has autograd.
        state: whether an initial state is taken. returns_state: whether (out, state) is returned, and not out alone.
        empty: whether T may be 0.
        widths: the pairs (K, V) that are taken; () for any.
        chunk_sizes: values of the keyword chunk_size to try besides the default.
        time_multiple: what T must be a multiple of.
        gamma_dtype: "float32" or "float64"; by default float64, if the library has it.
        smallest_gamma: the fastest decay that the kernel holds: a smaller gamma is not tried.
        refusals: "shapes" if wrong shapes must raise an exception, "all" if dtypes and, on the host, bad values
            too, or "none".
        deterministic: whether the same call gives the same bits.
        nan_reach: how many tokens before a NaN it may spoil: C - 1 for masked products in chunks of C.
        tolerances: {dtype: largest relative error of a head}, in place of those of `comparison.TOLERANCES`; "state" is
            that of the state of halves, by default as of out.
        stop: whether to stop at the first failure.

    Returns:
        A `Report`, a row for each check and dtype.

    Raises:
        ConformanceError: a check failed; its message says where, by how much and what mistake that usually is.
        TypeError, ValueError: an option is not as above.

    >>> from refimpl import retention_recurrent
    >>> check(retention_recurrent, dtypes=("float64",)).passed
    True
    """
    kernel = kernel_of(**{name: value for name, value in locals().items() if name not in ("dtypes", "stop")})
    report = run(kernel, dtypes_of(kernel, dtypes), stop=stop)
    if not report.passed:
        raise ConformanceError(report)
    return report


def kernel_of(retention, *, library="numpy", device="cpu", gradients=None, tolerances=None, **options):
    """A `Kernel` of the options of `check`, with their defaults."""
    arrays = library_of(library, device)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    if gradients is None:
        gradients = arrays.differentiates
    elif not isinstance(gradients, bool):
        gradients = _names("gradients", gradients)
    return Kernel(retention, arrays, gradients=gradients, tolerances=dict(tolerances or {}), **given)


def _names(option, names):
    """A name or several of them, as a tuple."""
    if isinstance(names, str):
        return (names,)
    if not isinstance(names, tuple | list) or not names:
        raise TypeError(f"{option} must be a name or a tuple of names, got {names!r}")
    return tuple(names)


def dtypes_of(kernel, dtypes=None):
    """The names of the dtypes to try, checked."""
    dtypes = kernel.library.dtypes if dtypes is None else _names("dtypes", dtypes)
    for dtype in dtypes:
        check_choice("dtypes", dtype, tuple(TOLERANCES))
        if not kernel.library.has(dtype):
            raise ValueError(f"dtypes must be those of {kernel.library.name}, which has no {dtype}")
    return dtypes


def run(kernel, dtypes, *, stop=False):
    """The `Report` of every check in every dtype, or of those until the first failure."""
    rows = []
    for row in rows_of(kernel, dtypes):
        rows.append(row)
        if stop and row.verdict == FAILED:
            break
    name = getattr(kernel.retention, "__name__", type(kernel.retention).__name__)
    return Report(name, kernel.library.name, tuple(rows))


def rows_of(kernel, dtypes):
    """The rows of every check in every dtype, one after another."""
    for each, dtype in planned(dtypes):
        yield run_one(kernel, each, dtype)


def run_one(kernel, each, dtype):
    """The `Row` of one check in one dtype."""
    declared = CHECKS[each].declared(kernel)
    if declared is not None:
        return Row(each.__name__, dtype, SKIPPED, detail=f"declared {declared}")
    start = time.perf_counter()
    try:
        each(kernel, dtype)
    except Failure as failure:
        mistake, hint = diagnose(kernel, dtype, failure)
        return Row(each.__name__, dtype, FAILED, time.perf_counter() - start, f"{failure}", mistake, hint)
    return Row(each.__name__, dtype, PASSED, time.perf_counter() - start)
