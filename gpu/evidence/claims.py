"""What lesson 14 compares, by name: each record as numbers of seeds or of texts, or as a mean with its error."""

import json
from importlib.resources import files

import numpy as np

from refimpl import RetNetConfig, init_params
from refimpl.training.passages import empty, joined, load_passages, read

from . import laws

HYBRIDS = {  # names of lesson 14 for the models of vocabulary 8,192 in `recalled`
    "RetNet": "RetNet, K 32, vocabulary 8,192",
    "attention": "attention, vocabulary 8,192",
    "1 in 2, seeds 0-2": "hybrid, K 16, 1 in 2, vocabulary 8,192",
    "1 in 2, seeds 3-5": "hybrid",
    "1 in 4": "hybrid, K 16, 1 in 4, vocabulary 8,192",
    "fast": "hybrid, gamma 1/2",
    "gated": "gated hybrid",
}
PLACES = {"line": "line's end", "within": "within a line"}  # where text A ends


def record(name):
    """A file of gpu/results, without its ending."""
    return json.loads((files("gpu") / "results" / f"{name}.json").read_text(encoding="utf-8"))


def trial(measured, *names):
    """Comparisons that are judged together: for each pair of names (ours, theirs) what it is called, both measurements, and
    the median of the deviations of their differences.

    measured: {name: a number for every seed}. After the last comparison a line with the median is printed.

    >>> list(trial({"a": [1.0, 3.0], "b": [0.0, 0.0]}, ("a", "b")))
    median deviation of 1: 1.414
    [('a minus b', [1.0, 3.0], [0.0, 0.0], 1.4142135623730951)]
    """
    pairs = {f"{ours} minus {theirs}": (measured[ours], measured[theirs]) for ours, theirs in names}
    median = float(np.median([np.std(np.subtract(*pair), ddof=1) for pair in pairs.values()]))
    for name, pair in pairs.items():
        yield name, *pair, median
    print(f"median deviation of {len(pairs)}: {median:.3f}")


def recalled(pairs):
    """{model: the share of right answers of so many pairs, (seeds,)}, first of the study, then of the hybrids trained later.

    The record says "8,192 tokens" where a name here says "vocabulary 8,192".
    """
    study, later = record("recall"), record("recall_hybrids")
    at = study["settings"]["pairs"].index(pairs)
    rows = [(row["variant"], row) for row in study["rows"]]
    rows += [(row["variant"], row) for row in later["rows"]]
    right = {name: np.array(row["accuracy_by_pairs"])[:, at] for name, row in rows}
    return {name.replace("8,192 tokens", "vocabulary 8,192"): shares for name, shares in right.items()}


def hybrids(pairs):
    """`recalled` of the models of vocabulary 8,192, under the names of claim 2: RetNet, attention, then each hybrid."""
    measured = recalled(pairs)
    return {name: measured[listed] for name, listed in HYBRIDS.items()}


def losses():
    """{model and size: bits per byte on held-out text, a number a seed} of the scaling study, from the smallest size on."""
    found, sizes = {}, {}
    for row in record("scaling")["rows"]:
        millions = sizes.setdefault(row["size"], f"{row['parameters'] / 1e6:.1f} million")
        found.setdefault(f"{row['model']}, {millions}", []).append(row["held_out"])
    return found


def through(models, sizes, floor):
    """Laws through so many of the smallest sizes, one for each of two models, and where they cross.

    models: those of `explorables.Crossing.course_data`; of the means, the measured come first, then those of the draws.
    """
    fits = [
        laws.fit(m["x"][:sizes], np.array(m["means"])[:, :sizes], weights=m["weights"][:sizes], floor=floor)
        for m in models
    ]
    ends = min(m["x"][0] for m in models), 1000 * max(m["x"][-1] for m in models)
    return fits, laws.crossing(*fits, *ends)


def read_far(size="8M"):
    """{model: (its window, {length: (loss, error over windows of text)})} of the models of that size, 8M or 18M."""
    return {
        name: (row["window"], {each["length"]: tuple(each["whole"]) for each in row["lengths"]})
        for name, row in _contexts(size).items()
    }


def by_position(window, reach):
    """Positions, {model: loss} and {model: `reach` of its errors} of the models of that window, in steps, for `curves`."""
    steps, loss, bars = None, {}, {}
    for name, row in _contexts("8M").items():
        if row["window"] == window:
            last = row["lengths"][-1]
            steps = np.repeat(last["edges"][1:], 2)[1:-1]
            loss[name], bars[name] = np.repeat(last["mean"][1:], 2), reach * np.repeat(last["error"][1:], 2)
    return steps, loss, bars


def _contexts(size):
    """{model: its row of the record}."""
    found, names = {}, {"retnet": "RetNet", "transformer": "Transformer"}
    for row in (row for row in record("context")["rows"] if ("18M" in row["run"]) == (size == "18M")):
        name = names[row["model"]] + " of 18M" * (size == "18M") + f", trained on {row['window']:,}"
        found[name + f", seed {row['run'][-1]}" * (name in found)] = row
    return found


def late(window):
    """(its loss on tokens 257 to 512, on the last half, error of the difference) of the Transformer of that window, at home."""
    row = _contexts("8M")[f"Transformer, trained on {window:,}"]
    (own,) = (each for each in row["lengths"] if each["length"] == window)
    at = own["edges"].index(256)
    return own["mean"][at], own["mean"][-1], float(np.hypot(own["error"][at], own["error"][-1]))


def forgotten(window):
    """{lag: (bits per byte more, error)} of the RetNet of that window if each layer drops what is so many tokens back or more.

    Text beyond the lag still comes in through the layers below, about as many times as far as there are layers.
    """
    (row,) = (row for row in record("context")["rows"] if (row["model"], row["window"]) == ("retnet", window))
    return {each["lag"]: (each["over"], each["error"]) for each in row["forgets"]["rows"] if each["head"] is None}


def without(study):
    """{variant: its losses, one a seed} of the ablations, first RetNet's own. study: "ablations_once" or "ablations"."""
    rows = [row for row in record(study)["rows"] if row["settings"]["model"] != "retention"]  # another block
    return {row["variant"]: row["held_out"] for row in rows}


def join_errors(layers):
    """For each layer of a small untrained model: the largest error of a joined state, over its largest entry.

    A text of 40 tokens is cut after 24; the second part is read from nothing, at its place after the first.
    """
    config = RetNetConfig(vocab_size=50, dim=32, num_layers=layers, num_heads=2)
    params, text = init_params(config, seed=1), np.random.default_rng(2).integers(0, 50, 40)
    _, first = read(params, config, text[:24])
    _, second = read(params, config, text[24:], empty(24, config))
    _, exact = read(params, config, text)
    apart = joined(first, second, config).layers
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(apart, exact.layers, strict=True)]


def cuts(*lengths):
    """{what became of A, length of B, where A ends: bits per byte over one reading of both, a number a place}.

    lengths: of B, in bytes, among those of the record.
    """
    passages, found = load_passages(), {}
    spots = list({spot["start"]: spot for spot in passages["spots"]}.values())  # each place once
    for length in lengths:
        i = passages["between"].index(length)
        for where, words in PLACES.items():
            for state in ("joined", "forgotten"):
                over = [spot[where][i][state] - spot[where][i]["exact"] for spot in spots]
                found[f"A {state}, B of {length} bytes, {words}"] = np.array(over)
    return found
