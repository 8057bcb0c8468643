"""The trusted side of the sandbox: ask, wait within limits, and believe nothing but arrays."""

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass, replace

from ..harness.runner import Run, missing, one_line
from ..harness.wire import MalformedError, call_to_bytes, frame, read_frame, run_from_bytes
from .isolation import empty_folder, reserved_user

GRACE = 5.0  # seconds beyond a check's limit before the harness itself counts as lost
STARTING = 30.0  # seconds for Python and NumPy to load, on a machine that is busy
MOST_RESTARTS = 2
LONG = 200_000  # bytes of a notebook from which it is worth leaving its outputs out, once for all checks
MOST_LATE = 2  # checks of one function that may run out of time before the rest is not run


class BrokenSandboxError(Exception):
    """The harness does not start, or has ended; the message says what is known."""


class StoppedError(Exception):
    """The batch is being stopped."""


class Sandbox:
    """One harness: `ask` it; as a context manager it ends with everything in it.

    in_force: what it enforces, in words. seen: files of the course that it can see, which should be none.
    stop: an Event that makes waiting end with StoppedError.
    """

    def __init__(self, isolation, limits, stop=None):
        self._stop = stop
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(empty_folder())
            user = stack.enter_context(reserved_user(isolation))
            self._process = isolation.start(limits, user, folder)
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
        deadline = time.monotonic() + seconds + GRACE
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
                raise BrokenSandboxError(self._last_words()) from None

    def _read(self, deadline):
        descriptor = self._process.stdout.fileno()

        def read(n):
            data = bytearray()
            while len(data) < n:
                self._wait(descriptor, deadline)
                part = os.read(descriptor, min(n - len(data), 1 << 20))
                if not part:
                    raise BrokenSandboxError(self._last_words())
                data += part
            return bytes(data)

        try:
            return read_frame(read)
        except MalformedError as error:
            raise BrokenSandboxError(f"the harness sent nonsense: {error}") from None

    def _wait(self, descriptor, deadline, write=False):
        """Return when the pipe is ready."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT if write else select.POLLIN)
        while not poll.poll(200):
            if self._stop is not None and self._stop.is_set():
                raise StoppedError
            if time.monotonic() > deadline:
                raise BrokenSandboxError("the harness does not answer")

    def _last_words(self):
        """Return the last line of the harness's standard error."""
        os.set_blocking(self._process.stderr.fileno(), False)
        time.sleep(0.05)
        text = (self._process.stderr.read(1 << 16) or b"").decode("utf-8", "replace").strip()
        return one_line(text.splitlines()[-1]) if text else "the harness ended"


@dataclass
class Answered:
    """What a submission gave: a `Run` by (function, check name), notes for its author, what was in force.

    unusable: why the file cannot be read at all, or "".
    """

    runs: dict
    notes: list
    unusable: str
    in_force: list


class ConfinementError(Exception):
    """A process could not confine itself as announced, so it ran nothing."""


def put_questions(key, name, source, isolation, limits, stop=None):
    """Return `Answered`: every check of `key` put to the submission `source` (bytes of a file called `name`).

    First the file is only read, without any input. Then come the visible checks and last the hidden
    ones, so that no process that may put its inputs into a message can have met a hidden one.
    """
    return _Conversation(key, name, source, isolation, limits, stop).run()


class _Conversation:
    def __init__(self, key, name, source, isolation, limits, stop):
        self._key, self._source, self._limits = key, source, limits
        self._start = lambda: Sandbox(isolation, limits, stop)
        self._sandbox, self._starts, self._used = None, 0, 0.0
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
        self._shorten()
        questions = [(problem, check) for problem in self._key.problems for check in problem.checks]
        reason, look = self._look()
        if reason:
            return self._answered(self._key.failed_runs(f"reading your file failed: {reason}"))
        if look["unusable"]:
            return self._answered(self._key.failed_runs(look["unusable"]), look["notes"], look["unusable"])
        runs, late = {}, {}
        for problem, check in sorted(questions, key=lambda pair: pair[1].hidden):  # stable: else in order
            function = problem.function
            if function not in look["names"]:
                run = missing(function)
                if look["notes"]:
                    run = replace(
                        run, failure=f"{function} is not defined; the notes say what could not be read or run"
                    )
            elif late.get(function, 0) >= MOST_LATE:
                run = Run(failure=f"not run, for {function} ran out of time in {MOST_LATE} checks", by_grader=True)
            else:
                reason, run = self._check(problem, check)
                late[function] = late.get(function, 0) + (reason in ("late", "cpu"))
            runs[function, check.name] = run
        return self._answered(runs, look["notes"])

    def _answered(self, runs, notes=(), unusable=""):
        return Answered(runs, list(notes), unusable, [*self._in_force, "wall-clock time"])

    def _shorten(self):
        """Leave the outputs of a long notebook out. It is read in the sandbox, for its JSON may be hostile too."""
        if self._common["name"].endswith(".ipynb") and len(self._source) > LONG:
            reason, data = self._ask({"ask": "shorten"}, b"")
            if not reason and len(data) < len(self._source):
                self._source, self._common["source"] = data, len(data)

    def _look(self):
        """Return (why the file could not even be read, what was found in it)."""
        reason, data = self._ask({"ask": "look"}, b"")
        if reason:
            return self._words(reason), None
        try:
            found = _look_from_bytes(data)
        except MalformedError as error:
            return f"what came back is not an answer: {error}", None
        return "", found

    def _check(self, problem, check):
        """Return (how it ended, the `Run`) of one check."""
        arguments, payload = call_to_bytes(check.inputs)
        call = {
            "ask": "call",
            "function": problem.function,
            "arguments": arguments,
            "returns": list(problem.returns),
        }
        reason, data = self._ask(call, payload)
        if reason:
            return reason, Run(failure=self._words(reason), by_grader=True)
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
        began = time.monotonic()
        seconds = min(self._limits.seconds, max(self._limits.total_seconds - self._used, 0.1))
        try:
            end, data = self._sandbox.ask(self._common | question, self._source + payload, seconds)
        except BrokenSandboxError:
            self._sandbox.close()
            self._sandbox = None
            return "lost", b""
        finally:
            self._used += time.monotonic() - began
        if end["end"] == "unconfined":
            raise ConfinementError(f"a process could not be confined: {one_line(data.decode('utf-8', 'replace'))}")
        return _went_wrong(end, data), data

    def _words(self, reason):
        limits = self._limits
        return {
            "late": f"it took more than {limits.seconds:g} s: look for a loop that does not end",
            "cpu": f"it computed for more than {limits.cpu_seconds} s: look for a loop that does not end",
            "flood": "it sent far too much",
            "used up": f"not run, for the checks before it used up the {limits.total_seconds:g} s of a submission",
            "gone": f"not run, for the submission ended its sandbox {MOST_RESTARTS + 1} times",
            "lost": "the submission ended its sandbox",
        }.get(reason, reason)


def _went_wrong(end, data):
    """Return "" if an answer may have come, else a word for what happened or the reason itself."""
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
    parts = [data]

    def read(n):
        part, parts[0] = parts[0][:n], parts[0][n:]
        if len(part) < n:
            raise MalformedError("it is cut short")
        return part

    found, _ = read_frame(read)
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
    """Return the `Run` with its texts printable and short; they come from the submission."""
    return Run(run.outputs, run.inputs, one_line(run.failure), one_line(run.where), run.written)
