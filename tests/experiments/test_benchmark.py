"""The benchmark: what is measured, written, shown and compared. No time is asserted."""

import copy
import dataclasses
import json

import jax
import numpy as np
import pytest
from absl import flags

from experiments import launch as launching
from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import measure, programs, results
from experiments.benchmark.programs import Size
from hic_jax import hic
from tests.experiments import shown

pytestmark = pytest.mark.usefixtures("one_block")

TINY = ["--depths=8", "--channel_plan=one_block", "--batch_sizes=4"]
STEPS = {"fp32 step", "hic step, no converters", "hic step"}
DEVICES = {
    "device update",
    "device update, refresh",
    "reading",
    "drift and reading",
    "evaluation",
}


@pytest.fixture(scope="module")
def launch():
    """Starts the command with words, as from a shell."""
    before = set(flags.FLAGS)

    def launch(*words):
        benchmark.define_flags()
        try:
            argv = launching.parse(["benchmark", *words])
            launching.told(benchmark.main, argv)
        finally:
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)

    return launch


@pytest.fixture(scope="module")
def measured(launch, tmp_path_factory):
    """What a small run wrote: one chip, and two."""
    path = tmp_path_factory.mktemp("benchmark") / "result.json"
    launch(*TINY, "--chips=1,2", "--repeats=2", f"--json={path}")
    return path


def test_all_figures_of_all_programs_are_written(measured):
    result = json.loads(measured.read_text())
    one, two = (size["programs"] for size in result["sizes"].values())
    assert set(one) == STEPS | DEVICES
    assert set(two) == DEVICES
    for row in (*one.values(), *two.values()):
        assert 0 < row["low"] <= row["median"] <= row["high"]
        assert min(row["compile_cold"], row["compile_warm"], row["memory"]) > 0
    assert one["fp32 step"]["of_fp32"] == 1.0
    assert one["hic step"]["of_fp32"] > 0
    assert {row["of_fp32"] for row in two.values()} == {None}
    # Two chips are twice the devices.
    assert two["reading"]["memory"] > 1.5 * one["reading"]["memory"]
    assert result["repeats"] == 2
    assert result["hardware"]["device"] == jax.devices()[0].device_kind
    assert result["versions"]["jax"] == jax.__version__
    assert result["peak_memory"]["bytes"] > max(r["memory"] for r in one.values())


def test_the_tables_show_them(measured):
    result = results.read(str(measured))
    _, one, two, growth, state, peak = results.report(result)
    assert one.title == "ResNet-8 (one_block), width 1, batch 4, chips 1, float32"
    assert [column.header for column in growth.columns] == ["", one.title, two.title]
    for table, names in ((one, STEPS | DEVICES), (two, DEVICES)):
        rows, programs = shown.by_name(table), result["sizes"][table.title]["programs"]
        assert set(rows) == names
        for name, (median, _, of_fp32, *_, memory) in rows.items():
            assert median == f"{1000 * programs[name]['median']:.1f} ms"
            assert memory == f"{programs[name]['memory'] / 1e6:.0f} MB"
            assert of_fp32 == ("1.000" if name == "fp32 step" else of_fp32)
    assert shown.by_name(growth)["reading"][0] == "1.00"
    assert shown.by_name(state)["with everything"] == ("37.0",)
    assert f" {result['peak_memory']['bytes'] / 1e6:.0f} MB " in peak


def test_device_state_is_small():
    measured = measure.device_bytes()
    # Conductances, SETs since a RESET and stamps of two devices, and the word.
    assert measured["without wear and spread"] == 2 * (2 + 1 + 2) + 1
    # And of both the draws of their exponents and SETs; RESETs, stuck devices and
    # cells, and a byte for each bit of the counters of all cells.
    spec = programs.HARDWARE["with everything"]
    assert measured["with everything"] == 11 + 2 * (1 + 2) + 2 + 1 + 1 + 16
    short = dataclasses.replace(spec, counter_bits=11)
    assert programs.state_bytes(short) == 32


def test_everything_is_everything():
    spec = programs.HARDWARE["with everything"]
    state = hic(spec, 0).init({"kernel": np.ones((4, 4), np.float32)})
    parts = vars(state.weights.multilevel) | vars(state.weights.binary)
    # A pair needs no reference.
    assert [name for name, held in parts.items() if held is None] == ["reference"]


@pytest.mark.parametrize("chips", [1, 2])
def test_pairs_are_refreshed_in_the_refresh_and_only_there(chips):
    made = programs.device_programs(Size(8, 1.0, 4, chips, "one_block"))
    refreshed = {}
    for name in ("device update", "device update, refresh"):
        state, *others = made[name].arguments
        after, _ = jax.jit(made[name].function)(state, *others)
        refreshed[name] = np.asarray(after.inner_state.events.refreshed_pairs)
    weights = 3 * 3 * 3 * 4 + 2 * 3 * 3 * 4 * 4 + 4 * 10
    np.testing.assert_array_equal(refreshed["device update"], 0)
    # 3 % of 436, within three standard deviations; another chip has others.
    np.testing.assert_allclose(
        refreshed["device update, refresh"], 0.03 * weights, atol=11
    )
    assert refreshed["device update, refresh"].size == chips


def test_a_warm_compilation_reads_the_cache_and_a_cold_one_does_not():
    made = programs.device_programs(Size(8, 1.0, 4, 1, "one_block"))
    events = []
    before = jax.config.jax_compilation_cache_dir

    def listen(name, **_):
        events.append(name)

    jax.monitoring.register_event_listener(listen)
    with measure.own_cache():
        measure.compile_twice(made["reading"])
    found = [name.split("/")[-1] for name in events if "/cache_" in name]
    if hasattr(jax.monitoring, "unregister_event_listener"):  # JAX 0.7.2 has none.
        jax.monitoring.unregister_event_listener(listen)
    assert jax.config.jax_compilation_cache_dir == before
    assert found == ["cache_misses", "cache_hits"]


def test_a_state_is_passed_on_from_run_to_run():
    made = programs.training_steps(Size(8, 1.0, 4, 1, "one_block"))["hic step"]
    compiled = made.traced().lower().compile()
    for _ in range(3):
        made.run(compiled)
    assert made.state.step == 3


def test_a_comparison_with_itself(measured):
    result = results.read(str(measured))
    tables = results.compare(result, result)  # And no warning.
    quotients = [row[-1] for table in tables for row in shown.cells(table)]
    # Five figures of eight programs (the others have four), two of bytes, a peak.
    assert len(quotients) == 8 * 5 + 5 * 4 + 3
    assert set(quotients) == {"1.000"}


def test_a_comparison_of_different_circumstances(measured):
    old = results.read(str(measured))
    new = copy.deepcopy(old)
    one, two = new["sizes"]
    new["sizes"][one]["programs"]["reading"]["median"] *= 2
    new["sizes"]["ResNet-56"] = new["sizes"].pop(two)
    new["hardware"]["cores"] = 1000
    new["versions"]["jax"] = "0.9"
    new["repeats"] = 7
    *warnings, size, run = results.compare(old, new)
    assert (size.title, run.title) == (one, "the run")
    assert shown.by_name(size)["reading, median"][-1] == "2.000"
    for warning in (
        f"OTHER HARDWARE: cores: {old['hardware']['cores']} -> 1000",
        f"other versions: jax: {jax.__version__} -> 0.9",
        "other repeats: 2 -> 7",
        f"OTHER CONFIGURATION: only in the old file: {two}",
        "OTHER CONFIGURATION: only in the new file: ResNet-56",
    ):
        assert warnings.count(warning) == 1


def test_the_command_compares(launch, measured, capsys):
    launch(f"--compare={measured},{measured}")
    assert "new/old" in capsys.readouterr().out


def test_nothing_to_compare(measured):
    old = results.read(str(measured))
    new = old | {"sizes": {"ResNet-56": {"programs": {}}}}
    with pytest.raises(results.ResultError, match=r"no size in common: .* against Res"):
        results.compare(old, new)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depths=9"], r"depth=9: must be 6n \+ 2"),
        (["--depths="], r"--depths=: must list at least one"),
        (["--widths=1,wide"], r"--widths=1,wide: wide in it must be a finite number"),
        (["--widths=1,0"], r"width=0\.0: must be greater than 0"),
        (["--batch_sizes=0"], r"batch_size=0: must be in \[1, 1000000\]"),
        (["--chips=1.5"], r"--chips=1\.5: must be an integer"),
        (["--channel_plan=hicc"], r"--channel_plan=hicc: .* mean 'hic'"),
        (["--compute_dtypes="], r"--compute_dtypes=: must list at least one value"),
        (["--compute_dtypes=float16"], r"--compute_dtypes=float16: must"),
        (["--json=/no/such/folder/x.json"], r"--json=/no/such/folder/x\.json: must be"),
        (["--compare=one.json"], r"--compare=one\.json: must be two files"),
        (["--compare=no,such"], r"no: is not a result of experiments\.benchmark"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(
    launch, monkeypatch, words, message
):
    monkeypatch.setattr(measure, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit, match=f"error: {message}"):
        launch(*words)


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "x.json"
    for text, message in (
        ("{}", "is not a result"),
        ("[]", "is not a result"),
        ('{"format": 0}', "has format 0, must have 1"),
        ('{"format": 1, "sizes": {"a": {}}}', "is not a result"),
    ):
        path.write_text(text)
        with pytest.raises(results.ResultError, match=message):
            results.read(str(path))
