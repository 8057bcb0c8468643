"""`python -m gpu.compare_fla`; it lives in `gpu.bench.fla_logits`."""

from refimpl.cli import run

from .bench.fla_logits import app

if __name__ == "__main__":
    run(app, "python -m gpu.compare_fla")
