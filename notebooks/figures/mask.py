"""Lesson 5: where entries of the decay mask go wrong, and which of them can be dropped."""

import numpy as np
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.patches import Patch

from .style import AMOUNT, FAINT, INK, LINES, PALE, new_picture, panels, styled, write

# Largest finite and smallest positive number.
RANGES = {
    "bfloat16": (2.0**128 - 2.0**120, 2.0**-133),
    "float16": (65504.0, 2.0**-24),
    "float32": (2.0**128 - 2.0**104, 2.0**-149),
    "float64": (np.finfo(np.float64).max, 2.0**-1074),
}
RECIPES = {"split": "γⁿ · γ⁻ᵐ, then mask", "late": "γⁿ⁻ᵐ, times mask", "early": "mask, then γⁿ⁻ᵐ"}
FUTURE, RIGHT, OFF, INFINITE, NAN = range(5)
WORDS = {FUTURE: "future: 0", RIGHT: "right", OFF: "off by more than 2 %", INFINITE: "inf", NAN: "NaN"}
SHADES = ListedColormap([FAINT, "#BFD9EA", "#EFB24A", "#7A3B00", "#000000"])  # each darker than the one before


def in_precision(x, precision):
    """x rounded to "bfloat16", "float16", "float32" or "float64" and returned as float64, so that all can be compared.

    NumPy has no bfloat16, which is the upper half of a float32: its 16 leading bits, rounded to the nearest, ties to even.
    """
    x = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        if precision != "bfloat16":
            return x.astype(precision).astype(np.float64)
        single = x.astype(np.float32)
    bits = np.atleast_1d(single).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    upper = np.where(np.isfinite(single), rounded.view(np.float32).reshape(x.shape), single)
    return upper.astype(np.float64)


def entries(recipe, n, m, gamma, precision):
    """D_nm as the recipe computes it, with each step rounded to `precision`. n, m integers that broadcast."""
    gamma = in_precision(gamma, precision)

    def power(exponent):
        return in_precision(gamma ** np.asarray(exponent, dtype=np.float64), precision)

    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        if recipe == "split":
            return np.where(n >= m, in_precision(power(n) * power(-m), precision), 0.0)
        if recipe == "late":
            return power(n - m) * (n >= m)
        return np.where(n >= m, power(np.maximum(n - m, 0)), 0.0)


def verdicts(recipe, n, m, gamma, precision):
    """FUTURE, RIGHT, OFF (by more than 2 % and 1e-7), INFINITE or NAN, for each entry. n, m integers that broadcast."""
    got, true = entries(recipe, n, m, gamma, precision), np.where(n >= m, gamma ** np.maximum(n - m, 0.0), 0.0)
    with np.errstate(invalid="ignore"):
        off = np.abs(got - true) > 0.02 * true + 1e-7
    found = np.where(off, OFF, np.where(n >= m, RIGHT, FUTURE))
    return np.where(np.isnan(got), NAN, np.where(np.isinf(got), INFINITE, found))


@styled
def how_it_breaks(gamma, time, precision):
    """The powers of gamma in a precision, and which entries of D three recipes get right there.

    gamma a number in (0, 1), time T, precision a name of `RANGES`. The axes are labelled powers, split, late and
    early; each map holds the verdicts on 64 x 64 entries, evenly spaced.
    """
    rounded, (largest, smallest) = float(in_precision(gamma, precision)), RANGES[precision]
    at = np.unique(np.linspace(1, time, 64).round()).astype(int)
    maps = {recipe: verdicts(recipe, at[:, None], at[None, :], gamma, precision) for recipe in RECIPES}
    if rounded < 1:
        half, gone = np.log(0.5) / np.log(rounded), np.ceil(np.log(1e-7) / np.log(rounded))
        window = f"window {1 / (1 - rounded):,.0f} tokens, half-life {half:,.0f}, below 1e-7 after {gone:,.0f}"
    else:
        window = "γ has become 1: nothing fades"
    wrong = {recipe: [WORDS[v] for v in (OFF, INFINITE, NAN) if (found == v).any()] for recipe, found in maps.items()}
    said = "; ".join(f"{recipe}: {' and '.join(words) or 'right everywhere'}" for recipe, words in wrong.items())
    finite = f", gamma^-m is finite up to m = {last_finite(gamma, precision):,}" if rounded < 1 else ""
    picture = new_picture(9.6, 3.6, f"{precision}, T = {time:,}, {window}{finite}. {said}.")

    ax = picture.add_axes((0.075, 0.24, 0.235, 0.55), label="powers")
    j = np.unique(np.linspace(0, time, 300).round())
    with np.errstate(over="ignore", divide="ignore"):
        rising, falling = (np.log10(in_precision(power, precision)) for power in (rounded**-j, rounded**j))
    for line, text, style, towards in ((rising, "$γ^{-j}$", LINES[1], "right"), (falling, "$γ^j$", LINES[0], "left")):
        ax.plot(j, np.where(np.isfinite(line), line, np.nan), label=text, **style)
        middle = np.flatnonzero(np.isfinite(line))[-1] // 2
        look = {"textcoords": "offset points", "ha": towards, "color": style["color"]}
        ax.annotate(text, (j[middle], line[middle]), (-5 if towards == "right" else 5, 3), **look)
    for level, text, side in ((largest, "largest number", "bottom"), (smallest, "smallest number", "top")):
        ax.axhline(np.log10(level), color=INK, linewidth=0.9, linestyle=":")
        ax.text(0.02 * time, np.log10(level), text, va=side, fontsize=8)
    ax.set(xlim=(0, time), ylim=1.25 * np.log10([smallest, largest]))
    ax.set(xlabel="tokens j", ylabel="power of γ: its log$_{10}$")
    _corners(ax, 0, time, labels=None)

    for index, (recipe, title) in enumerate(RECIPES.items()):
        ax = picture.add_axes((0.395 + 0.205 * index, 0.24, 0.18, 0.55), label=recipe, title=title)
        look = {"extent": (0.5, time + 0.5, time + 0.5, 0.5), "interpolation": "nearest", "aspect": "auto"}
        ax.imshow(maps[recipe], cmap=SHADES, vmin=FUTURE, vmax=NAN, **look)
        for verdict in range(RIGHT, NAN + 1):
            rows, columns = np.nonzero(maps[recipe] == verdict)
            if not len(rows):
                continue
            row = int(np.median(rows))
            columns = columns[rows == row]
            if len(columns) > 16:  # wide enough for the word
                place = at[int(np.median(columns))], at[row]
                color = "white" if verdict >= INFINITE else INK
                write(ax, *place, WORDS[verdict].split()[0], color=color, fontsize=8.5)
        _corners(ax, 1, time, labels=index == 0)
        ax.set(xlabel="past token m", ylabel="token n" if index == 0 else "")
    swatches = [Patch(facecolor=SHADES(verdict), edgecolor="#888888", label=word) for verdict, word in WORDS.items()]
    picture.legend(handles=swatches, loc="lower center", ncols=5, bbox_to_anchor=(0.68, 0.0), fontsize=8.5)
    picture.text(0.5, 0.94, f"{precision}, T = {time:,}: γ is {rounded:.8g}, {window}", ha="center", fontsize=10)
    return picture


def last_finite(gamma, precision):
    """The largest m for which gamma^-m is finite in that precision, where gamma must be below 1."""
    gamma, (largest, _) = float(in_precision(gamma, precision)), RANGES[precision]
    guess = int(np.log(largest) / -np.log(gamma))  # rounding decides between it and its neighbours
    candidates = np.arange(guess - 1, guess + 2)
    with np.errstate(over="ignore"):
        return int(candidates[np.isfinite(in_precision(gamma ** -candidates.astype(np.float64), precision))].max())


@styled
def near_tiles(gammas, time, size, threshold):
    """The mask in tiles of size x size, a map for each head: kept, below `threshold` everywhere, or future.

    gammas (H,), T a multiple of size. The axes are labelled head 0, head 1 ...; a map is (T/size, T/size) and holds
    the largest entry of each tile, on a logarithmic scale. The colour bar is labelled colours. `picture.kept` lists how many tiles each head keeps.
    """
    count = time // size
    first = np.arange(count) * size
    gap = np.maximum(first[:, None] - (first[None, :] + size - 1), 0)  # the smallest n - m of a tile
    powers = np.asarray(gammas)[:, None, None] ** gap  # (H, tiles, tiles)
    largest = np.where(first[:, None] >= first[None, :], powers, 0.0)
    kept, causal = (largest >= threshold).sum((1, 2)), count * (count + 1) // 2
    said = ", ".join(f"head {head} keeps {number}" for head, number in enumerate(kept))
    picture = new_picture(9.6, 2.9, f"Of {causal} tiles of {size} x {size} entries that are not all future, {said}.")
    picture.kept = kept.tolist()
    labels = [f"head {head}" for head in range(len(kept))]
    axes = panels(picture, labels, left=0.06, right=0.88, bottom=0.17, top=0.8, wspace=0.25)
    for head, ax in enumerate(axes):
        shown = np.ma.masked_less(largest[head], threshold)
        ax.set_facecolor(FAINT)
        image = ax.imshow(shown, cmap=AMOUNT, norm=LogNorm(threshold, 1), extent=(0, time, time, 0))
        ax.plot([0, time], [0, time], color=INK, linewidth=0.8)
        ax.text(0.96, 0.93, "future", transform=ax.transAxes, ha="right", va="top", fontsize=8, color=INK)
        if kept[head] < 0.8 * causal:
            text = f"below\n{threshold:.0e}".replace("e-0", "e-")
            ax.text(0.06, 0.1, text, transform=ax.transAxes, fontsize=8, color=INK)
        ax.set_title(f"γ = 1 − 1/{1 / (1 - gammas[head]):.0f}\n{kept[head]:,} of {causal:,} tiles")
        ax.set(xlim=(0, time), ylim=(time, 0), xlabel="past token m", ylabel="token n" if head == 0 else "")
        _corners(ax, 0, time, labels=head == 0)
        ax.spines[:].set_color(PALE)
    bar = picture.colorbar(image, cax=picture.add_axes((0.905, 0.17, 0.012, 0.63), label="colours"))
    bar.set_label("largest entry of a tile", fontsize=8)
    return picture


def _corners(ax, low, high, labels):
    """Ticks at both ends, the outer label inside the axes. labels: of the y axis, None leaves its ticks as they are."""
    ax.set_xticks([low, high], [f"{low}", f"{high:,}"])
    ax.get_xticklabels()[1].set_ha("right")
    if labels is not None:
        ax.set_yticks([low, high], [f"{low}", f"{high:,}"] if labels else ["", ""], rotation=90, va="center")
