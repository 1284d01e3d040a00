"""Stop at the next step boundary when asked to: SIGTERM from a scheduler, Ctrl-C from a person."""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax

_questions = itertools.count(1)


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self):
        self.signal: int | None = None

    def reached(self) -> bool:
        """Tell whether to save and stop at this step; all processes of a run get the same answer."""
        if jax.process_count() == 1:
            return self.signal is not None
        from jax.experimental import multihost_utils

        # jax wants a number that grows, and a stage's steps begin again with the next stage
        return multihost_utils.reached_preemption_sync_point(next(_questions))


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Listen for SIGTERM and SIGINT while the block runs. The second Ctrl-C interrupts at once.

    Among several processes jax itself hears SIGTERM, tells the others and finds the step; SIGINT is
    passed on to it.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    alone = jax.process_count() == 1
    numbers = (signal.SIGINT, signal.SIGTERM) if alone else (signal.SIGINT,)
    former = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal is not None and number == signal.SIGINT:
            # whoever listened before knows how to end at once
            before = former[signal.SIGINT]
            if callable(before):
                before(number, frame)
            raise KeyboardInterrupt
        request.signal = number
        if not alone:
            os.kill(os.getpid(), signal.SIGTERM)

    for number, handler in former.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler or signal.SIG_DFL)
