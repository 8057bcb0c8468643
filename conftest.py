"""What is collected: without Triton not the files that import it; a lesson with a test of its pictures and of a second run."""

import gc
from importlib.util import find_spec

import pytest

# Triton has no packages for every system.
NEED_TRITON = ["gpu/triton_retention.py", "gpu/kernels/triton_*.py", "gpu/kernel_ladder/*", "notebooks/12_*.ipynb"]
collect_ignore_glob = [] if find_spec("triton") else NEED_TRITON


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep the garbage collector from what is collected: all of it stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Let a notebook of the course be a `Lesson` where nbval collects it."""
    found = yield
    if file_path.suffix == ".ipynb" and file_path.parent.name == "notebooks" and found:
        from lessons import Lesson

        return [Lesson.from_parent(parent, path=file_path)]
    return found
