"""Data sets by name: exact pixels, a cache that survives, errors that name the field.

The TFDS sets are made here, by tfds, without TensorFlow and without a network.
"""

import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zlib
from concurrent import futures
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from hic_jax import data
from hic_jax.data import array_cache, preparation, prepared

tfds = pytest.importorskip("tensorflow_datasets")

SHAPE = (6, 5, 3)


def _examples(seed, size, shape=SHAPE):
    images = np.random.default_rng(seed).integers(0, 256, (size, *shape))
    return [(image, index % 4) for index, image in enumerate(images.astype(np.uint8))]


def _register(set_name, examples, features=None, configs=()):
    """Makes ``set_name`` known to tfds; it holds ``examples`` (split -> pairs)."""

    class Builder(tfds.core.GeneratorBasedBuilder):
        name = set_name
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS: ClassVar = [
            tfds.core.BuilderConfig(name=config) for config in configs
        ]

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    features
                    or {
                        "image": tfds.features.Image(shape=SHAPE),
                        "label": tfds.features.ClassLabel(num_classes=4),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in examples}

        def _generate_examples(self, split):
            keys = list(self.info.features)
            for index, example in enumerate(examples[split]):
                yield index, dict(zip(keys, example, strict=True))


def _content(examples):
    """The (pixels, label) pairs of a split in an order of their own.

    tfds shuffles a split when it prepares it.
    """
    return sorted((image.tobytes(), int(label)) for image, label in examples)


def _parts(dataset):
    """The (image, label) pairs of both parts of a data set."""
    return {
        "train": list(zip(dataset.train_images, dataset.train_labels, strict=True)),
        "test": list(zip(dataset.test_images, dataset.test_labels, strict=True)),
    }


def _assert_holds(dataset, examples):
    for part, pairs in _parts(dataset).items():
        assert _content(pairs) == _content(examples[part])


@pytest.fixture
def folders(tmp_path):
    data_dir, cache_dir = tmp_path / "tfds", tmp_path / "cache"
    data_dir.mkdir()
    return {"data_dir": data_dir, "cache_dir": cache_dir}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A prepared set of 24 + 8 images; its folders, and the examples in it."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "tfds").mkdir()
    folders = {"data_dir": root / "tfds", "cache_dir": root / "cache"}
    examples = {"train": _examples(0, 24), "test": _examples(1, 8)}
    _register("hic_tiny", examples)
    data.load("hic_tiny", **folders)
    return folders, examples


def _the_cache(folders):
    (cache,) = folders["cache_dir"].glob("hic_tiny-1.0.0-*")
    return cache


def _run_python(script):
    """Runs a script in a fresh interpreter and returns the JSON it prints last."""
    environment = dict(os.environ, PYTHONPATH=str(Path(data.__file__).parents[2]))
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def test_digits():
    digits = data.load("digits")
    assert digits.train_images.shape == (1437, 8, 8, 1)
    assert digits.test_images.shape == (360, 8, 8, 1)
    assert digits.image_shape == (8, 8, 1)
    assert digits.num_classes == 10
    # 0..16 becomes 0..255: 17 levels, 8 in the middle.
    levels = np.unique(digits.train_images)
    assert len(levels) == 17
    assert levels[[0, 8, 16]].tolist() == [0, 128, 255]


def test_digits_split_is_fixed_stratified_and_complete():
    from sklearn.datasets import load_digits

    digits, again = data.load("digits"), data.load("digits")
    assert np.array_equal(digits.test_images, again.test_images)
    bunch = load_digits()
    counts = np.bincount(bunch.target)
    share = counts * 360 / 1797
    assert np.abs(np.bincount(digits.test_labels) - share).max() < 1
    whole = np.rint(bunch.images[..., np.newaxis] * 255 / 16).astype(np.uint8)
    parts = _parts(digits)
    assert _content(parts["train"] + parts["test"]) == _content(
        zip(whole, bunch.target, strict=True)
    )
    # The split of every release: a change would make results incomparable.
    assert zlib.crc32(digits.test_images.tobytes()) == 1382952854


def test_images_held_out_are_training_images_and_no_others():
    digits = data.load("digits")
    held = digits.with_validation(300)
    assert len(held.train_labels) == 1137
    assert len(held.test_labels) == 300
    both = np.concatenate([held.train_images, held.test_images])

    def rows(images):
        return np.sort([image.tobytes() for image in images])

    np.testing.assert_array_equal(rows(both), rows(digits.train_images))
    tests = {image.tobytes() for image in digits.test_images}
    assert not tests & {image.tobytes() for image in held.test_images}
    again = digits.with_validation(300)
    np.testing.assert_array_equal(held.test_images, again.test_images)
    # Labels go with their images, and all classes are there as often as in the whole.
    pairs = zip(digits.train_images, digits.train_labels, strict=True)
    labels = {image.tobytes(): label for image, label in pairs}
    found = [labels[image.tobytes()] for image in held.test_images]
    np.testing.assert_array_equal(found, held.test_labels)
    assert np.bincount(held.test_labels).min() > 15  # 30 expected; deviation 5.


def test_none_are_held_out_unless_asked_for():
    digits = data.load("digits")
    assert digits.with_validation(0) is digits
    for images in (1437, -1, 0.5):
        with pytest.raises(ValueError, match=f"validation={images}: must be"):
            digits.with_validation(images)


def test_smaller_images_hold_the_means_of_squares():
    digits = data.load("digits")
    small = digits.downscaled(4)
    assert small.image_shape == (2, 2, 1)
    corner = digits.test_images[:, :4, 4:].astype(float).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(small.test_images[:, 0, 1, 0], corner, atol=0.5)
    assert digits.downscaled(1) is digits
    for factor in (3, 0, 16):
        with pytest.raises(ValueError, match=f"downscale={factor}: must"):
            digits.downscaled(factor)


def test_moments_are_those_of_float64():
    digits = data.load("digits")
    images = np.random.default_rng(0).integers(0, 200, (5000, 3, 4, 2)).astype(np.uint8)
    labels = np.zeros(5000, np.int32)
    random = data.Dataset("random", images, labels, images, labels, 1)
    for dataset in (digits, random):
        pixels = dataset.train_images.astype(np.float64) / 255
        # Rounding of the result to float32.
        np.testing.assert_allclose(dataset.mean, pixels.mean((0, 1, 2)), rtol=1e-7)
        np.testing.assert_allclose(dataset.std, pixels.std((0, 1, 2)), rtol=1e-7)
        assert dataset.mean.dtype == dataset.std.dtype == np.float32


def test_tfds_pixels_and_labels_are_exact(tiny):
    folders, examples = tiny
    dataset = data.load("hic_tiny", download=False, **folders)
    assert dataset.name == "hic_tiny"
    assert dataset.num_classes == 4
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_labels.dtype == np.int32
    _assert_holds(dataset, examples)


def test_nothing_heavy_is_imported_and_tensorflow_never(tiny):
    folders, _ = tiny
    script = f"""
import json, sys
def imported():
    names = ("tensorflow", "tensorflow_datasets", "sklearn")
    return [name for name in names if name in sys.modules]
import hic_jax.data
at_import = imported()
load = lambda cache_dir: hic_jax.data.load(
    "hic_tiny", {str(folders["data_dir"])!r}, cache_dir, download=False)
load({str(folders["cache_dir"])!r})
second_start = imported()
load({str(folders["cache_dir"] / "other")!r})
print(json.dumps([at_import, second_start, imported()]))
"""
    assert _run_python(script) == [[], [], ["tensorflow_datasets"]]


def test_preparing_never_imports_tensorflow(tiny):
    assert "tensorflow" not in sys.modules
    from tensorflow_datasets.core.utils import lazy_imports_utils

    assert vars(lazy_imports_utils.tensorflow).get("_module") is None


def _flip_last_byte(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def _relabel(path):
    """Another class of the four for one image, in the same form."""
    labels = np.load(path)
    labels[0] = (labels[0] + 1) % 4
    np.save(path, labels)


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache: (cache / "train_images.npy").unlink(),
        lambda cache: os.truncate(cache / "train_images.npy", 300),
        lambda cache: os.truncate(cache / "test_labels.npy", 0),
        lambda cache: os.truncate(cache / "SHA256SUMS", 20),
        lambda cache: (cache / "SHA256SUMS").write_bytes(b"\xff\n"),
        lambda cache: np.save(cache / "test_labels.npy", np.zeros(3, np.int32)),
        lambda cache: _flip_last_byte(cache / "train_images.npy"),
        lambda cache: _relabel(cache / "train_labels.npy"),
        lambda cache: np.save(cache / "num_classes.npy", 5),
    ],
    ids=[
        "missing", "truncated", "empty", "half of the sums", "no sums", "shape",
        "pixel", "label", "classes",
    ],
)  # fmt: skip
def test_broken_cache_is_rebuilt(tiny, damage, caplog):
    folders, examples = tiny
    data.load("hic_tiny", **folders)
    damage(_the_cache(folders))
    caplog.clear()
    dataset = data.load("hic_tiny", **folders)
    assert "is broken" in caplog.text
    _assert_holds(dataset, examples)
    assert dataset.num_classes == 4
    assert not list(folders["cache_dir"].glob(".*"))


def test_interrupted_decoding_leaves_no_cache(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        array_cache.fetch(tmp_path / "cache" / "set", _interrupted)
    assert list((tmp_path / "cache").iterdir()) == []


def test_two_starts_at_once_share_one_cache(tmp_path):
    barrier = threading.Barrier(2)

    def decode(target):
        for name in array_cache.ARRAYS:
            np.save(target / f"{name}.npy", np.arange(5))
        barrier.wait(timeout=60)
        return 3

    with futures.ThreadPoolExecutor(2) as pool:
        starts = [
            pool.submit(array_cache.fetch, tmp_path / "cache" / "set", decode)
            for _ in range(2)
        ]
    for start in starts:
        arrays, num_classes = start.result()
        assert num_classes == 3
        assert arrays["test_labels"].tolist() == [0, 1, 2, 3, 4]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["set"]


def _decode(target):
    for name in array_cache.ARRAYS:
        np.save(target / f"{name}.npy", np.arange(5))
    return 1


def test_leftovers_of_killed_starts_are_removed(tmp_path, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(array_cache, "_remove", lambda folder: None)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                array_cache.fetch(tmp_path / "set", _interrupted)
    old, recent = tmp_path.iterdir()
    os.utime(old, (0, 0))
    array_cache.fetch(tmp_path / "set", _decode)
    assert set(tmp_path.iterdir()) == {recent, tmp_path / "set"}


def _interrupted(target):
    np.save(target / "train_images.npy", np.zeros(1))
    raise KeyboardInterrupt


def test_nothing_is_removed_that_is_not_of_the_cache(tmp_path):
    """In a home folder: old folders of others, and such as look like a cache's."""
    marker = "MADE_BY_HIC_JAX"
    others = [
        ".ssh/id", ".git/HEAD", ".set.old/train_images.npy", ".config/a/b",
        ".hic_jax-decoding-mine/train_images.npy",  # Without the marker.
        f".hic_jax-decoding-also/{marker}", ".hic_jax-decoding-also/thesis.tex",
        f"elsewhere/{marker}", "elsewhere/train_images.npy",
    ]  # fmt: skip
    for name in others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / ".hic_jax-decoding-link").symlink_to(tmp_path / "elsewhere")
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    array_cache.fetch(tmp_path / "set", _decode)
    assert all((tmp_path / name).read_text() == "mine" for name in others)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_has_the_name_of_a_cache_is_not_replaced(tmp_path, kind):
    folder, mine = tmp_path / "cache" / "set", tmp_path / "mine"
    folder.parent.mkdir()
    if kind == "folder":
        folder.mkdir()
        (folder / "thesis.tex").write_text("mine")
    elif kind == "file":
        folder.write_text("mine")
    else:
        mine.mkdir()
        folder.symlink_to(mine)

    def decode(target):
        raise AssertionError("refused before anything is decoded")

    with pytest.raises(data.DataError, match=r"cache_dir='.*/cache': set in it is no "):
        array_cache.fetch(folder, decode)
    if kind == "folder":
        assert (folder / "thesis.tex").read_text() == "mine"
    elif kind == "file":
        assert folder.read_text() == "mine"
    else:
        assert folder.is_symlink() and list(mine.iterdir()) == []


def test_two_copies_never_share_a_cache(tmp_path):
    """Two sets of one name and version, and one set prepared anew in its place."""
    cache_dir = tmp_path / "cache"
    _register("hic_copies", examples := {})
    for seed, copy in enumerate(["a", "b", "a"]):
        examples.update(train=_examples(seed, 8), test=_examples(10 + seed, 4))
        shutil.rmtree(tmp_path / copy, ignore_errors=True)
        (tmp_path / copy).mkdir()
        dataset = data.load("hic_copies", tmp_path / copy, cache_dir)
        _assert_holds(dataset, examples)
    assert len(list(cache_dir.iterdir())) == 3


def test_default_folders(tmp_path, monkeypatch):
    _register("hic_default", {"train": _examples(0, 4), "test": _examples(1, 4)})
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "new" / "tfds"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    data.load("hic_default")
    assert prepared.list_names(tmp_path / "new" / "tfds") == ["hic_default"]
    (cache,) = (tmp_path / "xdg" / "hic_jax" / "datasets").iterdir()
    assert cache.name.startswith("hic_default-1.0.0-")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert array_cache.default_dir() == tmp_path / ".cache" / "hic_jax" / "datasets"


def test_validation_split_stands_in_for_test(folders):
    examples = {"train": _examples(0, 8), "validation": _examples(1, 4)}
    _register("hic_validation", examples)
    dataset = data.load("hic_validation", **folders)
    assert _content(_parts(dataset)["test"]) == _content(examples["validation"])


def test_other_feature_names_and_gray_images(folders):
    examples = {
        split: [("x", image, label) for image, label in _examples(seed, 4, (7, 7, 1))]
        for seed, split in enumerate(["train", "test"])
    }
    features = {
        "id": tfds.features.Text(),
        "picture": tfds.features.Image(shape=(7, 7, 1)),
        "kind": tfds.features.ClassLabel(names=["a", "b", "c", "d"]),
    }
    _register("hic_other_names", examples, features)
    dataset = data.load("hic_other_names", **folders)
    assert dataset.image_shape == (7, 7, 1)
    pairs = [(image, label) for _, image, label in examples["train"]]
    assert _content(_parts(dataset)["train"]) == _content(pairs)


def test_configs_and_versions_are_found_by_path(folders):
    examples = {"train": _examples(0, 4), "test": _examples(1, 4)}
    _register("hic_configs", examples, configs=("first", "second"))
    root = folders["data_dir"]

    def find(text):
        return prepared.find(root, prepared.Reference.parse(text))

    assert data.load("hic_configs/second:1.0.0", **folders).num_classes == 4
    assert find("hic_configs") is None
    data.load("hic_configs", **folders)
    first = root / "hic_configs" / "first" / "1.0.0"
    assert find("hic_configs") == find("hic_configs/first") == first
    assert find("hic_configs:2.0.0") is None
    for version in ("1.9.0", "1.10.0", "incomplete.XYZ_1.11.0"):
        (first.parent / version).mkdir()
        (first.parent / version / "dataset_info.json").touch()
    assert find("hic_configs") == first.parent / "1.10.0"
    assert find("hic_configs:1.9.0") == first.parent / "1.9.0"


def test_unknown_name_suggests_close_ones(tiny):
    folders, _ = tiny
    with pytest.raises(data.DataError, match=r"--dataset='cifar-10'.*'cifar10'"):
        data.load("cifar-10", **folders)
    with pytest.raises(data.DataError, match=r"--dataset='HIC_tinny'.*'hic_tiny'"):
        data.load("HIC_tinny", **folders)
    with pytest.raises(data.DataError, match=r"--dataset='digit'.*'digits'"):
        data.load("digit", **folders)
    with pytest.raises(data.DataError, match=r"--dataset='../x': must be"):
        data.load("../x", **folders)
    with pytest.raises(data.DataError, match=r"config must be one of.*did.*'balanced'"):
        data.load("emnist/balance", **folders)


def test_missing_data_dir_is_named(tmp_path):
    with pytest.raises(data.DataError, match=r"--data_dir='.*/none': must be an exist"):
        data.load("cifar10", tmp_path / "none", tmp_path)


@pytest.mark.parametrize("told", ["argument", "environment"])
def test_download_switched_off(folders, monkeypatch, told):
    monkeypatch.setenv("HIC_JAX_NO_DOWNLOAD", "1" if told == "environment" else "")
    download = False if told == "argument" else None
    for name in ("cifar10", "tiny_shakespeare"):
        match = rf"'{name}': is not prepared under --data_dir=.*/tfds.*looked for, "
        load = data.load_text if data.is_text(name) else data.load
        with pytest.raises(data.DataError, match=match):
            load(name, folders["data_dir"], download=download)
    assert list(folders["data_dir"].iterdir()) == []


@pytest.mark.parametrize(
    ("features", "examples"),
    [
        ({"text": tfds.features.Text()}, [("a",)]),
        (
            {
                "left": tfds.features.Image(shape=SHAPE),
                "right": tfds.features.Image(shape=SHAPE),
                "label": tfds.features.ClassLabel(num_classes=4),
            },
            [],
        ),
        ({"image": tfds.features.Image(shape=SHAPE)}, []),
    ],
    ids=["text", "two images", "no label"],
)
def test_other_kinds_of_sets(request, folders, features, examples):
    name = "hic_" + request.node.callspec.id.replace(" ", "_")
    _register(name, {"train": examples, "test": examples}, features)
    with pytest.raises(data.DataError, match="is not an image-classification set"):
        data.load(name, **folders)
    # Found out before anything is downloaded.
    assert prepared.list_names(folders["data_dir"]) == []


def test_images_of_different_sizes(folders):
    features = {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(num_classes=4),
    }
    mixed = _examples(0, 2, (6, 6, 3)) + _examples(1, 2, (5, 6, 3))
    _register("hic_mixed_sizes", {"train": mixed, "test": mixed}, features)
    with pytest.raises(data.DataError, match=r"different sizes, \(.*6, 3\) and \("):
        data.load("hic_mixed_sizes", **folders)
    assert list(folders["cache_dir"].iterdir()) == []


def test_training_and_test_images_of_different_sizes(folders):
    features = {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(num_classes=4),
    }
    splits = {"train": _examples(0, 2, (6, 6, 3)), "test": _examples(1, 2, (5, 6, 3))}
    _register("hic_two_sizes", splits, features)
    with pytest.raises(data.DataError, match=r"\(6, 6, 3\), test images \(5, 6, 3\)"):
        data.load("hic_two_sizes", **folders)


def test_hidden_labels(folders):
    hidden = [(image, -1) for image, _ in _examples(1, 2)]
    _register("hic_hidden", {"train": _examples(0, 4), "test": hidden})
    with pytest.raises(data.DataError, match=r"the label -1; .* in \[0, 3\]"):
        data.load("hic_hidden", **folders)


def test_missing_split(folders):
    _register("hic_train_only", {"train": _examples(0, 4)})
    with pytest.raises(data.DataError, match=r"a 'test' or 'validation'.* has train"):
        data.load("hic_train_only", **folders)


def test_damaged_copy(folders):
    _register("hic_damaged", {"train": _examples(0, 4), "test": _examples(1, 4)})
    data.load("hic_damaged", **folders)
    (record,) = folders["data_dir"].glob("hic_damaged/1.0.0/*train.array_record*")
    record.write_bytes(b"")
    with pytest.raises(data.DataError, match=r"'hic_damaged'.*cannot be read"):
        data.load("hic_damaged", **folders)


@pytest.fixture
def code_on_the_path(tmp_path, monkeypatch):
    """A module that came with the data, and whether it has run."""
    ran = tmp_path / "ran"
    (tmp_path / "hic_came_along.py").write_text(
        f"open({str(ran)!r}, 'w').close()\nclass Feature: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return ran


CAME_ALONG = "hic_came_along.Feature"
# Where TFDS looks for a class: at the top, in a dict of features, in a sequence, in the
# form of its earlier versions, and in JSON that is a string.
NAMED = {
    "top": {"pythonClassName": CAME_ALONG},
    "proto name": {"python_class_name": CAME_ALONG},
    "nested": {"featuresDict": {"features": {"x": {"pythonClassName": CAME_ALONG}}}},
    "in a sequence": {"sequence": {"feature": {"pythonClassName": CAME_ALONG}}},
    "earlier form": {"type": CAME_ALONG, "content": {}},
    "earlier form, nested": {"content": {"x": {"type": CAME_ALONG, "content": {}}}},
    "in a string": {
        "jsonFeature": {"json": json.dumps({"x": {"type": CAME_ALONG, "content": {}}})}
    },
    "in a string of the earlier form": {
        "content": json.dumps({"features": {"x": {"pythonClassName": CAME_ALONG}}})
    },
}


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
def test_code_that_came_with_the_data_is_not_run(
    tiny, tmp_path, code_on_the_path, named
):
    folders, _ = tiny
    shutil.copytree(folders["data_dir"], tmp_path / "tfds")
    (path,) = (tmp_path / "tfds").glob("hic_tiny/1.0.0/features.json")
    whole = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    key = "type" if "content" in named else "pythonClassName"
    path.write_text(json.dumps({key: whole} | named))
    with pytest.raises(
        data.DataError, match=r"features\.json' names the class 'hic_came_along\.Fea"
    ):
        data.load("hic_tiny", tmp_path / "tfds", tmp_path / "cache")
    assert not code_on_the_path.exists()
    assert "hic_came_along" not in sys.modules


def test_the_features_that_are_allowed_are_those_of_tfds():
    for name in prepared.FEATURES:
        cls = tfds.features.FeatureConnector.cls_from_name(name)
        assert getattr(tfds.features, cls.__name__) is cls


@pytest.mark.parametrize(
    "text",
    [
        '{"default_config_name": "../../elsewhere"}',
        '{"default_config_name": "/elsewhere"}',
        '{"default_config_name": ["a"]}',
        "[1]",
        "{",
        "[" * 100_000,
    ],
    ids=["above", "absolute", "list", "no object", "no JSON", "nested"],
)
def test_a_default_config_is_the_name_of_a_folder_inside(tmp_path, text):
    elsewhere = tmp_path / "elsewhere" / "1.0.0"
    elsewhere.mkdir(parents=True)
    (elsewhere / "dataset_info.json").touch()
    path = tmp_path / "tfds" / "hic_tiny" / ".config" / "metadata.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(data.DataError, match=r"metadata\.json': default_config_name: "):
        data.load("hic_tiny", tmp_path / "tfds", tmp_path / "cache")


def test_unwritable_cache(tiny, tmp_path):
    folders, _ = tiny
    (tmp_path / "file").touch()
    with pytest.raises(data.DataError, match=r"cache_dir='.*/file': .* writable"):
        data.load("hic_tiny", folders["data_dir"], tmp_path / "file")


def test_builder_that_needs_tensorflow_itself(folders):
    features = {
        "image": tfds.features.Image(shape=SHAPE, encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=4),
    }
    _register("hic_jpeg", {"train": _examples(0, 4), "test": []}, features)
    with pytest.raises(
        data.DataError, match=r"without TensorFlow \(.*encode_jpeg.*build"
    ):
        data.load("hic_jpeg", **folders)
    assert prepared.list_names(folders["data_dir"]) == []


def test_dataset_checks_its_arrays():
    images, labels = np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int32)
    with pytest.raises(data.DataError, match=r"train_images.*\(2, 4, 4, 1\) float32"):
        data.Dataset("x", images.astype(np.float32), labels, images, labels, 1)
    with pytest.raises(
        data.DataError, match=r"test_labels.*\(2,\) int32.*\(3,\) int32"
    ):
        data.Dataset("x", images, labels, images, np.zeros(3, np.int32), 1)
    with pytest.raises(data.DataError, match=r"train_labels.*\[0, 0\].*\[1, 1\]"):
        data.Dataset("x", images, labels + 1, images, labels, 1)


@pytest.fixture
def cifar_server(tmp_path, monkeypatch):
    """The address of a tiny archive in CIFAR-10's own format, and its examples."""
    folder = tmp_path / "server"
    folder.mkdir()
    examples = {"train": [], "test": []}
    files = {"batches.meta.txt": "\n".join("abcdefghij").encode()}
    for index in range(6):
        batch = _examples(index, 3, (32, 32, 3))
        part = "train" if index < 5 else "test"
        examples[part] += batch
        name = f"data_batch_{index + 1}.bin" if index < 5 else "test_batch.bin"
        files[name] = b"".join(
            bytes([label]) + image.transpose(2, 0, 1).tobytes()
            for image, label in batch
        )
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz", examples
    server.shutdown()
    server.server_close()


def _serve_cifar10_from(monkeypatch, url):
    from tensorflow_datasets.image_classification import cifar

    original = cifar.Cifar10._cifar_info.fget
    replaced = property(lambda builder: original(builder)._replace(url=url))
    monkeypatch.setattr(cifar.Cifar10, "_cifar_info", replaced)


def test_cifar10_is_downloaded_and_prepared_without_tensorflow(
    cifar_server, folders, monkeypatch
):
    url, examples = cifar_server
    _serve_cifar10_from(monkeypatch, url)
    dataset = data.load("cifar10", **folders)
    assert dataset.num_classes == 10
    _assert_holds(dataset, examples)
    info = json.loads(
        (folders["data_dir"] / "cifar10" / "3.0.2" / "dataset_info.json").read_text()
    )
    assert info["fileFormat"] == "array_record"
    assert "tensorflow" not in sys.modules


def test_failed_download_is_quick_clear_and_harmless(
    cifar_server, folders, monkeypatch
):
    url, _ = cifar_server
    monkeypatch.setattr(preparation, "_RETRIES", 0)
    for broken in ("http://127.0.0.1:1/cifar.tar.gz", f"{url}.missing"):
        _serve_cifar10_from(monkeypatch, broken)
        with pytest.raises(
            data.DataError, match=r"'cifar10': .*not be downloaded.*127"
        ):
            data.load("cifar10", **folders)
        assert prepared.list_names(folders["data_dir"]) == []
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    _serve_cifar10_from(monkeypatch, url)
    assert len(data.load("cifar10", **folders).test_images) == 3
