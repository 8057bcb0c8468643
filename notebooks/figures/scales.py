"""Lesson 7: windows of the heads, and which head reads which lag best."""

import numpy as np
from matplotlib import rc_context
from matplotlib.patches import Rectangle

from refimpl import head_decays

from .explorer import Explorer, choice, slider
from .style import AMOUNT, BLUE, INK, LINES, ORANGE, PALE, STYLE, new_picture

LAGS = 2.0 ** np.linspace(0, 13, 131)  # 1 to 8192 tokens
STYLES = (*LINES, {"color": "#AA4499", "linestyle": (0, (6, 2, 1, 2, 1, 2))})
MARKERS = ("o", "s", "^", "D", "v")


def recall_snr(gamma, lag, key_dim):
    """Signal to noise of reading the value at `lag` among random ones: sqrt(K r / (1 - r)), r = gamma^2L (1 - gamma^2).

    gamma (H,) and lag (N,), or a number each; K the width of the keys. Returns (H, N), or with fewer axes for numbers.
    """
    gamma = np.asarray(gamma, dtype=np.float64)
    gamma = gamma[:, None] if gamma.ndim and np.ndim(lag) else gamma
    share = gamma ** (2 * np.asarray(lag)) * (1 - gamma**2)
    return np.sqrt(key_dim * share / (1 - share))


@rc_context(STYLE)
def heads(gamma, lag, key_dim):
    """Weight against lag for every head, and how well each reads one lag. gamma (H,), each below 1.

    The axes are labelled weights and recall.
    """
    snr, best = recall_snr(gamma, lag, key_dim), int(np.argmax(recall_snr(gamma, lag, key_dim)))
    windows, count = 1 / (1 - gamma), len(gamma)
    picture = new_picture(
        8.8,
        3.5,
        f"Heads: {count}, with windows from {windows[0]:,.0f} to {windows[-1]:,.0f} tokens. At lag {lag:,} head {best}, "
        f"window {windows[best]:,.0f}, reads best: signal to noise {snr[best]:.2f}; its weight there is "
        f"{gamma[best] ** lag:.2f}. Head 0: {snr[0]:.2f}, head {count - 1}: {snr[-1]:.2f}.",
    )
    left = picture.add_axes((0.065, 0.15, 0.515, 0.76), label="weights")
    for h, (decay, level) in enumerate(zip(gamma, np.linspace(0.85, 0.15, count), strict=True)):
        left.plot(LAGS, decay**LAGS, **{**LINES[h % len(LINES)], "linewidth": 2.6 if h == best else 1.3})
        place = np.log(level) / np.log(decay)
        if LAGS[0] <= place <= LAGS[-1]:
            left.text(
                place, level, h, ha="center", va="center", fontsize=7.5, bbox={"fc": "white", "ec": "none", "pad": 0.8}
            )
    left.axvline(lag, color=INK, linewidth=1.0)
    left.set_xscale("log", base=2)
    left.set(xlim=(1, LAGS[-1]), ylim=(0, 1.03), xlabel="lag L (tokens since the write)", ylabel="weight $γ_h^L$")
    left.set_title(f"weight in each head (numbers: head h); line: L = {lag:,}", loc="left", fontsize=8.5)
    left.grid(color=PALE)

    right = picture.add_axes((0.71, 0.15, 0.25, 0.76), label="recall")
    looks = [BLUE if h == best else "#C9D6E2" for h in range(count)]
    bars = right.barh(
        range(count), snr, 0.75, color=looks, edgecolor=[INK if h == best else "none" for h in range(count)]
    )
    right.bar_label(bars, fmt="%.2f", padding=3, fontsize=7.5)
    right.set_yticks(range(count), [f"{h}: {window:,.0f}" for h, window in enumerate(windows)], fontsize=7.5)
    right.set(ylim=(count - 0.5, -0.5), xlim=(0, 1.25 * snr.max()), xlabel="signal to noise")
    right.set_title(f"head: window; reading lag {lag:,}", loc="left", fontsize=8.5)
    return picture


def explorer(num_heads, lag, key_dim):
    """A widget that moves the schedule, the number of heads and the lag of `heads`."""
    schedules = {"released": "released", "paper's experiments": "paper", "all 1 − 1/32": 1 - 1 / 32}
    return Explorer(
        lambda schedule, number, lag: heads(head_decays(number, schedule), lag, key_dim),
        schedule=choice("schedule", schedules),
        number=slider("heads H", num_heads, 1, 16),
        lag=choice("lag L", {f"{2**power:,}": 2**power for power in range(13)}, lag),
    )


@rc_context(STYLE)
def recall(lags, derived, measured, *, ylabel="signal to noise", description):
    """Derived lines and measured points over the lags. derived, measured: {name: (N,)} with the same names."""
    picture = new_picture(7.4, 3.5, description, layout="constrained")
    ax = picture.subplots()
    for index, name in enumerate(derived):
        style = STYLES[index % len(STYLES)]
        ax.plot(lags, derived[name], **{**style, "linewidth": 1.3}, label=f"{name}, derived")
        points = {"marker": MARKERS[index % len(MARKERS)], "color": style["color"], "markerfacecolor": "white"}
        ax.plot(lags, measured[name], linestyle="", markersize=5, label=f"{name}, measured", **points)
    ax.set_xscale("log", base=2)
    ax.set(xlabel="lag L (tokens since the write)", ylabel=ylabel, ylim=(0, None))
    ax.grid(color=PALE)
    lines, names = ax.get_legend_handles_labels()
    pairs = [(line, points) for line, points in zip(lines[0::2], lines[1::2], strict=True)]
    ax.legend(
        pairs, [name.removesuffix(", derived") for name in names[0::2]], loc="center left", bbox_to_anchor=(1, 0.5)
    )
    return picture


@rc_context(STYLE)
def table(shares, rows, lags):
    """Shares as percent in a heat map from 50 % (chance) to 100 %, the best of each column framed. shares (H, N)."""
    best = shares.argmax(axis=0)
    said = ", ".join(
        f"lag {lag:,}: head {h}, {100 * shares[h, i]:.0f} %" for i, (lag, h) in enumerate(zip(lags, best, strict=True))
    )
    picture = new_picture(
        0.62 * len(lags) + 2.6, 0.42 * len(rows) + 1.0, f"Best head for each lag. {said}.", layout="constrained"
    )
    ax = picture.subplots()
    ax.imshow(100 * shares, cmap=AMOUNT, vmin=50, vmax=100, aspect="auto")
    for (h, i), share in np.ndenumerate(shares):
        ax.text(i, h, f"{100 * share:.0f}", ha="center", va="center", color="white" if share > 0.78 else INK)
    for i, h in enumerate(best):
        ax.add_patch(Rectangle((i - 0.46, h - 0.44), 0.92, 0.88, fill=False, edgecolor=ORANGE, linewidth=2.4))
    ax.set_xticks(range(len(lags)), [f"{lag:,}" for lag in lags])
    ax.set_yticks(range(len(rows)), rows)
    ax.set(xlabel="lag L (tokens since the write)", title="signs read right, %; framed: the best head for that lag")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return picture
