"""What figures share: their size on a page, and names beside the ends of lines in place of a legend."""

import numpy as np

# On a page a figure is about 700 pixels wide. At this width in inches 8 points are then 8 points.
WIDTH = 7.2
PAGE = {
    "font.size": 8.5, "axes.titlesize": 9.5, "axes.labelsize": 8.5, "xtick.labelsize": 8.0, "ytick.labelsize": 8.0,
    "figure.titlesize": 9.5, "axes.spines.top": False, "axes.spines.right": False, "grid.color": "0.9",
    "axes.axisbelow": True,
}  # fmt: skip


def name_lines(panel, named=None, *, fontsize=9.0, gap=1.25, right=1.02, color=None):
    """Write the label of each line of a panel of Matplotlib beside its last point, in its colour; call it last.

    Names that would overlap move apart and stay joined to their line by a hair; one of a line that ends early stands at
    that end. named: pairs of a name and a line, by default all lines whose label does not begin with _. gap: from name
    to name in font sizes; right: where names begin, in widths of the panel; color: of the names, None for their lines'.
    """
    if named is None:
        named = [(line.get_label(), line) for line in panel.lines if not line.get_label().startswith("_")]
    panel.figure.draw_without_rendering()  # settles limits and layout, so that heights below are those of the page
    box, pixels, far = panel.get_window_extent(), panel.figure.dpi / 72, []
    for name, line in named:
        points = np.asarray(line.get_xydata())
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            continue
        x, y = panel.transData.transform(points[-1])
        if x < box.x0 + 0.9 * box.width:
            look = {"color": color or line.get_color(), "fontsize": fontsize}
            panel.annotate(name, points[-1], (5, 2), textcoords="offset points", **look)
        else:
            far.append((name, line, points[-1], y))
    places = apart([y for *_, y in far], gap * fontsize * pixels, box.y0, box.y1)
    for (name, line, end, _), place in zip(far, places, strict=True):
        hair = {"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.8, "relpos": (0, 0.5)}
        hair |= {"shrinkA": 1, "shrinkB": 2}
        panel.annotate(
            name, end, (right, (place - box.y0) / box.height), textcoords="axes fraction",
            color=color or line.get_color(), fontsize=fontsize, va="center", arrowprops=hair, annotation_clip=False,
        )  # fmt: skip


def apart(places, gap, low, high):
    """Places moved as little as needed to lie at least `gap` apart, and within low and high where there is room.

    >>> apart([1.0, 1.0, 9.0], 2.0, 0.0, 10.0)
    [0.0, 2.0, 9.0]
    >>> apart([9.5, 5.0, 9.5], 1.0, 0.0, 10.0)
    [9.0, 5.0, 10.0]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    groups = []  # [mean of what its members want, less their step; number of members]
    for step, index in enumerate(order):
        groups.append([places[index] - step * gap, 1])
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (a, m), (b, n) = groups[-2:]
            groups[-2:] = [[(m * a + n * b) / (m + n), m + n]]
    found, top = list(places), high - (len(places) - 1) * gap
    wanted = [want for want, members in groups for _ in range(members)]
    for step, (index, want) in enumerate(zip(order, wanted, strict=True)):
        found[index] = max(min(want, top), low) + step * gap
    return found
