"""Stop a run by SIGINT, SIGTERM or SIGHUP, after the current step and its checkpoint."""

import os
import signal
import threading
from contextlib import contextmanager

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows: two


HELD = "RETNET_STDIN_HELD"  # in the environment of a process that is to stop when its standard input ends


class StoppedError(Exception):
    """A run stopped because it was asked to, after its current step was finished and kept; signal: the signal's number."""

    signal = None


class Request:
    """A request to stop: the number of the signal, or None.

    agree: takes the number of this process's signal, or 0; returns the one that all processes use, such as the largest.
    """

    signal = None

    def __init__(self, agree=lambda number: number):
        self.agree = agree

    def __call__(self):
        """True once a signal came to any process; every process must call it."""
        agreed = self.agree(self.signal or 0)
        if agreed:  # else keep it: a signal may have come since
            self.signal = int(agreed)
        return bool(agreed)


def stop_when_orphaned():
    """With HELD in the environment, send this process SIGTERM when its standard input ends.

    Who starts it holds that open, and the kernel closes it when they end, even if they are killed. Processes that this one
    starts are not held.
    """
    if os.environ.pop(HELD, None) is None:
        return

    def watch():
        while os.read(0, 1):  # not sys.stdin, whose lock a thread must not hold when Python ends
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def stop_on_signals(agree=lambda number: number):
    """Within, the first of these signals sets the yielded `Request`; a second one has its usual effect.

    A `StoppedError` that is raised within gets the signal's number. agree: see `Request`. A signal that is ignored, as
    nohup ignores SIGHUP, stays so. Outside the main thread signals cannot be caught, and the request is never set.
    """
    request, before = Request(agree), {}

    def ask(number, _):
        request.signal = number
        restore()

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():
        heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before |= {number: signal.signal(number, ask) for number in heeded}
    try:
        yield request
    except StoppedError as error:
        error.signal = request.signal
        raise
    finally:
        restore()
