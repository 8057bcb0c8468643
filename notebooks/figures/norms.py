"""Lesson 8: which scales a norm removes, what its eps leaves of them, and how far apart the forms are then."""

import numpy as np

from refimpl.layers import rms_norm

from .explorer import Explorer, choice
from .style import INK, LINES, PALE, curves, name_lines, new_picture, panels, styled

EPS = np.logspace(-9, -4, 21)  # four a decade: 1e-9, 1e-8 ... 1e-4 are among them


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


def disagreement(o, divisors, eps):
    """Differences after the norm between forms that divide o by their own positive numbers, in % of the largest value.

    o (..., V); divisors {name: array that divides o}. The others are compared with the first; returns {name: percent}
    for the others.
    """
    first, *others = (rms_norm(o / divisor, eps=eps) for divisor in divisors.values())
    return {
        name: 100 * float(np.max(np.abs(other - first)) / np.max(np.abs(first)))
        for name, other in zip(list(divisors)[1:], others, strict=True)
    }


def disagreements(eps, lines, marks=()):
    """Differences from the parallel form against eps, on logarithmic axes.

    lines {name: (len(eps),)}; marks: (eps, percent, text) points.
    """
    said = "; ".join(
        f"{name}: {line[0]:.1g} % at {eps[0]:.0e}, {line[-1]:.2g} % at {eps[-1]:.0e}" for name, line in lines.items()
    )
    return curves(
        eps,
        lines,
        xlabel="ε of the norm",
        ylabel="largest difference from parallel\n(% of the largest value)",
        log="xy",
        base=10,
        marks=marks,
        description=f"Difference from the parallel form against eps. {said}.",
    )


@styled
def after_the_norm(o, divisors, eps, scale=1.0):
    """Left: the size of every token of one head after the norm, by form. Right: how far apart the forms are, against eps.

    o (T, V), the output of retention, is multiplied by `scale`; divisors {form: (T,)}, as in `disagreement`. The axes
    are labelled sizes and apart. A form whose difference is at most 1e-9 % everywhere has no line on the right.
    """
    divisors, scaled = {name: divisor[:, None] for name, divisor in divisors.items()}, scale * o
    now = disagreement(scaled, divisors, eps)
    reference = next(iter(divisors))
    said = ", ".join(f"{name} {percent:.2g} %" if percent > 1e-9 else f"{name} 0 %" for name, percent in now.items())
    picture = new_picture(9.6, 3.1, f"eps {eps:g}, input times {scale:.3g}: the difference from {reference} is {said}.")
    sizes, apart = panels(picture, ("sizes", "apart"), wspace=0.62, left=0.06, right=0.92, bottom=0.16, top=0.9)
    for style, (name, divisor) in zip(LINES, divisors.items(), strict=False):
        size = np.sqrt(np.mean(rms_norm(scaled / divisor, eps=eps) ** 2, axis=1))
        same = [line for line in sizes.lines if np.allclose(line.get_ydata(), size, rtol=1e-9)]
        for line in same[:1]:  # one line and one name for forms that agree
            line.set_label(f"{line.get_label()}, {name}")
        sizes.plot(np.arange(1, len(o) + 1), size, label="_" + name if same else name, **style)
    sizes.set(ylim=(0, 1.1), xlabel="token n", ylabel="size after the norm")
    sizes.set_title(f"ε = {eps:g}, input × {scale:.3g}")
    found = [disagreement(scaled, divisors, each) for each in EPS]
    for style, name in zip(LINES[1:], now, strict=False):
        line = np.array([each[name] for each in found])
        if line.max() > 1e-9:
            apart.plot(EPS, line, label=name, **style)
        if eps and now[name] > 1e-9:
            apart.plot([eps], [now[name]], "o", color=INK, markersize=6)
    apart.set(xscale="log", yscale="log", ylim=(1e-4, 300), xlabel="ε of the norm", title=f"difference: {said}")
    apart.set_ylabel(f"largest difference from {reference}\n(% of the largest value)")
    apart.minorticks_off()
    for ax in (sizes, apart):
        ax.grid(color=PALE)
        name_lines(ax)
    return picture


def norm_explorer(o, divisors, eps=1e-6):
    """A widget that moves eps and the scale of `after_the_norm`. o (T, V), divisors {form: (T,)}."""
    names = ("0", "1e-8", "1e-7", "1e-6", "1e-5", "1e-4")
    scales = {"1/10": 0.1, "1/3": 1 / 3, "1": 1.0, "3": 3.0, "10": 10.0}
    return Explorer(
        lambda eps, scale: after_the_norm(o, divisors, eps, scale),
        eps=choice("ε", {name: float(name) for name in names}, eps),
        scale=choice("input × c", scales, 1.0),
    )
