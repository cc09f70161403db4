"""The examples train on PCM, and what they learnt is there a year later."""

import re
import runpy
from pathlib import Path

import pytest

from experiments import examples

SCRIPTS = sorted(Path(examples.__file__).parent.glob("[!_]*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_trains_and_ages(script, capsys):
    assert len(script.read_text().splitlines()) <= 40
    runpy.run_path(str(script))
    fresh, aged = map(float, re.findall(r"accuracy ([\d.]+)", capsys.readouterr().out))
    assert fresh > 0.93
    # Without BatchNorm and its statistics, drift is mostly a common factor.
    assert aged > fresh - 0.1


def test_there_are_four():
    names = {path.stem for path in SCRIPTS}
    assert names == {"mlp_linen", "cnn_linen", "cnn_nnx", "transformer"}
