"""Mixed precision, recomputing, compiling and accumulation change what a step costs and not what it learns."""

import dataclasses
import functools
import operator
import os

import numpy as np
import pytest
import torch
from runs import losses

import refimpl
from gpu.models import operations
from gpu.models.build import build
from gpu.models.operations import rms_norm
from gpu.models.retnet import Layer, RetNet
from gpu.numerics import layer_caller, numerics
from gpu.training.config import RunConfig
from gpu.training.step import Trainer
from refimpl import layers
from refimpl.libraries import values_trusted
from refimpl.tree import flatten, map_tree

SMALL = {"dim": 32, "num_layers": 3, "num_heads": 2, "batch_size": 4, "window": 24}
RNG = np.random.default_rng
TOKENS = RNG(0).integers(0, 256, (4, 25))
BATCH = TOKENS[:, :-1], TOKENS[:, 1:]


def relative(got, want):
    """Relative root mean square of a difference."""
    got, want = (np.asarray(x.detach().float() if isinstance(x, torch.Tensor) else x, np.float64) for x in (got, want))
    return np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2))


def test_autocast_leaves_retention_state_norms_and_the_residual_stream_in_float32():
    model, seen = RetNet(RunConfig(**SMALL).retnet, seed=1), []

    def spy(q, k, v, gamma, state=None):
        seen.append((q.dtype, v.dtype, gamma.dtype, torch.is_autocast_enabled("cpu")))
        return refimpl.retention_chunkwise(q, k, v, gamma, state)

    hooks = [layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype)) for layer in model.layers]
    with torch.autocast("cpu", torch.bfloat16):
        logits, state = model(torch.from_numpy(BATCH[0]), retention=spy)
    [hook.remove() for hook in hooks]
    assert seen == [torch.float32, (torch.bfloat16, torch.bfloat16, torch.float64, False)] * 3
    assert logits.dtype == torch.bfloat16
    assert {layer.dtype for layer in state.layers} == {torch.float32}
    logits.float().square().mean().backward()
    assert {weight.grad.dtype for weight in model.parameters()} == {torch.float32}


def test_autocast_rounds_a_norm_once():
    """A float32 norm is rounded as its products would be; halves are normed in float32, and float64 stays."""
    x, weight = torch.from_numpy(RNG(5).normal(size=(2, 3, 64))), torch.from_numpy(RNG(6).normal(size=64))
    for dtype, wanted in ((torch.float64, torch.float64), (torch.float32, torch.bfloat16), (torch.float16,) * 2):
        plain = rms_norm(x.to(dtype), weight.to(dtype))
        with torch.autocast("cpu", torch.bfloat16):
            got = rms_norm(x.to(dtype), weight.to(dtype))
            mixed = rms_norm(x.to(dtype), weight.float())
        assert plain.dtype == dtype
        assert got.dtype == wanted
        assert torch.equal(got, plain.to(wanted))
        assert relative(mixed, rms_norm(x, weight)) < 3e-3
    half = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        got = rms_norm(half)
    assert torch.equal(got, rms_norm(half.double()).float().bfloat16())


def test_the_reference_s_norm_is_float32_under_autocast():
    x = 60 * torch.from_numpy(RNG(5).normal(size=(2, 3, 64))).float()
    for narrow in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", narrow):
            got = layers.rms_norm(x)
        assert torch.equal(got, layers.rms_norm(x))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recompute", [False, True])
def test_gated_norms_computed_again_are_the_same(precision, recompute, monkeypatch):
    """To the bit, in losses and norms of gradients, also within layers that are computed again."""
    config, calls, found = RunConfig(precision=precision, recompute=recompute, **SMALL), [], []
    norm = layers.gated_norm
    monkeypatch.setattr(layers, "gated_norm", lambda *args, **how: calls.append(1) or norm(*args, **how))
    for large in (operations.LARGE, 0):
        monkeypatch.setattr(operations, "LARGE", large)
        found.append(losses(config, BATCH, 1e-3, 3))
        calls.append(0)
    assert found[0] == found[1]
    plain = calls.index(0)
    assert plain == 9 * (1 + recompute)
    assert sum(calls[plain:]) == 9 * (2 + recompute)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")  # of array_api_compat
def test_a_compiled_training_step_projects_queries_and_keys_by_one_product():
    """With the same results and gradients; without gradients, as in decoding, no weight is copied."""
    x, *weights = (torch.from_numpy(RNG(1).standard_normal(shape)) for shape in ((2, 5, 8), (8, 6), (8, 10)))
    weights, products = [each.requires_grad_() for each in weights], []

    def backend(graph, _):
        products.append(sum(node.target in (torch.matmul, operator.matmul) for node in graph.graph.nodes))
        return graph.forward

    compiled = torch.compile(operations.linears, backend=backend, fullgraph=True)
    want, got = operations.linears(x, *weights), compiled(x, *weights)
    for mine, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(mine, theirs)
    for mine, theirs in zip(
        *(torch.autograd.grad(sum(y.sum() for y in ys), weights) for ys in (got, want)), strict=True
    ):
        torch.testing.assert_close(mine, theirs)
    with torch.no_grad():
        compiled(x, *weights)
    assert products == [1, 2]


def test_autocast_is_close_to_the_truth():
    """Logits and the last state, against float64, at weights three times those of the initialisation."""
    config = RunConfig(**SMALL | {"num_layers": 6}).retnet
    params = refimpl.init_params(config, 1, np.float64)
    params = map_tree(lambda name, x: 3 * x if x.ndim == 2 else x, params)  # further from linear than at the beginning
    want, end = refimpl.forward(params, BATCH[0], config)
    model = RetNet(config)
    model.load_state_dict({name: torch.from_numpy(x) for name, x in flatten(params).items()})
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits, state = model(torch.from_numpy(BATCH[0]))
    assert 1e-3 < relative(logits, want) < 0.04
    assert relative(state.layers[-1], end.layers[-1]) < 0.04


def test_parameters_in_bfloat16_would_not_learn():
    """Why parameters stay float32: a step of AdamW is lost where it is below half the last bit of the weight."""
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        config = RunConfig(**SMALL, weight_decay=0.0)
        trainer = Trainer(RetNet(config.retnet, dtype=dtype), config)
        before = [weight.detach().clone() for weight in trainer.model.parameters()]
        trainer.step(*BATCH, 1e-4)
        weights = zip(trainer.model.parameters(), before, strict=True)
        moved[dtype] = np.mean([(weight != old).double().mean().item() for weight, old in weights])
    assert moved[torch.float32] > 0.85  # the rest are bytes that the batch does not hold
    assert moved[torch.bfloat16] < 0.5


@functools.cache
def plain_losses(model):
    return np.array(losses(RunConfig(model=model, **SMALL), BATCH, 1e-3, 8))


@pytest.mark.parametrize("model", ["retnet", "transformer", "linear", "gru"])
@pytest.mark.parametrize("change", [{"recompute": True}, {"accumulation": 4}, {"precision": "bfloat16"}])
def test_a_step_is_the_same_step(model, change):
    """Losses of eight steps: to the bit when layers are recomputed, to rounding when the batch is split."""
    plain, changed = plain_losses(model), np.array(losses(RunConfig(model=model, **SMALL | change), BATCH, 1e-3, 8))
    assert plain[-1, 0] < plain[0, 0] - 1
    if "recompute" in change:
        assert np.array_equal(changed, plain)
    else:
        np.testing.assert_allclose(changed, plain, rtol=0.02 if "precision" in change else 1e-4)
        assert not np.array_equal(changed, plain)


@pytest.mark.parametrize("model", ["retnet", "transformer"])
def test_recomputing_keeps_little_and_computes_layers_twice(model, monkeypatch):
    kept, calls = {}, {}
    for recompute in (False, True):
        config = RunConfig(model=model, recompute=recompute, **SMALL)
        trainer = Trainer(build(config), config)
        count = calls[recompute] = []
        for layer in trainer.model.layers:
            layer.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        storages = {}

        def pack(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trainer._bits(*BATCH).backward()
        kept[recompute] = sum(storage.nbytes() for storage in storages.values())
    assert (len(calls[False]), len(calls[True])) == (3, 6)
    assert kept[True] < 0.5 * kept[False]


def test_chunkwise_runs_are_the_parallel_ones():
    parallel, chunkwise = RunConfig(**SMALL), RunConfig(**SMALL, retention="chunkwise", chunk_size=7)
    found = (losses(config, BATCH, 1e-3, 3) for config in (parallel, chunkwise))
    np.testing.assert_allclose(*([loss for loss, _ in each] for each in found), atol=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Dynamo explains what it does
@pytest.mark.parametrize(  # Dynamo takes seconds for each; large layers, and autocast, each once, and both together
    ("model", "large", "precision"),
    [("retnet", operations.LARGE, "float32"), ("retnet", 0, "bfloat16"),
     ("transformer", 0, "float32"), ("transformer", 0, "bfloat16")],
)  # fmt: skip
def test_one_compiled_graph_serves_all_layers(model, large, precision, monkeypatch):
    """Without a break and without compiling again: the check of gamma's values would break it."""
    monkeypatch.setattr(operations, "LARGE", large)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    config = RunConfig(model=model, precision=precision, **SMALL)
    trainer = Trainer(build(config), config)
    trainer.how["layer"] = layer_caller(dataclasses.replace(config, compile=True), backend)
    with values_trusted():
        got = trainer._bits(*BATCH)
        got.backward()
        again = trainer._bits(*BATCH)
    assert len(graphs) == 1
    assert again.item() == got.item()
    grads = [weight.grad.clone() for weight in trainer.model.parameters()]
    trainer.how.pop("layer")
    trainer.model.zero_grad()
    want = trainer._bits(*BATCH)
    want.backward()
    assert got.item() == pytest.approx(want.item(), rel=1e-6)
    for grad, weight in zip(grads, trainer.model.parameters(), strict=True):
        if precision == "float32":
            torch.testing.assert_close(grad, weight.grad, rtol=1e-4, atol=1e-7)
        else:  # one product for queries and keys rounds the sum of their gradients once, two products each round theirs
            assert relative(grad, weight.grad) < 1e-2


def test_a_gpu_s_settings_come_and_go(monkeypatch):
    """Set inside, for what a run asks, and put back even if the run breaks; on a CPU nothing is touched."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)

    def settings():
        return torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()

    plain = settings()
    seen = []

    def broken_run():
        with numerics(RunConfig(precision="bfloat16"), "cuda"):
            seen.append((*settings(), os.environ["CUBLAS_WORKSPACE_CONFIG"]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_run()
    assert seen == [(True, "high", ":4096:8")]
    assert settings() == plain == (False, "highest")
    with numerics(RunConfig(deterministic=False), "cuda"):
        assert settings() == plain
    with numerics(RunConfig(precision="bfloat16"), "cpu"):
        assert settings() == plain


def test_trust_is_of_values_alone_and_ends():
    model, wrong = RetNet(RunConfig(**SMALL).retnet), torch.tensor([[256]])
    one, gamma = np.ones((1, 1, 1, 1)), np.array([1.5])
    with values_trusted():
        assert refimpl.retention_step(one, one, one, gamma)[0].ravel() == [1.0]
        with pytest.raises(ValueError, match="gamma must have shape"):
            refimpl.retention_step(one, one, one, gamma[None])
        with pytest.raises(IndexError):  # torch's own: the check was skipped
            model(wrong)
        with pytest.raises(ValueError, match="tokens must have shape"):
            model(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"tokens must lie in \[0, 256\), got 256"):
        model(wrong)
    with pytest.raises(ValueError, match="gamma must lie in"):
        refimpl.retention_step(one, one, one, gamma)


def test_a_layer_is_the_block_of_the_reference():
    model = RetNet(RunConfig(**SMALL).retnet, seed=4)
    assert all(isinstance(layer, Layer) for layer in model.layers)
    called = []

    def layer(module, *args, **kwargs):
        called.append(module)
        return module(*args, **kwargs)

    got, _ = model(torch.from_numpy(BATCH[0]), layer=layer)
    assert called == list(model.layers)
    want, _ = refimpl.forward(model.params(), torch.from_numpy(BATCH[0]), model.config, operations=operations.TORCH)
    assert torch.equal(got, want)


def test_the_parameter_with_the_largest_gradient_is_named():
    config = RunConfig(**SMALL)
    trainer = Trainer(build(config), config)
    assert trainer.explain() == "no step was taken"
    before = {name: weight.detach().clone() for name, weight in trainer.parameters.items()}
    culprit = trainer.parameters["layers.1.ffn.w_2"]
    hook = culprit.register_hook(functools.partial(torch.mul, other=torch.nan))
    value, norm = trainer.step(*BATCH, 1e-3)
    assert np.isfinite(value)
    assert np.isnan(norm)
    assert trainer.explain() == "the largest gradient of that step was that of layers.1.ffn.w_2, of norm nan"
    for name, weight in trainer.parameters.items():
        assert torch.equal(weight, before[name])  # no update by a gradient that is not finite
    hook.remove()
    hook = culprit.register_hook(lambda grad: grad * 1e6)
    trainer.step(*BATCH, 1e-3)
    hook.remove()
    with torch.no_grad():
        trainer.parameters["embedding"].fill_(torch.nan)
    value, _ = trainer.step(*BATCH, 1e-3)
    assert np.isnan(value)
    words = "the largest gradient of the step before was that of layers.1.ffn.w_2, of norm "
    assert trainer.explain().startswith(words)
