"""Compiled programs of a process that trains and reads one run after another."""

import types

import jax
import jax.numpy as jnp
import pytest

from experiments import compare, drift, programs
from experiments.sweep import pools


@pytest.fixture
def most(monkeypatch, tmp_path):
    """Sets how many mappings of memory the system gives a process."""

    def most(number):
        path = tmp_path / "max_map_count"
        path.write_text(f"{number}\n")
        monkeypatch.setattr(programs, "_MOST_MAPPINGS", path)

    return most


@pytest.mark.skipif(not programs._MAPPINGS.exists(), reason="only Linux says them")
def test_programs_are_dropped_where_they_are_many(most):
    double = jax.jit(lambda x: 2 * x)
    double(jnp.ones(3))
    most(10**9)
    programs.drop_if_many()
    assert double._cache_size() == 1
    most(10)
    programs.drop_if_many()
    assert double._cache_size() == 0
    assert (double(jnp.ones(3)) == 2).all()


def test_nothing_is_dropped_where_nothing_says_how_many(monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "_MAPPINGS", tmp_path / "none")
    double = jax.jit(lambda x: 2 * x)
    double(jnp.ones(3))
    programs.drop_if_many()
    assert double._cache_size() == 1


def test_it_is_seen_to_after_every_run(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(programs, "drop_if_many", lambda: seen.append("dropped"))
    pools.Here().submit(types.SimpleNamespace(train=lambda: seen.append("trained")))
    assert seen == ["trained", "dropped"]

    config = types.SimpleNamespace(spec="devices")
    runs = [types.SimpleNamespace(config=config, name=name) for name in ("a", "b")]
    experiment = types.SimpleNamespace(compensation="gdc")
    monkeypatch.setattr(compare.Experiment, "of", lambda config: experiment)
    monkeypatch.setattr(
        drift, "read_once", lambda _, folder, reading: seen.append(folder)
    )
    compare.read_a_year_later(tmp_path, runs, chips=1)
    assert seen[2:] == [f"{tmp_path}/a", "dropped", f"{tmp_path}/b", "dropped"]
