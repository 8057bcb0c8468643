"""Fixtures that several rooms share: a text to learn, torch on one thread; and Triton's interpreter in less than half of its time."""

import dataclasses
import functools
import math
import os
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from refimpl.files import save_figure


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
def start_of_each_loss_figure():
    """A run's figure takes most of a short run; `whole_loss_figure` is for tests that look at it."""
    from runs import start_of_a_figure

    with pytest.MonkeyPatch.context() as context:
        if "gpu.training.run" in sys.modules:  # else no test here trains
            context.setattr("gpu.training.run.save_figure", start_of_a_figure)
        yield


@pytest.fixture
def whole_loss_figure(monkeypatch):
    monkeypatch.setattr("gpu.training.run.save_figure", save_figure)


@pytest.fixture(scope="session", autouse=True)
def quicker_interpreter():
    """Triton's interpreter without what it does again and again, and with results that are the same."""
    if os.environ.get("TRITON_INTERPRET") != "1" or not find_spec("triton"):
        yield
        return
    from triton import language
    from triton.runtime import interpreter

    with pytest.MonkeyPatch.context() as context:
        patch_once_a_launch(interpreter, context)
        leave_overflow_out(interpreter, context)
        keep_types(interpreter, language.core, context)
        yield


def patch_once_a_launch(interpreter, context):
    """It patches its language again whenever a kernel calls a function: once for each module will do."""
    patch, launch, done = interpreter._patch_lang, interpreter.GridExecutor.__call__, set()

    def patch_once(function):
        if (module := id(function.__globals__)) in done:
            return None
        done.add(module)
        return patch(function)

    def fresh_launch(*args, **kwargs):
        done.clear()
        return launch(*args, **kwargs)

    context.setattr(interpreter, "_patch_lang", patch_once)
    context.setattr(interpreter.GridExecutor, "__call__", fresh_launch)


def leave_overflow_out(interpreter, context):
    """It computes whether each sum of integers overflows, a third of its time, but asserts it in debugging alone."""
    builder = interpreter.interpreter_builder
    assert not builder.options.debug
    context.setattr(builder, "options", dataclasses.replace(builder.options, sanitize_overflow=False))


def keep_types(interpreter, core, context):
    """It makes a table of types for each number, and objects that hold a shape for each tensor: once for each will do."""
    np_dtype, convert = interpreter._get_np_dtype, interpreter._convert_float
    of_numbers = functools.cache(np_dtype)

    def kept_dtype(dtype):
        scalar = dtype.scalar
        return np_dtype(scalar) if scalar.is_ptr() else of_numbers(scalar)

    @functools.cache
    def of_shape(*sizes):
        return core.tuple(sizes), core.tuple([core.constexpr(size) for size in sizes]), math.prod(sizes)

    def block(self, element_ty, shape):
        self.element_ty = element_ty
        self.shape, _, self.numel = of_shape(*(core._unwrap_if_constexpr(size) for size in shape))

    def tensor(self, handle, type_):
        self.handle, self.type, self.dtype = handle, type_, type_.scalar
        _, self.shape, numel = of_shape(*(type_.shape if type_.is_block() else ()))
        self.numel = core.constexpr(numel)

    def shifted(numbers, given, wanted, rounding_mode):
        """Between bfloat16, whose bits are the first half of those of float32, and float32: a shift does."""
        if (given.name, wanted.name) == ("bf16", "fp32"):
            return numbers.astype(np.uint32) << 16
        if (given.name, wanted.name, rounding_mode) == ("fp32", "bf16", None):
            return (numbers.view(np.uint32) >> 16).astype(np.uint16)
        return convert(numbers, given, wanted, rounding_mode)

    context.setattr(interpreter, "_get_np_dtype", kept_dtype)
    context.setattr(interpreter, "_convert_float", shifted)
    context.setattr(core.tensor, "__init__", tensor)
    context.setattr(core.block_type, "__init__", block)
    context.setattr(core.block_type, "name", property(lambda self: f"<{self.shape}, {self.element_ty}>"), raising=False)
