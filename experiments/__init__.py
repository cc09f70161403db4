"""What is launched: absl flags in, a run folder out."""

import os
import signal
import sys
from types import FrameType


def end_at_once(signum: int, frame: FrameType | None) -> None:
    """Ends the process with the status of one that a signal ends: nothing is begun."""
    del frame
    os._exit(128 + signum)


# Of ``python -m experiments.NAME`` this comes first, and seconds of imports follow, in
# which an exception for Ctrl-C may come to nothing, or ends in somebody's traceback.
# `launch.start` gives Python's way back.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is (
    signal.default_int_handler
):
    signal.signal(signal.SIGINT, end_at_once)
