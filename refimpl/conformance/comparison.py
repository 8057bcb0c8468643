"""What differs from what is right: where, by how much, and how much is allowed."""

import math
from dataclasses import dataclass, field

import numpy as np

# Largest relative RMS error of a head, unless a kernel declares another. Ours stay far below those of the narrow dtypes:
# see PRECISION. Kernels that multiply matrices in halves come to about half of these.
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.2e-2}
# That of a kernel that multiplies and adds in float32, at T = 257. What is seen is 3e-7 for float32; for halves it is
# the rounding of the result itself, 2^-9 / sqrt(3) and 2^-12 / sqrt(3).
PRECISION = {"float64": 1e-12, "float32": 1e-6, "bfloat16": 2.5e-3, "float16": 3.2e-4}
SINGLE = 10  # how much further off than the RMS one element may be
CLOSE = 1e-10  # float64, absolute, on unit normal inputs
AXES = {
    "out": ("batch", "head", "token", "channel"),
    "state": ("batch", "head", "key channel", "value channel"),
    "gamma": ("head",),
}


class Failure(AssertionError):  # noqa: N818 - what check raises is a ConformanceError
    """A check that failed. mistake: (name, sentence), where the check itself knows what usually causes this.

    problem, results, difference, upstream: what `diagnosis` looks at, where a result was wrong: the results of the call,
    or its gradients by name and the gradients of the results. raised: what the kernel raised, if it did. kernel: the one
    that failed, if it is not the one under test as it is.
    """

    kernel = None

    def __init__(
        self, message, *, mistake=None, problem=None, results=None, difference=None, upstream=None, raised=None
    ):
        super().__init__(message)
        self.mistake, self.problem, self.results, self.difference = mistake, problem, results, difference
        self.upstream, self.raised = upstream, raised


@dataclass(frozen=True, eq=False)
class Difference:
    """A wrong result. what: "out", "state", or "gradient of k". wrong: a mask of the elements that are off."""

    what: str
    got: np.ndarray
    want: np.ndarray
    wrong: np.ndarray
    tolerance: float
    relative: float = field(default=math.nan)

    @property
    def first(self):
        """The index of the first wrong element."""
        return tuple(int(i) for i in np.argwhere(self.wrong)[0])

    def __str__(self):
        argument = self.what.rpartition(" ")[2]
        axes = AXES["state"] if "state" in self.what else AXES.get(argument, AXES["out"])
        place = ", ".join(f"{axis} {i}" for axis, i in zip(axes, self.first, strict=True))
        got, want = self.got[self.first], self.want[self.first]
        return (
            f"{self.what} is wrong first at {place}: got {got:.6g}, want {want:.6g}, off by {abs(got - want):.2g}; "
            f"relative error of the worst head {self.relative:.1g}, allowed {self.tolerance:.1g}; "
            f"{np.count_nonzero(self.wrong)} of {self.wrong.size} elements"
        )


def difference(what, got, want, tolerance, scale=None):
    """A `Difference` if got is further from want than the tolerance allows, else None.

    Each head of each sequence is measured by its own size, so that a slow head hides no fast one: relative RMS within
    tolerance, no element off by SINGLE times that, of the size of its row or a tenth of its head's. scale: the size of
    each element, where that of want is no measure.
    """
    if got.shape != want.shape:
        message = f"{what} has shape {got.shape}, want {want.shape}"
        name = "wrong shape"
        if what == "state" and got.shape == want.mT.shape:
            name, message = "state transposed", f"{message}: it is (B, H, V, K), not (B, H, K, V)"
        elif what == "out" and (*got.shape[:2], *got.shape[3:]) == (*want.shape[:2], *want.shape[3:]):
            name, message = (
                "ragged tail",
                f"{message}: tokens after the last whole chunk are left out, or padding is left",
            )
        raise Failure(message, mistake=(name, message))
    if not want.size:
        return None
    if scale is None:
        last_two = tuple(range(max(want.ndim - 2, 0), want.ndim))
        head, row = (np.sqrt(np.mean(want**2, axis=axes, keepdims=True)) for axes in (last_two, -1))
        head = np.where(head > 0, head, 1.0)
        scale = np.maximum(row, 0.1 * head)
    else:
        last_two, head = (), scale
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(got - want)
        relative = np.sqrt(np.mean(error**2, axis=last_two, keepdims=True)) / head
        wrong = ~(error <= SINGLE * tolerance * scale)
        if not wrong.any() and np.max(relative) > tolerance:
            wrong = (relative > tolerance) & (error > tolerance * scale)
    if not wrong.any():
        return None
    return Difference(what, got, want, wrong, tolerance, float(np.max(relative)))


def close(got, want, tolerance=CLOSE):
    """Same shape, and no element further off than tolerance; NaN is never close."""
    assert got.shape == want.shape, f"shape {got.shape}, want {want.shape}"
    worst = float(np.max(np.abs(got - want), initial=0.0))
    assert worst <= tolerance, f"off by {worst:.1e}, allowed {tolerance:.0e}"


def all_close(got, want, *tolerance):
    """`close` for each of (out, state), or of any other results."""
    for one, other in zip(got, want, strict=True):
        close(one, other, *tolerance)


def relative_rms(got, want):
    """Root mean square of the error over that of the answer."""
    return math.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))
