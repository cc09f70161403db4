"""Signals that ask to stop: collected while training, obeyed as before around it."""

import contextlib
import signal
import threading

import pytest

from experiments.runs.stopping import Stopped, stop_requests


@contextlib.contextmanager
def _handler(signum, handler):
    before = signal.signal(signum, handler)
    yield
    assert signal.getsignal(signum) == handler  # As it was left.
    signal.signal(signum, before)


@pytest.fixture
def received():
    """Signals that reached the handlers of whoever trains, which are restored."""
    received = []
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    with contextlib.ExitStack() as stack:
        for signum in names:
            stack.enter_context(
                _handler(signum, lambda number, frame: received.append(number))
            )
        yield received


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_first_signal_is_collected_and_the_second_obeyed(received, signum):
    with stop_requests() as requests:
        assert requests.asked() == 0
        signal.raise_signal(signum)
        assert requests.asked() == signum
        assert received == []
        signal.raise_signal(signum)
        assert received == [signum]
        assert requests.asked() == signum
    signal.raise_signal(signum)
    assert received == [signum, signum]


def test_a_signal_that_somebody_waits_for_counts_more(received):
    for order in (signal.SIGTERM, signal.SIGUSR1), (signal.SIGUSR1, signal.SIGTERM):
        with stop_requests() as requests:
            for signum in order:
                signal.raise_signal(signum)
            assert requests.asked() == signal.SIGUSR1
    assert received == []


def test_what_is_ignored_or_waited_for_by_nobody_stays_so():
    with _handler(signal.SIGINT, signal.SIG_IGN), stop_requests() as requests:
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
        signal.raise_signal(signal.SIGINT)
        assert requests.asked() == 0


def test_another_thread_is_asked_nothing(received):
    asked = []

    def train():
        with stop_requests() as requests:
            asked.append(requests.asked())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert asked == [0]


def test_the_exit_status_names_the_signal():
    for signum, status in (signal.SIGTERM, 143), (signal.SIGINT, 130):
        stopped = Stopped(signum, 7)
        assert stopped.code == status
        assert str(stopped).startswith(f"{signum.name}: saved at step 7; ")
