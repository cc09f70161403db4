"""Files that a laboratory might bring."""

import numpy as np

from tests.fitting.measured import TABLE, measured


def wide(path, ramps=12, pulses=30, seed=0):
    """A CSV file with a column a ramp, of known devices; returns the path."""
    g = measured(TABLE, ramps, pulses, seed=seed).g
    names = ",".join(f"ramp{i}" for i in range(ramps))
    np.savetxt(path, g.T, delimiter=",", header=names, comments="", fmt="%.6f")
    return path


def lines(path, *texts):
    """A file with these lines; returns the path."""
    path.write_text("\n".join(texts) + "\n")
    return path
