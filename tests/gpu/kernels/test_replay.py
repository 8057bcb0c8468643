"""What is recorded of a call and replayed, with kernels that torch computes in place of a GPU."""

import gc
import threading
import weakref
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed; it has packages for Linux alone")

from gpu.kernels import replay
from gpu.kernels.replay import again, again_or_recorded, launch


class Kernel:
    """Launched as Triton's kernels are: kernel[grid](*args, **constants); it counts how often it was looked up."""

    def __init__(self, compute, *names):
        self.compute, self.arg_names, self.looked_up = compute, names, 0

    def __getitem__(self, grid):
        def first(*args, **constants):
            self.looked_up += 1
            self.compute(*args, *constants.values())
            run = lambda x, y, z, stream, function, packed, metadata, enter, leave, *args: self.compute(*args)  # noqa: E731
            return SimpleNamespace(
                run=run, function=None, packed_metadata=None, launch_metadata=lambda grid, stream, *args: None
            )

        return first


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(replay, "INTERPRETED", False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(replay, "driver", SimpleNamespace(active=SimpleNamespace(get_current_stream=lambda device: 0)))
    replay.forget()
    yield
    replay.forget()


def add(x, y, out, factor):
    torch.add(x, y, alpha=factor, out=out)


def made():
    """x - 2 y by way of an array between, and the kernel."""
    kernel = Kernel(add, "x", "y", "out", "factor")

    def function(x, y):
        between, out = torch.empty_like(x), torch.empty_like(x)
        launch(kernel, (1,), x, y, between, factor=-1)
        launch(kernel, (1,), between, y, out, factor=-1)
        return out, None

    return function, kernel


def test_a_second_call_launches_the_same_on_its_own_arrays():
    function, kernel = made()
    for _ in range(3):
        x, y = torch.randn(2, 3, 4)
        out, nothing = again("kind", (x, y)) or again_or_recorded(function, "kind", (x, y))
        assert torch.equal(out, x - y - y)
        assert nothing is None
    assert kernel.looked_up == 2
    assert again("another kind", (x, y)) is None


def test_an_array_that_is_given_twice_may_be_two_the_next_time():
    function, _ = made()
    x, y = torch.randn(2, 3, 4)
    assert torch.equal(again_or_recorded(function, "kind", (x, x))[0], x - x - x)
    assert torch.equal(again("kind", (x, y))[0], x - y - y)


def test_no_array_is_kept_by_a_recording():
    function, _ = made()
    x, y = torch.randn(2, 3, 4)
    kept = weakref.ref(x)
    again_or_recorded(function, "kind", (x, y))
    again("kind", (x, y))
    del x, y
    gc.collect()
    assert kept() is None


def test_what_a_call_frees_is_freed_while_it_is_recorded_and_replayed():
    living = []

    def compute(x, out):
        living.append(sum(each() is not None for each in between))
        out.copy_(x)

    kernel, between = Kernel(compute, "x", "out"), []

    def function(x):
        for _ in range(3):
            new = torch.empty_like(x)
            between.append(weakref.ref(new))
            launch(kernel, (1,), x, new)
            x = new
            del new
        return (x,)

    x = torch.randn(3)
    assert torch.equal(again_or_recorded(function, "kind", (x,))[0], x)
    assert living == [1, 2, 2]
    steps = replay._recordings["kind"].steps
    assert [step.__qualname__.split(".")[0] for step in steps] == [
        "_allocator", "_launcher", "_allocator", "_launcher", "_freer", "_allocator", "_launcher", "_freer",
    ]  # fmt: skip
    assert torch.equal(again("kind", (x + 1,))[0], x + 1)


def test_arrays_that_start_elsewhere_are_recorded_anew():
    function, kernel = made()
    room = torch.randn(2, 9)
    whole, shifted = room[:, :4].clone().unbind(), [row[1:5] for row in room]
    assert any(x.data_ptr() % 16 for x in shifted)
    again_or_recorded(function, "kind", whole)
    assert again("kind", shifted) is None
    x, y = shifted
    assert torch.equal(again_or_recorded(function, "kind", shifted)[0], x - y - y)
    assert kernel.looked_up == 4


def test_a_call_that_raises_is_not_recorded_and_the_next_one_is():
    function, _ = made()
    x, y = torch.randn(2, 3, 4)

    def broken(x, y):
        function(x, y)
        raise RuntimeError("out of resources")

    with pytest.raises(RuntimeError, match="out of resources"):
        again_or_recorded(broken, "kind", (x, y))
    assert again("kind", (x, y)) is None
    again_or_recorded(function, "kind", (x, y))
    assert torch.equal(again("kind", (y, x))[0], y - x - x)


def test_recordings_are_few(monkeypatch):
    monkeypatch.setattr(replay, "MOST", 3)
    function, _ = made()
    for kind in range(10):
        again_or_recorded(function, kind, tuple(torch.randn(2, 3)))
        assert len(replay._recordings) <= 3


def test_threads_record_apart():
    function, _ = made()
    wrong = []

    def work(kind):
        for _ in range(50):
            x, y = torch.randn(2, 3, 4)
            out, _ = again(kind, (x, y)) or again_or_recorded(function, kind, (x, y))
            if not torch.equal(out, x - y - y):
                wrong.append(kind)
            replay.forget()

    threads = [threading.Thread(target=work, args=(n % 2,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_call_may_ask_not_to_be_kept():
    """One that tried something in vain would try it again each time."""
    function, kernel = made()

    def once(x, y):
        results = function(x, y)
        replay.keep_no_recording()
        return results

    x, y = torch.randn(2, 3, 4)
    assert torch.equal(again_or_recorded(once, "kind", (x, y))[0], x - y - y)
    assert again("kind", (x, y)) is None
    again_or_recorded(function, "kind", (x, y))
    assert torch.equal(again("kind", (x, y))[0], x - y - y)
    assert kernel.looked_up == 4
    replay.keep_no_recording()  # outside of a call there is nothing to keep
