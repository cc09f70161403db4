"""A perceptron under Adam on PCM whose words begin at zero, or at random.

python experiments/results/initial_words/adam.py
"""

import flax.linen as nn
import jax
import numpy as np
import optax

import hic_jax
from hic_jax import data, pcm

STEPS, SEEDS, RATE = 250, 5, 2e-3

digits = data.load("digits")
x, y = digits.train_images.reshape(-1, 64) / 255, digits.train_labels
test_x, test_y = digits.test_images.reshape(-1, 64) / 255, digits.test_labels
model = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])


def loss(params):
    """Mean cross-entropy of the training images."""
    logits = model.apply(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train(seed, hardware):
    """Losses, the SET pulses of every step, and test accuracy; digital without."""
    analog = optax.chain(optax.adam(RATE), hardware or optax.identity())
    tx = optax.partition(
        {"analog": analog, "digital": optax.adam(RATE)}, hic_jax.analog_labels
    )

    @jax.jit
    def step(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    params = model.init(jax.random.key(seed), x)
    state, losses, pulses = tx.init(params), [], []
    for _ in range(STEPS):
        params, state, value = step(params, state)
        events = optax.tree.get(state, "events")
        losses.append(float(value))
        pulses.append(float(events.set_pulses) if events else 0.0)
    accuracy = np.mean(model.apply(params, test_x).argmax(-1) == test_y)
    return (
        losses[49],
        losses[-1],
        100 * accuracy,
        max(pulses),
        pulses.index(next((p for p in pulses if p), 0)),
    )


def main():
    """Prints a line for each device and kind of words, with means over seeds."""
    print(f"{'':26}loss at 50  at {STEPS}  test accuracy  most pulses  first at step")
    rows = {"digital": lambda seed: None}
    for device in (pcm.ideal(), pcm.nandakumar_2018(drift_nu_std=0.008)):
        for words in ("zero", "uniform"):
            spec = hic_jax.HICSpec(multilevel=device, initial_words=words)
            rows[f"{device.name}, {words}"] = lambda seed, s=spec: hic_jax.hic(s, seed)
    for name, hardware in rows.items():
        found = np.array([train(seed, hardware(seed)) for seed in range(SEEDS)])
        one, two, accuracy, most, first = found.mean(axis=0)
        spread = found[:, 2].std(ddof=1)
        devices = f"{most:11.0f}{first:14.0f}" if name != "digital" else ""
        print(
            f"{name:26}{one:10.2f}{two:8.3f}{accuracy:9.1f} +- {spread:.1f} %{devices}"
        )


if __name__ == "__main__":
    main()
