"""Fixtures that several rooms share: a text to learn, torch on one thread; and Triton's interpreter in two thirds of its time."""

import os
from importlib.util import find_spec

import pytest
import torch


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The path of a short text that repeats itself."""
    path = tmp_path_factory.mktemp("corpus") / "abc.txt"
    path.write_text("abcabcabc abc\nabba\n" * 60)
    return str(path)


@pytest.fixture(scope="module")
def one_thread():
    """For products so small that threads would spend most of their time waiting for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def patched_once_a_launch():
    """Triton's interpreter patches its language again whenever a kernel calls a function: once for each module will do."""
    if os.environ.get("TRITON_INTERPRET") != "1" or not find_spec("triton"):
        yield
        return
    from triton.runtime import interpreter

    patch, launch, done = interpreter._patch_lang, interpreter.GridExecutor.__call__, set()

    def patch_once(function):
        if (module := id(function.__globals__)) in done:
            return None
        done.add(module)
        return patch(function)

    def fresh_launch(*args, **kwargs):
        done.clear()
        return launch(*args, **kwargs)

    with pytest.MonkeyPatch.context() as context:
        context.setattr(interpreter, "_patch_lang", patch_once)
        context.setattr(interpreter.GridExecutor, "__call__", fresh_launch)
        yield
