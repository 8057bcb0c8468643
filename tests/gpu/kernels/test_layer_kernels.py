"""The kernels of a layer beside retention, rotation and gated norm: values and gradients of the reference's, in any layout."""

import functools

import numpy as np
import pytest
import torch

from refimpl import layers
from refimpl.rotation import phases

pytest.importorskip("triton", reason="Triton is not installed")

from gpu.kernels.triton_gated_norm import gated_norm_triton
from gpu.kernels.triton_turn import turn_and_scale_triton
from gpu.models import operations
from gpu.models.build import build
from gpu.training.config import RunConfig

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"  # on a CPU in Triton's interpreter, which conftest.py turns on
BOUNDS = {
    torch.float32: 1e-6,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}  # of the largest; the interpreter cuts halves off
by_dtype = pytest.mark.parametrize("dtype", BOUNDS, ids=lambda dtype: str(dtype).removeprefix("torch."))


def draw(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(DEVICE)


def agree(got, want, dtype):
    assert got.dtype == dtype
    apart = (got.double() - want).abs().max() / want.abs().max()
    assert apart <= BOUNDS[dtype], apart


def both(ours, reference, leaves, dtype):
    """Compare values and gradients of two functions of the same arrays, the second in float64."""
    narrow = [x.to(dtype).requires_grad_() for x in leaves]
    wide = [x.detach().double().requires_grad_() for x in narrow]
    got, want = ours(*narrow), reference(*wide)
    agree(got, want, dtype)
    grad = draw(*want.shape, seed=9).to(dtype)
    pairs = zip(torch.autograd.grad(got, narrow, grad), torch.autograd.grad(want, wide, grad.double()), strict=True)
    for mine, theirs in pairs:
        agree(mine, theirs, dtype)


@by_dtype
@pytest.mark.parametrize("offset", [0, 5, "each", "every"])
@pytest.mark.parametrize("shape", [(2, 3, 37, 6), (2, 1, 1, 2), (1, 4, 64, 32)], ids=str)
def test_turning_is_that_of_the_reference(dtype, offset, shape):
    batch, _, time, _ = shape
    offset = {
        "each": torch.arange(batch, device=DEVICE) * 7,
        "every": torch.arange(batch * time, device=DEVICE).reshape(batch, time),
    }.get(offset, offset)
    x = draw(*shape)
    wide = phases(x, offset)
    ours = functools.partial(turn_and_scale_triton, cos=wide[0].float(), sin=wide[1].float(), scale=0.3)
    both(ours, functools.partial(layers.turn_and_scale, cos=wide[0], sin=wide[1], scale=0.3), [x], dtype)


@pytest.mark.parametrize("layout", ["merged heads", "every other token", "turned"])
def test_turning_takes_any_strides(layout):
    merged = draw(2, 8, 3 * 6).float()
    x = {
        "merged heads": merged.reshape(2, 8, 3, 6).transpose(1, 2),
        "every other token": draw(2, 3, 16, 6).float()[:, :, ::2],
        "turned": draw(2, 3, 6, 8).float().transpose(2, 3),
    }[layout]
    cos, sin = phases(x)
    got = turn_and_scale_triton(x, cos, sin)
    torch.testing.assert_close(got, layers.turn_and_scale(x, cos, sin), rtol=0, atol=1e-6)
    assert got.is_contiguous()
    (grad,) = torch.autograd.grad(turn_and_scale_triton(x.requires_grad_(), cos, sin), x, got)
    torch.testing.assert_close(grad, x.detach(), rtol=0, atol=1e-6)


def test_turning_has_gradients_of_any_order():
    x = draw(1, 2, 3, 4).float().requires_grad_()
    cos, sin = phases(x)
    (grad,) = torch.autograd.grad(turn_and_scale_triton(x, cos, sin).pow(2).sum() / 2, x, create_graph=True)
    torch.testing.assert_close(grad, x, rtol=0, atol=1e-6)  # a rotation keeps lengths
    (second,) = torch.autograd.grad(grad.pow(2).sum() / 2, x)
    torch.testing.assert_close(second, x, rtol=0, atol=1e-6)


@by_dtype
@pytest.mark.parametrize("shape", [(2, 3, 5, 24), (1, 1, 1, 3), (2, 2, 33, 64)], ids=str)
def test_gated_norm_is_that_of_the_reference(dtype, shape):
    batch, heads, time, width = shape
    leaves = [3 * draw(*shape), 2 * draw(batch, time, heads * width, seed=1)]
    both(*(functools.partial(each, eps=1e-6) for each in (gated_norm_triton, layers.gated_norm)), leaves, dtype)


def test_gated_norm_takes_retentions_layout_without_a_copy_and_zeros():
    y = draw(2, 5, 3, 8).float().transpose(1, 2)  # as the fused kernels write it
    gate = draw(2, 5, 24, seed=1).float()
    y[:, 0] = 0.0  # its gradient is 1 / sqrt(eps), which is finite
    leaves = [y.requires_grad_(), gate.requires_grad_()]
    for got, want in zip(
        torch.autograd.grad(gated_norm_triton(*leaves, eps=1e-6).sum(), leaves),
        torch.autograd.grad(layers.gated_norm(*leaves, eps=1e-6).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        assert got.isfinite().all()


def test_gated_norm_has_second_gradients():
    leaves = [x.float().requires_grad_() for x in (draw(1, 2, 3, 4), draw(1, 3, 8, seed=1))]

    def second(function):
        first = torch.autograd.grad(function(*leaves, eps=1e-6).pow(2).sum(), leaves, create_graph=True)
        return torch.autograd.grad(sum(each.pow(2).sum() for each in first), leaves)

    for got, want in zip(second(gated_norm_triton), second(layers.gated_norm), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("asked", [0, 1])
def test_gated_norm_has_second_gradients_of_one_argument(asked):
    leaves = [x.float() for x in (draw(1, 2, 3, 4), draw(1, 3, 8, seed=1))]
    leaves[asked].requires_grad_()

    def second(function):
        (first,) = torch.autograd.grad(function(*leaves, eps=1e-6).pow(2).sum(), leaves[asked], create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), leaves[asked])[0]

    torch.testing.assert_close(second(gated_norm_triton), second(layers.gated_norm), rtol=1e-4, atol=1e-4)


def test_gradients_may_be_asked_for_in_batches():
    y, gate = (x.float().requires_grad_() for x in (draw(1, 2, 3, 4), draw(1, 3, 8, seed=1)))
    cos, sin = phases(y)
    for out in (turn_and_scale_triton(y, cos, sin, 0.5), gated_norm_triton(y, gate, eps=1e-6)):
        many = draw(3, *out.shape, seed=2).float()
        gradient = lambda each, out=out: torch.autograd.grad(out, y, each, retain_graph=True)[0]  # noqa: E731
        for mine, each in zip(torch.vmap(gradient)(many), many, strict=True):
            torch.testing.assert_close(mine, gradient(each))


def test_phases_may_be_halves():
    """They are widened before they are multiplied."""
    x = draw(1, 2, 3, 4).float()
    cos, sin = (each.bfloat16() for each in phases(x))
    want = layers.turn_and_scale(x, cos.float(), sin.float(), 0.5)
    torch.testing.assert_close(turn_and_scale_triton(x, cos, sin, 0.5), want, rtol=0, atol=1e-6)


class OnGpu:
    """What `_ours` asks of an array, as one on a GPU answers."""

    def __init__(self, shape=(2, 3, 5, 8), dtype=torch.bfloat16, is_cuda=True):
        self.shape, self.dtype, self.is_cuda, self.device = torch.Size(shape), dtype, is_cuda, "cuda"

    def numel(self):
        return self.shape.numel()


def test_kernels_are_for_arrays_that_they_can_compute_with(monkeypatch):
    """Not for float64, empty arrays, wide heads, machines without Triton, compilers, torch.func and duals."""
    monkeypatch.setattr(operations, "has_fused", lambda device: True)
    monkeypatch.setattr("gpu.kernels.triton_checks.PLAIN", (OnGpu,))
    assert operations._ours(OnGpu())
    for change in ({"dtype": torch.float64}, {"shape": (2, 0, 5, 8)}, {"shape": (1, 1, 1, 4098)}, {"is_cuda": False}):
        assert not operations._ours(OnGpu(**change)), change
    with torch.autograd.forward_ad.dual_level():
        assert not operations._ours(OnGpu())
    inside = []
    torch.func.grad(lambda x: inside.append(operations._ours(OnGpu())) or x)(torch.ones(()))
    assert inside == [False]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not operations._ours(OnGpu())
    monkeypatch.undo()
    monkeypatch.setattr(operations, "has_fused", lambda device: False)
    assert not operations._ours(OnGpu())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_is_the_same_with_them(precision, monkeypatch):
    """Logits and gradients of a RetNet, on a CPU by the interpreter, beside torch's operations."""
    model = build(RunConfig(dim=16, num_layers=2, num_heads=2, vocab_size=256)).to(DEVICE)
    tokens = torch.arange(18, device=DEVICE).reshape(2, 9)

    def run():
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(tokens)[0].float()
        return [logits, *torch.autograd.grad(logits.pow(2).sum(), list(model.parameters()))]

    called = []
    ours = lambda *arrays: called.append(arrays[0].shape) or arrays[0].dtype == arrays[-1].dtype or len(arrays) > 2  # noqa: E731
    monkeypatch.setattr(operations, "_ours", lambda *arrays: False)
    want = run()
    monkeypatch.setattr(operations, "_ours", ours)
    got = run()
    assert len(called) == 2 * 3
    for mine, theirs in zip(got, want, strict=True):
        apart = ((mine - theirs).norm() / theirs.norm()).item()
        assert apart <= (1e-5 if precision == "float32" else 4e-2), apart
