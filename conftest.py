"""Triton has no packages for every system; without it, the files that import it are not collected."""

from importlib.util import find_spec

NEED_TRITON = ["gpu/triton_retention.py", "gpu/kernels/triton_*.py", "gpu/kernel_ladder/*", "notebooks/12_*.ipynb"]
collect_ignore_glob = [] if find_spec("triton") else NEED_TRITON
