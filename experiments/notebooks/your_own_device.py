# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/)
#
# # Your own device, from measured trains of pulses
#
# Ramps of SET pulses in, a device out that networks train on: what
# `experiments.fit_device` does with your CSV files, step by step. The ramps here are
# simulated, so that what the fit finds can be held against the truth.

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

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

import hic_jax
from hic_jax import data, pcm
from hic_jax.fitting import choice, foretold, maximum
from hic_jax.fitting.trains import Trains

# %% tags=["parameters"]
FAST = os.environ.get("HIC_JAX_FAST") == "1"  # A short version, for tests.
STEPS = 40 if FAST else 400

# %% [markdown]
# ## What a laboratory would measure
#
# A device at a thousand microsiemens, whose steps shrink as it rises, read with noise:
# 20 ramps of 40 pulses.

# %%
truth = pcm.TableSpec(
    name="truth",
    source="this notebook",
    g_min=1000.0,
    g_max=1400.0,
    reset_mean=1010.0,
    reset_std=4.0,
    at=(1000.0, 1200.0, 1400.0),
    up_mean=(16.0, 7.0, 2.0),
    up_std=(5.0, 4.0, 3.0),
    read_offset=3.0,
)
RAMPS, PULSES = 20, 40
keys = jax.random.split(jax.random.key(0), PULSES + 1)
state = truth.init(keys[0], (RAMPS,))
state = truth.reset(state, jax.random.normal(keys[0], (RAMPS,)))
g = [state.g]
for key in keys[1:]:
    state = truth.pulse(state, jax.random.normal(key, (RAMPS,)))
    g.append(state.g)
read = np.random.default_rng(0).standard_normal((RAMPS, PULSES + 1))
ramps = Trains(
    g=np.stack(g, axis=1) + truth.read_offset * read,
    up=np.ones((RAMPS, PULSES), bool),
    device=np.zeros(RAMPS, int),
    from_reset=np.ones(RAMPS, bool),
)
plt.plot(ramps.g.T, color="0.6", linewidth=0.7)
plt.xlabel("SET pulses")
plt.ylabel("conductance (uS)")
# %% [markdown]
# ## The fit
#
# By maximum likelihood, to the first 70 % of the ramps; the rest judge it. Noise of
# reads and noise of pulses are told apart, because only the latter stays.

# %%
model = choice.models_for(ramps)["table"]
judged = choice.judged(model, ramps)
fit = maximum.fit(model, ramps, start=judged.fit)
for name, values in fit.constants.items():
    found = ", ".join(
        f"{value:.1f} +- {error:.1f}"
        for value, error in zip(
            np.ravel(values), np.ravel(fit.errors[name]), strict=True
        )
    )
    print(f"{name}: {found}")

# %%
device = fit.model.device("mine", "this notebook", fit.all_constants)
(band,) = foretold.bands(device, ramps, ramps)
pulses = np.arange(PULSES + 1)
plt.plot(pulses, ramps.g.T, color="0.6", linewidth=0.7)
plt.fill_between(pulses, band.low, band.high, alpha=0.3, label="95 % of fitted devices")
plt.plot(pulses, band.mean, label="their mean")
plt.xlabel("SET pulses")
plt.ylabel("conductance (uS)")
plt.legend()
print(f"{100 * band.holds(ramps.g).mean():.0f} % of all values lie in the band")

# %% [markdown]
# ## Training on it
#
# Thresholds in uS follow from the device: `suited_to` knows how far pulses lead.

# %%
spec = hic_jax.HICSpec.suited_to(device)
print(
    f"refresh above {spec.refresh_above:.0f} uS, {spec.refresh_pulses} pulses at most"
)

digits = data.load("digits")
x, y = digits.train_images.reshape(-1, 64) / 255, digits.train_labels
tx = optax.chain(optax.sgd(0.1), hic_jax.hic(spec, jax.random.key(1)))
params = {"kernel": 0.1 * jax.random.normal(jax.random.key(2), (64, 10))}
opt_state = tx.init(params)
params = hic_jax.read_params(params, hic_jax.analog_weights(opt_state))


def loss(params):
    logits = x @ params["kernel"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


@jax.jit
def step(params, opt_state):
    updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
    return optax.apply_updates(params, updates), opt_state


for _ in range(STEPS):
    params, opt_state = step(params, opt_state)
test = digits.test_images.reshape(-1, 64) / 255 @ params["kernel"]
print(f"{100 * np.mean(np.argmax(test, axis=1) == digits.test_labels):.0f} % are right")

# %% [markdown]
# `python -m experiments.fit_device --data=ramps.csv --unit=uS --out=mine.json` does the
# same with files and writes the device, which `experiments.train --device=mine.json`
# takes.
