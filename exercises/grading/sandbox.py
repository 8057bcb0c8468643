"""The trusted side of the sandbox: it asks, waits within limits, and takes nothing but checked arrays."""

import contextlib
import io
import os
import select
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace

from ..harness.runner import Run, missing, one_line
from ..harness.wire import PATIENCE, MalformedError, call_to_bytes, frame, read_frame, run_from_bytes
from .isolation import Isolation, IsolationError, Limits, reserved_user

CHOICES = ("auto", "bubblewrap", "limits")

GRACE = 5.0  # seconds beyond the limit of a check after which the harness counts as lost
STARTING = 30.0  # seconds for Python and NumPy to load on a busy machine
MOST_RESTARTS = 2
LONG = 200_000  # bytes: what no check needs of a longer file is removed once, before all checks
LONG_READING = 0.7  # seconds: a file that takes longer, read once for each check, may leave no time for the checks
MOST_LATE = 2  # after so many checks of a function ran out of time its other checks are not run


class BrokenSandboxError(Exception):
    """The harness does not start, or has ended; the message says what is known."""


class StoppedError(Exception):
    """The batch is being stopped."""


class Sandbox:
    """One harness: `ask` it; as a context manager it ends with everything in it.

    in_force: phrases for what it enforces. seen: what it can see of the course, which should be nothing.
    stop: an Event; once set, waiting raises StoppedError.
    """

    def __init__(self, isolation, limits, stop=None):
        self._stop = stop
        with contextlib.ExitStack() as stack:
            user = stack.enter_context(reserved_user(isolation))
            self._process = isolation.start(limits, user)
            stack.callback(self._end)
            hello, _ = self._read(time.monotonic() + STARTING)
            self.in_force, self.seen = hello["in_force"], hello["seen"]
            self._stack = stack.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the harness and everything in it."""
        self._stack.close()

    def _end(self):
        for kill in (lambda: os.killpg(self._process.pid, signal.SIGKILL), self._process.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()

    def ask(self, question, payload, seconds):
        """Return (how it ended, the bytes of the answer) for one question; BrokenSandboxError if the harness is lost."""
        deadline = time.monotonic() + PATIENCE * seconds + GRACE
        self._write(frame(question | {"seconds": seconds}, payload), deadline)
        end, data = self._read(deadline)
        return end, data

    def _write(self, data, deadline):
        view = memoryview(data)
        descriptor = self._process.stdin.fileno()
        os.set_blocking(descriptor, False)
        while view:
            self._wait(descriptor, deadline, write=True)
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise BrokenSandboxError(self._last_error_line()) from None

    def _read(self, deadline):
        descriptor = self._process.stdout.fileno()

        def read(n):
            data = bytearray()
            while len(data) < n:
                self._wait(descriptor, deadline)
                part = os.read(descriptor, min(n - len(data), 1 << 20))
                if not part:
                    raise BrokenSandboxError(self._last_error_line())
                data += part
            return bytes(data)

        try:
            return read_frame(read)
        except MalformedError as error:
            raise BrokenSandboxError(f"the harness sent a malformed message: {error}") from None

    def _wait(self, descriptor, deadline, write=False):
        """Return when the pipe is ready."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT if write else select.POLLIN)
        while not poll.poll(200):
            if self._stop is not None and self._stop.is_set():
                raise StoppedError
            if time.monotonic() > deadline:
                raise BrokenSandboxError("the harness does not answer")

    def _last_error_line(self):
        """Return the last line of the harness's standard error."""
        os.set_blocking(self._process.stderr.fileno(), False)
        time.sleep(0.05)
        text = (self._process.stderr.read(1 << 16) or b"").decode("utf-8", "replace").strip()
        return one_line(text.splitlines()[-1]) if text else "the harness ended"


def choose_isolation(choice="auto"):
    """Return the best `Isolation` that works here, or the one asked for; IsolationError if it does not work.

    choice: "auto", "bubblewrap" or "limits". Each candidate is tried by starting a sandbox in it.
    """
    reasons = []
    for isolation in candidates(choice):
        reason = why_not(isolation)
        if not reason:
            return isolation
        reasons.append(reason)
    raise IsolationError(f"no isolation by {choice} here: {'; '.join(reasons)}")


def candidates(choice):
    """Yield each `Isolation` that `choice` allows, the best first."""
    root = sys.platform == "linux" and os.geteuid() == 0
    if choice in ("auto", "bubblewrap"):
        if root:
            yield Isolation("bubblewrap", own_user=True)
        yield Isolation("bubblewrap", own_user=False, namespaces=True)
    if choice in ("auto", "limits"):
        yield Isolation("limits only", own_user=root)


def why_not(isolation):
    """Return why no sandbox starts in `isolation`, or ""."""
    if isolation.name == "bubblewrap" and shutil.which("bwrap") is None:
        return "there is no bwrap (the package is called bubblewrap)"
    try:
        with Sandbox(isolation, Limits()) as sandbox:
            return f"the sandbox shows the course: {sandbox.seen}" if sandbox.seen else ""
    except (BrokenSandboxError, OSError) as error:
        return str(error)


class Turns:
    """Visible checks run beside visible ones, hidden beside hidden ones, and never both kinds at once.

    A hidden check that keeps the machine busy, or does not, could else tell its inputs to a visible one of another
    submission, whose messages show what it knows. most: how many submissions have their turn at a time; None for any.
    """

    def __init__(self, most=None):
        self._changed, self._kind, self._running = threading.Condition(), None, 0
        self._most = most or float("inf")

    @contextlib.contextmanager
    def of(self, kind, stop=None):
        """Wait for a turn of this kind; StoppedError if `stop` (an Event) is set before it comes."""
        with self._changed:
            while self._running >= self._most or (self._running and self._kind != kind):
                if stop is not None and stop.is_set():
                    raise StoppedError
                self._changed.wait(0.2)
            self._kind = kind
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()


TURNS = Turns()


@dataclass
class Answered:
    """What a submission gave: a `Run` by (function, check name), notes for its author, what was in force.

    unusable: why the file cannot be read at all, or "". seconds: how long it took, without waiting for a turn or a core.
    """

    runs: dict
    notes: list
    unusable: str
    in_force: list
    seconds: float


class ConfinementError(Exception):
    """A process could not confine itself as announced, so it ran nothing."""


def put_questions(key, name, source, isolation, limits, stop=None, turns=TURNS):
    """Return `Answered`: every check of `key` put to the submission `source` (bytes of a file called `name`).

    The file is read first, without any inputs. Visible checks come before hidden ones: their messages may show
    what the submission knows, and until then it has seen no hidden input. turns: shared by all that run at a time.
    """
    return _Conversation(key, name, source, isolation, limits, stop, turns).run()


class _Conversation:
    def __init__(self, key, name, source, isolation, limits, stop, turns):
        self._key, self._source, self._limits = key, source, limits
        self._start = lambda: Sandbox(isolation, limits, stop)
        self._turn = lambda kind: turns.of(kind, stop)
        self._sandbox, self._starts, self._used, self._reading = None, 0, 0.0, 0.0
        self._common = {
            "name": name,
            "source": len(source),
            "functions": [problem.function for problem in key.problems],
        }
        self._in_force = []

    def run(self):
        try:
            return self._run()
        finally:
            if self._sandbox is not None:
                self._sandbox.close()

    def _run(self):
        questions = [(problem, check) for problem in self._key.problems for check in problem.checks]
        with self._turn("visible"):
            reason, look = self._look()
            self._reading = self._used
            if reason:
                return self._answered(self._key.failed_runs(f"reading your file failed: {reason}"))
            if look["unusable"]:
                return self._answered(self._key.failed_runs(look["unusable"]), look["notes"], look["unusable"])
            self._shorten()
            runs, late = {}, {}
            self._put([one for one in questions if not one[1].hidden], look, runs, late)
            notes = [*look["notes"], *self._too_slow(len(runs), len(questions))]
        with self._turn("hidden"):
            self._put([one for one in questions if one[1].hidden], look, runs, late)
        return self._answered(runs, notes)

    def _too_slow(self, done, in_all):
        """Return a note if so slow a reading leaves no time for the hidden checks, which cannot say that themselves."""
        if self._reading <= LONG_READING or self._used * in_all <= self._limits.total_seconds * done:
            return []
        return [f"{self._describe('late')}; some hidden checks may not be run"]

    def _put(self, questions, look, runs, late):
        """Put pairs (problem, check), and add each `Run` to `runs` and each function that ran out of time to `late`."""
        for problem, check in questions:
            function = problem.function
            if function not in look["names"]:
                run = missing(function)
                if look["notes"]:
                    run = replace(
                        run, failure=f"{function} is not defined; the notes say what could not be read or run"
                    )
            elif late.get(function, 0) >= MOST_LATE:
                run = Run(failure=f"not run, because {function} ran out of time in {MOST_LATE} checks", by_grader=True)
            else:
                reason, run = self._check(problem, check)
                late[function] = late.get(function, 0) + (reason in ("late", "cpu"))
            runs[function, check.name] = run

    def _answered(self, runs, notes=(), unusable=""):
        in_force = [*self._in_force, "wall-clock time", "hidden checks never beside visible ones"]
        return Answered(runs, list(notes), unusable, in_force, self._used)

    def _shorten(self):
        """Take out of a long file what no check needs. That is done in the sandbox, because its JSON may be hostile too."""
        if len(self._source) > LONG:
            reason, data = self._ask({"ask": "shorten"}, b"")
            if not reason and len(data) < len(self._source):
                self._reading *= len(data) / len(self._source)
                self._source, self._common["source"] = data, len(data)

    def _look(self):
        """Return (why the file could not even be read, what was found in it)."""
        reason, data = self._ask({"ask": "look"}, b"")
        if reason:
            doing = "look for a loop outside the functions"
            if len(self._source) > LONG:
                doing = f"the file has {len(self._source) / 1e6:.1f} MB: shorten it, above all long lists, or {doing}"
            return self._describe(reason).replace("look for a loop that does not end", doing), None
        try:
            found = _look_from_bytes(data)
        except MalformedError as error:
            return f"what came back is not an answer: {error}", None
        return "", found

    def _check(self, problem, check):
        """Return (how it ended, the `Run`) of one check."""
        arguments, payload = call_to_bytes(check.inputs)
        call = {"ask": "call", "function": problem.function, "arguments": arguments, "returns": list(problem.returns)}
        reason, data = self._ask(call, payload)
        if reason:
            return reason, Run(failure=self._describe(reason), by_grader=True)
        try:
            return "", _clean(run_from_bytes(data))
        except MalformedError as error:
            return "malformed", Run(failure=f"what came back is not an answer: {error}", by_grader=True)

    def _ask(self, question, payload):
        """Return (what went wrong, the bytes that came)."""
        if self._used >= self._limits.total_seconds:
            return "used up", b""
        if self._sandbox is None:
            if self._starts > MOST_RESTARTS:
                return "gone", b""
            self._starts += 1
            self._sandbox = self._start()
            self._in_force = self._sandbox.in_force
        began, waited = time.monotonic(), 0.0
        seconds = min(self._limits.seconds, max(self._limits.total_seconds - self._used, 0.1))
        try:
            end, data = self._sandbox.ask(self._common | question, self._source + payload, seconds)
            waited = end["waited"]
        except BrokenSandboxError:
            self._sandbox.close()
            self._sandbox = None
            return "lost", b""
        finally:
            took = time.monotonic() - began
            self._used += max(took - waited, took / PATIENCE)  # a busy machine is not the submission's fault
        if end["end"] == "unconfined":
            raise ConfinementError(f"a process could not be confined: {one_line(data.decode('utf-8', 'replace'))}")
        return _went_wrong(end, data), data

    def _describe(self, reason):
        """Return the line that tells a student what went wrong."""
        limits = self._limits
        if reason in ("late", "cpu", "used up") and self._reading > LONG_READING:
            return f"reading your file takes too long, about {self._reading:.0f} s in each check: shorten it"
        return {
            "late": f"it took more than {limits.seconds:g} s: look for a loop that does not end",
            "cpu": f"it computed for more than {limits.cpu_seconds} s: look for a loop that does not end",
            "flood": "it sent far too much data",
            "used up": f"not run, because the checks before it used up the {limits.total_seconds:g} s of a submission",
            "gone": f"not run, because the submission ended its sandbox {MOST_RESTARTS + 1} times",
            "lost": "the submission ended its sandbox",
        }.get(reason, reason)


def _went_wrong(end, data):
    """Return "" if there may be an answer, else a key of `_describe` or the reason itself."""
    if end["end"] in ("late", "flood"):
        return end["end"]
    if end["signal"] == signal.SIGXCPU:
        return "cpu"
    if data:
        return ""
    if end["signal"]:
        try:
            name = signal.Signals(end["signal"]).name
        except ValueError:
            name = f"signal {end['signal']}"
        return f"its process crashed or was ended ({name}) before it gave an answer"
    return "its process ended before it gave an answer: leave exit calls out"


def _look_from_bytes(data):
    """Return what was found in a file, from bytes that a hostile process may have written."""
    found, _ = read_frame(io.BytesIO(data).read)
    if set(found) != {"unusable", "notes", "names"} or type(found["unusable"]) is not str:
        raise MalformedError("its fields are not those of an answer")
    for name in ("notes", "names"):
        if type(found[name]) is not list or len(found[name]) > 64 or any(type(one) is not str for one in found[name]):
            raise MalformedError(f"its {name} are not a list of lines")
    return {
        "unusable": one_line(found["unusable"]),
        "notes": [one_line(note) for note in found["notes"]],
        "names": found["names"],
    }


def _clean(run):
    """Return the `Run` with its texts, which come from the submission, printable and short."""
    return replace(run, failure=one_line(run.failure), where=one_line(run.where))
