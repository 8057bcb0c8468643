"""Stopping a run by SIGINT or SIGTERM: after the step at hand, with everything kept."""

import signal
import threading
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request:
    """Whether a signal asked to stop, and which: its number, or None."""

    signal = None

    def __call__(self):
        """True once a signal came."""
        return self.signal is not None


@contextmanager
def stop_on_signals():
    """Within, the first SIGINT or SIGTERM sets the `Request` it yields; a second one does what it always does.

    In another thread than the main one no signal can be caught, and nothing is set.
    """
    request, before = Request(), {}

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
