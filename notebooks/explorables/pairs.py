"""Lesson 14: how many pairs a state of some width recalls, as predicted and as measured."""

import dataclasses
import json
from functools import cache
from importlib.resources import files

from refimpl.training.capacity import exact_pairs, predicted
from refimpl.training.train import TrainConfig

from .explorable import Explorable

WIDTHS = (8, 16, 32, 64)

share = cache(predicted)


class Pairs(Explorable):
    """A text lists keys with their values, then asks for each key. Move the key width K: the band says what share a state of
    K x 2K numbers a head should answer, the marks what trained models did answer, a mark a seed. The lowest line is chance, one
    of N values; at the upright line *rank* exact reading ends, not right answers. Choices swap the vocabulary, on which it depends who learns the task at all, and add other models."""

    module = "pairs"

    @classmethod
    def course_data(cls):
        """The study of gpu/results/recall.json: its sizes, what is predicted for each K, and what each model answered.

        sizes: heads, layers, dim. widths: K of the curves. pairs: N of the curves. exact: pairs that K lets be read
        exactly. asked: N of the study. vocabularies: {tokens: of them}, with least, most: predicted shares, a row for
        each K; models: name, K of a RetNet (0 for others), for each seed its share at each of `asked`.
        """
        study = json.loads((files("gpu") / "results" / "recall.json").read_text(encoding="utf-8"))
        settings = study["settings"] | study["rows"][0]["settings"]
        fields = {field.name for field in dataclasses.fields(TrainConfig)}
        base = TrainConfig(**{name: value for name, value in settings.items() if name in fields})
        pairs = [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if n <= max(base.pairs)]

        def shares(key_dim, tokens, learnt):
            shape = dataclasses.replace(base, key_dim=key_dim, value_dim=2 * key_dim, vocab_size=tokens)
            return [round(share(shape, n, learnt), 6) for n in pairs]

        vocabularies = {}
        for row in study["rows"]:
            tokens = (settings | row["settings"])["vocab_size"]
            part = vocabularies.setdefault(tokens, {"models": []})
            if any(row["accuracy_by_pairs"]):
                part["models"].append(cls._measured(row, settings, tokens))
        for tokens, part in vocabularies.items():
            for name, learnt in (("least", False), ("most", True)):
                part[name] = [shares(key_dim, tokens, learnt) for key_dim in WIDTHS]
        return {
            "sizes": {"heads": base.num_heads, "layers": base.num_layers, "dim": base.dim},
            "widths": list(WIDTHS),
            "pairs": pairs,
            "exact": [exact_pairs(key_dim, base.num_heads) for key_dim in WIDTHS],
            "asked": list(base.pairs),
            "vocabularies": vocabularies,
        }

    @staticmethod
    def _measured(row, settings, tokens):
        """The name of a model, its K if it is a RetNet of the curves' heads, and its shares, a row a seed."""
        own = settings | row["settings"]
        alike = own["model"] == "retnet" and own["num_heads"] == settings["num_heads"]
        alike = alike and own["value_dim"] == 2 * own["key_dim"]
        shares = [[round(share, 6) for share in each] for each in row["accuracy_by_pairs"] if each]
        name = row["variant"].removesuffix(f", {tokens:,} tokens")
        return {"name": name, "width": own["key_dim"] if alike else 0, "shares": shares}
