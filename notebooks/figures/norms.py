"""Lesson 8: what the eps of a norm leaves of the size of a row."""

import numpy as np

from .style import curves


def share_kept(marks):
    """The size of norm_eps(x) against ms(x) / eps: 1 / sqrt(1 + eps / ms). marks: {name: ms / eps} points."""
    ratio = np.logspace(-3, 4, 141)
    said = ", ".join(f"{share(at):.3g} at {at:g} ({name})" for name, at in marks.items())
    return curves(
        ratio,
        {"1 / √(1 + ε / ms)": share(ratio)},
        xlabel="mean square of the input, in units of ε",
        ylabel="size after the norm\n(1 without ε)",
        log="x",
        base=10,
        marks=[(at, share(at), f"{name}: {share(at):.3g}") for name, at in marks.items()],
        description=f"Size after the norm against mean square over eps: from 0 to 1. It is {said}.",
    )


def share(ratio):
    """The size after the norm, 1 without eps, at ms / eps = ratio."""
    return 1 / np.sqrt(1 + 1 / ratio)
