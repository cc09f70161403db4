"""Ablations: one non-ideality at a time, and nothing trained twice."""

import functools

import pytest

from experiments import ablate
from experiments.config import changed, resolve
from experiments.runs.run_folder import RunFolder
from hic_jax import pcm
from tests.experiments import shown

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once", "without_pictures")


small = functools.partial(resolve, channel_plan="one_block", batch_size=479, epochs=1)


def test_default_hardware_has_all_but_faults():
    names = {*pcm.MultilevelSpec.NON_IDEALITIES, "converters"}
    names -= {"stuck", "device_spread"}
    assert set(ablate.present(resolve())) == names
    stuck = resolve(pcm_stuck_set=0.01)
    assert set(ablate.present(stuck)) == names | {"stuck"}
    assert ablate.present(resolve(preset="ideal", converters=False)) == ()


def test_each_variant_has_what_its_name_says():
    config = resolve()
    runs = ablate.variants(config)
    names = set(ablate.present(config))
    assert runs["all"] == config
    assert ablate.present(runs["none"]) == ()
    assert len(runs) == 2 + 2 * len(names) - 1
    assert "only-drift_spread" not in runs
    for name in names - {"drift", "drift_spread"}:
        assert ablate.present(runs[f"only-{name}"]) == (name,)
        assert set(ablate.present(runs[f"without-{name}"])) == names - {name}
    # The spread of the exponents is a part of drift.
    drift = {"drift", "drift_spread"}
    assert set(ablate.present(runs["only-drift"])) == drift
    assert set(ablate.present(runs["without-drift"])) == names - drift
    assert set(ablate.present(runs["without-drift_spread"])) == names - {"drift_spread"}


def test_trains_once_and_tells(tmp_path, capsys):
    config = small(preset="ideal")  # Converters alone: four trainings.
    assert set(ablate.variants(config)) == {
        "all", "none", "only-converters", "without-converters",
    }  # fmt: skip
    first = ablate.run(config, tmp_path, seeds=1, chips=1)
    ends = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in ends] == [f"{n}, seed 0" for n in first]
    for line, result in zip(ends, first.values(), strict=True):
        for (share,) in result.values():
            assert f" {100 * share:.1f} %" in line
    assert first["all"] == first["only-converters"]
    assert first["none"] == first["without-converters"]
    written = {path: path.stat().st_mtime for path in tmp_path.rglob("d/*")}
    assert ablate.run(config, tmp_path, seeds=1, chips=1) == first
    assert {path: path.stat().st_mtime for path in tmp_path.rglob("d/*")} == written
    # Another reading of a run is not taken for the one of the table.
    folder = RunFolder.read(str(tmp_path / "all-seed0"))
    rows = folder.summary()["drift"]
    folder.update_summary(drift=[rows[0] | {"time": 25.0, "mean": 0.99}, *rows])
    assert ablate.run(config, tmp_path, seeds=1, chips=1) == first
    ablate.run(config, tmp_path, seeds=1, chips=2)
    (row,) = folder.summary()["drift"]
    assert len(row["accuracies"]) == 2


def test_stuck_cells_are_a_non_ideality():
    config = small(preset="ideal", binary_stuck_set=0.05)
    assert ablate.present(config) == ("stuck_cells", "converters")
    cells = {name: c.spec.binary for name, c in ablate.variants(config).items()}
    stuck = {name for name, spec in cells.items() if spec.stuck_set == 0.05}
    assert stuck == {"all", "only-stuck_cells", "without-converters"}
    assert cells["none"] == pcm.BinarySpec()


def test_mean_and_spread_over_seeds():
    results = {"all": {"test_accuracy": [0.5, 0.6], "after_a_year": [0.25, 0.25]}}
    (row,) = shown.cells(ablate.table(results, "test accuracy"))
    assert row == ("all", "55.0 +- 7.1 %", "25.0 +- 0.0 %")


def test_another_configuration_is_refused_before_any_training(tmp_path):
    config = small(preset="ideal")
    folder = tmp_path / "none-seed0"
    folder.mkdir()
    (folder / "config.json").write_text(changed(config, epochs=2).to_json())
    with pytest.raises(ValueError, match="another configuration"):
        ablate.run(config, tmp_path, seeds=1, chips=1)
    assert [path.name for path in tmp_path.iterdir()] == ["none-seed0"]
