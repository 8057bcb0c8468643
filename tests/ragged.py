"""Sequences of different lengths as tests lay them into one array: padded on a side with NaN, or packed."""

import numpy as np
import pytest

from refimpl.conformance.libraries import NUMPY

LENGTHS = (9, 0, 1, 4, 5, 8)  # the longest, none, one, and about the ends of chunks of 4
TIME = max(LENGTHS)
by_layout = pytest.mark.parametrize("layout", ["right", "left", "packed"])


def spans(layout, lengths=LENGTHS, time=TIME):
    """(row, slice of time) of each sequence."""
    if layout == "packed":
        ends = np.cumsum(lengths)
        return [(0, slice(end - n, end)) for n, end in zip(lengths, ends, strict=True)]
    return [(row, slice(n) if layout == "right" else slice(time - n, time)) for row, n in enumerate(lengths)]


def lay(layout, parts, axis, fill=np.nan):
    """Arrays (1, ...) of one sequence each in one array, padded along the axis with what nobody may read."""
    if layout == "packed":
        return np.concatenate(parts, axis=axis)
    shape = list(parts[0].shape)
    shape[0], shape[axis] = len(parts), max(part.shape[axis] for part in parts)
    whole = np.full(shape, fill, parts[0].dtype)
    for part, (row, span) in zip(parts, spans(layout, [part.shape[axis] for part in parts], shape[axis]), strict=True):
        whole[(row, *[slice(None)] * (axis - 1), span)] = part[0]
    return whole


def keywords(layout, lengths=LENGTHS, backend=NUMPY, dtype="int64"):
    if layout == "packed":
        return {"cu_seqlens": backend.asarray(np.cumsum([0, *lengths]), dtype)}
    return {"lengths": backend.asarray(np.array(lengths), dtype), "padding": layout}


def sequences(with_state=True, lengths=LENGTHS, key_dim=4, value_dim=3, heads=3, seed=0):
    """[(q, k, v, state or None)] of each, (1, H, T, .) float64."""
    draw = np.random.default_rng(seed).standard_normal
    for n in lengths:
        q, k, v = draw((1, heads, n, key_dim)), draw((1, heads, n, key_dim)), draw((1, heads, n, value_dim))
        yield q, k, v, draw((1, heads, key_dim, value_dim)) if with_state else None


def together(layout, each):
    """q, k, v of all, NaN at padding, and their states (N, H, K, V) or None."""
    *tokens, states = zip(*each, strict=True)
    states = None if states[0] is None else np.concatenate(states)
    return *(lay(layout, parts, 2) for parts in tokens), states


def at(array, place):
    """The part (1, H, length, .) of a sequence."""
    row, span = place
    return array[row : row + 1, :, span]


def padding_of(layout, array, lengths=LENGTHS):
    """What stands at padding, one after another."""
    real = np.zeros((array.shape[0], array.shape[2]), bool)
    for row, span in spans(layout, lengths, array.shape[2]):
        real[row, span] = True
    return array.swapaxes(1, 2)[~real]
