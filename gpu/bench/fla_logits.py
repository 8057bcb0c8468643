"""python -m gpu.compare_fla: logits of flash-linear-attention's RetNet against ours with the same weights.

Its kernels need a GPU, so this is not a test: it is run by hand and writes a results file.
"""

import json
import platform

import numpy as np
import torch

from refimpl import forward
from refimpl.bench.run import package_versions
from refimpl.files import write_atomically
from refimpl.interop import from_fla, to_fla
from refimpl.tree import map_tree

SHAPE = {"hidden_size": 256, "num_hidden_layers": 3, "num_heads": 4, "vocab_size": 512}
BATCH, TIME = 2, 200  # not a multiple of its chunk size


def compare(out):
    """Compare in float32 and bfloat16, in both of its modes, with the NumPy model in float64. Writes the file `out`."""
    from fla.models import RetNetConfig, RetNetForCausalLM

    rows = []
    tokens = np.random.default_rng(0).integers(0, SHAPE["vocab_size"], (BATCH, TIME))
    for mode in ("chunk", "fused_recurrent"):
        torch.manual_seed(0)
        model = RetNetForCausalLM(RetNetConfig(**SHAPE, attn_mode=mode, fuse_cross_entropy=False)).cuda().eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():  # so that scores and norm weights differ
                if "proj" in name:
                    weight.mul_(3.0)
                if weight.ndim == 1:
                    weight.mul_(torch.rand_like(weight) + 0.5)
        for dtype in (torch.float32, torch.bfloat16):
            model = model.to(dtype)
            state_dict = model.state_dict()
            params, config = from_fla(state_dict, norm_eps=model.config.norm_eps)
            back = to_fla(params, config)
            same = all(np.array_equal(back[name], state_dict[name].float().cpu().numpy()) for name in state_dict)
            with torch.no_grad():
                theirs = model(torch.from_numpy(tokens).cuda()).logits.double().cpu().numpy()
            ours, _ = forward(map_tree(lambda _, x: x.astype(np.float64), params), tokens, config)
            rows.append(
                {
                    "mode": mode,
                    "dtype": str(dtype).removeprefix("torch."),
                    "relative_rms": float(np.sqrt(np.mean((theirs - ours) ** 2) / np.mean(ours**2))),
                    "largest_difference": float(np.abs(theirs - ours).max()),
                    "largest_logit": float(np.abs(ours).max()),
                    "weights_round_trip_bit_exact": same,
                }
            )
            print(rows[-1])
    result = {
        "what": "flash-linear-attention RetNetForCausalLM on a GPU against refimpl.forward in float64, same weights",
        "shape": SHAPE | {"batch": BATCH, "time": TIME},
        "command": f"python -m gpu.compare_fla --out {out}",
        "device": torch.cuda.get_device_name(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "versions": {"python": platform.python_version()}
        | package_versions(("torch", "triton", "transformers", "flash-linear-attention", "numpy")),
        "rows": rows,
    }
    write_atomically(out, json.dumps(result, indent=2) + "\n")
