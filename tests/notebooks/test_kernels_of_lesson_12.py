"""The kernels that lesson 12 writes: right at sizes that no tile divides, and compiled for a GPU, which no reader needs."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from paths import NOTEBOOKS

from refimpl import retention_recurrent

triton = pytest.importorskip("triton", reason="Triton is not installed; it has packages for Linux alone")

CELLS = json.loads((NOTEBOOKS / "12_to_the_gpu.ipynb").read_text(encoding="utf-8"))["cells"]
SOURCES = {cell["id"]: "".join(cell["source"]) for cell in CELLS}
HEAD = "import triton\nimport triton.language as tl\n\n\n"
COMPILE = """
import sys
sys.path.insert(0, sys.argv[1])
import lesson
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sizes = {"K": 16, "V": 64, "C": 16, "BV": 32}
signature = {**dict.fromkeys(("q", "k", "v", "gamma", "out"), "*fp32"), "T": "i32", **dict.fromkeys(sizes, "constexpr")}
made = triton.compile(ASTSource(lesson.walk, signature, constexprs=sizes), target=GPUTarget("cuda", 90, 32))
print("cubin" in made.asm)
"""


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="beside a GPU this process compiles kernels")
@pytest.mark.parametrize("time", [1, 16, 37])
def test_the_lesson_walks_as_the_reference_does(time):
    names = {"torch": torch, "triton": triton, "tl": triton.language}
    exec(SOURCES["walk"], names)
    exec(SOURCES["walk-run"].partition("\n\n\n")[0], names)
    rng = np.random.default_rng(time)
    q, k, v = (torch.tensor(rng.normal(size=(3, time, width)), dtype=torch.float32) for width in (16, 16, 48))
    gamma = torch.tensor([0.5, 0.96875, 1.0])
    want = retention_recurrent(*(x[None].double() for x in (q, k, v)), gamma.double())[0][0]
    torch.testing.assert_close(
        names["walked"](q, k, v, gamma).double(), want, rtol=0, atol=2e-6 * want.abs().max().item()
    )


def test_the_lesson_s_kernel_compiles_for_a_gpu(tmp_path):
    (tmp_path / "lesson.py").write_text(HEAD + SOURCES["walk"] + "\n", encoding="utf-8")
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, str(tmp_path)]
    run = subprocess.run(
        command, env=plain | {"TRITON_CACHE_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=300
    )
    assert run.stdout.strip() == "True", run.stderr
