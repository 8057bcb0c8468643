"""Where sequences of different lengths lie in an array, and how they are moved to a common end and back.

The keywords are those of `refimpl.lengths`.
"""

from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

from .checks import check_choice, check_integer, check_integers
from .libraries import check_values, is_compiling, is_on_host


def none_given(lengths: Any, cu_seqlens: Any, max_length: Any, padding: Any) -> bool:
    """True if all keywords are left out: every row is one sequence of T tokens."""
    return lengths is None and cu_seqlens is None and max_length is None and padding == "right"


class Sequences(NamedTuple):
    """Where the tokens of N sequences lie in an array (B, T), and where they do when all end together, in (N, M).

    lengths  (N,)
    owner    (B T,)  the sequence of each place of (B, T)
    real     (B, T)  whether a token stands there
    place    (B, T)  how many tokens of its sequence stand before it
    aligned  (N, M)  the same for (N, M), negative before the first
    source   (N M,)  from which place of (B, T) each of (N, M) is filled, and target (B T,) the way back;
    target           both None if nothing moves, for padding on the left
    """

    lengths: Any
    owner: Any
    real: Any
    place: Any
    aligned: Any
    source: Any
    target: Any

    def together(self, x: Any) -> Any:
        """(B, H, T, W) to (N, H, M, W), zeros before the first token of each."""
        return _moved(x, self.source, self.aligned >= 0)

    def back(self, x: Any, padding: Any = None) -> Any:
        """(N, H, M, W) to (B, H, T, W); at padding what stands in an array of that shape, by default zeros."""
        return _moved(x, self.target, self.real, padding)

    def positions(self, before: Any) -> Any:
        """The position (B, T) of every token, for the tokens before each sequence: an int, or integers (N,)."""
        if isinstance(before, int):
            return self.place + before
        xp = array_namespace(before)
        return self.place + xp.reshape(xp.take(before, self.owner, axis=0), self.place.shape)


def sequences_in(
    name: str, like: Any, shape: tuple[int, ...], lengths: Any, cu_seqlens: Any, max_length: Any, padding: Any
) -> Sequences:
    """Check the keywords above for tokens of shape (B, T), and say where the sequences lie.

    name: of the array with these tokens, for messages. like: an array of the library and device.
    """
    check_choice("padding", padding, ("right", "left"))
    if cu_seqlens is not None:
        if lengths is not None or padding != "right":
            other = "lengths" if lengths is not None else "padding on the left"
            raise ValueError(f"cu_seqlens must be None with {other}: packed sequences have no padding")
        return _packed(name, like, shape, cu_seqlens, max_length)
    if max_length is not None:
        raise ValueError(f"max_length must be None without cu_seqlens, got {max_length!r}")
    if lengths is None:
        raise ValueError("lengths must be given with padding on the left, got None")
    return _padded(like, shape, lengths, padding)


def _padded(like: Any, shape: tuple[int, ...], lengths: Any, padding: str) -> Sequences:
    batch, time = shape
    xp = array_namespace(check_integers("lengths", lengths, like, (batch,), "one for each sequence"))
    lengths = xp.astype(lengths, xp.int64)  # first: T may be beyond the range of narrower integers
    inside = lambda lengths: (lengths >= 0) & (lengths <= time)  # noqa: E731
    check_values(lengths, inside, f"lengths must lie in [0, {time}]", lambda: _first_outside(lengths, inside(lengths)))
    row = xp.arange(batch, device=device(lengths))
    starts = row * time if padding == "right" else (row + 1) * time - lengths
    owner = xp.reshape(xp.broadcast_to(row[:, None], shape), (-1,))
    return _sequences(shape, starts, lengths, owner, time, moved=padding == "right")


def _packed(name: str, like: Any, shape: tuple[int, ...], cu_seqlens: Any, max_length: Any) -> Sequences:
    batch, time = shape
    if batch != 1:
        raise ValueError(
            f"{name} must hold one row of packed sequences (batch = 1) with cu_seqlens, got batch = {batch}"
        )
    check_integers("cu_seqlens", cu_seqlens, like, getattr(cu_seqlens, "shape", ()), "any")
    if cu_seqlens.ndim != 1 or cu_seqlens.shape[0] == 0:
        raise ValueError(
            f"cu_seqlens must have shape (sequences + 1,), 0 and the end of each, got {tuple(cu_seqlens.shape)}"
        )
    xp = array_namespace(cu_seqlens)
    cu_seqlens = xp.astype(cu_seqlens, xp.int64)
    first, last, lengths = cu_seqlens[:1], cu_seqlens[-1:], cu_seqlens[1:] - cu_seqlens[:-1]
    check_values(first, lambda x: x == 0, "cu_seqlens must begin with 0", lambda: f"{int(first[0])}")
    check_values(
        last, lambda x: x == time, f"cu_seqlens must end with {time}, the number of tokens", lambda: f"{int(last[0])}"
    )
    rising = lambda lengths: lengths >= 0  # noqa: E731
    check_values(
        lengths, rising, "cu_seqlens must not fall", lambda: f"a length of {_first_outside(lengths, rising(lengths))}"
    )
    longest = _longest(lengths)
    if max_length is not None:
        max_length = check_integer("max_length", max_length, minimum=0)
        reached = lambda lengths: lengths <= max_length  # noqa: E731
        wanted = "max_length must be at least the longest length"
        check_values(lengths, reached, wanted, lambda: f"{max_length} for {_first_outside(lengths, reached(lengths))}")
    elif longest is None:
        raise ValueError(
            "max_length must be given where the values of cu_seqlens cannot be read without waiting, on a device or in a "
            "trace, got None"
        )
    longest = min(max_length, time) if longest is None else longest
    tokens = xp.arange(time, device=device(cu_seqlens))
    owner = xp.clip(xp.searchsorted(cu_seqlens[1:], tokens, side="right"), 0, max(lengths.shape[0] - 1, 0))
    return _sequences(shape, cu_seqlens[:-1], lengths, owner, longest, moved=True)


def _sequences(
    shape: tuple[int, ...], starts: Any, lengths: Any, owner: Any, longest: int, *, moved: bool
) -> Sequences:
    """starts, lengths (N,), owner (B T,): the tables of `Sequences`. Indices are clipped, for values may be unchecked."""
    xp, at = array_namespace(starts), device(starts)
    places, slots = shape[0] * shape[1], starts.shape[0] * longest
    own_length = xp.take(lengths, owner, axis=0)
    place = xp.arange(places, device=at) - xp.take(starts, owner, axis=0)
    real = (place >= 0) & (place < own_length)
    aligned = xp.arange(longest, device=at) - (longest - lengths)[:, None]
    source = target = None
    if moved:
        source = xp.clip(xp.reshape(starts[:, None] + aligned, (-1,)), 0, max(places - 1, 0))
        target = xp.clip(owner * longest + place + longest - own_length, 0, max(slots - 1, 0))
    return Sequences(
        lengths, owner, xp.reshape(real, shape), xp.reshape(xp.clip(place, 0, None), shape), aligned, source, target
    )


def _moved(x: Any, rows: Any, real: Any, others: Any = None) -> Any:
    """(B, H, T, W) to the shape of real and (H, W), from the given rows of (B T); others or 0 where real is False."""
    xp, (batch, heads, time, width) = array_namespace(x), x.shape
    if rows is not None:
        x = xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (batch * time, heads, width))
        x = xp.permute_dims(xp.reshape(xp.take(x, rows, axis=0), (*real.shape, heads, width)), (0, 2, 1, 3))
    others = xp.zeros((), dtype=x.dtype, device=device(x)) if others is None else others
    return xp.where(real[:, None, :, None], x, others)


def _longest(lengths: Any) -> int | None:
    """The largest of the lengths, 0 of none; None where reading it would make a device wait or stop a trace."""
    xp = array_namespace(lengths)
    if is_compiling(xp) or not is_on_host(lengths):
        return None
    try:
        return int(xp.max(lengths)) if lengths.shape[0] else 0
    except (TypeError, RuntimeError):  # so libraries say that they trace
        return None


def _first_outside(lengths: Any, inside: Any) -> str:
    sequence = next(s for s in range(lengths.shape[0]) if not bool(inside[s]))
    return f"{int(lengths[sequence])} at sequence {sequence}"
