"""Images in folders, one for each class.

Either ``train`` and ``test`` hold a folder of images for each class, or the folders of
the classes lie there themselves. Classes are numbered in the order of their names.
Pillow reads the files: of 8 bits, opaque, one frame, turned as their EXIF
data says. Where some images are in colour, grey ones get three equal channels.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tqdm import auto as tqdm

from hic_jax.data import array_cache, held_out
from hic_jax.data.errors import DataError, wrong

SPLITS = ("train", "test")

_GREY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_LAYOUT = 1  # of the cached files: one of another layout has another fingerprint

# Files by class, in the order of the classes.
_Files = dict[str, list[Path]]


def read(name: str, folder: Path, cache: Path) -> tuple[dict[str, np.ndarray], int]:
    """Images and labels by part, decoded once; see `own_images.read`."""
    classes, parts = _parts(name, folder)
    digest = hashlib.sha256(f"{_LAYOUT} {folder.resolve()}".encode())
    for part, examples in parts.items():
        for path, label in examples:
            stat = path.stat()
            fact = f"{part} {path} {label} {stat.st_size} {stat.st_mtime_ns}"
            digest.update(f"\n{fact}".encode(errors="surrogateescape"))
    key = f"images-{digest.hexdigest()[:16]}"
    return array_cache.fetch(
        cache / key, lambda target: _decode(name, parts, len(classes), target)
    )


def _parts(
    name: str, folder: Path
) -> tuple[list[str], dict[str, list[tuple[Path, int]]]]:
    """Names of the classes; files and labels of both parts."""
    inside = {path.name: path for path in _visible(folder)}
    given = [part for part in SPLITS if part in inside]
    if len(given) == 1:
        raise wrong(
            name,
            f"has a folder {given[0]!r} alone; must have both of "
            f"{' and '.join(SPLITS)}, or folders of classes and neither",
        )
    if not given:
        files = _classes(name, folder)
        for label, paths in files.items():
            if len(paths) == 1:
                raise wrong(
                    name,
                    f"{str(paths[0].parent)!r} has one image, and "
                    f"{label!r} is to be trained and tested; must have two or more",
                )
        everything = _labelled(files)
        labels = np.array([label for _, label in everything])
        held = held_out.a_fifth(labels)
        places = {"train": np.flatnonzero(~held), "test": np.flatnonzero(held)}
        return list(files), {
            part: [everything[place] for place in places[part]] for part in SPLITS
        }
    _tell_left_out(name, [path for path in inside.values() if path.name not in SPLITS])
    by_part = {part: _classes(name, inside[part]) for part in SPLITS}
    train, test = by_part["train"], by_part["test"]
    for label in sorted(set(train) ^ set(test)):
        lacks = "test" if label in train else "train"
        raise wrong(
            name,
            f"{str(inside[lacks])!r} lacks the class {label!r}; "
            "both parts must have the same classes",
        )
    return list(train), {part: _labelled(files) for part, files in by_part.items()}


def _classes(name: str, folder: Path) -> _Files:
    """Files of the classes in a folder."""
    inside = _visible(folder)
    _tell_left_out(name, [path for path in inside if not path.is_dir()])
    files = {path.name: _visible(path) for path in inside if path.is_dir()}
    if len(files) < 2:
        found = ", ".join(map(repr, files)) or "none"
        raise wrong(
            name,
            f"{str(folder)!r} must hold a folder for each of two "
            f"or more classes, and holds {found}",
        )
    for label, paths in files.items():
        if not paths:
            raise wrong(
                name, f"{str(folder / label)!r} is empty; each class must have images"
            )
        for path in paths:
            if not path.is_file():
                raise wrong(
                    name,
                    f"{str(path)!r} is no file; the folder of a "
                    "class must hold images and nothing else",
                )
    return files


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, but for hidden files, in the order of names."""
    return sorted(path for path in folder.iterdir() if path.name[0] != ".")


def _tell_left_out(name: str, paths: Sequence[Path]) -> None:
    if paths:
        logging.warning(
            "--dataset=%r: left out, as no part of the classes: %s",
            name, ", ".join(map(str, paths)),
        )  # fmt: skip


def _labelled(files: _Files) -> list[tuple[Path, int]]:
    return [
        (path, label) for label, paths in enumerate(files.values()) for path in paths
    ]


def _decode(
    name: str,
    parts: Mapping[str, Sequence[tuple[Path, int]]],
    num_classes: int,
    target: Path,
) -> int:
    """Writes what `array_cache.fetch` asks for, when all sizes have been looked at."""
    paths = [path for part in SPLITS for path, _ in parts[part]]
    sizes: dict[tuple[int, int], Path] = {}
    grey = 0
    for path in paths:
        with _opened(name, path) as image:
            sizes.setdefault(image.size, path)
            grey += image.mode in _GREY
        if len(sizes) > 1:
            (one, first), (other, second) = sizes.items()
            raise wrong(
                name,
                f"{str(first)!r} has {one[0]}x{one[1]} pixels, and "
                f"{str(second)!r} {other[0]}x{other[1]}; all images must have one size",
            )
    mode = "L" if grey == len(paths) else "RGB"
    if mode == "RGB" and grey:
        logging.warning(
            "--dataset=%r: %d of %d images are grey, and get three equal channels",
            name, grey, len(paths),
        )  # fmt: skip
    # None: no bar where nobody looks on.
    with tqdm.tqdm(
        total=len(paths), unit=" images", desc="Decoding", disable=None
    ) as bar:
        for part in SPLITS:
            array_cache.write_split(
                name,
                _pixels(name, parts[part], mode, bar),
                len(parts[part]),
                num_classes,
                target / part,
            )
    return num_classes


def _pixels(
    name: str, examples: Sequence[tuple[Path, int]], mode: str, bar: tqdm.tqdm
) -> Iterator[tuple[np.ndarray, int]]:
    """(H, W, C) uint8 images, and their labels."""
    for path, label in examples:
        with _opened(name, path) as image:
            if image.has_transparency_data:
                least, _ = image.convert("RGBA").getchannel("A").getextrema()
                if least < 255:
                    raise wrong(
                        name, f"{str(path)!r} is transparent in places; must be opaque"
                    )
            pixels = np.asarray(image.convert(mode))
        yield pixels.reshape(*pixels.shape[:2], -1), label
        bar.update()


@contextlib.contextmanager
def _opened(name: str, path: Path) -> Iterator[Any]:
    """An image file, open, turned as its EXIF data says.

    Raises:
      DataError: if it is none, or of another kind, or cannot be read by whoever asked.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.mode not in (*_GREY, *_COLOUR):
                raise wrong(
                    name,
                    f"{str(path)!r} has pixels of the mode "
                    f"{image.mode}; must have 8 bits a channel, grey or in colour",
                )
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise wrong(name, f"{str(path)!r} has {frames} frames; must have one")
            ImageOps.exif_transpose(image, in_place=True)
            yield image
    except DataError:
        raise
    except Exception as error:  # Of many kinds, by the format.
        raise wrong(
            name,
            f"{str(path)!r} cannot be read as an image "
            f"({type(error).__name__}: {error}); must be one, as PNG and JPEG are",
        ) from error
