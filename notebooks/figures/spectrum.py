"""Lesson 2: a matrix and its factors, eigenvalues in the complex plane, and what a token leaves behind."""

import numpy as np
from matplotlib.patches import Circle

from .explorer import Explorer, slider
from .style import BLUE, FAINT, INK, ORANGE, PALE, equation, new_picture, panels, styled


@styled
def product(matrices, titles):
    """The first matrix as the product of the others, as heat maps. matrices: real (N, M); titles: as many strings."""
    limit = max(np.abs(matrix).max() for matrix in matrices) or 1
    said = f"Heat maps: {np.round(matrices[0], 3).tolist()} as a product of {len(matrices) - 1} matrices."
    picture = new_picture(2.1 * len(matrices), 2.4, said)
    signs = ("=", *"·" * (len(matrices) - 2))
    labels = {"xlabel": "column", "ylabel": "row"}
    equation(picture, titles, matrices, titles, signs, limit=limit, **labels, wspace=0.6, left=0.08, right=0.97)
    return picture


def _stems(ax, values):
    """A stem for each token of age 0, 1, 2, ..., on a zero line."""
    ages = np.arange(len(values))
    ax.plot(ages, values, "o", color=BLUE, markersize=3.5)
    ax.vlines(ages, 0, values, color=BLUE, linewidth=1.2)
    ax.axhline(0, color=INK, linewidth=0.8)


@styled
def responses(grid, rows, columns):
    """Impulse responses as stems, a panel each. grid (R, C, J): what is read j = 0 ... J - 1 tokens later.

    rows, columns: R and C strings. The axes are labelled "row, column"; a row of panels shares its scale.
    """
    grid = np.asarray(grid)
    ends = "; ".join(
        f"{row}: {', '.join(f'{line[-1]:.2g} ({name})' for name, line in zip(columns, lines, strict=True))}"
        for row, lines in zip(rows, grid, strict=True)
    )
    said = f"Impulse responses, {len(rows)} by {len(columns)} panels. Read after {grid.shape[2] - 1} tokens: {ends}."
    picture = new_picture(8.0, 1.5 * len(rows) + 0.6, said, layout="constrained")
    axes = picture.subplots(len(rows), len(columns), sharex=True, sharey="row", squeeze=False)
    for (r, c), ax in np.ndenumerate(axes):
        ax.set_label(f"{rows[r]}, {columns[c]}")
        _stems(ax, grid[r, c])
        ax.set(title=columns[c] if r == 0 else "", xlabel="tokens since the write, j" if r == len(rows) - 1 else "")
        ax.set_ylabel(f"{rows[r]}\nread" if c == 0 else "")
    return picture


@styled
def eigenvalue_picture(radius, degrees, length=24):
    """The powers of a = radius e^(i angle) in the plane, and their real part against the age of a token.

    radius at least 0; degrees the angle; length: the highest power. The axes are labelled plane and response.
    """
    powers = (radius * np.exp(1j * np.deg2rad(degrees))) ** np.arange(length + 1)
    read = powers.real
    kind = "stays as large" if np.isclose(radius, 1) else "fades" if radius < 1 else "grows"
    said = (
        f"Eigenvalue of radius {radius:g} and angle {degrees:g} degrees: it {kind}. "
        f"Read after 1, 2, 3 and {length} tokens: {', '.join(f'{read[j]:.3f}' for j in (1, 2, 3, length))}."
    )
    picture = new_picture(8.4, 3.5, said)
    widths = {"width_ratios": (1, 1.35), "left": 0.08, "right": 0.98, "bottom": 0.16, "top": 0.9}
    plane, response = panels(picture, ("plane", "response"), **widths)
    limit = max(1.25, 1.1 * np.abs(powers).max())
    plane.add_patch(Circle((0, 0), 1, facecolor=FAINT, edgecolor=INK, linewidth=1, linestyle="--"))
    plane.axhline(0, color=PALE, zorder=0)
    plane.axvline(0, color=PALE, zorder=0)
    plane.plot(powers.real, powers.imag, "-", color=BLUE, linewidth=0.7)
    plane.plot(powers.real, powers.imag, "o", color=BLUE, markersize=3.5)
    a = powers[1]
    plane.plot([a.real], [a.imag], "D", color=ORANGE, markersize=7)
    plane.plot([a.real], [-a.imag], "D", color=ORANGE, markersize=7, markerfacecolor="none")
    plane.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="real part", ylabel="imaginary part")
    plane.set_title("◆ eigenvalue, ◇ its partner, ● powers")
    _stems(response, read)
    edge = max(1.1, 1.1 * np.abs(read).max())
    response.set(xlabel="tokens since the write, j", ylim=(-edge, edge))
    response.set_ylabel("read, $\\gamma^{\\,j}\\,\\cos(j\\theta)$")
    response.set_title(f"$\\gamma$ = {radius:g}, $\\theta$ = {degrees:g}°: {kind}")
    return picture


def eigenvalue_explorer(radius, degrees):
    """A widget that moves an eigenvalue and its partner over the unit disc and slightly beyond it."""
    return Explorer(
        eigenvalue_picture,
        radius=slider("radius γ", radius, 0.0, 1.1, 0.05),
        degrees=slider("angle θ (degrees)", degrees, 0, 180, 5),
    )
