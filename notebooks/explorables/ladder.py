"""Lesson 12: the plan of a kernel decides what it moves and keeps, beside the times of the kernel ladder on record."""

import json
import re
from importlib.resources import files

from .explorable import Explorable

REGISTER_BYTES = 65536 * 4  # of a multiprocessor's registers: NVIDIA's Hopper tuning guide, "Occupancy"
FLOAT32 = 67e12  # FLOP/s of an H200 without its product units, at most: NVIDIA's page of the H200, "FP32"
# The plan of each rung in gpu/kernel_ladder: how it works, tokens a chunk, columns of V a program. One without is shown by its time.
PLANS = {
    "v0_torch": ("operators", 256, 512),
    "v1_naive": ("token", 16, 16),  # it has no chunks
    "v2_chunks": ("states", 64, 64),
    "v3_fused": ("chip", 64, 128),
    "v4_tuned": ("states", 128, 256),
    "v5_on_chip": ("groups", 64, 128),
}
# What each rung's file predicts: ms, or from and to. That of v4 was made for chunks of 256 tokens.
PREDICTED = {"v0_torch": [12], "v1_naive": [5], "v2_chunks": [2], "v3_fused": [0.4, 0.7], "v4_tuned": [0.55]}
PREDICTED |= {"v5_on_chip": [0.4, 0.5]}
WORDS = {
    "operators": "one operator after another",
    "token": "one token after another",
    "states": "two kernels, states in memory",
    "chip": "one kernel, state on the chip",
    "groups": "one kernel, three groups",
}


class Ladder(Explorable):
    """One retention on a GPU, by five plans. Choose a plan and walk through its tiles: what does a program load, what does it
    keep on the chip, what does it store? Then make the columns of a program wider, until its state no longer fits."""

    module = "ladder"

    @classmethod
    def course_data(cls):
        """The sizes, the rates and the rungs of gpu/results/ladder.json: name, ms measured, and the plan if it is known."""
        record = json.loads((files("gpu") / "results" / "ladder.json").read_text(encoding="utf-8"))
        rungs = [
            {"name": name, "ms": row["median"], "plan": PLANS.get(name)}
            for name, row in record["versions"].items()
            if re.match(r"v\d", name) and "median" in row
        ]
        sizes = {name: record[name] for name in ("time", "tokens", "heads", "key_dim", "value_dim")}
        rates = {"copy": record["copy_bytes_per_s"], "product": record["product_flop_per_s"]}
        rates["float32"] = FLOAT32
        return sizes | rates | {"registers": REGISTER_BYTES, "rungs": rungs}
