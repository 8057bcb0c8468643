"""python -m gpu: train a small RetNet or a baseline, compare many, let a trained one write, export it, measure."""

from refimpl.cli import program, run

from .bench.commands import bench
from .evidence.commands import context, reproduce, scaling
from .report.commands import report
from .sampling.commands import generate
from .training.commands import export, study, sweep, train

app = program(__doc__, (train, sweep, study, scaling, context, reproduce, generate, bench, report, export))

if __name__ == "__main__":
    run(app, "python -m gpu")
