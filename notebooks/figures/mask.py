"""Lesson 5: which parts of the decay mask can be dropped, and numbers in fewer bits."""

import numpy as np
from matplotlib.colors import LogNorm

from .style import AMOUNT, FAINT, INK, PALE, new_picture, panels, styled


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
        _corners(ax, time, labels=head == 0)
        ax.spines[:].set_color(PALE)
    bar = picture.colorbar(image, cax=picture.add_axes((0.905, 0.17, 0.012, 0.63), label="colours"))
    bar.set_label("largest entry of a tile", fontsize=8)
    return picture


def _corners(ax, high, labels):
    """Ticks at both ends, from 0 to high, the outer label inside the axes. labels: whether the y axis has them."""
    ends = ["0", f"{high:,}"]
    ax.set_xticks([0, high], ends)
    ax.get_xticklabels()[1].set_ha("right")
    ax.set_yticks([0, high], ends if labels else ["", ""], rotation=90, va="center")
