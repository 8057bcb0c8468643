"""Wide heads with the state on the chip: compiled for Hopper on any machine, and run where there is such a GPU."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from paths import ROOT
from test_triton import BOUNDS, arrays

import refimpl

pytest.importorskip("triton", reason="Triton is not installed; it has packages for Linux alone")

from gpu.kernels import gluon_walk, replay
from gpu.kernels import triton_retention as ours

HOPPER = torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0)
on_hopper = pytest.mark.skipif(not HOPPER, reason="needs a Hopper GPU")
HALVES = [dtype for dtype in BOUNDS if dtype != torch.float32]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU compiles it anyway")
def test_the_kernel_compiles_for_hopper():
    """In a process of its own, for the interpreter leaves Triton's language changed."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    program = Path(__file__).with_name("compiled_for_hopper.py")
    environment["PYTHONPATH"] = str(ROOT)
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert len(found) == 2, run.stderr
    for each in found:
        assert each["shared"] <= 227 * 1024  # what a multiprocessor of a Hopper GPU has
        assert each["held"]
        assert each["products"]


def test_a_kernel_that_does_not_compile_is_told_once_and_replaced(monkeypatch):
    """Then two kernels compute the same."""
    q, k, v, gamma, state = arrays(torch.float16, 70, 160, 64)
    monkeypatch.setattr(ours, "on_chip", lambda q, v: False)
    expected = ours.retention_chunkwise_triton(q, k, v, gamma, state)

    def launch(*args, **options):
        raise TypeError("warp_specialize takes no such thing")

    replay.forget()
    monkeypatch.setattr(gluon_walk, "launch", launch)
    monkeypatch.setattr(gluon_walk, "_failed", set())
    monkeypatch.setattr(ours, "on_chip", lambda q, v: q.device not in gluon_walk._failed)
    for times in (1, 0):
        with (
            pytest.warns(UserWarning, match=r"does not compile here: warp_specialize")
            if times
            else warnings.catch_warnings(action="error")
        ):
            results = ours.retention_chunkwise_triton(q, k, v, gamma, state)
        assert all(torch.equal(x, y) for x, y in zip(results, expected, strict=True))
    assert gluon_walk._failed == {q.device}


@pytest.mark.parametrize(
    ("dtype", "key_dim", "capability", "fits"),
    [
        (torch.bfloat16, 256, (9, 0), True), (torch.float16, 129, (9, 0), True), (torch.bfloat16, 128, (9, 0), False),
        (torch.bfloat16, 257, (9, 0), False), (torch.float32, 256, (9, 0), False), (torch.bfloat16, 256, (10, 0), False),
    ],
)  # fmt: skip
def test_wide_halves_on_hopper_are_for_the_chip(dtype, key_dim, capability, fits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    device = torch.device("cuda", 0)
    q = type("Array", (), {"is_cuda": True, "shape": (1, 1, 8, key_dim), "dtype": dtype, "device": device})()
    assert gluon_walk.on_chip(q, q) is fits


@on_hopper
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    ("batch", "time", "key_dim", "value_dim", "with_state"),
    [
        (1, 1, 256, 512, True), (1, 64, 256, 512, False), (2, 65, 256, 512, True), (1, 1000, 192, 320, True),
        (70, 300, 256, 256, False), (1, 5000, 256, 512, True), (1, 5000, 136, 80, False),
    ],
)  # fmt: skip
def test_outputs_and_states_are_those_of_the_reference(dtype, batch, time, key_dim, value_dim, with_state, monkeypatch):
    """Ragged lengths and widths, one segment of time and several, with a state and without."""
    q, k, v, gamma, state = arrays(dtype, time, key_dim, value_dim, batch=batch)
    q, k = q * key_dim**-0.25, k * key_dim**-0.25
    state = state if with_state else None
    walks = []
    walk = gluon_walk.walk_on_chip
    monkeypatch.setattr(ours, "walk_on_chip", lambda *given: walks.append(1) or walk(*given))
    results = ours.retention_chunkwise_triton(q, k, v, gamma, state)
    assert walks
    again = ours.retention_chunkwise_triton(q, k, v, gamma, state)
    expected = refimpl.retention_chunkwise(
        *(x.double() for x in (q, k, v)), gamma, None if state is None else state.double()
    )
    for x, same, y in zip(results, again, expected, strict=True):
        assert torch.equal(x, same)
        assert (x.double() - y).norm() <= BOUNDS[dtype] * y.norm()


@on_hopper
def test_gradients_pass_through(monkeypatch):
    """The backward pass computes its own states."""
    q, k, v, gamma, state = (x.requires_grad_(i != 3) for i, x in enumerate(arrays(torch.bfloat16, 700, 256, 512)))
    out, end = ours.retention_chunkwise_triton(q, k, v, gamma, state)
    grads = torch.autograd.grad((out, end), (q, k, v, state), (torch.ones_like(out), torch.ones_like(end)))
    given = [x.detach().double().requires_grad_(i != 3) for i, x in enumerate((q, k, v, gamma, state))]
    out, end = refimpl.retention_chunkwise(*given)
    expected = torch.autograd.grad(
        (out, end), [given[i] for i in (0, 1, 2, 4)], (torch.ones_like(out), torch.ones_like(end))
    )
    for x, y in zip(grads, expected, strict=True):
        assert (x.double() - y).norm() <= BOUNDS[torch.bfloat16] * y.norm()
