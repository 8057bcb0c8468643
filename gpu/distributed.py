"""Several processes, one a GPU, as torchrun starts them: joining them, sharing a model out, gathering its weights.

    torchrun --nproc-per-node 2 -m gpu.check_processes

DistributedDataParallel keeps a whole model on every device and shares out the batch. FSDP2 shares out parameters,
gradients and optimiser states too, and gathers one layer's parameters at a time. The text itself can be shared out with
`gpu.sequence_parallel`, under either.
"""

import os
import warnings
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from refimpl.weights import save_params, unflatten


def launched():
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def processes(kind=None):
    """Join the processes that torchrun started, and leave them at the end; gives this process's torch device.

    kind: "cuda", where process r of a machine takes GPU r and they talk through NCCL, or "cpu", through gloo; by default
    cuda where there is a GPU.

    Raises ValueError where torchrun did not start this process, or for more processes on a machine than it has GPUs.
    """
    if not launched():
        raise ValueError("processes must be started by torchrun, as in: torchrun --nproc-per-node 2 -m gpu ...")
    kind = kind or ("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device("cpu")
    if kind == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if device.index >= torch.cuda.device_count():
            raise ValueError(
                f"nproc-per-node must be at most {torch.cuda.device_count()}, the GPUs here, got process {device.index}"
            )
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def is_first():
    """Whether this process is the one that writes files and prints: rank 0, or the only one."""
    return not dist.is_initialized() or dist.get_rank() == 0


def replicate(model, device):
    """The model on this process's device, in DistributedDataParallel: gradients become their mean over the processes."""
    return DistributedDataParallel(model.to(device), device_ids=[device.index] if device.type == "cuda" else None)


def shard(model, device, **options):
    """A `gpu.module.RetNet` with its parameters shared out over the processes by FSDP2; the model itself is changed.

    Each layer is gathered when it is computed and let go after, forward and backward; embedding, last norm and head are
    gathered together for the whole pass. Give the model on the CPU: it goes to the device layer by layer, each process
    keeping its share, so it need not fit there. Gradients become their mean over the processes. Make the optimiser after
    this. options: for `torch.distributed.fsdp.fully_shard`, such as mp_policy.
    """
    options = {"mesh": init_device_mesh(device.type, (dist.get_world_size(),))} | options
    # Logits are a view of a product of matrices; FSDP warns of changes to them in place, which nobody here makes.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    for layer in model.layers:
        fully_shard(layer, **options)
    return fully_shard(model, **options)


def own_rows(batch):
    """This process's share of a batch (B, ...), an array of NumPy or torch; ValueError if B does not divide evenly."""
    rank, size = dist.get_rank(), dist.get_world_size()
    if len(batch) % size:
        raise ValueError(f"batch must hold a multiple of {size} sequences, one part a process, got {len(batch)}")
    share = len(batch) // size
    return batch[rank * share : (rank + 1) * share]


def mean_over_processes(value):
    """The mean of a number over all processes, on each; what a loss to log needs."""
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def gather_weights(model):
    """{name: CPU tensor} of a whole model that `replicate` or `shard` returned, on the first process; {} elsewhere.

    All processes must call it.
    """
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return weights if is_first() else {}


def save(model, path):
    """Write the whole model as `RetNet.save` does, from the first process; all must call it."""
    config = getattr(model, "module", model).config
    weights = gather_weights(model)
    if weights:
        params = {name: weight.numpy() for name, weight in weights.items()}
        save_params(path, unflatten(params, config), config)
    dist.barrier()  # so that no process reads it before it is there
