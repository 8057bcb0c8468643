"""Training in NumPy: cross-entropy, AdamW, and a step of both. The loop is `refimpl.training.loop`."""

import dataclasses
import math
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np

from ..backward import backward, retention_parallel_backward
from ..checks import check_choice, check_integer, check_number
from ..config import FEED_FORWARDS, RetNetConfig
from ..model import INITIALISATIONS, forward, init_params
from ..retention import retention_parallel
from ..rotation import LADDERS
from ..tree import flatten
from ..weights import save_params
from .checkpoint import NAME, load_tensors, save_checkpoint
from .folder import begin, locked
from .loop import fit
from .settings import check_fields
from .stopping import stop_on_signals
from .tasks import IGNORED, TASKS, check_sizes
from .text import VOCAB_SIZE

# No machine holds a larger one; NumPy's and torch's own errors for what 64 bits cannot count name no setting.
LARGEST = 2**28
SIZES = ("vocab_size", "dim", "num_layers", "num_heads", "batch_size", "window", "key_dim", "value_dim", "ffn_dim")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The settings of a run, each with its meaning; a ValueError or TypeError names an impossible one."""

    corpus: Annotated[
        str, "text to train on: kjv (the King James Bible), a text file, a folder of texts or one of token shards"
    ] = "kjv"
    from_weights: Annotated[
        str | None,
        "file or folder of a RetNet to start from, of a run or as found on a hub; its shape is theirs; by default random weights",
        "--from-weights",
        "--from",
    ] = None
    task: Annotated[str | None, f"what to learn instead of a text: {', '.join(TASKS)}; by default the corpus"] = None
    pairs: Annotated[
        tuple[int, ...],
        "how much a task asks for: pairs of recall, tokens of the copying tasks; several are taken in turn; by default few",
    ] = ()
    curriculum: Annotated[
        float, "share of the steps, 0 to 1, over which a task's numbers of pairs come in one after another, as listed"
    ] = 0.0
    vocab_size: Annotated[
        int, "number of tokens: 256 for bytes, more for byte pairs learnt from the text; of a task any number"
    ] = VOCAB_SIZE
    dim: Annotated[int, "width of the model in channels"] = 128
    num_layers: Annotated[int, "number of layers"] = 2
    num_heads: Annotated[int, "heads of a layer"] = 4
    steps: Annotated[int, "optimizer steps of the run"] = 900
    batch_size: Annotated[int, "windows of text in a step"] = 16
    window: Annotated[int, "length of a window in tokens"] = 64
    once: Annotated[bool, "read no token twice; the text must have steps x batch_size x window of them"] = False
    learning_rate: Annotated[float, "highest learning rate of AdamW; a cosine lowers it to a tenth"] = 5e-3
    warmup: Annotated[int, "first steps, in which the learning rate rises"] = 50
    weight_decay: Annotated[float, "decoupled weight decay of AdamW"] = 0.05
    clip: Annotated[float, "largest norm of a gradient; longer ones are scaled down to it"] = 1.0
    evaluate_every: Annotated[int, "steps between two losses on held-out text"] = 100
    sample_bytes: Annotated[int, "length of the sample at the end in tokens"] = 400
    prompt: Annotated[str, "text that the sample continues"] = "And the LORD said unto"
    seed: Annotated[int, "seed of the parameters and the batches"] = 0
    initialisation: Annotated[
        str,
        "random weights: default (of RetNet the released code's, of a baseline its own), normal (every matrix of deviation "
        "0.02) or depth (default, output projections divided by the root of 2 num_layers, as a baseline's are anyway)",
    ] = "default"
    key_dim: Annotated[int | None, "width of a head's queries and keys, even; by default dim / num_heads"] = None
    value_dim: Annotated[int | None, "width of a head's values; by default twice key_dim"] = None
    ffn_dim: Annotated[int | None, "inner width of the feed-forward; by default twice dim"] = None
    gamma_schedule: Annotated[str, "decays of the heads: released, paper, quarter, or one gamma in (0, 1] for all"] = (
        "released"
    )
    rotation: Annotated[str, f"rotation of queries and keys: {', '.join(LADDERS)} or none"] = "released"
    gate: Annotated[bool, "multiply the output of retention by a gate (Eq. 8)"] = True
    group_norm: Annotated[str, "norm of each head's output: rms, mean (also subtracts the mean) or none"] = "rms"
    group_norm_affine: Annotated[bool, "give that norm a weight, which the heads share"] = False
    ffn: Annotated[str, f"feed-forward: {', '.join(FEED_FORWARDS)}; gelu alone has no gate"] = "swiglu"
    scale_keys: Annotated[bool, "multiply keys by the root of 1 / key_dim"] = True
    row_norm: Annotated[bool, "divide the output of retention by the root of the row sums of D"] = False
    embedding_scale: Annotated[float, "what embeddings are multiplied by"] = 1.0
    norm_eps: Annotated[float, "eps of every norm"] = 1e-6

    def __post_init__(self):
        if isinstance(self.gamma_schedule, (int, float)) and not isinstance(self.gamma_schedule, bool):
            object.__setattr__(self, "gamma_schedule", str(float(self.gamma_schedule)))
        check_fields(self)
        for name in (
            "dim",
            "num_layers",
            "num_heads",
            "steps",
            "batch_size",
            "window",
            "evaluate_every",
            "sample_bytes",
        ):
            check_integer(name, getattr(self, name), minimum=1)
        for name in ("warmup", "seed"):
            check_integer(name, getattr(self, name), minimum=0)
        for name in SIZES:
            if (getattr(self, name) or 0) > LARGEST:
                raise ValueError(f"{name} must be at most {LARGEST}, got {getattr(self, name)}")
        if self.seed >= 2**63:  # torch's generators take no more
            raise ValueError(f"seed must be below 2**63, got {self.seed}")
        self._check_task()
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        check_number("weight_decay", self.weight_decay, minimum=0.0)
        if not self.prompt:
            raise ValueError("prompt must hold at least one character, got ''")
        check_choice("initialisation", self.initialisation, INITIALISATIONS)
        if self.initialisation != "default" and self.from_weights is not None:
            raise ValueError(f"initialisation must be left out with from_weights, got {self.initialisation!r}")
        check_choice("rotation", self.rotation, (*LADDERS, "none"))
        check_choice("group_norm", self.group_norm, ("rms", "mean", "none"))
        _ = self.retnet  # raises for an impossible RetNet

    def _check_task(self):
        """Require sizes that the task can be asked at, or of a text a vocabulary that holds the bytes."""
        if not 0 <= check_number("curriculum", self.curriculum) <= 1:
            raise ValueError(f"curriculum must be from 0 to 1, got {self.curriculum}")
        if self.task is None:
            check_integer("vocab_size", self.vocab_size, minimum=VOCAB_SIZE)
            for name, usual in (("pairs", ()), ("curriculum", 0.0)):
                if getattr(self, name) != usual:
                    raise ValueError(f"{name} must be left out without a task, got {getattr(self, name)}")
            return
        object.__setattr__(self, "pairs", self.pairs or TASKS[check_choice("task", self.task, TASKS)].small["pairs"])
        for pairs in self.pairs:
            sizes = {"length": self.window, "pairs": pairs, "vocab_size": self.vocab_size}
            check_sizes(self.task, **sizes, names=("window", "pairs", "vocab_size"))
        for name, usual in (("from_weights", None), ("once", False)):
            if getattr(self, name) != usual:
                raise ValueError(f"{name} must be left out with a task, got {getattr(self, name)!r}")

    @property
    def retnet(self):
        """The `RetNetConfig` of the run's model; no run has a score_norm, for it has no recurrent form to sample in."""
        names = [field.name for field in dataclasses.fields(RetNetConfig) if field.name != "score_norm"]
        choices = {name: None if getattr(self, name) == "none" else getattr(self, name) for name in names}
        with suppress(ValueError):
            choices["gamma_schedule"] = float(self.gamma_schedule)
        return RetNetConfig(**choices)


def cross_entropy(logits, targets):
    """Mean of -log2 softmax(logits)[target], in bits a token, and its gradient with respect to the logits.

    logits (B, T, vocab), targets (B, T) integers, of which `refimpl.training.tasks.IGNORED` do not count; returns a float
    and (B, T, vocab) in the logits' dtype.

    >>> cross_entropy(np.zeros((1, 1, 4)), np.array([[2]]))
    (2.0, array([[[ 0.36067376,  0.36067376, -1.08202128,  0.36067376]]]))
    """
    logits = logits - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(logits)
    total = exponentials.sum(axis=-1, keepdims=True)
    chosen = np.take_along_axis(logits, targets[..., None], axis=-1) - np.log(total)
    grad = exponentials / total
    np.put_along_axis(grad, targets[..., None], np.take_along_axis(grad, targets[..., None], axis=-1) - 1, axis=-1)
    if not (asked := targets != IGNORED).all():
        chosen, grad = chosen[asked], grad * asked[..., None]
    return -float(chosen.mean(dtype=np.float64)) / math.log(2), grad * (1.0 / (int(asked.sum()) * math.log(2)))


class AdamW:
    """Adam with decoupled weight decay (arXiv:1711.05101); updates the arrays of `params`, a dict by name, in place."""

    def __init__(self, params, *, betas=(0.9, 0.98), weight_decay=0.05, eps=1e-8):
        self.params, self.betas, self.weight_decay, self.eps, self.count = params, betas, weight_decay, eps, 0
        self.mean = {name: np.zeros_like(param) for name, param in params.items()}
        self.square = {name: np.zeros_like(param) for name, param in params.items()}

    def step(self, grads, learning_rate):
        """One update with gradients of the same names."""
        self.count += 1
        fast, slow = self.betas
        rate = learning_rate / (1 - fast**self.count)
        correction = (1 - slow**self.count) ** -0.5
        for name, param in self.params.items():
            grad, mean, square = grads[name], self.mean[name], self.square[name]
            mean += (1 - fast) * (grad - mean)
            square += (1 - slow) * (grad * grad - square)
            param *= 1 - learning_rate * self.weight_decay
            param -= rate * mean / (np.sqrt(square) * correction + self.eps)


def clip_by_norm(grads, most):
    """Scale gradients, a dict by name, in place to a total norm of at most `most`; returns the norm before."""
    norm = math.sqrt(sum(float(np.vdot(grad, grad)) for grad in grads.values()))
    if norm > most:
        for grad in grads.values():
            grad *= most / (norm + 1e-6)
    return norm


FILES = (NAME, "run.toml", "log.jsonl", "tokenizer.json", "weights.safetensors")  # of a run, the last at its end


def train(
    config, out, *, retention=retention_parallel, retention_backward=retention_parallel_backward, console=None,
    resume=False, fresh=False,
):  # fmt: skip
    """Train the NumPy model with gradients by hand; returns (params, log), the log of `refimpl.training.loop.fit`.

    The folder `out` gets run.toml (the settings), log.jsonl, checkpoint.safetensors, tokenizer.json and, in the end,
    weights.safetensors. retention, retention_backward: any pair under the contract, such as the compiled ones. resume,
    fresh and further errors: as for `refimpl.training.folder.begin`.

    Raises:
        StoppedError: SIGINT, SIGTERM or SIGHUP came; the checkpoint is that of the last step.
        ValueError: another process works in the folder.
        Errors as for `fit`.
    """
    with locked(out):
        run = begin(out, config, FILES, resume=resume, fresh=fresh)
        params = run.params or init_params(config.retnet, config.seed, initialisation=config.initialisation)
        optimizer = AdamW(flatten(params), weight_decay=config.weight_decay)
        parts = {"weight": optimizer.params, "mean": optimizer.mean, "square": optimizer.square}
        tensors = {f"{kind}.{name}": array for kind, arrays in parts.items() for name, array in arrays.items()}
        if run.progression:
            wanted = {name: (array.shape, array.dtype) for name, array in tensors.items()}
            kept, optimizer.count = load_tensors(out, type(config), wanted), run.progression.step
            for name, array in tensors.items():
                array[...] = kept[name]

        def keep(progression):
            save_checkpoint(out, config, progression, run.fingerprint, tensors)

        def predict(inputs):
            return forward(params, inputs, config.retnet, retention=retention)[0].argmax(axis=-1)

        step, loss = trainer(params, config, retention, retention_backward, optimizer)
        with stop_on_signals() as request, np.errstate(over="ignore", invalid="ignore"):  # `fit` looks itself
            log = fit(
                config,
                step,
                loss,
                out,
                console,
                text=run.text,
                progress=run.progression,
                stop=request,
                keep=keep,
                predict=predict,
            )
        save_params(Path(out) / "weights.safetensors", params, config.retnet)
    return params, log


def trainer(
    params, config, retention=retention_parallel, retention_backward=retention_parallel_backward, optimizer=None
):
    """The functions step and loss for `fit`; steps update the NumPy parameters in place.

    optimizer: an `AdamW` of the flattened parameters, by default a new one.
    """
    optimizer = optimizer or AdamW(flatten(params), weight_decay=config.weight_decay)

    def loss(inputs, targets):
        logits, _ = forward(params, inputs, config.retnet, retention=retention)
        return cross_entropy(logits, targets)[0]

    def step(inputs, targets, learning_rate):
        record = []
        logits, _ = forward(params, inputs, config.retnet, retention=retention, record=record)
        value, grad = cross_entropy(logits, targets)
        grads, _ = backward(params, inputs, config.retnet, record, grad, retention_backward=retention_backward)
        grads = flatten(grads)
        norm = clip_by_norm(grads, config.clip)
        if math.isfinite(value) and math.isfinite(norm):
            optimizer.step(grads, learning_rate)
        return value, norm

    return step, loss
