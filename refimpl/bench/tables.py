"""Results of `refimpl.bench.run.measure` as tables to print."""


def tables(results):
    """(title, rows) of each table, a row a dict of texts by heading."""
    found = []
    for length in dict.fromkeys(row["time"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["time"] == length]
        found.append((f"T {length}, sgemm peak {rows[0]['peak_gflops']:.0f} GFLOP/s", list(map(_form, rows))))
    return [
        *found,
        ("decoding: states that take one token", list(map(_decoding, results["decode"]))),
        ("training step", list(map(_training, results["training"]))),
        ("long sequences", list(map(_long, results["long"]))),
    ]


def _form(row):
    return {
        "": row["name"],
        "time": f"{row['seconds'] * 1e3:.1f} ms",
        "GFLOP/s": f"{row['gflops']:.1f}",
        "of peak": f"{row['share_of_peak']:.0%}",
    }


def _decoding(row):
    return {"": row["name"], "states": f"{row['states']}", "steps/s": f"{row['state_steps_per_second']:,.0f}"}


def _training(row):
    return {
        "": row["name"],
        "batch": f"{row['batch']} x {row['window']}",
        "time": f"{row['seconds'] * 1e3:.1f} ms",
        "of the fastest by torch": f"{row['of_fastest_torch']:.2f}" if row["of_fastest_torch"] else "no torch",
    }


def _long(row):
    memory = row["mib_beyond_outputs"]
    return {
        "": row["name"],
        "T": f"{row['time']:,}",
        "a token": f"{row['ns_per_token'] / 1e3:.2f} us",
        "memory beyond": "unknown" if memory is None else f"{memory} MiB",
    }
