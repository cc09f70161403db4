"""What is in a run folder, to be compared."""

import json

import jax
import numpy as np

from experiments.runs.run_folder import RunFolder


def rows(path):
    """The rows of the metrics."""
    return [json.loads(line) for line in (path / "metrics.jsonl").open()]


def summary(path):
    """The summary, with the time that a step took."""
    return json.loads((path / "summary.json").read_text())


def timeless_summary(path):
    """What of the summary is the same whenever the run is made."""
    return {k: v for k, v in summary(path).items() if k != "seconds_per_step"}


def restored(path, experiment):
    """Everything that training changes, as NumPy arrays."""
    folder = RunFolder.read(str(path))
    state = folder.restore(experiment.init_state())
    folder.close()
    return jax.tree.map(_as_numpy, state)


def _as_numpy(x):
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)
