"""Plans of steps of large networks: what one device holds, and what devices send."""

import json

import jax
import pytest
from absl import flags

from experiments import launch as launching
from experiments.benchmark import at_size
from experiments.benchmark.large_networks import NETWORKS, ResNet50, gpt, images
from hic_jax.crossbar import LayerCrossbars
from hic_jax.inference.network import Network, answers
from tests import virtual_devices
from tests.experiments import shown

DEVICES, BATCH = 8, 8
# Eight devices do not share 41 outputs, so they share the head's 16 inputs.
TINY = gpt(context=8, layers=1, heads=2, features=16, tokens=41)
# Kernels of 16 x 16 (query, key, value, out), 16 x 64 twice, and the head's.
WEIGHTS = 4 * 16 * 16 + 2 * 16 * 64 + 16 * 41
TABLES = (8 + 41) * 16


def _step(algorithm, devices):
    step = at_size.Step(TINY, algorithm, devices, BATCH, converters=True)
    return {"state": step.state_bytes(), "weights": step.weights(), **step.planned()}


def _steps():
    return {
        algorithm: {devices: _step(algorithm, devices) for devices in (1, DEVICES)}
        for algorithm in ("fp32", "hic")
    }


def _sent_by_answers():
    """What the answers to a batch send, of weights in shards."""
    model = TINY.make(LayerCrossbars())
    state, examples, _, key = at_size.Step(
        TINY, "hic", DEVICES, BATCH, converters=False
    ).arguments

    def correct(key, state, examples):
        network = Network.of(state)
        return answers(key, model, network, examples, batch_size=BATCH).correct

    compiled = jax.jit(correct).lower(key, state, examples).compile()
    return at_size.collectives(compiled)


def _all():
    return {**_steps(), "answers": _sent_by_answers()}


@pytest.fixture(scope="module")
def planned():
    """What is planned where there are eight devices."""
    return virtual_devices.call(__file__, "_all", devices=DEVICES)


def test_a_device_holds_its_share_of_parameters_and_state(planned):
    hic = planned["hic"]
    one, eight = (hic[str(devices)]["state"] for devices in (1, DEVICES))
    # Of parameters and devices, 4 and 34 bytes a weight and more, an eighth is left.
    assert hic["1"]["weights"] == WEIGHTS
    assert one - eight > 7 / 8 * 38 * WEIGHTS
    assert hic["8"]["memory"] < hic["1"]["memory"]
    # Without devices each has a copy of all.
    fp32 = planned["fp32"]
    assert fp32["1"]["state"] == fp32["8"]["state"]


def test_parameters_are_sent_and_no_devices(planned):
    assert planned["hic"]["1"]["sent"] == planned["fp32"]["1"]["sent"] == {}
    # Gradients are summed over the batch.
    assert planned["fp32"]["8"]["sent"]["all-reduce f32"] >= 4 * WEIGHTS
    sent = planned["hic"]["8"]["sent"]
    kinds = {name.split()[1] for name in sent}
    assert kinds <= {"f32", "s32", "pred"}  # Not f16, u8, u16, as devices are.
    # Each kernel and table is gathered once, and no activation is.
    assert sent["all-gather f32"] == 4 * (WEIGHTS + TABLES)
    assert {name.split()[0] for name in sent} == {"all-gather", "all-reduce"}


def test_answers_send_no_activations(planned):
    sent = planned["answers"]
    assert any(name == "all-gather" for name, _, _ in sent)
    # Where the head's inputs are cut, sums of its products would be added up.
    assert {kind for name, kind, _ in sent if name == "all-reduce"} == {"s32"}


@pytest.fixture
def launch(monkeypatch, tmp_path):
    """Starts the launcher on a small network, and returns what it wrote and showed."""
    monkeypatch.setitem(NETWORKS, "gpt_124m", TINY)
    before, parts = set(flags.FLAGS), []
    monkeypatch.setattr(at_size.terminal, "show", lambda *shown: parts.extend(shown))

    def launch(*words):
        at_size.define_flags()
        try:
            argv = launching.parse(["at_size", *words, f"--json={tmp_path / 'a.json'}"])
            launching.told(at_size.main, argv)
        finally:
            for name in set(flags.FLAGS) - before:
                delattr(flags.FLAGS, name)
        return json.loads((tmp_path / "a.json").read_text()), parts[0]

    return launch


def test_steps_are_planned_lowered_and_run(launch):
    result, table = launch("--networks=gpt_124m", "--devices=1", "--steps=2")
    fp32, hic = result["steps"]
    assert [row["algorithm"] for row in (fp32, hic)] == ["fp32", "hic"]
    for row in (fp32, hic):
        assert row["batch_size"] == 8
        assert row["memory"] > row["state"] > 4 * WEIGHTS
        assert min(row["lowered"]["cuda"], row["lowered"]["tpu"]) > 1000
        assert len(row["seconds"]) == 2
    assert hic["state"] > fp32["state"]
    assert result["command"].startswith("python -m experiments.benchmark.at_size")
    cells = shown.cells(table)
    assert [row[:4] for row in cells] == [
        ("gpt_124m", "fp32", "1", "8"),
        ("gpt_124m", "hic", "1", "8"),
    ]
    assert cells[0][8] == "cuda, tpu"


def test_one_device_takes_shards_one_after_the_other(launch):
    words = ["--networks=gpt_124m", "--algorithms=hic", "--devices=1"]
    (whole,), (parts,) = (
        launch(*words, f"--state_shards={shards}")[0]["steps"] for shards in (0, 16)
    )
    assert (whole["state_shards"], parts["state_shards"]) == (0, 16)
    assert parts["state"] == pytest.approx(whole["state"], rel=1e-3)
    assert parts["memory"] < whole["memory"]
    assert parts["sent"] == {}


def test_bad_requests_are_refused_before_anything_is_built(launch, capsys, monkeypatch):
    for name in ("TPU_SKIP_MDS_QUERY", "TPU_ACCELERATOR_TYPE"):
        monkeypatch.setenv(name, "1")  # Which then stay as they were.
    for words, message in (
        (["--networks=gpt2"], "must be one of resnet32, gpt_124m, resnet50"),
        (["--devices=0"], "must be an integer, 1 to 1024"),
        (
            ["--networks=gpt_124m", "--devices=1", "--batch_size=0"],
            "must be an integer, 1 to",
        ),
        (
            ["--devices=1", "--tpu=v5e:2x4", "--steps=1"],
            "steps=1: must be 0",
        ),
        (["--devices=1", "--tpu=v0:1"], "tpu=v0:1: must be a topology that the pack"),
    ):
        with pytest.raises(SystemExit) as error:
            launch(*words)
        assert message in f"{error.value}{capsys.readouterr().err}"
    with pytest.raises(ValueError, match="devices=3: must divide batch_size=8"):
        at_size.Step(TINY, "hic", 3, BATCH, converters=False)
    with pytest.raises(ValueError, match="devices=4: must divide state_shards=6"):
        at_size.Step(TINY, "hic", 4, BATCH, converters=False, state_shards=6)


def test_the_networks_have_the_weights_of_their_names():
    sizes = {
        name: at_size.Step(network, "fp32", 1, 1, converters=False).weights()
        for name, network in NETWORKS.items()
    }
    # Of GPT-2 with a head of its own: 12 blocks of 12 x 768^2, and 768 x 50,257. Of a
    # ResNet-50, whose biases and norms are not on devices: He et al. (2016).
    assert sizes["gpt_124m"] == 12 * 12 * 768**2 + 768 * 50_257
    assert sizes["resnet50"] == 25_502_912
    # Stem and head, and of each stage its first convolution, the rest, a projection.
    assert sizes["resnet32"] == 9 * 3 * 16 + 560 + sum(
        9 * before * c + 9 * 9 * c * c + (before * c if before != c else 0)
        for before, c in ((16, 16), (16, 28), (28, 56))
    )
    assert ResNet50(LayerCrossbars()).blocks == (3, 4, 6, 3)
    assert images(224, 2).images.shape == (2, 224, 224, 3)
