"""Values and figures of the sections on parts: of the corpus, of RetNet and what each is worth, and of texts joined."""

import math

import numpy as np
from matplotlib.figure import Figure

from refimpl.bench.drawing import WIDTH
from refimpl.corpus.shards import PARTS, digest_of_index
from refimpl.training.passages import load_passages

from ..evidence.ablations import TWICE
from ..evidence.ablations import analysis as ablations_once_values
from .evidence import on_a_page
from .results import is_there, read


def ablations_once(folder):
    """Variants of RetNet whose parameters and learning rates are matched; None if they were not measured."""
    found = is_there(folder, "ablations_once.json")
    return ablations_once_values(read(folder, "ablations_once.json")) if found else None


@on_a_page
def ablations_once_figure(study):
    """The difference of each variant to the first, a point a seed, and the losses on the way there, a line a seed."""
    values = ablations_once_values(study)
    first, *others = study["rows"]
    figure = Figure(figsize=(WIDTH, 0.3 * len(others) + 4.2), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[0.3 * len(others) + 0.8, 3.4])
    shown = sorted((row for row in others if row["over"] is not None), key=lambda row: -row["over"])
    for place, row in enumerate(shown):
        pairs = [pair for pair in zip(row["held_out"], first["held_out"], strict=True) if None not in pair]
        above.plot([ours - theirs for ours, theirs in pairs], [place] * len(pairs), ".", color="C0", markersize=4)
        above.errorbar(row["over"], place, xerr=TWICE * row["error"], fmt="|", color="C1", capsize=3)
    above.axvline(0, color="gray", linewidth=0.8)
    above.set_yticks(range(len(shown)), [row["variant"].replace("$", r"\$") for row in shown])
    above.set_xlabel(f"bits per byte above {first['variant']}: seeds, and mean with two standard errors")
    for number, row in enumerate(study["rows"]):
        for evaluations in filter(None, row["evaluations"]):
            look = {"color": "black"} if row is first else {"color": f"C{number % 10}", "alpha": 0.6}
            below.plot(*zip(*evaluations, strict=True), linewidth=0.8, **look)
    lowest = min(row["mean"] for row in values["study"]["rows"] if row["mean"] is not None)
    below.set(xlabel="step", ylabel="bits per byte, held-out text", ylim=(lowest - 0.02, lowest + 0.8))
    for panel in (above, below):
        panel.grid()
    return figure


def passages(_):
    """What it costs to join states of passages that were read apart, on the shipped model."""
    return passages_values(load_passages())


def passages_values(found):
    """The values of the section: {cost: a mean and standard error for each length of B}, in bits per byte.

    joined, forgotten: over the exact state, where the cut is a line's end; within: joined, where it is in a line; line: joined
    at a line's end less joined within one.
    """
    costs = {
        name: np.array([[each[state] - each["exact"] for each in spot[where]] for spot in found["spots"]])
        for name, where, state in (
            ("joined", "line", "joined"),
            ("within", "within", "joined"),
            ("forgotten", "line", "forgotten"),
        )
    }
    costs["line"] = costs["joined"] - costs["within"]
    count = len(found["spots"])
    errors = {name: each.std(axis=0, ddof=1) / math.sqrt(count) for name, each in costs.items()}
    pairs = {name: list(zip(each.mean(axis=0), errors[name], strict=True)) for name, each in costs.items()}
    (gap, error), *_ = pairs["line"]
    return {"found": found, "count": count, "costs": pairs, "gap": gap, "error": error, "twice": TWICE}


def corpus(folder):
    """What the models of the studies read; None if no index is there."""
    return corpus_values(read(folder, "corpus.json")) if is_there(folder, "corpus.json") else None


def corpus_values(index):
    """The values of the section: the index, its digest, and what each part holds."""
    kept = {name: sum(each["kept_bytes"][name] for each in index["sources"]) for name in PARTS}
    dropped = sum(sum(each["dropped"].values()) + sum(each["duplicates"].values()) for each in index["sources"])
    return {"index": index, "digest": digest_of_index(index), "kept": kept, "dropped": dropped}
