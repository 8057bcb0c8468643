"""Functions in several processes at once, joined by gloo as torchrun would join them; and the runs of a study, forked."""

import contextlib
import io
import multiprocessing
import os
import runpy
import subprocess
import sys
import traceback
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from runs import start_of_a_figure

from refimpl.training.stopping import HELD

# A process that has imported what is slow once and forks the others: they start in a moment, and no thread is forked.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["torch.distributed.fsdp", "torch._dynamo", "hypothesis", "array_api_strict", "matplotlib.backends.backend_agg", "typer",
     "gpu.training.run", "gpu.training.commands"]
)  # fmt: skip


def in_processes(size, function, *arguments, join=True, seconds=120):
    """[function(*arguments) of rank 0, of rank 1, ...]; the first to fail is an AssertionError here and ends the others.

    join: whether the processes form their group before; else the function finds torchrun's environment and does so.
    seconds: how long one may take longer than another.
    """
    # The store picks a free port and keeps it, as torchrun's does; ranks come as its clients.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    answers, results = CONTEXT.Queue(), {}
    workers = [
        CONTEXT.Process(target=_work, args=(answers, rank, size, store.port, join, function, arguments), daemon=True)
        for rank in range(size)
    ]
    for worker in workers:
        worker.start()
    try:
        while len(results) < size:
            rank, error, results[rank] = answers.get(timeout=seconds)
            assert error is None, f"process {rank} of {size} failed:\n{error}"
        for worker in workers:
            worker.join(timeout=10)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    return [results[rank] for rank in range(size)]


def _work(answers, rank, size, port, join, function, arguments):
    os.environ.update(
        RANK=f"{rank}", LOCAL_RANK=f"{rank}", WORLD_SIZE=f"{size}", MASTER_ADDR="127.0.0.1", MASTER_PORT=f"{port}",
        TORCHELASTIC_USE_AGENT_STORE="True",
    )  # fmt: skip
    torch.set_num_threads(1)
    pytest.MonkeyPatch().setattr("gpu.training.run.save_figure", start_of_a_figure)
    if join:
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    try:
        answers.put((rank, None, function(*arguments)))
    except BaseException:
        answers.put((rank, traceback.format_exc(), None))
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextlib.contextmanager
def forked_runs(real=0):
    """Studies and sweeps fork their runs, which saves the seconds of importing torch; the first `real` are started as ever."""
    first = iter([subprocess.Popen] * real)
    start = SimpleNamespace(
        Popen=lambda *args, **how: next(first, _Forked)(*args, **how), PIPE=subprocess.PIPE, STDOUT=subprocess.STDOUT
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpu.training.study.subprocess", start)
        yield


class _Forked:
    """A program as `subprocess.Popen` would start it, as far as a study uses that."""

    def __init__(self, command, stdin, stdout, stderr, process_group, env):
        assert (stdin, stderr, process_group) == (subprocess.PIPE, subprocess.STDOUT, 0)
        words = command[command.index("-m") + 1 :]
        self.stdin = io.BytesIO()  # a daemon ends with the tests anyway, so nothing watches this one
        self.process = CONTEXT.Process(
            target=_program, args=(words, stdout.name, {name: env[name] for name in env.keys() - {HELD}}), daemon=True
        )
        self.process.start()

    def poll(self):
        return self.process.exitcode

    def terminate(self):
        self.process.terminate()

    def wait(self):
        self.process.join()


def _program(words, output, env):
    """python -m words..., with its output at the end of a file."""
    os.environ.update(env)
    torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    with open(output, "ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.argv = words
    pytest.MonkeyPatch().setattr("gpu.training.run.save_figure", start_of_a_figure)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
