# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/)
#
# # Quick start: train on phase-change memory, age it by a year
#
# A ResNet-8 learns handwritten digits twice: in floating point (FP32), and with every
# weight held by simulated phase-change memory (HIC). Then a year passes. You will see
# what that does to accuracy, what AdaBS brings back, how small the inference model is,
# and how much of their life the devices have used up. Two minutes on two cores.

# %%
# Where the project is not installed, this installs it: from the checkout that the
# notebook is in, or, as on Colab, from the address of the repository.
import importlib.util
from pathlib import Path

REPOSITORY = ""
if importlib.util.find_spec("hic_jax") is None:
    here = Path.cwd()
    checkouts = [p for p in (here, *here.parents) if (p / "hic_jax/pcm").is_dir()]
    assert checkouts or REPOSITORY, "REPOSITORY: must be the address of its repository"
    source = checkouts[0].as_uri() if checkouts else f"git+{REPOSITORY}"
    get_ipython().run_line_magic("pip", f"install -q 'hic-jax[experiments] @ {source}'")

# %%
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

import hic_jax
from experiments import plots
from experiments.config import resolve
from experiments.drift import read_over_time
from experiments.setup import Experiment
from experiments.train import train
from hic_jax.inference import Reading

# %% tags=["parameters"]
FAST = os.environ.get("HIC_JAX_FAST") == "1"  # A short version, for tests.
EPOCHS = 1 if FAST else 30
WIDTH = 0.25 if FAST else 1.0
CHIPS = 1 if FAST else 5
RUNS = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Train both
#
# What `python -m experiments.train` does. A run leaves a folder: configuration,
# metrics, checkpoints, pictures and a summary.

# %%
experiments, summaries = {}, {}
for algorithm in ("fp32", "hic"):
    config = resolve(algorithm=algorithm, epochs=EPOCHS, width=WIDTH)
    experiments[algorithm] = Experiment.of(config)
    summaries[algorithm] = train(experiments[algorithm], str(RUNS / algorithm))

# %%
for algorithm, summary in summaries.items():
    print(
        f"{algorithm:>5}: {100 * summary['test_accuracy']:.1f} % of the test images, "
        f"inference model {summary['inference_bits'] / 8000:.0f} kB, "
        f"weights in training {summary['training_bits'] / 8000:.0f} kB"
    )

# %% [markdown]
# ## Let a year pass
#
# The conductance of a device drifts as $(t / t_0)^{-\nu}$, each with an exponent of its
# own. Without compensation the network forgets within hours: BatchNorm normalises by
# statistics that no longer hold. AdaBS estimates them anew from 1,430 training images.

# %%
reading = Reading(
    times=[25.0, hic_jax.HOUR, hic_jax.DAY, hic_jax.MONTH, hic_jax.YEAR],
    chips=CHIPS,
    compensations=["none", "adabs"],
)
rows = read_over_time(experiments["hic"], str(RUNS / "hic"), reading)
plots.accuracy_over_time(
    RUNS / "a_year.png",
    rows,
    classes=experiments["hic"].dataset.num_classes,
    fp32=summaries["fp32"]["test_accuracy"],
)
Image(RUNS / "a_year.png")

# %% [markdown]
# ## Wear
#
# A write-erase cycle is a SET and a RESET. Product-class cells endure about $10^9$.

# %%
wear = summaries["hic"]["write_erase_cycles"]
for kind in ("multilevel", "binary"):
    used = wear[kind]
    print(
        f"{kind:>10}: the most worn device has seen {used['max']} cycles, one in "
        f"{used['endurance_cycles'] / used['max']:,.0f} that it endures"
    )

# %% [markdown]
# ## The weights themselves
#
# `hic_jax.analog_weights` finds the devices in the optimizer state, wherever they are.

# %%
from experiments.runs.run_folder import RunFolder

folder = RunFolder.read(str(RUNS / "hic"))
state = folder.restore(experiments["hic"].init_state())
weights = hic_jax.analog_weights(state.opt_state)
g_plus, g_minus = weights["stage3_block1"]["conv2"]["kernel"].multilevel.g

figure, (pairs, difference) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
pairs.plot(np.ravel(g_plus), np.ravel(g_minus), ".", markersize=2)
pairs.set(xlabel="G+ (µS)", ylabel="G− (µS)", title="pairs of devices", aspect="equal")
difference.hist(np.ravel(g_plus - g_minus), bins=60)
_ = difference.set(xlabel="G+ − G− (µS)", ylabel="weights", title="what they hold")

# %% [markdown]
# Next: `your_own_model` puts the same hardware under a flax model of yours,
# `what_a_pcm_device_does` looks at a single device, `read_a_sweep` compares widths.
