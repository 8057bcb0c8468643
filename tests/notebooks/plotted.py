"""Read back what a picture shows, and the oracle's numbers to compare it with."""

import numpy as np

from refimpl.oracle import retention_oracle


def axes(picture):
    """The axes of a picture by their labels."""
    return {ax.get_label(): ax for ax in picture.axes}


def images(picture):
    """The first image of each axes that has one, by the label of the axes."""
    return {ax.get_label(): ax.images[0].get_array() for ax in picture.axes if ax.images}


def texts(artists):
    return [artist.get_text() for artist in artists]


def numbers(ax):
    """The texts that stand in cells: {(row, column): text}."""
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in ax.texts}


def rectangles(ax, *, filled=False, shift=0.0):
    """(left, top, width, height) of each rectangle, in the order in which they were drawn."""
    found = [patch for patch in ax.patches if patch.get_fill() == filled]
    return [(p.get_x() + shift, p.get_y() + shift, p.get_width(), p.get_height()) for p in found]


def check_line(line, x, y, label=None):
    """The line has exactly these points, and this label unless that is None."""
    np.testing.assert_array_equal(line.get_xydata(), np.column_stack([x, y]))
    assert label in (None, line.get_label())


def oracle(tokens, gamma, n):
    """The output of token n, counted from 1, and the state after it. tokens: q, k (T, K), v (T, V); n = 0 gives zeros."""
    out, state = retention_oracle(*(x[None, None, :n] for x in tokens), np.array([gamma]))
    return out[0, 0, -1] if n else np.zeros(tokens[2].shape[1]), state[0, 0]
