"""Lesson 14: two models at a few sizes, the laws through their losses, and where the laws cross."""

import json
from importlib.resources import files

import numpy as np

from .explorable import Explorable

DRAWS, OF = 200, 2000  # the first draws of those of the analysis, gpu.evidence.scaling; a test compares them


class Crossing(Explorable):
    """Dots: measured losses of two models, the means over seeds, with bars of three standard errors. Lines: a power law through
    each. With other seeds the means would have been a little different: move "other seeds", and watch where the lines cross."""

    module = "crossing"

    @classmethod
    def course_data(cls):
        """For each model of gpu/results/scaling.json its name, sizes x, weights in a law, errors of the measured means, and
        means, the measured ones first. gap_errors: at each size that of the first model's mean minus the second's, as lesson 14
        has it: the deviation over seeds, its own or the median of all sizes, whichever is larger.

        The others are drawn again: at each size seeds have a deviation, pooled over models, which is drawn by its degrees
        of freedom. A size weighs by how little its seeds differ.
        """
        rows = json.loads((files("gpu") / "results" / "scaling.json").read_text(encoding="utf-8"))["rows"]
        losses = {}  # {model: {size: of each seed}}
        for row in sorted(rows, key=lambda row: row["parameters"]):
            losses.setdefault(row["model"], {}).setdefault(row["size"], []).append(row["held_out"])
        sizes = list(next(iter(losses.values())))
        groups = [[np.array(own[size]) for own in losses.values()] for size in sizes]
        freedom = np.array([sum(len(group) - 1 for group in each) for each in groups])
        squares = np.array([sum(((group - group.mean()) ** 2).sum() for group in each) for each in groups])
        known = np.sqrt(squares / freedom)
        deviations = known * np.sqrt(freedom / np.random.default_rng(0).chisquare(freedom, (OF, len(sizes))))
        models = []
        for name in dict.fromkeys(row["model"] for row in rows):
            counts = np.array([len(losses[name][size]) for size in sizes])
            measured = np.array([np.mean(losses[name][size]) for size in sizes])
            noise = np.random.default_rng(len(models) + 1).standard_normal((OF, len(sizes))) / np.sqrt(counts)
            weights = counts / np.maximum(known, max(1e-4, 0.1 * np.median(known))) ** 2
            x = sorted({row["parameters"] for row in rows if row["model"] == name})
            means = np.vstack([measured, (measured + deviations * noise)[:DRAWS]])
            errors = (known / np.sqrt(counts)).round(6)
            parts = {"weights": weights, "errors": errors, "means": means.round(6)}
            models.append({"name": name, "x": x} | {part: values.tolist() for part, values in parts.items()})
        apart = np.array([np.std(np.subtract(*each), ddof=1) for each in groups])
        counts = np.array([len(each[0]) for each in groups])
        return {
            "models": models,
            "gap_errors": (np.maximum(apart, np.median(apart)) / np.sqrt(counts)).round(6).tolist(),
        }
