"""Lesson 8: what a norm forgives, what its eps takes back, and how far forms then are apart."""

import numpy as np
from matplotlib import rc_context

from refimpl.layers import rms_norm

from .explorer import Explorer, choice
from .style import INK, LINES, PALE, STYLE, curves, new_picture

EPS = np.logspace(-9, -4, 21)  # four a decade: 1e-9, 1e-8 ... 1e-4 are among them


@rc_context(STYLE)
def share_kept(marks):
    """The size of norm_eps(x) against ms(x) / eps: 1 / sqrt(1 + eps / ms). marks: {name: ms / eps} points."""
    ratio = np.logspace(-3, 4, 141)
    said = ", ".join(f"{share(at):.3g} at {at:g} ({name})" for name, at in marks.items())
    picture = curves(
        ratio,
        {"1 / √(1 + ε / ms)": share(ratio)},
        xlabel="mean square of the input, in units of ε",
        ylabel="size after the norm\n(1 without ε)",
        log="x",
        marks=[(at, share(at), f"{name}: {share(at):.3g}") for name, at in marks.items()],
        description=f"Size after the norm against mean square over eps: from 0 to 1. It is {said}.",
    )
    picture.axes[0].set_xscale("log")
    return picture


def share(ratio):
    """What eps leaves of the size 1, at ms / eps = ratio."""
    return 1 / np.sqrt(1 + 1 / ratio)


def disagreement(o, divisors, eps):
    """How far forms that divide o by their own positive numbers are apart after the norm, in % of the largest value.

    o (..., V); divisors {name: array that divides o}, the first is what the others are compared with. Returns
    {name: percent} for the others.
    """
    first, *others = (rms_norm(o / divisor, eps=eps) for divisor in divisors.values())
    return {
        name: 100 * float(np.max(np.abs(other - first)) / np.max(np.abs(first)))
        for name, other in zip(list(divisors)[1:], others, strict=True)
    }


@rc_context(STYLE)
def disagreements(eps, lines, marks=()):
    """Differences from the parallel form against eps, both in powers of ten. lines {name: (len(eps),)}; marks: (eps, percent, text)."""
    said = "; ".join(
        f"{name}: {line[0]:.1g} % at {eps[0]:.0e}, {line[-1]:.2g} % at {eps[-1]:.0e}" for name, line in lines.items()
    )
    picture = curves(
        eps,
        lines,
        xlabel="ε of the norm",
        ylabel="largest difference from parallel\n(% of the largest value)",
        log="xy",
        marks=marks,
        description=f"Difference from the parallel form against eps. {said}.",
    )
    picture.axes[0].set_xscale("log")
    return picture


@rc_context(STYLE)
def after_the_norm(o, divisors, eps, scale=1.0):
    """Left: the size of every token of one head after the norm, by form. Right: how far forms are apart, against eps.

    o (T, V), what retention gives, is multiplied by `scale`; divisors {form: (T,)}, as in `disagreement`. The axes are
    labelled sizes and apart; a form that differs nowhere by 1e-9 % has no line on the right.
    """
    divisors, scaled = {name: divisor[:, None] for name, divisor in divisors.items()}, scale * o
    now = disagreement(scaled, divisors, eps)
    reference = next(iter(divisors))
    said = ", ".join(f"{name} {percent:.2g} %" if percent > 1e-9 else f"{name} 0 %" for name, percent in now.items())
    picture = new_picture(8.6, 3.1, f"eps {eps:g}, input times {scale:.3g}: the difference from {reference} is {said}.")
    sizes, apart = picture.subplots(
        1, 2, gridspec_kw={"wspace": 0.35, "left": 0.07, "right": 0.985, "bottom": 0.16, "top": 0.9}
    )
    for style, (name, divisor) in zip(LINES, divisors.items(), strict=False):
        size = np.sqrt(np.mean(rms_norm(scaled / divisor, eps=eps) ** 2, axis=1))
        sizes.plot(np.arange(1, len(o) + 1), size, label=name, **style)
    sizes.set(
        label="sizes",
        ylim=(0, 1.1),
        xlabel="token n",
        ylabel="size after the norm",
        title=f"ε = {eps:g}, input × {scale:.3g}",
    )
    sizes.legend(loc="lower center", ncols=len(divisors), handlelength=3, columnspacing=1, fontsize=8)
    found = [disagreement(scaled, divisors, each) for each in EPS]
    for style, name in zip(LINES[1:], now, strict=False):
        line = np.array([each[name] for each in found])
        if line.max() > 1e-9:
            apart.plot(EPS, line, label=name, **style)
        if eps and now[name] > 1e-9:
            apart.plot([eps], [now[name]], "o", color=INK, markersize=6)
    apart.set(
        label="apart",
        xscale="log",
        yscale="log",
        ylim=(1e-4, 300),
        xlabel="ε of the norm",
        ylabel=f"largest difference from {reference}\n(% of the largest value)",
        title=f"difference: {said}",
    )
    apart.minorticks_off()
    for ax in (sizes, apart):
        ax.grid(color=PALE)
    return picture


def norm_explorer(o, divisors, eps=1e-6):
    """A widget over eps and a factor of o. o (T, V), divisors {form: (T,)}."""
    names = ("0", "1e-8", "1e-7", "1e-6", "1e-5", "1e-4")
    scales = {"1/10": 0.1, "1/3": 1 / 3, "1": 1.0, "3": 3.0, "10": 10.0}
    return Explorer(
        lambda eps, scale: after_the_norm(o, divisors, eps, scale),
        eps=choice("ε", {name: float(name) for name in names}, eps),
        scale=choice("input × c", scales, 1.0),
    )
