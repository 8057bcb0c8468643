"""How processes divide a training run: by the windows of a batch, by parameters, or by the text itself.

Every process draws the same batches and takes its own part of each; the log is of the whole batch. So the losses are those of
one process, to rounding, for every strategy and number of processes.
"""

import functools
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from .processes import gather_weights, held, mean_over_processes, replicate, shard


class Own(NamedTuple):
    """A process's part of inputs and targets (B, T), and further arguments for the model.

    weight: the mean over the processes of weight times the mean loss of the part is the mean loss of the batch.
    """

    inputs: np.ndarray
    targets: np.ndarray
    how: dict
    weight: float


class OneProcess:
    """A run on one process; the classes below override what several processes do differently."""

    rank, size = 0, 1  # the number of this process, and of all

    def share(self, model, device):
        """The callable model on a device; its parameters are those of `model` after this call."""
        return model.to(device)

    def own(self, inputs, targets, config):
        """This process's part of a batch, as `Own`."""
        return Own(inputs, targets, {}, 1.0)

    def retention(self, retention):
        """The retention that computes a process's part."""
        return retention

    def accumulating(self, called, last):
        """The context of one of several passes whose gradients add up."""
        return nullcontext()

    def mean(self, value):
        """The mean of a tensor over the processes."""
        return value

    def norms(self, gradients):
        """The norm of each gradient, whole, in one tensor."""
        return torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])

    def whole_model(self, model, build):
        """The whole model on the first process; on the others None if it would have to be gathered.

        build: makes another model of the same kind. Every process must call it.
        """
        return model


class Replicated(OneProcess):
    """Each process has the model and takes some rows of every batch; DistributedDataParallel averages the gradients."""

    def __init__(self, config):
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.check(config)

    def check(self, config):
        """Raise ValueError if a batch of a `RunConfig` does not divide among the processes."""
        if config.batch_size % (config.accumulation * self.size):
            raise ValueError(
                f"batch_size must be a multiple of accumulation x processes = {config.accumulation} x {self.size}, "
                f"got {config.batch_size}"
            )

    def share(self, model, device):
        """In DistributedDataParallel."""
        return replicate(model, device)

    def own(self, inputs, targets, config):
        """Some of the rows."""
        first, stop = (len(inputs) * rank // self.size for rank in (self.rank, self.rank + 1))
        rows, weight = slice(first, stop), (stop - first) * self.size / len(inputs)
        if not weight:  # too few windows for this process; but FSDP needs every process to compute
            rows = slice(0, 1)
        return Own(inputs[rows], targets[rows], {}, weight)

    def accumulating(self, called, last):
        """Gradients are averaged after the last pass only."""
        return nullcontext() if last else called.no_sync()

    def mean(self, value):
        """By an all_reduce."""
        return mean_over_processes(value)


class Sharded(Replicated):
    """As `Replicated`, with parameters, gradients and moments also divided, by FSDP2."""

    def share(self, model, device):
        """Divided by FSDP2."""
        return shard(model, device)

    def accumulating(self, called, last):
        """Gradients are averaged after every pass and summed in parts, because whole ones might not fit."""
        return nullcontext()

    def norms(self, gradients):
        """From the norms of the parts."""
        norms = super().norms([held(gradient) for gradient in gradients])
        squares = norms.double().square()
        dist.all_reduce(squares)
        return squares.sqrt().to(norms.dtype)

    def whole_model(self, model, build):
        """Gathered on the first."""
        weights = gather_weights(model)
        if not weights:
            return None
        alone = build()
        alone.load_state_dict(weights)
        return alone


class SequenceSplit(Replicated):
    """Each process has the model and takes a slice of every window; it sends one state a layer to the others."""

    def check(self, config):
        """A window must have a token for each process."""
        if config.window < self.size:
            raise ValueError(f"window must be at least {self.size}, a token for each process, got {config.window}")

    def own(self, inputs, targets, config):
        """A slice of all rows, and the position where it starts."""
        from .sequence import own_slice  # here, because it imports torch's compiler, which takes a second

        (inputs, state), whole = own_slice(inputs, config), targets.shape[1]
        targets, _ = own_slice(targets, config)
        return Own(inputs, targets, {"state": state}, targets.shape[1] * self.size / whole)

    def retention(self, retention):
        """`retention_sequence_parallel` of it."""
        from .sequence import retention_sequence_parallel

        return functools.partial(retention_sequence_parallel, retention=retention)


def parallelism(config):
    """The strategy of a `RunConfig`: a `OneProcess`, or an instance of a class after it.

    Raises ValueError for a batch that does not divide, or for a parallelism without torchrun.
    """
    if dist.is_initialized():
        return {"data": Replicated, "sharded": Sharded, "sequence": SequenceSplit}[config.parallelism](config)
    if config.parallelism != "data":
        raise ValueError(
            f"parallelism must be 'data' for one process, got {config.parallelism!r}: start several, as in "
            "torchrun --nproc-per-node 2 -m gpu train"
        )
    return OneProcess()
