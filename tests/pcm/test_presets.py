import dataclasses

import pytest

import hic_jax
from hic_jax import pcm


def test_linear_noisy_is_nandakumar_with_a_constant_step():
    device, linear = pcm.nandakumar_2018(), pcm.linear_noisy()
    assert linear.step_slope == linear.step_memory == 0.0
    assert linear.step_offset == pytest.approx(device.mean_step)
    assert linear.noise_memory == device.noise_memory
    assert linear.drift_nu == device.drift_nu


def test_projected_cells_hardly_drift_and_are_else_as_others():
    device = pcm.projected()
    assert (device.drift_nu, device.drift_nu_std) == (0.01, 0.003)
    constants = {"drift_nu", "drift_nu_std", "name", "source"}
    other = pcm.nandakumar_2018()
    for field in {f.name for f in dataclasses.fields(device)} - constants:
        assert getattr(device, field) == getattr(other, field)


def test_ideal_has_no_non_ideality():
    ideal = pcm.ideal()
    assert dataclasses.replace(ideal.only(), name="") == dataclasses.replace(
        ideal, name=""
    )
    assert ideal.mean_step == 0.625


@pytest.mark.parametrize("name", pcm.PRESETS)
def test_every_preset_has_its_name_and_a_source(name):
    device = pcm.preset(name)
    assert device.name == name
    assert device.source


def test_an_unknown_preset_suggests_what_was_meant():
    with pytest.raises(ValueError, match=r"preset='ideel'.*did you mean 'ideal'"):
        pcm.preset("ideel")


@pytest.mark.parametrize("name", pcm.PROGRAMMED_PRESETS)
def test_every_programmed_preset_has_its_name_and_a_source(name):
    device = pcm.programmed_preset(name)
    assert device.name == name
    assert device.source
    assert hash(device) == hash(pcm.programmed_preset(name))


def test_the_regimes_share_no_preset():
    assert not set(pcm.PRESETS) & set(pcm.PROGRAMMED_PRESETS)
    with pytest.raises(
        ValueError, match=r"programmed preset='nandakumar_2018': .*2019"
    ):
        pcm.programmed_preset("nandakumar_2018")
    with pytest.raises(ValueError, match="preset='hermes_1': must be one of nandaku"):
        pcm.preset("hermes_1")
    with pytest.raises(ValueError, match="must be a DeviceSpec"):
        hic_jax.HICSpec(multilevel=pcm.nandakumar_2019())
