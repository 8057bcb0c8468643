"""The section of gpu/results/README.md on the paper's cost tables, from paper.json: its ratios, ours, and why they differ."""

from ..bench.section import format_bytes
from ..bench.timing import MEASURED, NO_ROOM

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
TRANSFORMER, UNFUSED = "Transformer", "Transformer, unfused"
HEADS = {TRANSFORMER: "heads in full", "Transformer, grouped": "grouped heads"}


def paper_section(results, where, table):
    """Paragraphs and tables of Markdown; where: how the results came about, in words; table(headings, lines) makes one."""
    yield "## The paper's cost tables"
    yield f"{where} († from arXiv:2307.08621v4: eight A100 train there, one decodes, so only ratios compare.)"
    rows = results["rows"]
    if counts := parameters(rows):
        yield counts
    yield from training([row for row in rows if row["section"] == "training"], table)
    yield from decoding([row for row in rows if row["section"] == "decoding"], table)


def parameters(rows):
    """How many parameters the models of each size have, which is named as in the paper; None if none was measured."""
    counts = {(row["size"], row["model"]): row["parameters"] for row in rows if ran(row)}
    pairs = [
        " and ".join(f"{counts[size, model] / 1e9:.2f}" for model in ("retnet", "transformer")) + f" at {size}"
        for size in dict.fromkeys(size for size, _ in counts)
        if counts.keys() >= {(size, "retnet"), (size, "transformer")}
    ]
    if pairs:
        return (
            "The sizes bear the paper's names. RetNet and the Transformer have, in billions of parameters, "
            f"{', '.join(pairs)}."
        )
    return None


def training(rows, table):
    """What a training step holds and how fast it is."""
    lines, sentences, gains = [], [], {}
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
        both = [(flash, unfused) for unfused, flash, _ in pairs if ran(unfused) and ran(flash)]
        if quoted and both:
            ours = span([a["tokens_per_second"] / b["tokens_per_second"] for a, b in both])
            gains[size] = ours, f"{quoted['speed'][1] / quoted['speed'][0]:.2f} †"
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
    if gains:
        yield (
            "RetNet's lead over the Transformer without flash attention is its lead over the one with it, times what flash "
            "attention gains that Transformer. In this gain RetNet has no part: it is "
            f"{', '.join(f'{ours} at {size}' for size, (ours, _) in gains.items())}; in the paper "
            f"{', '.join(theirs for _, theirs in gains.values())}. Ours is the same Transformer but for attention, whose scores "
            "are bfloat16 without flash attention. What theirs computed without it, in which dtype, on how many sequences and "
            "how shared among its GPUs is not known here, and so neither is why its gain is another."
        )


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
    yield " ".join([f"Decoding at {rows[0]['size']}.", *limits(rows)])
    yield table(("batch", "context", *names), lines)
    if answer := answered(found):
        headings, lines, paragraphs = answer
        yield table(headings, lines)
        yield from paragraphs
    yield " ".join(latencies(rows))


def limits(rows):
    """What ended the batches of rows marked most, in sentences."""
    most = [row for row in rows if row["largest"] and ran(row)]
    if most:
        yield "Rows marked most decode as many sequences as fit, a number of its own for each."
    for limit in dict.fromkeys(row["limit"] for row in most if row["limit"] != "memory"):
        names = []
        for name in dict.fromkeys(row["name"] for row in most):
            contexts = {row["context"]: row["limit"] == limit for row in most if row["name"] == name}
            if any(contexts.values()):
                where = ", ".join(f"{context:,}" for context, ended in contexts.items() if ended)
                names.append(name if all(contexts.values()) else f"{name} (context {where})")
        batches = span([row["batch"] for row in most if row["limit"] == limit], ",.0f")
        yield (
            f"These ended at {limit}, {batches} sequences, the most that it takes, before memory was full: "
            f"{'; '.join(names)}."
        )


def answered(found):
    """At the paper's context: headings, lines and paragraphs of RetNet's speed and memory against both Transformers."""
    quoted, lines, pairs = PAPER["decoding"], [], []
    for (batch, context, compiled), by_name in found.items():
        retnet = retnet_of(by_name)
        for other in HEADS:
            row = by_name.get(other)
            if context == quoted["context"] and ran(retnet) and ran(row):
                pairs.append((retnet, row))
                saved = memory_saved(retnet, row)
                fits = f"{retnet['batch']:,} sequences fit, not {row['batch']:,}" if row["largest"] else "unknown"
                ratios = faster(retnet, row), fewer_bytes(retnet, row), more_bandwidth(retnet, row)
                lines.append(
                    [
                        batch + ", compiled" * compiled,
                        other,
                        *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                        fits if saved is None else f"{saved:.0%}",
                    ]
                )
    if not lines:
        return None
    lines.insert(0, ["paper †", TRANSFORMER, f"{quoted['speed']:g}", "", "", f"{quoted['saved']:.0%}"])
    length = f"{quoted['context']:,} tokens"
    columns = (
        "Here tokens/s is RetNet's over the other's. It is the product of the next two columns: how many times fewer bytes "
        "must move for a token, and at how many times the bandwidth they move."
    )
    verdicts = []
    for other, words in HEADS.items():
        for largest in (False, True):
            some = [pair for pair in pairs if (pair[1]["name"], pair[1]["largest"]) == (other, largest)]
            if some:
                verdicts.append(f"With {words}, {length} of context, {judged(some, largest)}")
    verdicts.append("At which batches the paper's figures were measured is not known here.")
    alone = [each for (batch, context, _), each in found.items() if (batch, context) == ("1", quoted["context"])]
    reasons = [*(why(alone[0]) if alone else ()), *why_the_most(pairs, found)]
    headings = f"batch, {length}", "RetNet over", "tokens/s", "by fewer bytes", "by bandwidth", "memory saved"
    return headings, lines, [" ".join(part) for part in ([columns], verdicts, reasons) if part]


def retnet_of(by_name):
    """RetNet's row of those by name; None if there is none."""
    return next((row for name, row in by_name.items() if name.startswith("RetNet")), None)


def faster(retnet, row):
    """RetNet's tokens a second over another row's; the product of the next two, where the bandwidth is known."""
    return retnet["tokens_per_second"] / row["tokens_per_second"]


def fewer_bytes(retnet, row):
    """The bytes that must move for a token, another row's over RetNet's."""
    return (row["moved_bytes"] / row["batch"]) / (retnet["moved_bytes"] / retnet["batch"])


def more_bandwidth(retnet, row):
    """The share of the copy bandwidth, RetNet's over another row's; None if it is not known."""
    share = "share_of_copy_bandwidth"
    return retnet[share] / row[share] if retnet[share] and row[share] else None


def memory_saved(retnet, row):
    """The part of another row's memory that RetNet does without; None where batches differ or memory is not known."""
    return None if row["largest"] or not row["peak_bytes"] else 1 - retnet["peak_bytes"] / row["peak_bytes"]


def judged(pairs, largest):
    """What pairs of RetNet's row and another come to, at equal batch or as many sequences as fit, and the verdicts."""
    quoted = PAPER["decoding"]
    ratios = [faster(*pair) for pair in pairs]
    saved = [part for pair in pairs if (part := memory_saved(*pair)) is not None]
    text = f"{span(ratios)} times the Transformer's tokens a second"
    verdicts = [verdict(f"{quoted['speed']:g} times", max(ratios) >= quoted["speed"])]
    if largest:
        counts = (span([pair[i]["batch"] for pair in pairs], ",.0f") for i in (0, 1))
        text = "as many sequences as fit, {} against {}: ".format(*counts) + text
    else:
        text = f"at equal batch: {text}"
    if saved:
        text += f" and {span(saved, '.0%')} less memory"
        verdicts.append(verdict(f"{quoted['saved']:.0%}", max(saved) >= quoted["saved"]))
    return f"{text}; the paper's {', its '.join(verdicts)}."


def verdict(figure, reached):
    """Whether one of the paper's figures was reached, in words."""
    return f"{figure} † {'is' if reached else 'is not'} reached"


def why(by_name):
    """What the ratios come from: bytes of a sequence, beside bytes of the weights."""
    kept = {name: row for name, row in by_name.items() if ran(row)}
    if TRANSFORMER not in kept or len(kept) < 2:
        return
    parts = [f"{format_bytes(row['past_bytes'])} ({name})" for name, row in kept.items()]
    yield (
        f"At that length a sequence keeps {', '.join(parts)}, beside {format_bytes(kept[TRANSFORMER]['weight_bytes'])} of "
        "weights, which are held, and read at every step, by all alike: the more sequences share the weights, the more the "
        "ratio is that of what they keep."
    )
    if retnet := retnet_of(kept):
        parts = [
            f"{kept[name]['past_bytes'] / retnet['past_bytes']:.1f} with {words}"
            for name, words in HEADS.items()
            if name in kept
        ]
        yield (
            f"That ratio is {' and '.join(parts)} in memory, and half of it in bytes moved, since a state is written as well "
            "as read."
        )


def why_the_most(pairs, found):
    """What RetNet's speed is made of where as many sequences as fit are decoded, in sentences for each Transformer."""
    for other, words in HEADS.items():
        some = [pair for pair in pairs if pair[1]["name"] == other and pair[1]["largest"] and more_bandwidth(*pair)]
        if not some:
            continue
        shares = [[pair[i]["share_of_copy_bandwidth"] for pair in some] for i in (0, 1)]
        best = max(
            by_name[other]["share_of_copy_bandwidth"]
            for (batch, _, _), by_name in found.items()
            if batch == "most" and ran(by_name.get(other))
        )
        total, fewer, more = (span([ratio(*pair) for pair in some]) for ratio in (faster, fewer_bytes, more_bandwidth))
        shared = all(retnet["batch"] > row["batch"] for retnet, row in some)
        yield (
            f"With {words} and as many sequences as fit, {total} times is {fewer} times fewer bytes a token"
            f"{', as more of its sequences share the weights,' * shared} times {more} in bandwidth: RetNet's step moves its "
            f"bytes at {span(shares[0], '.0%')} of the bandwidth of a copy, the Transformer's at {span(shares[1], '.0%')}."
        )
        if best > max(shares[1]):
            yield f"At another length the Transformer's reaches {best:.0%}; why not at this one is not known."


def latencies(rows):
    """How the time of a step grows with the context, in a sentence for each batch."""
    for batch in dict.fromkeys(batch_of(row) for row in rows if not row["largest"]):
        texts = []
        for name in dict.fromkeys(row["name"] for row in rows):
            line = [row for row in rows if not row["compiled"] and (batch_of(row), row["name"]) == (batch, name)]
            if text := growth(sorted(line, key=lambda row: row["context"])):
                texts.append(f"{name} {text}")
        if texts:
            yield f"A step at batch {batch} takes, by tokens of context: {'; '.join(texts)}."


def growth(line):
    """The time of a step at the shortest and the longest context measured, and from where on it does not fit.

    None if only one context is known.
    """
    measured = [row for row in line if ran(row)]
    full = [row["context"] for row in line if row["status"] == NO_ROOM]
    if len(measured) + len(full) < 2:
        return None
    ends = measured[:1] + measured[1:][-1:]
    times = " to ".join(f"{row['seconds']['median'] * 1e3:.1f} ms at {row['context']:,}" for row in ends)
    return ", ".join(filter(None, [times, *(f"does not fit from {context:,} on" for context in full[:1])]))


def batch_of(row):
    """The batch in words: a number, or the most that fit."""
    return "most" if row["largest"] else f"{row['batch']}"


def cell(row, batch=None):
    """A row's memory, speed and, when decoding, time of a step and number of sequences, in a table's cell."""
    if row is None:
        return ""
    if not ran(row):
        return row["status"]
    parts = [format_bytes(row["peak_bytes"]), f"{row['tokens_per_second']:,.0f}/s"]
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
