"""Numbers as a person reads them."""

import pytest

from experiments import words
from hic_jax import DAY, YEAR


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1e9, "10⁹"),
        (5.07e-7, "5.1\xa0×\xa010⁻⁷"),
        (0.0, "0"),
        (2e12, "2.0\xa0×\xa010¹²"),
    ],
)
def test_numbers_in_words(number, text):
    assert words.scientific(number) == text


def test_times_and_counts_in_words():
    assert [words.duration(s) for s in (25, 3600, 2 * DAY, YEAR)] == [
        "25 s", "1 hour", "2 days", "1 year",
    ]  # fmt: skip
    assert [words.trainings(n) for n in (7, 36_123_456)] == ["7", "36,000,000"]
    assert words.signed(-1.25) == "−1.25"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0 J"),
        (1.363e-7, "136\xa0nJ"),
        (4.0e-6, "4\xa0µJ"),
        (9.9999e-4, "1\xa0mJ"),
        (999.6, "1\xa0kJ"),
        (12.34, "12.3\xa0J"),
        (1e-20, "10⁻²⁰ J"),
    ],
)
def test_numbers_with_the_prefix_of_their_size(number, text):
    assert words.si(number, "J") == text


def test_counts_with_the_prefix_of_their_size():
    assert [words.si(n) for n in (7, 664_880, 11_092_569_600)] == [
        "7", "665\xa0k", "11.1\xa0G",
    ]  # fmt: skip
