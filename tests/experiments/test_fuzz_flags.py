"""Any words on the command line: a run that can be traced, or one clear message."""

import re
import traceback
from pathlib import Path

import chex
import jax
import pytest
from absl import flags
from absl.testing import flagsaver
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import hic_jax
from experiments import config
from experiments.config import Config
from experiments.setup import Experiment
from hic_jax.training import steps
from hic_jax.training.arrays import Arrays
from hic_jax.training.state import initial_variables, programmed

OURS = tuple(
    str(Path(module.__file__).parent) for module in (hic_jax, config)
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
    "int": NUMBERS,
    "float": NUMBERS,
    "string": TEXTS,
    "bool": ("true", "false", "maybe"),
}


@pytest.fixture(scope="module")
def defined_flags():
    """Names of the flags of a training."""
    before = set(flags.FLAGS)
    config.define_flags()
    yield config.flag_names()
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def parsed(words: list[str]) -> Config | None:
    """The configuration; None if it is refused."""
    with flagsaver.flagsaver():
        try:
            flags.FLAGS(["train", *words])
        except flags.Error as error:
            assert re.search(r"flag --\w+=", str(error)), str(error)
            return None
        return accepted(config.from_flags)


def accepted(function):
    """What a function returns; None if it refuses, clearly and by itself."""
    try:
        return function()
    except ValueError as error:
        raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
        assert raised_in.startswith(OURS), f"from {raised_in}: {error}"
        assert re.match(r"[\w -]+=.*: .+", str(error), re.DOTALL), str(error)
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
    recipe = st.sampled_from(config.flag_names()[:24])
    names = st.lists(
        st.one_of(recipe, st.sampled_from(defined_flags)), min_size=1, max_size=3
    )
    words = [
        f"--{name}={data.draw(st.sampled_from(WORDS[flags.FLAGS[name].flag_type()]))}"
        for name in data.draw(names)
    ]
    made = parsed(words)
    if made is None:
        event("flags refused")
        return
    # What is stored is what ran.
    assert Config.from_json(made.to_json()) == made
    # A network whose shapes alone would fill a page is asked for on purpose or not
    # at all; what it would take is not our subject.
    if made.train.width > 10 or made.train.dataset != "digits":
        event("not built")
        return
    experiment = accepted(lambda: Experiment.of(made))
    event("built" if experiment else "network refused")
    if experiment is not None:
        assert experiment.steps_per_epoch >= 1


# Corners that are allowed, and that a step has to be possible in.
CORNERS = [
    "--width=0.05 --batch_size=1 --epochs=1",
    "--algorithm=fp32 --momentum=1 --warmup=1 --label_smoothing=1",
    "--lsb_bits=2 --update_bits=2 --multilevel_bits=2 --refresh_every=1",
    "--preset=ideal --nostochastic_rounding --refresh_every=0 --notrack_wear",
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
    run = steps.make_runner(experiment.step(), scan=True)

    def init(key):
        image_shape = experiment.dataset.image_shape
        variables = initial_variables(key, experiment.model, image_shape)
        return programmed(variables, experiment.tx)

    state = jax.eval_shape(init, experiment.init_key)
    train = jax.eval_shape(lambda: Arrays.of(experiment.dataset, "train"))
    two_batches = jax.eval_shape(lambda: experiment.epoch_order(0)[:2])
    after, metrics = jax.eval_shape(run, state, train, two_batches)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert metrics["loss"].shape == (2,)
