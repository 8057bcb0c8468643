"""The learning rate of each model, found by trying: the one fair way to compare models that learn at different rates."""

import dataclasses
import json
from pathlib import Path

from refimpl.files import write_atomically

from .distributed import on_first
from .train import train


def sweep(config, rates, models, out, device="cpu", console=None):
    """Train each model with each learning rate and the same everything else; runs that were finished are not repeated.

    Args:
        config: a `RunConfig`; its model and learning_rate are replaced.
        rates: learning rates, at least one.
        models: names of models.
        out: folder, which receives sweep.json after every run, and a folder a run.
        device, console: as for `gpu.train.train`.

    Returns:
        A list of dicts of model, learning_rate, parameters, held_out (bits per byte; None where training diverged),
        seconds and remark, which marks the best rate of each model, and whether it lies at an end of those tried.

    Raises:
        Whatever `train` raises, but FloatingPointError.
    """
    out, rows = Path(out), []
    rates = sorted(set(rates))
    for model in models:
        for rate in rates:
            kv_heads = config.kv_heads if model == "transformer" else None
            run = dataclasses.replace(config, model=model, learning_rate=rate, kv_heads=kv_heads)
            row = {"model": model, "learning_rate": rate, "parameters": None, "held_out": None, "seconds": None}
            try:
                result = train(run, out / f"{model}_{rate:g}", device, console, resume=True)
                row |= {name: result[name] for name in ("parameters", "seconds")}
                row |= {"held_out": result["bits_per_byte"]["held_out"], "remark": ""}
            except FloatingPointError as error:
                row["remark"] = f"diverged: {error}"
            rows.append(row)
            _mark_best([each for each in rows if each["model"] == model], rates)
            shown = {"config": dataclasses.asdict(config), "rows": rows}
            on_first(write_atomically, out / "sweep.json", json.dumps(shown, indent=2) + "\n")
    return rows


def _mark_best(rows, rates):
    learnt = [row for row in rows if row["held_out"] is not None]
    best = min(learnt, key=lambda row: row["held_out"], default=None)
    for row in learnt:
        at_end = len(rates) > 1 and row["learning_rate"] in (rates[0], rates[-1])
        best_remark = "best, at an end of the range: widen it" if at_end else "best"
        row["remark"] = best_remark if row is best else ""
