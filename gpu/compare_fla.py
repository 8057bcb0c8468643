"""`python -m gpu.compare_fla`; it lives in `gpu.bench.fla_logits`."""

from refimpl.cli import one_command, run

from .bench.commands import compare_fla

app = one_command(compare_fla)

if __name__ == "__main__":
    run(app, "python -m gpu.compare_fla")
