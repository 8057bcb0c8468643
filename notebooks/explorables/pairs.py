"""Lesson 14: how many pairs a state of some width recalls, as predicted and as measured."""

import dataclasses
import json
from importlib.resources import files

import numpy as np

from refimpl.training.capacity import exact_pairs, predicted
from refimpl.training.train import TrainConfig

from .explorable import Explorable

WIDTHS = (4, 8, 16, 32, 64)


class Pairs(Explorable):
    """A text lists keys with their values, then asks for each key. Move the key width K: the band says what share a state of
    K x 2K numbers a head should answer, the dots what trained models did answer. The lowest line is chance, one of N values."""

    module = "pairs"

    @classmethod
    def course_data(cls):
        """The study of gpu/results/recall.json: its sizes, what is predicted for each K, and what each model answered.

        sizes: heads, layers, dim. widths: K of the curves. pairs: N of the curves. exact: pairs that K allows without
        interference; least, most: predicted shares, a row for each K. asked: N of the study. models: name, K of a RetNet
        (0 for others), share at each of `asked` (the mean over seeds).
        """
        study = json.loads((files("gpu") / "results" / "recall.json").read_text(encoding="utf-8"))
        settings, asked = study["settings"], study["settings"]["pairs"]
        pairs = [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if n < settings["vocab_size"] // 2]
        fields = {field.name for field in dataclasses.fields(TrainConfig)}
        base = TrainConfig(**{name: value for name, value in settings.items() if name in fields})

        def shares(key_dim, learnt):
            """Of each number of pairs, in a window that has room for it."""
            shape = dataclasses.replace(base, key_dim=key_dim, value_dim=2 * key_dim)
            rooms = [dataclasses.replace(shape, pairs=(n,), window=max(base.window, 4 * n)) for n in pairs]
            return [round(predicted(room, n, learnt), 6) for room, n in zip(rooms, pairs, strict=True)]

        return {
            "sizes": {"heads": base.num_heads, "layers": base.num_layers, "dim": base.dim},
            "widths": list(WIDTHS),
            "pairs": pairs,
            "exact": [exact_pairs(key_dim, base.num_heads) for key_dim in WIDTHS],
            "least": [shares(key_dim, False) for key_dim in WIDTHS],
            "most": [shares(key_dim, True) for key_dim in WIDTHS],
            "asked": asked,
            "models": [cls._measured(row, settings) for row in study["rows"] if any(row["accuracy_by_pairs"])],
        }

    @staticmethod
    def _measured(row, settings):
        """The name of a model, its K if it is a RetNet of the curves' heads, and its shares, the mean over seeds."""
        own = settings | row["settings"]
        shares = np.mean([each for each in row["accuracy_by_pairs"] if each], axis=0)
        alike = own["model"] == "retnet" and own["num_heads"] == settings["num_heads"]
        alike = alike and own["value_dim"] == 2 * own["key_dim"]
        return {"name": row["variant"], "width": own["key_dim"] if alike else 0, "shares": shares.round(6).tolist()}
