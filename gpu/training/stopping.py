"""Stopping a run by SIGINT or SIGTERM: after the step at hand, with everything kept."""

import signal
import threading
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request:
    """Whether a signal asked to stop, and which: its number, or None.

    agree: of the number of this process's signal, or 0, makes what all processes go by, such as the largest.
    """

    signal = None

    def __init__(self, agree=lambda number: number):
        self.agree = agree

    def __call__(self):
        """True once a signal came, to whichever process; each must ask."""
        agreed = self.agree(self.signal or 0)
        if agreed:  # else leave it: a signal may have come since
            self.signal = int(agreed)
        return bool(agreed)


@contextmanager
def stop_on_signals(agree=lambda number: number):
    """Within, the first SIGINT or SIGTERM sets the `Request` it yields; a second one does what it always does.

    agree: see `Request`. In another thread than the main one no signal can be caught, and nothing is set.
    """
    request, before = Request(agree), {}

    def ask(number, _):
        request.signal = number
        restore()

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():
        before |= {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield request
    finally:
        restore()
