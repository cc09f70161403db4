# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/)
#
# # Read a sweep
#
# Does HIC beat FP32 at the same inference model size? A sweep trains both at several
# widths; this notebook makes a small one on handwritten digits, reads the run folders,
# and draws accuracy against size. Point `RUNS` at a sweep of your own to read that, of
# algorithms, widths and seeds: runs that differ in anything else must not be averaged.
# (The report below keeps them apart.)

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
import json
import os
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

from experiments.config import resolve
from experiments.report.__main__ import report
from experiments.setup import Experiment
from experiments.train import train

# %% tags=["parameters"]
FAST = os.environ.get("HIC_JAX_FAST") == "1"  # A short version, for tests.
RUNS = Path(os.environ.get("HIC_JAX_RUNS") or tempfile.mkdtemp())
WIDTHS = (0.25,) if FAST else (0.25, 0.5, 1.0)
SEEDS = 1 if FAST else 2
EPOCHS = 1 if FAST else 10

# %% [markdown]
# ## Runs
#
# The same runs as of `python -m experiments.sweep --workdir=RUNS --algorithms=fp32,hic
# --widths=0.25,0.5,1 --seeds=2 --epochs=10`. If there are any, none are made.

# %%
if not any(RUNS.glob("*/summary.json")):
    for algorithm in ("fp32", "hic"):
        for width in WIDTHS:
            for seed in range(SEEDS):
                fields = {"width": width, "seed": seed, "epochs": EPOCHS}
                config = resolve(algorithm=algorithm, **fields)
                folder = RUNS / f"{algorithm}-width{width:g}-seed{seed}"
                train(Experiment.of(config), str(folder))

# %% [markdown]
# ## What a run folder holds

# %%
runs = []
for path in sorted(RUNS.glob("*/summary.json")):
    config = json.loads((path.parent / "config.json").read_text())["train"]
    runs.append(config | json.loads(path.read_text()))

print(f"{'':5} {'width':>5} {'seed':>4} {'accuracy':>9} {'size':>8} {'cycles':>7}")
for run in runs:
    wear = run["write_erase_cycles"]
    cycles = wear["multilevel"]["max"] if wear else "-"
    print(
        f"{run['algorithm']:5} {run['width']:5g} {run['seed']:4} "
        f"{100 * run['test_accuracy']:7.1f} % {run['inference_bits'] / 8000:5.1f} kB "
        f"{cycles:>7}"
    )

# %% [markdown]
# ## Accuracy against inference model size

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
for algorithm, marker in (("fp32", "s"), ("hic", "o")):
    mine = [run for run in runs if run["algorithm"] == algorithm]
    widths = sorted({run["width"] for run in mine})
    size = [
        next(r["inference_bits"] / 8000 for r in mine if r["width"] == width)
        for width in widths
    ]
    accuracies = [
        [100 * r["test_accuracy"] for r in mine if r["width"] == width]
        for width in widths
    ]
    means = [np.mean(values) for values in accuracies]
    # The standard deviation of a seed; one alone tells nothing of it.
    spread = [np.std(v, ddof=1) if len(v) > 1 else 0 for v in accuracies]
    axes.errorbar(
        size, means, spread, marker=marker, capsize=3, label=algorithm.upper()
    )
axes.set(
    xscale="log", xlabel="inference model size (kB)", ylabel="test accuracy (%)"
)  # fmt: skip
_ = axes.legend()
# %% [markdown]
# ## The report
#
# `python -m experiments.report RUNS --out=DIR` makes a page of this: the four claims of
# the paper with a verdict each, and what the data is too thin to tell.

# %%
page = report([str(RUNS)], str(RUNS / "report"))
figures = sorted(page.parent.rglob("*size*.png"))
Image(figures[0])
