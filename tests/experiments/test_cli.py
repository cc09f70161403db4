"""The command line of all launchers: what --help says, what is refused, Ctrl-C."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from absl import flags

import hic_jax
from experiments import cli, launch, parts
from experiments.config import resolve
from experiments.devices.fitted import with_names
from experiments.runs.intervals import TrainingDiverged

LAUNCHERS = (
    "train", "sweep.__main__", "ablate", "field", "drift", "chip", "demo", "fit_device",
    "report.__main__",
    "benchmark.__main__",
)  # fmt: skip
REQUIRED = {
    "fit_device": ["--data=x", "--unit=uS"],
    "field": ["--trained=x", "--workdir=y"],
    "report.__main__": ["--out=y"],
    "benchmark.__main__": [],
}


@pytest.fixture
def define():
    """Defines the flags of a launcher; returns its module and the flags' names."""
    before = set(flags.FLAGS)

    def define(name):
        module = importlib.import_module(f"experiments.{name}")
        module.define_flags()
        return module, sorted(set(flags.FLAGS) - before)

    yield define
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def _page(module):
    """The help of a launcher as {flag: text} and all lines."""
    lines = cli.help_page(module.__doc__).splitlines()
    entries, name = {}, None
    for line in lines:
        if start := re.match(r"  --(?:\[no\])?(\w+)\S* *(.*)", line):
            name, text = start.groups()
            entries[name] = text
        elif name and line.startswith(" " * 30):
            entries[name] = f"{entries[name]} {line.strip()}".strip()
        else:
            name = None
    return entries, lines


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_help_tells_all_flags_of_a_launcher_and_each_by_itself(define, launcher):
    module, names = define(launcher)
    entries, lines = _page(module)
    assert sorted(entries) == names  # None of absl's.
    assert max(map(len, lines)) <= 100
    assert not any(line != line.rstrip() for line in lines)
    for name, text in entries.items():
        assert re.match(r"[A-Z].*[.] ?(\(.*\))?$", text), (name, text)
        # A text that goes on where another one ended.
        assert not re.match(r"(Of|Its|Likewise|And|The same|As)\b", text), (name, text)
        assert "likewise" not in text
        assert "`" not in text


def test_help_has_groups_defaults_and_choices(define):
    module, _ = define("train")
    entries, lines = _page(module)
    headings = [line[:-1] for line in lines if re.fullmatch(r"[A-Z][\w ]+:", line)]
    assert headings == [
        "Run", "Network and data", "Recipe", "Algorithm", "Device", "Crossbar",
    ]  # fmt: skip
    for name, end in {
        "workdir": "(required)",
        "log_every": "(1 or more; default 50)",
        "endurance_cycles": "(1 to 1e+18; default 1000000000)",
        "analog_learning_rate": "(default 0.04)",
        "weight_decay": "(default 0.0005)",
        "converters": "(default true)",
        "hic_lsb_bits": "(default 7)",
        "pcm_g_max": "uS. (default 20 with nandakumar_2018)",
        "pcm_drift_nu_std": "hermes_2; default nandakumar_2019 with nandakumar_2018)",
        "crossbar_adc_range": "(default absmax)",
    }.items():
        assert entries[name].endswith(end), entries[name]
    choices = parts.CHOICES | {"hic_initial_words": ("uniform", "zero")}
    for name, allowed in choices.items():
        for choice in allowed:
            assert re.search(rf"\b{choice}\b", entries[name]), entries[name]


def test_the_defaults_in_the_help_are_those_of_a_run(define):
    module, _ = define("train")
    entries, _ = _page(module)
    usual = resolve()
    for prefix, part in (
        ("", usual.recipe),
        ("analog_", usual.analog),
        ("hic_", usual.spec),
        ("pcm_", usual.spec.multilevel),
        ("binary_", usual.spec.binary),
        ("crossbar_", usual.crossbar),
    ):
        for name, value in vars(part).items():
            if name not in ("multilevel", "binary", "name", "source"):
                told = f"default {cli.shown(with_names(value))}"
                assert re.search(rf"\b{told}( with|\))", entries[prefix + name])


@pytest.mark.parametrize("word", ["--help", "-h", "--helpshort"])
def test_help_is_no_failure(define, capsys, word):
    define("drift")
    with pytest.raises(SystemExit) as stop:
        launch.parse(["drift", "--chips=0", word])
    assert stop.value.code in (None, 0)
    assert "--compensations=TEXT,..." in capsys.readouterr().out


def test_half_of_the_help_is_enough_for_some():
    code = "from experiments import launch; launch.show_page('x\\n' * 100_000)"
    process = subprocess.run(
        f"{sys.executable} -c {shlex.quote(code)} | head -1",
        shell=True,
        cwd=Path(hic_jax.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.stderr) == ("x\n", "")


PATHS = [
    ("train", "workdir"),
    ("train", "data_dir"),
    ("train", "energy_table"),
    ("sweep.__main__", "workdir"),
    ("ablate", "workdir"),
    ("field", "trained"),
    ("field", "workdir"),
    ("drift", "workdir"),
    ("chip", "out"),
    ("demo", "workdir"),
    ("report.__main__", "out"),
    ("benchmark.__main__", "json"),
]


@pytest.mark.parametrize(("launcher", "name"), PATHS)
def test_paths_that_are_none_are_refused_by_name(define, launcher, name):
    define(launcher)
    for word in ("", " ", "gs://bucket/run", "s3://x", "file:///tmp", "~nobody-here/x"):
        with pytest.raises(SystemExit) as stop:
            launch.parse(["x", f"--{name}={word}"])
        assert str(stop.value).startswith(f"error: --{name}={word}: must be a path")


def test_home_is_where_a_path_says(define, monkeypatch):
    define("train")
    monkeypatch.setenv("HOME", "/somewhere")
    launch.parse(["train", "--workdir=~/run", "--data_dir=~/data"])
    assert flags.FLAGS.workdir == "/somewhere/run"
    assert flags.FLAGS.data_dir == "/somewhere/data"


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_platform_that_is_not_there_is_one_line(define, launcher, monkeypatch):
    module, _ = define(launcher)

    def no_devices(*arguments):
        raise RuntimeError("Unable to initialize backend 'foo'")

    argv = launch.parse(["x", *REQUIRED.get(launcher, ["--workdir=y"])])
    monkeypatch.setattr(jax, "devices", no_devices)
    with pytest.raises(SystemExit) as stop:
        launch.told(module.main, argv)
    message = str(stop.value)
    assert re.match(r"error: JAX_PLATFORMS=.*: must be .*backend 'foo'", message)
    assert "\n" not in message


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/root/runs"),
        OSError(36, "File name too long", "x" * 300),
        OSError(28, "No space left on device"),
        ValueError("epochs=0: must be at least 1"),
        TrainingDiverged("step 3: the loss is nan"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_a_traceback_if_asked(error, caplog):
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as stop:
        with caplog.at_level("DEBUG", logger="absl"):
            launch.told(main, ["x"])
    assert str(stop.value) == f"error: {error}"
    (record,) = caplog.records
    assert record.levelname == "DEBUG" and record.exc_info[1] is error


def test_interrupted_later_is_no_traceback_either():
    def main(argv):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        launch.told(main, ["x"])
    assert stop.value.code == 130


# In place of JAX: Ctrl-C comes where somebody catches everything.
_INTERRUPTED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except BaseException:
    pass
print("went on")
"""


# What a shell starts in the background ignores Ctrl-C, and so does what that starts.
_HEEDING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("launcher", [name.split(".")[0] for name in LAUNCHERS])
def test_interrupted_in_its_imports_a_launcher_ends(tmp_path, launcher):
    (tmp_path / "jax.py").write_text(_INTERRUPTED)
    process = subprocess.run(
        [sys.executable, "-c", _HEEDING, "-m", f"experiments.{launcher}"],
        cwd=Path(hic_jax.__file__).parents[1],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "")


def test_who_only_imports_launchers_keeps_their_way_with_interrupts():
    code = "import signal; a = signal.getsignal(2); import experiments; "
    process = subprocess.run(
        [sys.executable, "-c", f"{code} print(signal.getsignal(2) is a)"],
        cwd=Path(hic_jax.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert process.stdout == "True\n"
