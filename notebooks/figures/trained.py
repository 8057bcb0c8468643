"""Lesson 9: which bytes surprise a trained model, what it writes, and which heads it needs."""

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath

from .explorer import Explorer, choice, slider
from .style import INK, LINES, PALE, SHARE, cells, new_picture, styled

COLUMNS = 92  # characters in a row
MOST = 8.0  # bits of the darkest cell: the cost of a blind guess among 256 bytes
LEADING = 1.75  # height of a row, in widths of a character
ADVANCE = 0.602  # width of a character of the font, in font sizes


@styled
def surprise(tokens, bits, *, description):
    """A text with a cell for each byte, darker the more bits it cost. tokens (N,) bytes; bits (N,), NaN for given bytes.

    Given bytes are bold on white. The axes are labelled text and scale.
    """
    tokens, bits = np.asarray(tokens), np.asarray(bits, dtype=np.float64)
    rows = -(-len(tokens) // COLUMNS)
    shades = np.full((rows, COLUMNS), np.nan)
    shades.flat[: len(tokens)] = bits
    width, below = 9.0, 0.72
    text_height = rows * LEADING * width / COLUMNS
    height = text_height + below + 0.05
    picture = new_picture(width, height, description)
    ax = picture.add_axes((0, below / height, 1, text_height / height), label="text")
    image = ax.imshow(shades, cmap=SHARE, vmin=0, vmax=MOST, extent=(0, COLUMNS, 0, rows * LEADING), aspect="auto")
    given = np.isnan(bits)
    for keep, weight in ((given, "bold"), (~given, "normal")):
        for row in range(rows):
            line = slice(row * COLUMNS, (row + 1) * COLUMNS)
            text = "".join(shown(t) if k else " " for t, k in zip(tokens[line], keep[line], strict=True))
            if text.strip():  # an outline of nothing is an error
                ax.add_patch(_line(text, (rows - 1 - row + 0.27) * LEADING, weight))
    ax.set_axis_off()
    bar = picture.add_axes((0.35, 0.42 / height, 0.3, 0.11 / height), label="scale")
    picture.colorbar(image, cax=bar, orientation="horizontal", ticks=range(0, 9, 2))
    bar.tick_params(labelsize=8, length=2)
    bar.set_xlabel("bits that the byte cost", fontsize=8, labelpad=1)
    return picture


def _line(text, height, weight):
    """A row of characters as one outline: faster to draw than many texts, and each character lies exactly on its cell."""
    font = FontProperties(family="DejaVu Sans Mono", weight=weight)
    outline = TextPath((0, height), text.replace("$", r"\$"), size=1 / ADVANCE, prop=font)
    return PathPatch(outline, facecolor=INK, edgecolor="none", label=text)


def shown(token):
    """A byte as one visible character: itself, ¶ for a new line, · if it is not printable ASCII."""
    return "¶" if token == 10 else chr(token) if 32 <= token < 127 else "·"


def writer(samples, length, longest):
    """A widget that shows stored texts. samples: {(prompt, temperature): (tokens (N,), bits (N,))}.

    The first N - longest bytes are the prompt; their bits are NaN. Sliders choose the prompt, the temperature and how
    many of the written bytes are shown, at first `length`.
    """
    prompts, temperatures = (list(dict.fromkeys(key[i] for key in samples)) for i in (0, 1))

    def draw(prompt, temperature, length):
        tokens, bits = (row[: len(row) - longest + length] for row in samples[prompt, temperature])
        said = (
            f"Temperature {temperature:.1f}, {length} bytes after the prompt in bold, {np.nanmean(bits):.2f} bits each"
        )
        return surprise(tokens, bits, description=f"{said}: {''.join(map(shown, tokens))}")

    return Explorer(
        draw,
        prompt=choice("prompt", {repr(prompt): prompt for prompt in prompts}),
        temperature=choice("temperature", {f"{value:.1f}": value for value in temperatures}),
        length=slider("bytes to write", length, 10, longest, 10),
    )


@styled
def heads(rise, windows, rows):
    """Rise of the loss without a head, in bits per byte, as a heat map. rise (N, H), windows (H,), rows: N names."""
    row, head = np.unravel_index(rise.argmax(), rise.shape)
    most = rise[row, head]
    said = (
        f"Bits per byte that each missing head costs, {len(rows)} rows by {rise.shape[1]} heads; the most in row "
        f"{rows[row]}, head {head}: {most:.2f}."
    )
    picture = new_picture(0.85 * rise.shape[1] + 2.2, 0.42 * len(rows) + 1.15, said, layout="constrained")
    ax = picture.subplots()
    # A third of the cells cost less than a hundredth of the most: a root spreads their shades.
    cells(ax, rise, "{:.3f}".format, norm=PowerNorm(1 / 3, 0, most, clip=True), aspect="auto")
    ax.set_xticks(range(len(windows)), [f"{h}\n{window:,.0f}" for h, window in enumerate(windows)])
    ax.set_yticks(range(len(rows)), rows)
    ax.axhline(len(rows) - 1.5, color=INK, linewidth=1.2)
    ax.set(xlabel="head h, and its effective window in tokens", title="bits per byte more without the head")
    return picture


@styled
def past(contexts, bits, everything, window):
    """Bits per byte against how much past the model may see, and its window of training. contexts, bits (N,)."""
    best = int(np.argmin(bits))
    said = (
        f"Bits per byte against the past that the model may see: {bits[0]:.2f} with {contexts[0]} bytes, least with "
        f"{contexts[best]:,} ({bits[best]:.2f}), {bits[-1]:.2f} with {contexts[-1]:,}, {everything:.2f} with all. It was "
        f"trained on windows of {window:,} bytes."
    )
    picture = new_picture(6.6, 3.2, said, layout="constrained")
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
