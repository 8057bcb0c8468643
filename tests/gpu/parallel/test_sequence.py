"""Retention of a sequence split over processes: the numbers and gradients of one process, for one state sent a layer."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.distributed as dist
from backends import TORCH
from processes import in_processes
from runs import for_each
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

import refimpl
from gpu.models.retnet import RetNet
from gpu.parallel import sequence
from gpu.parallel.sequence import own_slice, retention_sequence_parallel
from refimpl.conformance.comparison import PRECISION, close, relative_rms
from refimpl.conformance.libraries import NUMPY
from refimpl.conformance.package import run
from refimpl.conformance.problems import problem

# Where the slices of 19 tokens end, for 2 and 3 processes: of unequal length, of one token, of none.
STOPS = {2: ([11, 19], [1, 19], [19, 19], [0, 19]), 3: ([5, 6, 19], [7, 7, 19], [0, 0, 19], [19, 19, 19])}
FORMS = (refimpl.retention_chunkwise, refimpl.retention_recurrent)


class Sent(TorchDispatchMode):
    """Counts what every operation of torch.distributed is given, whoever calls it."""

    def __init__(self):
        super().__init__()
        self.bytes, self.calls = Counter(), Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            self.calls[function._schema.name] += 1
            sent = args[1] if function._schema.name == "c10d::allgather_" else args[0]
            self.bytes[function._schema.name] += sum(x.numel() * x.element_size() for x in sent)
        return function(*args, **(kwargs or {}))


def case(with_state, time=19):
    return problem(2, 3, time, 4, 6, with_state=with_state)


def loss_of(out, end, start):
    """A scalar that depends on every output, at its place in the sequence, and on every element of the state."""
    weights = torch.sin(torch.arange(start, start + out.shape[2], dtype=out.dtype))[:, None]
    return (out * weights).sum() + (end * torch.linspace(-1, 1, end.numel(), dtype=end.dtype).reshape(end.shape)).sum()


def slice_and_gradients(stops, with_state, form):
    """(out, end, gradients of q, k, v, and of the state on the first) of this process's slice."""
    rank = dist.get_rank()
    whole = case(with_state, stops[-1])
    start, stop = [0, *stops][rank : rank + 2]
    q, k, v, gamma, state = whole.arrays(TORCH)
    state = state if rank == 0 else None
    leaves = [x.clone().requires_grad_() for x in whole.part((q, k, v), start, stop)]
    leaves += [] if state is None else [state.requires_grad_()]
    out, end = retention_sequence_parallel(*leaves[:3], gamma, *leaves[3:], retention=form)
    loss_of(out, end, start).backward()
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]  # None: an empty q is never read
    return [x.detach().numpy() for x in (out, end)], [x.numpy() for x in gradients]


def in_one_process(stops, with_state):
    """What `slice_and_gradients` must give: the same slices, one after another, with autograd through all of them."""
    q, k, v, gamma, state = case(with_state, stops[-1]).arrays(TORCH)
    leaves = [x.requires_grad_() for x in (q, k, v)] + ([] if state is None else [state.requires_grad_()])
    loss, results = 0.0, []
    for start, stop in zip([0, *stops], stops, strict=False):
        out, state = refimpl.retention_parallel(*(x[:, :, start:stop] for x in (q, k, v)), gamma, state)
        loss, results = loss + loss_of(out, state, start), [*results, [out, state]]
    loss.backward()
    parts = [[x.grad[:, :, start:stop] for x in leaves[:3]] for start, stop in zip([0, *stops], stops, strict=False)]
    parts[0] += [x.grad for x in leaves[3:]]
    return [([x.detach().numpy() for x in r], [x.numpy() for x in p]) for r, p in zip(results, parts, strict=True)]


@pytest.mark.parametrize("size", [2, 3])
def test_outputs_states_and_gradients_are_those_of_one_process(size):
    cases = [(stops, with_state, form) for stops in STOPS[size] for with_state in (True, False) for form in FORMS]
    cases.append(([0] * (size - 1) + [1], True, refimpl.retention_parallel))  # fewer tokens than processes
    cases.append(([0] * size, True, refimpl.retention_parallel))
    by_rank = in_processes(size, for_each, slice_and_gradients, cases)
    for (stops, with_state, _), *got in zip(cases, *by_rank, strict=True):
        for mine, one in zip(got, in_one_process(stops, with_state), strict=True):
            for part, want in zip(mine, one, strict=True):
                for array, wanted in zip(part, want, strict=True):
                    close(array, wanted)
        answer = case(with_state, stops[-1]).answer  # and the oracle, which shares no code with any of this
        close(np.concatenate([out for (out, _), _ in got], axis=2), answer[0])
        close(got[-1][0][1], answer[1])


def narrow(dtype):
    """The slice of a long problem in a narrow dtype; 257 tokens, cut at 100."""
    rank = dist.get_rank()
    whole = problem(1, 4, 257, 16, 24, with_state=False)
    arrays = whole.arrays(TORCH, dtype)
    out, end = retention_sequence_parallel(*whole.part(arrays, 100 * rank, 100 + 157 * rank), arrays[3])
    assert out.dtype == getattr(torch, dtype)
    assert end.dtype == torch.float32
    return TORCH.to_numpy(out), TORCH.to_numpy(end)


def test_narrow_dtypes_are_as_precise_as_on_one_process():
    dtypes = [("float32",), ("bfloat16",)]
    by_rank = in_processes(2, for_each, narrow, dtypes)
    for (dtype,), (first, _), (second, end) in zip(dtypes, *by_rank, strict=True):
        whole = problem(1, 4, 257, 16, 24, with_state=False)
        rounded = type(whole)(*(TORCH.to_numpy(x) for x in whole.arrays(TORCH, dtype)[:3]), whole.gamma, None)
        want = run(refimpl.retention_parallel, rounded, NUMPY)
        assert relative_rms(np.concatenate([first, second], axis=2), want[0]) < PRECISION[dtype]
        assert relative_rms(end, want[1]) < PRECISION["float32"]


CONFIG = refimpl.RetNetConfig(vocab_size=17, dim=16, num_layers=2, num_heads=2, row_norm=True)
TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, 17, (2, 24)))


def train_on_a_slice():
    """Loss and gradients of a whole model from this process's slice, summed over the processes by DDP."""
    model = DistributedDataParallel(RetNet(CONFIG, seed=3, dtype=torch.float64))
    inputs, state = own_slice(TOKENS[:, :-1], CONFIG)
    targets, _ = own_slice(TOKENS[:, 1:], CONFIG)
    logits, end = model(inputs, retention=retention_sequence_parallel, state=state)
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / TOKENS[:, 1:].numel()
    (dist.get_world_size() * loss).backward()  # DDP takes the mean of gradients, and they are to be added
    dist.all_reduce(loss.data)
    gradients = {name: weight.grad.numpy() for name, weight in model.module.named_parameters()}
    return loss.item(), gradients, [layer.detach().numpy() for layer in end.layers], end.position


def test_a_model_has_the_loss_and_gradients_of_one_process():
    model = RetNet(CONFIG, seed=3, dtype=torch.float64)
    logits, end = model(TOKENS[:, :-1])
    want = cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten())
    want.backward()
    by_rank = in_processes(3, train_on_a_slice)
    for loss, gradients, _, _ in by_rank:
        assert abs(loss - want.item()) < 1e-12
        for name, weight in model.named_parameters():
            close(gradients[name], weight.grad.numpy())
    *_, layers, position = by_rank[-1]
    assert position == 23
    for layer, wanted in zip(layers, end.layers, strict=True):
        close(layer, wanted.detach().numpy())


@pytest.mark.parametrize("reverse", [False, True])
def test_halves_on_a_gpu_are_summed_by_the_fused_kernel(reverse, monkeypatch):
    """The same numbers from it, here in the interpreter, as from torch; float32 and float64 go to torch."""
    kernels = pytest.importorskip("gpu.kernels.triton_retention", reason="Triton is not installed")
    calls, plain = [], kernels.state_written_triton
    monkeypatch.setattr(kernels, "state_written_triton", lambda *x, **how: calls.append(x) or plain(*x, **how))
    k, v, gamma = problem(2, 3, 70, 16, 24, with_state=False).arrays(TORCH, "float16")[1:4]
    want = sequence.written(k, v, gamma, reverse=reverse)
    assert not calls
    monkeypatch.setattr(sequence, "has_fused", lambda device: True)
    got = sequence.written(k, v, gamma, reverse=reverse)
    assert len(calls) == 1
    assert got.dtype == want.dtype == torch.float32
    assert relative_rms(got.numpy(), want.numpy()) < PRECISION["float16"]
    sequence.written(k.float(), v.float(), gamma)
    assert len(calls) == 1


def count_sent(times):
    """What this process gives to torch.distributed in a forward and a backward pass of a model, for each length."""
    counts = []
    for time in times:
        model = RetNet(CONFIG)
        tokens, state = own_slice(torch.zeros((2, time), dtype=torch.int64), CONFIG)
        with Sent() as forward:
            logits, _ = model(tokens, retention=retention_sequence_parallel, state=state)
        with Sent() as backward:
            logits.sum().backward()
        counts.append([(sent.bytes, sent.calls) for sent in (forward, backward)])
    return counts


def test_one_state_a_layer_is_all_that_is_sent_whatever_the_length():
    """And beside it the decay of each head, in two parts, by which the others weigh the states before."""
    heads, layers = CONFIG.num_heads, CONFIG.num_layers
    message = (2 * heads * CONFIG.key_dim * CONFIG.value_dim + 2 * heads) * 4  # B H K V + 2 H numbers of four bytes
    for counts in in_processes(3, count_sent, (6, 96)):
        for passes in counts:  # of 6 tokens and of 96
            for sent, calls in passes:  # forwards and backwards
                assert calls == Counter({"c10d::allgather_": layers})
                assert sent == Counter({"c10d::allgather_": layers * message})


def refusals():
    """The message for a state on this process, where it is not the first."""
    q, k, v, gamma, state = case(True).arrays(TORCH)
    if dist.get_rank() == 0:
        return None
    with pytest.raises(ValueError, match="state must be None on every process but the first") as refused:
        retention_sequence_parallel(q, k, v, gamma, state)
    with pytest.raises(ValueError, match="gamma must lie in"):
        retention_sequence_parallel(q, k, v, gamma + 1)
    return str(refused.value)


def test_bad_arguments_are_refused_before_anything_is_sent():
    _, message = in_processes(2, refusals)
    assert message == "state must be None on every process but the first of the group, got one on process 1"
