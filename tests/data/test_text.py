"""Text: which characters are in which part, as which numbers."""

import sys

import numpy as np
import pytest

from hic_jax import data
from tests.tiny_text import TEXT, written

# A hundred characters: nine tenths, then five, then five.
UNKNOWN = "ab" * 45 + "a?aba" + "??bab"


def test_parts_follow_each_other(tmp_path):
    text = data.load_text(written(tmp_path))
    first, second = len(TEXT) * 9 // 10, len(TEXT) * 9 // 10 + len(TEXT) // 20
    assert text.vocabulary == "".join(sorted(set(TEXT[:first])))
    assert text.num_classes == len(text.vocabulary)
    parts = [text.decoded(part) for part in (text.train, text.validation, text.test)]
    assert parts == [TEXT[:first], TEXT[first:second], TEXT[second:]]
    assert text.train.dtype == np.uint8
    assert text.unknown == (0, 0)


def test_unknown_characters_are_counted_and_left_out(tmp_path, caplog):
    text = data.load_text(written(tmp_path, UNKNOWN))
    assert text.vocabulary == "ab"
    assert text.unknown == (1, 2)
    assert text.decoded(text.validation) == "aaba"
    assert text.decoded(text.test) == "bab"
    assert "1 characters of the validation part and 2 of the test part" in caplog.text


def test_a_vocabulary_of_more_than_a_byte(tmp_path):
    every = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    text = data.load_text(written(tmp_path, every * 4))
    assert text.num_classes == 300
    assert text.train.dtype == np.int32
    assert text.decoded(text.test) == (every * 4)[-60:]


def test_validation_takes_the_place_of_the_test(tmp_path):
    text = data.load_text(written(tmp_path))
    held = text.with_validation(20)
    np.testing.assert_array_equal(held.test, text.validation[:20])
    np.testing.assert_array_equal(held.train, text.train)
    assert text.with_validation(0) is text
    with pytest.raises(ValueError, match=r"validation=99: must be in \[1, 31\]"):
        text.with_validation(99)


def test_a_file_that_changes_is_read_anew(tmp_path):
    before = data.load_text(written(tmp_path))
    after = data.load_text(written(tmp_path, TEXT.upper() + " "))
    assert before.vocabulary != after.vocabulary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe", "must be text in UTF-8; byte 0 is none"),
        ("", "its training part has 0 different characters"),
        ("a" * 99, "its training part has 1 different characters"),
    ],
)
def test_a_file_that_is_no_text(tmp_path, text, message):
    with pytest.raises(data.DataError, match=message):
        data.load_text(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path):
    for name in (tmp_path / "no", tmp_path):
        with pytest.raises(data.DataError, match=r"--dataset='text:.*cannot be read"):
            data.load_text(f"text:{name}")
    with pytest.raises(data.DataError, match=r"must be text:FILE"):
        data.load_text("digits")


def test_a_text_too_short_for_its_context(tmp_path):
    text = data.load_text(written(tmp_path))
    text.check_context(len(text.test) - 1)
    with pytest.raises(
        data.DataError, match=r"its test part has 33 .* more than the 33"
    ):
        text.check_context(len(text.test))


def test_a_text_of_tfds(tmp_path, monkeypatch):
    """Its builder, without TensorFlow, from a file in the place of the network."""
    tfds = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(
        tfds.download.DownloadManager, "download", lambda *_: tmp_path / "text.txt"
    )
    of_file = data.load_text(written(tmp_path))
    folder = tmp_path / "tfds"
    folder.mkdir()
    for name, download in (
        ("tiny_shakespeare", True),
        ("tiny_shakespeare:1.0.0", False),
    ):
        text = data.load_text(name, folder, download=download)
        assert (text.name, text.vocabulary) == (name, of_file.vocabulary)
        np.testing.assert_array_equal(text.train, of_file.train)
        # What training leaves is halved.
        assert (len(text.validation), len(text.test)) == (32, 32)
        held = [text.decoded(part) for part in (text.validation, text.test)]
        assert "".join(held) == TEXT[-64:]
    assert "tensorflow" not in sys.modules


def test_text_is_not_augmented():
    assert data.default_policy("tiny_shakespeare:1.0.0") == "none"
    assert data.default_policy("text:digits") == "none"
