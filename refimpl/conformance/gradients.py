"""The contract of gradients: of every argument, through both results, across chunks, for upstream gradients of any layout."""

import numpy as np

from .comparison import Failure, difference
from .kernel import NOT_MEANT, what_it_raises
from .problems import NAMES

FACTOR = 3  # a gradient is a few sums further from its inputs than a result is


def wanted(kernel, case):
    """The names of the arguments whose gradients are checked."""
    names = NAMES if kernel.gradients is True else kernel.gradients
    return tuple(name for name in names if name != "state" or case.state is not None)


def upstream(kernel, case, dtype, which=("out", "state")):
    """Random gradients of (out, state) in NumPy's float64, rounded to the results' dtypes; None for those not in which."""
    rng = np.random.default_rng(9)
    wide = "float64" if dtype == "float64" else "float32"
    shapes = case.v.shape, (*case.q.shape[:2], case.q.shape[3], case.v.shape[3])
    grads = [rng.standard_normal(shape) for shape in shapes]
    rounded = [
        kernel.library.to_numpy(kernel.library.asarray(x, each)) for x, each in zip(grads, (dtype, wide), strict=True)
    ]
    if not kernel.returns_state:
        which = ("out",)
    return tuple(x if name in which else None for name, x in zip(("out", "state"), rounded, strict=True))


def _turned(kernel, x, has_time=True):
    """An array (B, H, T, N) as the kernel has it, or back."""
    return np.ascontiguousarray(x.swapaxes(1, 2)) if kernel.layout == "bthk" and has_time else x


def in_library(kernel, case, dtype, grads, names, call, layout=None):
    """(upstream gradients, gradients of the arguments in names) of a call, as arrays of the library."""
    library, wide = kernel.library, "float64" if dtype == "float64" else "float32"
    out, state = grads
    given = (
        None if out is None else library.asarray(_turned(kernel, out.copy()), dtype),
        None if state is None else library.asarray(state.copy(), wide),
    )
    if layout is not None:
        given = tuple(layout(x) for x in given)
    if not kernel.returns_state:
        given, whole = given[:1], call
        call = lambda *arrays: whole(*arrays)[:1]  # noqa: E731
    arrays = [x for x in kernel.arrays(case, dtype) if x is not None]
    with what_it_raises(
        f"{case}, gradients of {', '.join(names)}",
        lambda _: f"{NOT_MEANT}declare gradients= the arguments that have some",
    ):
        return given, library.gradients(call, arrays, [NAMES.index(name) for name in names], given)


def found(kernel, case, dtype, grads, names, layout=None):
    """{argument: its gradient in NumPy's float64; zero where autograd finds none}."""
    _, results = in_library(kernel, case, dtype, grads, names, kernel, layout)
    return {
        name: np.zeros(getattr(case, name).shape)
        if x is None
        else _turned(kernel, kernel.library.to_numpy(x), name in "qkv")
        for name, x in zip(names, results, strict=True)
    }


def right(kernel, case, dtype, which=("out", "state"), *, names=None, layout=None, about="", mistake=None):
    """Demand that the gradients of a problem's arguments are right."""
    names = wanted(kernel, case) if names is None else [name for name in names if name in wanted(kernel, case)]
    grads = upstream(kernel, case, dtype, which)
    if not names or all(grad is None for grad in grads):
        return
    got = found(kernel, case, dtype, grads, names, layout)
    if layout is not None:  # it may have changed the values too
        grads = [None if x is None else kernel.library.to_numpy(layout(kernel.library.asarray(x))) for x in grads]
    want = kernel.scaled(case).gradients(*grads)
    want["q"] = want["q"] * kernel.factor(case)
    for name in names:
        what, scale = f"gradient of {name}", None
        if name == "gamma":  # a sum of many terms, which may cancel
            terms = kernel.scaled(case).gamma_terms(*grads)
            scale = np.sqrt(sum(x**2 for x in terms.values()))
            scale = np.maximum(scale, np.sqrt(np.mean(scale**2)))
        difference_ = difference(what, got[name], want[name], FACTOR * kernel.tolerance(dtype), scale)
        if difference_ is not None:
            raise Failure(
                f"{case}{about}: {difference_}",
                problem=case, results=got, difference=difference_, upstream=tuple(grads), mistake=mistake,
            )  # fmt: skip


def gradients_are_right(kernel, dtype):
    """Of all arguments through both results, for a short text and for several chunks."""
    for sizes in ((2, 2, 5, 2, 3), (1, 3, 70, 8, 5), (2, 3, 130, 4, 6), (1, 3, 200, 8, 12)):
        right(kernel, kernel.problem(dtype, *sizes, gamma=(0.9, 0.97, 0.9991)[: sizes[1]]), dtype)
    with kernel.library.poisoned():
        about = ", where memory not written to is NaN"
        right(kernel, kernel.problem(dtype, 1, 3, 70, 8, 5, with_state=False), dtype, about=about)


def gradients_of_one_result_are_right(kernel, dtype):
    """Through out alone and through the state alone; of one argument alone."""
    case = kernel.problem(dtype, 1, 3, 70, 8, 5, gamma=(0.9, 0.97, 0.9991))
    for which in ("out", "state"):
        right(kernel, case, dtype, (which,), about=f", through {which}")
    for name in wanted(kernel, case):
        right(kernel, case, dtype, names=(name,), about=f", of {name} alone")


def gradients_hold_at_every_size(kernel, dtype):
    """Beyond tiles of channels, more of keys or of values, many heads and sequences, a long text, the ends of gamma's range."""
    for sizes in (
        (1, 2, 35, 96, 136),
        (1, 2, 20, 104, 24),
        (1, 1, 20, 160, 272),
        (3, 9, 33, 4, 6),
        (2, 17, 18, 4, 6),
        (1, 3, 600, 8, 5),
    ):
        right(kernel, kernel.problem(dtype, *sizes, gamma=((0.9991, 0.5, 0.97) * 6)[: sizes[1]]), dtype)
    right(kernel, kernel.problem(dtype, 1, 2, 130, 4, 6, gamma=(1.0, 1e-3)), dtype)


def gradients_take_any_strides(kernel, dtype):
    """Upstream gradients that are views, or one number everywhere, as those of a sum are."""
    if not kernel.library.has_strides:
        return
    case = kernel.problem(dtype, 2, 3, 35, 4, 6)
    right(kernel, case, dtype)
    views = {
        name: lambda x, name=name: None if x is None else kernel.library.layouts(x)[name]
        for name in kernel.library.layouts(kernel.library.asarray(np.zeros((1, 1, 1, 1))))
    }
    views["one number"] = lambda x: (
        None if x is None else kernel.library.namespace.broadcast_to(x[:1, :1, :1, :1], x.shape)
    )
    for name, layout in views.items():
        message = f"the upstream gradient must be contiguous for the kernel, and it does not look: {name}"
        right(kernel, case, dtype, layout=layout, about=f", upstream {name}", mistake=("strides ignored", message))


def gradients_stand_alone(kernel, dtype):
    """Another call between forward and backward changes nothing, nor does a second backward, nor the first the upstream."""
    case, other = (kernel.problem(dtype, 1, 3, 70, 8, 5, seed=seed, gamma=(0.9, 0.97, 0.9991)) for seed in (0, 1))
    names, grads = wanted(kernel, case), upstream(kernel, case, dtype)
    right(kernel, case, dtype)
    others = kernel.arrays(other, dtype)

    def followed(*arrays):
        results = kernel(*arrays)
        kernel(*others)
        return results

    first, before, after = (
        in_library(kernel, case, dtype, grads, names, call)[1] for call in (kernel, kernel, followed)
    )
    kept = [kernel.library.to_numpy(x) for x in first if x is not None]
    in_library(kernel, other, dtype, grads, names, kernel)
    for name, now, then, again, twice in zip(
        names, (kernel.library.to_numpy(x) for x in first if x is not None), kept, after, before, strict=False
    ):
        again, twice = (kernel.library.to_numpy(x) for x in (again, twice))
        what = f"gradient of {name}"
        if not np.array_equal(now, then):
            message = f"the {what} is overwritten by the backward pass of another call"
        elif difference(what, again, then, FACTOR * kernel.tolerance(dtype)) is not None:
            message = (
                f"the {what} changes if another call comes between forward and backward: what is saved is overwritten"
            )
        elif kernel.deterministic and not np.array_equal(twice, then):
            message = f"the {what} of the same call twice differs by {np.max(np.abs(twice - then)):.1g}"
            raise Failure(f"{case}: {message}", mistake=("not deterministic", message))
        else:
            continue
        raise Failure(f"{case}: {message}", mistake=("stale buffer", message))
    given, _ = in_library(kernel, case, dtype, grads, names, kernel)
    for x, old in zip(given, grads, strict=False):
        if x is not None and not np.array_equal(_turned(kernel, kernel.library.to_numpy(x), x is given[0]), old):
            message = "the backward pass writes into the gradients that it is given"
            raise Failure(f"{case}: {message}", mistake=("writes into its arguments", message))


CHECKS = [
    gradients_are_right, gradients_of_one_result_are_right, gradients_stand_alone, gradients_hold_at_every_size,
    gradients_take_any_strides,
]  # fmt: skip
