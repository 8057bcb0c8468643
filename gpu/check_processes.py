"""`python -m gpu.check_processes`, which torchrun starts; it lives in `gpu.bench.processes`."""

from refimpl.cli import run

from .bench.processes import app

if __name__ == "__main__":
    run(app, "python -m gpu.check_processes")
