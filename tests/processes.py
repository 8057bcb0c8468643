"""Functions run in several processes at once, joined by gloo as torchrun would join them."""

import multiprocessing
import os
import traceback
from datetime import timedelta

import torch
import torch.distributed as dist

# A process that has imported what is slow once and forks the others: they start in a moment, and no thread is forked.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch.distributed.fsdp", "torch._dynamo", "hypothesis", "array_api_strict"])


def in_processes(size, function, *arguments, join=True):
    """[function(*arguments) of rank 0, of rank 1, ...]; the first to fail is an AssertionError here and ends the others.

    join: whether the processes form their group before; else the function finds torchrun's environment and does so.
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
            rank, error, results[rank] = answers.get(timeout=120)
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
