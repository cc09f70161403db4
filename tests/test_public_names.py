"""What ``import hic_jax`` reaches, and what it does not load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hic_jax

LATER = ("data", "inference.over_time", "models", "training")

# In a process that has imported nothing else.
_SCRIPT = """
import json, sys
import hic_jax
loaded = [name for name in sys.argv[1:] if "hic_jax." + name in sys.modules]
scipy = "scipy.special" in sys.modules
reached = [hic_jax.inference.TRAINED, hic_jax.training.chips.PER_DEVICE]
reached += [hic_jax.data.load("digits").num_classes, hic_jax.models.ResNet.__name__]
print(json.dumps([loaded, scipy, reached]))
"""


def test_modules_are_reached_after_the_import_and_loaded_only_then():
    output = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *LATER],
        cwd=Path(hic_jax.__file__).parents[1],
        capture_output=True,
        check=True,
    ).stdout
    loaded, scipy, reached = json.loads(output)
    assert (loaded, scipy) == ([], False)
    assert reached == ["trained", 8, 10, "ResNet"]


def test_all_that_is_listed_is_there():
    assert {"data", "inference", "models", "training"} <= set(hic_jax.__all__)
    for module in (hic_jax, hic_jax.inference):
        assert all(hasattr(module, name) for name in module.__all__)
        message = f"'{module.__name__}' has no attribute 'hicc'"
        with pytest.raises(AttributeError, match=message):
            module.hicc  # noqa: B018
