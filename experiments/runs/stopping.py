"""Signals that ask a training to stop, which it does where it can be gone on with.

SIGINT (Ctrl-C) and SIGTERM do, and SIGUSR1 and SIGUSR2 where somebody waits for them,
as submitit does for the one that says that a job's time is almost up. A second signal
of a kind does what it did before.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

USER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


class Stopped(SystemExit):
    """Ends the process as asked: with the exit status 128 + number of the signal.

    That is 143 for SIGTERM and 130 for SIGINT, as of a process that they end.

    Attributes:
      signum: number of the signal.
    """

    def __init__(self, signum: int, step: int):
        super().__init__(
            f"{signal.Signals(signum).name}: saved at step {step}; started again, "
            "the run goes on from there"
        )
        self.signum = signum
        self.code = 128 + signum


class Requests:
    """Collects the signals that ask to stop."""

    def __init__(self):
        self._signum = 0

    def note(self, signum: int) -> None:
        """Remembers a signal: the first, but for one that somebody waits for."""
        if not self._signum or signum in USER_SIGNALS:
            self._signum = signum

    def asked(self) -> int:
        """Number of the signal, 0 without one; the same in every process."""
        if jax.process_count() == 1:
            return self._signum
        return int(multihost_utils.process_allgather(np.int32(self._signum)).max())


@contextlib.contextmanager
def stop_requests() -> Iterator[Requests]:
    """Has signals collected instead of obeyed; outside the main thread, none are."""
    requests = Requests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return

    def note(signum: int, frame: object) -> None:
        requests.note(signum)
        signal.signal(signum, before[signum])
        name = signal.Signals(signum).name
        with contextlib.suppress(OSError):  # No logging, which may be interrupted here.
            os.write(2, f"\n{name}: stopping when saved; again: at once\n".encode())

    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    handlers |= {s: h for s in USER_SIGNALS if callable(h := signal.getsignal(s))}
    before: dict[int, Any] = {
        # None stands for a handler that is not Python's.
        signum: signal.SIG_DFL if handler is None else handler
        for signum, handler in handlers.items()
        if handler is not signal.SIG_IGN
    }
    for signum in before:
        signal.signal(signum, note)
    try:
        yield requests
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
