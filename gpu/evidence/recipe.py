"""What stable training needs: losses by learning rate and warm-up, and what a single other change is worth.

A study of variants (gpu/studies/recipe.toml) whose first rows differ in learning rate and warm-up alone, the grid. The others
change something more, and each is compared with the row of the grid that has its rate and warm-up.
"""

import math

import numpy as np

from .laws import seed_deviation

SLACK = 0.05  # bits per byte above the best of its warm-up, within which a rate counts as good
AXES = ("learning_rate", "warmup")


def analysis(study):
    """The grid, its warm-ups and the other changes, of a study as study.json holds it.

    Returns a dict:
        rows: those of the study with rate, warmup, change (the settings that differ from the grid's, a dict), finished (True
            if every seed ended with a loss), error (of the mean), over and over_error (to the grid's row of the same rate and
            warm-up, None without one that finished), spikes (of all seeds), failures (how many, and the first that is told).
        warmups: a dict for each warm-up of the grid, from the shortest on: warmup, rates, losses (None where a seed failed),
            best (the row), good (lowest and highest of the unbroken rates around the best that end within `SLACK` of it),
            highest (rate at which every seed finished), sensitivity, the mean over rates of how far the loss is above the
            best, where a failed run, or a worse one, counts as the loss before the first step (arXiv:2309.14322).
        best: the row of the grid with the lowest mean.
        deviation: of a seed, pooled over the rows that end within `SLACK` of the best of their warm-up, by which all errors
            are made; None where no row has two seeds.

    Raises:
        ValueError: no variant of the grid finished.
    """
    base = {name: value for name, value in study["rows"][0]["settings"].items() if name not in AXES}
    rows = [_row(row, study["settings"], base) for row in study["rows"]]
    grid = [row for row in rows if not row["change"]]
    if not any(row["finished"] for row in grid):
        raise ValueError("study: no variant finished with every seed of those that differ in rate and warm-up alone")
    warmups = [
        _warmup([row for row in grid if row["warmup"] == steps]) for steps in sorted({r["warmup"] for r in grid})
    ]
    warmups = [each for each in warmups if each is not None]
    fine = [
        row["held_out"] for each in warmups for row in each["rows"]
        if row["finished"] and row["mean"] <= each["best"]["mean"] + SLACK
    ]  # fmt: skip
    deviation = seed_deviation(fine)[0] if any(len(losses) > 1 for losses in fine) else None
    at = {(row["rate"], row["warmup"]): row for row in grid if row["finished"]}
    for row in rows:
        row["error"] = _error(deviation, row)
        row["over"], row["over_error"] = difference(row, at.get((row["rate"], row["warmup"])), deviation)
    return {
        "rows": rows,
        "warmups": warmups,
        "best": min((each["best"] for each in warmups), key=lambda row: row["mean"]),
        "deviation": deviation,
    }


def _row(row, shared, base):
    """A row of the study with what `analysis` adds of itself alone."""
    settings, runs = row["settings"], [run or {} for run in row["training"]]
    failures = [run["failed"] for run in runs if "failed" in run]
    return row | {
        "rate": settings.get("learning_rate", shared.get("learning_rate")),
        "warmup": settings.get("warmup", shared.get("warmup")),
        "change": {name: settings[name] for name, usual in base.items() if settings[name] != usual},
        "finished": None not in row["held_out"],
        "first": next((run["first"] for run in runs if run.get("first") is not None), None),
        "spikes": _of("spikes", runs, sum),
        "largest_rise": _of("largest_rise", runs, max),
        "largest_gradient_norm": _of("largest_gradient_norm", runs, max),
        "failures": (len(failures), failures[0] if failures else None),
    }


def _of(name, runs, function):
    """A function of what the runs hold under a name; None if none holds it."""
    known = [run[name] for run in runs if run.get(name) is not None]
    return function(known) if known else None


def _warmup(rows):
    """What `analysis` says of the rows of one warm-up; None if none finished."""
    rows = sorted(rows, key=lambda row: row["rate"])
    losses = [row["mean"] if row["finished"] else None for row in rows]
    if not any(row["finished"] for row in rows):
        return None
    best = min((i for i, loss in enumerate(losses) if loss is not None), key=losses.__getitem__)
    near = [loss is not None and loss <= losses[best] + SLACK for loss in losses]
    low, high = best, best
    while low > 0 and near[low - 1]:
        low -= 1
    while high + 1 < len(rows) and near[high + 1]:
        high += 1
    first = max((row["first"] for row in rows if row["first"] is not None), default=math.nan)
    # np.fmin leaves out a first loss that is not known; the loss of a failed run then is none either.
    worst = [np.fmin(math.inf if loss is None else loss, first) for loss in losses]
    return {
        "warmup": rows[0]["warmup"],
        "rows": rows,
        "rates": [row["rate"] for row in rows],
        "losses": losses,
        "best": rows[best],
        "good": (rows[low]["rate"], rows[high]["rate"]),
        "highest": max(row["rate"] for row in rows if row["finished"]),
        "sensitivity": float(np.mean(worst) - losses[best]) if np.isfinite(worst).all() else None,
    }


def _error(deviation, row):
    """The standard error of a row's mean."""
    known = sum(loss is not None for loss in row["held_out"])
    return None if deviation is None or not known else deviation / math.sqrt(known)


def difference(row, other, deviation):
    """How far a row's mean is above another's, and the standard error of that; None, None if one of them did not finish."""
    if other is None or not (row["finished"] and other["finished"]):
        return None, None
    errors = [_error(deviation, each) for each in (row, other)]
    return row["mean"] - other["mean"], None if deviation is None else math.hypot(*errors)
