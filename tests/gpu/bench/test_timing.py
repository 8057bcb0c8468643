"""Timing of candidates: every round times each once, failures stay with their candidate, rows are written as they come."""

import json
import time

import pytest
import torch

from gpu.bench import timing
from gpu.bench.ceilings import ceilings, floor_seconds
from gpu.bench.timing import Candidate, LeftOutError, Work, milliseconds, time_candidates


@pytest.fixture(autouse=True)
def one_call_a_round(monkeypatch):
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)


def candidate(name, call=lambda: None, build=None):
    return Candidate({"name": name}, build or (lambda: Work(call, 7, {"fact": name})))


def raising(error, after=0):
    calls = []

    def call():
        calls.append(1)
        if len(calls) > after:
            raise error

    return call


def test_a_candidate_that_fails_does_not_affect_the_others():
    def full():
        raise torch.OutOfMemoryError("no room")

    def while_recording():
        try:
            full()
        except RuntimeError:
            raise RuntimeError("the recording was invalidated") from None

    cases = [
        (candidate("good"), "measured", ""),
        (
            candidate("broken", build=raising(ValueError("this is wrong\nand more"))),
            "failed",
            "ValueError: this is wrong",
        ),
        (candidate("full", build=full), "does not fit", "out of memory"),
        (candidate("full graph", build=while_recording), "does not fit", "out of memory"),
        (candidate("late", raising(ZeroDivisionError("in a round"), 4)), "failed", "ZeroDivisionError: in a round"),
        (candidate("long", build=raising(LeftOutError("it takes minutes"))), "left out", "it takes minutes"),
        (candidate("also good"), "measured", ""),
    ]
    rows = time_candidates([each for each, *_ in cases], 3, "cpu")
    assert [(row["status"], row["remark"]) for row in rows] == [tuple(wanted) for _, *wanted in cases]
    assert [row["rounds"] for row in rows if row["status"] == "measured"] == [3, 3]
    assert rows[0]["fact"] == "good"


def test_every_round_times_each_once():
    order = []
    time_candidates([candidate(name, lambda name=name: order.append(name)) for name in "ab"], 2, "cpu")
    assert order[6:] == ["a", "b", "a", "b"]  # after three calls of each to warm up


@pytest.mark.parametrize("compiled", [True, False])
def test_compiling_again_costs_no_round_that_counts(monkeypatch, compiled):
    """Each compiles again if another was built since its last call, and the time limit has passed when all are built."""
    built = []

    def candidate_of(name):
        def build():
            built.append(name)
            seen = [len(built)]

            def call():
                seen.append(len(built))
                return 0.1 if seen[-1] == seen[-2] else 2.4

            return Work(call, 0, {})

        return Candidate({"name": name, "compiled": compiled}, build)

    class WhenBuilt:
        def passed(self):
            return len(built) == 3

    monkeypatch.setattr(timing, "seconds_of", lambda call, repeats, device: call())
    rows = time_candidates([candidate_of(name) for name in "abc"], 3, "cpu", deadline=WhenBuilt())
    assert [row["rounds"] for row in rows] == [1, 1, 1]
    assert [row["seconds"]["max"] for row in rows] == ([0.1] * 3 if compiled else [2.4, 2.4, 0.1])
    (row,) = time_candidates([candidate_of("alone")], 3, "cpu")
    assert (row["seconds"]["max"], row["rounds"]) == (0.1, 3)


def test_a_candidate_that_fails_in_the_round_that_does_not_count_is_not_timed_again():
    failing = candidate("fails", raising(ZeroDivisionError("compiled again"), after=3))
    both = [each._replace(row=each.row | {"compiled": True}) for each in (failing, candidate("b"))]
    rows = time_candidates(both, 2, "cpu")
    assert [(row["status"], row.get("rounds"), row["remark"]) for row in rows] == [
        ("failed", None, "ZeroDivisionError: compiled again"), ("measured", 2, ""),
    ]  # fmt: skip


def test_seconds_are_those_of_one_call(monkeypatch):
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.03)
    (row,) = time_candidates([candidate("sleeps", lambda: time.sleep(0.01))], 3, "cpu")
    assert 2 <= row["calls_a_turn"] <= 3
    assert 0.01 <= row["seconds"]["min"] < 0.03
    assert row["tokens_per_second"] == pytest.approx(7 / row["seconds"]["median"])


def test_rows_are_kept_after_every_round():
    kept, rows = [], []
    keep = lambda: kept.append(json.loads(json.dumps(rows)))  # noqa: E731
    both = [candidate("good"), candidate("killed", raising(KeyboardInterrupt(), after=4))]
    with pytest.raises(KeyboardInterrupt):
        time_candidates(both, 3, "cpu", rows=rows, keep=keep)
    assert [row["status"] for row in kept[-1]] == ["measured", "measured"]
    assert kept[-1][0]["rounds"] == 1
    assert [row["status"] for row in kept[0]] == ["left out", "left out"]


class FakeEvents:
    """Events of a GPU whose calls take the seconds that they return; `queued` counts those that nothing has waited for."""

    def __init__(self, monkeypatch):
        self.now, self.queued, self.most_queued = 0.0, 0, 0
        monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: FakeEvent(self))
        monkeypatch.setattr(torch.cuda, "synchronize", self.wait)

    def run(self, seconds):
        self.now += seconds
        self.queued += 1
        self.most_queued = max(self.queued, self.most_queued)

    def wait(self):
        self.queued = 0


class FakeEvent:
    def __init__(self, gpu):
        self.gpu = gpu

    def record(self):
        self.at = self.gpu.now

    def synchronize(self):
        self.gpu.wait()

    def elapsed_time(self, end):
        assert self.gpu.queued == 0, "the GPU is not done"
        return 1e3 * (end.at - self.at)


def test_milliseconds_are_a_median_and_a_spread_of_calls_that_do_not_wait(monkeypatch):
    gpu, takes = FakeEvents(monkeypatch), iter([9.0, 9.0, 9.0, *range(1, 11)])
    found = milliseconds({"varies": lambda: gpu.run(next(takes)), "steady": lambda: gpu.run(2.0)}, rounds=10)
    assert found == {
        "varies": {"median": 5500.0, "spread": 8000.0},  # from the second to the tenth of ten
        "steady": {"median": 2000.0, "spread": 0.0},
    }
    assert gpu.most_queued == 26  # warm-ups too


def test_seconds_on_a_gpu_are_the_mean_of_calls_between_two_events(monkeypatch):
    gpu, takes = FakeEvents(monkeypatch), iter([1.0, 3.0])
    assert timing.seconds_of(lambda: gpu.run(next(takes)), 2, "cuda") == 2.0


def test_a_ceiling_that_was_not_measured_gives_no_floor(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "mm", full)
    found = ceilings(1, "cpu")
    assert found["copy"]["bytes_per_second"] > 0
    assert (found["matrix_product"]["status"], found["matrix_product"]["side"]) == ("does not fit", 512)
    assert floor_seconds(1, 1, found) is None


def test_the_timer_of_the_ladder_is_found_where_it_was():
    from gpu.kernel_ladder.timing import milliseconds as before

    assert before is milliseconds
