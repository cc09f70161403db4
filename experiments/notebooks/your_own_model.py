# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/)
#
# # Your own flax model on phase-change memory
#
# The hardware comes as three things that fit into what you have: an optax
# transformation that holds weights (`hic_jax.hic`), products that go through arrays
# and converters (`hic_jax.crossbar`), and functions of the resulting state (`read`,
# `drift`, `endurance`). The model stays as it is. First in Linen, then in nnx.

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

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from flax import nnx

import hic_jax
from hic_jax import crossbar, data, pcm

# %% tags=["parameters"]
FAST = os.environ.get("HIC_JAX_FAST") == "1"  # A short version, for tests.
STEPS = 60 if FAST else 400

# %%
digits = data.load("digits")
x = jnp.asarray(digits.train_images.reshape(-1, 64) / 255)
test_x = jnp.asarray(digits.test_images.reshape(-1, 64) / 255)
y, test_y = jnp.asarray(digits.train_labels), jnp.asarray(digits.test_labels)

# %% [markdown]
# ## The model
#
# Anything in flax. To compute it by crossbars, give its layers their products: inputs
# pass an 8-bit DAC, the sums of every 256x256 tile an 8-bit ADC, errors likewise on the
# way back.

# %%
products = crossbar.dot_general(crossbar.CrossbarSpec(dac_bits=8, adc_bits=8))
model = nn.Sequential(
    [nn.Dense(64, dot_general=products), nn.relu, nn.Dense(10, dot_general=products)]
)
params = model.init(jax.random.key(0), x)


def loss(params):
    logits = model.apply(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def accuracy(params):
    return float((model.apply(params, test_x).argmax(-1) == test_y).mean())


# %% [markdown]
# ## The optimizer
#
# `hic_jax.hic` goes last in the chain of what is to be analog, and `analog_labels` says
# what that is: kernels, neither biases nor scales nor embeddings. Everything about the
# hardware is in one frozen `HICSpec`.

# %%
spec = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))
tx = optax.partition(
    {
        "analog": optax.chain(optax.sgd(0.5), hic_jax.hic(spec, key=1)),
        "digital": optax.sgd(0.5),
    },
    hic_jax.analog_labels,
)
state = tx.init(params)


@jax.jit
def step(params, state):
    value, grads = jax.value_and_grad(loss)(params)
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state, value


losses = []
for _ in range(STEPS):
    params, state, value = step(params, state)
    losses.append(float(value))

figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
axes.semilogy(losses)
axes.set(xlabel="step", ylabel="training loss")
print(f"test accuracy {accuracy(params):.3f}")

# %% [markdown]
# ## Later
#
# `drift` is a pure function of the devices: it never changes its argument, jits, and
# vmaps over times. A key makes it another chip, with drift exponents of its own.

# %%
weights = hic_jax.analog_weights(state)
times = jnp.geomspace(25.0, hic_jax.YEAR, 12)


@jax.jit
@jax.vmap
def accuracy_at(seconds):
    aged = hic_jax.drift(weights, seconds, key=jax.random.key(2))
    later = hic_jax.read_params(params, aged, key=jax.random.key(3))
    return jnp.mean(model.apply(later, test_x).argmax(-1) == test_y)


figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
axes.semilogx(times, 100 * accuracy_at(times), "o-")
_ = axes.set(xlabel="seconds after training", ylabel="test accuracy (%)", ylim=(0, 100))
# %%
size = hic_jax.model_size(weights, params)
wear = hic_jax.endurance(weights)["multilevel"]
print(f"inference model: {size['inference_bits'] / size['fp32_bits']:.2f} of FP32")
print(f"write-erase cycles of the most worn device: {wear['max']}")

# %% [markdown]
# ## The same in nnx

# %%
rngs = nnx.Rngs(0)
network = nnx.Sequential(
    nnx.Linear(64, 64, dot_general=products, rngs=rngs),
    nnx.relu,
    nnx.Linear(64, 10, dot_general=products, rngs=rngs),
)
optimizer = nnx.Optimizer(network, tx, wrt=nnx.Param)


@nnx.jit
def nnx_step(network, optimizer):
    def loss(network):
        return optax.softmax_cross_entropy_with_integer_labels(network(x), y).mean()

    optimizer.update(network, nnx.grad(loss)(network))


for _ in range(STEPS):
    nnx_step(network, optimizer)
print(f"test accuracy {float((network(test_x).argmax(-1) == test_y).mean()):.3f}")

# %% [markdown]
# Forty lines each, in `experiments/examples/`: a perceptron, two convolutional networks
# and a transformer block.
