"""Functions run in several processes at once, joined by gloo as torchrun would join them."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import timedelta

import torch
import torch.distributed as dist

# A process that has imported torch once and forks the others: they start in a moment, and no thread is forked.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch.distributed.fsdp"])


def in_processes(size, function, *arguments, join=True):
    """[function(*arguments) of rank 0, of rank 1, ...]; the first error of a process is raised here.

    join: whether the processes form their group before; else the function finds torchrun's environment and does so.
    """
    # The store picks a free port and keeps it, as torchrun's does; ranks come as its clients.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with ProcessPoolExecutor(size, mp_context=CONTEXT) as pool:
        tasks = [pool.submit(_work, rank, size, store.port, join, function, arguments) for rank in range(size)]
        for task in as_completed(tasks, timeout=120):
            task.result()  # the first to fail says why; the others fail for want of it
        return [task.result() for task in tasks]


def _work(rank, size, port, join, function, arguments):
    os.environ.update(
        RANK=f"{rank}", LOCAL_RANK=f"{rank}", WORLD_SIZE=f"{size}", MASTER_ADDR="127.0.0.1", MASTER_PORT=f"{port}",
        TORCHELASTIC_USE_AGENT_STORE="True",
    )  # fmt: skip
    torch.set_num_threads(1)
    if join:
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    try:
        return function(*arguments)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
