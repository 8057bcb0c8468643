"""The run of tests/mutation.py, which `make test` does not make, breaks what it says it breaks."""

import mutation
import numpy as np

from refimpl import retention_step


def test_one_thing_is_changed_at_a_time(tmp_path):
    (path := tmp_path / "small.py").write_text("def f(x, y=0.5):\n    return -x if x < y and True else x * 2\n")
    lines = {line for _, _, line in mutation.mutants_of(path)}
    assert lines == {
        "def f(x, y=(1.5)):", "def f(x, y=(-0.5)):",
        "return (x) if x < y and True else x * 2", "return -x if (x <= y) and True else x * 2",
        "return -x if (x < y or True) else x * 2",
        "return -x if (not (x < y and True)) else x * 2", "return -x if x < y and (False) else x * 2",
        "return -x if x < y and True else (x / 2)", "return -x if x < y and True else x * (3)", "return -x if x < y and True else x * (1)",
    }  # fmt: skip


def test_a_mutant_reaches_those_who_hold_the_function():
    path = next(path for path in mutation.SOURCES if path.stem == "decay")
    one, decay = np.ones((1, 1, 1, 1)), np.array([0.5])
    carry = next(source for (_, name, _), (source, _) in mutation.mutants_of(path).items() if name == "carry")
    assert retention_step(one, one, one, decay, one)[1].item() == 1.5
    try:
        mutation.put(path, carry)
        assert retention_step(one, one, one, decay, one)[1].item() != 1.5
    finally:
        mutation.put(path, path.read_text())
    assert retention_step(one, one, one, decay, one)[1].item() == 1.5


def test_every_explained_survivor_is_a_mutant():
    assert {key for path in mutation.SOURCES for key in mutation.mutants_of(path)} >= mutation.EXPLAINED
