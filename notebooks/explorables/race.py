"""Lesson 13: what a step of decoding moves at 6.7B, and how long that takes at least; dots are what was measured."""

import json
from importlib.resources import files

from .explorable import Explorable

MOST = 0.9  # of the free memory that decoding may fill, as in the benchmark


class DecodingRace(Explorable):
    """For one more token a model reads its weights and its past; RetNet also writes its state back. The bars are these bytes,
    the lines how long they take at least, by the tokens behind a text. Move the tokens and the texts, and see what helps whom.

    data: sizes of both models, bytes of their weights, read and held, the bandwidth of a copy, memory, and measured steps, all from one file.
    """

    module = "race"

    @classmethod
    def course_data(cls):
        """The models of 6.7B of `gpu/results/paper.json`, and the device that decoded with them."""
        results = json.loads((files("gpu") / "results" / "paper.json").read_text(encoding="utf-8"))
        rows = [row for row in results["rows"] if row["section"] == "decoding" and row["status"] == "measured"]
        rows = [row for row in rows if not row["compiled"]]
        copies = {"transformer": 1, "retnet": 2}  # a state is read and written
        weights = {row["model"]: row["moved_bytes"] - copies[row["model"]] * row["past_bytes"] for row in rows}
        config = results["settings"]
        return {
            "device": results["device"],
            "bandwidth": results["ceilings"]["copy"]["bytes_per_second"],
            "memory": MOST * min(row["free_bytes"] for row in rows if row["largest"]),
            "weights": weights,  # what a step reads, without the embedding
            "held": {row["model"]: row["weight_bytes"] for row in rows},
            "sizes": {
                "dim": config["dim"],
                "layers": config["num_layers"],
                "heads": config["num_heads"],
                "key_dim": config["dim"] // config["num_heads"],
                "value_dim": 2 * config["dim"] // config["num_heads"],
            },
            "measured": [
                {
                    "model": row["model"],
                    "share": row["heads"] // (row["kv_heads"] or row["heads"]),
                    "texts": row["batch"],
                    "tokens": row["context"],
                    "seconds": row["seconds"]["median"],
                }
                for row in rows
                if not row["largest"]
            ],
        }
