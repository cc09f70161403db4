"""Mistakes on the command line: one clear message, nothing written, no traceback."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

import hic_jax
from experiments import demo, drift, field, launch, train
from experiments.config import resolve
from experiments.runs.intervals import TrainingDiverged
from experiments.sweep import __main__ as sweep


@pytest.fixture
def refusal():
    """Starts a launcher with words that it refuses; returns the message."""
    before = set(flags.FLAGS)

    def refusal(launcher, *words):
        launcher.define_flags()
        # Any other exception would end in a traceback.
        with pytest.raises(SystemExit) as stop:
            launch.told(launcher.main, launch.parse([launcher.__name__, *words]))
        message = str(stop.value)
        assert message not in ("", "0", "None")
        return message

    yield refusal
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def _stored(path, **fields):
    """A folder with the configuration of a run."""
    (path / "config.json").write_text(resolve(**fields).to_json())
    return path


TRAINING = {
    "--hic_lsb_bit=7": r"Unknown command line flag 'hic_lsb_bit'.*hic_lsb_bits",
    "--epochs=many": r"--epochs=many: must be an integer$",
    "--max_steps=0": r"--max_steps=0: must be an integer, 1 to 2147483647",
    "--log_every=0": r"--log_every=0: must be an integer, 1 to 2147483647",
    "--endurance_cycles=nan": r"--endurance_cycles=nan: must be a finite number, 1 to",
    "--max_steps=1e3": r"--max_steps=1e3: must be an integer, 1 to",
    f"--log_every={10**30}": r"--log_every=10{30}: must be an integer, 1 to 2147483647",
    f"--seed={10**30}": r"--seed=10{30}: must be in \[0, 4294967295\]",
    "--epochs=2147483647": r"epochs=2147483647: must be at most 153391689, with 14 st",
    "--hic_seconds_per_step=1e8": r"hic_seconds_per_step=1.*: must be at most 2\.38e",
    "--learning_rate=1e-300": r"--learning_rate=1e-300: .*than 0\.0, in float32, too",
    "--pcm_g_max=1e38": r"--pcm_g_max=1e\+38: must lie in \[0\.0, 1000000\.0\]",
    "--pcm_g_min=20": r"--pcm_g_max=20\.0: must be greater than 20\.0, the g_min of",
    "--converters=maybe": r"--converters=maybe: must be true or false",
    "--endurance_cycles=0": r"--endurance_cycles=0: must be a finite number, 1 to",
    "--energy_table=/no/such": r"energy_table=/no/such: .*No such file",
    "epochs=3": r"unknown arguments: epochs=3",
    "--epochs=0": r"--epochs=0: must be at least 1",
    "--algorithm=hicc": r"--algorithm=hicc: .*hic, .*fp32.*mean 'hic'",
    "--preset=nandakumar": r"--preset=nandakumar: .*mean 'nandakumar_2018'",
    "--channel_plan=x": r"--channel_plan=x: must be one of hic, textbook",
    "--hic_lsb_bits=1": r"--hic_lsb_bits=1: must be in \[2, 8\]",
    "--hic_lsb_bits=9": r"--hic_lsb_bits=9: must be in \[2, 8\]",
    "--warmup=1.5": r"--warmup=1\.5: must lie in \[0\.0, 1\.0\]",
    "--pcm_g_max=-1": r"--pcm_g_max=-1\.0: must be greater than 0",
    "--binary_stuck_set=2": r"--binary_stuck_set=2\.0: must lie in \[0\.0, 1\.0\]",
    "--crossbar_dac_bits=1": r"--crossbar_dac_bits=1: must be 0 \(none\) or in",
    "--hic_initial_words=zeros": r"--hic_initial_words=zeros: must be .*mean 'zero'",
    "--crossbar_adc_range=max": r"--crossbar_adc_range=max: must be one of absmax, fix",
    "--digital_layers=stm": r"digital_layers='stm': must be .*mean 'stem'",
    "--width=0": r"width=0\.0: must be greater than 0",
    "--width=0.001": r"width=0\.001: leaves a stage .* above 0\.03125",
    "--depth=9": r"depth=9: must be 6n \+ 2, as 8, 14, 20, 32, 56 are",
    "--depth=2": r"--depth=2: must be in \[8, 1202\]",
    "--batch_size=1438": r"batch_size=1438: must be at most 1437",
    "--dataset=cifar-10": r"--dataset='cifar-10': must be .*mean 'cifar10'",
    "--dataset=images:/no/such": r"--dataset='images:/no/such': must be .* a folder of",
    "--dataset=cifar10 --data_dir=/no/such": r"--data_dir='/no/such': must be an exist",
    "--mesh=all": r"--mesh=all: must be auto, or a number of devices",
    "--mesh=0": r"--mesh=0: must be auto, or a number of devices",
    "--mesh=1000": r"mesh=1000: must be at most \d+, the number of devices",
    "--num_processes=2": r"processes need --coordinator and --process_id, too",
    "--coordinator=node7 --num_processes=2 --process_id=0": r"'node7': must be HOST:P",
    "--coordinator=node7:1 --num_processes=2 --process_id=2": r"process_id=2: .*\[0, 1",
}


@pytest.mark.parametrize(("words", "message"), TRAINING.items(), ids=TRAINING)
def test_training_is_refused(refusal, tmp_path, words, message):
    error = refusal(train, f"--workdir={tmp_path / 'run'}", *words.split())
    assert re.search(message, error), error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


def test_training_needs_a_folder(refusal):
    assert "error: --workdir: must be given" in refusal(train)


def test_an_energy_table_with_a_mistake(refusal, tmp_path):
    table = tmp_path / "table.json"
    table.write_text('{"binary_set_pj": -1}')
    workdir = tmp_path / "run"
    error = refusal(train, f"--workdir={workdir}", f"--energy_table={table}")
    assert f"energy_table={table}: binary_set_pj=-1: must be at least 0" in error
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("launcher", "dataset"), [(train, "tiny_shakespeare"), (sweep, "cifar10")]
)
def test_nothing_is_downloaded(refusal, tmp_path, monkeypatch, launcher, dataset):
    monkeypatch.setenv("HIC_JAX_NO_DOWNLOAD", "")  # Is as it was when the test ends.
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    error = refusal(
        launcher, "--no_download", f"--workdir={tmp_path / 'run'}",
        f"--dataset={dataset}", f"--model={'gpt' if launcher is train else 'resnet'}",
    )  # fmt: skip
    assert f"'{dataset}': is not prepared under --data_dir='{tmp_path}'" in error
    assert "(--no_download)" in error and "\n" not in error
    assert os.environ["HIC_JAX_NO_DOWNLOAD"] == "1"  # For the processes of a sweep.
    assert list(tmp_path.iterdir()) == []


def test_no_network(refusal, tmp_path, monkeypatch, capfd):
    pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.image_classification import cifar

    from hic_jax.data import preparation

    original = cifar.Cifar10._cifar_info.fget
    nowhere = property(lambda b: original(b)._replace(url="http://127.0.0.1:1/c.tgz"))
    monkeypatch.setattr(cifar.Cifar10, "_cifar_info", nowhere)
    monkeypatch.setattr(preparation, "_RETRIES", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    workdir, data_dir = tmp_path / "run", tmp_path / "data"
    # What another start is about to download.
    (data_dir / "downloads" / "cifar10" / "c.tgz.tmp.another").mkdir(parents=True)
    before = set(data_dir.rglob("*"))
    error = refusal(
        train, f"--workdir={workdir}", "--dataset=cifar10", f"--data_dir={data_dir}"
    )
    for part in ("--dataset='cifar10'", str(data_dir), "not be downloaded", "network"):
        assert part in error
    assert "\n" not in error
    assert capfd.readouterr() == ("", "")
    assert set(data_dir.rglob("*")) == before
    assert not workdir.exists()


def test_a_folder_with_another_configuration(refusal, tmp_path):
    stored = (_stored(tmp_path) / "config.json").read_text()
    words = ("--epochs=3", "--hic_lsb_bits=6", "--pcm_g_max=12")
    error = refusal(train, f"--workdir={tmp_path}", *words)
    for part in (
        f"workdir={tmp_path}",
        "train.epochs: 30 != 3",
        "spec.lsb_bits: 7 != 6",
        "spec.multilevel.g_max: 20.0 != 12.0",
    ):
        assert part in error
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == stored


def test_a_loss_that_is_no_number_ends_without_traceback(
    refusal, tmp_path, monkeypatch
):
    def diverge(*arguments, **keywords):
        raise TrainingDiverged("step 5: the loss is nan")

    monkeypatch.setattr(train, "train", diverge)
    message = refusal(train, f"--workdir={tmp_path / 'run'}")
    assert message == "error: step 5: the loss is nan"


READING = {
    "--times=0": r"times=0\.0: must be greater than 0",
    "--times=25,-1": r"times=-1\.0: must be greater than 0",
    "--times=25,1h": r"--times=25,1h: 1h in it must be a finite number",
    "--times=1e39": r"times=1e\+39: must be a finite number in float32",
    "--times=1e11": r"times=100000000000\.0: must be at most 10000000000",
    f"--chips={10**29}": r"--chips=10{29}: must be an integer, 1 to 1000000",
    "--times=nan": r"times=nan: must be a finite number",
    "--times=": r"--times=: must list at least one value",
    "--chips=0": r"--chips=0: must be an integer, 1 to 1000000",
    "--chips_at_once=0": r"--chips_at_once=0: must be an integer, 1 to",
    "--compensations=adabn": r"compensation='adabn': .*mean 'adabs'",
    "--compensations=": r"compensations=.*: must",
    "--deploy=nandakumar_2018": r"deploy='nandakumar_2018': .*mean 'nandakumar_2019'",
    "--deploy=hermes": r"deploy='hermes': must be one of nandakumar_2019, hermes_1, h",
    "--workdirs=x": r"Unknown command line flag 'workdirs'",
}


@pytest.mark.parametrize(("words", "message"), READING.items(), ids=READING)
def test_reading_is_refused(refusal, tmp_path, words, message):
    error = refusal(drift, f"--workdir={_stored(tmp_path)}", words)
    assert re.search(message, error), error
    assert "\n" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_reading_what_has_no_devices(refusal, tmp_path):
    path = _stored(tmp_path, algorithm="fp32")
    error = refusal(drift, f"--workdir={path}")
    for part in (f"workdir={path}", "algorithm=fp32", "must be a run of one with dev"):
        assert part in error
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("name", ["", "missing"])
def test_reading_what_is_no_run(refusal, tmp_path, name):
    path = tmp_path / name
    assert f"workdir={path}: is not a run" in refusal(drift, f"--workdir={path}")
    assert list(tmp_path.iterdir()) == []


LEARNING = {
    "--seconds=-1": r"--seconds=-1: must be a finite number, 0 to 1e[+]10",
    "--epochs=0": r"--epochs=0: must be an integer, 1 to",
    "--learning_rate=-1": r"learning_rate=-1\.0: must be",
    "--analog_learning_rate=0": r"analog_learning_rate=0\.0: must be greater than 0",
    "--shift=rotated": r"--shift=rotated: must be one of none, dim.*mean 'rotate'",
    "--workdir=": r"workdir=.*holds files but no config\.json",
}


@pytest.mark.parametrize(("words", "message"), LEARNING.items(), ids=LEARNING)
def test_learning_in_the_field_is_refused(refusal, tmp_path, words, message):
    trained, workdir = tmp_path / "trained", tmp_path / "field"
    for path in (trained, workdir):
        path.mkdir()
    _stored(trained)
    if words == "--workdir=":
        (workdir / "thesis.tex").touch()
        words += str(workdir)
    error = refusal(field, f"--trained={trained}", f"--workdir={workdir}", words)
    assert re.search(message, error), error
    assert [path.name for path in workdir.iterdir()] in ([], ["thesis.tex"])


def test_learning_in_the_field_without_devices(refusal, tmp_path):
    path = _stored(tmp_path, algorithm="fp32")
    error = refusal(field, f"--trained={path}", f"--workdir={tmp_path / 'field'}")
    assert "algorithm=fp32, which has no analog weights" in error


def test_learning_in_the_field_from_a_folder_of_runs(refusal, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        _stored(tmp_path / "runs" / name)
    runs = tmp_path / "runs"
    error = refusal(field, f"--trained={runs}", f"--workdir={tmp_path / 'field'}")
    assert f"trained={runs}: is no run" in error
    assert error.endswith(f"name one of {runs / 'a'}, {runs / 'b'}")


@pytest.mark.parametrize("words", ["--epochs=0", "--seeds=0", "--chips=0", "--epoch=1"])
def test_the_demo_is_refused(refusal, tmp_path, words):
    assert words.split("=")[0].lstrip("-") in refusal(
        demo, f"--workdir={tmp_path}", words
    )
    assert list(tmp_path.iterdir()) == []


def test_the_demo_in_a_folder_of_something_else(refusal, tmp_path):
    (tmp_path / "fp32-seed0").mkdir()
    (tmp_path / "fp32-seed0" / "thesis.tex").touch()
    error = refusal(demo, f"--workdir={tmp_path}")
    assert "holds files but no config.json" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--depth=9", "error: --depth=9: must be 6n + 2"),
        ("--hic_lsb_bits=9", "--hic_lsb_bits=9: must be in [2, 8]"),
    ],
)
def test_a_refused_process_fails_with_the_message_alone(tmp_path, words, message):
    path = tmp_path / "run"
    process = subprocess.run(
        [sys.executable, "-m", "experiments.train", f"--workdir={path}", words],
        env=os.environ | {"PYTHONPATH": str(Path(hic_jax.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
    assert not path.exists()
