"""Images of the user's own: exact pixels, a stated test part, errors naming files."""

import numpy as np
import pytest
from PIL import Image

from hic_jax import data

# Of both classes; the first is darker than the second throughout.
SIZES = {"cat": 7, "dog": 8}
SHAPE = (4, 6, 3)  # Height, width, channels.


def _pixels(label, number, shape=SHAPE):
    values = np.random.default_rng([label, number]).integers(0, 100, shape)
    return (values + 120 * label).astype(np.uint8)


def _write(folder, sizes=None, shape=SHAPE):
    """Folders of classes with images."""
    for label, (name, size) in enumerate((sizes or SIZES).items()):
        (folder / name).mkdir(parents=True)
        for number in range(size):
            image = Image.fromarray(_pixels(label, number, shape).squeeze())
            image.save(folder / name / f"{number}.png")
    return folder


def _load(folder, tmp_path):
    return data.load(f"images:{folder}", cache_dir=tmp_path / "cache")


def _rows(images, labels):
    return sorted(
        (int(label), image.tobytes())
        for image, label in zip(images, labels, strict=True)
    )


def _all_rows(dataset):
    return _rows(
        np.concatenate([dataset.train_images, dataset.test_images]),
        np.concatenate([dataset.train_labels, dataset.test_labels]),
    )


def _expected(sizes=SIZES, shape=SHAPE):
    return sorted(
        (label, _pixels(label, number, shape).tobytes())
        for label, size in enumerate(sizes.values())
        for number in range(size)
    )


def test_a_fifth_of_each_class_is_held_out(tmp_path):
    folder = _write(tmp_path / "mine")
    (folder / ".DS_Store").touch()
    dataset = _load(folder, tmp_path)
    assert dataset.image_shape == SHAPE and dataset.num_classes == 2
    # 15 images: 3 for tests, of 7 and 8.
    assert np.bincount(dataset.test_labels).tolist() in ([1, 2], [2, 1])
    assert _all_rows(dataset) == _expected()
    again = _load(folder, tmp_path)
    np.testing.assert_array_equal(dataset.test_images, again.test_images)


def test_folders_of_both_parts_are_taken(tmp_path, caplog):
    folder = tmp_path / "mine"
    _write(folder / "train", {"a": 3, "b": 2})
    _write(folder / "test", {"a": 1, "b": 2})
    (folder / "README").touch()
    dataset = _load(folder, tmp_path)
    assert _rows(dataset.train_images, dataset.train_labels) == _expected(
        {"a": 3, "b": 2}
    )
    assert _rows(dataset.test_images, dataset.test_labels) == _expected(
        {"a": 1, "b": 2}
    )
    assert "left out" in caplog.text and "README" in caplog.text


def test_changed_images_are_read_anew(tmp_path):
    folder = _write(tmp_path / "mine")
    before = _load(folder, tmp_path)
    Image.fromarray(np.full(SHAPE, 255, np.uint8)).save(folder / "dog" / "0.png")
    after = _load(folder, tmp_path)
    assert 255 in after.train_images or 255 in after.test_images
    assert 255 not in before.train_images and 255 not in before.test_images


def test_grey_images_have_one_channel_unless_others_are_in_colour(tmp_path):
    grey = _write(tmp_path / "grey", shape=(4, 6, 1))
    assert _load(grey, tmp_path).image_shape == (4, 6, 1)
    Image.fromarray(_pixels(1, 99)).save(grey / "dog" / "colour.png")
    dataset = _load(grey, tmp_path)
    assert dataset.image_shape == SHAPE
    dark = dataset.train_images[dataset.train_labels == 0]
    np.testing.assert_array_equal(dark[..., 0], dark[..., 2])
    assert _pixels(0, 0, (4, 6, 1)).repeat(3, axis=2).tobytes() in [
        row for _, row in _all_rows(dataset)
    ]


def test_kinds_of_files(tmp_path):
    """A palette, an alpha channel that hides nothing, and a photograph on its side."""
    folder = _write(tmp_path / "mine", {"cat": 1, "dog": 2})
    pixels = _pixels(0, 0)
    opaque = np.dstack([pixels, np.full(SHAPE[:2], 255, np.uint8)])
    Image.fromarray(opaque).save(folder / "cat" / "alpha.png")
    Image.fromarray(pixels).quantize(256).save(folder / "cat" / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned clockwise.
    side = Image.fromarray(np.rot90(pixels))
    side.save(folder / "cat" / "side.png", exif=exif)
    rows = [row for label, row in _all_rows(_load(folder, tmp_path)) if label == 0]
    assert rows == 4 * [pixels.tobytes()]


def _another_size(folder):
    Image.fromarray(_pixels(1, 0, (6, 4, 3))).save(folder / "dog" / "wide.png")


def _no_image(folder):
    (folder / "dog" / "notes.txt").write_text("none")


def _cut_off(folder):
    path = folder / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:60])


def _sixteen_bits(folder):
    Image.fromarray(np.zeros(SHAPE[:2], np.uint16)).save(folder / "dog" / "deep.png")


def _see_through(folder):
    Image.fromarray(np.zeros((*SHAPE[:2], 4), np.uint8)).save(folder / "dog" / "g.png")


def _moving(folder):
    frames = [Image.fromarray(_pixels(0, number)) for number in range(2)]
    frames[0].save(folder / "dog" / "m.gif", save_all=True, append_images=frames[1:])


def _one_class(folder):
    (folder / "dog").rename(folder.parent / "dog")


def _alone(folder):
    for path in list((folder / "dog").iterdir())[1:]:
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_another_size, "png' has 6x4 pixels, and .*wide.png' 4x6; all .* one size"),
        (_no_image, "notes.txt' cannot be read as an image .*must be one"),
        (_cut_off, "3.png' cannot be read as an image"),
        # Pillow before 11 calls that mode I.
        (_sixteen_bits, "deep.png' has pixels of the mode I(;16)?; must have 8 bits"),
        (_see_through, "g.png' is transparent in places; must be opaque"),
        (_moving, "m.gif' has 2 frames; must have one"),
        (lambda folder: (folder / "owl").mkdir(), "owl' is empty; each class must"),
        (lambda folder: (folder / "dog/x").mkdir(), "x' is no file; .* nothing else"),
        (
            lambda folder: (folder / "test").mkdir(),
            "folder 'test' alone; must have both",
        ),
        (_one_class, "a folder for each of two or more classes, and holds 'cat'"),
        (_alone, "dog' has one image, and .* must have two or more"),
    ],
)
def test_folders_that_are_refused(tmp_path, damage, message):
    folder = _write(tmp_path / "mine")
    damage(folder)
    with pytest.raises(data.DataError, match=f"^--dataset='images:.*{message}"):
        _load(folder, tmp_path)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_both_parts_have_the_same_classes(tmp_path):
    _write(tmp_path / "mine" / "train", {"a": 1, "b": 1})
    _write(tmp_path / "mine" / "test", {"a": 1, "c": 1})
    with pytest.raises(data.DataError, match="test' lacks the class 'b'"):
        _load(tmp_path / "mine", tmp_path)


# ---- NPZ files

IMAGES = np.arange(10 * 4 * 6, dtype=np.uint8).reshape(10, 4, 6)
LABELS = np.array([0, 1] * 5)
PARTS = {
    "train_images": IMAGES, "train_labels": LABELS,
    "test_images": IMAGES[:3], "test_labels": LABELS[:3],
}  # fmt: skip
WHOLE = {"images": IMAGES, "labels": LABELS}


def _saved(tmp_path, arrays):
    np.savez(tmp_path / "mine.npz", **arrays)
    return tmp_path / "mine.npz"


def test_arrays_of_both_parts(tmp_path):
    column = {"test_labels": LABELS[:3, None].astype(np.uint8)}
    dataset = _load(_saved(tmp_path, PARTS | column), tmp_path)
    np.testing.assert_array_equal(dataset.train_images[..., 0], IMAGES)
    np.testing.assert_array_equal(dataset.test_images[..., 0], IMAGES[:3])
    assert dataset.test_labels.tolist() == [0, 1, 0] and dataset.num_classes == 2


def test_a_fifth_of_arrays_is_held_out(tmp_path, caplog):
    colour = IMAGES[..., None].repeat(3, axis=3)
    path = _saved(tmp_path, WHOLE | {"images": colour, "names": np.zeros(3)})
    dataset = _load(path, tmp_path)
    assert sorted(dataset.test_labels) == [0, 1]
    assert _all_rows(dataset) == _rows(colour, LABELS)
    assert "left out: names" in caplog.text


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "lacks the array labels; must have .* and has images"),
        (PARTS | {"train_labels": None}, "lacks the array train_labels"),
        ({"x": IMAGES}, "lacks the array train_images; .* and has x"),
        (WHOLE | {"images": IMAGES / 255}, r"images is \(10, 4, 6\) float64; must be"),
        (WHOLE | {"images": np.moveaxis([IMAGES] * 3, 0, 1).repeat(8, 3)[..., :8]},
         r"images is \(10, 3, 4, 8\) uint8; must be .* 1 to 4 channels"),
        (WHOLE | {"images": IMAGES[:0]}, r"images is \(0, 4, 6\) uint8; .* not empty"),
        (WHOLE | {"images": IMAGES[:9]}, "images has 9 images, and labels 10 labels"),
        (WHOLE | {"labels": LABELS + 0.0}, r"labels is \(10,\) float64; .* whole num"),
        (WHOLE | {"labels": np.eye(10, dtype=int)}, r"labels is \(10, 10\) int64"),
        (WHOLE | {"labels": LABELS - 1}, "labels has -1; labels must be 0, 1"),
        (WHOLE | {"labels": LABELS + 1}, "labels has 2 and lacks 0; .* from 0 on"),
        (WHOLE | {"labels": 0 * LABELS}, "labels has the class 0 alone"),
        (WHOLE | {"labels": np.arange(10) // 9}, "labels has 1 once, .* 2 times"),
        (PARTS | {"test_labels": np.array([0, 1, 2])},
         r"test_labels has 2, .* lie in \[0, 1\]"),
        (PARTS | {"test_images": IMAGES[:3, :2]}, "training images are .* one size"),
        (WHOLE | {"labels": np.array([None] * 10)}, "NPZ file of numbers .*Object"),
    ],
)  # fmt: skip
def test_arrays_that_are_refused(tmp_path, arrays, message):
    path = _saved(tmp_path, {k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(data.DataError, match=f"^--dataset='images:.*{message}"):
        _load(path, tmp_path)


def test_files_that_are_no_set(tmp_path):
    (tmp_path / "mine.npz").write_text("none")
    (tmp_path / "mine.zip").touch()
    np.save(tmp_path / "one.npy", IMAGES)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    for name, message in {
        "mine.npz": "cannot be read as an NPZ file of numbers",
        "one.npz": "cannot be read as an NPZ file of numbers",
        "mine.zip": "must be images: and the path of a folder of classes, or of an",
        "absent": "must be images: and the path",
    }.items():
        with pytest.raises(data.DataError, match=message):
            _load(tmp_path / name, tmp_path)
