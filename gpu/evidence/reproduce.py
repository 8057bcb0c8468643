"""The smallest run of a study on record, trained again: what a reader can check on two CPU cores in minutes.

A run is the same to the bit on one machine. Another processor or number of threads rounds sums differently, and training
amplifies that, at a high rate to what another seed changes: the first run of ablations_small.json ended at 2.281, 2.288, 2.294
and 2.313 bits per byte with four ways of rounding, a standard deviation of 0.014. A loss counts as reproduced within
`TOLERANCES`, three times the deviation of such a difference, and recall, where a step of learning comes early or late, within more.
"""

import json
from pathlib import Path
from typing import NamedTuple

from ..training.config import RunConfig, configured
from ..training.study import last_losses, run_all
from .scaling import Plan

FOLDER = Path(__file__).parents[1] / "results" / "small"
TOLERANCES = {"byte": 0.06, "answer": 0.1}  # bits per byte of a text, per answer of a task


class Recorded(NamedTuple):
    """A run on record: its study, its name in it, its settings and its loss on held-out text."""

    study: str
    name: str
    config: RunConfig
    held_out: float

    @property
    def tolerance(self):
        """Bits by which another machine's loss may differ."""
        return TOLERANCES["byte" if self.config.task is None else "answer"]


def recorded(path):
    """The runs of a file that `gpu study` or `gpu scaling` wrote, each as `Recorded`; those that failed are left out.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it holds no runs.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"file must be the results of a study, there is no {str(path)!r}")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        runs = list((_of_plan if "plan" in results else _of_study)(path.stem, results))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"file: {str(path)!r} is not what a study writes: {error!r}") from None
    if not runs:
        raise ValueError(f"file: {str(path)!r} holds no finished run")
    return runs


def _of_study(study, results):
    for row in results["rows"]:
        for seed, loss in zip(results["seeds"], row["held_out"], strict=True):
            if loss is not None:
                settings = results["settings"] | row["settings"] | {"seed": seed}
                given = {name: value for name, value in settings.items() if value is not None}
                yield Recorded(study, f"{row['variant']}, seed {seed}", configured(given), loss)


def _of_plan(study, results):
    shown = results["plan"]
    plan = Plan(shown["models"], shown["seeds"], shown["tokens_per_parameter"], [], [])
    for row in results["rows"]:
        rate, share = results["chosen"][row["model"]][row["size"]]
        config = plan.run(row["model"], row["size"], rate, share, row["seed"])
        yield Recorded(study, f"{row['model']}, {row['size']}, seed {row['seed']}", config, row["held_out"])


def smallest(runs):
    """The run of the fewest tokens, and among those the first."""
    return min(runs, key=lambda run: run.config.steps * run.config.batch_size * run.config.window)


def reproduce(runs, out, devices, console=None):
    """Train runs on record again, in folders of `out`; returns each with its loss now, None where training failed.

    Devices, console and errors: as for `gpu.training.study.run_all`. A run that is there already is not repeated.
    """
    results = run_all({run.study: run.config for run in runs}, out, devices, console)
    return [(run, results[run.study] and last_losses(results[run.study])["held_out"]) for run in runs]
