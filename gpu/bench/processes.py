"""torchrun --nproc-per-node 2 -m gpu.check_processes: compare several processes with one, and time them.

Sequence-parallel retention, a sequence-parallel model and training in every way of `gpu.parallel.strategies` are each compared
with one device: every process also computes the whole by itself. Then training is timed at windows of several lengths, on one
process and on all, in turn within a round. Tests run it small on two CPU processes; on GPUs it is run by hand and writes a
results file. A row that fails says why, the others are still measured, and the exit status is 1.
"""

import dataclasses
import functools
import json
import math
import platform
import shlex
import statistics
import sys
import time
from datetime import timedelta
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from refimpl import RetNetConfig, head_decays, retention_chunkwise
from refimpl.bench.timing import interleave
from refimpl.files import write_atomically
from refimpl.libraries import values_trusted

from ..kernels.registry import RETENTIONS, has_fused
from ..models.build import build
from ..models.retnet import RetNet
from ..numerics import numerics
from ..parallel.processes import (
    held,
    is_first,
    largest,
    mean_over_processes,
    on_first,
    processes,
    replicate,
    shard,
    whole,
)
from ..parallel.sequence import exchange, own_slice, retention_sequence_parallel, written
from ..parallel.strategies import OneProcess, parallelism
from ..training.config import PARALLELISMS, RunConfig
from ..training.step import Trainer
from .timing import seconds_of

# As a share of the largest number compared; bfloat16 rounds to 2^-9.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 1e-2}
LENGTH = 1001  # not a multiple of the number of processes
STEPS = 20
WARM_UP = 2  # rounds that do not count
REPEATS = 20  # calls of a part of a step that are timed together
AMPLIFIED = 10  # see `training_row`
# A process gives up after waiting this long for another; earlier rows are in the file.
HANGS_AFTER = timedelta(minutes=3)


def check(out, dim, layers, tokens, lengths, work, rounds, precision, device=None):
    """Compare and time as `gpu.bench.commands.check_processes` says; returns True if no row failed."""
    with processes(device, timeout=HANGS_AFTER) as here:
        shape = {"dim": dim, "num_layers": layers, "num_heads": 4}
        config = RetNetConfig(**shape)
        size = dist.get_world_size()
        compared = RunConfig(**shape, window=128, batch_size=2 * size, retention="chunkwise")
        measures = [
            *(functools.partial(retention_row, here, dtype) for dtype in TOLERANCES),
            *(functools.partial(model_row, here, config, share) for share in (replicate, shard)),
            *(
                functools.partial(training_row, here, dataclasses.replace(compared, parallelism=kind), dtype)
                for kind in PARALLELISMS
                for dtype in (torch.float64, torch.float32)
            ),
            functools.partial(speed_row, here, tokens),
            *(
                functools.partial(scaling_rows, here, window, max(1, work // window), precision, rounds, shape)
                for window in lengths
            ),
        ]
        rows = []
        for measure in measures:
            named = {"what": measure.func.__name__, "with": [describe(x) for x in measure.args[1:]]}
            on_first(write, out, [*rows, named | {"failed": "it did not come to an end"}])
            new = attempt(measure, named)
            rows += new if isinstance(new, list) else [new]
            on_first(write, out, rows)
            if is_first():
                print(new, flush=True)
    return not any("failed" in row for row in rows)


def describe(argument):
    """The part of an argument that tells its row from others.

    >>> describe(RunConfig(parallelism="sharded")), describe(replicate), describe(torch.float64)
    ('sharded', 'replicate', 'torch.float64')
    """
    return getattr(argument, "parallelism", None) or getattr(argument, "__name__", f"{argument}")


def attempt(measure, named):
    """The row that measure() returns, on every process; if it raises on any of them, `named` with the reasons."""
    error, row = None, None
    try:
        row = measure()
    except Exception as raised:
        error = f"process {dist.get_rank()}: {type(raised).__name__}: {raised}"
    errors = [None] * dist.get_world_size()
    dist.all_gather_object(errors, error)
    if any(errors):
        row = named | {"failed": "; ".join(filter(None, errors))}
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return row


def write(out, rows):
    """Write the results file with the rows measured so far."""
    on_gpu = dist.get_backend() == "nccl"
    result = {
        "what": "several processes against one device with the same inputs",
        "command": shlex.join(
            ["torchrun", "--nproc-per-node", f"{dist.get_world_size()}", "-m", "gpu.check_processes", *sys.argv[1:]]
        ),
        "processes": dist.get_world_size(),
        "backend": dist.get_backend(),
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads each",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "rows": rows,
    }
    write_atomically(out, json.dumps(result, indent=2) + "\n")


def retention_row(device, dtype):
    """Outputs, end state and all gradients of sequence-parallel retention against retention_chunkwise in float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"q": (2, 4, LENGTH, 16), "k": (2, 4, LENGTH, 16), "v": (2, 4, LENGTH, 24), "state": (2, 4, 16, 24)}
    normal = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    dtypes = {"state": torch.promote_types(dtype, torch.float32)}
    inputs = {name: normal(shape).to(device, dtypes.get(name, dtype)) for name, shape in shapes.items()}
    weights = normal(shapes["v"]).to(device)
    gamma = torch.from_numpy(head_decays(4)).to(device)

    one = {name: x.double().clone().requires_grad_() for name, x in inputs.items()}
    want_out, want_end = retention_chunkwise(one["q"], one["k"], one["v"], gamma, one["state"])
    ((want_out * weights).sum() + want_end.sum()).backward()

    rank, size = dist.get_rank(), dist.get_world_size()
    mine = slice(LENGTH * rank // size, LENGTH * (rank + 1) // size)
    own = {name: (x if name == "state" else x[:, :, mine]).clone().requires_grad_() for name, x in inputs.items()}
    state = own["state"] if rank == 0 else None
    got_out, got_end = retention_sequence_parallel(own["q"], own["k"], own["v"], gamma, state)
    ((got_out * weights[:, :, mine]).sum() + got_end.sum() * (rank == size - 1)).backward()

    pairs = {"out": (got_out, want_out[:, :, mine])} | {
        f"d{name}": (own[name].grad, one[name].grad[:, :, mine]) for name in ("q", "k", "v")
    }
    if rank == 0:
        pairs["dstate"] = (own["state"].grad, one["state"].grad)
    if rank == size - 1:
        pairs["end"] = (got_end, want_end)
    # A narrow dtype is compared with float64 from the same rounded inputs, so that only its own rounding differs.
    off = {
        f"{name} off": worst(difference(*pairs[name]) if name in pairs else 0.0)
        for name in ("out", "end", "dq", "dk", "dv", "dstate")
    }
    return evaluate({"what": "sequence-parallel retention"} | off, dtype)


def model_row(device, config, share):
    """Loss and gradients of a model with its text split over the processes, against the whole text on one device."""
    text = torch.randint(config.vocab_size, (2, LENGTH + 1), generator=torch.Generator().manual_seed(1)).to(device)
    one = RetNet(config, dtype=torch.float64).to(device)
    logits, _ = one(text[:, :-1], retention=retention_chunkwise)
    want = cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
    want.backward()

    model = share(RetNet(config, dtype=torch.float64), device)
    inputs, state = own_slice(text[:, :-1], config)
    targets, _ = own_slice(text[:, 1:], config)
    logits, _ = model(inputs, retention=retention_sequence_parallel, state=state)
    # Gradients are averaged over processes, and the average of this loss is the mean over all targets.
    loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    loss = loss * dist.get_world_size() / text[:, 1:].numel()
    loss.backward()
    off = max(difference(whole(p.grad), q.grad) for p, q in zip(model.parameters(), one.parameters(), strict=True))
    row = {
        "what": f"sequence-parallel model, {share.__name__}",
        "loss off": worst(difference(mean_over_processes(loss), want)),
        "gradients off": worst(off),
    }
    return evaluate(row, torch.float64)


def training_row(device, config, dtype):
    """STEPS steps of all processes together against one alone: losses, gradient norms, and the weights after.

    AdamW divides by the size of gradients, also where they are only rounding, so rounding grows from step to step. The
    first loss must agree to rounding. The rest may differ AMPLIFIED times as much as one process differs from itself when it
    computes the same batches in two parts.
    """
    tokens = torch.randint(
        config.vocab_size, (STEPS, config.batch_size, config.window + 1), generator=torch.Generator().manual_seed(2)
    ).numpy()
    together = parallelism(config)
    in_parts = dataclasses.replace(config, accumulation=2 * config.accumulation)
    one, itself, all_ = (
        trained(device, *how, tokens, dtype)
        for how in ((config, OneProcess()), (in_parts, OneProcess()), (config, together))
    )
    row = {"what": f"training, {config.parallelism}", "steps": STEPS}
    row |= {"first loss off": worst(abs(all_.values[0][0] / one.values[0][0] - 1))}
    row |= {f"{name} off": worst(value) for name, value in apart(all_, one).items()}
    row |= {f"{name} of one process in two parts": worst(value) for name, value in apart(itself, one).items()}
    row |= {"parameters held": all_.held, "parameters": one.held}
    row |= {"peak_mib": all_.peak, "peak_mib_one_device": one.peak}
    allowed = {
        f"{name} off": max(TOLERANCES[dtype], AMPLIFIED * row[f"{name} of one process in two parts"])
        for name in apart(one, one)
    }
    return evaluate(row, dtype, allowed)


class Trained(NamedTuple):
    """(loss, gradient norm) of each step; the weights after, {} where another process has them; parameters held; peak MiB."""

    values: list
    weights: dict
    held: int
    peak: int | None


def trained(device, config, shared, tokens, dtype):
    """Train one step on each batch of tokens (steps, batch, window + 1); returns a `Trained`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(build(config).to(dtype), config, device, shared)
    with values_trusted():
        values = [trainer.step(batch[:, :-1], batch[:, 1:], 1e-3) for batch in tokens]
    model = shared.whole_model(trainer.model, lambda: build(config).to(dtype))
    weights = {name: weight.cpu() for name, weight in model.state_dict().items()} if model else {}
    parameters = sum(held(weight).numel() for weight in trainer.parameters.values())
    peak = round(torch.cuda.max_memory_allocated() / 2**20) if device.type == "cuda" else None
    return Trained(values, weights, parameters, peak)


def apart(got, want):
    """Relative differences of a `Trained` from another: {"losses", "norms", "weights"}."""
    losses, norms = (
        max(abs(a[i] - b[i]) / abs(b[i]) for a, b in zip(got.values, want.values, strict=True)) for i in range(2)
    )
    weights = max((difference(got.weights[name], want.weights[name]) for name in got.weights), default=0.0)
    return {"losses": losses, "norms": norms, "weights": weights}


def scaling_rows(device, window, batch, precision, rounds, shape):
    """Tokens a second of training: a row a parallelism, all beside the same process alone; and a row of what a step is made of.

    One process alone trains `batch` windows of so many tokens a step. All together train as many tokens each (more windows,
    or for "sequence" longer ones), and the same batch, where it can be divided. Everything is timed once a round.
    """
    size = dist.get_world_size()
    config = RunConfig(
        **shape, window=window, batch_size=batch, precision=precision, deterministic=False, chunk_size=128,
        retention="triton" if has_fused(device) else "chunkwise",
    )  # fmt: skip
    calls = {"one process": step_of_training(device, config, OneProcess()) if is_first() else lambda: None}
    names = {}
    for kind in PARALLELISMS:
        length = "window" if kind == "sequence" else "batch_size"
        larger = dataclasses.replace(config, parallelism=kind, **{length: getattr(config, length) * size})
        names[kind] = f"{size} times the {length}", "same batch"
        step = step_of_training(device, larger, parallelism(larger))
        calls[kind, names[kind][0]] = functools.partial(step, larger)
        if kind == "sequence" or batch % size == 0:
            calls[kind, names[kind][1]] = functools.partial(step, config)
    with numerics(config, device), values_trusted():
        counted = list(interleave(calls, WARM_UP + rounds, seconds_together))[WARM_UP:]
        seconds = {name: [worst(each[name]) for each in counted] for name in calls}
        parts = parts_of_step(device, config)
    tokens = batch * window
    alone = [tokens / each for each in seconds["one process"]]
    common = {"retention": config.retention, "precision": precision, "window": window, "batch": batch, "rounds": rounds}
    rows = []
    for kind in PARALLELISMS:
        row = {"what": f"scaling, {kind}"} | common | {"tokens/s, one process": statistics.median(alone)}
        for name, times in zip(names[kind], (size, 1), strict=True):
            taken = seconds.get((kind, name))
            row |= rates(name, taken and [times * tokens / each for each in taken], alone, size)
        rows.append(row)
    together = seconds["sequence", names["sequence"][0]]
    return [
        *rows,
        {"what": "a step in parts, sequence"} | common | in_milliseconds(seconds["one process"], together, parts),
    ]


def rates(name, together, alone, size):
    """Fields of a row: the median of tokens a second, its share of `size` times one process alone, and from where to where.

    together, alone: of each round; together is None where a batch cannot be divided.

    >>> rates("x", [150.0, 190.0, 160.0], [100.0, 100.0, 80.0], 2)
    {'tokens/s, x': 160.0, 'efficiency, x': 0.8, 'efficiency from, to, x': [0.75, 1.0]}
    >>> rates("x", None, [100.0], 2)
    {'tokens/s, x': None, 'efficiency, x': None, 'efficiency from, to, x': None}
    """
    if together is None:
        return {f"{what}, {name}": None for what in ("tokens/s", "efficiency", "efficiency from, to")}
    median = statistics.median(together)
    by_round = [x / (size * y) for x, y in zip(together, alone, strict=True)]
    return {
        f"tokens/s, {name}": median,
        f"efficiency, {name}": median / (size * statistics.median(alone)),
        f"efficiency from, to, {name}": [min(by_round), max(by_round)],
    }


def step_of_training(device, config, shared):
    """A function that trains a step on random text; it may be given another config, of the same model, for other sizes."""
    trainer, texts = Trainer(build(config), config, device, shared), {}

    def step(sizes=config):
        shape = sizes.batch_size, sizes.window + 1
        if shape not in texts:
            draw = torch.Generator().manual_seed(3)
            texts[shape] = torch.randint(config.vocab_size, shape, generator=draw).numpy()
        text = texts[shape]
        loss, _ = trainer.step(text[:, :-1], text[:, 1:], 1e-3)  # a step waits for the device
        assert math.isfinite(loss), f"the loss is {loss}"

    return step


def seconds_together(call):
    """Seconds of a call on this process; all begin together."""
    dist.barrier()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def parts_of_step(device, config):
    """{part: seconds} of what a process of "sequence" computes in one layer, and sends, at its share of a step."""
    sizes = RetNetConfig(dim=config.dim, num_layers=1, num_heads=config.num_heads)
    narrow = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    shape = config.batch_size, config.window, sizes.num_heads
    q, k, v, grad = (
        torch.randn((*shape, width), device=device, dtype=narrow).transpose(1, 2)  # as a model has them
        for width in (sizes.key_dim, sizes.key_dim, sizes.value_dim, sizes.value_dim)
    )
    gamma = torch.from_numpy(head_decays(sizes.num_heads)).to(device)
    total, retention = written(k, v, gamma), RETENTIONS[config.retention](config.chunk_size)
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    gradients = torch.zeros(sum(weight.numel() for weight in build(config).parameters()), device=device)
    calls = {
        "total": lambda: written(k, v, gamma),
        "total of gradients": lambda: written(q, grad, gamma, reverse=True),
        "exchange": lambda: exchange(total, total, gamma, config.window),
        "retention": lambda: torch.autograd.grad(retention(*leaves, gamma, total)[0], leaves, grad),
        "all_reduce of gradients": lambda: dist.all_reduce(gradients),
    }
    found = {}
    for name, call in calls.items():
        call()
        dist.barrier()
        repeats = REPEATS if device.type == "cuda" else 1
        found[name] = worst(statistics.median(seconds_of(call, repeats, device) for _ in range(3)))
    return {"layers": config.num_layers} | found


def in_milliseconds(alone, together, parts):
    """Fields of a row: ms of a step alone and of all with as many tokens each, and of its parts, over all layers.

    unexplained: what the step takes longer beyond totals and exchanges: waiting for each other, and the part of the gradients'
    all_reduce that nothing hides.

    >>> parts = {"layers": 2, "total": 0.001, "total of gradients": 0.002, "exchange": 0.0005, "retention": 0.04}
    >>> in_milliseconds([0.1], [0.12], parts | {"all_reduce of gradients": 0.001})["ms, unexplained"]
    12.0
    """
    layers, ms = parts["layers"], {}
    ms["alone"], ms["together"] = (1e3 * statistics.median(seconds) for seconds in (alone, together))
    ms["retentions"] = 1e3 * layers * parts["retention"]
    ms["totals"] = 1e3 * layers * (parts["total"] + parts["total of gradients"])
    ms["exchanges"] = 2e3 * layers * parts["exchange"]
    ms["all_reduce of gradients"] = 1e3 * parts["all_reduce of gradients"]
    ms["unexplained"] = ms["together"] - ms["alone"] - ms["totals"] - ms["exchanges"]
    return {f"ms, {name}": round(value, 4) for name, value in ms.items()}


def speed_row(device, tokens):
    """Seconds of one retention, forward and backward, over a long sequence: on one device, and shared by all."""
    gamma = torch.from_numpy(head_decays(8)).to(device)
    chunkwise = functools.partial(retention_chunkwise, chunk_size=512)
    shared = functools.partial(retention_sequence_parallel, retention=chunkwise)
    row = {"what": "a retention timed", "dtype": "float32", "tokens": tokens}
    own = tokens // dist.get_world_size()
    for name, retention, length in (("one device", chunkwise, tokens), ("shared", shared, own)):
        q, k, v = (torch.randn((1, 8, length, n), device=device, requires_grad=True) for n in (64, 64, 128))
        seconds = []
        for _ in range(4):
            dist.barrier()
            started = time.perf_counter()
            retention(q, k, v, gamma)[0].sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(worst(time.perf_counter() - started))
        row[f"seconds, {name}"] = statistics.median(seconds[1:])  # the first one warms up
    return row


def difference(got, want):
    """The largest difference, as a share of the largest number wanted; 0 for no numbers."""
    if not want.numel():
        return 0.0
    return ((got.double() - want.double()).abs().max() / want.double().abs().max()).item()


def worst(value):
    """The largest of the processes' numbers, on each; NaN if any is."""
    number = largest(math.inf if math.isnan(value) else value)
    return math.nan if math.isinf(number) else number


def evaluate(row, dtype, allowed=None):
    """The row with its dtype and bounds; "failed" names every error above its bound.

    allowed: {name: bound} for errors with a bound other than that of the dtype.
    """
    allowed = {name: TOLERANCES[dtype] for name in row if name.endswith(" off")} | (allowed or {})
    bad = [name for name, bound in allowed.items() if not row[name] <= bound]
    row = row | {"dtype": f"{dtype}".removeprefix("torch."), "allowed": allowed}
    return row | ({"failed": ", ".join(f"{name} by {row[name]:.1e}" for name in bad)} if bad else {})
