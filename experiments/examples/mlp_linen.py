"""A perceptron (Linen) on crossbars of PCM: train it, age it by a year."""

import flax.linen as nn
import jax
import optax

import hic_jax
from hic_jax import crossbar, data, pcm

digits = data.load("digits")
x, y = digits.train_images.reshape(-1, 64) / 255, digits.train_labels
test_x, test_y = digits.test_images.reshape(-1, 64) / 255, digits.test_labels
dot = crossbar.dot_general(crossbar.CrossbarSpec())
model = nn.Sequential(
    [nn.Dense(64, dot_general=dot), nn.relu, nn.Dense(10, dot_general=dot)]
)
spec = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))
analog = optax.chain(optax.sgd(0.3), hic_jax.hic(spec, key=1))
parts = {"analog": analog, "digital": optax.sgd(0.3)}
tx = optax.partition(parts, hic_jax.analog_labels)


@jax.jit
def step(params, state):
    def loss(params):
        logits = model.apply(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


params = model.init(jax.random.key(0), x)
state = tx.init(params)
for _ in range(300):
    params, state = step(params, state)
aged = hic_jax.drift(hic_jax.analog_weights(state), seconds=hic_jax.YEAR)
for p in (params, hic_jax.read_params(params, aged)):
    print(f"accuracy {(model.apply(p, test_x).argmax(-1) == test_y).mean():.3f}")
