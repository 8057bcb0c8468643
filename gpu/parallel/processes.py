"""Several processes, one for each GPU, as torchrun starts them: join them, distribute a model, gather its weights.

    torchrun --nproc-per-node 2 -m gpu train
    torchrun --nproc-per-node 2 -m gpu.check_processes

Only the first process reads and writes files and prints. DistributedDataParallel keeps a whole model on every device and
divides the batch. FSDP2 also divides parameters, gradients and optimiser states, and gathers one layer's parameters at a
time. With either, `gpu.parallel.sequence` can divide the text itself. `gpu.parallel.strategies` uses these for training
runs. Parts of torch that take seconds to import are imported where several processes need them.
"""

import os
import warnings
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from .launch import launched


@contextmanager
def processes(kind=None, **options):
    """Join the processes that torchrun started, and leave them at the end; yields this process's torch device.

    kind: "cuda" (NCCL, process r of a machine uses GPU r) or "cpu" (gloo); by default cuda if there is a GPU. options: for
    `torch.distributed.init_process_group`, such as timeout.

    Raises ValueError if torchrun did not start this process, or started more on a machine than it has GPUs.
    """
    if not launched():
        raise ValueError("processes must be started by torchrun, as in: torchrun --nproc-per-node 2 -m gpu ...")
    kind = kind or ("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device("cpu")
    if kind == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        if here > torch.cuda.device_count():
            raise ValueError(f"nproc-per-node must be at most {torch.cuda.device_count()}, the GPUs here, got {here}")
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device, **options)
    else:
        dist.init_process_group("gloo", **options)
    try:
        yield device
    finally:
        dist.destroy_process_group()


@contextmanager
def joined(device):
    """`processes` if torchrun started this one, else nothing to join; yields the torch device to compute on.

    Raises ValueError as `processes`, or for a device other than cpu and cuda, because each process gets its own GPU.
    """
    if not launched():
        yield device
        return
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda under torchrun, which gives each process a GPU, got {device!r}")
    with processes(device) as own:
        yield own


def is_first():
    """True for the process that reads and writes files and prints: rank 0, or the only one."""
    if dist.is_initialized():
        return dist.get_rank() == 0
    return not launched() or os.environ["RANK"] == "0"


def on_first(function, *arguments):
    """Call function(*arguments) on the first process only; every process returns or raises the same."""
    if not dist.is_initialized():
        return function(*arguments)
    answer, error = None, None
    if is_first():
        try:
            answer = function(*arguments)
        except Exception as raised:
            error = raised
    shared = [answer, error]
    dist.broadcast_object_list(shared)
    if shared[1] is not None:
        raise shared[1]
    return answer if is_first() else shared[0]


def largest(number):
    """The largest of the processes' numbers, on every process."""
    if not dist.is_initialized():
        return number
    most = torch.tensor(number, dtype=torch.float64, device=_own_device())
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return most.item()


def _own_device():
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def replicate(model, device):
    """The model on this process's device, in DistributedDataParallel: gradients are averaged over the processes."""
    return DistributedDataParallel(model.to(device), device_ids=[device.index] if device.type == "cuda" else None)


def shard(model, device, **options):
    """A model of `gpu.models.build` with its parameters divided among the processes by FSDP2; it is changed in place.

    Each layer is gathered when it is computed and freed after, forward and backward; embedding, last norm and head are
    gathered together for the whole pass. Pass the model on the CPU: it moves to the device layer by layer, each process
    keeping its share, so it need not fit there. Gradients are averaged over the processes. Create the optimiser after this.
    options: for `torch.distributed.fsdp.fully_shard`, such as mp_policy.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    options = {"mesh": init_device_mesh(device.type, (dist.get_world_size(),))} | options
    # Logits are a view of a product of matrices; FSDP warns of changes to them in place, of which there are none.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    for layer in model.layers:
        fully_shard(layer, **options)
    return fully_shard(model, **options)


def mean_over_processes(value):
    """The mean of a tensor over all processes, on every process; for a loss to log."""
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def whole(tensor):
    """The whole of a tensor that FSDP may have divided; all processes must call it."""
    return tensor.full_tensor() if _in_parts(tensor) else tensor


def held(tensor):
    """The part of a tensor that this process holds: all of it, unless FSDP divided it."""
    return tensor.to_local() if _in_parts(tensor) else tensor


def spread(tensor, like):
    """The inverse of `whole`: the first process's tensor, distributed as `like` is; other processes may pass None."""
    if tensor is None:
        tensor = torch.empty(like.shape, dtype=like.dtype)
    tensor = tensor.to(like.device, like.dtype)
    if _in_parts(like):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor, like.device_mesh, like.placements)
    if dist.is_initialized():
        dist.broadcast(tensor, 0)
    return tensor


def gather_weights(model):
    """{name: CPU tensor} of a whole model that `replicate` or `shard` returned, on the first process; {} elsewhere.

    All processes must call it.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return weights if is_first() else {}


def _in_parts(tensor):
    """True for a DTensor, recognised by its method, without importing it."""
    return hasattr(tensor, "full_tensor")
