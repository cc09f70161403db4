"""Whatever becomes of a file of a run: one error that names it, or nothing wrong.

Hypothesis draws a file, what of it, and the damage. What is done then, by the functions
that the launchers call: the run is opened, read by drift, and reported beside another.
"""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments import drawing, drift
from experiments.config import resolve
from experiments.report import claims, groups, making, page, runs
from experiments.runs import stored
from experiments.runs.run_folder import RunFolder
from experiments.setup import Experiment
from experiments.sweep.folder import RunPaths
from experiments.train import train
from experiments.train_options import TrainOptions
from hic_jax.inference import Reading

pytestmark = pytest.mark.usefixtures("one_block", "compiled_once")

JSON_FILES = ("config.json", "summary.json", "metrics.jsonl", "provenance.json")
USUAL = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# What no field is: of other types, too large, too small, not even a number.
ODD = st.sampled_from(
    [
        None, True, "", "text", "$x_$", "\ud800", [], {}, [1], {"a": 1}, [[[]]],
        -1, 0, 0.5, -0.5, 1e-300, 1e300, 2**31, 2**63, -(2**64), 10**400,
        float("nan"), float("inf"), 5,
    ]
)  # fmt: skip


class Stored:
    """A run that has been read over time, and its intact state."""

    def __init__(self, path):
        fields = {"channel_plan": "one_block", "epochs": 1, "batch_size": 479}
        self.config = resolve(**fields)
        self.experiment = Experiment.of(self.config)
        self.path = path
        self.reading = Reading(times=[25.0], chips=2, compensations=["none"])
        train(self.experiment, str(path), TrainOptions(log_every=1, progress=False))
        drift.read_over_time(self.experiment, str(path), self.reading)
        self.start = self.experiment.init_state()
        self.content = {name: (path / name).read_bytes() for name in JSON_FILES}
        self.summary = stored.read_summary(path)
        self.rows = stored.read_rows(path)[0]

    def damaged(self, name, content):
        """The folder with other content of one file, and all others as they were."""
        for other, intact in self.content.items():
            (self.path / other).write_bytes(content if other == name else intact)
        return self.path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Stored(tmp_path_factory.mktemp("fuzz") / "runs" / "a")


@st.composite
def damaged_bytes(draw, content):
    """Cut off, a bit flipped, no UTF-8, nested, or something put in the middle."""
    place = draw(st.integers(0, len(content) - 1))
    kind = draw(st.sampled_from(["cut", "flip", "latin", "nest", "insert", "empty"]))
    if kind == "flip":
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw(st.integers(0, 7))
        return bytes(flipped)
    between = {
        "latin": b"\xff\xfe",
        "nest": b"[" * draw(st.sampled_from([25, 5000])),
        "insert": draw(st.sampled_from([b"5\n", b"null\n", b'"step"\n', b"9" * 400])),
    }
    if kind in between:
        return content[:place] + between[kind] + content[place:]
    return content[:place] if kind == "cut" else b""


def _places(value, path=()):
    """Paths of all fields in JSON, the innermost ones, too; of a list, the first."""
    if path:
        yield path
    if isinstance(value, list):
        value = dict(enumerate(value[:1]))
    for name, child in value.items() if isinstance(value, dict) else ():
        yield from _places(child, (*path, name))


@st.composite
def damaged_field(draw, name, content):
    """Another value, or none, of one field; of metrics, in one row."""
    texts = content.decode().splitlines() if name == "metrics.jsonl" else [content]
    line = draw(st.integers(0, len(texts) - 1))
    whole = parent = json.loads(texts[line])
    *path, last = draw(st.sampled_from(list(_places(whole))))
    for step in path:
        parent = parent[step]
    if draw(st.booleans()):
        parent[last] = draw(ODD)
    else:
        del parent[last]
    if name != "metrics.jsonl":
        return json.dumps(whole).encode()
    texts[line] = json.dumps(whole)
    return "".join(f"{text}\n" for text in texts).encode()


@st.composite
def damage(draw, run, by_field):
    """A file and its damaged content."""
    name = draw(st.sampled_from(JSON_FILES))
    content = run.content[name]
    if by_field:
        return name, draw(damaged_field(name, content))
    return name, draw(damaged_bytes(content))


def _tried(name, function, *errors):
    """What a function returns; None if it refuses, with one line that names a file."""
    try:
        return function()
    except (ValueError, *errors) as error:
        text = str(error)
        assert name in text or "holds a run with another configuration" in text
        assert "\n" not in text and len(text) < 2000, text
        return None


def _check_readers(run, name, content):
    path = run.damaged(name, content)
    config = _tried(name, lambda: stored.read_config(path))
    summary = _tried(name, lambda: stored.read_summary(path))
    rows, faults = stored.read_rows(path)
    if name != "metrics.jsonl":
        assert rows == run.rows and faults == []
    if name != "config.json":
        assert config == run.config
    if name != "summary.json":
        assert summary == run.summary
    assert RunPaths(path, path).step() in [0, *(row["step"] for row in rows)]
    RunPaths(path, path).is_finished(1)
    # A training begins, or says what is wrong; it knows which rows it logged.
    folder = _tried(name, lambda: RunFolder.for_training(str(path), run.config))
    if folder is not None:
        with contextlib.closing(folder):
            assert folder.resume(run.start).step == len(run.rows)
            folder.metrics.begin(len(run.rows))
            assert folder.metrics.logged.last == run.rows[-1]
            assert (folder.metrics.fault() is None) == (folder.metrics.rows == run.rows)
    # What has been read is known, or the file is named.
    _tried(name, lambda: drift.has_been_read(str(path), run.reading))


@pytest.mark.parametrize("by_field", [False, True], ids=["bytes", "fields"])
@settings(USUAL, max_examples=120)
@given(data=st.data())
def test_damaged_files_of_a_run(run, by_field, data):
    name, content = data.draw(damage(run, by_field))
    _check_readers(run, name, content)


@pytest.fixture(scope="module")
def unsaved():
    """Figures are drawn, which may fail, but not saved, which takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing.Figure, "savefig", lambda *a, **k: None)
        yield


@settings(USUAL, max_examples=70)  # Figures take long.
@given(data=st.data())
def test_a_damaged_run_is_reported_or_left_out(run, unsaved, tmp_path, data):
    name, content = data.draw(damage(run, data.draw(st.booleans())))
    path = run.damaged(name, content)
    found, left_out = runs.read_all([path])
    assert len(found) + len(left_out) == 1
    for reason in left_out.values():
        assert "\n" not in reason and len(reason) < 2000
    # As `page.write` does.
    for group in groups.group(found):
        for each in group.runs:
            page.run_row(each)
            making.training_command(each)
            making.drift_commands(each)
        claims.judge(group, tmp_path)
        claims.account(group, tmp_path)
