"""The decode step of a whole RetNet by the kernels of `triton_decode`, and for which models and batches there is one."""

import functools

import torch
import triton

from refimpl import head_decays
from refimpl.config import FEED_FORWARDS
from refimpl.rotation import rotation_frequencies

from ..models.operations import TORCH
from . import triton_common as common
from . import triton_decode as kernels

# Products are those of `triton_decode` for one sequence, and for up to MOST of a model that is at most NARROW wide: for others
# torch's were faster on an H200. Steps at both widths are in gpu/results/decoding.json and paper.json.
MOST, NARROW = 16, 512  # MOST: the rows of the smallest tile that a GPU multiplies at once
DTYPES = torch.float32, torch.bfloat16, torch.float16
# A product's tile: bytes of a row, numbers of the tile, and the programs wanted for each multiprocessor. Of 8 tilings the fastest for
# one sequence, at both widths.
TILES = {"row": 128, "numbers": 8192, "programs": 2, "num_warps": 8}
# From WIDE on, the inputs of one sequence's products are prepared, and a program of these asks for `tiles` tiles of `bytes` at once.
# Of 6 ways the fastest on an H200: see gpu/kernel_ladder/measured/decode_step.json.
WIDE = 2048
PREPARED = {"row": 128, "bytes": 8192, "tiles": 4, "num_warps": 4}
GATHER = {"BK": 256, "num_warps": 8}  # numbers of an input that a program prepares
# A state's tile, beside products of `triton_decode`; and beside torch's.
STATE = {"BK": 128, "BV": 16, "num_warps": 4, "POLICY": ""}
MANY = {"numbers": 4096, "num_warps": 4, "POLICY": ""}
WIDEST = 4096  # columns of a state that fit into one tile


def why_not(model, state):
    """Why `FusedStep` does not take a RetNet and a `State`, a sentence; None if it does."""
    config, weights = model.config, list(model.parameters())
    like, positions = weights[0], state.position
    if like.device.type != "cuda" and not common.INTERPRETED:
        return f"parameters must be on a CUDA device, got {like.device}"
    if config.row_norm or config.score_norm is not None:
        return "the model must have no row_norm and no score_norm"
    if like.dtype not in DTYPES:
        return f"parameters must be float32, bfloat16 or float16, got {like.dtype}"
    if any(weight.dtype != like.dtype or not weight.is_contiguous() for weight in weights):
        return f"parameters must be contiguous and all {like.dtype}"
    if not isinstance(positions, torch.Tensor):
        return f"state.position must be a tensor (B,), got {type(positions).__name__}"
    if not are_few(len(positions), config) and config.value_dim > WIDEST:
        return f"value_dim must be at most {WIDEST} beside torch's products, got {config.value_dim}"
    shape = len(positions), config.num_heads, config.key_dim, config.value_dim
    if len(state.layers) != config.num_layers or not all(_fits(layer, shape, like.device) for layer in state.layers):
        return f"the state of each layer must be contiguous float32 {shape} on {like.device}"
    return None


def _fits(layer, shape, device):
    same = isinstance(layer, torch.Tensor) and layer.shape == shape and layer.dtype == torch.float32
    return same and layer.device == device and layer.is_contiguous()


def are_few(batch, config):
    """True if the products of so many sequences are those of `triton_decode`, and not torch's."""
    return batch == 1 or (batch <= MOST and config.dim <= NARROW)


def fused_step_of(model, state):
    """A `FusedStep`, or None where there is none."""
    return None if why_not(model, state) else FusedStep(model, state)


class FusedStep:
    """A recurrent step of B sequences: tokens (B,) -> logits (B, vocab), in five kernels a layer and two more.

    One sequence of a wide model has four kernels more a layer, which prepare the inputs of products. Where sequences are not few,
    torch computes the products, and one kernel all that is between them in a retention. Sums are float32, so logits differ by
    rounding from those of `Step`. model, state: a `RetNet` and a `State` for which `why_not` returns None, or else a ValueError
    says why. Each call writes over the state and over the logits that the one before returned.
    """

    def __init__(self, model, state):
        if reason := why_not(model, state):
            raise ValueError(f"a fused step is not possible: {reason}")
        self.model, self.state, config, like = model, state, model.config, model.embedding
        self.batch, device, heads = len(state.position), like.device, config.num_heads
        self.few = are_few(self.batch, config)
        self.product = _Prepared if self.batch == 1 and config.dim >= WIDE else _Product
        self.empty = functools.partial(torch.empty, dtype=torch.float32, device=device)
        self.gamma = head_decays(heads, config.gamma_schedule, xp=torch, device=device)
        self.frequencies = None
        if config.rotation is not None:
            self.frequencies = rotation_frequencies(config.key_dim, config.rotation, xp=torch, device=device)
        self.angles = self.empty(2, self.batch, config.key_dim // 2)
        self.layers = [_Weights(layer, config) for layer in model.layers]
        self.tiles = STATE if self.few else many_tiles(config.value_dim)
        self._few() if self.few else self._many()

    def _few(self):
        """What the products of few sequences, and what is between them, need."""
        config, one = self.model.config, self.layers[0]
        heads, value_dim = config.num_heads, config.value_dim
        self.streams, self.retained = self.empty(2, self.batch, config.dim), self.empty(self.batch, heads * value_dim)
        self.gate = torch.empty_like(self.retained) if config.gate or config.group_norm_affine else None
        tiles = common.blocks(value_dim, self.tiles["BV"])
        self.stats = self.empty(self.batch, heads, tiles, 2) if config.group_norm else None
        self.read, self.widen = (self.product(self, "stream", config.dim, each) for each in (one.read, one.widen))
        self.merge = self.product(self, "retained", value_dim, one.merge, heads)
        self.narrow = self.product(self, "hidden", config.ffn_dim, one.narrow)
        self.head = self.product(self, "stream", config.dim, [self.model.head], finish=True)

    @torch.no_grad()
    def __call__(self, tokens):
        """The logits after one more token of each sequence; tokens must lie in the vocabulary."""
        with torch.cuda.device_of(tokens):  # Triton launches on the current device
            return self._step_of_few(tokens) if self.few else self._step_of_many(tokens)

    def _step_of_few(self, tokens):
        x, y = self.streams
        self._start(tokens, x)
        before = None
        for weights, state in zip(self.layers, self.state.layers, strict=True):
            self.read(weights.read, y if before else x, before, norm=weights.read_norm, x_after=x if before else None)
            self._retain(weights, state, self.read.out, self.read.squares, self.retained)
            self.merge(weights.merge, self.retained, gate=self.gate, stats=self.stats)
            self.widen(weights.widen, x, self.merge, norm=weights.widen_norm, x_after=y)
            self.narrow(weights.narrow, None, self.widen)
            before = self.narrow
        self.head([self.model.head], y, before, norm=self.model.final_norm)
        return self.head.result

    def _many(self):
        """What the retention of many sequences needs: its inputs side by side, as products write them."""
        config, like = self.model.config, self.model.embedding
        widths = [weight.shape[1] for weight in self.layers[0].read]
        self.x = like.new_empty(self.batch, config.dim)
        self.projected = like.new_empty(self.batch, sum(widths))
        self.places = self.projected.split(widths, dim=1)
        self.retained = like.new_empty(self.batch, config.num_heads * config.value_dim)
        self.gate = self.stats = None

    def _step_of_many(self, tokens):
        config, x = self.model.config, self.x
        activation, gated = FEED_FORWARDS[config.ffn]
        self._start(tokens, x)
        for weights, state in zip(self.layers, self.state.layers, strict=True):
            normed = TORCH.rms_norm(x, weights.read_norm, eps=config.norm_eps)
            for weight, place in zip(weights.read, self.places, strict=True):
                torch.mm(normed, weight, out=place)
            self._retain(weights, state, self.projected, None, self.retained)
            x.addmm_(self.retained, *weights.merge)
            normed = TORCH.rms_norm(x, weights.widen_norm, eps=config.norm_eps)
            hidden = getattr(TORCH, activation)(normed @ weights.widen[0])
            hidden = hidden.mul_(normed @ weights.widen[1]) if gated else hidden
            x.addmm_(hidden, *weights.narrow)
        return TORCH.rms_norm(x, self.model.final_norm, eps=config.norm_eps) @ self.model.head

    def _start(self, tokens, x):
        config = self.model.config
        kernels.start[(self.batch,)](
            tokens, self.state.position, self.model.embedding, self.frequencies, x, *self.angles,
            config.dim, config.key_dim, config.embedding_scale, config.rotation is not None,
            BD=min(1024, common.power_of_two(config.dim)), BK=common.power_of_two(config.key_dim // 2),
            **launching(tokens, self.few),
        )  # fmt: skip

    def _retain(self, weights, state, projected, squares, retained):
        config = self.model.config
        heads, key_dim, value_dim = config.num_heads, config.key_dim, config.value_dim
        kernels.retain[(self.batch * heads * common.blocks(value_dim, self.tiles["BV"]),)](
            projected, squares, *self.angles, self.gamma, weights.group_norm, state, retained, self.gate, self.stats,
            self.batch, heads, key_dim, value_dim, config.dim, config.norm_eps,
            key_dim**-0.5 if config.scale_keys else 1.0, *((self.read.splits, self.read.sums) if self.few else (1, 1)),
            config.rotation is not None, config.gate, config.group_norm, not self.few, **self.tiles, **launching(state, self.few),
        )  # fmt: skip


class _Weights:
    """The weights of a layer, in the lists that its products take."""

    def __init__(self, layer, config):
        retention, ffn = layer.retention, layer.ffn
        self.read_norm, self.widen_norm = layer.retention_norm, layer.ffn_norm
        self.group_norm = retention.group_norm if config.group_norm_affine else None
        self.read = [retention.w_q, retention.w_k, retention.w_v, *([retention.w_g] if config.gate else [])]
        self.widen = [ffn.w_1, *([ffn.w_gate] if FEED_FORWARDS[config.ffn].gated else [])]
        self.merge, self.narrow = [retention.w_o], [ffn.w_2]


class _Product:
    """A launch of `triton_decode.product`: its tiles, and what it leaves to the next kernel.

    step: the `FusedStep`. kind: INPUT of the kernel. width: rows of the weights, of each of `heads`. finish: as the kernel's.
    """

    def __init__(self, step, kind, width, weights, heads=1, finish=False):
        config, self.batch, like = step.model.config, step.batch, weights[0]
        widths = [weight.shape[1] for weight in weights]
        self.tiles = product_tiles(width, heads, widths, self.batch, like, whole=finish)
        self.splits = self.sums = self.tiles["S"]
        dtype = like.dtype if finish else torch.float32
        columns = sum(common.blocks(n, self.tiles["BN"]) for n in widths)
        self.grid, self.missing = (columns, self.splits), [None] * (4 - len(weights))
        self.out = torch.empty((self.splits, self.batch, sum(widths)), dtype=dtype, device=like.device)
        self.squares = torch.empty((self.sums, self.batch), dtype=torch.float32, device=like.device)
        self.result = self.out[0]
        activation, gated = FEED_FORWARDS[config.ffn]
        self.fixed = {
            "INPUT": kind, "D": config.dim, "WIDTH": width, "H": heads, "NORM": config.group_norm, "BV": step.tiles["BV"],
            "EPS": config.norm_eps, "ACTIVATION": activation, "GATED": gated, "FINISH": finish,
            "PRECISION": common.precision_of(like), **self.tiles, **launching(like),
        } | {f"N{i}": n for i, n in enumerate((*widths, 0, 0, 0)[:4])}  # fmt: skip

    def __call__(self, weights, x, before=None, *, norm=None, x_after=None, gate=None, stats=None):
        """before: the product whose partial sums are part of the input; its squares are those of a hidden input."""
        parts, squares, splits = (before.out, before.squares, before.splits) if before else (None, None, 0)
        squares = squares if self.fixed["INPUT"] == "hidden" else self.squares
        kernels.product[self.grid](
            x, parts, squares, norm, x_after, gate, stats, *weights, *self.missing, self.out, self.batch, S_IN=splits,
            **self.fixed,
        )  # fmt: skip


class _Prepared:
    """The same launches as `_Product` for one sequence of a wide model: its input is made once, then multiplied."""

    def __init__(self, step, kind, width, weights, heads=1, finish=False):
        config, like = step.model.config, weights[0]
        widths, inner = [weight.shape[1] for weight in weights], heads * width
        self.tiles = prepared_tiles(inner, like)
        self.splits = common.blocks(inner, self.tiles["BK"] * self.tiles["TILES"])
        self.sums = heads * common.blocks(width, GATHER["BK"])
        self.grid = sum(common.blocks(n, self.tiles["BN"]) for n in widths), self.splits
        self.missing = [None] * (4 - len(weights))
        self.vector, self.squares = step.empty(inner), step.empty(self.sums, 1)
        self.out = step.empty(self.splits, 1, sum(widths))
        self.result = like.new_empty(1, *widths) if finish else None
        activation, gated = FEED_FORWARDS[config.ffn]
        self.fixed = {
            "INPUT": kind, "D": config.dim, "WIDTH": width, "H": heads, "NORM": config.group_norm, "BV": step.tiles["BV"],
            "EPS": config.norm_eps, "ACTIVATION": activation, "GATED": gated, **GATHER, **launching(like),
        }  # fmt: skip
        self.widths = {"WIDTH": inner} | {f"N{i}": n for i, n in enumerate((*widths, 0, 0, 0)[:4])} | launching(like)

    def __call__(self, weights, x, before=None, *, norm=None, x_after=None, gate=None, stats=None):
        """As `_Product`."""
        given = {"S_IN": before.splits, "SUMS": before.sums} if before else {"S_IN": 0, "SUMS": 0}
        parts, squares = (before.out, before.squares) if before else (None, None)
        kernels.prepare[(self.sums,)](
            x, parts, squares, norm, x_after, gate, stats, self.vector, self.squares, **given, **self.fixed
        )
        kernels.multiply[self.grid](self.vector, *weights, *self.missing, self.out, **self.widths, **self.tiles)
        if self.result is not None:
            columns = self.result.shape[1]
            finishing = {"INPUT": "hidden", "WIDTH": columns, "H": 1, "ACTIVATION": None, "GATED": False}
            kernels.prepare[(common.blocks(columns, GATHER["BK"]),)](
                None, self.out, self.squares, None, None, None, None, self.result, None,
                S_IN=self.splits, SUMS=self.sums, **self.fixed | finishing,
            )  # fmt: skip


def launching(like, overlap=True):
    """Options of a launch on a tensor's device: from Hopper on, a kernel may start while the one before ends."""
    overlap = overlap and not common.INTERPRETED and torch.cuda.get_device_capability(like.device) >= (9, 0)
    return {"OVERLAP": overlap} | ({"launch_pdl": True} if overlap else {})


def product_tiles(width, heads, widths, batch, like, whole):
    """Tiles of `triton_decode.product`; whole: with S = 1."""
    columns = TILES["row"] // like.itemsize
    wanted = TILES["programs"] * common.multiprocessors(like.device)
    while whole and columns > 16 and sum(common.blocks(n, columns) for n in widths) < wanted:
        columns //= 2
    # With fewer rows than threads, each thread reads those numbers of the input that it needs; else they pass through shared memory.
    rows = min(TILES["numbers"] // columns, 16 * TILES["num_warps"], max(16, triton.next_power_of_2(width)))
    blocks = heads * common.blocks(width, rows)
    splits = 1 if whole else max(1, wanted // sum(common.blocks(n, columns) for n in widths))
    splits = common.blocks(blocks, common.blocks(blocks, splits))  # as many as have a block
    height = 1 if batch == 1 else max(16, triton.next_power_of_2(batch))
    return {"S": splits, "ROWS": height, "BK": rows, "BN": columns, "num_warps": TILES["num_warps"]}


def prepared_tiles(inner, like):
    """Tiles of `triton_decode.multiply`."""
    columns = PREPARED["row"] // like.itemsize
    rows = min(PREPARED["bytes"] // PREPARED["row"], max(16, triton.next_power_of_2(inner)))
    return {"TILES": PREPARED["tiles"], "BK": rows, "BN": columns, "num_warps": PREPARED["num_warps"]}


def many_tiles(value_dim):
    """Tiles of `triton_decode.retain` beside torch's products: all columns, so that the norm is computed there."""
    columns = common.power_of_two(value_dim)
    how = {name: MANY[name] for name in ("num_warps", "POLICY")}
    return {"BK": max(1, MANY["numbers"] // columns), "BV": columns, **how}
