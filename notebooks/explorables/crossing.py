"""Lesson 14: two models at a few sizes, the laws through their losses, and where the laws cross."""

import json
from importlib.resources import files

import numpy as np

from gpu.evidence.scaling import drawn_means

from .explorable import Explorable

DRAWS = 200  # of those of the analysis, which takes more


class Crossing(Explorable):
    """Dots: measured losses of two models, the means over seeds. Lines: a power law through each. With other seeds the means
    would have been a little different: move "other seeds", and watch where the lines cross."""

    module = "crossing"

    @classmethod
    def course_data(cls):
        """names, and for each model: its sizes x, its weights in a law, and its means, the measured ones first.

        From gpu/results/scaling.json, drawn again as `gpu.evidence.scaling.analysis` does.
        """
        rows = json.loads((files("gpu") / "results" / "scaling.json").read_text(encoding="utf-8"))["rows"]
        models = []
        for name, (again, weights) in drawn_means(rows).items():
            own = [row for row in rows if row["model"] == name]
            x = sorted({row["parameters"] for row in own})
            means = [np.mean([row["held_out"] for row in own if row["parameters"] == size]) for size in x]
            means = np.vstack([means, again[:DRAWS]]).round(6).tolist()
            models.append({"name": name, "x": x, "weights": weights.tolist(), "means": means})
        return {"models": models}
