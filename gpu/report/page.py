"""gpu/results/README.md: tables and figures of what was measured, written from the results files and nothing else.

    python -m gpu report

Nothing here is typed by hand: a number in that page is read from a file beside it, whose own command wrote it.
"""

import io
import json
import statistics
from pathlib import Path

from matplotlib.figure import Figure

from refimpl.files import write_atomically
from refimpl.weights import pretrained_card

from ..bench import accuracy as benchmark_accuracy
from ..bench import kernels as benchmark_kernels
from ..bench import run as benchmark
from ..bench import targets as benchmark_targets
from ..bench.section import format_bytes
from ..bench.timing import MEASURED
from ..training.study import with_spread
from . import figures as benchmark_figures
from .figures import COLOURS
from .paper import limits, paper_section, span

FOLDER = Path(__file__).parent.parent / "results"
SWEEPS = {
    "sweep_retnet.json": "26 M, RetNet",
    "sweep_others.json": "26 M, the others",
    "sweep_demo.json": "0.5 M, the default run",
}


def report(folder=FOLDER):
    """Write README.md and the figures into a folder of results; returns the paths. FileNotFoundError names what is missing."""
    folder = Path(folder)
    write_atomically(folder / "compare.png", png(curves(read(folder, "compare.json"))))
    drawn = benchmark_figures.draw(folder)
    write_atomically(folder / "README.md", page(folder))
    return [folder / "README.md", folder / "compare.png", *drawn]


def page(folder):
    """The text of README.md."""
    parts = [
        "# What was measured",
        "Written by `python -m gpu report` from the files of this folder. Each file names the device and the version of "
        "torch; each section names the command that measures it. Losses are bits per byte on documents that were held "
        "out. A figure with † is the paper's or its authors', never ours.",
        *comparison(read(folder, "compare.json")),
        *ablations(read(folder, "ablations.json")),
        *learning_rates(folder),
        *costs(folder),
        *kernels(folder),
        *ladder(folder),
        *costs_of_the_paper(folder),
        *several_gpus(read(folder, "processes.json")),
    ]
    return "\n\n".join(parts) + "\n"


def read(folder, name):
    """A results file; FileNotFoundError says which is missing."""
    path = Path(folder) / name
    if not path.exists():
        raise FileNotFoundError(f"report: there is no {name} in {str(folder)!r}")
    return json.loads(path.read_text(encoding="utf-8"))


def comparison(study):
    """RetNet against the Transformer."""
    settings = study["settings"]
    tokens = settings["steps"] * settings["batch_size"] * settings["window"]
    rows = [
        [
            row["variant"], f"{row['parameters']:,}", with_spread(row["mean"], row["deviation"]),
            with_spread(*mean_and_deviation([min(loss for _, loss in each) for each in row["evaluations"]])),
            f"{tokens / row['seconds']:,.0f}",
        ]
        for row in study["rows"]
    ]  # fmt: skip
    retnet, other = study["rows"]
    steps = [step for step, _ in retnet["evaluations"][0]]
    ahead = [step for step in steps if loss_at(retnet, step) < loss_at(other, step)]
    lowest = min(steps, key=lambda step: loss_at(retnet, step))
    return [
        "## RetNet and the Transformer",
        f"{device(study)}; {tokens:,} bytes of `{settings['corpus']}` in windows of {settings['window']:,}, "
        f"{len(study['seeds'])} seeds, learning rates from the sweeps below. `{study['command']}` ± is the standard "
        "deviation over seeds.",
        table(("", "parameters", "at the end", "lowest", "bytes/s, whole run"), rows),
        " ".join(
            [
                f"At the end RetNet is {abs(other['over']):.3f} bits per byte "
                f"{'behind' if other['over'] < 0 else 'ahead of'} the Transformer.",
                *(
                    [
                        f"It is ahead at steps {', '.join(f'{step:,}' for step in ahead)} of "
                        f"{', '.join(f'{step:,}' for step in steps)}, has its lowest loss at step {lowest:,} and then grows "
                        f"worse on held-out text{passes(settings, tokens)}."
                    ]
                    if ahead and lowest < steps[-1]
                    else []
                ),
            ]
        ),
        "![Held-out loss of both against steps, every seed](compare.png)",
    ]


def passes(settings, tokens):
    """How often a run reads its text, in words, if the text is the one that the card of the shipped model counted."""
    card = pretrained_card()
    if card["settings"]["corpus"] != settings["corpus"]:
        return ""
    return f": a run reads its {card['corpus_bytes']['training']:,} bytes {tokens / card['corpus_bytes']['training']:.1f} times"


def ablations(study):
    """The table beside the quoted figures, and what of it reproduces."""
    first, *others = study["rows"]
    names = list(dict.fromkeys(name for row in study["rows"] for name in row["quoted"]))
    rows = []
    for row in study["rows"]:
        gaps = [a - b for a, b in zip(row["held_out"], first["held_out"], strict=True)]
        worse = sum(gap > 0 for gap in gaps)
        verdict = "" if row is first else f"worse in {worse} of {len(gaps)} seeds"
        quoted = (f"{row['quoted'][name]:g} †" if name in row["quoted"] else "" for name in names)
        over = "" if row is first else with_spread(row["over"], row["over_deviation"], sign="+")
        rows.append(
            [
                row["variant"],
                f"{row['parameters']:,}",
                with_spread(row["mean"], row["deviation"]),
                over,
                verdict,
                *quoted,
            ]
        )
    settings = study["settings"]
    unsure = [row["variant"] for row in others if not all_above(row, first)]
    sure = [row for row in others if all_above(row, first)]
    order = [row["variant"] for row in sorted(others, key=lambda row: -row["over"]) if len(row["quoted"]) == len(names)]
    theirs = [
        row["variant"]
        for row in sorted(others, key=lambda row: -row["quoted"].get(names[-1], 0))
        if names[-1] in row["quoted"]
    ]
    return [
        "## Ablations",
        f"{device(study)}; {settings['steps']:,} steps of {settings['batch_size']} windows of {settings['window']:,} bytes, "
        f"{len(study['seeds'])} seeds, one learning rate for all. `{study['command']}` († from arXiv:2307.08621v4, and from a "
        "later submission of its authors: other sizes, text and units, so only signs and order compare.) ± is the standard "
        "deviation over seeds, of differences too, which are taken seed by seed.",
        table(("", "parameters", "bits per byte", "over RetNet", "", *(f"{name} †" for name in names)), rows),
        ("Every ablation makes it worse in every seed." if not unsure else
         f"Not worse in every seed here, so not reproduced: {', '.join(unsure)}. All others are worse in every seed.")
        + as_theirs(sure, first, names)
        + f" From the most harmful on, the order here is {', '.join(order)}; in the later submission †, {', '.join(theirs)}.",
    ]  # fmt: skip


def as_theirs(rows, first, names):
    """Which of some variants are worse than the first in the quoted figures too, and which of these have no such variant."""
    found = {}
    for row in rows:
        worse = [f"{name} †" for name in names if row["quoted"].get(name, 0) > first["quoted"][name]]
        found.setdefault("; ".join(worse), []).append(row["variant"])
    texts = [f"{', '.join(variants)} ({where})" for where, variants in found.items() if where]
    unknown = [row["variant"] for row in rows if not row["quoted"]]
    return (f" Worse in the quoted figures too: {'; '.join(texts)}." if texts else "") + (
        f" Not among these: {', '.join(unknown)}." if unknown else ""
    )


def all_above(row, first):
    """Whether a variant is worse than the first in every seed."""
    return all(ours > theirs for ours, theirs in zip(row["held_out"], first["held_out"], strict=True))


def learning_rates(folder):
    """What every learning rate came to."""
    yield "## Learning rates"
    yield "Every model tried with each, by `python -m gpu sweep`; the best of a model in bold, a dash for one that diverged."
    for name, title in SWEEPS.items():
        sweep = read(folder, name)
        rates = list(dict.fromkeys(row["learning_rate"] for row in sweep["rows"]))
        lines = []
        for model in dict.fromkeys(row["model"] for row in sweep["rows"]):
            losses = {row["learning_rate"]: row["held_out"] for row in sweep["rows"] if row["model"] == model}
            best = min(filter(None, losses.values()))
            shown = {rate: "-" if loss is None else f"{loss:.3f}" for rate, loss in losses.items()}
            lines.append(
                [model, *(f"**{shown[rate]}**" if losses.get(rate) == best else shown.get(rate, "") for rate in rates)]
            )
        where = f"{title}, {sweep['config']['steps']:,} steps"
        yield table((where, *(f"{rate:g}" for rate in rates)), lines)


def costs(folder):
    """Training steps and decoded tokens."""
    for section, title in (("training", "Training speed"), ("decoding", "Decoding")):
        results = read(folder, f"{section}.json")
        yield f"## {title}"
        yield measured_on(results)
        rows = [row for row in results["rows"] if row["status"] == MEASURED]
        yield table(*benchmark.table(section, rows))
        if rows:
            yield " ".join([spread(rows), *(limits(rows) if section == "decoding" else ()), *set_aside(rows)])
        if missing := [text.split(": ", 1)[1] for text in benchmark.left_out({section: results})]:
            yield f"Left out: {'; '.join(missing)}."
        yield f"![{title}]({section}.png)"


def spread(rows):
    """What ± is in a table of rows that were measured in rounds."""
    return (
        "± is the largest deviation of a round's seconds from their median, over "
        f"{span([row['rounds'] for row in rows], '.0f')} rounds."
    )


def set_aside(rows):
    """By how much the peaks of decoding rows differ that keep the same bytes, in a sentence; none if they do not."""
    peaks = {}
    for row in rows:
        if row["section"] == "decoding" and not row["largest"] and row["peak_bytes"]:
            kept = row["name"], row["compiled"], row["batch"], row["weight_bytes"], row["past_bytes"]
            peaks.setdefault(kept, []).append(row["peak_bytes"])
    most = max((max(same) - min(same) for same in peaks.values()), default=0)
    if most:
        yield (
            "Memory includes what libraries set aside, in the rows in which they do so: rows of one model and batch that keep "
            f"the same bytes at every context differ by up to {format_bytes(most)}, probably such a workspace, or what "
            "Triton's tuner clears the cache with at a first call. Differences no larger than that say nothing of the models."
        )


def kernels(folder):
    """Retention alone: targets, times, errors; nothing where none was measured."""
    if not (Path(folder) / "kernels.json").exists():
        return
    results = read(folder, "kernels.json")
    rows = [row for row in results["rows"] if row["status"] == MEASURED]
    if not rows:
        return
    yield "## Kernels"
    yield measured_on(results)
    yield table(*benchmark_targets.table(results["targets"]))
    yield table(*benchmark.table("kernels", rows))
    yield " ".join([spread(rows), *below_floor(rows, results["ceilings"]["copy"])])
    failed = [row for row in results["rows"] + results["accuracy"] if row["status"] != MEASURED]
    if failed:
        yield f"Not measured: {len(failed)} of {len(results['rows'] + results['accuracy'])} rows, as kernels.json says."
    yield "![Time over the floor of retention against length](kernels.png)"
    yield table(*benchmark_accuracy.table(results["accuracy"]))


def below_floor(rows, copy):
    """Which rows took less time than their floor, and how that can be, in a sentence; none if there is none."""
    names = []
    for row in rows:
        if (row["share_of_roofline"] or 0) > 1:
            name = (
                f"{row['name']}, {row['shape']}, {benchmark_kernels.describe(row)}, at {row['share_of_roofline']:.1%}"
            )
            if row["what"] == benchmark_kernels.STEP:
                state = 4 * row["batch"] * row["heads"] * row["key_dim"] * row["value_dim"]  # float32
                name += f" with a state of {format_bytes(state)}"
            names.append(name)
    if names:
        yield (
            f"Above 100% of its floor: {'; '.join(names)}. A floor takes bytes to move as fast as in a copy of "
            f"{format_bytes(copy['bytes'] // 2)}, to memory and back; what stays in the L2 cache from one call to the "
            "next, as a small state can, moves faster."
        )


def ladder(folder):
    """The versions of one kernel, with what was predicted of each; nothing where none was measured."""
    if not (Path(folder) / "ladder.json").exists():
        return
    results = read(folder, "ladder.json")
    yield "## The kernel ladder"
    yield (
        f"{results['device']}, the output of one retention in bfloat16: {results['heads']} heads, K = "
        f"{results['key_dim']}, V = {results['value_dim']}, {results['tokens']:,} tokens in sequences of "
        f"{results['time']:,}. What must be moved and multiplied takes {results['floor_ms']:.3f} ms at the rates of a copy "
        "and of a matrix product in the same run; attention, of as many channels, has another floor. Predictions were "
        "made before measuring; their reasons stand in [gpu/kernel_ladder](../kernel_ladder). "
        f"`{results.get('command', 'python -m gpu.kernel_ladder')}` The spread is from the 10th to the 90th percentile of "
        "the rounds."
    )
    lines = []
    for name, row in results["versions"].items():
        predicted, error = (
            f"{row[key]:{kind}}" if key in row else "" for key, kind in (("predicted_ms", "g"), ("error", ".1e"))
        )
        if "failed" in row:
            lines.append([name, predicted, f"failed: {row['failed']}", "", "", ""])
            continue
        share = "" if name in benchmark_kernels.ATTENTION else f"{row['share_of_roofline']:.0%}"
        lines.append([name, predicted, f"{row['median']:.3f}", f"{row['spread']:.3f}", share, error])
    yield table(("", "predicted, ms", "ms", "spread, ms", "of floor", "error"), lines)


def costs_of_the_paper(folder):
    """The paper's tables; nothing where none was measured."""
    if (Path(folder) / "paper.json").exists():
        results = read(folder, "paper.json")
        yield from paper_section(results, measured_on(results), table)


def measured_on(results):
    """Where and how benchmark results came about."""
    product, copy = (results["ceilings"][name] for name in ("matrix_product", "copy"))
    return (
        f"{results['device']}, {results['what']}. In the same run a bfloat16 matrix product reached "
        f"{product['flops_per_second'] / 1e12:.0f} TFLOP/s and a copy {copy['bytes_per_second'] / 1e12:.2f} TB/s. "
        f"`{results['command']}`" + (f" {results['remark']}" if "remark" in results else "")
    )


def several_gpus(results):
    """What two devices compute and how fast, and which rows failed."""
    exact = [row for row in results["rows"] if row.get("dtype") == "float64"]
    losses = [row[name] for row in exact for name in ("loss off", "losses off") if name in row]
    lines = [
        [
            row["what"].removeprefix("scaling, "), f"{row['tokens/s, one process']:,.0f}",
            *(f"{value:,.0f} ({value / row['tokens/s, one process'] / results['processes']:.0%})" for value in speeds(row)),
        ]
        for row in results["rows"] if "tokens/s, one process" in row
    ]  # fmt: skip
    failed = [row for row in results["rows"] if "failed" in row]
    off = [f"{row['what']} in {row['dtype']}: {row['failed']}" for row in failed if "dtype" in row]
    raised = [  # these were not measured, and say what they were given
        " ".join(f"{', '.join([row['what'], *row.get('with', ())])}: {row['failed']}".split())
        for row in failed if "dtype" not in row
    ]  # fmt: skip
    agreement = (
        f" Losses of shared training over {max(row.get('steps', 1) for row in exact)} steps in float64 differ from those "
        f"of one device by at most {max(losses):.0e} of themselves."
    ) if losses else ""  # fmt: skip
    return [
        "## Several GPUs",
        f"{results['processes']} of {results['device']}, "
        f"`{results.get('command', 'torchrun -m gpu.check_processes')}`.{agreement}",
        *(["Beyond what was allowed: " + "; ".join(off) + "."] if off else []),
        *(["Failed: " + "; ".join(raised) + "."] if raised else []),
        *([table(("tokens/s", "one GPU", "all, as many tokens each", "all, the same batch"), lines)] if lines else []),
        *baselines_apart(results["rows"]),
    ]


def baselines_apart(rows):
    """How far measurements of one GPU are apart, in a sentence, where there are several: what they trained is the same."""
    alone = [row["tokens/s, one process"] for row in rows if "tokens/s, one process" in row]
    if len(alone) > 1:
        yield (
            "One GPU trains the same in every row, each time measured by itself; the fastest of these is "
            f"{max(alone) / min(alone) - 1:.0%} above the slowest. Shares within a row, and differences between rows, are "
            "no surer than that."
        )


def speeds(row):
    """The two speeds of a scaling row: with more work, and with the same."""
    return [value for name, value in row.items() if name.startswith("tokens/s") and "one process" not in name]


def curves(study):
    """Held-out loss against steps, a line a seed."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for row in study["rows"]:
        for number, evaluations in enumerate(row["evaluations"]):
            label = row["variant"] if number == 0 else None
            axes.plot(*zip(*evaluations, strict=True), color=COLOURS.get(row["variant"]), linewidth=1.2, label=label)
    axes.set(xlabel="step", ylabel="bits per byte, held-out text")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def png(figure):
    """A figure as PNG bytes."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    return data.getvalue()


def loss_at(row, step):
    """The mean over seeds of the held-out loss at a step."""
    return statistics.fmean(dict(map(tuple, each))[step] for each in row["evaluations"])


def mean_and_deviation(values):
    """The mean, and the standard deviation of the sample."""
    return statistics.fmean(values), statistics.stdev(values)


def device(study):
    """What a study ran on, in words."""
    return f"{study['device']}, torch {study['versions']['torch']}"


def table(headings, lines):
    """A Markdown table; every column but the first is aligned to the right."""
    rule = [":--", *["--:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *lines))
