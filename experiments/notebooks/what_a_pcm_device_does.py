# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/)
#
# # What a phase-change device does
#
# A multi-level device is SET step by step, non-linearly and with noise; it is RESET at
# one blow; it drifts, and no two reads of it agree. The model is that of Nandakumar et
# al., *A phase-change memory model for neuromorphic computing*, J. Appl. Phys. 124,
# 152135 (2018); every curve below calls the functions that training calls. Where the
# notebook runs there are sliders to move; as it is stored, each curve is drawn once.

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
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from ipywidgets import FloatLogSlider, FloatSlider, IntSlider, interact

from hic_jax import DAY, HOUR, YEAR, HICSpec, pcm
from hic_jax.pcm import accumulator, binary, pair, writing

# %% tags=["parameters"]
FAST = os.environ.get("HIC_JAX_FAST") == "1"  # A short version, for tests.
DEVICES = 2_000 if FAST else 20_000
SPEC = pcm.nandakumar_2018(drift_nu_std=0.008)


# %%
def sliders(draw, **controls):
    """Draws again whenever a slider moves; once, where there is nobody to move it."""
    if FAST or os.environ.get("HIC_JAX_STATIC") == "1":
        draw()
    else:
        interact(draw, **controls)


# %% [markdown]
# ## SET pulses
#
# Every pulse crystallises a little more. The step has mean
# $m_1 G + c_1 + A_1 P$ and standard deviation $m_2 G + c_2 + A_2 P$, where the
# programming memory $P = e^{-n / 2.6}$ fades with the pulses since the last RESET: the
# first steps are large and uncertain, and above 10 µS hardly anything is gained.


# %%
@jax.jit
def conductances(key, pulses):
    """(pulses + 1, DEVICES) conductances in uS, from RESET on."""

    def fire(state, normal):
        state = SPEC.pulse(state, normal)
        return state, state.g

    normal = jax.random.normal(key, (pulses.shape[0] + 1, DEVICES))
    fresh = SPEC.reset(SPEC.init(jax.random.key(1), (DEVICES,)), normal[0])
    return jnp.vstack([fresh.g, jax.lax.scan(fire, fresh, normal[1:])[1]])


def draw_set(pulses=20):
    g = np.asarray(conductances(jax.random.key(0), jnp.zeros(pulses)))
    count = np.arange(pulses + 1)
    _, (curve, spread) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    curve.plot(count, g[:, :8], color="#999999", linewidth=0.8)
    curve.plot(count, g.mean(axis=1), linewidth=2.5)
    curve.set(xlabel="SET pulses", ylabel="conductance (µS)", title="mean, 8 devices")
    spread.hist(g[-1], bins=80)
    spread.set(
        xlabel="conductance (µS)", ylabel="devices",
        title=f"after {pulses}: {g[-1].mean():.2f} ± {g[-1].std():.2f} µS",
    )  # fmt: skip
    plt.show()


sliders(draw_set, pulses=IntSlider(20, 1, 40))

# %% [markdown]
# ## Drift
#
# $G(t) = G (t / t_0)^{-\nu}$ with $t_0$ = 38.6 s and $\nu$ = 0.04. The published model
# has one exponent; here devices differ in it (standard deviation 0.008, which others
# measured), and that is what no compensation can undo.


# %%
def draw_drift(years=1.0, spread=0.008):
    spec = pcm.nandakumar_2018(drift_nu_std=spread)
    age = np.geomspace(38.6, years * YEAR, 60)
    devices = spec.init(jax.random.key(1), (40,))
    devices = devices.replace(g=jnp.full(40, 8.0))
    g = spec.conductance(devices, age[:, None])
    _, axes = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    axes.semilogx(age, g, color="#0b6e8f", alpha=0.3, linewidth=0.8)
    axes.set(xlabel="seconds since the write", ylabel="conductance (µS)", ylim=(0, 8.5))
    axes.set_xticks([60, HOUR, DAY, YEAR], ["1 min", "1 hour", "1 day", "1 year"])
    axes.set_title(f"40 devices at 8 µS; spread of the exponent {spread:g}")
    plt.show()


sliders(
    draw_drift,
    years=FloatLogSlider(1.0, min=-3, max=1),
    spread=FloatSlider(0.008, min=0.0, max=0.03, step=0.002, readout_format=".3f"),
)
# %% [markdown]
# ## Reading
#
# Two reads of a device differ by a Gaussian of standard deviation 0.03 G + 0.13 µS. A
# weight is a pair: the noise of both devices counts, even where their difference is
# small.

# %%
g = np.linspace(0, 10, 50)
figure, axes = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
axes.plot(g, SPEC.read_std(g), label="one device")
axes.plot(g, np.sqrt(2) * SPEC.read_std(g), label="a pair, both at G")
axes.set(xlabel="conductance G (µS)", ylabel="read noise (µS)", ylim=(0, None))
_ = axes.legend()

# %% [markdown]
# ## A pair, and its refresh
#
# Weights go up by SETs on G+, down by SETs on G−; nothing is ever decremented, so both
# creep up until a refresh reads them, RESETs both and writes the difference back. Here
# pairs get random steps, and then those are refreshed that are due.


# %%
RULE = HICSpec()


def draw_refresh(steps=12, verify=True):
    make_key, step_key, refresh_key = jax.random.split(jax.random.key(2), 3)
    state = pair.init(make_key, (DEVICES,), SPEC, track_wear=True)
    time = jnp.float32(0.0)
    for i in range(steps):
        key, sign_key = jax.random.split(jax.random.fold_in(step_key, i))
        sign = jax.random.rademacher(sign_key, (DEVICES,), jnp.int32)
        state, _ = pair.set_pulses(key, state, sign, time, SPEC)
    due = RULE.refresh_due(None, state, time)
    fresh, _ = writing.refresh(
        refresh_key, state, due, time, SPEC, max_pulses=20, verify=verify
    )
    figure, (before, after) = plt.subplots(
        1, 2, figsize=(8, 3.8), sharex=True, sharey=True, layout="constrained"
    )
    for axes, pairs, title in ((before, state, "before"), (after, fresh, "after")):
        axes.plot(*pairs.g[:, :1500], ".", markersize=2)
        axes.set(xlabel="G+ (µS)", ylabel="G− (µS)", title=title, aspect="equal")
    change = (fresh.g[0] - fresh.g[1]) - (state.g[0] - state.g[1])
    figure.suptitle(f"{due.mean():.0%} refreshed, error {change[due].std():.2f} µS")
    plt.show()


sliders(draw_refresh, steps=IntSlider(12, 2, 30), verify=True)
# %% [markdown]
# ## The word below: binary cells
#
# Updates are far smaller than a pulse. They add up in a word of 7 binary cells, and
# only cells whose bit changes are written; a carry out of the word becomes a SET pulse.
# The low bits work hardest.

# %%
bits, words = 7, 500
spec = pcm.BinarySpec()
cells, word = binary.init(jax.random.key(3), (words,), bits, spec, counter_bits=16)
for i in range(60):
    update = jax.random.randint(jax.random.key(10 + i), (words,), -9, 10)
    new, carry = accumulator.accumulate(word, update, bits, steps=RULE.word_steps)
    cells, word = binary.write(cells, word, new, bits)
sets, resets = binary.wear(cells, word, bits)
figure, axes = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
plane = np.arange(bits)
axes.bar(plane - 0.2, np.mean(sets, axis=1), 0.4, label="SETs")
axes.bar(plane + 0.2, np.mean(resets, axis=1), 0.4, label="RESETs")
axes.set(xlabel="bit (0 is the lowest)", ylabel="pulses per cell after 60 updates")
_ = axes.legend()
