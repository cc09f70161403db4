"""Files that are there as a whole or not at all, and never written through a link."""

import os
import secrets
from pathlib import Path

import jax

PART = ".part"  # Ends the names of files that are being written.


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whenever one is killed and whatever has its name.

    It is written beside its place, under a name that nobody can know before, and gets
    its own name when it is on the disk. So a link that is there is replaced, and what
    it points to stays as it is; of two that write at once, one is there in the end.
    Of several processes that make one run, the first writes it.

    Raises:
      OSError: if it cannot be written; then an earlier file is as it was.
    """
    if jax.process_index():
        return
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")
    file = part.open("xb")  # O_EXCL: follows no link, and fails if anything is there.
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text as `write_bytes` does, in UTF-8."""
    write_bytes(path, text.encode())
