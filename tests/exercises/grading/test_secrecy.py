"""What a submission sees in a hidden check stays there, and nothing of it stays when the grader is killed."""

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from graded import COURSE, descendants
from zoo import spies, zoo
from zoo_in_one import grade_in_one, words_of_hidden_checks

from exercises import load
from exercises.checking.key import answer_key
from exercises.checking.secret import VARIABLE
from exercises.grading.feedback import Outcome, feedback_html, results_json
from exercises.grading.isolation import Limits
from exercises.grading.sandbox import StoppedError, Turns, put_questions
from exercises.harness import child
from exercises.harness.confine import COMPUTES_ONLY, NO_OTHER_FILES

ROOT = COURSE.parent
NOT_ROOT = [
    "unshare",
    "--user",
    "--map-user=1000",
    "--map-group=1000",
]  # another user, to whom root's files still belong


def choice(way):
    """What --isolation calls it."""
    return way.name.removesuffix(" only")


@functools.cache
def cannot_leave_root():
    """Why nothing can be run as another user than root, or ""."""
    if os.geteuid() != 0:
        return "this is not root: the other tests say what happens without"
    if shutil.which("unshare") is None or subprocess.run([*NOT_ROOT, "true"], check=False).returncode:
        return "unshare makes no user namespace here"
    return ""


@pytest.fixture(scope="module")
def as_root(way):
    """What the spies got, in this process."""
    found = grade_in_one(spies(), way)
    for _, status, results, _ in found.values():
        if COMPUTES_ONLY in results["extra_data"]["not_in_force"]:
            pytest.skip("without seccomp, sandboxes on one machine can tell each other something; the results say so")
        assert status == "graded"
    return found


@pytest.fixture(scope="module")
def not_as_root(way):
    """What spies and all but the slowest attackers got, graded by a user without rights, and with other hidden inputs."""
    if cannot_leave_root():
        pytest.skip(f"grading without root's rights is not tested apart: {cannot_leave_root()}")
    command = [*NOT_ROOT, sys.executable, "tests/zoo_in_one.py", choice(way)]
    environment = os.environ | {VARIABLE: "a secret of the lecturer's", "PYTHONPATH": f"{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=550)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_all(found):
    animals, words = zoo(COURSE), words_of_hidden_checks()
    for name, (points, _, results, page) in found.items():
        assert points == animals[name].points, name
        failed = "\n".join(test["output"] for test in results["tests"] if test["status"] == "failed")
        assert re.search(animals[name].told, failed), f"{name}: {failed}"
        assert "<script" not in page
        for test in results["tests"]:
            assert test["visibility"] == "visible" or test["output"] in words[test["name"]], name


def test_the_zoo_is_large():
    assert len(zoo(COURSE)) >= 150


def test_spies_earn_and_tell_nothing(as_root):
    check_all(as_root)


def test_nobody_earns_or_tells_anything_without_root(not_as_root):
    check_all(not_as_root)
    assert len(not_as_root) >= 140


def test_feedback_is_the_same_whatever_the_hidden_inputs_are(as_root, not_as_root):
    """The two saw different inputs, and sent them out as best they could: nothing can be decoded from equal texts."""
    for name in spies():
        (_, _, results, page), (_, _, others, other_page) = as_root[name], not_as_root[name]
        assert (results["tests"], results["output"]) == (others["tests"], others["output"]), name
        assert page == other_page, name


def test_times_are_whole_seconds():
    facts = {"submission": "", "isolation": "limits only", "in_force": [], "seconds": 1.234}
    assert (
        json.loads(results_json(Outcome("ann", "ex01", "ex01.py", "graded", None, [], facts), 30))["extra_data"][
            "seconds"
        ]
        == 2
    )


def test_feedback_says_what_the_system_does_not_protect():
    for in_force, missing in (
        (["CPU time"], [NO_OTHER_FILES, COMPUTES_ONLY]),
        ([NO_OTHER_FILES, COMPUTES_ONLY], []),
        ([], []),  # nothing ran
    ):
        facts = {"submission": "", "isolation": "limits only", "in_force": in_force, "seconds": 0}
        outcome = Outcome("ann", "ex01", "ex01.py", "graded", None, [], facts)
        assert json.loads(results_json(outcome, 30))["extra_data"]["not_in_force"] == missing
        assert all(f"; not in force: {one}" in feedback_html(outcome) for one in missing)
        assert feedback_html(outcome).count("not in force") == len(missing)


# Turns.


def test_hidden_checks_never_run_beside_visible_ones():
    turns, running, seen = Turns(2), [], set()

    def one(kinds):
        for kind in kinds:
            with turns.of(kind):
                running.append(kind)
                time.sleep(0.001)
                seen.add(frozenset(running))
                running.remove(kind)

    threads = [threading.Thread(target=one, args=(["visible", "hidden"] * 10,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {frozenset({"visible"}), frozenset({"hidden"})}


def test_waiting_for_a_turn_can_be_stopped():
    turns, stop = Turns(), threading.Event()
    stop.set()
    with turns.of("hidden"), pytest.raises(StoppedError), turns.of("visible", stop):
        pass
    with turns.of("visible", stop):  # it is free again
        pass


# The end of the grader.

CLINGING = """
import ctypes, os, signal, time
def retention_step(q, k, v, gamma, state):
    for number in range(1, 65):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    ctypes.CDLL(None).prctl(1, 0)
    for call in (lambda: os.fork(), os.setsid, lambda: os.setpgid(0, 0)):
        try: call()
        except OSError: pass
    while True: time.sleep(1000)
"""


@pytest.mark.parametrize("user", ["as root", "not as root"])
def test_a_killed_grader_leaves_no_process_and_no_folder(way, user, tmp_path):
    if user == "not as root" and cannot_leave_root():
        pytest.skip(cannot_leave_root())
    for place in ("in", "temporary"):
        (tmp_path / place).mkdir()
    (tmp_path / "in" / "ann_ex01.py").write_text(CLINGING)
    command = [sys.executable, "-m", "exercises", "grade", f"{tmp_path / 'in'}", "--out", f"{tmp_path / 'out'}"]
    command += ["--isolation", choice(way), "--seconds", "300", "--total-seconds", "300"]
    process = subprocess.Popen(
        [*(NOT_ROOT if user == "not as root" else []), *command],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": f"{tmp_path / 'temporary'}"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(below := {process.pid} | descendants(process.pid)) < 3 or not clinging(
        below
    ):  # the grader, the harness and the student's
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while left := {pid for pid in below if Path(f"/proc/{pid}").exists() and not gone(pid)}:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert [*(tmp_path / "temporary").iterdir()] == []
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["results"]  # made before anything is graded


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "State:\tX"


def gone(pid):
    return re.search(r"State:\t[ZX]", state_of(pid)) is not None


def clinging(processes):
    """Whether one of them has come to ignore signals, as `CLINGING` does before it waits."""
    ignored = [re.search(r"SigIgn:\t(\w+)", state_of(pid)) for pid in processes]
    return any(found and int(found[1], 16) >> 9 & 1 for found in ignored)  # SIGUSR1, which Python does not ignore


def test_the_harness_ends_when_nobody_waits_for_its_answer():
    """Also where the kernel ends no process with its parent."""
    (reader, _writer), (source, grader) = os.pipe(), os.pipe()
    os.close(grader)
    began = time.monotonic()
    assert child._collect(reader, source, os.getpid(), 60) == (b"", "gone")
    assert time.monotonic() - began < 10


# What student code is left with.


def test_modules_that_a_file_names_are_there(way):
    """Though no file can be opened any more; others are not, whatever their name."""
    source = """
import fractions, zoneinfo
from concurrent import futures
def retention_step(q, k, v, gamma, state):
    import colorsys, xml.dom.minidom
    from email.mime import text
    colorsys.rgb_to_hsv(1, 0, 0), futures.Future(), text.MIMEText("a"), zoneinfo.ZoneInfo, xml.dom.minidom.Document()
    state = gamma * state + k[:, None] * v
    return q @ state, state
"""
    key = answer_key(load("ex01")).only("retention_step")
    given = put_questions(key, "ex01.py", source.encode(), way, Limits())
    reasons = {result.reason for result in key.report(given.runs).results["retention_step"]}
    if reasons != {
        ""
    }:  # as root, with a Python that other users cannot enter, nothing can be imported; README.md says so
        assert os.geteuid() == 0
        assert way.name == "limits only"
        assert all("No module named" in note for note in given.notes)
