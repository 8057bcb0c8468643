"""What each part of a model is worth: variants against the first one of a study, and which differences are settled.

A study of variants (gpu/studies/ablations_once.toml) trains each with the same seeds, so that a difference is taken seed by
seed. With two or three seeds the spread of one variant is hardly known, so it is pooled over all.
"""

import math
import statistics

import numpy as np

TWICE = 2.0  # standard errors from which on a difference is called one
WILD = 5.0  # times the median of the spreads: a variant that spreads more is not like the others, and keeps its own
SIZE = 0.02  # of the first variant's parameters, by which another one may differ


def analysis(study):
    """Each variant's difference to the first with its standard error, of a study as study.json holds it.

    Returns a dict:
        study: the study, whose rows now have error, that of `over`: (the spread of a seed's difference) / sqrt(seeds). The
            spread is the root mean square over the variants; a variant of more than `WILD` times their median has its own.
        first: the row that the others are compared with.
        spread: the pooled one; nan if no variant has any. wild: `WILD`.
        worse, better: rows that differ by more than `TWICE` their error, the largest difference first.
        unsettled: rows that do not.
        learnt: (mean, standard error) of the loss of learnt decays over that of fixed ones in the same block; None without both.
        missing: names of variants that were not trained, or whose runs all failed.
        figures: names of all quoted figures.
    """
    first, *others = study["rows"]
    known = [row["over_deviation"] for row in others if row["over_deviation"] is not None]
    spread, limit = pooled(known) if known else (math.nan, math.nan)
    for row in study["rows"]:
        count, own = sum(loss is not None for loss in row["held_out"]), row["over_deviation"]
        wild = own is not None and own > limit
        row["error"] = (own if wild else spread) / math.sqrt(count) if count else math.nan
    settled = [row for row in others if row["over"] is not None and abs(row["over"]) > TWICE * row["error"]]
    return {
        "study": study,
        "first": first,
        "spread": spread,
        "wild": WILD,
        "worse": sorted((row for row in settled if row["over"] > 0), key=lambda row: -row["over"]),
        "better": sorted((row for row in settled if row["over"] < 0), key=lambda row: row["over"]),
        "unsettled": [row for row in others if row["over"] is not None and row not in settled],
        "learnt": _learnt(study["rows"], spread),
        "missing": [row["variant"] for row in others if row["over"] is None],
        "figures": list(dict.fromkeys(name for row in study["rows"] for name in row["quoted"])),
    }


def pooled(deviations):
    """The root mean square of deviations of one kind, and the limit, `WILD` medians, beyond which one is left out.

    >>> pooled([3.0, 4.0, 100.0])
    (3.5355339059327378, 20.0)
    """
    limit = WILD * statistics.median(deviations)
    return math.sqrt(np.mean([own**2 for own in deviations if own <= limit])), limit


def _learnt(rows, spread):
    learnt = next((row for row in rows if row["settings"].get("decays") == "learnt"), None)
    if learnt is None:
        return None
    model = learnt["settings"]["model"]
    fixed = next(row for row in rows if row["settings"]["decays"] == "fixed" and row["settings"]["model"] == model)
    pairs = [pair for pair in zip(learnt["held_out"], fixed["held_out"], strict=True) if None not in pair]
    return (
        (statistics.fmean(ours - theirs for ours, theirs in pairs), spread / math.sqrt(len(pairs))) if pairs else None
    )


def judged(parts):
    """What an `analysis` says of each variant: {variant: worse, better, not settled, or confounded, with its size}.

    Confounded: it has another number of parameters than the first one, by more than `SIZE`, so a difference is that of two
    things. Variants that were not trained are left out.
    """
    found, whole = {}, parts["first"]["parameters"]
    for name in ("worse", "better", "unsettled"):
        for row in parts[name]:
            size = row["parameters"] / whole
            alike = abs(size - 1) <= SIZE
            said = "not settled" if name == "unsettled" else name
            found[row["variant"]] = said if alike else f"confounded: {size:.0%} of the size"
    return found
