"""A training step whose passes are a CUDA graph."""

import numpy as np
import pytest
import torch

from gpu.models.build import build
from gpu.training import step
from gpu.training.config import RunConfig
from gpu.training.step import Recorded, Trainer

SMALL = {"dim": 32, "num_heads": 2, "num_layers": 2, "ffn_dim": 48, "batch_size": 4, "window": 16, "vocab_size": 256}
ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")


def batches(count):
    """Of two lengths in turn, as a task has them."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (2, 4, (16, 12)[number % 2])) for number in range(count)]


def losses(trainer, count=6):
    return [trainer.step(*batch, 1e-3) for batch in batches(count)]


class Again:
    """What a graph does, done by calling again: its results and gradients are written where the first call wrote them."""

    def __init__(self, call, parameters):
        self.call, self.parameters = call, parameters
        self.results, self.grads = call(), [weight.grad for weight in parameters]

    def replay(self):
        for kept, result in zip(self.results, self.call(), strict=True):
            kept.copy_(result)
        for kept, weight in zip(self.grads, self.parameters, strict=True):
            kept.copy_(weight.grad)
            weight.grad = None


def test_a_recorded_step_takes_each_batch_and_keeps_its_results(monkeypatch):
    config = RunConfig(**SMALL)
    plain, recorded = (Trainer(build(config), config) for _ in range(2))

    def record(call, device):
        graph = Again(call, list(recorded.parameters.values()))
        return graph, graph.results

    monkeypatch.setattr(step, "record", record)
    recorded.passes = Recorded(recorded._passes, recorded.parameters.values(), "cpu")
    assert losses(recorded) == losses(plain)
    before = recorded.norms["that step"].clone()
    recorded.passes(*batches(1)[0])
    assert torch.equal(recorded.norms["that step"], before)


def test_a_graph_is_refused_where_there_is_none():
    config = RunConfig(graph=True, **SMALL)
    with pytest.raises(ValueError, match="graph must be False on cpu: a CUDA graph needs an NVIDIA GPU"):
        Trainer(build(config), config)


@ON_GPU
@pytest.mark.parametrize(
    "change", [{}, {"model": "transformer"}, {"compile": True, "precision": "bfloat16"}, {"model": "gated"}], ids=str
)
def test_losses_of_a_graph_are_those_without(change):
    plain, recorded = (
        losses(Trainer(build(config).cuda(), config))
        for config in (RunConfig(**SMALL | change), RunConfig(graph=True, **SMALL | change))
    )
    assert recorded == plain
