"""The section of gpu/results/README.md on the paper's cost tables, from paper.json: its ratios, ours, and why they differ."""

from .benchmark import in_words
from .benchmark_paper import UNFUSED
from .turns import MEASURED

# arXiv:2307.08621v4: training at T = 8192 on eight A100, memory in GB and words a second, without and with flash
# attention and RetNet; decoding at 6.7B on one A100.
PAPER = {
    "training": {
        "1.3B": {"memory": (74.8, 38.8, 34.5), "speed": (10832, 63965, 73345)},
        "2.7B": {"memory": (69.6, 42.1, 42.0), "speed": (5186, 34990, 38921)},
        "6.7B": {"memory": (69.0, 51.4, 48.0), "speed": (2754, 16230, 17459)},
    },
    "decoding": {"context": 8192, "speed": 8.4, "saved": 0.70},
}
TRANSFORMER, GROUPED = "Transformer", "Transformer, grouped"


def paper_section(results, where, table):
    """Paragraphs and tables of Markdown; where: how the results came about, in words; table(headings, lines) makes one."""
    yield "## The paper's cost tables"
    yield f"{where} († from arXiv:2307.08621v4: eight A100 train there, one decodes, so only ratios compare.)"
    rows = results["rows"]
    yield from training([row for row in rows if row["section"] == "training"], table)
    yield from decoding([row for row in rows if row["section"] == "decoding"], table)


def training(rows, table):
    """What a training step holds and how fast it is."""
    lines, sentences = [], []
    for size in dict.fromkeys(row["size"] for row in rows):
        quoted = PAPER["training"].get(size)
        if quoted:
            cells = zip(quoted["memory"], quoted["speed"], strict=True)
            lines.append([size, "paper †", *(f"{memory:g} GB, {speed:,}/s" for memory, speed in cells)])
        pairs = []
        for how in dict.fromkeys(how_trained(row) for row in rows if row["size"] == size):
            trio = three([row for row in rows if row["size"] == size and how_trained(row) == how])
            lines.append([size, how, *map(cell, trio)])
            pairs.append(trio)
        sentences += [compared(size, pairs, which, quoted) for which in (1, 0)]
    if not lines:
        return
    held = next((row for row in rows if row["status"] == MEASURED), None)
    if held:
        yield (
            f"Training, one sequence of {held['time']:,} tokens a step, {held['vocab_size']:,} tokens in the vocabulary. What "
            "was changed to fit was changed for all three: float32 or bfloat16 is the dtype of parameters, gradients and "
            "AdamW's moments; again: layers are computed again in the backward pass."
        )
    yield table(("size", "", "Transformer, unfused", "Transformer, flash", "RetNet"), lines)
    yield " ".join(filter(None, sentences))


def how_trained(row):
    """What was changed to fit, in words."""
    return row["parameters_in"] + ", again" * row["recompute"] + ", compiled" * row["compiled"]


def three(rows):
    """The rows of the Transformer without and with flash attention and of RetNet, None where there is none."""
    by_kind = {"RetNet" if row["model"] == "retnet" else row["name"]: row for row in rows}
    return [by_kind.get(name) for name in (UNFUSED, TRANSFORMER, "RetNet")]


def compared(size, trios, which, quoted):
    """RetNet against the Transformer without (0) or with (1) flash attention, in a sentence; None if neither ran."""
    both = [(trio[which], trio[2]) for trio in trios if ran(trio[which]) and ran(trio[2])]
    if not both:
        return None
    memory = [b["peak_bytes"] / a["peak_bytes"] for a, b in both if a["peak_bytes"]]
    speed = [b["tokens_per_second"] / a["tokens_per_second"] for a, b in both]
    with_flash = "with" if which else "without"
    text = f"At {size} RetNet trains {span(speed)} times as fast as the Transformer {with_flash} flash attention"
    if memory:
        lower = sum(ratio <= 1 for ratio in memory)
        text += f" and holds {span(memory)} of its memory, no more in {lower} of {len(memory)} settings"
    if quoted:
        theirs = (quoted[name][2] / quoted[name][which] for name in ("speed", "memory"))
        text += "; in the paper {:.2f} and {:.2f} †".format(*theirs)
    return text + "."


def decoding(rows, table):
    """What a decoded token costs, and the answer to 8.4 times and 70 %."""
    names = list(dict.fromkeys(row["name"] for row in rows))
    lines, found = [], {}
    for row in rows:
        found.setdefault((batch_of(row), row["context"], row["compiled"]), {})[row["name"]] = row
    for (batch, context, compiled), by_name in found.items():
        how = ", compiled" * compiled
        lines.append([f"{batch}{how}", f"{context:,}", *(cell(by_name.get(name), batch) for name in names)])
    if not lines:
        return
    yield f"Decoding at {rows[0]['size']}; the most sequences that fit are another number for each."
    yield table(("batch", "context", *names), lines)
    if answer := answered(found):
        yield table(answer[0], answer[1])
        yield " ".join(answer[2])
    yield " ".join(latencies(rows))


def answered(found):
    """At the paper's context: headings, lines and sentences of RetNet's speed and memory against both Transformers."""
    quoted, lines, ratios, sentences = PAPER["decoding"], [], {}, []
    for (batch, context, compiled), by_name in found.items():
        retnet = next((row for name, row in by_name.items() if name.startswith("RetNet")), None)
        if context != quoted["context"] or not ran(retnet):
            continue
        line = [f"{batch}{', compiled' * compiled}"]
        for other in (TRANSFORMER, GROUPED):
            row = by_name.get(other)
            if not ran(row):
                line += ["-", "-"]
                continue
            speed, saved = retnet["tokens_per_second"] / row["tokens_per_second"], None
            if batch != "most" and row["peak_bytes"]:
                saved = 1 - retnet["peak_bytes"] / row["peak_bytes"]
            ratios.setdefault(other, []).append((speed, saved))
            fits = f"{retnet['batch']:,} sequences fit, not {row['batch']:,}" if batch == "most" else "unknown"
            line += [f"{speed:.2f}", fits if saved is None else f"{saved:.0%}"]
        lines.append(line)
    if not ratios:
        return None
    lines.insert(0, ["paper †", f"{quoted['speed']:g}", f"{quoted['saved']:.0%}", "", ""])
    length = f"{quoted['context']:,}"
    for other, words in ((TRANSFORMER, "heads in full"), (GROUPED, "grouped heads")):
        if other in ratios:
            speed = span([ratio for ratio, _ in ratios[other]])
            saved = [part for _, part in ratios[other] if part is not None]
            text = f"With {words}, {length} tokens of context: {speed} times the Transformer's tokens a second"
            verdicts = [
                verdict(f"{quoted['speed']:g} times", max(ratio for ratio, _ in ratios[other]) >= quoted["speed"])
            ]
            if saved:
                text += f" and {span(saved, '.0%')} less memory at equal batch"
                verdicts.append(verdict(f"{quoted['saved']:.0%}", max(saved) >= quoted["saved"]))
            sentences.append(f"{text}; the paper's {', its '.join(verdicts)}.")
    alone = [each for (batch, context, _), each in found.items() if (batch, context) == ("1", quoted["context"])]
    sentences += why(alone[0]) if alone else []
    headings = (
        f"batch, {length} tokens",
        "tokens/s over full",
        "memory saved",
        "tokens/s over grouped",
        "memory saved",
    )
    return headings, lines, sentences


def verdict(figure, reached):
    """Whether one of the paper's figures was reached, in words."""
    return f"{figure} † {'is' if reached else 'is not'} reached"


def why(by_name):
    """What the ratios come from: bytes of a sequence, beside bytes of the weights."""
    kept = {name: row for name, row in by_name.items() if ran(row)}
    if TRANSFORMER not in kept or len(kept) < 2:
        return
    full = kept[TRANSFORMER]
    parts = [f"{in_words(row['past_bytes'])} ({name})" for name, row in kept.items()]
    retnet = next((row for name, row in kept.items() if name.startswith("RetNet")), None)
    yield (
        f"At that length a sequence keeps {', '.join(parts)}, beside {in_words(full['weight_bytes'])} of weights, which are "
        "held, and read at every step, by all alike: the more sequences share the weights, the more the ratio is that of what "
        "they keep."
    )
    if retnet:
        yield (
            f"It is {full['past_bytes'] / retnet['past_bytes']:.1f} in memory, and half of that in bytes moved, since a state "
            "is written as well as read."
        )


def latencies(rows):
    """How the time of a step grows with the context, in a sentence for each batch."""
    for batch in dict.fromkeys(batch_of(row) for row in rows if not row["largest"]):
        texts = []
        for name in dict.fromkeys(row["name"] for row in rows):
            line = [
                row for row in rows
                if ran(row) and not row["compiled"] and (batch_of(row), row["name"]) == (batch, name)
            ]  # fmt: skip
            if len(line) > 1:
                first, last = (function(line, key=lambda row: row["context"]) for function in (min, max))
                before, after = (row["seconds"]["median"] for row in (first, last))
                texts.append(f"{name} {before * 1e3:.1f} to {after * 1e3:.1f} ms")
        if texts:
            yield (
                f"From {first['context']:,} to {last['context']:,} tokens, a step at batch {batch} goes from: "
                f"{'; '.join(texts)}."
            )


def batch_of(row):
    """The batch in words: a number, or the most that fit."""
    return "most" if row["largest"] else f"{row['batch']}"


def cell(row, batch=None):
    """A row's memory, speed and, when decoding, time of a step and number of sequences, in a table's cell."""
    if row is None:
        return ""
    if not ran(row):
        return row["status"]
    parts = [in_words(row["peak_bytes"]), f"{row['tokens_per_second']:,.0f}/s"]
    if row["section"] == "decoding":
        parts.append(f"{row['seconds']['median'] * 1e3:.1f} ms")
    if batch == "most":
        parts.insert(0, f"{row['batch']:,} sequences")
    return ", ".join(parts)


def ran(row):
    """Whether there is a measurement."""
    return row is not None and row["status"] == MEASURED


def span(values, form=".2f"):
    """The least and the greatest, in words.

    >>> span([1.5, 1.234]), span([0.5, 0.5], ".0%")
    ('1.23 to 1.50', '50%')
    """
    low, high = (f"{function(values):{form}}" for function in (min, max))
    return low if low == high else f"{low} to {high}"
