"""Several processes, one a GPU, as torchrun starts them: joining them, sharing a model out, gathering its weights.

    torchrun --nproc-per-node 2 -m gpu train
    torchrun --nproc-per-node 2 -m gpu.check_processes

The first process alone reads and writes files and prints. DistributedDataParallel keeps a whole model on every device and
shares out the batch. FSDP2 shares out parameters, gradients and optimiser states too, and gathers one layer's parameters at
a time. The text itself can be shared out with `gpu.parallel.sequence`, under either. `gpu.parallel.strategies` makes a training run
of these. Some of torch is imported where it is used, for that takes seconds, which one process alone need not wait.
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
    """Join the processes that torchrun started, and leave them at the end; gives this process's torch device.

    kind: "cuda", where process r of a machine takes GPU r and they talk through NCCL, or "cpu", through gloo; by default
    cuda where there is a GPU. options: for `torch.distributed.init_process_group`, such as timeout.

    Raises ValueError where torchrun did not start this process, or for more processes on a machine than it has GPUs.
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
    """`processes` where torchrun started this one, else nothing to join; gives the torch device to compute on.

    Raises ValueError as `processes`, or for a device other than cpu and cuda: each process is given its own GPU.
    """
    if not launched():
        yield device
        return
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda under torchrun, which gives each process a GPU, got {device!r}")
    with processes(device) as own:
        yield own


def is_first():
    """Whether this process is the one that reads and writes files and prints: rank 0, or the only one."""
    if dist.is_initialized():
        return dist.get_rank() == 0
    return not launched() or os.environ["RANK"] == "0"


def on_first(function, *arguments):
    """What function(*arguments) returns or raises on the first process, which alone calls it, on every process."""
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
    """The largest of the processes' numbers, on each."""
    if not dist.is_initialized():
        return number
    most = torch.tensor(number, dtype=torch.float64, device=_own_device())
    dist.all_reduce(most, dist.ReduceOp.MAX)
    return most.item()


def _own_device():
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def replicate(model, device):
    """The model on this process's device, in DistributedDataParallel: gradients become their mean over the processes."""
    return DistributedDataParallel(model.to(device), device_ids=[device.index] if device.type == "cuda" else None)


def shard(model, device, **options):
    """A model of `gpu.models.build` with its parameters shared out over the processes by FSDP2; the model itself is changed.

    Each layer is gathered when it is computed and let go after, forward and backward; embedding, last norm and head are
    gathered together for the whole pass. Give the model on the CPU: it goes to the device layer by layer, each process
    keeping its share, so it need not fit there. Gradients become their mean over the processes. Make the optimiser after
    this. options: for `torch.distributed.fsdp.fully_shard`, such as mp_policy.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    options = {"mesh": init_device_mesh(device.type, (dist.get_world_size(),))} | options
    # Logits are a view of a product of matrices; FSDP warns of changes to them in place, which nobody here makes.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    for layer in model.layers:
        fully_shard(layer, **options)
    return fully_shard(model, **options)


def mean_over_processes(value):
    """The mean of a tensor over all processes, on each; what a loss to log needs."""
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def whole(tensor):
    """A tensor that FSDP may hold in parts, whole; all processes must call it."""
    return tensor.full_tensor() if _in_parts(tensor) else tensor


def held(tensor):
    """The part of a tensor that this process holds: all of it, unless FSDP shares it out."""
    return tensor.to_local() if _in_parts(tensor) else tensor


def spread(tensor, like):
    """The inverse of `whole`: the first process's tensor on every process, as `like` is held; elsewhere it may be None."""
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
    """Whether a tensor is a DTensor, told by its method."""
    return hasattr(tensor, "full_tensor")
