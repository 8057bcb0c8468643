"""Models of several sizes, trained on tokens in proportion to their parameters, each token once, and the laws of their losses.

The plan is a TOML file: the keys of a run, then

    [plan]
    tokens_per_parameter = 20        # of the parameters without embedding and head
    learning_rates = [1e-3, 2e-3, 4e-3]
    warmup_shares = [0.02, 0.1]      # of a run's steps
    [sizes.small]                    # from the smallest on; keys of a run, and the seeds of this size
    dim = 192
    num_layers = 4
    seeds = [0, 1, 2]
    [models.RetNet]                  # keys of a run
    [models.Transformer]
    model = "transformer"
    sizes.small = { num_heads = 3 }  # keys of this model at this size

The learning rate and the warm-up of each model are found at its two smallest sizes, in runs of a seed that is not among those
of the sizes, and go to the others by the rule of `transferred`.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refimpl.bench.flops import useful_flops
from refimpl.checks import check_integer, check_number
from refimpl.files import write_atomically
from refimpl.training.loop import load_text
from refimpl.training.settings import read_toml

from ..models.baseline import retnet_parameters
from ..training.config import check_keys, configured
from ..training.study import folder_name, run_all
from . import laws

EVALUATIONS = 12  # points of a run's curve
STEEPEST = 0.5  # of a learning rate, as a power of the number of parameters


class Plan(NamedTuple):
    """What a plan's file says: {model: {size: keys of a run}}, {size: seeds}, and what is tried."""

    models: dict
    seeds: dict
    tokens_per_parameter: float
    learning_rates: list
    warmup_shares: list

    @property
    def sizes(self):
        """Names of the sizes, from the smallest on."""
        return list(self.seeds)

    def run(self, model, size, rate, share, seed=0):
        """The `RunConfig` of a model at a size: steps by its parameters, warm-up as a share of them."""
        keys = self.models[model][size]
        config = configured(keys | {"once": True, "learning_rate": rate, "seed": seed})
        tokens = self.tokens_per_parameter * body(config)
        steps = max(2, round(tokens / (config.batch_size * config.window)))
        return dataclasses.replace(
            config, steps=steps, warmup=round(share * steps), evaluate_every=math.ceil(steps / EVALUATIONS)
        )


def body(config):
    """Parameters of a run's RetNet, to which its baselines are matched, without embedding and head."""
    return retnet_parameters(config.retnet) - 2 * config.vocab_size * config.dim


def read_plan(path):
    """The `Plan` of a TOML file; ValueError, TypeError or FileNotFoundError says what is wrong with it."""
    settings = read_toml(path)
    tables = {name: settings.pop(name, {}) for name in ("plan", "sizes", "models")}
    for name, table in tables.items():
        if not isinstance(table, dict) or not table:
            raise ValueError(f"{name} must be a table with at least one entry, got {table!r} in {str(path)!r}")
    plan, unknown = tables["plan"], set(tables["plan"]) - {"tokens_per_parameter", "learning_rates", "warmup_shares"}
    if unknown:
        raise ValueError(f"plan: unknown key {min(unknown)!r} in {str(path)!r}")
    for name in ("learning_rates", "warmup_shares"):
        values = plan.get(name)
        if not isinstance(values, list) or not values:
            raise ValueError(f"{name} must be a list of numbers, got {values!r} in {str(path)!r}")
        for value in values:
            check_number(name, value, minimum=0.0)
    if max(plan["warmup_shares"]) >= 1:
        raise ValueError(
            f"warmup_shares must be shares of a run below 1, got {plan['warmup_shares']!r} in {str(path)!r}"
        )
    if check_number("tokens_per_parameter", plan.get("tokens_per_parameter")) <= 0:
        raise ValueError(f"tokens_per_parameter must be above 0, got {plan['tokens_per_parameter']!r} in {str(path)!r}")
    if len(tables["sizes"]) < 2:
        raise ValueError(
            f"sizes must be two at least, from the smallest on, got {len(tables['sizes'])} in {str(path)!r}"
        )
    for name in ("sizes", "models"):
        for entry, keys in tables[name].items():
            _check_table(f"{name}.{entry}", keys, path)
    seeds = {}
    for size, keys in tables["sizes"].items():
        seeds[size] = keys.pop("seeds", [0])
        if not isinstance(seeds[size], list) or not seeds[size] or len(set(map(str, seeds[size]))) < len(seeds[size]):
            raise ValueError(
                f"seeds must be a list of different integers, got {seeds[size]!r} for size {size!r} in {str(path)!r}"
            )
        seeds[size] = [check_integer("seeds", seed, 0) for seed in seeds[size]]
    models = {}
    for model, keys in tables["models"].items():
        own = keys.pop("sizes", {})
        _check_table(f"models.{model}.sizes", own, path)
        for size, shape in own.items():
            _check_table(f"models.{model}.sizes.{size}", shape, path)
        if unknown := set(own) - set(tables["sizes"]):
            raise ValueError(
                f"sizes of {model} must be among {', '.join(tables['sizes'])}, got {min(unknown)!r} in {str(path)!r}"
            )
        models[model] = {size: settings | shape | keys | own.get(size, {}) for size, shape in tables["sizes"].items()}
    for name in ("steps", "warmup", "evaluate_every", "learning_rate", "once", "seed"):
        if any(name in keys for sizes in models.values() for keys in sizes.values()):
            raise ValueError(f"{name} must be left to the plan, got it in {str(path)!r}")
    for keys in (keys for sizes in models.values() for keys in sizes.values()):
        check_keys(keys, path)
    found = Plan(models, seeds, plan["tokens_per_parameter"], sorted(plan["learning_rates"]), plan["warmup_shares"])
    counts = [body(found.run(next(iter(models)), size, 1.0, 0.0)) for size in found.sizes]
    if counts != sorted(set(counts)):
        raise ValueError(f"sizes must go from the smallest to the largest, got {counts} parameters in {str(path)!r}")
    return found


def _check_table(name, value, path):
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a table of keys, got {value!r} in {str(path)!r}")


def run_plan(plan, out, devices, console=None, command=None, fresh=False):
    """Find the rates, train all models of a `Plan`, and write out/scaling.json after every run; returns what it holds.

    out: folder of the runs; a finished run is not repeated and a stopped one goes on. Other arguments and errors: as for
    `gpu.training.study.run_study`; and a ValueError, before any run, if the text is too short for the largest size.
    """
    out = Path(out)
    for model in plan.models:
        load_text(plan.run(model, plan.sizes[-1], plan.learning_rates[0], plan.warmup_shares[0]))
    seed = 1 + max(map(max, plan.seeds.values()))  # what is chosen by a run is not judged by it
    tried = {
        (model, size, rate, share): plan.run(model, size, rate, share, seed)
        for size in plan.sizes[:2] for model in plan.models for rate in plan.learning_rates for share in plan.warmup_shares
    }  # fmt: skip
    names = {key: folder_name(*key) for key in tried}
    results = run_all({names[key]: tried[key] for key in tried}, out / "rates", devices, console, fresh=fresh)
    trials = [_trial(key, results[names[key]]) for key in tried]
    chosen = choose(plan, trials)
    runs = {
        (model, size, seed): plan.run(model, size, *chosen[model][size], seed)
        for size in plan.sizes for seed in plan.seeds[size] for model in plan.models
    }  # fmt: skip
    names = {key: folder_name(*key) for key in runs}

    def write(results):
        rows = [_row(key, runs[key], results[names[key]]) for key in runs if results.get(names[key])]
        done = [result for result in results.values() if result]
        machines = {name: done[0][name] for name in ("device", "versions")} if done else {}
        shown = {"command": command, **machines, "plan": _shown(plan), "chosen": chosen, "trials": trials, "rows": rows}
        write_atomically(out / "scaling.json", json.dumps(shown, indent=1) + "\n")
        return shown

    return write(run_all({names[key]: runs[key] for key in runs}, out / "runs", devices, console, write, fresh))


def _shown(plan):
    return {"models": plan.models, "seeds": plan.seeds, "tokens_per_parameter": plan.tokens_per_parameter}


def _trial(key, result):
    names = ("model", "size", "learning_rate", "warmup_share")
    measured = ("parameters", "seconds", "evaluations")
    found = {name: result and result[name] for name in measured}
    return dict(zip(names, key, strict=True)) | {"held_out": result and result["bits_per_byte"]["held_out"]} | found


def _row(key, config, result):
    parameters = result["parameters"] - 2 * config.vocab_size * config.dim
    tokens = config.steps * config.batch_size * config.window
    return dict(zip(("model", "size", "seed"), key, strict=True)) | {
        "parameters": parameters,
        "with_embeddings": result["parameters"],
        "tokens": tokens,
        "flops": tokens * training_flops(config, parameters),
        "learning_rate": config.learning_rate,
        "warmup": config.warmup,
        "held_out": result["bits_per_byte"]["held_out"],
        "evaluations": result["evaluations"],
        "seconds": result["seconds"],
    }


def training_flops(config, parameters):
    """Floating-point operations of a training step for a token: forward, and twice as many backward.

    Two for each parameter and for each number of the head, and those of the mixing: chunkwise retention, or causal attention
    over the window. parameters: without embedding and head.
    """
    shape, time = config.retnet, config.window
    if config.model == "retnet":
        mixing = useful_flops("chunkwise", shape.num_heads, time, shape.key_dim, shape.value_dim, config.chunk_size)
    else:
        width = config.dim // config.num_heads
        mixing = useful_flops("parallel", config.num_heads, time, width, width)
    return 3 * (2 * (parameters + config.vocab_size * config.dim) + config.num_layers * mixing // time)


def choose(plan, trials):
    """{model: {size: (learning rate, warm-up share)}} by the trials at the two smallest sizes and the rule of `transferred`.

    The share is the one with the lowest loss at the second size. The rate of each size is that of `lowest` among the trials
    with this share.

    Raises:
        ValueError: all trials of a model at a size diverged.
    """
    small, middle = plan.sizes[:2]
    chosen = {}
    for model in plan.models:
        own = [each for each in trials if each["model"] == model and each["held_out"] is not None]
        by_size = {size: [each for each in own if each["size"] == size] for size in (small, middle)}
        if not all(by_size.values()):
            raise ValueError(f"learning_rates: every run of {model} diverged at a size; lower rates are needed")
        share = min(by_size[middle], key=lambda each: each["held_out"])["warmup_share"]
        rates = []
        for size in (small, middle):
            same = {each["learning_rate"]: each["held_out"] for each in by_size[size] if each["warmup_share"] == share}
            rates.append(lowest(same or {each["learning_rate"]: each["held_out"] for each in by_size[size]}))
        counts = [body(plan.run(model, size, 1.0, 0.0)) for size in plan.sizes]
        found = transferred(counts, *rates)
        chosen[model] = {size: (rate, share) for size, rate in zip(plan.sizes, found, strict=True)}
    return chosen


def lowest(losses):
    """The learning rate of the lowest loss, {rate: loss}: the vertex of the parabola through it and its two neighbours.

    In the logarithm of the rate. At an end of the range there are no two neighbours, and that rate itself is taken.

    >>> round(lowest({1e-3: 1.1, 2e-3: 1.0, 4e-3: 1.1}), 6)
    0.002
    """
    rates = sorted(losses)
    i = min(range(len(rates)), key=lambda i: losses[rates[i]])
    if i in (0, len(rates) - 1):
        return rates[i]
    x, y = np.log(rates[i - 1 : i + 2]), [losses[rate] for rate in rates[i - 1 : i + 2]]
    square, slope, _ = np.polyfit(x - x[1], y, 2)
    if square <= 0:
        return rates[i]
    return float(np.exp(np.clip(x[1] - slope / (2 * square), x[0], x[2])))


def transferred(parameters, small, middle):
    """Learning rates for numbers of parameters, the first two of which have the rates `small` and `middle`.

    Beyond them the rate follows the power of the number of parameters that joins the two, but it never rises, and falls
    no faster than the root. Rates are rounded to three digits.

    >>> transferred([1e6, 4e6, 16e6], 4e-3, 2e-3)
    [0.004, 0.002, 0.001]
    """
    power = math.log(middle / small) / math.log(parameters[1] / parameters[0])
    power = min(0.0, max(-STEEPEST, power))
    rates = [small, middle, *(middle * (each / parameters[1]) ** power for each in parameters[2:])]
    return [float(f"{rate:.3g}") for rate in rates]


def analysis(results, against="parameters", first="RetNet", other="Transformer"):
    """What the runs of scaling.json say, as a dict; see below.

    against: "parameters", "tokens" or "flops".

    Returns:
        models: {name: {"x": of each size, "losses": of its seeds, "laws": {"floor" and "line": {"exponent" and "floor":
        quantiles, "curve": quantiles at `x_drawn`}}, "missed": the loss of the largest size over what the law through the
        others says of it, with and without a floor}}; gaps: first less other at each size of both, its mean and quantiles;
        change: the same of the last gap less the first; crossing: {"floor" and "line": {"share": of draws in which there is
        one between the smallest size and a thousand times the largest, "quantiles": of where}}; x_drawn.

    A size counts in a law by how little its seeds differ; its spread is pooled over the models.
    """
    by_model = {}
    for row in results["rows"]:
        by_model.setdefault(row["model"], {}).setdefault(float(row[against]), []).append(row["held_out"])
    every = [x for sizes in by_model.values() for x in sizes]
    again = drawn_means(results["rows"])
    drawn = np.geomspace(min(every), 1000 * max(every), 61)
    found, fits = {}, {}
    for model, sizes in by_model.items():
        x, losses = sorted(sizes), [sizes[size] for size in sorted(sizes)]
        means = np.array([np.mean(group) for group in losses])
        rows, weights = again[model]
        kinds = {"floor": len(x) > 3, "line": len(x) > 2}  # as many numbers as points would fit anything
        found[model] = {"x": x, "losses": losses, "laws": {}, "missed": {}}
        for kind in (kind for kind, enough in kinds.items() if enough):
            law = fits[model, kind] = laws.fit(x, rows, weights=weights, floor=kind == "floor")
            short = laws.fit(x[:-1], means[:-1], weights=weights[:-1], floor=kind == "floor")
            found[model]["laws"][kind] = {
                "exponent": laws.quantiles(law.exponent),
                "floor": laws.quantiles(law.floor),
                "curve": np.quantile(law(drawn), laws.LEVELS, axis=0).round(5).tolist(),
            }
            found[model]["missed"][kind] = float(means[-1] - short(x[-1]))
    crossings = {}
    for kind in ("floor", "line"):
        if (first, kind) in fits and (other, kind) in fits:
            where = laws.crossing(fits[first, kind], fits[other, kind], drawn[0], drawn[-1])
            crossings[kind] = {"share": float(np.isfinite(where).mean()), "quantiles": laws.quantiles(where)}
    gaps, change = _gaps(results["rows"], again, against, first, other)
    return {"against": against, "models": found, "gaps": gaps, "change": change, "crossing": crossings, "x_drawn": drawn.tolist()}  # fmt: skip


def _sizes(rows):
    """The names of the sizes of rows, from the smallest on."""
    return list(dict.fromkeys(row["size"] for row in sorted(rows, key=lambda row: row["parameters"])))


def drawn_means(rows):
    """{model: means over seeds at each of its sizes, drawn again (count, N), and their weights (N,) in a law}."""
    sizes = _sizes(rows)
    losses = {model: {} for model in dict.fromkeys(row["model"] for row in rows)}
    for row in rows:
        losses[row["model"]].setdefault(row["size"], []).append(row["held_out"])
    every = [group for each in losses.values() for group in each.values()]
    groups = [[each[size] for each in losses.values() if size in each] for size in sizes]
    groups = [
        own if max(map(len, own)) > 1 else every for own in groups
    ]  # single seeds: as uncertain as all sizes together
    deviations = laws.drawn_deviations(groups)
    known = np.array([laws.seed_deviation(each)[0] for each in groups])
    least = max(1e-4, 0.1 * np.median(known))  # seeds that happen to agree do not make a size count without bound
    found = {}
    for number, (model, own) in enumerate(losses.items()):
        places, groups = [sizes.index(size) for size in own], list(own.values())
        order = np.argsort(places)
        places, groups = [places[i] for i in order], [groups[i] for i in order]
        counts = np.array([len(group) for group in groups])
        weights = counts / np.maximum(known[places], least) ** 2
        found[model] = laws.draws(groups, deviations[:, places], seed=number + 1), weights
    return found


def _gaps(rows, again, against, first, other):
    """The loss of one model less that of another at each size that both have, (x of the first, mean, quantiles), and the
    change from the first such size to the last, (mean, quantiles); nothing and None without such a size."""
    losses = {
        model: {
            size: [row["held_out"] for row in rows if (row["model"], row["size"]) == (model, size)]
            for size in _sizes(rows)
        }
        for model in (first, other)
    }
    own = {model: [size for size, group in sizes.items() if group] for model, sizes in losses.items()}
    both = [size for size in own[first] if size in own[other]]
    if not both:
        return [], None
    means = [float(np.mean(losses[first][size]) - np.mean(losses[other][size])) for size in both]
    columns = {model: again[model][0][:, [own[model].index(size) for size in both]] for model in (first, other)}
    drawn = columns[first] - columns[other]
    places = {row["size"]: float(row[against]) for row in rows if row["model"] == first}
    gaps = [
        [places[size], mean, laws.quantiles(column)] for size, mean, column in zip(both, means, drawn.T, strict=True)
    ]
    return gaps, [means[-1] - means[0], laws.quantiles(drawn[:, -1] - drawn[:, 0])]
