"""Values of the sections on cost: training steps, decoded tokens, single kernels, the ladder and several GPUs."""

from ..bench.kernel_floor import SHAPES, STEP
from ..bench.rows import ATTENTION_LABELS, label
from ..bench.run import ALL, left_out
from .results import (
    batch_key,
    by_key,
    is_there,
    measured,
    read,
    read_benchmark,
    retnet_over_transformers,
    unique,
    variant,
)

ALONE = "tokens/s, one process"
# Tokens a second and GPU of a gated linear attention of 1B parameters, 32K tokens a GPU, in ZeCO's paper, arXiv:2507.01004:
# with the text split in either way, and by data parallelism on as many GPUs.
PUBLISHED = {
    8: {"LASP-2": 42_946, "ZeCO": 47_369, "data": 49_633},
    256: {"LASP-2": 25_402, "ZeCO": 40_967, "data": 46_588},
}
# What the fused kernels are compared with; of several rows, the fastest.
PEERS = {
    "fla": lambda row: row["retention"] == "fla" or row.get("peer") in ("fla_128", "fla_fused"),
    "attention": lambda row: row["attention"] is not None,
    "mlstm": lambda row: str(row.get("peer")).startswith("mlstm"),
}


def training(folder):
    """Training steps of the small models; the way of a pair says how its steps were started."""
    found = models_section("training", folder, lambda row: (row["time"], row["compiled"], row["cuda_graph"]))
    return found | {"pairs": [pair | {"way": way_of(pair["retnet"])} for pair in found["pairs"]]}


def way_of(row):
    """How a training step was started, as text."""
    if not row["compiled"]:
        return "without torch.compile"
    return "with both passes as one CUDA graph" if row["cuda_graph"] else "with torch.compile"


def decoding(folder):
    """Decoded tokens of the small models."""
    found = models_section("decoding", folder, lambda row: (batch_key(row), row["context"], row["compiled"]))
    rows = measured(found["results"]["rows"])
    return found | {"limits": limits(rows), "workspace": workspace(rows)}


def models_section(name, folder, key):
    """Values of a section on models: the table of all rows, and RetNet over the Transformer where `key` is the same."""
    results = read_benchmark(folder, f"{name}.json")
    rows = measured(results["rows"])
    return {
        "results": results,
        "table": ALL[name].table(rows),
        "rounds": [row["rounds"] for row in rows],
        "pairs": [pair for pair in retnet_over_transformers(rows, key) if not pair["transformer"]["grouped"]],
        "left_out": [text.split(": ", 1)[1] for text in left_out({name: results})],
    }


def limits(rows):
    """The limits other than memory of the largest batches: a dict for each limit, with its batches and models.

    contexts of a model is None if it met the limit at every context.
    """
    largest = [row for row in rows if row["largest"]]
    found = []
    for limit in unique(row["limit"] for row in largest if row["limit"] != "memory"):
        ended, models = [row for row in largest if row["limit"] == limit], []
        for model in unique(map(variant, ended)):
            rows_of_model = [row for row in largest if variant(row) == model]
            here = [row for row in rows_of_model if row["limit"] == limit]
            everywhere = len(here) == len(rows_of_model)
            models.append({"row": here[0], "contexts": None if everywhere else unique(row["context"] for row in here)})
        found.append({"limit": limit, "batches": [row["batch"] for row in ended], "models": models})
    return found


def workspace(rows):
    """The most that peaks differ by between rows of one model that keep the same bytes; 0 if they do not differ."""
    rows = [row for row in rows if not row["largest"] and row["peak_bytes"]]
    kept = ("compiled", "batch", "weight_bytes", "past_bytes")
    alike = by_key(rows, lambda row: (variant(row), *(row[field] for field in kept)))
    peaks = ([row["peak_bytes"] for row in same] for same in alike.values())
    return max((max(same) - min(same) for same in peaks), default=0)


def kernels(folder):
    """Retention alone; None if nothing was measured."""
    if not is_there(folder, "kernels.json"):
        return None
    results = read_benchmark(folder, "kernels.json")
    rows, tried = measured(results["rows"]), results["rows"] + results["accuracy"]
    if not rows:
        return None
    times, accuracy, (headings, targets) = (table for _, table in ALL["kernels"].tables(results | {"rows": rows}))
    is_aim = lambda line: "(aim)" in line[1]  # noqa: E731
    return {
        "results": results,
        "table": times,
        "accuracy": accuracy,
        "targets": (headings, [line for line in targets if not is_aim(line)]),
        "aims": (headings, [line for line in targets if is_aim(line)]),
        "rounds": [row["rounds"] for row in rows],
        "tried": len(tried),
        "failed": len(tried) - len(measured(tried)),
        "ratios": _ratios(rows),
        "again": [each for each in (_measured_again(folder, shape) for shape in SHAPES) if each],
        "above_floor": [
            row | {"state_bytes": state_bytes(row), "label": f"{label(row)}, {ALL['kernels'].describe(row)}"}
            for row in rows
            if (row["share_of_roofline"] or 0) > 1
        ],
    }


def _ratios(rows):
    return [
        {"what": what} | {peer: fused_over([row for row in rows if row["what"] == what], peer) for peer in PEERS}
        for what in unique(row["what"] for row in rows)
    ]


def _measured_again(folder, shape):
    """Ratios, shares of the floor and times of a later run of a shape alone, with the tiles of today; None without one."""
    if not is_there(folder, f"kernels_{shape}.json"):
        return None
    results = read_benchmark(folder, f"kernels_{shape}.json")
    rows = measured(results["rows"])
    (_, times), *_ = ALL["kernels"].tables(results | {"rows": rows})
    ours = by_key([row for row in rows if row["retention"] == "triton"], lambda row: row["what"])
    shares = {
        what: {
            graph: [row["share_of_roofline"] for row in group if row["cuda_graph"] == graph] for graph in (False, True)
        }
        for what, group in ours.items()
    }
    return {
        "shape": shape,
        "left_out": len(results["rows"]) - len(rows),
        "results": results,
        "ratios": [each | {"shares": shares[each["what"]]} for each in _ratios(rows)],
        "table": times,
    }


def fused_over(rows, peer):
    """How many times as fast as a peer the fused kernels are, for each shape, length and batch that measured both."""
    ratios, case = [], ("shape", "time", "batch", "cuda_graph")
    for group in by_key(rows, lambda row: tuple(row[field] for field in case)).values():
        ours = [row["seconds"]["median"] for row in group if row["retention"] == "triton" and not row["replay"]]
        theirs = [row["seconds"]["median"] for row in group if PEERS[peer](row)]
        if ours and theirs:
            ratios.append(min(theirs) / min(ours))
    return ratios


def state_bytes(row):
    """Bytes of the float32 state that a decode step reads and writes; None for other rows."""
    if row["what"] != STEP:
        return None
    return 4 * row["batch"] * row["heads"] * row["key_dim"] * row["value_dim"]


def ladder(folder):
    """The versions of one kernel, with their predictions; None if none was measured."""
    if not is_there(folder, "ladder.json"):
        return None
    return {"results": read(folder, "ladder.json"), "attention": list(ATTENTION_LABELS.values())}


def processes(folder):
    """The comparison of several devices with one: errors, speeds and failed checks."""
    results = read(folder, "processes.json")
    exact = [row for row in results["rows"] if row.get("dtype") == "float64"]
    scaling = [row for row in results["rows"] if ALONE in row]
    failed = [row for row in results["rows"] if "failed" in row]
    longest = max((row["window"] for row in scaling), default=None)
    found = [
        {
            "what": row["what"].removeprefix("scaling, "),
            "window": row["window"],
            "batch": row["batch"],
            "alone": row[ALONE],
            "shared": [
                {"speed": value, "range": row.get(name.replace("tokens/s", "efficiency from, to"))}
                for name, value in row.items()
                if name.startswith("tokens/s") and name != ALONE
            ],
        }
        for row in scaling
    ]
    return {
        "results": results,
        "steps": max((row.get("steps", 1) for row in exact), default=0),
        "loss_errors": [row[name] for row in exact for name in ("loss off", "losses off") if name in row],
        "scaling": found,
        "longest": [row for row in found if row["window"] == longest],
        "in_rounds": [row["rounds"] for row in scaling if "rounds" in row],
        "parts": [row for row in results["rows"] if "ms, together" in row],
        "published": PUBLISHED,
        "off": [row for row in failed if "dtype" in row],
        "raised": [row for row in failed if "dtype" not in row],  # these hold only their arguments
    }
