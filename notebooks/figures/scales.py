"""Lesson 7: windows of the heads, and which head reads which lag best."""

import numpy as np

from refimpl import head_decays

from .explorer import Explorer, choice, slider
from .style import BLUE, GREY, INK, LINES, ORANGE, PALE, cells, frame, name_lines, new_picture, styled

LAGS = 2.0 ** np.linspace(0, 13, 131)  # 1 to 8192 tokens
STYLES = (*LINES, {"color": "#9C3587", "linestyle": (0, (6, 2, 1, 2, 1, 2))})
MARKERS = ("o", "s", "^", "D", "v")


def recall_snr(gamma, lag, key_dim):
    """Signal to noise of reading one value, `lag` tokens back, among random ones: sqrt(K r / (1 - r)).

    r = gamma^2L (1 - gamma^2) is the share of that value in the sum of squared weights.

    gamma (H,) and lag (N,), or a number each; K the width of the keys. Returns (H, N), without an axis for each number.
    """
    gamma = np.asarray(gamma, dtype=np.float64)
    gamma = gamma[:, None] if gamma.ndim and np.ndim(lag) else gamma
    share = gamma ** (2 * np.asarray(lag)) * (1 - gamma**2)
    return np.sqrt(key_dim * share / (1 - share))


@styled
def heads(gamma, lag, key_dim):
    """Weight against lag for every head, and how well each reads one lag. gamma (H,), each below 1.

    The axes are labelled weights and recall.
    """
    snr = recall_snr(gamma, lag, key_dim)
    best, windows, count = int(np.argmax(snr)), 1 / (1 - gamma), len(gamma)
    bests = np.isclose(snr, snr[best], rtol=1e-9, atol=0)
    alike = count > 1 and bests.all()
    which = f"all {count} heads read alike" if alike else f"head {best}, window {windows[best]:,.0f}, reads best"
    said = (
        f"Heads: {count}, with windows from {windows[0]:,.0f} to {windows[-1]:,.0f} tokens. At lag {lag:,} {which}: "
        f"signal to noise {snr[best]:.2f}; the weight there is {gamma[best] ** lag:.2f}. Head 0: {snr[0]:.2f}, "
        f"head {count - 1}: {snr[-1]:.2f}."
    )
    picture = new_picture(8.8, 3.5, said)
    left = picture.add_axes((0.065, 0.15, 0.515, 0.76), label="weights")
    for h, (decay, level) in enumerate(zip(gamma, np.linspace(0.85, 0.15, count), strict=True)):
        left.plot(
            LAGS, decay**LAGS, **({"color": BLUE, "linewidth": 2.8} if bests[h] else {"color": GREY, "linewidth": 1.0})
        )
        place = np.log(level) / np.log(decay)
        if LAGS[0] <= place <= LAGS[-1]:
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            left.text(place, level, h, ha="center", va="center", fontsize=8, bbox=behind)
    left.axvline(lag, color=INK, linewidth=1.0)
    left.set_xscale("log", base=2)
    left.set(xlim=(1, LAGS[-1]), ylim=(0, 1.03), xlabel="lag L (tokens since the write)", ylabel="weight $γ_h^L$")
    left.set_title(f"weight in each head h, blue the best at L = {lag:,}", loc="left", fontsize=8.5)
    left.grid(color=PALE)

    right = picture.add_axes((0.71, 0.15, 0.25, 0.76), label="recall")
    colors, edges = zip(*((BLUE, INK) if bests[h] else ("#C9D6E2", "none") for h in range(count)), strict=True)
    bars = right.barh(range(count), snr, 0.75, color=colors, edgecolor=edges)
    right.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    right.set_yticks(range(count), [f"{h}: {window:,.0f}" for h, window in enumerate(windows)], fontsize=8)
    right.set(ylim=(count - 0.5, -0.5), xlim=(0, max(1.25 * snr.max(), 1.0)), xlabel="signal to noise")
    right.set_title(f"head: window; reading lag {lag:,}", loc="left", fontsize=8.5)
    return picture


def explorer(num_heads, lag, key_dim):
    """A widget that changes the schedule, the number of heads and the lag of `heads`."""
    schedules = {"released": "released", "paper's experiments": "paper", "all 1 − 1/32": 1 - 1 / 32}
    return Explorer(
        lambda schedule, number, lag: heads(head_decays(number, schedule), lag, key_dim),
        schedule=choice("schedule", schedules),
        number=slider("heads H", num_heads, 1, 16),
        lag=choice("lag L", {f"{2**power:,}": 2**power for power in range(13)}, lag),
    )


@styled
def recall(lags, derived, measured, *, ylabel="signal to noise", description):
    """Derived lines and measured points over the lags. derived, measured: {name: (N,)} with the same names."""
    picture = new_picture(7.4, 3.5, description, layout="constrained")
    ax = picture.subplots()
    for index, name in enumerate(derived):
        style = STYLES[index % len(STYLES)]
        ax.plot(lags, derived[name], label=name, **{**style, "linewidth": 1.3})
        points = {"marker": MARKERS[index % len(MARKERS)], "color": style["color"], "markerfacecolor": "white"}
        ax.plot(lags, measured[name], linestyle="", markersize=5, **points)
    ax.set_xscale("log", base=2)
    ax.set(xlabel="lag L (tokens since the write)", ylabel=ylabel, ylim=(0, None))
    ax.grid(color=PALE)
    ax.margins(x=0.02)
    name_lines(ax)
    return picture


@styled
def table(shares, rows, lags):
    """Shares as percent in a heat map from 50 % (chance) to 100 %, the best of each column framed. shares (H, N)."""
    best = shares.argmax(axis=0)
    most = 100 * shares.max(axis=0)
    readings = zip(lags, best, most, strict=True)
    said = ", ".join(f"lag {lag:,}: head {h}, {percent:.0f} %" for lag, h, percent in readings)
    size = (0.62 * len(lags) + 2.6, 0.42 * len(rows) + 1.0)
    picture = new_picture(*size, f"Best head for each lag. {said}.", layout="constrained")
    ax = picture.subplots()
    look = {"vmin": 50, "vmax": 100, "aspect": "auto"}
    cells(ax, 100 * shares, "{:.0f}".format, **look)
    for i, h in enumerate(best):
        frame(ax, i - 0.46, h - 0.44, 0.92, 0.88, ORANGE, 2.4)
    ax.set_xticks(range(len(lags)), [f"{lag:,}" for lag in lags])
    ax.set_yticks(range(len(rows)), rows)
    ax.set(xlabel="lag L (tokens since the write)", title="signs read right, %; framed: the best head for that lag")
    return picture
