import dataclasses

import pytest

from hic_jax import HICSpec, pcm


def test_full_scale_is_the_nominal_steps_within_what_a_device_holds():
    ideal = pcm.ideal(g_max=20.0)
    assert HICSpec(multilevel=ideal, multilevel_bits=4).full_scale == 8 * 0.625
    # Twenty pulses reach 12.5 uS, and no pulse more than g_max.
    assert HICSpec(multilevel=ideal, multilevel_bits=8).full_scale == 12.5
    many = HICSpec(multilevel=ideal, multilevel_bits=8, refresh_pulses=255)
    assert many.full_scale == 20.0


def test_full_scale_is_where_pulses_still_add_something():
    # The mean step of nandakumar_2018 is zero at 0.88 / 0.084 = 10.5 uS.
    real = [HICSpec(multilevel_bits=bits).full_scale for bits in (4, 5, 6, 8)]
    assert real[0] == pytest.approx(8 * pcm.nandakumar_2018().mean_step)
    assert real[0] < real[1] == real[2] == real[3] < 0.88 / 0.084


def test_a_device_that_resets_above_what_a_refresh_looks_for_is_refused():
    device = dataclasses.replace(pcm.nandakumar_2018(), reset_mean=1.0)
    with pytest.raises(ValueError, match=r"refresh_common=0\.5: must be at least 1\.0"):
        HICSpec(multilevel=device)
    assert HICSpec(multilevel=device, refresh_every=0).refresh_common == 0.5


def test_a_word_counts_from_its_steps_down():
    spec = HICSpec(multilevel=pcm.ideal(), lsb_bits=7, word_steps=1)
    assert spec.lsb == 0.625 / 64
    assert dataclasses.replace(spec, word_steps=4).lsb == 0.625 / 16


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("lsb_bits", 1, r"in \[2, 8\]"),
        ("lsb_bits", 9, r"in \[2, 8\]"),
        ("lsb_bits", 7.0, "an integer"),
        ("multilevel_bits", True, "an integer"),
        ("multilevel_bits", 9, r"in \[2, 8\]"),
        ("update_bits", 17, r"in \[2, 16\]"),
        ("counter_bits", 0, r"in \[1, 30\]"),
        ("counter_bits", 31, r"in \[1, 30\]"),
        ("w_max_sigmas", 0.0, "greater than 0"),
        ("refresh_every", -1, "at least 0"),
        ("refresh_above", float("nan"), "finite"),
        ("refresh_common", -1.0, "at least 0"),
        ("word_steps", 3, "a power of two"),
        ("word_steps", 128, r"in \[1, 64\]"),
        ("refresh_pulses", 0, r"in \[1, 255\]"),
        ("seconds_per_step", float("inf"), "finite"),
        ("multilevel", "ideal", "a DeviceSpec"),
        ("binary", None, "a BinarySpec"),
        ("track_wear", "no", "True or False"),
        ("refresh_verify", 1, "True or False"),
        ("rewrite_residue", "keep", "one of dropped, kept, chance"),
    ],
)
def test_bad_fields_are_named_with_what_is_allowed(field, value, allowed):
    with pytest.raises(ValueError, match=f"^{field}={value!r}: must be .*{allowed}"):
        HICSpec(**{field: value})


def test_a_device_that_few_pulses_leave_where_it_was_holds_no_weights():
    # The first pulses take away what the memory of a fresh device makes them.
    device = dataclasses.replace(
        pcm.ideal(), step_memory=-5.0, memory_pulses=2.0, g_min=0.0
    )
    with pytest.raises(ValueError, match=r"^refresh_pulses=1: must be as many as add"):
        HICSpec(multilevel=device, refresh_pulses=1)
    assert HICSpec(multilevel=device, refresh_pulses=20).full_scale > 1.0


def test_specs_compare_and_hash_by_value():
    assert HICSpec() == HICSpec()
    assert hash(HICSpec()) == hash(HICSpec())
    assert HICSpec() != dataclasses.replace(HICSpec(), lsb_bits=6)
