"""Memory, operations and energy of runs together, and where the energies come from."""

import dataclasses

import pytest

from experiments.report import energy as costs
from experiments.report import size
from hic_jax.accounting import EnergyTable, Operations, energy

MEMORY = {
    "analog_weights": 10, "digital_weights": 2, "multilevel_devices": 20,
    "binary_devices": 70, "inference_bits": 104, "fp32_bits": 384,
    "mixed_precision_bits": 424, "training_bits": 174, "optimizer_bits": 64,
}  # fmt: skip


def _run(algorithm="hic", width=1.0, table=None, **summary):
    """A run that wrote so many binary cells in its training."""
    table = table or EnergyTable()
    sets = summary.pop("sets", 0)
    inference, training = Operations(analog_macs=100), Operations(binary_sets=sets)
    summary = {
        "operations": {
            "inference": dataclasses.asdict(inference),
            "training": dataclasses.asdict(training),
        },
        "energy": {
            "inference_j": energy(inference, table),
            "training_j": energy(training, table),
            "table": dataclasses.asdict(table),
        },
        **MEMORY,
        **summary,
    }
    return {"algorithm": algorithm, "width": width, "summary": summary}


def test_memory_is_that_of_a_seed_that_recorded_it():
    old = _run()
    del old["summary"]["optimizer_bits"]
    runs = [old, _run(), _run(width=0.5, training_bits=50), _run("fp32")]
    found = size.memory(runs)
    assert [(m.algorithm, m.width) for m in found] == [
        ("fp32", 1.0), ("hic", 0.5), ("hic", 1.0),
    ]  # fmt: skip
    assert (found[1].training_bits, found[2].training_bits) == (50, 174)
    assert size.memory([old]) == []


def test_costs_are_means_over_seeds():
    runs = [_run(sets=100), _run(sets=300)]
    (cost,) = costs.costs(runs, "training", EnergyTable())
    assert cost.operations["binary_sets"] == 200
    # 13.5 pJ each.
    assert cost.energy["binary_sets"] == pytest.approx(2.7e-9)
    assert cost.total.mean == pytest.approx(2.7e-9)
    assert cost.total.std == pytest.approx(1.35e-9 * 2**0.5)
    assert cost.total.seeds == 2
    assert costs.kinds([cost.energy]) == ["binary_sets"]
    (inference,) = costs.costs([_run()], "inference", EnergyTable())
    assert costs.kinds([inference.operations]) == ["analog_macs"]


def test_runs_that_counted_nothing_are_passed_over():
    uncounted = _run(operations={"inference": None, "training": None}, energy=None)
    old = _run(operations={"training": {"pulses": 3}}, energy={"table": {"pulse": 1.0}})
    assert costs.costs([uncounted, old], "training", EnergyTable()) == []
    (cost,) = costs.costs([uncounted, old, _run(sets=2)], "training", EnergyTable())
    assert cost.total.seeds == 1
    assert costs.common_energy_table([uncounted, old]) is None


def test_energies_of_all_runs_are_of_one_table():
    other = EnergyTable(binary_set_pj=100.0)
    alike, mixed = [_run(table=other, sets=2)] * 2, [_run(table=other, sets=2), _run()]
    assert costs.common_energy_table(alike) == other
    assert costs.common_energy_table(mixed) is None
    # What the runs were summarised with counts for nothing.
    for runs in (alike, mixed):
        (cost,) = costs.costs(runs[:1], "training", EnergyTable())
        assert cost.total.mean == pytest.approx(2 * 13.5e-12)


def test_energies_have_the_sources_of_the_library_or_are_given():
    table = EnergyTable(digital_mac_pj=3.0)
    rows = {row["field"]: row for row in costs.energy_table_rows(table)}
    assert list(rows) == [field.name for field in dataclasses.fields(EnergyTable)]
    assert rows["digital_mac_pj"]["pj"] == "3"
    assert rows["digital_mac_pj"]["source"].startswith("given")
    assert "HERMES" in rows["analog_mac_pj"]["source"]
    assert "Lee et al., ISCA 2009" in rows["multilevel_set_pj"]["source"]
    assert rows["binary_read_pj"]["source"] == "likewise."
    assert "replace them" in costs.energy_table_remark()
