"""Triton has no packages for every system; where it is missing, what needs it is not collected for its examples."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("triton") else ["triton_retention.py", "kernels/triton_*.py", "kernel_ladder/*"]
