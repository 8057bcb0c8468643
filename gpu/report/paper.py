"""Values of the section on the paper's cost tables, from paper.json: its ratios, ours, and the parts of ours."""

from ..bench.timing import NO_ROOM
from .costs import limits
from .results import batch_key, by_key, is_there, measured, read_benchmark, retnet_over_transformers, unique, variant

# arXiv:2307.08621v4. Training at T = 8192 on eight A100, (memory in GB, words a second) of the Transformer without and
# with flash attention and of RetNet; decoding at 6.7B on one A100.
PAPER = {
    "training": {
        "1.3B": {"unfused": (74.8, 10832), "flash": (38.8, 63965), "retnet": (34.5, 73345)},
        "2.7B": {"unfused": (69.6, 5186), "flash": (42.1, 34990), "retnet": (42.0, 38921)},
        "6.7B": {"unfused": (69.0, 2754), "flash": (51.4, 16230), "retnet": (48.0, 17459)},
    },
    "decoding": {"context": 8192, "speed": 8.4, "saved": 0.70},
}


def paper(folder):
    """The paper's tables; None if none was measured."""
    return values(read_benchmark(folder, "paper.json")) if is_there(folder, "paper.json") else None


def values(results):
    """The values of the section."""
    by_section = {name: [row for row in results["rows"] if row["section"] == name] for name in ("training", "decoding")}
    return {
        "results": results,
        "parameters": parameters(results["rows"]),
        "training": training(by_section["training"]),
        "decoding": decoding(by_section["decoding"]),
    }


def parameters(rows):
    """{size: (RetNet's parameters, the Transformer's)} of the sizes at which both were measured."""
    counts = {(row["size"], row["model"]): row["parameters"] for row in measured(rows)}
    return {
        size: (counts[size, "retnet"], counts[size, "transformer"])
        for size in unique(size for size, _ in counts)
        if counts.keys() >= {(size, "retnet"), (size, "transformer")}
    }


def training(rows):
    """What a training step holds and how fast it is, and each model over the others at each size; None without rows."""
    if not rows:
        return None
    sizes = {}
    for row in rows:
        setting = row["parameters_in"], row["recompute"], row["compiled"]
        sizes.setdefault(row["size"], {}).setdefault(setting, {})[column(row)] = row
    return {
        "first": next(iter(measured(rows)), None),
        "sizes": [
            {"size": size, "quoted": PAPER["training"].get(size), "settings": settings}
            for size, settings in sizes.items()
        ],
        "ratios": [
            ratio
            for size, settings in sizes.items()
            for ours, other in (("retnet", "flash"), ("retnet", "unfused"), ("flash", "unfused"))
            if (ratio := compared(size, settings, ours, other))
        ],
    }


def column(row):
    """Which of the paper's three models a row of training belongs to."""
    return "retnet" if row["model"] == "retnet" else "unfused" if row["attention"] == "unfused" else "flash"


def compared(size, settings, ours, other):
    """One model's speed and memory over another's in every setting that measured both, and the paper's; None without."""
    pairs = [pair for each in settings.values() if len(pair := measured([each.get(ours), each.get(other)])) == 2]
    if not pairs:
        return None
    quoted = PAPER["training"].get(size)
    return {
        "size": size,
        "ours": ours,
        "other": other,
        "speed": [a["tokens_per_second"] / b["tokens_per_second"] for a, b in pairs],
        "memory": [a["peak_bytes"] / b["peak_bytes"] for a, b in pairs if b["peak_bytes"]],
        "quoted_memory": quoted and quoted[ours][0] / quoted[other][0],
        "quoted_speed": quoted and quoted[ours][1] / quoted[other][1],
    }


def decoding(rows):
    """What a decoded token costs, and RetNet over the Transformer at the paper's context; None without rows."""
    if not rows:
        return None
    models, done = unique(map(variant, rows)), measured(rows)
    pairs = [
        pair | ratios_of(pair["retnet"], pair["transformer"])
        for pair in retnet_over_transformers(done, line_of)
        if pair["retnet"]["context"] == PAPER["decoding"]["context"]
    ]
    groups = by_key(pairs, lambda pair: (pair["transformer"]["grouped"], pair["transformer"]["largest"]))
    return {
        "size": rows[0]["size"],
        "quoted": PAPER["decoding"],
        "models": [next(row for row in rows if variant(row) == model) for model in models],
        "lines": {
            line: [next((row for row in same if variant(row) == model), None) for model in models]
            for line, same in by_key(rows, line_of).items()
        },
        "pairs": pairs,
        "groups": sorted(groups.items()),
        "best_shares": {grouped: best_share(done, grouped) for grouped in (False, True)},
        "limits": limits(done),
        "kept": kept(done),
        "steps": steps(rows),
    }


def line_of(row):
    """Which line of the table of decoding a row belongs to."""
    return batch_key(row), row["context"], row["compiled"]


def ratios_of(retnet, other):
    """RetNet over a Transformer: fewer bytes for a token, times the bandwidth that they move at, is the speed.

    bandwidth is None if that of a copy is not known. saved, the share of memory that RetNet saves, is None if batches differ
    or memory is not known.
    """
    share, alike = "share_of_copy_bandwidth", not other["largest"] and other["peak_bytes"]
    return {
        "fewer_bytes": (other["moved_bytes"] / other["batch"]) / (retnet["moved_bytes"] / retnet["batch"]),
        "bandwidth": retnet[share] / other[share] if retnet[share] and other[share] else None,
        "saved": 1 - retnet["peak_bytes"] / other["peak_bytes"] if alike else None,
    }


def best_share(rows, grouped):
    """The largest share of a copy's bandwidth that the Transformer reaches with as many sequences as fit; 0 without."""
    peers = [row for row in rows if row["largest"] and row["model"] == "transformer" and row["grouped"] == grouped]
    return max((row["share_of_copy_bandwidth"] or 0 for row in peers), default=0)


def kept(rows):
    """Bytes of weights, and the rows that say what a sequence keeps at the paper's context; None without both models."""
    alone = [row for row in rows if batch_key(row) == 1 and row["context"] == PAPER["decoding"]["context"]]
    alone = [row for row in alone if row["compiled"] == alone[0]["compiled"]]
    retnet = next((row for row in alone if row["model"] == "retnet"), None)
    others = [row for row in alone if row["model"] == "transformer"]
    if not retnet or not others:
        return None
    ratios = [(row, row["past_bytes"] / retnet["past_bytes"]) for row in others]
    return {"weight_bytes": retnet["weight_bytes"], "retnet": retnet, "others": ratios}


def steps(rows):
    """How the time of a step grows with the context: rows at the shortest and the longest, and where memory ends.

    Models of which only one context is known are left out.
    """
    found = []
    for batch in unique(row["batch"] for row in rows if not row["largest"]):
        here = [row for row in rows if not row["compiled"] and batch_key(row) == batch]
        for model in unique(map(variant, here)):
            line = sorted((row for row in here if variant(row) == model), key=lambda row: row["context"])
            done, full = measured(line), [row["context"] for row in line if row["status"] == NO_ROOM]
            if len(done) + len(full) > 1:
                ends = {"first": done[0], "last": done[-1]} if done else {"first": None, "last": None}
                found.append({"model": line[0], "full_from": full[0] if full else None} | ends)
    return found
