"""Figures of benchmark results, drawn from their files; each section of `gpu.bench` has its own figure."""

import json
from pathlib import Path

from refimpl.files import save_figure

from ..bench.figures import COLOURS, decoding_figure, kernels_figure, training_figure
from ..bench.run import ALL
from ..bench.timing import MEASURED

__all__ = ["COLOURS", "FIGURES", "decoding_figure", "draw", "kernels_figure", "training_figure"]

FIGURES = {name: section.figure for name, section in ALL.items() if section.figure}


def draw(folder):
    """Draw every results file of a folder beside it; returns the paths. FileNotFoundError if there is none."""
    paths = []
    for section, figure in FIGURES.items():
        source = Path(folder) / f"{section}.json"
        if source.exists():
            results = json.loads(source.read_text(encoding="utf-8"))
            if any(row["status"] == MEASURED for row in results["rows"]):
                paths.append(source.with_suffix(".png"))
                save_figure(paths[-1], figure(results))
    if not paths:
        names = " or ".join(f"{section}.json" for section in FIGURES)
        raise FileNotFoundError(f"draw: there is no {names} with a measured row in {str(folder)!r}")
    return paths
