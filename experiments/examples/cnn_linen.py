"""A convolutional network (Linen) on crossbars of PCM: train it, age it by a year."""

import flax.linen as nn
import jax
import optax

import hic_jax
from hic_jax import crossbar, data, pcm

digits = data.load("digits")
x, y = digits.train_images / 255, digits.train_labels
test_x, test_y = digits.test_images / 255, digits.test_labels
dot = crossbar.dot_general(crossbar.CrossbarSpec())
conv = crossbar.conv_general_dilated(crossbar.CrossbarSpec())
model = nn.Sequential([
    nn.Conv(16, (3, 3), conv_general_dilated=conv), nn.relu,
    nn.Conv(32, (3, 3), strides=2, conv_general_dilated=conv), nn.relu,
    lambda x: x.reshape(len(x), -1), nn.Dense(10, dot_general=dot),
])  # fmt: skip
spec = hic_jax.HICSpec(multilevel=pcm.nandakumar_2018(drift_nu_std=0.008))
analog = optax.chain(optax.sgd(0.2), hic_jax.hic(spec, key=1))
parts = {"analog": analog, "digital": optax.sgd(0.2)}
tx = optax.partition(parts, hic_jax.analog_labels)


def loss(params):
    logits = model.apply(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


params = model.init(jax.random.key(0), x)
state = tx.init(params)
update, gradient = jax.jit(tx.update), jax.jit(jax.grad(loss))
for _ in range(150):
    updates, state = update(gradient(params), state, params)
    params = optax.apply_updates(params, updates)
aged = hic_jax.drift(hic_jax.analog_weights(state), seconds=hic_jax.YEAR)
for p in (params, hic_jax.read_params(params, aged)):
    print(f"accuracy {(model.apply(p, test_x).argmax(-1) == test_y).mean():.3f}")
