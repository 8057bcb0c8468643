"""A training step on torch: forward and backward in parts, clipping, AdamW."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from refimpl.training.tasks import IGNORED

from ..kernels.registry import RETENTIONS
from ..numerics import autocast, layer_caller, record
from ..parallel.strategies import OneProcess


class Trainer:
    """The functions `step`, `loss`, `predict` and `explain` that `refimpl.training.loop.fit` needs, for a model of a `RunConfig`.

    They take whole batches, and their results are those of whole batches. device: where to train, by default where the model
    is. parallelism: what `gpu.parallel.strategies.parallelism` returned; every process then calls each function with the
    same arguments. ValueError: config.graph asks for what this device, or several processes, can't do.
    """

    def __init__(self, model, config, device=None, parallelism=None):
        self.model, self.config, self.parallelism = model, config, parallelism or OneProcess()
        self.device = next(model.parameters()).device if device is None else torch.device(device)
        self.called = self.parallelism.share(model, self.device)
        self.parameters = dict(model.named_parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
        )
        self.how = {"layer": layer_caller(config)}
        if config.model == "retnet":
            self.how["retention"] = self.parallelism.retention(RETENTIONS[config.retention](config.chunk_size))
        self.norms = {}  # of each parameter's gradient, at the last step and at the last whose gradients were finite
        self.passes = self._passes
        if config.graph:
            if self.device.type != "cuda":
                raise ValueError(f"graph must be False on {self.device}: a CUDA graph needs an NVIDIA GPU")
            if self.parallelism.size > 1:
                raise ValueError(f"graph must be False with {self.parallelism.size} processes: it records one alone")
            self.passes = Recorded(self._passes, self.parameters.values(), self.device)

    def step(self, inputs, targets, learning_rate):
        """One update, skipped if loss or gradient is not finite; returns the loss before it and the norm of the gradient."""
        self.optimizer.param_groups[0]["lr"] = learning_rate
        value, norms = self.passes(inputs, targets)
        total = torch.linalg.vector_norm(norms)
        # The only time that a step waits for the GPU.
        value, norm = torch.stack((value, total.to(value.dtype))).tolist()
        self.norms["that step"] = norms
        if math.isfinite(value) and math.isfinite(norm):
            self.norms["the step before"] = norms
            torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), self.config.clip, total)
            self.optimizer.step()
        return value, norm

    def _passes(self, inputs, targets):
        """Loss of a batch, and the norm of each gradient, which is left in the parameters."""
        self.optimizer.zero_grad()
        value, parts = 0.0, list(self._parts(inputs, targets))
        for number, part in enumerate(parts, 1):
            with self.parallelism.accumulating(self.called, last=number == len(parts)):
                bits = self._bits(*part) / self.config.accumulation
                bits.backward()
            value = value + bits.detach()
        return self.parallelism.mean(value), self.parallelism.norms(
            [weight.grad for weight in self.parameters.values()]
        )

    @torch.no_grad()
    def loss(self, inputs, targets):
        """Bits a token."""
        total = sum(self._bits(*part) * part[1].size for part in self._parts(inputs, targets))
        return self.parallelism.mean(total).item() / targets.size

    @torch.no_grad()
    def predict(self, inputs):
        """The likeliest token after each of the tokens (B, T), an array like it; every process computes all of it."""
        tokens = []
        for part, _ in self._parts(inputs, inputs):
            with autocast(self.config, self.device):
                tokens.append(self.called(torch.from_numpy(part).to(self.device), **self.how)[0].argmax(dim=-1))
        return torch.cat(tokens).cpu().numpy()

    def explain(self):
        """A sentence that names the parameter with the largest gradient; if all are NaN, that of the step before."""
        for when, norms in self.norms.items():
            if not norms.isnan().all() or len(self.norms) == 1:
                worst = int(norms.nan_to_num(nan=torch.inf).argmax())
                name, norm = list(self.parameters)[worst], norms[worst].item()
                return f"the largest gradient of {when} was that of {name}, of norm {norm:.3g}"
        return "no step was taken"

    def _parts(self, inputs, targets):
        count = min(self.config.accumulation, len(inputs))
        if count == 1:  # also tensors, which a recorded step has
            return [(inputs, targets)]
        return zip(np.array_split(inputs, count), np.array_split(targets, count), strict=True)

    def _bits(self, inputs, targets):
        """Bits a token of one part of a batch; with several processes, the mean over them is."""
        own = self.parallelism.own(inputs, targets, self.config)
        with autocast(self.config, self.device):
            logits, _ = self.called(torch.as_tensor(own.inputs, device=self.device), **self.how, **own.how)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        targets = torch.as_tensor(own.targets, device=self.device)
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        return nats * own.weight / math.log(2)


class Recorded:
    """`Trainer._passes` as a CUDA graph for each shape of batches: one launch replaces those of all its kernels."""

    def __init__(self, passes, parameters, device):
        self.passes, self.parameters, self.device, self.graphs = passes, list(parameters), device, {}

    def __call__(self, inputs, targets):
        """As `Trainer._passes`."""
        batch = [torch.from_numpy(tokens) for tokens in (inputs, targets)]
        if inputs.shape not in self.graphs:
            kept = [tokens.to(self.device) for tokens in batch]
            graph, results = record(lambda: self.passes(*kept), self.device)
            self.graphs[inputs.shape] = graph, kept, results, [weight.grad for weight in self.parameters]
        graph, kept, results, grads = self.graphs[inputs.shape]
        for array, tokens in zip(kept, batch, strict=True):
            array.copy_(tokens)
        graph.replay()
        for weight, grad in zip(self.parameters, grads, strict=True):
            weight.grad = grad
        return tuple(result.clone() for result in results)  # the next replay writes there
