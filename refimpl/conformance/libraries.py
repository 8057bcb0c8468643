"""Array libraries by name: how arrays are made there, read back, laid out oddly and differentiated.

The one place that knows more of a library than the array API says. A library is imported when it is named, not before.
"""

import contextlib
import functools
import warnings
from dataclasses import dataclass
from importlib import import_module

import numpy as np


@dataclass(frozen=True)
class Library:
    """Any array-API library: `asarray` takes a NumPy array there, `to_numpy` brings it back as float64.

    namespace: the module with its functions. device: where arrays are made. dtypes: what a kernel is tested with, unless
    other dtypes are named. differentiates: whether `gradients` works. writable, has_strides: what arrays are.
    """

    name: str
    namespace: object
    device: str = "cpu"

    dtypes = ("float64", "float32")
    differentiates = False
    writable = True
    has_strides = False

    @property
    def on_host(self):
        """Whether the host can read the arrays without waiting for a device."""
        return self.device.split(":")[0] == "cpu"

    def has(self, feature):
        """Whether this is the library of that name, has a dtype or module of that name, or nothing (None) is asked for."""
        return feature is None or feature == self.name or hasattr(self.namespace, feature)

    def asarray(self, x, dtype="float64"):
        """A NumPy array as an array of the library."""
        return self.namespace.asarray(x, dtype=getattr(self.namespace, dtype))

    def to_numpy(self, x):
        """An array of the library as a new float64 NumPy array."""
        return np.array(x, dtype=np.float64)

    def dtype_of(self, x):
        """The name of an array's dtype: "float32"."""
        return f"{x.dtype}".rpartition(".")[2]

    def poisoned(self, *likes):
        """A context in which memory that nobody has written to reads as NaN, as far as the library can do that."""
        return contextlib.nullcontext()

    def layouts(self, x):
        """{name: an array equal to x (B, H, T, N) or (H,), strided, with NaN in the gaps}; none if arrays have no strides."""
        if not self.has_strides:
            return {}
        sliced = self._spread((*x.shape[:-1], 2 * x.shape[-1]), x)[..., ::2]
        views = {"every second element": sliced}
        if len(x.shape) == 4:
            batch, heads, time, width = x.shape
            views |= {
                "heads after time": self._spread((batch, time, heads, width), x).swapaxes(1, 2),
                "a slice of a packed array": self._spread((batch, heads, time + 3, 3 * width), x)[
                    :, :, 2 : 2 + time, width : 2 * width
                ],
            }
        for view in views.values():
            view[...] = x
        return views

    def _spread(self, shape, like):
        return self.asarray(np.full(shape, np.nan), self.dtype_of(like))


class _NumPy(Library):
    has_strides = True

    @contextlib.contextmanager
    def poisoned(self, *likes):
        # An allocator hands out first what was given back last.
        released = [np.full(x.shape, np.nan, x.dtype) for x in likes for _ in range(4)]
        del released
        yield


class _CuPy(Library):
    has_strides = True
    on_host = False

    def to_numpy(self, x):
        return self.namespace.asnumpy(x).astype(np.float64)


class _Torch(Library):
    differentiates = True
    has_strides = True

    def asarray(self, x, dtype="float64"):
        return self.namespace.asarray(x, dtype=getattr(self.namespace, dtype), device=self.device)

    def to_numpy(self, x):
        return x.detach().to("cpu", self.namespace.float64).numpy().copy()

    @contextlib.contextmanager
    def poisoned(self, *likes):
        library = self.namespace
        before = library.are_deterministic_algorithms_enabled(), library.is_deterministic_algorithms_warn_only_enabled()
        library.use_deterministic_algorithms(True, warn_only=True)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            library.use_deterministic_algorithms(before[0], warn_only=before[1])

    def gradients(self, function, arrays, wanted, upstream):
        """The gradients of function(*arrays) by the arrays at the places `wanted`; None for one that is not reached.

        upstream: a gradient, or None, for each result.
        """
        leaves = [x.detach().clone(memory_format=self.namespace.preserve_format) for x in arrays]
        for place in wanted:
            leaves[place].requires_grad_()
        results = function(*leaves)
        used = [(x, grad) for x, grad in zip(results, upstream, strict=True) if grad is not None and x.requires_grad]
        if not used:
            return [None for _ in wanted]
        return self.namespace.autograd.grad(
            [result for result, _ in used], [leaves[place] for place in wanted], [grad for _, grad in used],
            allow_unused=True,
        )  # fmt: skip


class _Jax(Library):
    differentiates = True
    writable = False

    @property
    def dtypes(self):
        """JAX makes float32 of float64, unless it is told to know that."""
        return ("float64", "float32") if self.namespace.config.jax_enable_x64 else ("float32",)

    def has(self, feature):
        return feature in (None, self.name) or hasattr(self.namespace.numpy, feature)

    def asarray(self, x, dtype="float64"):
        if dtype == "float64" and "float64" not in self.dtypes:
            raise ValueError("dtypes must be narrower than float64 where jax_enable_x64 is not set, got float64")
        array = self.namespace.numpy.asarray(x, dtype=getattr(self.namespace.numpy, dtype))
        return self.namespace.device_put(array, self.namespace.devices(self.device)[0])

    def gradients(self, function, arrays, wanted, upstream):
        """As those of torch: by jax.vjp."""

        def of_leaves(*leaves):
            given = dict(zip(wanted, leaves, strict=True))
            return tuple(function(*(given.get(place, x) for place, x in enumerate(arrays))))

        results, pull = self.namespace.vjp(of_leaves, *(arrays[place] for place in wanted))
        zeros = self.namespace.numpy.zeros_like
        return pull(tuple(zeros(y) if grad is None else grad for y, grad in zip(results, upstream, strict=True)))


LIBRARIES = {"numpy": _NumPy, "torch": _Torch, "jax": _Jax, "cupy": _CuPy}


@functools.cache
def library(name, device="cpu"):
    """The library of that name, with its arrays on a device.

    >>> library("numpy").asarray(np.ones(2), "float32").dtype
    dtype('float32')
    """
    if name not in LIBRARIES:
        raise ValueError(f"library must be one of {', '.join(map(repr, LIBRARIES))}, got {name!r}")
    return LIBRARIES[name](name, import_module(name), device)


NUMPY = library("numpy")
