"""`torchrun --nproc-per-node 2 -m gpu.check_processes`; it lives in `gpu.bench.processes`."""

from refimpl.cli import one_command, run

from .bench.commands import check_processes

app = one_command(check_processes)

if __name__ == "__main__":
    run(app, "python -m gpu.check_processes")
