"""Lesson 7: what heads hear at each lag, derived and measured, and which of them is the best."""

from .style import LINES, ORANGE, PALE, cells, frame, name_lines, new_picture, styled

STYLES = (*LINES, {"color": "#9C3587", "linestyle": (0, (6, 2, 1, 2, 1, 2))})
MARKERS = ("o", "s", "^", "D", "v")


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
