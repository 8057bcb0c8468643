"""The ceilings of this machine, measured in the same run: the rates of a large copy and of a large matrix product."""

import torch

from .timing import MEASURED, Candidate, Work, time_candidates


def ceilings(rounds, device):
    """Measure the rows "copy" and "matrix_product" of the device.

    They are rows of `time_candidates` with bytes_per_second (read and written) of the copy and flops_per_second of the
    bfloat16 product, where these were measured.
    """
    on_gpu = torch.device(device).type == "cuda"
    size, side = (2**29, 8192) if on_gpu else (2**23, 512)

    def copy():
        source = torch.randn(size, device=device).bfloat16()
        target = torch.empty_like(source)
        return Work(lambda: target.copy_(source), 0, {"bytes": 2 * source.nbytes})

    def product():
        a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
        out = torch.empty_like(a)
        return Work(lambda: torch.mm(a, b, out=out), 0, {"flops": 2 * side**3})

    candidates = [Candidate({"name": "copy"}, copy), Candidate({"name": "matrix_product", "side": side}, product)]
    found = {row.pop("name"): row for row in time_candidates(candidates, rounds, device)}
    for row in found.values():
        for amount in ("bytes", "flops"):
            if row["status"] == MEASURED and amount in row:
                row[f"{amount}_per_second"] = row[amount] / row["seconds"]["median"]
    return found


def floor_seconds(flops, moved_bytes, peaks):
    """The least seconds for these operations and bytes, the larger of both; None where a ceiling was not measured.

    >>> floor_seconds(6, 10, {"matrix_product": {"flops_per_second": 2}, "copy": {"bytes_per_second": 10}})
    3.0
    """
    rate, bandwidth = peaks["matrix_product"].get("flops_per_second"), peaks["copy"].get("bytes_per_second")
    return max(flops / rate, moved_bytes / bandwidth) if rate and bandwidth else None
