"""One process at a time writes in a folder: whoever does holds the lock in it.

The file ``lock`` stays. What counts is the kernel's lock on it (flock), which it takes
back however its holder ends; the text in the file only says who that is. On one machine
that always holds. On NFS and on Lustre mounted with ``-o flock`` it holds between
machines, too; where a file system has locks of this machine only (``-o localflock``,
some FUSE file systems), a process elsewhere is not seen, and where it has none at all,
that is said. A process that is forked shares the lock until it ends or starts another
program.
"""

import datetime
import errno
import fcntl
import os
import shlex
import socket
import sys
import tempfile
from pathlib import Path

from absl import logging

NAME = "lock"

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


class Lock:
    """The lock of a folder, held until it is closed or the process ends."""

    def __init__(self, folder: Path, *, wait: bool = False):
        """Takes the lock.

        Args:
          folder: exists.
          wait: whether to wait for another process that holds it.

        Raises:
          BlockingIOError: if another process holds it: says which.
          OSError: if nothing can be written there.
        """
        with tempfile.TemporaryFile(dir=folder):
            pass  # A file that is there may be written where no other can be.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(folder / NAME, flags, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(self._file, 1000, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise BlockingIOError(
                f"is being written by {holder or 'another process'}"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(self._file)
                raise
            logging.warning(
                "%s: its file system has no locks (%s): nothing keeps a second process "
                "from writing there", folder, error,
            )  # fmt: skip
        self._say(_this_process())

    def close(self) -> None:
        """Lets others in."""
        self._say("")
        os.close(self._file)

    def _say(self, text: str) -> None:
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, text.encode(), 0)


def _this_process() -> str:
    now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    command = " ".join(shlex.join(sys.orig_argv).split())[:500]  # One line.
    return f"pid {os.getpid()} on {socket.gethostname()} since {now}: {command}\n"
