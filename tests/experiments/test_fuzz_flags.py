"""Any words on the command line: a run that can be traced, or one clear message."""

import json
import re
import traceback
import types
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import hic_jax
from experiments import cli, config_flags
from experiments.config import Config
from experiments.parts import used_flags
from experiments.setup import Experiment
from hic_jax import checks
from hic_jax.algorithms.scaling import weight_scale
from hic_jax.pcm import drifting
from hic_jax.pcm.multilevel import MultilevelState
from hic_jax.training import steps
from hic_jax.training.split import Split
from hic_jax.training.state import initial_variables, programmed

OURS = tuple(
    str(Path(module.__file__).parent) for module in (hic_jax, config_flags)
)  # hic_jax/ and experiments/

NUMBERS = (
    "0", "-1", "1", "2", "7", "8", "14", "16", "17", "0.5", "2.5", "1e-9", "1e9",
    "1e400", "nan", "-inf", "0x10", "1,2",
)  # fmt: skip
# Names, among them those that are right for some flag.
TEXTS = (
    "", "none", "hic", "fp32", "digits", "textbook", "linear", "crop", "rotate",
    "fixed", "running", "ideal", "linear_noisy", "stem,head", "stem,", "hic_jax",
)  # fmt: skip
# What is typed after a flag of a kind, mostly.
WORDS = {
    "INTEGER": NUMBERS,
    "NUMBER": NUMBERS,
    "NAME": TEXTS,
    "TEXT": TEXTS,
    "PATH": TEXTS,
    "": ("true", "false", "maybe"),
}


@pytest.fixture(scope="module")
def defined_flags():
    """Names of the flags of a training."""
    before = set(flags.FLAGS)
    config_flags.define_flags()
    yield config_flags.flag_names()
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def placeholder(name: str) -> str:
    """What stands for the value of a flag in the help; nothing for a switch."""
    return getattr(flags.FLAGS[name].parser, "placeholder", "")


def parsed(words: list[str]) -> Config | None:
    """The configuration; None if it is refused."""

    def read():
        cli.parse(["train", *words])
        return config_flags.from_flags()

    with flagsaver.flagsaver():
        return accepted(read, words)


def accepted(function, words=()):
    """What a function returns; None if it refuses, clearly and by itself.

    A refusal names one of the flags in ``words``, with or without its prefix.
    """
    try:
        return function()
    except ValueError as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        assert raised_in.startswith(OURS), f"from {raised_in}: {error}"
        assert re.match(r"[\w, =.+-]+=.*: .*must ", str(error), re.DOTALL), str(error)
        given = {re.match(r"--(\w+)", word)[1] for word in words}
        names = [re.sub("^(pcm|binary|crossbar|hic)_", "", name) for name in given]
        assert not words or any(name in str(error) for name in names), str(error)
        return None


@settings(
    max_examples=200,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_any_flags_make_a_run_or_are_refused(defined_flags, data):
    # Most flags are numbers of the hardware: draw those of the recipe as often.
    recipe = st.sampled_from(config_flags.flag_names()[:24])
    names = st.lists(
        st.one_of(recipe, st.sampled_from(defined_flags)), min_size=1, max_size=3
    )
    words = [
        f"--{name}={data.draw(st.sampled_from(WORDS[placeholder(name)]))}"
        for name in data.draw(names)
    ]
    made = parsed(words)
    if made is None:
        event("flags refused")
        return
    # What is stored is what ran.
    assert Config.from_dict(json.loads(made.to_json())) == made
    # A network whose shapes alone would fill a page is asked for on purpose or not
    # at all; what it would take is not our subject.
    if made.train.width > 10 or made.train.dataset != "digits":
        event("not built")
        return
    experiment = accepted(lambda: Experiment.of(made))
    event("built" if experiment else "network refused")
    if experiment is not None:
        assert experiment.steps_per_epoch >= 1


# Every decade that a float64 has, and what is no number of an array's type.
EXTREMES = st.one_of(
    st.builds("{}{}e{}".format, st.sampled_from(["", "-"]), st.integers(1, 9),
              st.one_of(st.integers(-300, 300), st.integers(-9, 9))),
    st.builds("{}{}".format, st.sampled_from(["", "-"]),
              st.integers(0, 30).flatmap(lambda n: st.integers(0, 10**n))),
    st.sampled_from(["nan", "inf", "-inf", "1e400", "", " ", "1_0", "-0.0", "many"]),
)  # fmt: skip
KERNEL = 0.01 * np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)


@jax.jit
def scale_of_a_small_kernel(numbers: dict[str, float]) -> jax.Array:
    """`weight_scale` by the numbers that it takes of a spec: compiled once for all."""
    return weight_scale.__wrapped__(KERNEL, types.SimpleNamespace(**numbers))


def derived(made: Config) -> dict[str, jax.Array | float]:
    """Numbers that follow from a configuration, up to those of its oldest devices."""
    if made.spec is None:
        return _rates(made)
    spec, crossbar = made.spec, made.crossbar
    device = spec.multilevel
    tails = jnp.float32([-6.0, 0.0, 6.0])  # Draws of a million devices are within.
    g = jnp.float32([device.g_min, device.g_max])[:, None]
    devices = MultilevelState(
        g=g, pulses=jnp.zeros(3, jnp.uint8), z=drifting.packed_draws(tails)
    )
    oldest = jnp.float32(checks.SECONDS_MAX)
    names = ("full_scale", "w_max_sigmas", "reach", "write_error")
    numbers = {name: getattr(spec, name) for name in names}
    scale = scale_of_a_small_kernel(numbers)
    rates = _rates(made)
    return (
        rates
        | numbers
        | {
            "decay": made.analog.norm_decay * rates["analog_learning_rate"] ** 2,
            "mean_step": device.mean_step,
            "lsb": spec.lsb,
            "scale": scale,
            "LSBs of a unit": scale / spec.lsb,
            "reset": device.reset(devices, tails).g,
            "set": device.pulse(devices, tails).g,
            "drifted": device.conductance(devices, oldest),
            "read_std": device.read_std(g),
            "clock": jnp.float32(min(_steps(made), 1e4))
            * jnp.float32(spec.seconds_per_step),
            "adc": jnp.float32(crossbar.adc_bound) * jnp.float32(crossbar.dac_bound),
            "codes": (2**15 - 1) / jnp.float32(crossbar.dac_bound),
        }
    )


def _steps(made: Config) -> int:
    return min(14 * made.train.epochs, checks.INT32_MAX)


def _rates(made: Config) -> dict[str, jax.Array]:
    """Learning rates at the beginning, the middle and the end."""
    steps, recipe = _steps(made), made.recipe
    at = jnp.asarray([0, 1, steps // 2, steps - 1, steps], jnp.int32)
    highest = {"learning_rate": recipe.learning_rate}
    if made.analog:
        highest["analog_learning_rate"] = made.analog.learning_rate
    return {name: recipe.rates(rate, steps)(at) for name, rate in highest.items()}


def check_derived(made: Config, words: list[str]) -> None:
    """Fails unless all that follows from a configuration can be computed with."""
    numbers = derived(made)
    for name, value in numbers.items():
        assert np.isfinite(value).all(), (words, name, value)
    for name in ("mean_step", "full_scale", "lsb", "scale") if made.spec else ():
        assert numbers[name] > 0, (words, name)


def test_every_flag_at_the_ends_of_its_numbers(defined_flags):
    # Around where squares and numbers leave float64 and float32, up and down.
    ends = ("1e-300", "1e-160", "1e-46", "1e-39", "1e38", "1e39", "1e160", "1e300")
    # Whatever the value, HIC refuses a flag of others.
    names = sorted(used_flags("hic") & set(defined_flags))
    words = [f"--{name}={end}" for name in names for end in ends]
    words += [f"--{name}={'9' * n}" for name in names for n in (10, 19, 30)]
    for word in words:
        if (made := parsed([word])) is not None:
            check_derived(made, [word])


@settings(
    max_examples=400,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_any_number_is_refused_or_all_that_follows_is_finite(defined_flags, data):
    names = [n for n in defined_flags if placeholder(n)]
    chosen = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
    words = [f"--{name}={data.draw(EXTREMES)}" for name in data.draw(chosen)]
    made = parsed(words)
    event("refused" if made is None else "accepted")
    if made is not None:
        check_derived(made, words)


# Corners that are allowed, and that a step has to be possible in.
CORNERS = [
    "--width=0.05 --batch_size=1 --epochs=1",
    "--algorithm=fp32 --momentum=1 --warmup=1 --label_smoothing=1",
    "--hic_lsb_bits=2 --hic_update_bits=2 --hic_multilevel_bits=2",
    "--preset=ideal --nohic_stochastic_rounding --hic_refresh_every=0",
    "--hic_refresh_every=1 --nohic_track_wear",
    "--pcm_stuck_set=0.5 --pcm_stuck_reset=0.5 --binary_stuck_set=1",
    "--crossbar_dac_range=running --crossbar_adc_range=running --crossbar_adc_noise=1",
    "--crossbar_dac_bits=0 --crossbar_adc_bits=0 --crossbar_tile_rows=0",
    "--crossbar_dac_bits=2 --crossbar_adc_bits=2 --crossbar_tile_columns=3",
    "--digital_layers=stem,head,stage1_block1/conv1 --analog_momentum=0.9",
    "--schedule=staircase --analog_weight_decay=1 --noanalog_trust_ratio --shift=dim",
]


@pytest.mark.parametrize("words", CORNERS)
def test_a_step_can_be_traced_at_the_corners(defined_flags, words):
    experiment = Experiment.of(parsed([*words.split(), "--channel_plan=textbook"]))
    run = steps.make_runner(experiment.step(), experiment.augment_key, scan=True)

    def init(key):
        image_shape = experiment.dataset.image_shape
        variables = initial_variables(key, experiment.model, image_shape)
        return programmed(variables, experiment.tx)

    state = jax.eval_shape(init, experiment.init_key)
    train = jax.eval_shape(lambda: Split.of(experiment.dataset, "train"))
    two_batches = jax.eval_shape(lambda: experiment.epoch_order(0)[:2])
    after, metrics = jax.eval_shape(run, state, train, two_batches)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert metrics["loss"].shape == (2,)
