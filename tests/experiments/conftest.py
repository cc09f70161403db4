"""Set-up for tests that train: what several of them do is compiled once."""

import functools

import pytest

from experiments.setup import Experiment
from tests.experiments import pictures

_of, _runner = functools.cache(Experiment.of), Experiment.runner
_runners: dict = {}


def _runner_of(experiment):
    key = experiment.config, experiment.tx
    if key not in _runners:
        _runners[key] = _runner(experiment)
    return _runners[key]


@pytest.fixture(scope="module")
def compiled_once():
    """Trainings of one configuration share their experiment and its compiled step.

    To trace and load these anew takes two thirds of a training of six steps. Processes
    that a test starts do so.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Experiment, "of", staticmethod(lambda config, mesh=None: _of(config, mesh))
        )
        patch.setattr(Experiment, "runner", _runner_of)
        yield


@pytest.fixture(scope="module")
def without_pictures():
    """The picture of a run is a file, but nothing is rendered.

    That takes another sixth of a training. `test_plots.py` is about pictures.
    """
    with pytest.MonkeyPatch.context() as patch:
        pictures.unrendered(patch)
        yield
