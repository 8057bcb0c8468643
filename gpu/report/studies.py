"""Values of the sections on training runs: the comparison, the ablations and the learning rates."""

import statistics

from refimpl.training.facts import load_facts

from .results import read, unique


def comparison(folder):
    """RetNet against the Transformer, at equal size on equal text."""
    study = read(folder, "compare.json")
    settings, (retnet, other) = study["settings"], study["rows"]
    tokens = settings["steps"] * settings["batch_size"] * settings["window"]
    at = {step: (loss_at(retnet, step), loss_at(other, step)) for step, _ in retnet["evaluations"][0]}
    facts = load_facts()
    corpus_bytes = facts["training_bytes"] if facts["corpus"] == settings["corpus"] else None
    return {
        "study": study,
        "tokens": tokens,
        "rows": [
            row | {"lowest": lowest_loss(row), "bytes_per_second": tokens / row["seconds"]} for row in study["rows"]
        ],
        "gap": -other["over"],
        "ahead": [step for step, (ours, theirs) in at.items() if ours < theirs],
        "behind": [step for step, (ours, theirs) in at.items() if ours >= theirs],
        "lowest_step": min(at, key=lambda step: at[step][0]),
        "last_step": max(at),
        "corpus_bytes": corpus_bytes,
        "passes": corpus_bytes and tokens / corpus_bytes,
    }


def lowest_loss(row):
    """The lowest held-out loss of a run: mean over seeds and standard deviation."""
    losses = [min(loss for _, loss in evaluations) for evaluations in row["evaluations"]]
    return statistics.fmean(losses), statistics.stdev(losses)


def loss_at(row, step):
    """The mean over seeds of the held-out loss at a step."""
    return statistics.fmean(dict(map(tuple, each))[step] for each in row["evaluations"])


def ablations(folder):
    """The cost of leaving out each part of RetNet, beside the quoted figures."""
    study = read(folder, "ablations.json")
    first, *others = study["rows"]
    figures = unique(name for row in study["rows"] for name in row["quoted"])
    for row in study["rows"]:
        gaps = [ours - base for ours, base in zip(row["held_out"], first["held_out"], strict=True)]
        row["worse_seeds"] = sum(gap > 0 for gap in gaps)
        row["quoted_worse"] = [name for name in figures if row["quoted"].get(name, 0) > first["quoted"][name]]
    worse = [row for row in others if row["worse_seeds"] == len(study["seeds"])]
    complete = [row for row in others if len(row["quoted"]) == len(figures)]
    last = figures[-1]
    return {
        "study": study,
        "figures": figures,
        "not_reproduced": [row for row in others if row not in worse],
        "reproduced": [
            (names, [row for row in worse if row["quoted_worse"] == names])
            for names in map(list, unique(tuple(row["quoted_worse"]) for row in worse))
            if names
        ],
        "not_quoted": [row for row in worse if not row["quoted"]],
        "order": sorted(complete, key=lambda row: -row["over"]),
        "quoted_order": sorted((row for row in others if last in row["quoted"]), key=lambda row: -row["quoted"][last]),
    }


def learning_rates(folder):
    """Losses of every model at every learning rate that was tried."""
    return {"sweeps": [sweep(read(folder, name)) for name in SWEEPS]}


SWEEPS = ("sweep_retnet.json", "sweep_others.json", "sweep_demo.json")


def sweep(results):
    """A sweep as a grid: the losses of each model by learning rate, None for a run that diverged, and the best rate."""
    models = []
    for name in unique(row["model"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["model"] == name]
        losses = {row["learning_rate"]: row["held_out"] for row in rows}
        best = min((rate for rate in losses if losses[rate] is not None), key=losses.get)
        models.append({"name": name, "parameters": rows[0]["parameters"], "losses": losses, "best": best})
    rates = unique(row["learning_rate"] for row in results["rows"])
    return {"device": results["device"], "steps": results["config"]["steps"], "rates": rates, "models": models}
