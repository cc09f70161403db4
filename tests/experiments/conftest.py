"""Set-up for tests that train: what several of a module do is compiled once."""

import functools

import pytest

from experiments.setup import Experiment


@pytest.fixture(scope="module")
def compiled_once():
    """Trainings of one configuration share their experiment and its compiled step.

    To trace and load these anew takes two thirds of a training of six steps. Processes
    that a test starts do so.
    """
    of, runner = functools.cache(Experiment.of), Experiment.runner
    runners = {}

    def runner_of(experiment):
        key = experiment.config, experiment.tx
        if key not in runners:
            runners[key] = runner(experiment)
        return runners[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Experiment, "of", staticmethod(lambda config, mesh=None: of(config, mesh))
        )
        patch.setattr(Experiment, "runner", runner_of)
        yield
