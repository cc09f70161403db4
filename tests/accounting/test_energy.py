"""Energy: counts times a table, and tables that users write."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hic_jax.accounting import EnergyTable, Operations, energy

COUNTS = st.builds(
    Operations,
    **{f.name: st.integers(0, 10**15) for f in dataclasses.fields(Operations)},
)


@given(COUNTS, COUNTS)
def test_energy_is_the_sum_of_its_parts_and_of_its_operations(a, b):
    table = EnergyTable(dac_conversion_pj=1.0, adc_conversion_pj=2.0)
    parts = energy(a, table)
    total = parts.pop("total")
    assert total == pytest.approx(sum(parts.values()))
    both, other = energy(a + b, table), energy(b, table)
    assert both["total"] == pytest.approx(total + other["total"])
    assert energy(a * 3, table)["total"] == pytest.approx(3 * total)


@pytest.mark.parametrize("operation", [f.name for f in dataclasses.fields(Operations)])
def test_every_operation_has_its_price(operation):
    one = energy(Operations(**{operation: 10**12}), EnergyTable())
    if operation == "product_reads":  # Part of the multiply-accumulates.
        assert one["total"] == 0
        return
    field = operation.removesuffix("s") + "_pj"
    table = EnergyTable(**{field: 7.0})
    priced = energy(Operations(**{operation: 10**12}), table)
    assert priced[operation] == priced["total"] == pytest.approx(7.0)
    included = operation in ("analog_macs", "dac_conversions", "idle_adc_conversions")
    assert (one["total"] == 0) == included  # What HERMES takes is at its columns.


def test_an_array_in_full_use_takes_what_was_published_however_it_is_charged():
    # 256 x 256 in one go: 13.4 nJ on HERMES.
    array = Operations(analog_macs=256**2, adc_conversions=256)
    for table in (
        EnergyTable(),
        EnergyTable().full_arrays(),
        EnergyTable().whole_arrays(),
    ):
        assert energy(array, table)["total"] == pytest.approx(13.4e-9, rel=0.01)


def test_an_array_in_part_use_takes_more_than_its_multiplications():
    # 64 of the rows and 32 of the columns.
    part = Operations(analog_macs=64 * 32, adc_conversions=32, idle_adc_conversions=224)
    table = EnergyTable()
    whole = 13.4e-9
    for charged, share in (
        (table.full_arrays(), 64 * 32 / 256**2),
        (table, 32 / 256),
        (table.whole_arrays(), 1),
    ):
        assert energy(part, charged)["total"] == pytest.approx(whole * share, rel=0.01)


def test_the_published_table_gives_back_what_was_published():
    table = EnergyTable()
    # A training image of a perceptron, in 32 bits: 14.35 uJ; its update: 62.03 nJ.
    weights = 198_760
    image = energy(Operations(digital_macs=3 * weights), table)
    assert image["total"] == pytest.approx(14.35e-6, rel=0.01)
    update = energy(Operations(gradient_macs=weights), table)
    assert update["total"] == pytest.approx(62.03e-9, rel=0.01)


def test_a_table_of_some_fields_keeps_the_others():
    table = EnergyTable.from_json('{"multilevel_set_pj": 45, "adc_conversion_pj": 1.5}')
    assert table == EnergyTable(multilevel_set_pj=45, adc_conversion_pj=1.5)
    whole = json.dumps(dataclasses.asdict(table))
    assert EnergyTable.from_json(whole) == table


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"set_pj": 1}', "field='set_pj': must be one of analog_mac_pj, .*"),
        ('{"binary_set_jp": 1}', r".*\(did you mean 'binary_set_pj'\?\)"),
        ('{"adc_conversion_pj": -1}', "adc_conversion_pj=-1: must be at least 0"),
        ('{"binary_set_pj": "13"}', "binary_set_pj='13': must be a finite number"),
        ('{"binary_set_pj": NaN}', "binary_set_pj=nan: must be a finite number"),
        ("[1, 2]", "an energy table must be a JSON object"),
        ("{", "Expecting property name"),
    ],
)
def test_tables_with_mistakes(text, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        EnergyTable.from_json(text)
