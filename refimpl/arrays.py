"""The types in signatures: arrays of any array-API library, trees of parameters, and retentions as arguments."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypeVar


class Array(Protocol):
    """What arrays of NumPy, torch and every other array-API library share, as far as this package needs it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """One length an axis."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    @property
    def dtype(self) -> Any:
        """A dtype of the array's own library."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __add__(self, other: Any, /) -> Any: ...

    def __sub__(self, other: Any, /) -> Any: ...

    def __mul__(self, other: Any, /) -> Any: ...

    def __rmul__(self, other: Any, /) -> Any: ...


ArrayT = TypeVar("ArrayT", bound=Array)  # in the arguments and in the results: of the same library

Params: TypeAlias = dict[str, Any]  # nested dicts and lists with arrays as leaves, as `init_params` makes them
Retention: TypeAlias = Callable[..., tuple[Any, Any]]  # (q, k, v, gamma, state) -> (out, state): refimpl.retention
