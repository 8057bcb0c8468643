"""Tasks: solved exactly by a loop, not solvable without their questions' past, seeded; and a run on one."""

import collections
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from runs import QUIET

from refimpl.training import tasks
from refimpl.training.folder import begin
from refimpl.training.loop import load_text
from refimpl.training.questions import Questions
from refimpl.training.tasks import IGNORED, TASKS
from refimpl.training.train import TrainConfig, cross_entropy, train

SIZES = {name: task.small for name, task in TASKS.items()} | {
    "recall, as published": {"window": 64, "pairs": (4,), "vocab_size": 8192},
    "recall, crowded": {"window": 16, "pairs": (4,), "vocab_size": 10},
}
KINDS = [(name.partition(",")[0], sizes) for name, sizes in SIZES.items()]


def drawn(name, sizes, rows=64, seed=0, **options):
    rng = np.random.default_rng(seed)
    return TASKS[name].draw(
        rng, rows, length=sizes["window"], pairs=sizes["pairs"][-1], vocab_size=sizes["vocab_size"], **options
    )


def solve_recall(tokens, place, pairs):
    """The value that stood after the key, in the pairs at the beginning."""
    return next(tokens[i + 1] for i in range(0, 2 * pairs, 2) if tokens[i] == tokens[place])


def solve_copying(tokens, place, pairs):
    return [token for token in tokens[: len(tokens) - pairs] if token][place - (len(tokens) - pairs)]


def solve_induction(tokens, place, pairs):
    return tokens[list(tokens).index(tokens[place]) + 1]


SOLVERS = {
    "recall": solve_recall,
    "copying": solve_copying,
    "selective_copying": solve_copying,
    "induction": solve_induction,
}


@pytest.mark.parametrize(("name", "sizes"), KINDS, ids=SIZES)
def test_a_loop_that_looks_solves_it(name, sizes):
    pairs = sizes["pairs"][-1]
    inputs, targets = drawn(name, sizes)
    assert inputs.shape == targets.shape == (64, sizes["window"])
    assert inputs.dtype == targets.dtype == np.int64
    assert 0 <= inputs.min() <= inputs.max() < sizes["vocab_size"]
    assert (targets != IGNORED).sum(axis=1).tolist() == [pairs] * 64  # as many answers in every row
    for row, answers in zip(inputs, targets, strict=True):
        for place in np.flatnonzero(answers != IGNORED):
            assert SOLVERS[name](row, place, pairs) == answers[place]


def test_random_tokens_between_the_questions_change_no_answer():
    inputs, targets = drawn("recall", TASKS["recall"].small | {"pairs": (4,)}, noise=True)
    assert (inputs == 0).mean() < 0.1
    for row, answers in zip(inputs, targets, strict=True):
        for place in np.flatnonzero(answers != IGNORED):
            assert solve_recall(row, place, 4) == answers[place]


@pytest.mark.parametrize(("name", "sizes"), KINDS, ids=SIZES)
def test_answers_do_not_leak(name, sizes):
    """From the first question on no answer is among the inputs, and whoever has seen nothing guesses as chance does."""
    inputs, targets = drawn(name, sizes, rows=4000)
    for row, answers in zip(inputs[:64], targets[:64], strict=True):
        asked = np.flatnonzero(answers != IGNORED)
        assert not set(answers[asked]) & set(row[asked[0] :])
    given = targets[targets != IGNORED]
    chance = 1 / TASKS[name].answers(sizes["vocab_size"])
    counts = np.bincount(given)
    most = counts.max() / len(given)
    assert most < chance + 5 * np.sqrt(chance / len(given)) + 1e-9
    assert np.count_nonzero(counts) <= TASKS[name].answers(sizes["vocab_size"])
    for place in range(sizes["window"]):  # nor does the place say more
        there = targets[:, place][targets[:, place] != IGNORED]
        if len(there) > 1000:
            assert np.bincount(there).max() / len(there) < chance + 6 * np.sqrt(chance / len(there)) + 1e-9


@pytest.mark.parametrize(("name", "sizes"), KINDS, ids=SIZES)
def test_seeds_reproduce(name, sizes):
    first, same, other = (drawn(name, sizes, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_gaps_follow_the_power_law():
    """The first question's gap is r with a probability in proportion to r^(power - 1)."""
    rng = np.random.default_rng(0)
    for power, tolerance in ((0.01, 0.01), (1.0, 0.01)):
        inputs, targets = tasks.recall(rng, 20_000, length=32, pairs=4, vocab_size=64, power=power)
        of_first = np.argmax((inputs == inputs[:, :1]) & (targets != IGNORED), axis=1)
        found = np.bincount((of_first - 8) // 2, minlength=12) / 20_000
        wanted = np.arange(1.0, 13) ** (power - 1)
        np.testing.assert_allclose(found, wanted / wanted.sum(), atol=tolerance)


@pytest.mark.parametrize(("count", "choices"), [(3, 5), (2, 40)], ids=["sorted", "drawn anew"])
def test_distinct_numbers_are_even(count, choices):
    rows = tasks.distinct(np.random.default_rng(0), 30_000, count, choices)
    assert all(len(set(row)) == count for row in rows[:500].tolist())
    expected = 30_000 / (np.prod(np.arange(choices, choices - count, -1)))
    found = collections.Counter(map(tuple, rows.tolist()))
    assert max(found.values()) < expected + 6 * np.sqrt(expected)
    assert min(found.values()) > expected - 6 * np.sqrt(expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task": "sorting"},
            "task must be one of 'recall', 'copying', 'selective_copying', 'induction', got 'sorting'",
        ),
        ({"task": "recall", "pairs": (4, 17)}, "window must be at least 68 for recall of pairs = 17, got 64"),
        (
            {"task": "recall", "window": 33},
            "window must be even for recall, whose questions stand at even places, got 33",
        ),
        ({"task": "recall", "vocab_size": 17}, "vocab_size must be at least 18 for recall of pairs = 8, got 17"),
        ({"task": "copying", "pairs": (33,)}, "window must be at least 66 for copying of pairs = 33, got 64"),
        ({"task": "induction", "pairs": (2,)}, "pairs must be 1 for induction, which asks for one token, got 2"),
        ({"task": "copying", "pairs": (0,)}, "pairs must be at least 1, got 0"),
        ({"task": "recall", "once": True}, "once must be left out with a task, got True"),
        ({"task": "recall", "from_weights": "runs/demo"}, "from_weights must be left out with a task, got 'runs/demo'"),
        ({"pairs": (4,)}, "pairs must be left out without a task, got (4,)"),
        ({"vocab_size": 64}, "vocab_size must be at least 256, got 64"),
    ],
)
def test_impossible_sizes_are_refused(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainConfig(**settings)
    with pytest.raises(TypeError, match=re.escape("pairs must be an integer, got 4.5")):
        tasks.recall(np.random.default_rng(0), 1, length=32, pairs=4.5, vocab_size=64)


def test_sizes_of_a_task_are_its_own():
    for name, task in TASKS.items():
        for sizes in (task.small, task.full):
            config = TrainConfig(task=name, **sizes)
            assert config.pairs == sizes["pairs"]
            assert config.retnet.vocab_size == sizes["vocab_size"]
        assert TrainConfig(task=name).pairs == task.small["pairs"]  # where none is given


def test_ignored_targets_count_for_nothing():
    logits, rng = np.random.default_rng(0).standard_normal((2, 5, 7)), np.random.default_rng(1)
    targets = rng.integers(0, 7, (2, 5))
    asked = np.array([[0, 2], [1, 4]])
    few = np.full((2, 5), IGNORED)
    np.put_along_axis(few, asked, np.take_along_axis(targets, asked, 1), 1)
    value, grad = cross_entropy(logits, few)
    alone, grad_alone = cross_entropy(
        np.take_along_axis(logits, asked[..., None], 1), np.take_along_axis(targets, asked, 1)
    )
    assert value == pytest.approx(alone)
    np.testing.assert_allclose(np.take_along_axis(grad, asked[..., None], 1), grad_alone)
    assert np.count_nonzero(grad) == 4 * 7
    assert cross_entropy(logits.astype(np.float32), few)[1].dtype == np.float32


CONFIG = TrainConfig(
    task="recall", window=16, pairs=(2, 4), vocab_size=12, dim=16, num_layers=1, num_heads=2, batch_size=8, steps=6,
    evaluate_every=3, warmup=1,
)  # fmt: skip


def test_questions_are_drawn_in_turn_and_scored():
    text = load_text(CONFIG)
    assert isinstance(text, Questions)
    batch, rng = text.batches(CONFIG), np.random.default_rng(0)
    asked = [(batch(number, rng)[1] != IGNORED).sum() // 8 for number in (1, 2, 3)]
    assert asked == [2, 4, 2]
    assert [len(inputs) for inputs, _ in text.held_out] == [256, 256]
    known = {row.tobytes(): answers for part in text.held_out for row, answers in zip(*part, strict=True)}

    def look_up(inputs, wrong=0):
        return np.stack([known[row.tobytes()] for row in inputs])

    assert text.score(look_up, CONFIG) == {"accuracy": 1.0, "accuracy_by_pairs": [1.0, 1.0]}
    half = text.score(lambda inputs: look_up(inputs) * (np.arange(8) < 4)[:, None], CONFIG)
    assert half == {"accuracy": 0.5, "accuracy_by_pairs": [0.5, 0.5]}
    bits = text.evaluate(lambda inputs, targets: float((targets != IGNORED).sum() / len(targets)), CONFIG)
    assert bits == {"held_out": 3.0}
    again, other = Questions(CONFIG), Questions(TrainConfig(task="recall", vocab_size=12, window=16, pairs=(4,)))
    assert text.fingerprint == again.fingerprint != other.fingerprint


def test_a_run_of_numpy_logs_accuracy_and_goes_on(tmp_path):
    params, log = train(CONFIG, tmp_path / "run", console=QUIET)
    assert [line["step"] for line in log if "accuracy" in line] == [3, 6]
    assert log[-1]["accuracy"] == pytest.approx(np.mean(log[-1]["accuracy_by_pairs"]))
    assert params["embedding"].shape == (12, 16)
    assert not (tmp_path / "run" / "tokenizer.json").exists()
    begun = begin(tmp_path / "run", CONFIG, ("checkpoint.safetensors", "weights.safetensors"), resume=True)
    assert begun.progression.step == 6
    assert begun.fingerprint == Questions(CONFIG).fingerprint


def test_tasks_need_no_torch():
    program = "import sys, json, refimpl.training.tasks, refimpl.training.questions; print(json.dumps('torch' in sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(found) is False


def test_few_pairs_come_in_short_windows():
    """As in the published runs of recall; a shorter window of the run is obeyed, and other tasks have one length."""
    for window, pairs, lengths in ((256, (4, 8, 16, 64), [64, 128, 256, 256]), (32, (4, 8), [32, 32])):
        text = Questions(TrainConfig(task="recall", vocab_size=256, window=window, pairs=pairs))
        assert [inputs.shape[1] for inputs, _ in text.held_out] == lengths
        draw, rng = text.batches(CONFIG), np.random.default_rng(0)
        assert [draw(number, rng)[0].shape[1] for number in range(1, len(pairs) + 1)] == lengths
    (inputs, _), *_ = Questions(TrainConfig(task="copying", vocab_size=256, window=300, pairs=(4,))).held_out
    assert inputs.shape[1] == 300


def test_a_curriculum_lets_numbers_of_pairs_in_one_after_another():
    settings = {"task": "recall", "vocab_size": 256, "window": 64, "pairs": (4, 8, 16), "steps": 60}
    text, rng = Questions(TrainConfig(**settings)), np.random.default_rng(0)

    def asked(**more):
        """The number of pairs of each batch."""
        draw = text.batches(TrainConfig(**settings, batch_size=1, **more))
        return [int((draw(number, rng)[1] != IGNORED).sum()) for number in range(1, 61)]

    assert asked() == [4, 8, 16] * 20
    order = asked(curriculum=0.5)  # ten steps from one to the next
    assert order[:10] == [4] * 10
    assert set(order[10:20]) == {4, 8}
    assert order[20:] == [16, 4, 8] * 13 + [16]
    assert asked(curriculum=1.0)[:20] == [4] * 20
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="curriculum must be from 0 to 1"):
            TrainConfig(**settings, curriculum=share)
    with pytest.raises(ValueError, match=r"curriculum must be left out without a task, got 0\.5"):
        TrainConfig(curriculum=0.5)
