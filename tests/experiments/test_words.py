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
        (0.0, "0\xa0J"),
        (1.363e-7, "136\xa0nJ"),
        (4.0e-6, "4\xa0µJ"),
        (9.9999e-4, "1\xa0mJ"),
        (999.6, "1\xa0kJ"),
        (12.34, "12.3\xa0J"),
        (1e-20, "10\xa0zJ"),
    ],
)
def test_numbers_with_the_prefix_of_their_size(number, text):
    assert words.si(number, "J") == text


def test_counts_with_the_prefix_of_their_size():
    assert [words.si(n) for n in (7, 664_880, 11_092_569_600)] == [
        "7", "665\xa0k", "11.1\xa0G",
    ]  # fmt: skip


def test_shares_in_per_cent_with_their_spread():
    assert words.percent([0.984]) == "98.4 %"
    assert words.percent([0.5, 0.6]) == "55.0 +- 7.1 %"


@pytest.mark.parametrize(
    ("cycles", "share", "limit", "text"),
    [
        (63, 6.3e-8, 1e9, "63, or 6e-8 of 10^9"),
        (1200, 0.024, 5e4, "1,200, or 0.02 of 50000"),
        (3, 1e-8, 3e8, "3, or 1e-8 of 3e8"),
        (0, 0.0, 1e9, "0, or 0 of 10^9"),
    ],
)
def test_wear_is_that_of_the_most_worn_device(cycles, share, limit, text):
    def kind(cycles, share):
        return {
            "max": cycles,
            "fraction_of_endurance": share,
            "endurance_cycles": limit,
        }

    assert words.most_cycles([kind(0, 0.0), kind(cycles, share)]) == text


def test_many_names_are_some_and_a_number():
    assert words.some_of("abc") == "a, b, c"
    assert words.some_of("abcde", 3) == "a, b, c and 2 more"
