"""Many runs at once: variants of one model, several seeds each, distributed over the devices.

A study is a TOML file: the keys of a run, `seeds`, and for each variant a table of the keys that differ:

    dim = 384
    seeds = [0, 1, 2]
    [variants.RetNet]
    [variants."no gate"]
    gate = false

A variant may hold a table `quoted` of figures from elsewhere, which the results repeat. With `matched = true` the inner width
of the feed-forward gives each RetNet as many parameters as the first variant has. With `learning_rates`, a list, each variant
is first trained with each of them, by a seed that is not among `seeds`, and its runs take the best. Each run is its own process,
`python -m gpu train`, so runs cannot affect one another; it stops when the study ends, however that ends. A stopped run is
resumed, a finished one is not repeated.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from refimpl.checks import check_integer
from refimpl.cli import say
from refimpl.files import write_atomically
from refimpl.training.folder import locked
from refimpl.training.loop import read_log
from refimpl.training.settings import read_toml
from refimpl.training.stopping import HELD, StoppedError, stop_on_signals

from .config import RunConfig, check_keys, configured, read_settings, to_toml
from .stability import stability

PAUSE = 0.2  # seconds between looks at the processes
PACKAGES = Path(__file__).parents[2]  # the folder that this package is in


@dataclasses.dataclass(frozen=True)
class Study:
    """Runs by name, {variant: {seed: RunConfig}}, and the figures that a variant quotes, {variant: dict}.

    rates: learning rates to choose from for each variant; none, if the runs have theirs.
    """

    runs: dict
    quoted: dict
    rates: tuple = ()

    @property
    def seeds(self):
        """The seeds of each variant."""
        return list(next(iter(self.runs.values())))


def read_study(path):
    """The `Study` of a TOML file; ValueError, TypeError or FileNotFoundError says what is wrong with it."""
    settings = read_toml(path)
    seeds, variants = settings.pop("seeds", [0]), settings.pop("variants", {})
    rates, match = settings.pop("learning_rates", []), settings.pop("matched", False)
    if not isinstance(rates, list) or not all(isinstance(rate, float) and rate > 0 for rate in rates):
        raise ValueError(f"learning_rates must be a list of numbers above 0, got {rates!r}")
    if not isinstance(match, bool):
        raise TypeError(f"matched must be true or false, got {match!r}")
    if not isinstance(seeds, list) or not seeds or len(set(map(str, seeds))) < len(seeds):
        raise ValueError(f"seeds must be a list of different integers, got {seeds!r}")
    if not isinstance(variants, dict) or not all(isinstance(keys, dict) for keys in variants.values()):
        raise TypeError(f"variants must be tables of keys, as in [variants.RetNet], got {variants!r}")
    if not variants:
        raise ValueError(f"variants: there are none in {str(path)!r}; write one as [variants.RetNet]")
    quoted = {name: keys.pop("quoted", {}) for name, keys in variants.items()}
    for name, figures in quoted.items():
        if not isinstance(figures, dict):
            raise TypeError(f"quoted must be a table, as in [variants.{name}.quoted], got {figures!r}")
    for keys in (settings, *variants.values()):
        check_keys(keys, path)
        if "seed" in keys:
            raise ValueError(f"seed must be left to seeds in a study, got {keys['seed']!r} in {str(path)!r}")
        if rates and "learning_rate" in keys:
            raise ValueError(
                f"learning_rate must be left to learning_rates, got {keys['learning_rate']!r} in {str(path)!r}"
            )
    seeds = [check_integer("seeds", seed, 0) for seed in seeds]
    shapes = {name: configured(settings | keys) for name, keys in variants.items()}
    if match:
        first = next(iter(shapes.values()))
        shapes = {name: matched_to(first, config) for name, config in shapes.items()}
    runs = {name: {seed: dataclasses.replace(config, seed=seed) for seed in seeds} for name, config in shapes.items()}
    folders = [folder_name(name, seed) for name in runs for seed in seeds]
    if len(set(folders)) < len(folders):
        raise ValueError(f"variants must have names that differ in letters or digits, got {', '.join(runs)}")
    return Study(runs, quoted, tuple(sorted(rates)))


def matched_to(first, config):
    """A RetNet's `RunConfig` with the feed-forward that gives it as many parameters as the RetNet of `first` has.

    Baselines are left as they are: `gpu.models.build` makes them as large as the RetNet of their keys.
    """
    if config.model != "retnet":
        return dataclasses.replace(config, ffn_dim=first.ffn_dim)
    from ..models.baseline import inner_width, retnet_parameters  # torch, which reading a file does not need

    wanted = retnet_parameters(first.retnet)
    counts = [retnet_parameters(dataclasses.replace(config.retnet, ffn_dim=width)) for width in (1, 2)]
    layers = wanted - 2 * first.vocab_size * first.dim
    return dataclasses.replace(config, ffn_dim=inner_width(counts, wanted, layers, f"dim = {config.dim}"))


def folder_name(*parts):
    """A name for a folder, made of parts that may hold any character."""
    return "_".join("".join(c if c.isalnum() or c in ".-+" else "-" for c in str(part)) for part in parts)


def run_study(study, out, devices, console=None, command=None, fresh=False):
    """Run all of a `Study`, as many runs at once as there are devices, and write out/study.json after each.

    Args:
        study: as `read_study` makes it.
        out: folder for study.json and a folder of each run.
        devices: torch devices; a device that is named twice takes two runs at a time.
        console: as for `gpu.training.run.train`.
        command: as it was typed, for study.json.
        fresh: replace finished runs of other settings in those folders.

    Returns:
        A row a variant: see `summary`.

    Raises:
        ValueError: there are such runs and fresh is not given; or another process works in `out`.
        StoppedError: SIGINT, SIGTERM or SIGHUP came; the current runs have saved their last step.
    """
    trials = []
    if study.rates:
        study, trials = with_best_rates(study, out, devices, console, fresh)
    runs = {  # seed by seed, so that a study that is stopped has something of each variant
        folder_name(name, seed): seeds[seed] for seed in study.seeds for name, seeds in study.runs.items()
    }

    seen = {}  # of each run that has ended

    def write(results):
        for name in results.keys() - seen.keys():
            seen[name] = observed(Path(out) / name, results[name] is None)
        rows, done = summary(study, results, seen), [result for result in results.values() if result]
        machines = {name: done[0][name] for name in ("device", "versions")} if done else {}
        shared = dataclasses.asdict(next(iter(runs.values())))
        shared = {key: value for key, value in shared.items() if key != "seed" and key not in rows[0]["settings"]}
        shown = {"command": command, **machines, "seeds": study.seeds, "settings": shared, "rows": rows}
        shown |= {"trials": trials} if trials else {}
        write_atomically(Path(out) / "study.json", json.dumps(shown, indent=2) + "\n")
        return rows

    return write(run_all(runs, out, devices, console, write, fresh))


def with_best_rates(study, out, devices, console=None, fresh=False):
    """The study with the best learning rate of each variant, and all that was tried: a list of dicts of variant,
    learning_rate, held_out (None where training diverged), evaluations and seconds.

    Arguments as for `run_study`. A ValueError names a variant of which every trial diverged.
    """
    seed, tried = max(study.seeds) + 1, {}
    for variant, runs in study.runs.items():
        config = next(iter(runs.values()))
        tried |= {
            (variant, rate): dataclasses.replace(config, learning_rate=rate, seed=seed) for rate in study.rates
        }  # fmt: skip
    results = run_all(
        {folder_name(*key): config for key, config in tried.items()}, Path(out) / "rates", devices, console, fresh=fresh
    )
    trials, chosen = [], {}
    for variant, rate in tried:
        result = results[folder_name(variant, rate)]
        found = {name: result and result[name] for name in ("evaluations", "seconds")}
        held_out = result and last_losses(result)["held_out"]
        trials.append({"variant": variant, "learning_rate": rate, "held_out": held_out} | found)
    for variant, runs in study.runs.items():
        learnt = [each for each in trials if each["variant"] == variant and each["held_out"] is not None]
        if not learnt:
            raise ValueError(f"learning_rates: every run of {variant!r} diverged; lower rates are needed")
        best = min(learnt, key=lambda each: each["held_out"])["learning_rate"]
        chosen[variant] = {seed: dataclasses.replace(config, learning_rate=best) for seed, config in runs.items()}
    return Study(chosen, study.quoted), trials


def run_all(runs, out, devices, console=None, finished=lambda results: None, fresh=False):
    """Train {folder name: RunConfig} in processes, one a device at a time; returns {folder name: result or None}.

    A result is what result.json holds, or None for a failed run, whose output.txt says why. finished: called after each run
    with the results so far. fresh, errors: as for `run_study`.
    """
    for name, config in runs.items():
        if not fresh and (Path(out) / name / "result.json").exists() and not _same(Path(out) / name, config):
            raise ValueError(
                f"out: {str(Path(out) / name)!r} holds a finished run of other settings: --fresh (fresh=True) replaces it, "
                "another --out (out) keeps both"
            )
    with locked(out):
        return _run_all(runs, Path(out), devices, console, finished)


def _run_all(runs, out, devices, console, finished):
    """`run_all` in a folder that is its own."""
    waiting, results, running = dict(runs), {}, {}
    threads = max(1, (os.cpu_count() or 1) // len(devices))  # of each run on the CPU: they share the cores
    for name, config in runs.items():
        if (result := _result(out / name, config)) is not None:
            results[name] = result
            del waiting[name]
    progress = Progress(
        TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(), console=console or Console(),
    )  # fmt: skip
    with stop_on_signals() as request, progress:
        task = progress.add_task("", total=len(runs), completed=len(results), note="")
        try:
            while (waiting or running) and not request():
                free = [slot for slot in range(len(devices)) if slot not in running]
                for slot, name in zip(free, list(waiting), strict=False):
                    running[slot] = name, _start(out / name, waiting.pop(name), devices[slot], threads)
                time.sleep(PAUSE)
                for slot, (name, process) in list(running.items()):
                    if process.poll() is not None:
                        process.stdin.close()
                        del running[slot]
                        results[name] = _result(out / name, runs[name])
                        finished(results)
                        if results[name] is None:
                            say(f"{name} failed: {last_line(out / name)}", progress.console)
                note = ", ".join(f"{name} {_step(out / name)}" for name, _ in running.values())
                progress.update(task, completed=len(results), note=note)
        finally:
            for _, process in running.values():
                process.terminate()
            for _, process in running.values():
                process.wait()
                process.stdin.close()
    if request():
        error = StoppedError(f"stopped after {len(results)} of {len(runs)} runs")
        error.signal = request.signal
        raise error
    return results


def _start(folder, config, device, threads):
    """Start the process of one run; its output goes to output.txt in its folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "study-run.toml", to_toml(config))
    # -P and PYTHONPATH: run this package, also if the working folder holds another one called gpu.
    command = [sys.executable, "-P", "-m", "gpu", "train", "--out", f"{folder}", "--device", device]
    path = os.pathsep.join(filter(None, (f"{PACKAGES}", os.environ.get("PYTHONPATH"))))
    begun = _same(folder, config)
    command += ["--resume"] if begun else [f"{folder / 'study-run.toml'}", "--fresh"]
    with open(folder / "output.txt", "ab" if begun else "wb") as output:
        # In its own process group: Ctrl-C reaches only this process, which then asks every run to stop.
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, process_group=0,
            env={"OMP_NUM_THREADS": f"{threads}"} | os.environ | {"COLUMNS": "160", "PYTHONPATH": path, HELD: "1"},
        )  # fmt: skip


def _same(folder, config):
    """True if the folder holds a run of these settings, finished or not."""
    try:
        return RunConfig(**read_settings(folder / "run.toml")) == config
    except (FileNotFoundError, ValueError, TypeError):  # no run yet, or one of another version with other keys
        return False


def _result(folder, config):
    """The contents of result.json of a finished run, or None."""
    path = folder / "result.json"
    if not path.exists() or not _same(folder, config):
        return None
    try:
        result = json.loads(path.read_bytes())
        return result if last_losses(result) and {"evaluations", "parameters", "seconds"} <= result.keys() else None
    except (ValueError, AttributeError, KeyError, RecursionError):  # a damaged one, which the run writes again
        return None


def observed(folder, failed):
    """How a run in a folder trained: `stability` of its log, and of a failed one why, `failed`; None without either."""
    try:
        found = stability(read_log(folder))
    except (FileNotFoundError, ValueError):  # it failed before its first step, or its log is damaged
        found = {}
    if not failed:
        return found or None
    return found | {"failed": last_line(folder).partition(";")[0]}


def last_losses(result):
    """The losses at the end of a run, of what result.json holds: in bits per byte of a text, or per answer of a task."""
    return result.get("bits_per_byte") or result["bits_per_answer"]


def last_line(folder):
    """The last line that a run's process printed, which says why it failed."""
    *_, last = (folder / "output.txt").read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    return last.strip()


def _step(folder):
    """The number of steps of a run so far, or "starts"."""
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else "starts"


def summary(study, results, seen=None):
    """A row a variant: the held-out loss for each seed, mean, spread and difference to the first variant.

    Each row is a dict of variant, settings (those that differ between variants), parameters, seconds (the median run),
    held_out (a list, None where a run failed or is missing), evaluations (of each seed, [step, held_out] each), mean,
    deviation (of the sample; None for one seed), lowest (the mean of each seed's lowest evaluation), over (mean of the
    differences to the first variant, seed by seed), over_deviation, training (of each seed, what seen has of its run: as
    `observed`, by folder name), and quoted. Rows of a task also have accuracy and
    accuracy_by_pairs, of each seed, and numbers_kept, what the model keeps of a window.
    """
    rows, first, seen = [], None, seen or {}
    configs = [dataclasses.asdict(config) for runs in study.runs.values() for config in runs.values()]
    differing = {key for key in configs[0] if key != "seed" and len({repr(config[key]) for config in configs}) > 1}
    for variant, runs in study.runs.items():
        found = [results.get(folder_name(variant, seed)) for seed in runs]
        losses = [each and last_losses(each)["held_out"] for each in found]
        first = first or losses
        config, done = dataclasses.asdict(next(iter(runs.values()))), [each for each in found if each]
        known = [loss for loss in losses if loss is not None]
        lowest = [min(loss for _, loss in each["evaluations"]) for each in done]
        gaps = [ours - theirs for ours, theirs in zip(losses, first, strict=True) if None not in (ours, theirs)]
        rows.append(
            {
                "variant": variant,
                "settings": {key: config[key] for key in sorted(differing)},
                "parameters": done[0]["parameters"] if done else None,
                "seconds": statistics.median(each["seconds"] for each in done) if done else None,
                "held_out": losses,
                "evaluations": [each and each["evaluations"] for each in found],
                "mean": statistics.fmean(known) if known else None,
                "deviation": statistics.stdev(known) if len(known) > 1 else None,
                "lowest": statistics.fmean(lowest) if lowest else None,
                "over": statistics.fmean(gaps) if gaps else None,
                "over_deviation": statistics.stdev(gaps) if len(gaps) > 1 else None,
                "training": [seen.get(folder_name(variant, seed)) for seed in runs],
                "quoted": study.quoted[variant],
            }
        )
        if config["task"] is not None:
            rows[-1] |= {name: [each and each[name] for each in found] for name in ("accuracy", "accuracy_by_pairs")}
            rows[-1]["numbers_kept"] = done[0]["numbers_kept"] if done else None
    return rows


def with_spread(mean, deviation, sign=""):
    """A mean with its standard deviation, if there is one, as text."""
    if mean is None:
        return "failed"
    return f"{mean:{sign}.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def study_table(rows):
    """Rows of `summary` as (headings, lines of texts), for printing; of a task with accuracy in place of differences."""
    names, task = list(dict.fromkeys(name for row in rows for name in row["quoted"])), "accuracy" in rows[0]
    lines = [
        (
            row["variant"],
            f"{row['parameters'] or 0:,}",
            with_spread(row["mean"], row["deviation"]),
            _accuracies(row) if task else with_spread(row["over"], row["over_deviation"], sign="+"),
            *(f"{row['quoted'][name]} †" if name in row["quoted"] else "" for name in names),
        )
        for row in rows
    ]
    losses = ("bits per answer", "accuracy") if task else ("bits per byte", "over the first")
    return ("variant", "parameters", *losses, *names), lines


def _accuracies(row):
    """The accuracy of each seed."""
    return ", ".join("failed" if share is None else f"{share:.1%}" for share in row["accuracy"])
