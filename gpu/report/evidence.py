"""Values and figures of the sections on evidence: scaling, the past, recall, and what training needs to be stable."""

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from refimpl.bench.drawing import PAGE, WIDTH, name_lines

from ..evidence.ablations import TWICE
from ..evidence.recipe import SLACK, difference
from ..evidence.recipe import analysis as stable
from ..evidence.scaling import analysis
from ..models.registry import MODELS
from .figures import COLOURS
from .results import by_key, is_there, read, unique

AGAINST = {
    "parameters": "parameters without embedding and head",
    "tokens": "tokens of training",
    "flops": "FLOPs of training",
}
on_a_page = rc_context(PAGE)  # a decorator for functions that draw


def scaling(folder):
    """Two models at many sizes: their losses, laws and crossing; None if none was measured."""
    return scaling_values(read(folder, "scaling.json")) if is_there(folder, "scaling.json") else None


def scaling_values(results):
    """The values of the section."""
    by = {against: analysis(results, against) for against in AGAINST}
    gaps, (change, around) = by["parameters"]["gaps"], by["parameters"]["change"]
    _, gap, last = gaps[-1]
    missed = [abs(value) for model in by["parameters"]["models"].values() for value in model["missed"].values()]
    return {
        "results": results,
        "by": by,
        "gaps": gaps,
        "change": change,
        "around": around,
        "missed": max(missed, default=None),
        "trusted": bool(missed) and max(missed) < abs(gap) / 2,
        "settled": _apart(last),
        "moves": _apart(around),
        "gpu_seconds": sum(each["seconds"] or 0 for each in [*results["rows"], *results["trials"]]),
    }


def _apart(quantiles):
    """True if zero is outside an interval, (low, middle, high)."""
    low, _, high = quantiles
    return low * high > 0


@on_a_page
def scaling_figure(results):
    """Loss against parameters and against FLOPs, a point a run, with the band of each model's law; and every run's curve."""
    figure = Figure(figsize=(WIDTH, 6.4), layout="constrained")
    grid = figure.add_gridspec(2, 2)
    first = figure.add_subplot(grid[0, 0])
    panels = [first, figure.add_subplot(grid[0, 1], sharey=first)]
    panels[1].tick_params(labelleft=False)
    _draw_curves(figure.add_subplot(grid[1, :]), results["rows"])
    for panel, against in zip(panels, ("parameters", "flops"), strict=True):
        found, named = analysis(results, against), []
        for marker, (model, values) in zip("osD^", found["models"].items(), strict=False):
            colour = COLOURS.get(model)
            for x, losses in zip(values["x"], values["losses"], strict=True):
                panel.plot([x] * len(losses), losses, marker, color=colour, markersize=3.5)
            laws = values["laws"]
            if laws:
                law = laws.get("floor") or laws["line"]
                drawn = np.array(found["x_drawn"])
                near = drawn <= 4 * max(values["x"])
                low, middle, high = np.array(law["curve"])[:, near]
                panel.fill_between(drawn[near], low, high, color=colour, alpha=0.2, linewidth=0)
                named.append((model, *panel.plot(drawn[near], middle, color=colour, linewidth=1.2)))
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
        if against == "parameters":
            sizes = unique(x for values in found["models"].values() for x in values["x"])
            sizes = [x for i, x in enumerate(sorted(sizes)) if not i or x > 1.2 * sorted(sizes)[i - 1]]
            panel.set_xticks(sizes, [f"{x / 1e6:.3g} M" for x in sizes])
        panel.set_xlabel(AGAINST[against])
        panel.grid()
        if panel is panels[-1]:
            name_lines(panel, named)
    panels[0].set_ylabel("bits per byte, held-out text")
    return figure


def _draw_curves(axes, rows):
    """Held-out loss against tokens read, a line a run of scaling.json."""
    for row in rows:
        steps, losses = np.array(row["evaluations"]).T
        axes.plot(steps * row["tokens"] / steps[-1], losses, color=COLOURS.get(row["model"]), linewidth=0.8)
    axes.set(xscale="log", xlabel="tokens read", ylabel="bits per byte, held-out text")
    axes.grid()


def context(folder):
    """Loss by position and by lag of trained models; None if none was measured."""
    found = is_there(folder, "context.json")
    return context_values(read(folder, "context.json"), is_there(folder, "long.json")) if found else None


def context_values(results, curves=False):
    """The values of the section: a row a run, its labels, and the lag beyond which forgetting costs nothing that is seen.

    curves: whether the losses of models of long windows are drawn too.
    """
    rows, kinds = [], [(row["model"], row["window"]) for row in results["rows"]]
    for row in results["rows"]:
        label = f"{MODELS[row['model']].label}, trained at {row['window']:,}"
        label += f" ({row['run']})" if kinds.count((row["model"], row["window"])) > 1 else ""
        beyond = [each for each in row["lengths"] if each["length"] > row["window"]]
        at = next((each for each in row["lengths"] if each["length"] == row["window"]), None)
        over = [each["whole"][0] - at["whole"][0] for each in beyond] if at else []
        rows.append(
            row | {"label": label, "at": at, "beyond": beyond, "over": over, "reach": _reach(row.get("forgets"))}
        )
    judged = [row for row in rows if row["over"]]
    return {
        "results": results,
        "rows": rows,
        "states": [row for row in judged if row["model"] == "retnet"],
        "caches": [row for row in judged if row["model"] == "transformer"],
        "reaches": [row["reach"][None] for row in rows if row["reach"] and row["reach"][None]],
        "longer": _longer(rows),
        "curves": curves,
    }


def _longer(rows):
    """For each model trained on windows of two lengths, the first run of each, in windows of the shorter length: (the shorter
    one's row, the longer one's row, the loss of the longer one over it)."""
    found, first = [], {}
    for row in rows:
        first.setdefault(row["model"], {}).setdefault(row["window"], row)
    for runs in (runs for runs in first.values() if len(runs) > 1):
        short, long = runs[min(runs)], runs[max(runs)]
        there = [each["whole"][0] for each in long["lengths"] if each["length"] == short["window"]]
        if short["at"] and there:
            found.append((short, long, there[0] - short["at"]["whole"][0]))
    return found


def _reach(forgets):
    """{head or None: the least lag from which on forgetting costs no more than twice its error}; None without a measurement."""
    if not forgets:
        return None
    found = {}
    for row in sorted(forgets["rows"], key=lambda row: -row["lag"]):
        harmless = row["error"] is not None and row["over"] <= TWICE * row["error"]
        lags = found.setdefault(row["head"], [])
        lags.append(row["lag"] if harmless and None not in lags else None)
    return {head: min((lag for lag in lags if lag is not None), default=None) for head, lags in found.items()}


@on_a_page
def context_figure(results):
    """Loss by position in the longest window of each run, and what forgetting at a lag costs each RetNet."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    named, lags = [], []
    for number, row in enumerate(context_values(results)["rows"]):
        look = {"color": MODELS[row["model"]].colour, "linestyle": ("-", "--", "-.", ":")[number % 4], "linewidth": 1.2}
        if row["lengths"]:
            longest = row["lengths"][-1]
            middles = [(a + b) / 2 for a, b in zip(longest["edges"], longest["edges"][1:], strict=False)]
            errors = [error or 0 for error in longest["error"]]
            named.append((row["label"], left.errorbar(middles, longest["mean"], errors, **look)[0]))
        if row.get("forgets"):
            every = [each for each in row["forgets"]["rows"] if each["head"] is None]
            every = [each for each in every if each["over"] > 0]  # on a scale of logarithms
            values = [[each[name] or 0 for each in every] for name in ("lag", "over", "error")]
            lags.append((row["label"], right.errorbar(*values, **look)[0]))
    left.set(xscale="log", xlabel="position in the window, tokens", ylabel="bits per byte, held-out text")
    right.set(
        xscale="log",
        yscale="log",
        ylim=(5e-5, None),
        xlabel="lag at which the state forgets, tokens",
        ylabel="bits per byte above the whole past",
    )
    for panel in (left, right):
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid()
    figure.legend(
        *zip(*((line, name) for name, line in named), strict=True), loc="outside lower center", ncols=2, fontsize=8
    )
    return figure


SOLVED, HELD = 0.99, 0.80  # shares of right answers from which on a task is called solved, and a number of pairs held


def recall(folder):
    """Accuracy of recall by the number of pairs; None if none was measured."""
    others = ("recall_tried", "recall_hybrids")
    found = {name: read(folder, f"{name}.json") for name in others if is_there(folder, f"{name}.json")}
    return (
        recall_values(read(folder, "recall.json"), *map(found.get, others)) if is_there(folder, "recall.json") else None
    )


def recall_values(study, tried=None, hybrids=None):
    """The values of the section.

    rows: with the shares of the seeds (`_by_pairs`). solved: names of the models that answer `SOLVED` of the largest number
    of pairs in every seed; others: (name, shares) of the rest, by their mean, best first. holding: for each number of pairs,
    how many models answer `HELD` in every seed. tried, hybrids: rows of the studies of what was tried before, and of why hybrids
    fail, or None.
    """
    rows = _by_pairs(study)
    hardest = {row["variant"]: row["cells"][-1] for row in rows}
    solved = [name for name, shares in hardest.items() if min(shares) >= SOLVED]
    others = [(name, shares) for name, shares in hardest.items() if name not in solved]
    asked = study["settings"]["pairs"]
    return {
        "study": study,
        "pairs": asked,
        "rows": rows,
        "solved": solved,
        "others": sorted(others, key=lambda each: -np.mean(each[1])),
        "holding": [(n, sum(min(row["cells"][i]) >= HELD for row in rows)) for i, n in enumerate(asked)],
        "figures": unique(name for row in rows for name in row["quoted"]),
        "missing": [row["variant"] for row in study["rows"] if row["variant"] not in hardest],
        "tried": tried and _by_pairs(tried),
        "hybrids": hybrids and _by_pairs(hybrids),
    }


def _by_pairs(study):
    """The rows in which a run succeeded; cells: for each number of pairs, the share of right answers in each seed."""
    found = [row | {"cells": list(zip(*filter(None, row["accuracy_by_pairs"]), strict=True))} for row in study["rows"]]
    return [row for row in found if row["cells"]]


@on_a_page
def recall_figure(study):
    """Accuracy against the number of pairs, a point a seed, with the medians joined, and every run's loss: by vocabulary."""
    values, pairs = recall_values(study), study["settings"]["pairs"]
    parts = by_key(values["rows"], lambda row: (study["settings"] | row["settings"])["vocab_size"])
    heights = [0.26 * len(rows) + 1.2 for rows in parts.values()]
    figure = Figure(figsize=(WIDTH, sum(heights) + 3.4), layout="constrained")
    grid, named = figure.add_gridspec(len(parts) + 1, len(parts), height_ratios=[*heights, 2.6]), []
    for place, (size, rows) in enumerate(parts.items()):
        axes, below = figure.add_subplot(grid[place, :]), figure.add_subplot(grid[-1, place])
        for number, row in enumerate(rows):
            look = {"color": f"C{number}", "linestyle": ("-", "--", "-.", ":")[number % 4], "linewidth": 1.2}
            axes.plot(pairs, row["cells"], ".", color=look["color"], markersize=4)
            named.append((axes, row["variant"], *axes.plot(pairs, np.median(row["cells"], axis=1), **look)))
            for evaluations in filter(None, row["evaluations"]):
                below.plot(*zip(*evaluations, strict=True), **look | {"linewidth": 0.8})
        axes.set_xscale("log", base=2)
        axes.set_xticks(pairs, [str(n) for n in pairs])
        axes.set(title=f"vocabulary of {size:,} tokens", xlabel="pairs to remember", ylabel="share of right answers")
        axes.set_ylim(0, 1.03)
        below.set(title=f"{size:,} tokens", xlabel="step", ylabel="bits an answer")
        axes.grid()
        below.grid()
    for panel in unique(panel for panel, *_ in named):
        name_lines(panel, [(name, line) for where, name, line in named if where is panel], fontsize=8)
    return figure


CHANGES = {  # what a changed setting is called on the page; others by their name
    "initialisation": "{} initialisation",
    "norm_eps": "norm eps {:g}",
    "precision": "products in {}",
    "clip": "gradients clipped only beyond a norm of {:g}",
    "scale_keys": "keys scaled: {}",
    "row_norm": "row norm: {}",
    "group_norm": "group norm: {}",
}


def recipe(folder):
    """Losses by learning rate, warm-up and other changes; None if none was measured."""
    return recipe_values(read(folder, "recipe.json")) if is_there(folder, "recipe.json") else None


def recipe_values(study):
    """The values of the section: the analysis, and of each other change what it costs at each rate."""
    found = stable(study)
    changes = {}
    for row in found["rows"]:
        if row["change"]:
            name = ", ".join(CHANGES.get(key, key + " {}").format(value) for key, value in row["change"].items())
            changes.setdefault(name, []).append(row | {"seen": _seen(row["over"], row["over_error"])})
    best, shortest = found["best"], found["warmups"][0]
    over, error = difference(shortest["best"], best, found["deviation"])
    return {
        "study": study,
        "slack": SLACK,
        "best": best,
        "warmups": found["warmups"],
        "good": next(each["good"] for each in found["warmups"] if each["best"] is best),
        "shortest": None
        if shortest["best"] is best
        else {"warmup": shortest["warmup"], "over": over, "error": error, "seen": _seen(over, error)},
        "changes": changes,
        "rows": found["rows"],
        "deviation": found["deviation"],
    }


def _seen(over, error):
    """Whether a difference is one, as far as its standard error tells; True without an error."""
    return over is not None and (error is None or abs(over) > TWICE * error)


@on_a_page
def recipe_figure(study):
    """Loss against the learning rate, a line a warm-up with standard errors, and a point for each other change."""
    found = stable(study)
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, each in enumerate(found["warmups"]):
        rows = [row for row in each["rows"] if row["finished"]]
        points = [[row[name] or 0 for row in rows] for name in ("rate", "mean", "error")]
        look = {"fmt": "os^D"[number % 4] + "-", "markersize": 4, "linewidth": 1.2, "capsize": 2}
        axes.errorbar(*points, **look, label=f"warm-up of {each['warmup']} steps")
    others = [row for row in found["rows"] if row["change"] and row["finished"]]
    if others:
        axes.plot(
            *zip(*((row["rate"], row["mean"]) for row in others), strict=True),
            "x", color="0.4", markersize=5, label="one other change",
        )  # fmt: skip
    rates = unique(sorted(rate for each in found["warmups"] for rate in each["rates"]))
    axes.set_xscale("log")
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="highest learning rate", ylabel="bits per byte, held-out text")
    axes.grid()
    axes.legend(fontsize=8)
    return figure
