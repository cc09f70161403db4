"""Sweeps: what is swept, and that whatever stops one leaves the same table."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from absl import flags

import hic_jax
from experiments import config_flags, launch, parts
from experiments import train as train_lib
from experiments.runs.intervals import TrainingDiverged
from experiments.runs.stopping import Stopped, stop_requests
from experiments.runs.stored import RunFolderError, read_config
from experiments.sweep import __main__ as sweep
from experiments.sweep import folder as sweep_folder
from experiments.sweep import grid, jobs, pools
from experiments.sweep.folder import RunPaths
from hic_jax import models, pcm
from hic_jax.training import recipes
from tests.experiments import command_lines, shown
from tests.tiny_text import written

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once", "without_pictures")

TINY = ("--channel_plan=one_block", "--batch_size=479", "--epochs=2")
STEPS = 6


@pytest.fixture
def parse():
    """Parses words of a command line."""
    with command_lines.parser("sweep", sweep.define_flags) as parse:
        yield parse


@pytest.fixture
def runs(parse):
    """The runs that words of a command line ask for."""

    def runs(*words):
        parse(*TINY, *words)
        return grid.runs_of(grid.axes_from_flags(), flags.FLAGS.max_steps)

    return runs


def _names(runs):
    return [run.name for run in runs]


# ---- grids


def test_shorthands_sweep_seeds_slowest(runs):
    words = ("--widths=0.5,1", "--seeds=2", "--seed=3", "--algorithms=fp32,hic")
    asked = runs(*words)
    assert _names(asked) == [
        f"{algorithm}-width{width}-seed{seed}"
        for seed in (3, 4)
        for algorithm in ("fp32", "hic")
        for width in ("0.5", "1")
    ]
    assert {run.steps for run in asked} == {STEPS}
    last = asked[-1].config.train
    assert (last.algorithm, last.width, last.seed) == ("hic", 1.0, 4)
    assert last.batch_size == 479  # Given plainly, it holds for all.


def test_any_flag_is_swept_as_the_flag_reads_it(runs):
    asked = runs(
        "--grid=hic_lsb_bits=5,6",
        "--grid=converters=true,false",
        "--grid=digital_layers=;stem,head",
        "--grid=pcm_g_max=12.5",
    )
    assert len(asked) == 8
    assert asked[0].name == (
        "hic-width1-seed0-hic_lsb_bits=5-converters=True-digital_layers=-pcm_g_max=12.5"
    )
    last = asked[-1].config
    assert last.spec.lsb_bits == 6
    assert last.spec.multilevel.g_max == 12.5
    assert last.hardware.converters is False
    assert last.hardware.digital_paths == ("stem", "head")
    assert asked[-1].swept["digital_layers"] == "stem,head"


def test_hardware_is_not_swept_over_for_fp32(runs):
    asked = runs(
        "--algorithms=fp32,hic",
        "--grid=hic_lsb_bits=5,6",
        "--grid=learning_rate=0.1,0.2",
    )
    assert _names(asked) == [
        "fp32-width1-seed0-learning_rate=0.1",
        "fp32-width1-seed0-learning_rate=0.2",
        "hic-width1-seed0-hic_lsb_bits=5-learning_rate=0.1",
        "hic-width1-seed0-hic_lsb_bits=5-learning_rate=0.2",
        "hic-width1-seed0-hic_lsb_bits=6-learning_rate=0.1",
        "hic-width1-seed0-hic_lsb_bits=6-learning_rate=0.2",
    ]
    assert asked[0].config.spec is None
    assert asked[-1].config.spec.lsb_bits == 6
    assert "hic_lsb_bits" not in asked[0].swept


def test_digital_algorithms_use_what_is_theirs():
    used = parts.used_flags("fp32", "ideal")
    assert {"learning_rate", "width", "seed", "momentum", "augmentation"} <= used
    for name in ("hic_lsb_bits", "pcm_g_max", "crossbar_adc_bits", "binary_stuck_set"):
        assert name not in used
    for name in ("analog_momentum", "preset", "converters", "digital_layers"):
        assert name not in used
    every = itertools.product(recipes.ALGORITHMS, pcm.PRESETS, models.MODELS)
    everything = set().union(*itertools.starmap(parts.used_flags, every))
    assert everything == set(config_flags.flag_names())


def test_fields_of_a_network_are_swept_over_for_it_alone(parse, tmp_path):
    def runs(*words):
        parse(*words)
        return grid.runs_of(grid.axes_from_flags())

    asked = runs("--grid=model=mlp,cnn", "--grid=mlp_units=4,8", "--cnn_channels=2")
    assert _names(asked) == [
        "hic-width1-seed0-model=mlp-mlp_units=4",
        "hic-width1-seed0-model=mlp-mlp_units=8",
        "hic-width1-seed0-model=cnn",
    ]
    assert [run.config.network for run in asked] == [
        models.MLPSpec(units=4), models.MLPSpec(units=8), models.CNNSpec(channels=2),
    ]  # fmt: skip
    text = f"--dataset={written(tmp_path)}"
    (alone,) = runs(text, "--model=gpt", "--gpt_context=8", "--batch_size=4")
    assert alone.config.network.context == 8
    with pytest.raises(ValueError, match=r"--gpt_context=8: makes no difference"):
        runs("--gpt_context=8")


REFUSED = {
    "--grid=hic_lsb_bit=5,6": r"--grid='hic_lsb_bit': must be .*mean 'hic_lsb_bits'",
    "--grid=hic_lsb_bits": r"hic_lsb_bits=, in a sweep: ",
    "--grid=hic_lsb_bits=5,six": r"hic_lsb_bits=six, in a sweep: must be an integer",
    "--grid=hic_lsb_bits=5,5": r"hic_lsb_bits=5, in a sweep: stands there twice",
    "--grid=hic_lsb_bits=5,9": r"--hic_lsb_bits=9: must be in \[2, 8\]",
    "--widths=0.5 --grid=width=1": r"--grid=width=1: width is swept twice",
    "--widths=0.5,x": r"width=x, in a sweep: ",
    "--widths=0.5,0": r"--width=0\.0: must be greater than 0",
    "--width=2 --widths=0.5,1": r"--width=2\.0: is given and swept",
    "--algorithms=fp32,hicc": r"algorithm=hicc, in a sweep: .*mean 'hic'",
    "--algorithms=fp32 --grid=hic_lsb_bits=5": r"--grid=hic_lsb_bits: makes no differe",
    "--algorithms=fp32 --pcm_g_max=12": r"--pcm_g_max=12\.0: makes no difference",
    "--grid=depth=8,9": r"depth=9: must be 6n \+ 2",
    "--grid=dataset=digits,cifar-10": r"--dataset='cifar-10': .*mean 'cifar10'",
    "--grid=batch_size=100,2000": r"batch_size=2000: must be at most 1437",
    "--grid=seed=0,1 --seed=5": r"--seed=5: is given and swept",
    "--widths=": r"--widths=: must list at least one value",
    "--mesh=3 --seeds=3": r"mesh=3: must be at most|mesh=3: must divide batch_size=100",
    "--jobs=2 --mesh=3": r"mesh=3: must divide batch_size=100",
    "--mesh=1 --together=2": r"--mesh=1: .*not be given with --together=2",
    "--cluster=here --jobs=2": r"--jobs=2: is for --cluster=local or slurm",
    "--slurm=partition=gpu": r"--slurm=partition=gpu: is for --cluster=slurm",
    "--cluster=slurm --slurm=time=1-0": r"--slurm=time=1-0: must be minutes",
    "--cluster=slurm --slurm=gpu": r"--slurm=gpu: must be OPTION=VALUE",
    "--cluster=slurm --slurm=job_name=x": r"--slurm=job_name: is taken",
}


@pytest.mark.parametrize(("words", "message"), REFUSED.items(), ids=REFUSED)
def test_mistakes_are_refused_before_anything_is_written(
    parse, tmp_path, words, message
):
    argv = parse(*words.split(), workdir=tmp_path / "sweep")
    with pytest.raises(SystemExit) as stop:
        launch.told(sweep.main, argv)
    assert re.search(message, str(stop.value)), stop.value
    assert "\n" not in str(stop.value)
    assert list(tmp_path.iterdir()) == []


# ---- folders


def _shared():
    return grid.in_common({"algorithm": ["fp32", "hic"]})


def _prepare(path, runs):
    sweep_folder.prepare(path, _shared(), runs)
    return sweep_folder.Manifest.read(path)


def test_the_manifest_names_every_run(tmp_path, runs):
    asked = runs("--algorithms=fp32,hic", "--grid=hic_lsb_bits=5")
    _prepare(tmp_path, asked)
    assert json.loads((tmp_path / "manifest.json").read_text())["runs"] == [
        {
            "name": "fp32-width1-seed0",
            "folder": "fp32-width1-seed0",
            "swept": {"algorithm": "fp32", "width": 1.0, "seed": 0},
            "steps": STEPS,
        },
        {
            "name": "hic-width1-seed0-hic_lsb_bits=5",
            "folder": "hic-width1-seed0-hic_lsb_bits=5",
            "swept": {"algorithm": "hic", "width": 1.0, "seed": 0, "hic_lsb_bits": 5},
            "steps": STEPS,
        },
    ]


def test_a_manifest_grows(tmp_path, runs):
    _prepare(tmp_path, runs("--widths=0.5,1"))
    entries = _prepare(tmp_path, runs("--widths=1,2", "--seeds=2")).runs
    assert [entry.name for entry in entries] == [
        "hic-width0.5-seed0",
        "hic-width1-seed0",
        "hic-width2-seed0",
        "hic-width1-seed1",
        "hic-width2-seed1",
    ]


def test_another_algorithm_brings_its_own_flags(tmp_path, runs):
    for words in (("--algorithms=fp32",), ("--algorithms=hic", "--hic_lsb_bits=6")):
        asked = runs(*words)
        sweep_folder.prepare(tmp_path, grid.in_common(grid.axes_from_flags()), asked)
    shared = sweep_folder.Manifest.read(tmp_path).configuration
    assert (shared["momentum"], shared["hic_lsb_bits"]) == (0.9, 6)
    assert [e.name for e in sweep_folder.Manifest.read(tmp_path).runs] == [
        "fp32-width1-seed0", "hic-width1-seed0",
    ]  # fmt: skip
    with pytest.raises(RunFolderError, match=r"other flags.*: hic_lsb_bits: 6 != 7"):
        _prepare(tmp_path, runs("--algorithms=hic"))


def test_other_flags_for_the_same_sweep_are_refused(tmp_path, runs):
    before = _prepare(tmp_path, runs("--widths=0.5"))
    with pytest.raises(RunFolderError, match=r"other flags.*: momentum: 0\.9 != "):
        _prepare(tmp_path, runs("--widths=1", "--momentum=0.5"))
    assert sweep_folder.Manifest.read(tmp_path) == before


def test_a_folder_with_another_run_is_refused_before_any_training(tmp_path, runs):
    asked = runs("--widths=0.5,1")
    folder = tmp_path / "sweep" / asked[1].name
    _prepare(tmp_path / "sweep", asked[:1])
    folder.mkdir()
    (folder / "config.json").write_text(asked[0].config.to_json())
    with pytest.raises(RunFolderError, match=r"train\.width: 0\.5 != 1\.0"):
        _prepare(tmp_path / "sweep", asked)
    assert len(sweep_folder.Manifest.read(tmp_path / "sweep").runs) == 1


def test_a_folder_of_something_else_is_refused(tmp_path, runs):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"holds files but no manifest\.json"):
        _prepare(tmp_path, runs())
    with pytest.raises(RunFolderError, match=r"thesis\.tex: is a file"):
        _prepare(tmp_path / "thesis.tex", runs())


def test_how_far_a_run_is(tmp_path, runs):
    (run,) = runs()
    paths = RunPaths.of(tmp_path, run.name)
    assert sweep.steps_done(tmp_path, [run], ()) == 0
    assert sweep.state(tmp_path, run, ()) == "waiting"
    paths.run.mkdir()
    assert sweep.state(tmp_path, run, {run.name}) == f"step 0/{STEPS}"
    rows = [json.dumps({"step": n, "epoch": n / 3, "loss": 1.0}) for n in (2, 4)]
    (paths.run / "metrics.jsonl").write_text("\n".join([*rows, '{"ste']))
    assert sweep.state(tmp_path, run, {run.name}) == f"step 4/{STEPS}"
    assert sweep.steps_done(tmp_path, [run], {run.name}) == 4
    for line in (b"[]\n", b'{"step": 1e999}\n', b"\xff\n", b"\n", b"[" * 9999 + b"\n"):
        (tmp_path / run.name / "metrics.jsonl").write_bytes(line)
        assert sweep.state(tmp_path, run, {run.name}) == f"step 0/{STEPS}"
    paths.set_error("Traceback\nTrainingDiverged: step 5")
    assert sweep.state(tmp_path, run, ()) == "failed"
    _finish(paths)
    assert sweep.state(tmp_path, run, ()) == "75.0 %"
    assert sweep.steps_done(tmp_path, [run], ()) == STEPS


def _finish(paths, accuracy=0.75, steps=STEPS, **fields):
    paths.run.mkdir(parents=True, exist_ok=True)
    summary = {"test_accuracy": accuracy, "inference_bits": 16000, "steps": steps}
    summary |= fields
    (paths.run / "summary.json").write_text(json.dumps(summary))


def test_the_table_is_of_finished_runs(tmp_path, runs):
    asked = runs("--algorithms=fp32,hic", "--seeds=3", "--grid=hic_lsb_bits=6")
    for run, accuracy in zip(asked, (0.5, 0.8, 0.6, 0.9), strict=False):
        _finish(RunPaths.of(tmp_path, run.name), accuracy)
    table = sweep.table(tmp_path, asked)
    assert [column.header for column in table.columns] == [
        "algorithm", "width", "hic_lsb_bits", "test accuracy", "inference model",
        "runs",
    ]  # fmt: skip
    assert shown.cells(table) == [
        ("fp32", "1.0", "", "55.0 +- 7.1 %", "2 kB", "50.0 %, 60.0 %, waiting"),
        ("hic", "1.0", "6", "85.0 +- 7.1 %", "2 kB", "80.0 %, 90.0 %, waiting"),
    ]


@pytest.mark.parametrize(
    ("words", "head"),
    [
        (["--dataset=digits"], "test accuracy"),
        (["--validation=300"], "validation accuracy"),
        (["--grid=validation=0,300"], "test accuracy or validation accuracy"),
    ],
)
def test_a_table_of_runs_that_wait_says_what_they_will_tell(
    tmp_path, runs, words, head
):
    table = sweep.table(tmp_path, runs("--algorithms=fp32", *words))
    assert head in [column.header for column in table.columns]


def test_a_text_is_told_by_its_loss(tmp_path, parse):
    text = (f"--dataset={written(tmp_path)}", "--model=gpt", "--gpt_context=8")
    parse(*text, "--batch_size=4", "--algorithms=fp32", "--seeds=3")
    asked = grid.runs_of(grid.axes_from_flags())
    waiting = sweep.table(tmp_path, asked)
    for run, loss in zip(asked, (1.5, 1.7), strict=False):
        _finish(RunPaths.of(tmp_path, run.name), steps=run.steps, test_loss=loss)
    table = sweep.table(tmp_path, asked)
    for either in (waiting, table):
        assert either.columns[2].header == "test loss (nats)"
    assert shown.cells(table) == [
        ("fp32", "1.0", "1.600 +- 0.141", "2 kB", "1.500, 1.700, waiting")
    ]


# ---- jobs


class FakePool:
    """Runs jobs in no time, and some of them not to their ends."""

    poll_s = 0.0
    grace_s = 0.0

    def __init__(self, left=(), dies=()):
        self._left = {job.name: job for job in left}
        self._dies = set(dies)
        self.submitted = []
        self.most = 0

    def alive(self):
        alive = set(self._left)
        self.most = max(self.most, len(alive))
        for name, job in self._left.items():
            if name not in self._dies:
                _finish(_paths(job))
        self._left = {}
        return alive

    def submit(self, job):
        self.submitted.append(job.name)
        self._left[job.name] = job


def _paths(job):
    """Where the only run of a job is."""
    (run,) = job.runs
    return job.paths(run)


@pytest.fixture
def four(tmp_path):
    """Jobs of a run each."""
    runs = [grid.Run(name=n, swept={}, config=None, steps=STEPS) for n in "abcd"]
    return [jobs.Job(tmp_path, (run,)) for run in runs]


def _follow(pool, waiting, at_once=2):
    ended, running = [], set()
    pools.follow(
        pool,
        waiting,
        at_once=at_once,
        running=running,
        ended=lambda job: ended.append(job.name),
    )
    assert running == set()
    return ended


def test_so_many_jobs_at_once_as_were_asked_for(four):
    pool = FakePool()
    assert sorted(_follow(pool, four)) == ["a", "b", "c", "d"]
    assert pool.submitted == ["a", "b", "c", "d"]
    assert pool.most == 2
    pool = FakePool()
    assert _follow(pool, four, sweep.ANY_NUMBER) == []  # Nothing is run twice.
    assert pool.submitted == []


def test_jobs_that_are_alive_are_followed(four):
    pool = FakePool(left=four[1:3])
    assert sorted(_follow(pool, four)) == ["a", "b", "c", "d"]
    assert pool.submitted == ["a", "d"]


def test_a_job_that_the_kill_took_along_is_submitted_again(four):
    class Orphans(FakePool):
        def submit(self, job):
            self._dies.discard(job.name)
            super().submit(job)

    pool = Orphans(left=four[:1], dies="a")
    assert _follow(pool, four[:1]) == ["a"]
    assert pool.submitted == ["a"]


def test_a_job_that_ends_without_a_result_has_failed(four):
    pool = FakePool(dies="b")
    assert sorted(_follow(pool, four)) == ["a", "b", "c", "d"]
    assert pool.submitted == ["a", "b", "c", "d"]
    errors = [_paths(job).error() for job in four]
    assert [error is None for error in errors] == [True, False, True, True]
    assert "ended without a result" in errors[1]
    # Another start tries it again.
    assert _follow(FakePool(), four) == ["b"]
    assert not four[1].left()
    assert _paths(four[1]).error() is None


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "input()"],
        ["cat", "-"],
        [sys.executable, "-c", "input()", "-m", "submitit.local._local"],
        ["sh", "-c", "read line", "-m", "submitit.core._submit"],
        [sys.executable, "-c", "input()", "-m", "experiments.train"],
    ],
    ids=["python", "cat", "an argument", "sh", "another module"],
)
def test_what_else_has_to_do_with_a_folder_is_no_job(tmp_path, command):
    process = subprocess.Popen([*command, str(tmp_path)], stdin=subprocess.PIPE)
    try:
        pool = pools.Local([tmp_path])
        assert pool.alive() == set()
        pool.stop()
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_a_lock_is_no_link(four, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    four[0].folder.mkdir(parents=True)
    (four[0].folder / "lock").symlink_to(mine)
    with pytest.raises(RunFolderError, match="lock"):
        four[0].train()
    assert mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("signum", "queued_again"), [(signal.SIGTERM, False), (signal.SIGUSR2, True)]
)
def test_a_job_that_is_stopped_says_so_or_is_queued_again(
    four, monkeypatch, signum, queued_again
):
    """SIGUSR2 is what Slurm sends for submitit when the time of a job is almost up."""
    told = []

    def train(*arguments, **keywords):
        with stop_requests() as requests:
            signal.raise_signal(signum)
            raise Stopped(requests.asked(), 7)

    monkeypatch.setattr(train_lib, "train", train)
    monkeypatch.setattr(jobs.Experiment, "of", lambda config, mesh: None)
    monkeypatch.setattr(jobs.launch, "prepare_process", lambda: None)
    before = {
        # Submitit's own handlers: it ignores the first.
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *arguments: None),
        signal.SIGUSR2: signal.signal(signal.SIGUSR2, lambda n, _: told.append(n)),
    }
    try:
        with pytest.raises(SystemExit) as stop:
            four[0]()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stop.value.code == 128 + signum
    assert told == [signal.SIGUSR2] * queued_again
    error = _paths(four[0]).error()
    if queued_again:
        assert error is None
    else:
        assert error.startswith("Stopped: SIGTERM: saved at step 7; started again")


# ---- runs that differ in their seeds, as one job


def _seeds(job):
    return [run.config.train.seed for run in job.runs]


def test_seeds_of_one_configuration_are_one_job(tmp_path, runs):
    asked = runs("--widths=0.5,1", "--seeds=6")
    _finish(RunPaths.of(tmp_path, asked[2].name))  # Width 0.5, seed 1.
    grouped = jobs.of_runs(tmp_path, asked, 4)
    assert [job.name for job in grouped] == [
        "hic-width0.5-seed0",
        "hic-width0.5-seed4",
        "hic-width1-seed0",
        "hic-width1-seed3",
        "hic-width0.5-seed1",
    ]
    # As equal as possible, and what is finished is left out.
    assert [_seeds(job) for job in grouped] == [
        [0, 2, 3], [4, 5], [0, 1, 2], [3, 4, 5], [1],
    ]  # fmt: skip
    alone = jobs.of_runs(tmp_path, asked, 1)
    assert [job.runs for job in alone] == [(run,) for run in asked]


def test_of_runs_trained_together_each_fails_for_itself(tmp_path, runs, monkeypatch):
    job = jobs.Job(tmp_path, tuple(runs("--seeds=3")))
    paths = [job.paths(run) for run in job.runs]
    _finish(paths[0])
    asked = []

    def train_together(experiments, workdirs, options):
        asked.extend(Path(workdir).name for workdir in workdirs)
        _finish(paths[1])
        return [None, TrainingDiverged("step 3: the loss is nan")]

    monkeypatch.setattr(jobs, "train_together", train_together)
    ended, running = [], set()

    class Watched(pools.Here):
        def submit(self, job):
            assert running == {run.name for run in job.runs}
            super().submit(job)

    pools.follow(Watched(), [job], at_once=1, running=running, ended=ended.append)
    assert asked == [run.name for run in job.runs[1:]]
    assert ended == [job] and running == set()
    assert [path.error() is None for path in paths] == [True, True, False]
    assert paths[2].error().endswith("TrainingDiverged: step 3: the loss is nan")
    assert job.left() == [job.runs[2]]


def test_a_job_of_several_that_ends_without_a_result_has_failed(tmp_path, runs):
    job = jobs.Job(tmp_path, tuple(runs("--seeds=3")))
    paths = [job.paths(run) for run in job.runs]

    class Dies(pools.Here):
        def submit(self, job):
            _finish(paths[0])
            paths[1].set_error("TrainingDiverged: step 3")

    pools.follow(Dies(), [job], at_once=1, running=set(), ended=sweep.note_end)
    first, second, third = (path.error() for path in paths)
    assert first is None and second == "TrainingDiverged: step 3"
    assert "ended without a result" in third


def test_what_stops_all_is_told_of_all_that_are_left(tmp_path, runs, monkeypatch):
    job = jobs.Job(tmp_path, tuple(runs("--seeds=3")))
    paths = [job.paths(run) for run in job.runs]
    _finish(paths[1])

    def train_together(experiments, workdirs, options):
        raise MemoryError("too many at once")

    monkeypatch.setattr(jobs, "train_together", train_together)
    with pytest.raises(MemoryError):
        job.train()
    errors = [path.error() or "" for path in paths]
    assert ["MemoryError: too many" in error for error in errors] == [True, False, True]


def test_by_default_accelerators_train_seeds_at_once(monkeypatch):
    monkeypatch.setattr(pools, "visible_gpus", lambda: [0, 1])
    assert sweep.default_together("here", 1, 20) == 1  # A CPU.
    assert sweep.default_together("slurm", sweep.ANY_NUMBER, 20) == 1
    assert sweep.default_together("local", 2, 20) == 8
    assert sweep.default_together("local", 2, 6) == 3  # Each has something to do.
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert sweep.default_together("here", 1, 20) == 8 * jax.local_device_count()


@pytest.mark.parametrize(
    ("given", "at_once", "threads"),
    [
        ({}, 2, "3"),
        ({}, 9, "1"),
        ({"PJRT_NPROC": "5"}, 2, "5"),
        ({"NPROC": "4"}, 2, None),
    ],
)
def test_processes_share_the_cores(monkeypatch, given, at_once, threads):
    for name in ("NPROC", "PJRT_NPROC"):
        monkeypatch.setenv(name, "")  # Restored when the test ends.
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(7)))
    pools.Local([], at_once)
    assert os.environ.get("PJRT_NPROC") == threads


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder of what stands for Slurm's commands; the queue is a file."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, script in {
        "srun": "exit 1",
        "squeue": f"cat {tmp_path}/queue",
        "sbatch": f'cp "$1" {tmp_path}/batch; echo Submitted batch job 17',
    }.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    return tmp_path


def test_slurm_knows_a_job_by_the_name_of_its_run(slurm, four):
    words = ["partition=gpu", "time=90", "cpus_per_task=4", "reservation=mine"]
    parameters = sweep.slurm_parameters(words)
    pool = pools.Slurm([job.folder for job in four], parameters)
    pool.submit(four[0])
    batch = (slurm / "batch").read_text()
    for option in words:
        assert f"#SBATCH --{option.replace('_', '-')}\n" in batch
    (name,) = re.findall(r"#SBATCH --job-name=(.*)\n", batch)
    (slurm / "queue").write_text(f"{name}\nb@00000000\n")
    assert pool.alive() == {"a"}
    (slurm / "queue").write_text("")
    assert pool.alive() == set()
    (slurm / "bin" / "squeue").write_text("#!/bin/sh\necho no controller >&2; exit 1\n")
    with pytest.raises(OSError, match="squeue: no controller"):
        pool.alive()


def test_gpus_that_may_be_used(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert pools.visible_gpus() == [2, 5]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pools.visible_gpus() == []


# ---- whole sweeps


def _summaries(path):
    """Results of all runs, but for times."""
    summaries = {
        p.parent.name: json.loads(p.read_text()) for p in path.glob("*/summary.json")
    }
    for summary in summaries.values():
        summary.pop("seconds_per_step", None)
    return summaries


class Alone:
    """A sweep that nothing disturbed: FP32 and HIC, one run each."""

    WORDS = (*TINY, "--algorithms=fp32,hic", "--log_every=1")

    def __init__(self, path, output):
        self.path = path
        self.table = output.out
        self.summaries = _summaries(path)


@pytest.fixture(scope="module")
def compiled():
    """Environment of processes that share what this one compiles."""
    return os.environ | {
        "PYTHONPATH": str(Path(hic_jax.__file__).parents[1]),
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }


@pytest.fixture
def alone(tmp_path, parse, capsys):
    path = tmp_path / "alone"
    sweep.main(parse(*Alone.WORDS, workdir=path))
    return Alone(path, capsys.readouterr())


# A sweep that kills itself at the n-th call of a function.
KILLED = """
import os, signal, sys
from absl import app
from experiments.runs.metrics import Metrics
from experiments.runs.run_folder import RunFolder
from experiments.sweep import __main__ as sweep
from hic_jax import models, pcm

models.CHANNEL_PLANS["one_block"] = (4,)
name, calls = sys.argv.pop(1).split(":")
of = RunFolder if hasattr(RunFolder, name) else Metrics
original, left = getattr(of, name), int(calls)

def call(*arguments, **keywords):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **keywords)

setattr(of, name, call)
sweep.define_flags()
app.run(sweep.main)
"""
MOMENTS = {
    # In the second epoch of FP32, whose first checkpoint may just be being written,
    "log:5": ("fp32-width1-seed0", "metrics.jsonl"),
    # before the first step of HIC,
    "begin:2": ("hic-width1-seed0", "config.json"),
    # and after its last step, before its summary.
    "update_summary:1": ("hic-width1-seed0", "checkpoints/6"),
}


def test_a_sweep_killed_at_three_moments_ends_as_one_left_alone(
    tmp_path, alone, compiled, parse, capsys
):
    path = tmp_path / "killed"
    for moment, (run, saved) in MOMENTS.items():
        process = subprocess.run(
            [sys.executable, "-c", KILLED, moment, f"--workdir={path}", *Alone.WORDS],
            env=compiled,
            capture_output=True,
            text=True,
        )
        assert process.returncode == -9, process.stderr
        assert (path / run / saved).exists()
        assert not (path / run / "summary.json").exists()
    assert set(_summaries(path)) == {"fp32-width1-seed0"}
    capsys.readouterr()
    sweep.main(parse(*Alone.WORDS, workdir=path))
    assert capsys.readouterr().out == alone.table
    assert _summaries(path) == alone.summaries
    assert "fp32" in alone.table and "hic" in alone.table


def test_what_is_finished_stays_and_the_grid_grows(
    alone, parse, capsys, caplog, monkeypatch
):
    trained = []
    original = train_lib.train

    def train(experiment, workdir, options):
        trained.append(Path(workdir).name)
        if "seed2" in workdir:
            raise TrainingDiverged("step 3: the loss is nan")
        return original(experiment, workdir, options)

    monkeypatch.setattr(train_lib, "train", train)
    sweep.main(parse(*Alone.WORDS, workdir=alone.path))
    assert capsys.readouterr().out == alone.table
    assert trained == []
    words = (*TINY, "--algorithms=fp32", "--seeds=3", "--log_every=1")
    with pytest.raises(SystemExit) as stop:
        sweep.main(parse(*words, workdir=alone.path))
    assert trained == ["fp32-width1-seed1", "fp32-width1-seed2"]
    message = str(stop.value)
    assert "error: 1 of 3 runs failed" in message
    assert "fp32-width1-seed2: " in message and "step 3: the loss is nan" in message
    assert re.search(r"\+- .*failed", capsys.readouterr().out)
    entries = sweep_folder.Manifest.read(alone.path).runs
    assert len(entries) == 4
    finished = [path.name for path in sweep_folder.finished_folders(alone.path)]
    assert finished == [entry.name for entry in entries][:3]


def test_seeds_trained_at_once_are_runs_like_any_other(tmp_path, parse, capsys):
    path = tmp_path / "together"
    words = (*TINY, "--algorithms=fp32", "--seeds=2", "--epochs=1", "--together=2")
    sweep.main(parse(*words, workdir=path))
    table = capsys.readouterr().out
    assert sorted(path.glob("jobs/*/lock")) == [
        path / "jobs" / f"fp32-width1-seed{seed}" / "lock" for seed in (0, 1)
    ]
    assert set(_summaries(path)) == {"fp32-width1-seed0", "fp32-width1-seed1"}
    assert len(sweep_folder.finished_folders(path)) == 2
    # Nothing is left to be trained, together or alone.
    sweep.main(parse(*words[:-1], workdir=path))
    assert capsys.readouterr().out == table


def test_processes_of_submitit_and_one_that_was_left(
    tmp_path, compiled, parse, monkeypatch
):
    """Two runs, one of which a sweep that was killed has already started."""
    for name, value in compiled.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "sweep"
    # A plan that the other processes know, too.
    words = ("--widths=0.04", "--algorithms=fp32", "--seeds=2", "--jobs=2")
    words += ("--batch_size=1437", "--epochs=1", "--augmentation=none")
    argv = parse(*words, workdir=path)
    left, other = grid.runs_of(grid.axes_from_flags())
    job = jobs.Job(path.resolve(), (left,))
    pool = pools.Local([job.folder])
    pool.submit(job)
    assert pool.alive() == {left.name}
    # A sweep in other processes must not take the accelerator; here it would stay off.
    monkeypatch.setattr(jax.config, "update", lambda *arguments: None)
    _prepare_around(path, left)
    sweep.main(argv)
    assert set(_summaries(path)) == {left.name, other.name}
    for run in (left, other):
        assert read_config(path / run.name) == run.config
        folder = path / "jobs" / run.name
        assert len(list(folder.glob("*_submitted.pkl"))) == 1
    assert pool.alive() == set()


def _prepare_around(path, run):
    (path / "manifest.json").write_text(
        json.dumps({"configuration": _shared(), "runs": []})
    )
