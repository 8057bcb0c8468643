"""Names beside the ends of lines, in place of a legend."""

import numpy as np


def name_lines(panel, *, fontsize=9.0, gap=1.25, right=1.02):
    """Write the label of each line of a panel of Matplotlib beside its last point, in its colour; call it last.

    Names that would overlap move apart and stay joined to their line by a hair; one of a line that ends early stands at
    that end. gap: from name to name in font sizes; right: where names begin, in widths of the panel. Lines without a
    label, or with one that begins with _, get none.
    """
    panel.figure.draw_without_rendering()  # settles limits and layout, so that heights below are those of the page
    box, pixels, far = panel.get_window_extent(), panel.figure.dpi / 72, []
    for line in panel.lines:
        points = np.asarray(line.get_xydata())
        points = points[np.isfinite(points).all(axis=1)]
        if line.get_label().startswith("_") or not len(points):
            continue
        x, y = panel.transData.transform(points[-1])
        if x < box.x0 + 0.9 * box.width:
            panel.annotate(
                line.get_label(),
                points[-1],
                (5, 2),
                textcoords="offset points",
                color=line.get_color(),
                fontsize=fontsize,
            )
        else:
            far.append((line, points[-1], y))
    places = apart([y for _, _, y in far], gap * fontsize * pixels, box.y0, box.y1)
    for (line, end, _), place in zip(far, places, strict=True):
        hair = {"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.7, "relpos": (0, 0.5)}
        hair |= {"shrinkA": 1, "shrinkB": 2}
        panel.annotate(
            line.get_label(), end, (right, (place - box.y0) / box.height), textcoords="axes fraction",
            color=line.get_color(), fontsize=fontsize, va="center", arrowprops=hair, annotation_clip=False,
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
