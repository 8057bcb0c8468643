"""Find the learning rate of each model by trials, for a fair comparison of models that learn at different rates."""

import dataclasses
import json
from pathlib import Path

from refimpl.checks import check_choice
from refimpl.files import write_atomically

from ..models.registry import MODELS
from .study import folder_name, last_line, last_losses, run_all


def sweep(config, rates, models, out, devices=("cpu",), console=None, command=None, fresh=False):
    """Train each model with each learning rate, all else equal; finished runs are not repeated.

    Args:
        config: a `RunConfig`; its model and learning_rate are replaced.
        rates: learning rates, at least one.
        models: names of models, of `gpu.models.registry.MODELS`.
        out: folder for sweep.json, written after every run, and for a folder of each run.
        devices, console, command, fresh: as for `gpu.training.study.run_study`.

    Returns:
        A list of dicts of model, learning_rate, parameters, held_out (bits per byte, or per answer of a task; None where
        training diverged), accuracy and accuracy_by_pairs (of a task), seconds and remark, which marks the best rate of each model, also if it lies at an end of the range.

    Raises:
        StoppedError, ValueError: as `gpu.training.study.run_study`; ValueError also for an unknown model.
    """
    out, rates = Path(out), sorted({float(rate) for rate in rates})
    for model in models:
        check_choice("model", model, MODELS)
    runs = {
        folder_name(model, rate): dataclasses.replace(
            config, model=model, learning_rate=rate, kv_heads=config.kv_heads if MODELS[model].grouped else None
        )
        for model in models
        for rate in rates
    }

    def write(results):
        rows = [_row(out / name, runs[name], results[name]) for name in runs if name in results]
        for model in models:
            _mark_best([row for row in rows if row["model"] == model], rates)
        done = [result for result in results.values() if result]
        machines = {name: done[0][name] for name in ("device", "versions")} if done else {}
        shown = {"command": command, "config": dataclasses.asdict(config), **machines, "rows": rows}
        write_atomically(out / "sweep.json", json.dumps(shown, indent=2) + "\n")
        return rows

    return write(run_all(runs, out, devices, console, write, fresh))


def _row(folder, config, result):
    row = {name: getattr(config, name) for name in ("model", "learning_rate")}
    if result is None:
        return row | {"parameters": None, "held_out": None, "seconds": None, "remark": f"failed: {last_line(folder)}"}
    row |= {
        "parameters": result["parameters"],
        "held_out": last_losses(result)["held_out"],
        "seconds": result["seconds"],
    }
    return row | {name: result[name] for name in ("accuracy", "accuracy_by_pairs") if name in result} | {"remark": ""}


def _mark_best(rows, rates):
    learnt = [row for row in rows if row["held_out"] is not None]
    best = min(learnt, key=lambda row: row["held_out"], default=None)
    for row in learnt:
        at_end = len(rates) > 1 and row["learning_rate"] in (rates[0], rates[-1])
        best_remark = "best, at an end of the range: widen it" if at_end else "best"
        row["remark"] = best_remark if row is best else ""


def sweep_table(rows):
    """Rows of `sweep` as (headings, lines of texts), for printing."""
    lines = []
    for row in rows:
        loss = "-" if row["held_out"] is None else f"{row['held_out']:.3f}"
        loss += f", {row['accuracy']:.1%} right" if "accuracy" in row else ""
        lines.append((row["model"], f"{row['learning_rate']}", loss, row["remark"]))
    unit = "answer" if any("accuracy" in row for row in rows) else "byte"
    return ("model", "learning rate", f"bits per {unit}", ""), lines
