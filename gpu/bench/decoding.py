"""What a decoded token costs: steps of a batch that has read a context, its memory, and the floor of moving its bytes.

Parameters are bfloat16 in every model. RetNet's states are float32, and so are its decays and the sums in its norms; the
Transformer's cache is bfloat16. A step is a CUDA graph on a GPU. What the context was does not matter to the cost, so
states and caches are random. The Transformer's graph is recorded at its context: its new token is the last of `context`,
and flash attention reads that many keys and values from a view of the cache.
"""

import dataclasses
import functools
from contextlib import nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from refimpl import State

from ..kernels.registry import FLA, has_fla, has_fused, step_of
from ..models.baseline import Memory
from ..models.build import build_random
from ..numerics import layer_caller
from ..sampling.generate import GraphedStep, Step, record
from .timing import Candidate, Work, out_of_memory, peak_since, start_of_peak

LARGEST = "largest"  # a batch: as many sequences as memory holds
CPU_MEMORY = 2**22  # bytes that count as free on a CPU, so that a look at the command stays short
MOST_BLOCKS = 65535  # of a CUDA grid's second axis, along which kernels put sequences times heads
TRIAL = 2**28  # bytes of state or cache, beside which what libraries allocate once is small


def decoding_candidates(config, context, batch, compiled, device):
    """The `Candidate`s at one context and batch, a number or `LARGEST`, for a `BenchmarkConfig`."""
    kinds = [("RetNet", "retnet", {}), ("Transformer", "transformer", {})]
    if has_fused(device):
        kinds.append(("RetNet, fused", "retnet", {"retention": "triton"}))
    if has_fla(device):
        kinds.append((f"RetNet, {FLA}", "retnet", {"retention": "fla"}))
    if config.grouped:
        kinds.append(("Transformer, grouped", "transformer", {"kv_heads": config.attention_heads // 4}))
    found = []
    for label, model, settings in kinds:
        if model not in config.models:
            continue
        run = config.run(model, compile=compiled, **settings)
        heads = {"heads": run.num_heads, "kv_heads": None if model == "retnet" else run.kv_heads or run.num_heads}
        row = {"section": "decoding", "name": label, "model": model, "compiled": compiled, "context": context}
        row |= {"largest": batch == LARGEST, "batch": None if batch == LARGEST else batch, **heads}

        def build(run=run, batch=batch):
            if batch == LARGEST:
                return largest_work(run, context, device, config.memory_share)
            return decoding_work(run, context, batch, device)

        found.append(Candidate(row, build))
    return found


@torch.no_grad()
def decoding_work(run, context, batch, device):
    """One step of `batch` sequences that have read context - 1 tokens each, for the model of a `RunConfig`."""
    model = build_random(run, device, torch.bfloat16)
    on_gpu = torch.device(device).type == "cuda"
    how = {"layer": layer_caller(run)}
    tokens = torch.randint(0, run.vocab_size, (batch,), device=device)
    if run.model == "retnet":
        past, how = random_state(model.config, context, batch, device), how | {"retention": step_of(run.retention)}
        if on_gpu:
            step = GraphedStep(model, past, **how)
            step.tokens.copy_(tokens)
            past = step.buffers
        else:
            step = functools.partial(Step(model, past, **how), tokens)
    else:
        past = random_memory(model, context, batch)

        @torch.no_grad()
        def step():
            return model(tokens[:, None], past, **how)[0]

        if on_gpu:
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if has_flash(device) else nullcontext():
                step = Recorded(step, device)
    call = (lambda: step.graph.replay()) if on_gpu else step  # it holds the step, whose memory the graph reads
    facts = {"cuda_graph": on_gpu, "flash_attention": run.model == "transformer" and has_flash(device)}
    return Work(call, batch, decoding_facts(model, past, run, batch) | facts)


def has_flash(device):
    """Whether flash attention is there: on a GPU of compute capability 8 or more."""
    device = torch.device(device)
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


class Recorded:
    """A call as a CUDA graph, kept together with the memory that the graph reads and writes."""

    def __init__(self, call, device):
        self.call = call
        self.graph, self.result = record(call, device)


def random_state(config, context, batch, device):
    """A `State` at position context - 1, normal; all sequences share one's memory until it is copied."""
    shape = 1, config.num_heads, config.key_dim, config.value_dim
    layers = (torch.randn(shape, device=device).expand(batch, -1, -1, -1) for _ in range(config.num_layers))
    return State(torch.full((batch,), context - 1, dtype=torch.int64, device=device), tuple(layers))


def random_memory(model, context, batch):
    """A `Memory` of that capacity, filled but for its last place."""
    memory = model.memory(batch, context)
    for keys, values in memory.layers:
        keys.normal_()
        values.normal_()
    return Memory(context - 1, memory.layers)


def past_bytes(run, context, batch):
    """Bytes of what `batch` sequences keep.

    RetNet: a state of H K V float32 numbers a layer, at any context. Transformer: keys and values of each token in
    kv_heads heads of dim / num_heads channels, a layer, in bfloat16.
    """
    if run.model == "retnet":
        shape = run.retnet
        return 4 * batch * shape.num_layers * shape.num_heads * shape.key_dim * shape.value_dim
    width = run.dim // run.num_heads
    return 2 * 2 * batch * run.num_layers * (run.kv_heads or run.num_heads) * width * context


def decoding_facts(model, past, run, batch):
    """Fields of a row: sizes as they are in memory, and `moved_bytes`, what a step cannot but move.

    That is every parameter but the embedding, of which only the tokens' rows are read, and the past: a state is read and
    written, a cache is read.
    """
    kept = sum(x.numel() * x.element_size() for layer in past.layers for x in _tensors(layer))
    weights = sum(x.numel() * x.element_size() for x in model.parameters())
    embedding = model.embedding if run.model == "retnet" else model.embedding.weight
    table = embedding.numel() * embedding.element_size()
    return {
        "batch": batch,
        "parameters": sum(x.numel() for x in model.parameters()),
        "weight_bytes": weights,
        "past_bytes": kept,
        "moved_bytes": weights - table + kept * (2 if run.model == "retnet" else 1),
        "dtypes": {"parameters": "bfloat16", "past": "float32" if run.model == "retnet" else "bfloat16"},
    }


def _tensors(layer):
    return layer if isinstance(layer, tuple) else (layer,)


def largest_work(run, context, device, share):
    """`decoding_work` with as many sequences as `share` of the free memory holds; halved while they do not fit.

    What a sequence takes is measured by two small batches; on a CPU it is the formula of `past_bytes`.
    """
    start_of_peak(device)
    parameters = 2 * sum(weight.numel() for weight in build_random(run, "meta", torch.bfloat16).parameters())
    free = torch.cuda.mem_get_info(device)[0] if torch.device(device).type == "cuda" else CPU_MEMORY
    each = bytes_a_sequence(run, context, device)
    most = most_sequences(run)
    batch = planned = min(most, int((share * free - parameters) // each))
    while batch >= 1:
        work = _unless_full(lambda batch=batch: decoding_work(run, context, batch, device))
        if work is not None:
            found = {
                "free_bytes": free,
                "bytes_a_sequence": each,
                "planned_batch": planned,
                "limit": "the grid of a kernel" if batch == most else "memory",
            }
            return work._replace(facts=work.facts | found)
        start_of_peak(device)
        batch //= 2
    raise torch.OutOfMemoryError("not even one sequence fits")


def most_sequences(run):
    """The most that a kernel takes at once, whatever the memory: the fused step's programs are on a grid's first axis."""
    return 2**31 if (run.model, run.retention) == ("retnet", "triton") else MOST_BLOCKS // run.num_heads


def bytes_a_sequence(run, context, device):
    """How much one more sequence takes, what is computed on the way included; not compiled, for that takes more."""
    run = dataclasses.replace(run, compile=False)
    alone = past_bytes(run, context, 1)
    if torch.device(device).type != "cuda":
        return alone
    small, peaks = min(-(-TRIAL // alone), most_sequences(run) // 2), []
    for batch in (small, 2 * small):
        before = start_of_peak(device)
        if _unless_full(lambda batch=batch: decoding_work(run, context, batch, device)) is None:
            return alone
        peaks.append(peak_since(before, device))
    start_of_peak(device)
    return max(alone, (peaks[1] - peaks[0]) / small)


def _unless_full(build):
    """What build() returns, or None if memory ran out, whose remains are then free again."""
    try:
        return build()
    except Exception as error:
        if not out_of_memory(error):
            raise
        return None
