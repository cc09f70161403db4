"""Text as characters: a file, cut into three parts by position, or a text of TFDS."""

import dataclasses
import functools
import os
from pathlib import Path

import numpy as np
from absl import logging

from hic_jax import checks
from hic_jax.data import located, prepared
from hic_jax.data.errors import DataError

# What the name of a text begins with, where other data sets have theirs.
PREFIX = "text:"

# Texts of TFDS, with their three parts.
PREPARED = ("tiny_shakespeare",)

# Shares of the text: training, then validation, then test.
_SHARES = (0.9, 0.05)


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
    """Characters, as numbers in the order of the vocabulary.

    Attributes:
      name: as given to `load_text`.
      vocabulary: the characters of the training part, sorted.
      train: (n,) uint8, or int32 where there are more than 256 characters.
      validation: (m,) of the same type.
      test: (k,) of the same type.
      unknown: characters of the validation part and of the test part that the training
        part lacks; they are left out there.
    """

    name: str
    vocabulary: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    unknown: tuple[int, int] = (0, 0)

    @property
    def num_classes(self) -> int:
        """Size of the vocabulary."""
        return len(self.vocabulary)

    def with_validation(self, characters: int) -> "Text":
        """The text with characters of its validation part in the place of the tests.

        Args:
          characters: how many, from the beginning of that part; 0 for the text as it
            is.

        Raises:
          ValueError: if there are not so many.
        """
        if characters == 0:
            return self
        checks.integer("validation", characters, 1, len(self.validation))
        held = self.validation[:characters]
        return dataclasses.replace(
            self, test=held, unknown=(self.unknown[0], self.unknown[0])
        )

    def check_context(self, context: int) -> None:
        """Raises `DataError` unless each part has a window and what follows it."""
        for part in ("train", "test"):
            if len(getattr(self, part)) <= context:
                raise DataError(
                    f"--dataset={self.name!r}: its {part} part has "
                    f"{len(getattr(self, part))} characters; must have more than the "
                    f"{context} of a context"
                )

    def decoded(self, characters: np.ndarray) -> str:
        """The text that numbers stand for."""
        return "".join(self.vocabulary[number] for number in characters)


def is_text(name: str) -> bool:
    """Whether a data set is text, by its name."""
    return name.startswith(PREFIX) or name.partition(":")[0] in PREPARED


def load_text(
    name: str,
    data_dir: str | os.PathLike | None = None,
    download: bool | None = None,
) -> Text:
    """Reads a text.

    The first nine tenths of the characters of a file are for training, the next
    twentieth for validation, the last for tests: by position, so that no sentence is in
    two parts. TFDS cuts ``tiny_shakespeare`` in the same way.

    Args:
      name: "text:FILE", of a file in UTF-8, or of `PREPARED`, as TFDS names it.
      data_dir: folder of prepared TFDS sets, as of `load`.
      download: as of `load`.

    Raises:
      DataError: if there is no such file or set, it is no text, or too short.
    """
    if not is_text(name):
        raise DataError(
            f"--dataset={name!r}: must be text:FILE, or one of {', '.join(PREPARED)}"
        )
    if name.startswith(PREFIX):
        parts = _of_file(name)
    else:
        folder = located.folder_of(name, data_dir, download, lambda *_: None)
        parts = _of_tfds(name, folder, prepared.fingerprint(folder))
    vocabulary = "".join(sorted(set(parts[0])))
    if len(vocabulary) < 2:
        raise DataError(
            f"--dataset={name!r}: its training part has {len(vocabulary)} different "
            "characters; must have two or more"
        )
    train, validation, test = (_encoded(part, vocabulary) for part in parts)
    unknown = len(parts[1]) - len(validation), len(parts[2]) - len(test)
    if sum(unknown):
        logging.warning(
            "dataset=%s: %d characters of the validation part and %d of the test part "
            "are none of the training part, and left out", name, *unknown,
        )  # fmt: skip
    return Text(name, vocabulary, train, validation, test, unknown)


def _of_file(name: str) -> tuple[str, str, str]:
    """The three parts of a file."""
    path = Path(name.removeprefix(PREFIX)).expanduser()
    try:
        facts = path.stat()
        text = _read(str(path), facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise DataError(
            f"--dataset={name!r}: cannot be read ({error.strerror}); must be text: and "
            "the path of a file"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"--dataset={name!r}: must be text in UTF-8; byte {error.start} is none"
        ) from error
    first = int(_SHARES[0] * len(text))
    second = first + int(_SHARES[1] * len(text))
    return text[:first], text[first:second], text[second:]


@functools.lru_cache(maxsize=4)  # Of a sweep, each run asks.
def _read(path: str, size: int, changed: int) -> str:
    del size, changed  # Of the file: another one is read anew.
    return Path(path).read_bytes().decode("utf-8")


@functools.lru_cache(maxsize=4)
def _of_tfds(name: str, folder: Path, fingerprint: str) -> tuple[str, str, str]:
    del fingerprint  # Of the set: another one is read anew.
    return prepared.texts(name, folder)


def _encoded(text: str, vocabulary: str) -> np.ndarray:
    """Numbers of those characters that the vocabulary has."""
    points = np.frombuffer(text.encode("utf-32-le"), "<u4")
    known = np.frombuffer(vocabulary.encode("utf-32-le"), "<u4")
    places = np.minimum(np.searchsorted(known, points), len(known) - 1)
    dtype = np.uint8 if len(known) <= 256 else np.int32
    return places[known[places] == points].astype(dtype)
