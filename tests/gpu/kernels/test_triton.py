"""The Triton kernels keep the contract in the dtypes they take, and their gradients are those of the reference.

Without a GPU they run in Triton's interpreter, which is NumPy: sizes are small, and bfloat16 is cut off there where a
GPU rounds it, which doubles its error.
"""

import dataclasses
import functools
import itertools
import json
import math
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from backends import STRICT, TORCH, kernel_of
from runs import losses
from torch.autograd import forward_ad

import refimpl
from refimpl.conformance import contract, validation
from refimpl.conformance import gradients as of_gradients
from refimpl.conformance.libraries import library
from refimpl.conformance.package import scan
from refimpl.libraries import values_trusted
from refimpl.tree import map_tree

pytest.importorskip("triton", reason="Triton is not installed; it has packages for Linux alone")

from triton.runtime.errors import OutOfResources

from gpu.bench.kernels import Shape, inputs
from gpu.kernel_ladder import __main__ as ladder
from gpu.kernel_ladder import tune
from gpu.kernels import replay, triton_checks, triton_tiles
from gpu.kernels import triton_retention as ours
from gpu.kernels import triton_states as states
from gpu.kernels.registry import step_of
from gpu.kernels.triton_common import readable
from gpu.models.build import build
from gpu.sampling.generate import Step
from gpu.training.config import RunConfig

WAYS = ("forward", "backward")
ON_GPU = torch.cuda.is_available()  # else conftest.py asks for the interpreter
DEVICE = "cuda" if ON_GPU else "cpu"
# Relative RMS error of out and of gradients. Seen here: 2e-7, 4e-4, and 8e-3 for bfloat16 cut off (3e-3 rounded).
BOUNDS = {torch.float32: 1e-6, torch.float16: 8e-4, torch.bfloat16: 5e-3 if ON_GPU else 1.2e-2}
by_entry = pytest.mark.parametrize("entry", [ours.retention_chunkwise_triton, ours.retention_step_triton])
by_dtype = pytest.mark.parametrize("dtype", BOUNDS, ids=lambda dtype: str(dtype).removeprefix("torch."))


LIBRARY = library("torch", DEVICE)
GRADIENTS = ("q", "k", "v", "state")  # gamma has none
TOO_LONG = (  # for the interpreter; tests below ask the same at fewer sizes
    contract.holds_for_many_heads_and_sequences, contract.takes_any_strides, contract.chains, *of_gradients.CHECKS[1:],
)  # fmt: skip
# Sizes of the contract that no test below has, and edges; a GPU runs all of them.
FEWER = {} if ON_GPU else {
    "LENGTHS": [sizes for sizes in contract.LENGTHS if sizes[2] in (2, 17, 33, 129, 257)],
    "WIDTHS": [sizes for sizes in contract.WIDTHS if sizes[3:] in ((1, 1), (3, 5), (96, 136), (40, 520))],
    "LONG": contract.LONG[-1:],
}  # fmt: skip


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_chunkwise_kernel_keeps_the_contract(check, monkeypatch):
    for name, sizes in FEWER.items():
        monkeypatch.setattr(contract, name, sizes)
    slack = 1 if check is contract.holds_for_slow_heads else 3
    float32 = kernel_of(ours.retention_chunkwise_triton, "C=64", LIBRARY, slack, gradients=GRADIENTS)
    halves = dataclasses.replace(
        float32, tolerances={"bfloat16": BOUNDS[torch.bfloat16], "float16": BOUNDS[torch.float16]}
    )
    if contract.CHECKS[check].declared(float32) is not None:
        return
    if ON_GPU or check not in TOO_LONG:
        check(float32, "float32")
    if ON_GPU or check is contract.keeps_dtypes:
        check(halves, "bfloat16")
        check(halves, "float16")


@pytest.fixture(autouse=True)
def nothing_recorded():
    """Each test makes its own recordings: some replace what a call launches."""
    replay.forget()


@pytest.fixture
def poisoned():
    """Memory that nobody has written to reads as NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3, device=DEVICE).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def arrays(dtype, time, key_dim=32, value_dim=48, *, batch=1, gamma=(31 / 32, 1 - 2.0**-20), seed=0):
    """q, k, v as a model has them, (B, T, H, width) in memory; gamma of a fast and of a very slow head; a state."""
    heads = len(gamma)
    draw = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(shape, generator=draw)  # noqa: E731
    q, k, v = (
        normal(batch, time, heads, width).to(DEVICE, dtype).transpose(1, 2) for width in (key_dim, key_dim, value_dim)
    )
    gamma = torch.tensor(gamma, dtype=torch.float64, device=DEVICE)
    return q, k, v, gamma, normal(batch, heads, key_dim, value_dim).to(DEVICE)


def case_of(dtype, time, *widths, with_state=True, **how):
    """What `with_gradients` takes: `arrays`, the state or None, and gradients of out and of the last state."""
    q, k, v, gamma, state = arrays(dtype, time, *widths, **how)
    draw = torch.Generator().manual_seed(9)
    grad_state = torch.randn(state.shape, generator=draw).to(DEVICE)
    grad_out = torch.randn(v.shape, generator=draw).to(DEVICE, dtype)
    return q, k, v, gamma, state if with_state else None, grad_out, grad_state


def with_gradients(retention, q, k, v, gamma, state, grad_out, grad_state):
    """out, state, and the gradients by all but gamma."""
    leaves = [x.detach().requires_grad_() for x in (q, k, v, *(() if state is None else (state,)))]
    results = retention(*leaves[:3], gamma, *leaves[3:])
    return *results, *torch.autograd.grad(results, leaves, (grad_out, grad_state), allow_unused=True)


def in_float64(*xs):
    return [None if x is None else x.double() for x in xs]


def agree(got, want, bound):
    """Relative RMS error within bound, for each head on its own: a slow head would hide a fast one."""
    for x, y in zip(got, want, strict=True):
        assert x.shape == y.shape
        if x.numel():
            error = (x.double() - y).square().mean((0, 2, 3)) / y.square().mean((0, 2, 3))
            assert error.sqrt().max() <= bound


def same_bits(got, want):
    assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))


def equals_reference(case, retention=ours.retention_chunkwise_triton):
    """Results and gradients are those of the parallel form in float64; returns those of the kernel."""
    got = with_gradients(retention, *case)
    agree(got, with_gradients(refimpl.retention_parallel, *in_float64(*case)), BOUNDS[case[0].dtype])
    return got


@by_dtype
@pytest.mark.parametrize("time", [1, 63, 64, 65, 300])
def test_outputs_and_gradients_are_those_of_the_reference(time, dtype, poisoned):
    got = equals_reference(case_of(dtype, time, seed=time))
    assert [x.dtype for x in got] == [dtype, torch.float32, dtype, dtype, dtype, torch.float32]


@pytest.mark.parametrize("widths", [(48, 80), (16, 16), (20, 5), (272, 16)])
def test_any_widths(widths, poisoned):
    equals_reference(case_of(torch.float32, 70, *widths, with_state=False))


@pytest.mark.parametrize("chunk_size", [1, 32, 100, 5000])
def test_any_chunk_size(chunk_size):
    equals_reference(
        case_of(torch.float32, 150, 16, 16), functools.partial(ours.retention_chunkwise_triton, chunk_size=chunk_size)
    )


def test_a_chunk_size_is_for_stored_states_alone():
    """In one pass a chunk and the state share the registers, so that longer chunks would not fit a GPU."""
    narrow, wide = (arrays(torch.bfloat16, 1, *widths) for widths in ((64, 128), (256, 512)))
    for direction in ("forward", "backward"):
        assert ours._tiles(narrow[0], narrow[2], direction, 128)["chunk"] == 64
        assert [ours._tiles(wide[0], wide[2], direction, size)["chunk"] for size in (64, 128)] == [64, 128]


@pytest.mark.parametrize(("span", "time"), [(128, 100), (128, 64 * 4), (128, 64 * 4 + 1), (192, 64 * 4 + 1)])
def test_states_further_apart_than_tiles_change_nothing(span, time, monkeypatch, poisoned):
    """Several tiles of keys between two states, in both directions, with ragged spans and tiles."""
    entry = triton_tiles.tiles_for(256, 512, torch.float16)
    spanned = {
        direction: tiles | {"chunk": 64, "span": span} for direction, tiles in entry.items() if direction in WAYS
    }
    monkeypatch.setattr(ours, "tiles_of", lambda *call: spanned)
    for with_state in (False, True):
        equals_reference(case_of(torch.float16, time, 32, 80, with_state=with_state))


@by_dtype
@pytest.mark.parametrize(
    ("span", "time", "widths"), [(64, 90, (80, 16)), (128, 64 * 2 + 1, (16, 80)), (192, 100, (32, 64))]
)
def test_gradients_of_one_launch_are_those_of_the_reference(span, time, widths, dtype, monkeypatch, poisoned):
    """One or several tiles of columns, and of keys between states; ragged ends; with a state and its gradient and without."""
    entry = json.loads(json.dumps(triton_tiles.tiles_for(64, 64, torch.float32)))
    tiles = entry["backward"]["dq"]
    entry["backward"] = {name: each for name, each in entry["backward"].items() if name not in ("dq", "dk", "dv")}
    entry["backward"] |= {"span": span, "gradients": tiles}
    monkeypatch.setattr(ours, "tiles_of", lambda *call: entry)
    equals_reference(case_of(dtype, time, *widths))
    q, k, v, gamma, _, grad, _ = case_of(dtype, time, *widths)
    entry = entry["backward"]
    mine, again = (ours.backward_of(q, k, v, gamma, None, None, grad, None, entry)[:3] for _ in range(2))
    same_bits(mine, again)
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    theirs = torch.autograd.grad(refimpl.retention_parallel(*leaves, gamma)[0], leaves, grad.double())
    agree(mine, theirs, BOUNDS[dtype])


def test_heads_that_forget_at_once():
    equals_reference(case_of(torch.float32, 300, 16, 16, gamma=(1e-3, 0.3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("one_pass", "fused"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("with_state", [False, True])
def test_every_way_of_computing_holds_for_every_dtype(one_pass, fused, dtype, with_state, monkeypatch, poisoned):
    """In one pass and in two, with gradients of one launch or of several, whatever the table says of such heads."""
    if ON_GPU and dtype == torch.float32:
        pytest.skip("takes twice the memory of tiles for halves")
    small, large = (triton_tiles.tiles_for(*widths, torch.float16) for widths in ((64, 128), (256, 512)))
    entry = small if one_pass else large
    assert [entry[direction]["one_pass"] for direction in WAYS] == [one_pass] * 2
    if not fused:
        entry = entry | {"backward": {name: each for name, each in entry["backward"].items() if name != "gradients"}}
    assert ("gradients" in entry["backward"]) == fused
    monkeypatch.setattr(ours, "tiles_of", lambda *call: entry)
    equals_reference(case_of(dtype, 150, 32, 80, with_state=with_state))


def test_a_program_of_one_pass_holds_as_much_of_the_state_as_its_warps_can(monkeypatch):
    """At K = 128 that is 64 columns for 4 warps and 128 for 8; both are right."""
    held, launch = [], ours.launch
    entry = json.loads(json.dumps(triton_tiles.tiles_for(64, 128, torch.float16)))
    entry["backward"].pop("gradients", None)
    for direction, roles in (("forward", ["outputs"]), ("backward", ["dq", "dk", "dv"])):
        for role in roles:
            entry[direction][role] = [{"BV": 128, "warps": 4 if role == "dk" else 8, "stages": 1}]
    spy = lambda *args, **options: held.append(options["BV"]) or launch(*args, **options)  # noqa: E731
    monkeypatch.setattr(ours, "launch", spy)
    monkeypatch.setattr(ours, "tiles_of", lambda *call: entry)
    equals_reference(case_of(torch.float16, 70, 128, 128))
    assert held == [128, 128, 64, 128]


@pytest.fixture
def nothing_too_large(monkeypatch):
    """Forget after a test which tiles were found too large."""
    monkeypatch.setattr(triton_tiles, "_too_large", set())


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_gpu_with_less_shared_memory_gets_modest_tiles(direction, dtype, monkeypatch, nothing_too_large, poisoned):
    """In both directions: when Triton says so, before a kernel runs, and from then on at once."""
    modest, name, tried = json.loads(triton_tiles.TABLE.read_text())["modest"], f"{direction}_of", []
    function = getattr(ours, name)

    def narrow(*arguments):
        tried.append(arguments[-1] == modest[direction])
        if not tried[-1]:
            raise OutOfResources(245_848, 101_376, "shared memory")
        return function(*arguments)

    monkeypatch.setattr(ours, name, narrow)
    case = q, _, v, *_ = case_of(dtype, 70, 32, 80)
    for expected in ([False, True], [True]):
        replay.forget()
        equals_reference(case)
        assert tried == expected
        tried.clear()
    assert ours._tiles(q, v, "forward", 0) == modest["forward"]
    assert ours._tiles(q, v, "forward", 128) != modest["forward"] | {"chunk": 128}


def test_what_even_modest_tiles_do_not_fit_is_an_error(monkeypatch, nothing_too_large):
    def full(*arguments):
        raise OutOfResources(245_848, 1024, "shared memory")

    monkeypatch.setattr(ours, "forward_of", full)
    for dtype in (torch.float16, torch.float16, torch.float32):  # at once, again, and where modest tiles are no smaller
        with pytest.raises(OutOfResources, match="shared memory"):
            ours.retention_chunkwise_triton(*arrays(dtype, 3))
    assert {kind[2] for kind in triton_tiles._too_large} == {torch.float16}


def test_two_threads_may_find_the_tiles_too_large_at_once(monkeypatch, nothing_too_large):
    """Both get modest ones, and what failed is not kept while they are tried."""
    both, modest, kept = threading.Barrier(2), triton_tiles.modest_tiles()["forward"], {}

    @triton_tiles.with_tiles_that_fit
    def function(q, k, v, chunk):
        if triton_tiles.tiles_of(q, v, chunk)["forward"] != modest:
            states_ = torch.ones(3)
            kept[threading.get_ident()] = weakref.ref(states_)
            both.wait(timeout=10)
            raise OutOfResources(245_848, 101_376, "shared memory")
        return kept[threading.get_ident()]()

    q, k, v, *_ = arrays(torch.bfloat16, 3)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: function(q, k, v, 0), range(2))) == [None, None]


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("segments", [3, 7])
def test_segments_of_time_change_nothing(segments, with_state, poisoned):
    """States of several segments at a time, forwards and backwards, over a ragged tail."""
    _, k, v, gamma, state = arrays(torch.float32, 230, 16, 16)
    state = state if with_state else None
    tiles = triton_tiles.tiles_for(16, 16, torch.float32)["forward"]["states"]
    for reverse in (False, True):
        want, got = (
            ours.states_of(k, v, gamma, state, 32, tiles, programs, reverse=reverse)
            for programs in (1, 2 * segments)  # of two heads, a tile each
        )
        if not with_state:  # what it was before the first chunk is known, and left out
            want[0][:, -1 if reverse else 0] = 0.0
        for x, y in zip(got, want, strict=True):
            assert torch.allclose(x, y, rtol=1e-5, atol=1e-4)
        walk, found = {"BV": 64, "warps": 4, "stages": 1}, []
        for parts in (ours.cut(1, 4, 1), ours.cut(1, 4, segments)):
            totals = ours.totals_of(k, v, gamma, 64, parts, tiles[-1], reverse=reverse)
            found.append(ours.walk_of(k, k, v, gamma, state, totals, 64, parts, walk, reverse=reverse))
        for x, y in zip(*found, strict=True):
            assert torch.allclose(x, y, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("reverse", [False, True])
def test_what_a_fast_head_has_forgotten_is_not_read(reverse, poisoned):
    """NaN a segment or more behind reaches a slow head and not a fast one; near tokens count as before."""
    _, k, v, gamma, state = arrays(torch.float32, 400, 16, 16)
    gamma[0] = 0.2  # 150 / log2(5) = 65 tokens
    far, chunks, tokens = (
        (slice(288, None), slice(3), slice(96)) if reverse else (slice(192), slice(12, 13), slice(384, None))
    )
    forgotten, before = v.clone(), torch.full_like(state, torch.nan)
    forgotten[:, :, far] = torch.nan
    common = {"gamma": gamma, "chunk": 32, "reverse": reverse}
    tiles, found = {"BT": 32, "BK": 16, "BV": 16, "warps": 4, "stages": 1}, []
    parts = ours.cut(2, 13, 10)
    assert parts == (5, 3)
    for values, start in ((v, state), (forgotten, before)):
        states_, end = ours.states_of(k, values, start=start, choices=[tiles], programs=10, **common)
        totals = ours.totals_of(k, values, parts=parts, tiles=tiles, **common)
        out, last = ours.walk_of(k, k, values, start=start, totals=totals, parts=parts, tiles=tiles, **common)
        found.append((states_.unflatten(0, (1, 2))[:, :, chunks], end, out[:, :, tokens], last))
    for whole, without in zip(*found, strict=True):
        assert torch.equal(without[:, 0], whole[:, 0])
        assert without[:, 1].isnan().all()


@pytest.mark.parametrize("reverse", [False, True])
def test_what_float32_still_weighs_is_read(reverse, poisoned):
    """Old values that weigh 2^-50 at the end are; within a segment of 16 steps, NaN out of reach is not."""
    _, k, v, gamma, _ = arrays(torch.float32, 512, 16, 16)
    gamma[:] = 2.0**-0.1
    oldest = slice(496, None) if reverse else slice(16)
    tiles = {"BT": 16, "BK": 16, "BV": 16, "warps": 4, "stages": 1}
    alone = torch.zeros_like(v)
    alone[:, :, oldest] = v[:, :, oldest]
    _, end = ours.states_of(k, alone, gamma, None, 32, [tiles], 16, reverse=reverse)  # of 8 segments
    some = torch.exp2(-0.1 * torch.arange(512.0, dtype=torch.float64))
    weights = some if reverse else some.flip(0)
    weights = weights.to(DEVICE) * (gamma[0] if reverse else 1)
    want = torch.einsum("bhtk,bhtv,t->bhkv", k.double(), alone.double(), weights)
    agree((end,), (want,), 1e-4)
    gamma[:] = 2.0**-4.0  # 38 tokens, 5 steps with those that are added
    far = v.clone()
    beyond = slice(400, None) if reverse else slice(112)  # of the segment walked first, all but its last 9 steps
    far[:, :, beyond] = torch.nan
    parts = ours.cut(2, 16, 4)
    assert parts == (2, 8)
    for_all, for_near = (
        ours.totals_of(k, values, gamma, 32, parts, tiles, reverse=reverse)[:, 1 if reverse else 0]
        for values in (v, far)
    )
    assert torch.equal(for_all, for_near)


@pytest.mark.parametrize("reverse", [False, True])
@by_dtype
@pytest.mark.parametrize(("time", "key_dim", "value_dim"), [(1, 16, 16), (300, 24, 72), (0, 16, 16)])
def test_what_a_slice_writes_to_the_state(time, key_dim, value_dim, dtype, reverse):
    """K^T (V * zeta), or (xi Q)^T G back in time: of one token, of segments with a ragged last one, of none."""
    _, k, v, gamma, _ = arrays(dtype, time, key_dim, value_dim)
    powers = gamma.double()[:, None] ** torch.arange(time, dtype=torch.float64, device=DEVICE)
    weights = powers * gamma.double()[:, None] if reverse else powers.flip(1)
    want = torch.einsum("bhtk,bhtv,ht->bhkv", k.double(), v.double(), weights)
    got = ours.state_written_triton(k, v, gamma, reverse=reverse)
    assert got.dtype == torch.float32
    assert got.shape == want.shape
    assert (got - want).norm() <= BOUNDS[dtype] * want.norm()


def test_backward_takes_the_segments_of_the_forward_pass():
    """The same bits whether it is given what they add to the state or, as under a compiler, adds it up again."""
    q, k, v, gamma, state, grad, grad_state = case_of(torch.float16, 300, 32, 80)
    entry = triton_tiles.tiles_for(32, 80, torch.float16)
    *_, totals = ours.forward_of(q, k, v, gamma, state, entry["forward"])
    assert totals.shape[1] == 2
    same_bits(
        *(
            ours.backward_of(q, k, v, gamma, state, given, grad, grad_state, entry["backward"])
            for given in (totals, None)
        )
    )
    for each in json.loads(triton_tiles.TABLE.read_text())["half"]:
        if all(each[direction]["one_pass"] for direction in WAYS):
            assert all(each["forward"][name] == each["backward"][name] for name in ("chunk", "programs"))


@pytest.mark.parametrize(("batch", "fit"), [(3, 0), (2, 0), (1, 1)])
def test_one_pass_takes_tiles_by_the_number_of_walks(batch, fit, monkeypatch):
    """The first of a role where there are as many as wanted, here four of two heads, and else the last."""
    q, k, v, gamma, _ = arrays(torch.bfloat16, 64, 16, 16, batch=batch)
    entry = json.loads(json.dumps(triton_tiles.tiles_for(16, 16, torch.bfloat16)))
    seen = []
    for direction, roles in (("forward", ["outputs"]), ("backward", ["dq", "dk", "dv", "gradients"])):
        entry[direction]["programs"] = 4
        for role in roles:
            entry[direction][role] = [{"BV": 64, "warps": 4, "stages": stages} for stages in (1, 2)]
    for name, walk in [(name, getattr(ours, name)) for name in ("walk_of", "walk_back_of")]:
        spy = lambda *args, walk=walk, **kw: seen.append(kw.get("tiles", args[-1])) or walk(*args, **kw)  # noqa: E731
        monkeypatch.setattr(ours, name, spy)
    ours.forward_of(q, k, v, gamma, None, entry["forward"])
    ours.backward_of(q, k, v, gamma, None, None, v, None, entry["backward"])
    assert [tiles["stages"] for tiles in seen] == [1 + fit] * 3
    del entry["backward"]["gradients"]
    ours.backward_of(q, k, v, gamma, None, None, v, None, entry["backward"])
    assert [tiles["stages"] for tiles in seen] == [1 + fit] * 6


def test_states_take_the_widest_tiles_that_fill_the_gpu():
    """For one sequence, where no tiles do, they take the last."""
    wide, narrow = {"BK": 128, "BV": 256}, {"BK": 64, "BV": 128}
    fitting = lambda batch: states.fitting(  # noqa: E731
        (wide, narrow), torch.empty(batch, 16, 1, 256), torch.empty(batch, 16, 1, 512), 128
    )
    assert [fitting(batch) for batch in (8, 2, 1)] == [wide, wide, narrow]


def test_states_may_have_their_heads_outside():
    """As views of another order of axes, with several sequences."""
    case = case_of(torch.float32, 70, 16, 16, batch=2)
    turned = [x.transpose(0, 1).contiguous().transpose(0, 1) if x.dim() == 4 else x for x in case]
    assert not any(x.is_contiguous() for x in turned if x.dim() == 4)
    same_bits(*(with_gradients(ours.retention_chunkwise_triton, *each) for each in (case, turned)))


@pytest.mark.parametrize("split", [0, 1, 64, 100])
def test_calls_chain(split):
    q, k, v, gamma, state = arrays(torch.float32, 100, 16, 16)
    want = refimpl.retention_parallel(*in_float64(q, k, v, gamma, state))
    first, state = ours.retention_chunkwise_triton(*(x[:, :, :split] for x in (q, k, v)), gamma, state)
    rest, state = ours.retention_chunkwise_triton(*(x[:, :, split:] for x in (q, k, v)), gamma, state)
    agree((torch.cat([first, rest], 2), state), want, 1e-6)


def test_empty_sequence_keeps_state():
    q, k, v, gamma, state = arrays(torch.bfloat16, 0)
    for before in (state, None):
        out, after = ours.retention_chunkwise_triton(q, k, v, gamma, before)
        assert (out.shape, out.dtype) == (v.shape, v.dtype)
        assert torch.equal(after, torch.zeros_like(state) if before is None else before)
        assert after is not before


def test_inputs_are_left_alone():
    case = case_of(torch.float32, 70, 16, 16)
    copies = [x.clone() for x in case]
    with_gradients(ours.retention_chunkwise_triton, *case)
    same_bits(case, copies)


def test_views_of_a_model_are_not_copied_and_out_is_one():
    q, k, v, gamma, state = arrays(torch.bfloat16, 20)
    assert all(readable(x) is x for x in (q, k, v))
    out, _ = ours.retention_chunkwise_triton(q, k, v, gamma, state)
    assert out.transpose(1, 2).is_contiguous()


def test_inputs_may_lie_in_any_way():
    """With no axis contiguous, repeated, or unaligned; torch has no negative strides."""
    q, k, v, gamma, state = arrays(torch.float32, 20, 16, 16)
    scattered = lambda x: x.repeat_interleave(2, -1)[..., ::2].transpose(0, 3).clone().transpose(0, 3)  # noqa: E731
    shifted = torch.empty(q.numel() + 1, device=DEVICE)[1:].view(q.shape).copy_(q)
    same = v[:, :1].expand_as(v)
    spread = gamma.repeat_interleave(2)[::2]
    assert spread.stride() == (2,)
    for given in ((scattered(q), scattered(k), scattered(v), scattered(state)), (shifted, k, same, state)):
        copies = [x.contiguous().clone() for x in given]
        same_bits(
            ours.retention_chunkwise_triton(*given[:3], spread, given[3]),
            ours.retention_chunkwise_triton(*copies[:3], gamma, copies[3]),
        )


@by_dtype
def test_same_call_gives_the_same_bits(dtype):
    case = case_of(dtype, 70)
    same_bits(*(with_gradients(ours.retention_chunkwise_triton, *case) for _ in range(2)))


def test_gradients_of_one_result_alone(poisoned):
    """The other's gradient is zero then, and what it would add to the last of several chunks is not stored."""
    q, k, v, gamma, state = arrays(torch.float32, 150, 16, 16)

    def gradients(retention, which, *leaves):
        result = retention(*leaves[:3], gamma, leaves[3])[which]
        return torch.autograd.grad(result.square().sum(), leaves, allow_unused=True, materialize_grads=True)

    leaves = [x.requires_grad_() for x in (q, k, v, state)]
    for which in (0, 1):
        mine = gradients(ours.retention_chunkwise_triton, which, *leaves)
        theirs = gradients(refimpl.retention_parallel, which, *in_float64(*leaves))
        for got, want in zip(mine, theirs, strict=True):
            assert (got.double() - want).norm() <= 1e-6 * want.norm()


def test_second_derivatives_are_refused():
    """The kernels have none; without the error they would read as zero."""
    q, k, v, gamma, _ = arrays(torch.float32, 20, 16, 16)
    out, _ = ours.retention_chunkwise_triton(q.requires_grad_(), k, v, gamma)
    (dq,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dq.sum().backward()


def test_torch_library_accepts_the_operators():
    """Schema, and shapes and strides on fake tensors, so that torch.compile need not look inside."""
    q, k, v, gamma, state = arrays(torch.float32, 20, 16, 16)
    for start in (None, state):
        torch.library.opcheck(ours._forward, (q, k, v, gamma, start, 0))
        torch.library.opcheck(ours._backward, (q, k, v, gamma, start, v, start, 0))


@pytest.mark.parametrize("read", ["both", "out", "state"])
def test_a_compiler_sees_one_graph(read):
    q, k, v, gamma, state = arrays(torch.float32, 20, 16, 16)

    def loss(q, k, state):
        out, after = ours.retention_chunkwise_triton(2 * q, k, v, gamma, state)
        return (out.square().sum() if read != "state" else 0.0) + (after.square().sum() if read != "out" else 0.0)

    with values_trusted(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")  # of array_api_compat
        warnings.filterwarnings("ignore", ".*should not be instantiated", DeprecationWarning)  # by Dynamo itself
        compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
        leaves = [x.requires_grad_() for x in (q, k, state)]
        same_bits(*(torch.autograd.grad(function(*leaves), leaves) for function in (compiled, loss)))


def test_model_takes_the_kernels():
    config = refimpl.RetNetConfig(vocab_size=11, dim=32, num_layers=2, num_heads=2)
    params = refimpl.init_params(config, dtype=np.float64)
    tokens = np.random.default_rng(3).integers(0, 11, (2, 20))
    want, _ = refimpl.forward(params, tokens, config)
    narrow = map_tree(lambda _, x: torch.asarray(x, dtype=torch.float32, device=DEVICE), params)
    tokens = torch.asarray(tokens, device=DEVICE)
    first, state = refimpl.forward(narrow, tokens[:, :15], config, retention=ours.retention_chunkwise_triton)
    rest, _ = refimpl.forward(narrow, tokens[:, 15:], config, retention=scan(ours.retention_step_triton), state=state)
    got = torch.cat([first, rest], 1).cpu().numpy()
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("name", ladder.VERSIONS)
def test_every_rung_of_the_ladder_is_a_retention(name, poisoned):
    q, k, v, gamma, state = arrays(torch.float32, 128)
    for before in (state, None):
        want = refimpl.retention_parallel(*in_float64(q, k, v, gamma, before))
        agree(import_module(f"gpu.kernel_ladder.{name}").retention(q, k, v, gamma, before), want, 1e-6)


# ---------------------------------------------------------------- the decode step


@by_dtype
@pytest.mark.parametrize("with_state", [False, True])
def test_step_is_that_of_the_reference(with_state, dtype, poisoned):
    q, k, v, gamma, state = arrays(dtype, 1, 80, 48, batch=2)
    state = state if with_state else None
    got = ours.retention_step_triton(q, k, v, gamma, state)
    want = refimpl.retention_step(*in_float64(q, k, v, gamma, state))
    bound = {torch.float32: 1e-6, torch.float16: 3.2e-4, torch.bfloat16: 2.5e-3}[dtype] * (1 if ON_GPU else 2)
    agree(got[:1], want[:1], bound)
    agree(got[1:], want[1:], 1e-6)


def test_step_writes_where_it_is_told_to():
    q, k, v, gamma, state = arrays(torch.float32, 1)
    out, after = ours.retention_step_triton(q, k, v, gamma, state)
    kept = state.clone()
    again, place = ours.retention_step_triton(q, k, v, gamma, state, out_state=state)
    assert place is state
    assert torch.equal(again, out)
    assert torch.equal(state, after)
    assert not torch.equal(state, kept)


def test_step_without_keys_reads_nothing_but_zeros(poisoned):
    """A sum over no keys is zero, as in the reference, and not what lay in memory."""
    q, k, v, gamma, state = arrays(torch.float32, 1, 0, 16)
    for before in (state, None):
        out, after = ours.retention_step_triton(q, k, v, gamma, before)
        assert torch.equal(out, torch.zeros_like(v))
        assert after.shape == state.shape


def test_a_graph_that_saved_the_state_sees_that_a_step_wrote_over_it():
    """Otherwise its gradients would be those of the wrong state."""
    q, k, v, gamma, state = arrays(torch.float32, 1)
    scale = torch.ones((), device=DEVICE, requires_grad=True)
    product = scale * state
    with torch.no_grad():
        ours.retention_step_triton(q, k, v, gamma, state, out_state=state)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # which torch itself calls
@by_entry
def test_forward_mode_derivatives_are_refused(entry):
    """The kernels have none; without the error they would be missing from a sum."""
    q, k, v, gamma, state = arrays(torch.float32, 1)
    with forward_ad.dual_level():
        assert entry(q, k, v, gamma, state)[0].isfinite().all()  # no derivative is asked for
        for n in range(4):
            arguments = [q, k, v, state]
            arguments[n] = forward_ad.make_dual(arguments[n], torch.ones_like(arguments[n]))
            with pytest.raises(NotImplementedError, match="jvp"):
                entry(*arguments[:3], gamma, arguments[3])


def test_step_that_needs_gradients_has_them():
    equals_reference(case_of(torch.float32, 1), ours.retention_step_triton)


# ---------------------------------------------------------------- refusals and the table


@pytest.mark.parametrize("refusal", validation.RETENTION_REFUSALS, ids=lambda refusal: refusal.message)
@by_entry
def test_kernel_refuses(entry, refusal):
    validation.retention_refuses(entry, refusal)


@by_entry
def test_kernel_refuses_other_libraries_devices_and_half_states(entry):
    for backend in (TORCH, STRICT):
        validation.refuses_other_libraries(entry, backend)
    validation.refuses_other_devices(entry, TORCH)
    validation.refuses_half_states(entry, TORCH)


def test_what_these_kernels_refuse():
    q, k, v, gamma, state = arrays(torch.float32, 1)
    numpy, wide, two = ({"q": f(q), "k": f(k), "v": f(v)} for f in (
        lambda x: x.cpu().numpy(), torch.Tensor.double, lambda x: torch.cat([x, x], 2),
    ))  # fmt: skip
    with_grad, place_with_grad = (x.detach().clone().requires_grad_() for x in (q, state))
    gradients = "out_state must be None where gradients are asked for, got a tensor"
    shape = "(1, 2, 32, 48) (batch, heads, key_dim, value_dim)"
    chunkwise, step = ours.retention_chunkwise_triton, ours.retention_step_triton
    for entry, change, error, message in (
        (chunkwise, numpy | {"gamma": gamma.cpu().numpy()}, TypeError, "q must be a torch tensor, got ndarray"),
        (chunkwise, wide, TypeError,
         "q must be float32, bfloat16 or float16, got torch.float64, which retention_chunkwise computes"),
        (chunkwise, {"gamma": gamma.clone().requires_grad_()}, ValueError,
         "gamma must not require a gradient, which retention_chunkwise computes and these kernels do not"),
        (chunkwise, {"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
        (step, two, ValueError, "q must hold one token (time = 1; take q[:, :, n : n + 1]), got time = 2"),
        (step, {"out_state": state.cpu().numpy()}, TypeError,
         "out_state must be an array of torch like q, got one of numpy"),
        (step, {"out_state": state[:, :, :5]}, ValueError, f"out_state must have shape {shape}, got (1, 2, 5, 48)"),
        (step, {"out_state": state.mT.contiguous().mT}, ValueError,
         "out_state must be contiguous, got strides (3072, 1536, 1, 32)"),
        (step, {"q": with_grad, "out_state": state}, ValueError, gradients),
        (step, {"out_state": place_with_grad}, ValueError, gradients),
    ):  # fmt: skip
        arguments = {"q": q, "k": k, "v": v, "gamma": gamma} | change
        validation.refused(functools.partial(entry, **arguments), error, message)


@pytest.mark.skipif(ON_GPU, reason="kernels are compiled here")
def test_without_a_gpu_or_the_interpreter_the_message_says_so(monkeypatch):
    monkeypatch.setattr(ours.common, "INTERPRETED", False)
    monkeypatch.setattr(triton_checks, "_passed", set())
    message = "q must be on a CUDA device, unless TRITON_INTERPRET=1 was set before the import, got device cpu"
    validation.refused(lambda: ours.retention_chunkwise_triton(*arrays(torch.float32, 1)), ValueError, message)


def test_table_answers_for_every_width_and_dtype():
    for dtype in BOUNDS:
        for key_dim, value_dim in ((1, 1), (64, 128), (256, 512), (1024, 16)):
            entry = triton_tiles.tiles_for(key_dim, value_dim, dtype)
            for direction, roles in (("forward", {"states", "outputs"}), ("backward", {"states", "dq", "dk", "dv"})):
                optional = {"gradients"} if direction == "backward" else set()
                optional |= set() if entry[direction]["one_pass"] else {"span"}
                optional &= entry[direction].keys()
                assert set(entry[direction]) == roles | optional | {"chunk", "one_pass", "programs"}
                roles |= optional - {"span"}
                for name, tiles in [(role, tiles) for role in roles for tiles in np.ravel(entry[direction][role])]:
                    sizes = [size for number, size in tiles.items() if number.startswith("B")]
                    assert bool(sizes) == (not entry[direction]["one_pass"] or name != "gradients")
                    assert all(size & (size - 1) == 0 and 16 <= size <= 256 for size in sizes)
    for widths in ((256, 512), (128, 256), (128, 128), (64, 128)):
        assert triton_tiles.tiles_for(*widths, torch.bfloat16)["widths"] == list(widths)
    for widths in ((129, 128), (65, 129), (192, 64)):  # wider than one pass was measured with
        assert not any(triton_tiles.tiles_for(*widths, torch.float16)[way]["one_pass"] for way in WAYS)


@pytest.fixture
def searches(monkeypatch):
    """What the tuner tries, for sequences short enough for the interpreter, two of them or one, of one head.

    It finds a GPU, one worker, and graphs that make their call again.
    """
    monkeypatch.setattr(tune, "Recorded", lambda call, device: SimpleNamespace(graph=SimpleNamespace(replay=call)))
    monkeypatch.setattr(tune, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    small = {
        shape: tuple(
            search._replace(
                chunk=16, spans=(16,) if search.one_pass else (16, 32)[few - 1 :], tokens=64, lengths=(32, 64), programs=(12,),
                states=search.states[-few:], outputs=search.outputs[-few:], gradients=search.gradients[-1:],
            )
            for few in [2 if len(searches) == 1 else 1] for search in searches
        )
        for shape, searches in tune.SEARCHES.items()
    }  # fmt: skip
    monkeypatch.setattr(tune, "SEARCHES", small)
    monkeypatch.setattr(tune, "SHAPES", dict.fromkeys(small, Shape(1, 16, 16)))
    monkeypatch.setattr(tune, "inputs", lambda *sizes: inputs(*sizes, DEVICE))
    return small


@pytest.mark.parametrize("shape", ["large", "small", "square"])  # "model" is searched as "large" is
def test_the_tuner_writes_a_table_that_the_kernels_read(shape, tmp_path, monkeypatch, searches):
    """Every candidate runs, with made-up times, and the fastest of each role compute a retention.

    Of a shape searched in both ways two passes are timed last, and so are all gradients in one launch.
    """
    *_, search = searches[shape]
    launched, stored = [], len(json.loads(triton_tiles.TABLE.read_text())["half"])

    def milliseconds(calls, **_):
        if not launched:  # the others have run as well, to be compared
            calls[""]()
        launched.append(calls)
        return {"": {"median": 1 / len(launched)}}  # the later the faster

    out = tmp_path / "tiles.json"
    out.write_text(triton_tiles.TABLE.read_text())
    monkeypatch.setattr(tune, "milliseconds", milliseconds)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    tune.main(out, shapes=shape, show=1)
    assert len(launched) == sum(len(list(tune.jobs(each, 1))) for each in searches[shape])
    table = json.loads(out.read_text())
    assert table["device"] == "a GPU"
    entry = next(each for each in table["half"] if each["widths"] == [16, 16])
    assert len(table["half"]) == stored + 1
    assert ("gradients" in entry["backward"]) == bool(search.gradients)
    for direction in WAYS:
        roles = {role: each for role, each in entry[direction].items() if role in tune.ROLES}
        assert all(isinstance(each, list) == (role == "states" or search.one_pass) for role, each in roles.items())
        assert entry[direction]["programs"] == search.programs[-1]
        assert entry[direction].get("span") == (None if search.one_pass else 32)
    (*_, last) = search.outputs
    assert list(np.ravel(entry["forward"]["outputs"])[-1].values()) == list(last)
    for length in search.lengths:
        q, k, v, grad, gamma = inputs(Shape(1, 16, 16), length, search.tokens, DEVICE)
        zero = torch.zeros(len(q), 1, 16, 16, device=DEVICE)
        want = with_gradients(refimpl.retention_parallel, *in_float64(q, k, v, gamma, None, grad, zero))
        got = ours.forward_of(q, k, v, gamma, None, entry["forward"])[:2]
        got += ours.backward_of(q, k, v, gamma, None, None, grad, None, entry["backward"])[:3]
        agree(got, want, BOUNDS[torch.bfloat16])


def test_every_candidate_has_a_number_for_each_name():
    for search in itertools.chain(*tune.SEARCHES.values()):
        for role, candidates in (
            ("states", search.states),
            ("outputs", search.outputs),
            ("gradients", search.gradients),
        ):
            assert {len(tiles) for tiles in candidates} <= {len(tune.names_of(search, role))}


def test_the_tuner_takes_the_least_sum_of_what_the_kernels_would_take():
    """One pass of 4,096 tokens of 2 heads at T of 1,024 and 4,096: 8 walks, or 2 cut into as many programs as wanted."""
    shape, search = (
        Shape(2, 16, 16),
        tune.Search(True, 64, (64,), 4096, (1024, 4096), (4, 5, 16), ((1,), (2,)), ((1,), (2,))),
    )
    for role, programs, lengths, first in (
        ("outputs", 4, (1024, 4096), True), ("dv", 16, (1024, 4096), True), ("dq", 5, (1024,), True), ("dq", 5, (4096,), False),
    ):  # fmt: skip
        for length in lengths:
            assert tune.taken(search, shape, role, length, programs, ("a", "b")) == ("a" if first else "b")
    times = {(1024, 1): 1.0, (4096, 1): 4.0, (1024, 2): 2.0, (4096, 2): 2.5}
    rows = [
        (tune.Job("outputs", length, programs, 64, (n,)), ms)
        for (length, n), ms in times.items()
        for programs in (4, 5)
    ]
    assert tune.fastest(search, shape, "outputs", 4, 64, rows) == (4.5, ((2,),))
    assert tune.fastest(search, shape, "outputs", 5, 64, rows) == (3.5, ((1,), (2,)))
    assert tune.fastest(search, shape, "states", 4, 64, rows) == (0.0, ((1,),))
    with pytest.raises(ValueError, match="rows must have a candidate of dq that ran, got none"):
        tune.fastest(search, shape, "dq", 4, 64, rows)


def test_the_tuner_takes_one_launch_for_several_gradients_where_it_is_faster():
    """Than those that it replaces together; and each direction in the way that is fastest, alike where both are one pass."""
    two = tune.Search(False, 64, (64, 128), 64, (64,), (8,), ((1,) * 5,), ((1,) * 6,), ((1,) * 5,))
    one = tune.Search(True, 64, (64,), 64, (64,), (1, 2), ((1,) * 5,), ((1,) * 3,))
    shape = Shape(2, 16, 16)
    ms = {"states": 1.0, "outputs": 4.0, "dq": 2.0, "dk": 2.0, "dv": 2.0, "gradients": 6.5}

    def timed(search, **more):
        """Rows of times by role, with those that are given by role and span, or by role and number of programs."""
        rows = []
        for job in tune.jobs(search, 2):
            found = more.get(f"{job.role}_{job.programs if search.one_pass else job.span}", ms[job.role])
            rows.append((job, found))
        return rows

    apart, table = tune.best(shape, [(two, timed(two))])
    assert (apart, "gradients" in table["backward"]) == (5.0 + 8.0, False)
    sooner, table = tune.best(shape, [(two, timed(two, gradients_128=5.5))])
    assert (sooner, table["forward"]["span"], table["backward"]["span"]) == (5.0 + 7.5, 64, 128)
    assert table["backward"]["gradients"] == dict.fromkeys(tune.GRADIENTS[False], 1)
    assert "gradients" not in table["forward"]
    without = [(job, each) for job, each in timed(two) if job.role != "gradients"]  # it did not compile
    assert tune.best(shape, [(two, without)])[0] == apart
    mixed, table = tune.best(shape, [(one, timed(one)), (two, timed(two, gradients_64=1.0))])
    assert (mixed, *(table[direction]["one_pass"] for direction in WAYS)) == (4.0 + 3.0, True, False)
    alike, table = tune.best(shape, [(one, timed(one, outputs_2=3.0, dq_1=1.5))])
    assert (alike, *(table[direction]["programs"] for direction in WAYS)) == (3.0 + 6.0, 2, 2)
    both = one._replace(gradients=((1, 1),))
    alike, table = tune.best(shape, [(both, timed(both, gradients_1=4.5))])
    assert (alike, "gradients" in table["backward"]) == (4.0 + 6.0, False)
    sooner, table = tune.best(shape, [(both, timed(both, gradients_2=3.5))])
    assert (sooner, table["backward"]["gradients"]) == (4.0 + 5.5, [dict.fromkeys(tune.GRADIENTS[True], 1)])


def test_the_tuner_knows_which_tiles_of_a_state_are_taken():
    """In two passes the first that make 128 programs, so wide tiles listed first are not used for one sequence."""
    (search,), shape = tune.SEARCHES["large"], Shape(16, 256, 512)
    wide, narrow, other = (64, 128, 256, 8, 3), (64, 64, 128, 4, 4), (128, 128, 128, 8, 3)
    assert {*tune.SEARCHES["large"][0].states} >= {wide, narrow, other}
    rows = [
        (tune.Job("states", length, 128, 256, tiles), ms)
        for tiles, many, one in ((wide, 1.0, 9.0), (narrow, 2.0, 2.0), (other, 3.0, 1.0))
        for length, ms in ((2048, many), (16384, one))
    ]
    assert tune.fastest(search, shape, "states", 128, 256, rows) == (2.0, (wide, other, narrow))
    # In the other order this pair would take 4.0.
    assert tune.taken(search, shape, "states", 16384, 128, (narrow, other)) == narrow


def test_stored_tiles_of_a_state_do_not_cut_time_where_smaller_ones_fill_the_gpu():
    """A smaller model has 32 states of 128 x 256: two passes over them would cost more than narrow tiles."""
    tiles = triton_tiles.tiles_for(128, 256, torch.bfloat16)["forward"]
    few = [torch.empty(8, 4, 1, width, device="meta") for width in (128, 256)]
    taken = states.fitting(tiles["states"], *few, tiles["programs"])
    assert states._tiles_of_state(taken, *few) >= tiles["programs"]


def test_candidates_that_fail_or_are_wrong_are_left_out(monkeypatch, searches, capsys):
    """One does not compile, one runs out of memory at full size, and one computes a wrong result."""
    (search,) = searches["large"]
    bad, late, wrong = *search.outputs, search.states[-1]
    compiling = []

    def made(search, job, *rest):
        if job.tiles == bad or (job.tiles == late and not compiling):
            raise RuntimeError("no room")
        result = torch.ones(2, 3) * (2 if job.tiles == wrong else 1)
        return lambda: (result, result) if job.role in ("states", "gradients") else result

    def compile_part(*arguments):
        compiling.append(True)
        try:
            return real(*arguments)
        finally:
            compiling.clear()

    real = tune.compile_part
    monkeypatch.setattr(tune, "compile_part", compile_part)
    monkeypatch.setattr(tune, "call_of", made)
    monkeypatch.setattr(tune, "milliseconds", lambda calls, **_: {"": {"median": 1.0}})
    rows = tune.measure("large", search, ThreadPoolExecutor(1), 3)
    assert {job.tiles for job, _ in rows} == {search.states[0], *search.gradients}
    said = capsys.readouterr().out
    assert "9 kernels left out: ['ArithmeticError: it is 1e+00 from the first', 'RuntimeError: no room']" in said
    good, bad = torch.ones(2), torch.tensor([1.0, torch.nan])
    assert tune.difference([good, 1.5 * good], [good, good]) == 0.5
    for pair in ([good, bad], [bad, good]):
        assert math.isnan(tune.difference(pair, [good, good]))


def test_the_tuner_and_the_ladder_say_what_they_refuse(tmp_path, monkeypatch):
    """Before they measure: there is no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command, message in (
        (
            lambda: tune.main(tmp_path / "x.json", shapes="big,"),
            "shapes must be of large, small, square, model, got 'big', ''",
        ),
        (lambda: tune.main(tmp_path / "x.json", shapes="small"), "timed on a CUDA GPU, and there is none here"),
        (lambda: ladder.main(shape="big"), "shape must be one of large, small, square, got 'big'"),
        (lambda: ladder.main(time=3000), "tokens must be a multiple of time = 3,000, got 16,384"),
    ):
        with pytest.raises(typer.BadParameter, match=message):
            command()
    assert not list(tmp_path.iterdir())


def test_a_model_trains_and_decodes_with_the_kernels():
    """By the names of a run: losses of two steps, and logits token by token, are those of the reference."""
    tokens, logits = np.random.default_rng(0).integers(0, 256, (1, 71)), []
    theirs, config = (
        RunConfig(dim=32, num_layers=2, num_heads=2, window=70, batch_size=1, retention=name)
        for name in ("chunkwise", "triton")
    )
    found = (losses(each, (tokens[:, :-1], tokens[:, 1:]), 1e-2, 2, DEVICE) for each in (config, theirs))
    np.testing.assert_allclose(*found, rtol=1e-5)
    model = build(config).to(DEVICE)
    zero = torch.zeros((1, 2, 16, 32), device=DEVICE)
    for name in ("chunkwise", "triton"):
        state = refimpl.State(torch.zeros(1, dtype=torch.int64, device=DEVICE), (zero.clone(), zero.clone()))
        step = Step(model, state, retention=step_of(name))
        logits.append([step(torch.from_numpy(column).to(DEVICE)).cpu() for column in tokens[:, :5].T])
    np.testing.assert_allclose(*map(torch.stack, logits), rtol=1e-4, atol=1e-5)
    assert step.state.layers[0].data_ptr() == state.layers[0].data_ptr()  # written over
    assert not torch.equal(state.layers[0], zero)


# ---------------------------------------------------------------- called plainly, in graphs and traces


FUSED = {"chunkwise": ours.retention_chunkwise_triton, "step": ours.retention_step_triton}


def call_of(name, dtype=torch.float32):
    """A fused function, and arguments for it."""
    return FUSED[name], arrays(dtype, 1 if name == "step" else 20, 16, 16)


@pytest.mark.parametrize("name", FUSED)
def test_a_plain_call_is_compiled_and_exported(name):
    function, given = call_of(name)

    class Module(torch.nn.Module):
        def forward(self, *args):
            return function(*args)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Dynamo about itself
        compiled = torch.compile(Module(), backend="aot_eager", fullgraph=True)
        exported = torch.export.export(Module(), given).module()
        for call in (compiled, exported):
            agree(call(*given), function(*given), 1e-6)
            q, k, v, gamma, state = given
            if not ON_GPU:  # there it would stop the process
                with pytest.raises(RuntimeError, match=r"gamma must lie in \(0, 1\]"):
                    call(q, k, v, gamma + 1, state)


@pytest.mark.parametrize("name", FUSED)
def test_vmap_and_functional_gradients(name):
    """Over sequences, over decays, and of gradients inside: as one call after the other."""
    function, (q, k, v, gamma, state) = call_of(name)
    other = arrays(torch.float32, q.shape[2], 16, 16, seed=1)
    pairs = [torch.stack(pair) for pair in zip((q, k, v, state), (*other[:3], other[4]), strict=True)]
    gammas = torch.stack([gamma, gamma / 2])
    got = torch.func.vmap(function)(*pairs[:3], gammas, pairs[3])
    for i in range(2):
        agree([x[i] for x in got], function(*(x[i] for x in pairs[:3]), gammas[i], pairs[3][i]), 1e-6)
    shared = torch.func.vmap(function, in_dims=(0, 0, 0, None, None))(*pairs[:3], gamma, state)
    agree([x[1] for x in shared], function(*(x[1] for x in pairs[:3]), gamma, state), 1e-6)

    def loss(q, k, v, state):
        out, after = function(q, k, v, gamma, state)
        return out.square().sum() + after.square().sum()

    gradient = torch.func.grad(loss, argnums=(0, 1, 2, 3))
    leaves = [x.clone().requires_grad_() for x in (q, k, v, state)]
    want = torch.autograd.grad(loss(*leaves), leaves)
    agree(gradient(q, k, v, state), want, 1e-6)
    agree([x[0] for x in torch.func.vmap(gradient)(*pairs)], want, 1e-6)


@pytest.mark.parametrize("name", FUSED)
def test_second_derivatives_by_functions_are_refused(name):
    """The kernels have none; without the error they would read as zero."""
    function, (q, k, v, gamma, state) = call_of(name)
    slope = lambda q: torch.func.grad(lambda q: function(q, k, v, gamma, state)[0].square().sum())(q).sum()  # noqa: E731
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.func.grad(slope)(q)


def test_arrays_of_other_kinds_are_read_as_what_they_are():
    """Views with a negative bit, and parameters, alone and after a call of the same kind with plain tensors."""
    q, k, v, gamma, state = arrays(torch.float32, 20, 16, 16)
    for _ in range(2):
        want = ours.retention_chunkwise_triton(-q, k, v, gamma, state)
        same_bits(ours.retention_chunkwise_triton(torch._neg_view(q), k, v, gamma, state), want)
        frozen = torch.nn.Parameter(gamma, requires_grad=False)
        same_bits(ours.retention_chunkwise_triton(-q, k, v, frozen, state), want)
        same_bits(
            ours.retention_chunkwise_triton(q, q, v, gamma, state),
            ours.retention_chunkwise_triton(q, q.clone(), v, gamma, state),
        )


@pytest.mark.parametrize("name", FUSED)
def test_autocast_changes_nothing(name):
    function, given = call_of(name)
    with torch.autocast(DEVICE, torch.bfloat16):
        same_bits(function(*given), function(*given))
        results = function(*given)
    same_bits(results, function(*given))


@pytest.mark.parametrize("name", FUSED)
def test_a_gamma_that_changes_is_looked_at_again(name):
    """And so is one of another version; a decay of any strides counts as it is."""
    function, (q, k, v, gamma, state) = call_of(name)
    want = function(q, k, v, gamma, state)
    spread = torch.stack([gamma, gamma + 1], dim=1)[:, 0]
    assert not spread.is_contiguous()
    same_bits(function(q, k, v, spread, state), want)
    gamma.mul_(0.5)
    halved = function(q, k, v, gamma, state)
    assert not torch.equal(halved[1], want[1])
    same_bits(halved, function(q, k, v, gamma.clone(), state))
    if not ON_GPU:
        gamma.add_(1.0)
        with pytest.raises(ValueError, match="gamma must lie in"):
            function(q, k, v, gamma, state)
