"""Lesson 9: what a trained model finds surprising, what it writes, and which heads it needs."""

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath

from .explorer import Explorer, choice, slider
from .style import AMOUNT, INK, LINES, PALE, STYLE, new_picture

COLUMNS, MOST = 92, 8.0  # characters a row; bits of the darkest cell, what a blind guess among 256 bytes costs
LEADING = 1.75  # height of a row, in widths of a character
ADVANCE = 0.602  # width of a character of the font, in font sizes


@rc_context(STYLE)
def surprise(tokens, bits, *, description):
    """A text, a cell a byte, darker the more bits the byte cost. tokens (N,) bytes; bits (N,), NaN where it was given.

    Given bytes are bold on white. The axes are labelled text and scale.
    """
    tokens, bits = np.asarray(tokens), np.asarray(bits, dtype=np.float64)
    rows = -(-len(tokens) // COLUMNS)
    cells = np.full((rows, COLUMNS), np.nan)
    cells.flat[: len(tokens)] = bits
    width, below = 9.0, 0.72
    high = rows * LEADING * width / COLUMNS
    picture = new_picture(width, high + below + 0.05, description)
    ax = picture.add_axes((0, below / (high + below + 0.05), 1, high / (high + below + 0.05)), label="text")
    image = ax.imshow(cells, cmap=AMOUNT, vmin=0, vmax=MOST, extent=(0, COLUMNS, 0, rows * LEADING), aspect="auto")
    given = np.isnan(bits)
    for keep, color, weight in (
        (given, INK, "bold"),
        (~given & (bits <= 0.5 * MOST), INK, "normal"),
        (~given & (bits > 0.5 * MOST), "white", "normal"),
    ):
        for row in range(rows):
            line = slice(row * COLUMNS, (row + 1) * COLUMNS)
            text = "".join(shown(t) if k else " " for t, k in zip(tokens[line], keep[line], strict=True))
            if text.strip():  # an outline of nothing is an error
                ax.add_patch(_line(text, (rows - 1 - row + 0.27) * LEADING, color, weight))
    ax.set_axis_off()
    bar = picture.add_axes((0.35, 0.42 / (high + below + 0.05), 0.3, 0.11 / (high + below + 0.05)), label="scale")
    picture.colorbar(image, cax=bar, orientation="horizontal", ticks=range(0, 9, 2))
    bar.tick_params(labelsize=8, length=2)
    bar.set_xlabel("bits that the byte cost", fontsize=8, labelpad=1)
    return picture


def _line(text, height, color, weight):
    """A row of characters as one outline, which is drawn faster than a text a character, and exactly on its cells."""
    font = FontProperties(family="DejaVu Sans Mono", weight=weight)
    outline = TextPath((0, height), text.replace("$", r"\$"), size=1 / ADVANCE, prop=font)
    return PathPatch(outline, facecolor=color, edgecolor="none", label=text)


def shown(token):
    """A byte as one visible character: itself, ¶ for a new line, · for what is no printable ASCII."""
    return "¶" if token == 10 else chr(token) if 32 <= token < 127 else "·"


def writer(samples, length, longest):
    """A widget that shows texts written before. samples: {(prompt, temperature): (tokens (N,), bits (N,))}.

    bits are NaN for the bytes of the prompt, of which there are N - longest; sliders choose the prompt, the temperature
    and how many of the written bytes are shown.
    """
    prompts, temperatures = (list(dict.fromkeys(key[i] for key in samples)) for i in (0, 1))

    def draw(prompt, temperature, length):
        tokens, bits = (row[: len(row) - longest + length] for row in samples[prompt, temperature])
        text = "".join(map(shown, tokens))
        mean = np.nanmean(bits)
        return surprise(
            tokens,
            bits,
            description=f"Temperature {temperature:.1f}, {length} bytes after the prompt in bold, {mean:.2f} bits each: "
            f"{text}",
        )

    return Explorer(
        draw,
        prompt=choice("prompt", {repr(prompt): prompt for prompt in prompts}),
        temperature=choice("temperature", {f"{value:.1f}": value for value in temperatures}),
        length=slider("bytes to write", length, 10, longest, 10),
    )


@rc_context(STYLE)
def heads(rise, windows, rows):
    """Rise of the loss without a head, in bits a byte, written into a heat map. rise (N, H), windows (H,), N names."""
    most = np.unravel_index(rise.argmax(), rise.shape)
    picture = new_picture(
        0.85 * rise.shape[1] + 2.2,
        0.42 * len(rows) + 1.15,
        f"Bits per byte that each missing head costs, {len(rows)} rows by {rise.shape[1]} heads; the most in row "
        f"{rows[most[0]]}, head {most[1]}: {rise[most]:.2f}.",
        layout="constrained",
    )
    ax = picture.subplots()
    ax.imshow(rise, cmap=AMOUNT, norm=Normalize(0, rise.max()), aspect="auto")
    for (row, h), value in np.ndenumerate(rise):
        dark = value > 0.55 * rise.max()
        ax.text(h, row, f"{value:.3f}", ha="center", va="center", color="white" if dark else INK)
    ax.set_xticks(range(len(windows)), [f"{h}\n{window:,.0f}" for h, window in enumerate(windows)])
    ax.set_yticks(range(len(rows)), rows)
    ax.axhline(len(rows) - 1.5, color=INK, linewidth=1.2)
    ax.set(xlabel="head h, and its effective window in tokens", title="bits per byte more without the head")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return picture


@rc_context(STYLE)
def past(contexts, bits, everything, window):
    """Bits per byte against how much past the model may see, and the window it was trained on. contexts, bits (N,)."""
    best = int(np.argmin(bits))
    picture = new_picture(
        6.6,
        3.2,
        f"Bits per byte against the past that the model may see: {bits[0]:.2f} with {contexts[0]} bytes, least with "
        f"{contexts[best]:,} ({bits[best]:.2f}), {bits[-1]:.2f} with {contexts[-1]:,}, {everything:.2f} with all. It was "
        f"trained on windows of {window:,} bytes.",
        layout="constrained",
    )
    ax = picture.subplots()
    ax.plot(contexts, bits, "o", **LINES[0], markersize=4, label="the newest c to 2c bytes")
    ax.plot([contexts[best]], [bits[best]], "o", color=INK, markersize=9, fillstyle="none", label="the least of these")
    ax.axhline(everything, **LINES[3], label="all of the past")
    ax.axvline(window, **LINES[1], linewidth=1.3, label="window of training")
    ax.set_xscale("log", base=2)
    ax.set_xticks(contexts, [f"{c:,}" for c in contexts])
    ax.set(xlabel="c (bytes)", ylabel="bits per byte")
    ax.grid(color=PALE)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=3)
    return picture
