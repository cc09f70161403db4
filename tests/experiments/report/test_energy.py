"""Operations and energy of runs together, and where the energies come from."""

import dataclasses
import itertools

import pytest

from experiments.report import energy as energy_lib
from experiments.report.energy import Cost
from experiments.report.estimates import estimate
from hic_jax.accounting import EnergyTable, Operations, energy
from tests.experiments.report import made

_SEEDS = itertools.count()


def _run(algorithm="hic", width=1.0, table=None, **summary):
    """A run that wrote so many binary cells in its training."""
    table = table or EnergyTable()
    sets = summary.pop("sets", 0)
    inference, training = Operations(adc_conversions=100), Operations(binary_sets=sets)
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
        **summary,
    }
    return made.run(algorithm, width, next(_SEEDS), summary=summary)


def test_costs_are_means_over_seeds():
    runs = [_run(sets=100), _run(sets=300)]
    (cost,) = energy_lib.costs(made.group(runs), "training", EnergyTable())
    assert cost.operations["binary_sets"] == 200
    # 13.5 pJ each.
    assert cost.energy["binary_sets"] == pytest.approx(2.7e-9)
    assert cost.total.mean == pytest.approx(2.7e-9)
    assert cost.total.std == pytest.approx(1.35e-9 * 2**0.5)
    assert cost.total.seeds == 2
    assert energy_lib.kinds([cost.energy]) == ["binary_sets"]
    (inference,) = energy_lib.costs(made.group([_run()]), "inference", EnergyTable())
    assert energy_lib.kinds([inference.operations]) == ["adc_conversions"]


def test_runs_that_counted_nothing_are_passed_over():
    uncounted = _run(operations={"inference": None, "training": None}, energy=None)
    old = _run(operations={"training": {"pulses": 3}}, energy={"table": {"pulse": 1.0}})
    assert (
        energy_lib.costs(made.group([uncounted, old]), "training", EnergyTable()) == []
    )
    (cost,) = energy_lib.costs(
        made.group([uncounted, old, _run(sets=2)]), "training", EnergyTable()
    )
    assert cost.total.seeds == 1
    assert energy_lib.common_energy_table([uncounted, old]) is None


def test_energies_of_all_runs_are_of_one_table():
    other = EnergyTable(binary_set_pj=100.0)
    alike, mixed = [_run(table=other, sets=2)] * 2, [_run(table=other, sets=2), _run()]
    assert energy_lib.common_energy_table(alike) == other
    assert energy_lib.common_energy_table(mixed) is None
    # What the runs were summarised with counts for nothing.
    for runs in (alike, mixed):
        (cost,) = energy_lib.costs(made.group(runs[:1]), "training", EnergyTable())
        assert cost.total.mean == pytest.approx(2 * 13.5e-12)


def test_energies_have_the_sources_of_the_library_or_are_given():
    table = EnergyTable(digital_mac_pj=3.0)
    rows = {row["field"]: row for row in energy_lib.sources_table(table).rows}
    assert list(rows) == [field.name for field in dataclasses.fields(EnergyTable)]
    assert rows["digital_mac_pj"]["pj"] == "3"
    assert rows["digital_mac_pj"]["source"].startswith("given")
    assert "HERMES" in rows["adc_conversion_pj"]["source"]
    assert "Lee et al., ISCA 2009" in rows["multilevel_set_pj"]["source"]
    assert rows["binary_read_pj"]["source"].startswith("A read of one binary cell")
    # Each says by itself what it is.
    assert len({row["source"] for row in rows.values()}) == len(rows)


def test_energy_by_kind_leaves_out_what_takes_none(draw):
    fp32, hic = made.group([_run("fp32"), _run()]).recipes
    costs = [
        Cost(recipe, 1.0, {}, energy, estimate([sum(energy.values())] * 2))
        for recipe, energy in (
            (fp32, {"analog_macs": 0.0, "digital_macs": 2e-5, "binary_sets": 0.0}),
            (hic, {"analog_macs": 1e-7, "digital_macs": 0.0, "binary_sets": 0.0}),
        )
    ]
    axes = draw(energy_lib.draw_energy, costs, "training")
    assert axes.get_xscale() == "log"
    rows = [text.get_text() for text in axes.get_yticklabels()]
    assert rows == ["MACs in arrays", "digital MACs", "total"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    assert lines["HIC"] == [[1e-7, 0], [1e-7, 2]]
    assert lines["FP32"] == [[2e-5, 1], [2e-5, 2]]


def test_energy_of_arrays_has_its_bounds(tmp_path):
    # One product: 64 of 256 rows, 32 of 256 columns.
    counts = {"analog_macs": 64 * 32, "adc_conversions": 32}
    run = _run(operations=None)
    run["summary"]["operations"] = {
        "inference": dataclasses.asdict(Operations(**counts, idle_adc_conversions=224))
    }
    words = energy_lib.operations_and_energy(made.group([run]), tmp_path).paragraphs[0]
    assert "1.67\u00a0nJ by HIC" in words
    assert "from 418\u00a0pJ to 13.4\u00a0nJ by HIC, if all were used in full" in words


def test_a_table_may_say_that_nothing_takes_energy(tmp_path):
    free = EnergyTable(**dict.fromkeys(vars(EnergyTable()), 0.0))
    section = energy_lib.operations_and_energy(made.group([_run()]), tmp_path, free)
    assert "an estimated 0\u00a0J by HIC at width 1." in section.paragraphs[0]


def test_energies_of_algorithms_stay_apart(tmp_path):
    runs = [_run("fp32"), _run(sets=100), _run("volatile", sets=300)]
    group = made.group(runs)
    costs = energy_lib.costs(group, "training", EnergyTable())
    sets = [(cost.recipe.label, cost.operations["binary_sets"]) for cost in costs]
    assert sets == [("fp32", 0), ("hic", 100), ("volatile", 300)]
    section = energy_lib.operations_and_energy(group, tmp_path)
    words = "0\u00a0J by FP32 and 1.35\u00a0nJ by HIC and 4.05\u00a0nJ by volatile"
    assert f"{words} cells" in section.paragraphs[0]
