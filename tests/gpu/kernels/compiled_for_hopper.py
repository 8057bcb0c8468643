"""Compile the wide kernel for Hopper without a GPU, and print what the test asks of it, as JSON."""

import json

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from gpu.kernels import gluon_walk
from gpu.kernels import triton_retention as ours


class Hopper:
    """What Triton asks of a driver before it compiles."""

    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)
    get_active_torch_device = staticmethod(lambda: torch.device("cpu"))


def main():
    found = []

    def launch(kernel, grid, *args, **options):
        if kernel is gluon_walk._wide_kernel:
            compiled = kernel.warmup(*args, grid=grid, **options)
            ptx = compiled.asm["ptx"]
            held = f"setmaxnreg.dec.sync.aligned.u32 \t{gluon_walk.HELD}" in ptx
            products = "wgmma.mma_async.sync.aligned.m64n64k16" in ptx
            found.append({"shared": compiled.metadata.shared, "held": held, "products": products})

    driver.set_active(Hopper())
    gluon_walk.launch = launch
    for dtype, with_state in ((torch.bfloat16, True), (torch.float16, False)):
        q, v = (torch.zeros(3, 2, 256, width, dtype=dtype) for width in (256, 512))
        state = torch.zeros(3, 2, 256, 512) if with_state else None
        gluon_walk.walk_on_chip(q, q, v, torch.ones(2), state, ours.tiles_of(q, v, 0)["forward"])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
